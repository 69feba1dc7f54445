"""What a kernel learnt from a family of networks says while it trains and before: frequencies, depth."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.surrogates import draw_depths, draw_learning
from analysis.probes.gp.summary import Depths, Learning
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Cell, Notes, Table, number, span, text, whole
from analysis.statistics.permutation import holm

SURE = 0.05


class Frequencies(ProbeStudy[list[Learning]]):
    key = "gp_spectrum"
    probe = "gp_spectrum"
    title = "Low frequencies first?"
    intro = (
        "A Gaussian process is fitted to what a family of networks computes, at snapshots of its training. Its length "
        "scale says over which distance outputs go together, the mean frequency how fast functions turn."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.gp.summary import learning
learning(zoo.probe("gp_spectrum", table))"""

    def words(self, result: list[Learning]) -> list[str]:
        told = [self._counted([one for one in result if one.view == view], view) for view in ("functions", "seeds")]
        several = [one for one in result if one.view == "functions" and len(one.frequencies) > 1]
        ordered = sum(one.half_steps == sorted(one.half_steps) for one in several)
        if several:
            told.append(
                f"Where the target has several waves, they are half learnt in the order of their frequency in "
                f"{ordered} of {len(several)} families."
            )
        return [" ".join(told)]

    def _counted(self, families: list[Learning], view: str) -> str:
        higher, shorter, control = (
            sum(p <= SURE for p in holm([getattr(one, name)[1] for one in families]))
            for name in ("higher", "shorter", "control")
        )
        begin = {"functions": "As functions", "seeds": "As seeds differ"}[view]
        return (
            f"{begin}, of {len(families)} families the mean frequency rises with training in {higher} and the length "
            f"scale falls in {shorter} (rank correlation, Holm over families, 5%); in the untrained control it rises "
            f"in {control}."
        )

    def table(self, result: list[Learning]) -> Table:
        rows = [
            [
                text(f"{one.name}: {one.architecture}"),
                text(one.view),
                whole(one.networks),
                span(*one.length_S[0], ".2f"),
                span(*one.length_S[-1], ".2f"),
                span(*one.centroid_S[0], ".2f"),
                span(*one.centroid_S[-1], ".2f"),
                _trend(one.higher),
                _trend(one.shorter),
                _trend(one.control),
                _steps(one.frequencies, one.half_steps),
                text(one.kernels[-1]),
            ]
            for one in result
        ]
        head = ["family", "view", "networks", "length scale before (95%)", "after", "mean frequency before (95%)"]
        head += ["after", "rise: rho, p", "shorter: rho, p", "control's rise", "steps to half of each wave"]
        return Table([*head, "kernel chosen at the end"], rows)

    def figure(self, result: list[Learning]) -> Figure:
        return draw_learning([one for one in result if one.view == "functions"])

    def notes(self, result: list[Learning], selection: Selection) -> Notes:
        return Notes(
            caption="Families as functions (moment about 0), with 95% intervals (jackknife over networks). Dashed: as "
            "many untrained networks at every step. Waves that are never half learnt are not drawn.",
            control="untrained networks of other seeds at every step: nothing may rise there. The view `seeds` takes "
            "the family's mean function off, so that the target itself is gone.",
            method="Snapshots are trained again, and the last must be the zoo's weights bit for bit. The length scale "
            "is always the reference kernel's (docs/probes.md). " + self.made(selection),
        )


class DepthAtBeginning(ProbeStudy[list[Depths]]):
    key = "gp_depth"
    probe = "gp_depth"
    title = "What does depth do before training?"
    intro = (
        "Untrained networks of one kind and several depths: are their outputs at different points still different? "
        "A correlation of 1 means that every function is a constant, or one function times a number."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.gp.summary import depths
depths(zoo.probe("gp_depth", table))"""

    def words(self, result: list[Depths]) -> list[str]:
        return [
            " ".join(
                f"{one.name}: from {one.layers_S[0]} to {one.layers_S[-1]} layers the correlation goes from "
                f"{one.correlation_S[0][0]:.3f} to {one.correlation_S[-1][0]:.3f}, and functions spread along "
                f"{one.participation_S[0][0]:.2f} and {one.participation_S[-1][0]:.2f} directions."
                for one in result
            )
        ]

    def table(self, result: list[Depths]) -> Table:
        rows = [
            [
                text(one.name if not s else ""),
                whole(int(layers)),
                span(*one.correlation_S[s], ".4f"),
                number(float(one.again_S[s]), 4),
                span(*one.participation_S[s]),
                number(float(one.length_S[s]), 2),
                span(*one.trained_S[s], ".4f"),
            ]
            for one in result
            for s, layers in enumerate(one.layers_S)
        ]
        head = ["kind", "layers of weights", "correlation, untrained (95%)", "a second draw", "directions (95%)"]
        return Table([*head, "length scale", "correlation, trained"], rows)

    def figure(self, result: list[Depths]) -> Figure:
        return draw_depths(result)

    def notes(self, result: list[Depths], selection: Selection) -> Notes:
        return Notes(
            caption="Left: correlation of outputs. Right: (tr S)^2 / tr S^2. Bands: 95%, jackknife over networks.",
            control="a second draw of as many networks, none of them in the first; and the trained networks. One layer "
            "of weights is the correlation that the inputs themselves bring.",
            method="Initial weights are computed from recipe and seed. " + self.made(selection),
        )


def _trend(found: tuple[float, float]) -> Cell:
    rho, p = found
    return Cell("–", (p,)) if np.isnan(rho) else Cell(f"{rho:.2f}, {p:.2g}", (rho, p))


def _steps(frequencies: Sequence[float], steps: Sequence[float]) -> Cell:
    told = [f"{f:.0f}: {'never' if np.isinf(s) else f'{s:.0f}'}" for f, s in zip(frequencies, steps, strict=True)]
    return Cell(", ".join(told), tuple(s for s in steps if np.isfinite(s)))
