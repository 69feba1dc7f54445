"""How far may inputs move before the answer can change?"""

from matplotlib.figure import Figure

from analysis.plots.comparisons import NO_MARK, Line
from analysis.plots.probes import draw_magnitudes
from analysis.probes.verification.summary import Verified
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, span, text, whole

ABLE = 0.5  # right answers below which there is little to keep
SERIES = (
    "certified radius",
    "nearest change that an attack found",
    "control: certified before training",
    "units whose side is not known",
)


class Certified(ProbeStudy[list[Verified]]):
    key = "verification"
    probe = "verification"
    title = "How far may inputs move before the answer can change?"
    intro = (
        "Around each held-out sample all inputs may move at once, each by the same share of its range at most. Bounds "
        "prove that the network's answer stays up to a certified radius; an attack looks for the nearest input that "
        "changes it. The truth lies between the two."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.verification.summary import by_class
by_class(zoo.probe("verification", table, ["class"]))"""

    def words(self, result: list[Verified]) -> list[str]:
        close = [one.radius[0] / one.attack_radius[0] for one in result if one.attack_radius[0] > 0]
        told = [
            f"Certified radii are {min(close):.0%} to {max(close):.0%} of the distance at which an attack changes the "
            "answer (medians over networks): the truth lies between."
        ]
        able = [one for one in result if one.accuracy[0] >= ABLE]
        if able:
            firm, weak = max(able, key=_kept), min(able, key=_kept)
            most, least = f"{_kept(firm):.0%}", f"{_kept(weak):.0%}"
            if most == least:
                others = f"{_named(able)} keeps {most} of its right answers for certain"
            else:
                others = f"{firm.name} keeps {most} of its right answers for certain, {weak.name} {least}"
            told += [
                f"Where every input moves by {able[0].eps:.2%} of the range, {others} (of classes that answer half "
                "rightly or more)."
            ]
        wider = sum(one.initial_radius[1] > one.radius[2] for one in result)
        if wider:
            told += [
                f"{wider} of {len(result)} classes have larger certified radii before training than after it (the "
                "intervals do not meet): a large radius alone says nothing of what a network has learnt."
            ]
        return told

    def table(self, result: list[Verified]) -> Table:
        rows = [
            [
                text(one.name),
                whole(one.networks),
                span(*one.accuracy, ".0%"),
                span(*one.verified_accuracy, ".0%"),
                span(*one.attack_accuracy, ".0%"),
                span(*one.radius, ".2%"),
                span(*one.attack_radius, ".2%"),
                span(*one.unstable, ".1%"),
                span(*one.initial_radius, ".2%"),
                span(*one.initial_attack_radius, ".2%"),
                span(*one.seconds, ".2g"),
            ]
            for one in result
        ]
        at = f"within {result[0].eps:.2%} of the range"
        head = [
            "class",
            "networks",
            "right (95%)",
            f"right and proven {at}",
            "right and not broken",
            "certified radius",
        ]
        head += ["nearest change found", "units not known", "control: certified before training"]
        return Table([*head, "nearest change before training", "seconds a network"], rows)

    def figure(self, result: list[Verified]) -> Figure:
        radii = [Line(one.name, (one.radius, one.attack_radius, one.initial_radius, NO_MARK)) for one in result]
        units = [Line(one.name, (NO_MARK, NO_MARK, NO_MARK, one.unstable)) for one in result]
        at = f"share of units, inputs moved by {result[0].eps:.2%}"
        return draw_magnitudes([("radius, share of the inputs' range", SERIES, radii), (at, SERIES, units)])

    def notes(self, result: list[Verified], selection: Selection) -> Notes:
        return Notes(
            caption="Medians over the networks of a class with 95% intervals, logarithmic. Left: how far inputs may "
            "move. Right: units that may be on either side of their bend, which is what makes bounds loose.",
            control="the same networks before training. That no attack ever succeeds within a certified radius is "
            "asserted for every sample; bounds hold whatever the rounding, and a witness counts only when a second "
            "forward pass agrees.",
            method="Radii by bisection, bounds by CROWN; what it leaves at an eps goes to alpha-CROWN and branch and "
            "bound (docs/probes.md). " + self.made(selection),
        )


def _named(able: list[Verified]) -> str:
    return able[0].name if len(able) == 1 else f"each of {len(able)} classes"


def _kept(one: Verified) -> float:
    """Share of the right answers that provably stay."""
    return one.verified_accuracy[0] / one.accuracy[0]
