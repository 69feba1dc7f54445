"""How often does a property fail under random inputs?"""

from matplotlib.figure import Figure

from analysis.plots.comparisons import NO_MARK, Line
from analysis.plots.probes import draw_magnitudes
from analysis.probes.quantitative.summary import TWINS, Failing
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, listed, number, share, span, text, whole

SERIES = ("as trained", "control: before training", "control: labels dealt out anew")
DRAWN_MAX = 48  # lines of the picture
ALMOST_ALL = 0.9  # of a class's questions


class Quantified(ProbeStudy[list[Failing]]):
    key = "quantitative"
    probe = "quantitative"
    title = "How often does it fail under random inputs?"
    intro = (
        "Random inputs are drawn until it is decided, with a stated error, whether a property fails rarely or not: "
        "another label in a ball around an input (l2 or linf with its radius), an attacker's trigger that works "
        "(moved: in another place or order, as a control), an output pin that is wrong, one or any of a sequence's."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.quantitative.summary import by_class
by_class(zoo.probe("quantitative", table, ["class"]))"""

    def words(self, result: list[Failing]) -> list[str]:
        found = []
        for kind in sorted({one.property for one in result}):
            some = [one for one in result if one.property == kind]
            often = [one.name for one in some if one.no.get("trained", 0.0) >= ALMOST_ALL]
            rarely = [one.name for one in some if one.yes.get("trained", 0.0) >= ALMOST_ALL]
            parts = [f"often in {listed(often)}"] if often else []
            parts += [f"rarely in {listed(rarely)}"] if rarely else []
            rest = len(some) - len(often) - len(rarely)
            parts += [f"for some questions and not for others in {rest}"] if rest else []
            found.append(f"{kind[0].upper()}{kind[1:]}: {'; '.join(parts)}.")
        return found

    def table(self, result: list[Failing]) -> Table:
        rows = [
            [
                text(one.name),
                text(one.property),
                whole(one.networks),
                span(*one.p.get("trained", NO_MARK), ".2%"),
                share(one.yes.get("trained", float("nan"))),
                number(one.samples, 0),
                *(span(*one.p.get(twin, NO_MARK), ".2%") for twin in TWINS[1:]),
                span(*one.hardness.get("trained", NO_MARK)),
                span(*one.hardness.get("initial", NO_MARK)),
            ]
            for one in result
        ]
        head = ["class", "property", "networks", "how often (95%)", "answered yes: rarely", "draws an answer took"]
        return Table([*head, *SERIES[1:], "radius that is still rare (95%)", "before training"], rows)

    def figure(self, result: list[Failing]) -> Figure:
        drawn = sorted(result, key=lambda one: -one.networks)[:DRAWN_MAX]
        drawn = [one for one in result if one in drawn]
        marks = [
            [Line(f"{one.name}: {one.property}", [of.get(twin, NO_MARK) for twin in TWINS]) for one, of in some]
            for some in ([(one, one.p) for one in drawn], [(one, one.hardness) for one in drawn])
        ]
        panels = [("how often it fails", SERIES, marks[0]), ("radius at which that is still rare", SERIES, marks[1])]
        return draw_magnitudes(panels, logarithmic=False)

    def notes(self, result: list[Failing], selection: Selection) -> Notes:
        cut = f", of the {DRAWN_MAX} groups with most networks" if len(result) > DRAWN_MAX else ""
        return Notes(
            caption=f"Medians over the networks of a class, each by the mean over its inputs, with 95% intervals{cut}.",
            control="the same networks before training, and networks trained as long from the same start on labels "
            "dealt out anew. A network that gives one label to everything is never moved out of it: read the radius "
            "together with the accuracy.",
            method="Wald's sequential test with theta 0.1 (rarely), eta 0.01 and delta 0.01 unless the command says "
            "otherwise; shares come from a fixed number of draws. A share of a volume: an attack may find at once what "
            f"random inputs never meet (docs/probes.md). {self.made(selection)}",
        )
