"""What does a network give to another task?"""

import re
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.comparisons import Line, draw_groups
from analysis.probes.transfer.summary import PairFound, Transferred
from analysis.report.selection import Selection
from analysis.report.studies.probes.study import ProbeStudy
from analysis.report.study import Notes, Table, number, small, span, text, whole

DRAWN_MAX = 48  # pairs; the picture would be taller than a page
PART_MAX = 16  # characters of a task's name in the picture; its number finds the whole in the table
SERIES = ("transfer unit", "fine-tune", "best freeze-k", "scratch", "control: untrained source")


class TransferGiven(ProbeStudy[Transferred]):
    key = "given"
    probe = "transfer"
    title = "What does a network give to another task?"
    intro = (
        "A network trained on one task is used for another, of which a few dozen samples are known. The transfer unit "
        "learns, channel by channel, how much of the frozen source to take; the others are the usual choices by hand."
    )

    def snippet(self, selection: Selection) -> str:
        return """from analysis.probes.transfer.summary import by_pair
by_pair(zoo.probe("transfer", table))"""

    def words(self, result: Transferred) -> list[str]:
        pairs, told = result.pairs, result.told
        helped = sum(pair.fine_tune[0] > pair.scratch[0] for pair in pairs)
        said = [
            f"In {result.keeping_up} of {len(pairs)} pairs of tasks the transfer unit is at least as good as the best "
            "of scratch, freeze-k and fine-tuning, within one standard error. Fine-tuning beats scratch in "
            f"{helped}."
        ]
        if np.isnan(told.rank):
            return said
        if told.low <= 0 <= told.high:
            said.append(
                "Whether networks that are near in weight space give more cannot be told from these pairs: rank "
                f"correlation {told.rank:.2f} ({told.low:.2f} to {told.high:.2f})."
            )
        else:
            way = "less" if told.rank < 0 else "more"
            said.append(
                f"The farther apart two networks are in weight space, the {way} the one gives to the other's task: "
                f"rank correlation {told.rank:.2f} ({told.low:.2f} to {told.high:.2f}) over {told.pairs} pairs."
            )
        return said

    def table(self, result: Transferred) -> Table:
        rows = [
            [
                text(f"{place}: {pair.source} → {pair.target}"),
                whole(pair.sources),
                span(*pair.scratch, ".2f"),
                span(*pair.fine_tune, ".2f"),
                span(*pair.freeze, ".2f"),
                span(*pair.ptu, ".2f"),
                span(*pair.ptu_scratch, ".2f"),
                span(*pair.untrained, ".2f"),
                text(pair.best),
                number(pair.behind),
                number(pair.error),
                text(" ".join(f"{gate:.2f}" for gate in pair.gates)),
                number(pair.distance, 2),
            ]
            for place, pair in enumerate(result.pairs, 1)
        ]
        told = result.told
        rows.append(
            [text("rank correlation of angle and gain"), whole(told.pairs), span(told.rank, told.low, told.high, ".2f")]
            + [text("p"), small(told.p), text("of gate and gain by block"), number(result.profile, 2)]
            + [text("")] * 6
        )
        head = ["source → target", "sources", "scratch (95%)", "fine-tune", "best freeze-k", "transfer unit"]
        more = ["from scratch", "untrained source", "best by hand", "ahead of the unit", "its standard error"]
        return Table([*head, *more, "gates", "angle"], rows)

    def figure(self, result: Transferred) -> Figure:
        groups: dict[str, list[Line]] = {}
        families = families_of(result.pairs)
        for place in drawn(result.pairs):
            pair = result.pairs[place]
            family = families[pair.source]
            name = f"{place + 1}: {part_of(pair.source, family)} → {part_of(pair.target, family)}"
            marks = (pair.ptu, pair.fine_tune, pair.freeze, pair.scratch, pair.untrained)
            groups.setdefault(family or "all", []).append(Line(name, marks))
        return draw_groups(groups, SERIES, "held-out score on the target's task")

    def notes(self, result: Transferred, selection: Selection) -> Notes:
        return Notes(
            caption="Means over sources with 95% intervals; accuracy, or of values 1 - MSE / variance. Numbers are the "
            f"table's; of more than {DRAWN_MAX} pairs those are drawn where methods differ most.",
            control="fine-tuning from a network that was never trained: what it gains over scratch is luck. "
            "The best by hand is chosen by the same test scores, which favours it. Pairs share networks, so the rank "
            "correlation is somewhat too sure.",
            method="The same samples, steps and batches for all; gates as in docs/probes.md, ours, for the paper's "
            "equations could not be read. " + self.made(selection),
        )


def drawn(pairs: Sequence[PairFound]) -> list[int]:
    """Places of the pairs that the picture has room for, in order: those whose methods are farthest apart."""
    means = [[of[0] for of in (pair.ptu, pair.fine_tune, pair.freeze, pair.scratch)] for pair in pairs]
    return sorted(sorted(range(len(pairs)), key=lambda place: min(means[place]) - max(means[place]))[:DRAWN_MAX])


def families_of(pairs: Sequence[PairFound]) -> dict[str, str]:
    """Name of a task's recipe -> the words with which all begin that pairs tie to it; "" where there are none."""
    from scipy.cluster.hierarchy import DisjointSet

    ties = DisjointSet({name for pair in pairs for name in (pair.source, pair.target)})
    for pair in pairs:
        ties.merge(pair.source, pair.target)
    return {name: common_words(sorted(members)) for members in ties.subsets() for name in members}


def common_words(names: Sequence[str]) -> str:
    """The longest common beginning that ends where a word does in all of them."""
    parts = zip(*(re.split(r"([-+ _]+)", name) for name in names), strict=False)
    return "".join(words[0] for words in takewhile(lambda words: len(set(words)) == 1, parts)).rstrip("-+ _")


def part_of(name: str, family: str) -> str:
    """What is not the family's, or all of it, without the middle where it is long."""
    rest = name[len(family) :].lstrip("-+ _") or name
    return rest if len(rest) <= PART_MAX else f"{rest[: PART_MAX // 2]}…{rest[-PART_MAX // 2 + 1 :]}"
