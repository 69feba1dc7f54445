"""PROVERO with its defects and without, Wald's test, uniform balls, hardness. Simulated coins have known sides."""

import numpy as np
import pytest
from scipy.stats import binom, kstest

from analysis.probes.quantitative.hardness import hardness
from analysis.probes.quantitative.intervals import adaptive, fixed
from analysis.probes.quantitative.properties import after
from analysis.probes.quantitative.samplers import ball, box
from analysis.probes.quantitative.sequential import Walk, sequential
from analysis.probes.quantitative.stated import Question, chernoff_cut, chernoff_samples, failures_of
from analysis.statistics.proportions import clopper_pearson
from protocol.errors import UsageError

SEED = 20261126
TENTH = Question(theta=0.1, eta=0.01, delta=0.01)


def coin(p: float, rng: np.random.Generator):
    return lambda count: rng.random(count, np.float32) < p


def answers(test, p: float, runs: int, seed: int = SEED):
    """Answers, and samples of each run."""
    rng = np.random.default_rng([seed, int(p * 1e6)])
    found = [test(coin(p, rng)) for _ in range(runs)]
    return [one.answer for one in found], np.array([one.samples for one in found])


def test_a_property_that_never_fails_costs_144_samples():
    found = adaptive(coin(0.0, np.random.default_rng(SEED)), TENTH)
    assert (found.answer, found.samples, found.failures) == ("yes", 144, 0)
    small = Question(theta=0.01, eta=0.001, delta=0.01)
    assert adaptive(coin(0.0, np.random.default_rng(SEED)), small).samples == 1479


@pytest.mark.parametrize("p", [0.1, 0.105, 0.11])
def test_the_published_last_test_answers_nothing_near_theta_and_the_mended_one_always(p):
    published, _ = answers(lambda draw: adaptive(draw, TENTH, published=True), p, 100)
    delta = 0.01 / (3 + np.log2(0.1 / 0.01) + np.log2(0.89 / 0.01))
    last = chernoff_samples(0.1, 0.11, delta)
    assert last == 73_964
    undecided = binom.cdf(0.11 * last, last, p) - binom.cdf(0.1 * last, last, p)  # about 1/2, 1, 1/2
    assert binom.ppf(1e-4, 100, undecided) <= published.count("undecided") <= binom.ppf(1 - 1e-4, 100, undecided)
    mended, samples = answers(lambda draw: adaptive(draw, TENTH), p, 100)
    assert "undecided" not in mended
    assert p == 0.105 or mended.count("yes" if p == 0.1 else "no") == 100
    assert (samples == 186_060).mean() > 0.9  # all tests to the last


@pytest.mark.parametrize(("p", "told"), [(0.05, 7147), (0.09, 180_794), (0.2, 58_153)])
def test_mean_samples_of_the_adaptive_tests_are_those_of_our_earlier_run(p, told):
    found, samples = answers(lambda draw: adaptive(draw, TENTH), p, 100)
    assert set(found) == {"yes" if p <= 0.1 else "no"}
    assert abs(samples.mean() - told) < 4 * samples.std() * np.sqrt(2 / 100) + 1


@pytest.mark.parametrize(
    ("p", "told"), [(0.0, 412), (0.05, 788), (0.09, 2930), (0.1, 7787), (0.105, 20_249), (0.11, 7941), (0.2, 480)]
)
def test_mean_samples_of_walds_test_are_those_of_our_earlier_run(p, told):
    found, samples = answers(lambda draw: sequential(draw, TENTH, fast=False), p, 200)
    assert p == 0.105 or found.count("yes" if p <= 0.1 else "no") >= 194
    # Its limits were ln 99 and not ln 100, and it had 100 runs: 1 % more, and both runs' chance.
    assert abs(samples.mean() - told) < 4 * samples.std() * np.sqrt(1 / 200 + 1 / 100) + 0.01 * told


def test_walds_errors_are_at_most_delta_at_both_ends():
    runs = 2000
    most = binom.ppf(1 - 1e-3, runs, TENTH.delta)
    for p, wrong in ((0.1, "no"), (0.11, "yes")):
        found, _ = answers(lambda draw: sequential(draw, TENTH), p, runs)
        assert 0 < found.count(wrong) <= most and "undecided" not in found
    cheap, samples = answers(lambda draw: sequential(draw, TENTH), 0.0, 3)
    assert set(cheap) == {"yes"} and set(samples.tolist()) == {Walk.of(TENTH).clean} == {46}


def test_the_batches_of_walds_test_do_not_change_where_it_stops():
    rng = np.random.default_rng(SEED)
    tape = rng.random(200_000) < 0.1
    walk = Walk.of(TENTH)
    heights = np.cumsum(np.where(tape, walk.up, walk.down))
    stop = int(((heights >= walk.no) | (heights <= walk.yes)).argmax()) + 1
    found = sequential(after(tape, coin(0.5, rng)), TENTH)
    assert (found.samples, found.failures) == (stop, int(tape[:stop].sum()))


