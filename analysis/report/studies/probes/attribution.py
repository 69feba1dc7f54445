"""Do attributions see what a network learnt?"""

from matplotlib.figure import Figure

from analysis.plots.comparisons import Line, draw_intervals
from analysis.probes.attribution.summary import CORRELATIONS, Attributed
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, listed, span, text, whole

SERIES = (
    "absolute, all pixels",
    "absolute, pixels that count",
    "with signs, pixels that count",
    "two trained networks",
)


class Attributions(ProbeStudy[list[Attributed]]):
    key = "attribution"
    probe = "attribution"
    title = "Do attributions see what a network learnt?"
    intro = (
        "Integrated gradients say which pixels made a network choose. Do those of a trained network look like those of "
        "one that was never trained? Without signs and with all pixels they do, for no reason: both carry the same "
        "image as a factor, and the same dark pixels are zero in both. With signs, on pixels that differ from the "
        "baseline, only what was learnt can agree."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.attribution.summary import by_class
by_class(zoo.probe("attribution", table, ["class"]))"""

    def words(self, result: list[Attributed]) -> list[str]:
        fresh, flawed = ([one.fresh[key][0] for one in result] for key in ("signed_z", "absolute_all"))
        told = (
            f"Of untrained networks the repaired correlation is {min(fresh):.2f} to {max(fresh):.2f} (medians of the "
        )
        told += f"classes), the flawed one {min(flawed):.2f} to {max(flawed):.2f}."
        known = [one for one in result if one.gap[1] > 0]
        if not known:
            return [told, "In no class do two seeds agree more than a trained and an untrained network do."]
        names = listed([one.name for one in known])
        return [told, f"Two trained networks agree more than that in {len(known)} of {len(result)} classes: {names}."]

    def table(self, result: list[Attributed]) -> Table:
        rows = [
            [
                text(one.name),
                whole(one.networks),
                *(span(*one.fresh[key], ".2f") for key in CORRELATIONS),
                span(*one.with_input, ".2f"),
                span(*one.second, ".2f"),
                span(*one.gap, ".2f"),
            ]
            for one in result
        ]
        head = ["class", "networks", "with fresh draws: signs, pixels that count (95%)", "absolute, pixels that count"]
        head += ["signs, all pixels", "absolute, all pixels", "absolute, with the image", "two trained", "gap"]
        return Table(head, rows)

    def figure(self, result: list[Attributed]) -> Figure:
        keys = ("absolute_all", "absolute_z", "signed_z")
        lines = [Line(one.name, (*(one.fresh[key] for key in keys), one.second)) for one in result]
        return draw_intervals(lines, SERIES, label="Spearman's correlation", guess=0.0)

    def notes(self, result: list[Attributed], selection: Selection) -> Notes:
        return Notes(
            caption="Medians over a class's networks with 95% intervals.",
            control="fresh draws of the same recipe (floor), another trained seed (ceiling), and the image itself. "
            "Gap: two trained less fresh draws, network by network, both with signs on pixels that count.",
            method="Captum, steps doubled until the attributions add up. Layer by layer: rows `cascade` and "
            "`independent`. " + self.made(selection),
        )
