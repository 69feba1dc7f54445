"""The table: every way against every case, over some seeds."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from random import Random
from statistics import mean

from protocol.recipes.campaign import Policy
from simulation.environment.kernel import branch
from simulation.rivals.boinc import Adaptive, Quorum
from simulation.rivals.cases import CASES
from simulation.rivals.contest import Score, Way, run
from simulation.rivals.ours import Ours


def ours(bundles: int, rng: Random) -> Ours:
    return Ours(bundles, rng, Policy(final_cell=False))


def ours_with_final_cell(bundles: int, rng: Random) -> Ours:
    return Ours(bundles, rng, Policy())


WAYS: dict[str, Callable[[int, Random], Way]] = {"quorum of 2": Quorum, "adaptive": Adaptive, "ours": ours}
Job = tuple[Callable[[int, Random], Way], str, int]  # way, case, seed


def contest(job: Job) -> Score:
    """A function of its argument."""
    way, name, seed = job
    case = CASES[name]
    return run(case, way(case.bundles, branch(seed, "way", name)), branch(seed, "contest", name))


def lines(seeds: Sequence[int], cases: Sequence[str] = tuple(CASES)) -> list[str]:
    """Means over the seeds, but for honest hosts punished: those are counted. On all cores."""
    jobs: list[Job] = [(way, name, seed) for name in cases for way in WAYS.values() for seed in seeds]
    honest: list[Job] = [(way, "nobody", seed) for way in (ours, ours_with_final_cell) for seed in seeds]
    with ProcessPoolExecutor() as pool:
        scores = dict(zip(jobs + honest, pool.map(contest, jobs + honest), strict=True))
    said = _head(seeds)
    for name in cases:
        for i, (label, way) in enumerate(WAYS.items()):
            about = (name, CASES[name].line) if i == 0 else ("", "")
            said.append(f"{about[0]:<13}{about[1]:<29}{label:<12}{_line([scores[way, name, s] for s in seeds])}")
    plain, final = (mean(scores[way, "nobody", s].extra_percent for s in seeds) for way in (ours, ours_with_final_cell))
    said += [
        "",
        f"ours is without `final_cell`; where all are honest it costs {plain:.2f} % extra, with it {final:.2f} %",
    ]
    return said


HEAD = (  # two lines, and how wide
    ("adversary", "", -13),
    ("", "", -29),
    ("way", "", -12),
    ("extra", "compute", 10),
    ("fakes", "admitted", 10),
    ("fakes per", "honest unit", 13),
    ("alive after", "the audit", 13),
    ("bundles to", "conviction", 13),
    ("honest", "punished", 10),
)


def _head(seeds: Sequence[int]) -> list[str]:
    return [
        f"means of {len(seeds)} seeds; a unit is one bundle's work; a key's bundles are counted from its first fake",
        "",
        *(
            "".join(f"{column[line]:{'<' if column[2] < 0 else '>'}{abs(column[2])}}" for column in HEAD)
            for line in (0, 1)
        ),
    ]


def _line(scores: list[Score]) -> str:
    convictions = [bundles for score in scores for bundles in score.to_conviction]
    honest = mean(score.admitted - score.fakes_alive for score in scores)
    extra = f"{mean(score.extra_percent for score in scores):,.2f} %" if honest >= 1 else "all false"
    return (
        f"{extra:>10}{mean(score.fakes_admitted for score in scores):>10,.1f}"
        f"{mean(score.fakes_per_unit for score in scores):>13,.2f}{mean(score.fakes_alive for score in scores):>13,.1f}"
        f"{f'{mean(convictions):,.1f}' if convictions else '-':>13}{sum(len(score.punished) for score in scores):>10}"
    )
