"""How many bits of a task does a network know?"""

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.comparisons import Line
from analysis.plots.probes import draw_magnitudes
from analysis.probes.information.summary import Known
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, listed, number, span, text, whole

SERIES = ("bits saved while learning", "control: labels dealt out anew")
STILL = ("bits saved without learning", "control: labels dealt out anew")
DRAWN_MAX = 48  # lines of the picture
NULLS = ("mixed", "initial")


class Informed(ProbeStudy[list[Known]]):
    key = "information"
    probe = "information"
    title = "How many bits of a task does it know?"
    intro = (
        "The targets of held-out samples are coded block by block by a network that learns as it goes. How many bits "
        "does a trained start save over one that knows nothing? A start that was trained on labels dealt out anew "
        "saves some too, merely because it is warm: what counts is the difference."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.information.summary import by_class
by_class(zoo.probe("information", table, ["class"]))"""

    def words(self, result: list[Known]) -> list[str]:
        own = [one for one in result if one.kind == "own"]
        know = [one.name for one in own if min(one.bits["net_bits"][1], one.bits["bits"][1]) > 0]
        rest = [one.name for one in own if one.name not in know]
        found = [f"More than nothing, and more than their control, know: {listed(know)}."] if know else []
        found += [f"Not clearly: {listed(rest)}."] if rest else []
        nulls = [one for one in result if one.kind in NULLS]
        spans = [one.bits["net_bits"][1:] for one in nulls]
        off = [
            f"{one.name} ({one.title})" for one, (low, high) in zip(nulls, spans, strict=True) if not low <= 0 <= high
        ]
        if nulls:
            kept = f"{len(nulls) - len(off)} of {len(nulls)} nulls have 0 in their interval"
            chance = "an interval misses by chance once in twenty, that of three networks, their range, once in four"
            found.append(f"{kept}{': not ' + listed(off) if off else ''} ({chance}).")
        return found

    def table(self, result: list[Known]) -> Table:
        rows = [
            [
                text(one.name),
                text(one.title),
                whole(one.networks),
                whole(one.examples),
                number(one.uniform, 0),
                *(span(*one.bits[name], ".0f") for name in ("reference_bits", "bits", "control_bits", "net_bits")),
                span(*one.bits["softened_bits"], ".0f"),
                *(span(*one.bits[name], ".0f") for name in ("static_bits", "static_control_bits", "area_bits")),
            ]
            for one in result
        ]
        head = ["class", "which networks", "networks", "trained on", "uniform code, bits", "known nothing, learning"]
        head += ["saved (95%)", "saved by the control", "difference", "saved, softened"]
        return Table([*head, "saved without learning", "by the control", "area on its own training"], rows)

    def figure(self, result: list[Known]) -> Figure:
        coded = [one for one in result if not np.isnan(one.uniform)] or result  # bits of values do not compare
        drawn = [one for one in coded if one.kind != "curve"][:DRAWN_MAX]
        unit = "bits" if np.isnan(drawn[0].uniform) else "% of the uniform code"

        def lines(*names: str) -> list[Line]:
            """In hundredths of the uniform code, where there is one, so that tasks compare."""
            scale = [1.0 if np.isnan(one.uniform) else 100 / one.uniform for one in drawn]
            return [
                Line(f"{one.name}: {one.title}", [tuple(np.multiply(one.bits[name], by)) for name in names])
                for one, by in zip(drawn, scale, strict=True)
            ]

        panels = [
            (f"{unit}, learning", SERIES, lines("bits", "control_bits")),
            (f"{unit}, not learning", STILL, lines("static_bits", "static_control_bits")),
        ]
        return draw_magnitudes(panels, logarithmic=False)

    def notes(self, result: list[Known], selection: Selection) -> Notes:
        return Notes(
            caption=f"Medians of a class with 95% intervals; at most {DRAWN_MAX} lines; values only by themselves.",
            control="networks trained by the exact engine from the same start, through the same batches, on the same "
            "samples with labels dealt out anew; it may be worse than knowing nothing (below 0), for it is sure of "
            "what is not so. The nulls compare two networks that know nothing.",
            method=f"Blocks double; a network stops learning by a tenth that is held back. {self.made(selection)}",
        )
