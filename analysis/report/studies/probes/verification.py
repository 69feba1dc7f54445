"""How far may inputs move before the answer can change?"""

from matplotlib.figure import Figure

from analysis.plots.comparisons import NO_MARK, Line
from analysis.plots.probes import draw_magnitudes
from analysis.probes.verification.summary import Verified
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, span, text, whole

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
        sure = [one for one in result if one.attack_radius[0] > 0]
        close = [one.radius[0] / one.attack_radius[0] for one in sure]
        told = f"Certified radii are {min(close):.0%} to {max(close):.0%} of the distance at which an attack changes "
        told += "the answer (medians over networks): the truth lies between."
        at = result[0].eps
        firm, weak = max(result, key=_kept), min(result, key=_kept)
        also = f"Where inputs move by {at:.2%} of their range, of {firm.name} {firm.verified_accuracy[0]:.0%} of the "
        also += f"answers are right and proven to stay (it answers {firm.accuracy[0]:.0%} rightly without any move)"
        if weak is not firm:
            also += f", of {weak.name} {weak.verified_accuracy[0]:.0%} (of {weak.accuracy[0]:.0%})"
        wider = sum(one.initial_radius[1] > one.radius[2] for one in result)
        twin = f"{wider} of {len(result)} classes have a larger certified radius before training than after it (their "
        twin += "intervals do not meet): a large radius alone says nothing of what a network has learnt."
        return [told, f"{also}.", twin] if wider else [told, f"{also}."]

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


def _kept(one: Verified) -> float:
    return one.verified_accuracy[0] / one.accuracy[0] if one.accuracy[0] else 0.0