def test_fixed_intervals_decide_after_the_mend():
    for p, right in ((0.0, "yes"), (0.1, "yes"), (0.11, "no"), (0.6, "no")):
        found, _ = answers(lambda draw: fixed(draw, TENTH, 0.05), p, 20)
        assert found == [right] * 20
        published, _ = answers(lambda draw: fixed(draw, TENTH, 0.05, published=True), p, 20)
        assert ("undecided" in published) == (p in (0.1, 0.11))


def test_the_cut_balances_both_bounds():
    n, cut = chernoff_samples(0.1, 0.11, 1e-3), chernoff_cut(0.1, 0.11)
    assert n * (cut - 0.1) ** 2 / (3 * 0.1) == pytest.approx(np.log(1e3), rel=1e-4)
    assert n * (0.11 - cut) ** 2 / (2 * 0.11) == pytest.approx(np.log(1e3), rel=1e-4)
    assert binom.sf(cut * n, n, 0.1) < 1e-3 and binom.cdf(cut * n, n, 0.11) < 1e-3


def test_what_cannot_be_asked_is_refused_and_what_is_too_dear_is_left_undecided():
    with pytest.raises(UsageError, match="theta 0"):
        Question(theta=0.0, eta=0.1, delta=0.01)
    with pytest.raises(UsageError, match="no bound here"):
        adaptive(coin(0.0, np.random.default_rng(0)), Question(theta=0.01, eta=0.1, delta=0.01))
    short = Question(theta=0.1, eta=0.01, delta=0.01, samples_max=1000)
    for test in (adaptive, sequential, lambda draw, question: fixed(draw, question, 0.05)):
        found = test(coin(0.105, np.random.default_rng(SEED)), short)
        assert found.answer == "undecided" and found.samples <= 1000


@pytest.mark.parametrize("size", [2, 9, 64])
def test_the_l2_ball_is_uniform_and_the_published_one_is_not(size):
    rng = np.random.default_rng([SEED, size])
    centre = rng.normal(size=(1, size)).astype(np.float32)
    moved = (ball(rng, centre, 0.7, 20_000) - centre).reshape(-1, size)
    radius = np.linalg.norm(moved, axis=1) / 0.7
    assert radius.max() <= 1 + 1e-5
    assert kstest(radius**size, "uniform").pvalue > 1e-3  # radius^D is uniform
    first = moved[:, 0] / np.linalg.norm(moved, axis=1)
    assert kstest((first + 1) / 2, "beta", args=((size - 1) / 2, (size - 1) / 2)).pvalue > 1e-3  # the direction too
    wrong = (ball(rng, centre, 0.7, 20_000, published=True) - centre).reshape(-1, size)
    assert kstest((np.linalg.norm(wrong, axis=1) / 0.7) ** size, "uniform").pvalue < 1e-6


def test_the_box_is_uniform():
    rng = np.random.default_rng(SEED)
    centre = np.full((1, 3), 0.25, np.float32)
    moved: np.ndarray = (box(rng, centre, 0.5, 20_000) - centre).reshape(-1, 3)
    assert all(kstest(moved[:, i] + 0.5, "uniform").pvalue > 1e-3 for i in range(3))
    assert np.abs(np.corrcoef(moved.T)[np.triu_indices(3, 1)]).max() < 0.03


def test_hardness_is_the_planted_radius():
    """A boundary at distance 0.2 takes (r - 0.2) / (2 r) of the interval: theta at r = 0.2 / (1 - 2 theta)."""
    rng = np.random.default_rng(SEED)
    question = Question(theta=0.01, eta=0.01, delta=0.01)
    found = hardness(lambda r: lambda count: rng.uniform(-r, r, count) > 0.2, sequential, question, radius_max=1.0)
    low, high = 0.2 / (1 - 2 * 0.01), 0.2 / (1 - 2 * 0.02)
    assert found.high - found.low == pytest.approx(1 / 1024)
    assert low - 1 / 1024 <= found.high and found.low <= high
    safe = hardness(lambda r: coin(0.0, rng), sequential, question, radius_max=1.0)
    assert (
        safe.high == 1.0
        and safe.low == 1 - 1 / 1024
        and safe.samples == 10 * Walk.of(Question(theta=0.01, eta=0.01, delta=0.001)).clean
    )


def test_clopper_and_pearson_cover():
    rng, inside = np.random.default_rng(SEED), 0
    for _ in range(400):
        low, high = clopper_pearson(int((rng.random(300) < 0.03).sum()), 300)
        inside += low <= 0.03 <= high
    assert inside >= binom.ppf(1e-3, 400, 0.95)
    assert clopper_pearson(0, 1000) == (0.0, pytest.approx(1 - 0.025 ** (1 / 1000)))
    assert failures_of(coin(1.0, rng), 10_000) == 10_000
