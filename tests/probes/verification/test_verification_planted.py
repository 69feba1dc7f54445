"""No method may call verified what a planted counter-example refutes; exact methods agree with each other.

A counter-example is planted: an attack finds the worst point it can, then the last bias is shifted until the margin
there is slightly negative, so that the property fails by as little as is asked (VNN-COMP's soundness benchmark).
"""

import dataclasses

import numpy as np
import pytest
import torch
from probes.verification.small_networks import (
    EVERY,
    PIECEWISE_LINEAR,
    RECURRENT,
    one_row,
    random_box,
    random_params,
    recipe_of,
    shifted,
)

from analysis.probes.verification.bounds import crown, intervals
from analysis.probes.verification.exact import minimum
from analysis.probes.verification.falsify import attack
from analysis.probes.verification.network.build import chain_of
from analysis.probes.verification.question import Question, forward_of, stacked
from analysis.probes.verification.splitting import search
from analysis.probes.verification.verify import Effort, Status, by_program, proof_needs, rows_below, verify

SEED = 20261126
BLIND = Effort(attack_steps=0, restarts=1, alpha_steps=5, parts=200, branch_steps=3)  # bounds must refuse alone


def planted(kind, rng, depth):
    """A recipe, parameters and a question that a point of its box refutes, with a margin of about -depth there."""
    recipe = recipe_of(*EVERY[kind])
    params = random_params(recipe, rng)
    box = random_box(recipe, rng, rng.choice([0.02, 0.1]))
    over, under = rng.permutation(3)[:2]
    question = one_row(box, 3, over, under)
    worst = attack(chain_of(recipe, params), stacked([question]), rng, steps=20, restarts=4).points_Bn
    for _ in range(3):  # biases are float32: shift until it is below
        margin = question.margin(forward_of(recipe, params)(worst)[0])
        params = shifted(recipe, params, over, -margin - depth)
        if -3 * depth - 1e-6 < question.margin(forward_of(recipe, params)(worst)[0]) < 0:
            return recipe, params, question, worst[0]
    raise AssertionError("could not be planted")


def check_planted(kind, rng, depth):
    recipe, params, question, point = planted(kind, rng, depth)
    forward, chain, asked = forward_of(recipe, params), chain_of(recipe, params), stacked([question])
    margin = question.margin(forward(point[None])[0])
    assert margin < 0 and question.contains(point)
    lines = crown(chain, asked.low_Bn, asked.high_Bn)
    for method, bounds in (
        ("intervals", intervals(chain, asked.low_Bn, asked.high_Bn)),
        ("crown", lines),
        ("alpha", lines),
    ):
        assert float(rows_below(chain, bounds, asked, method, 5)) <= margin, method
    effort = dataclasses.replace(BLIND, parts=16) if kind in RECURRENT else BLIND  # their blocks are many
    (verdict,) = verify(chain, forward, [question], np.random.default_rng(0), effort)
    assert verdict.status is not Status.VERIFIED and verdict.bound <= margin
    if verdict.witness_n is not None:
        assert verdict.status is Status.FALSIFIED and question.contains(verdict.witness_n)
        assert question.margin(forward(verdict.witness_n[None])[0]) == verdict.margin <= 0
    if kind in PIECEWISE_LINEAR:
        told = by_program(chain, lines, asked.rows_BRm[0, 0], 0.0, seconds=5)
        assert told.bound <= margin and (not told.finished or told.value <= margin + 1e-6)
    return verdict.status


@pytest.mark.parametrize("kind", EVERY)
def test_planted_counter_examples_are_never_verified(kind):
    rng = np.random.default_rng(SEED)
    for depth in (1e-2, 1e-4, 1e-6):
        check_planted(kind, rng, depth)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", EVERY)
def test_five_hundred_planted_counter_examples_are_never_verified(kind):
    rng = np.random.default_rng([SEED, list(EVERY).index(kind)])
    found = [check_planted(kind, rng, depth) for depth in (1e-3, 1e-5, 1e-6) for _ in range(16)]
    assert len(found) * len(EVERY) >= 500
    if kind in PIECEWISE_LINEAR:
        assert found.count(Status.FALSIFIED) > len(found) / 2  # search finds most of them without any attack


def test_a_bound_that_is_wrong_is_caught():
    """The benchmark bites: without the upper line's intercept, planted counter-examples are called verified."""
    from analysis.probes.verification.network.operations import Bends

    honest = Bends.lines

    def careless(self, low, high, fractions):
        lower, upper, intercept = honest(self, low, high, fractions)
        return lower, upper, 0 * intercept

    rng = np.random.default_rng(SEED)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr(Bends, "lines", careless)
        for _ in range(20):
            check_planted("mlp", rng, 1e-4)


def row_problem(kind, seed, radius=0.2):
    """One row of a random network over a box."""
    rng = np.random.default_rng(seed)
    recipe = recipe_of(*EVERY[kind])
    chain = chain_of(recipe, random_params(recipe, rng))
    asked = stacked([one_row(random_box(recipe, rng, radius), 3, 0, 1)])
    return chain, crown(chain, asked.low_Bn, asked.high_Bn), asked.rows_BRm[0, 0]


@pytest.mark.parametrize("kind", PIECEWISE_LINEAR)
def test_branch_and_bound_and_the_mixed_integer_program_agree(kind):
    radii = {"maxpool": 0.015, "avgpool": 0.05, "strided": 0.05}  # images have more units that may bend
    chain, bounds, row = row_problem(kind, SEED, radii.get(kind, 0.2))
    program = minimum(chain, bounds, row.numpy(), 0.0)
    by_sides = search(chain, bounds, row, 0.0, gap=1e-8, parts=5000, steps=5, cut_inputs=False)
    assert program.optimal and by_sides.finished
    assert by_sides.value == pytest.approx(program.value, rel=1e-6, abs=1e-6)
    assert by_sides.bound <= by_sides.value and by_sides.value - by_sides.bound < 1e-6
    assert by_sides.bound <= program.value + 1e-9


def test_cutting_the_box_gives_the_same_minimum():
    chain, bounds, row = row_problem("deep", SEED + 1, 0.1)
    program = minimum(chain, bounds, row.numpy(), 0.0)
    by_box = search(chain, bounds, row, 0.0, gap=1e-3, parts=3000, cut_inputs=True)
    assert by_box.finished and by_box.bound <= program.value <= by_box.value + 1e-9
    assert by_box.value - by_box.bound <= 1e-3


def test_a_smooth_network_is_settled_by_cutting_its_box():
    rng = np.random.default_rng(SEED)
    recipe = recipe_of(*EVERY["tanh"])
    params = random_params(recipe, rng)
    chain, forward = chain_of(recipe, params), forward_of(recipe, params)
    question = one_row(random_box(recipe, rng, 0.2), 3, 0, 1)
    low = search(chain, *_bounds_and_row(chain, question), 0.0, gap=0.01, parts=2000)
    for shift, expected in ((0.02, Status.VERIFIED), (-0.02, Status.FALSIFIED)):
        asked = dataclasses.replace(question, offsets_R=np.array([shift - low.value]))
        (verdict,) = verify(chain, forward, [asked], np.random.default_rng(0), Effort(parts=2000, alpha_steps=5))
        assert verdict.status is expected


def _bounds_and_row(chain, question):
    asked = stacked([question])
    return crown(chain, asked.low_Bn, asked.high_Bn), asked.rows_BRm[0, 0]


def test_verified_leaves_room_for_the_rounding_of_any_forward_pass():
    """A bound that is positive, but less than rounding may take away, proves nothing."""
    recipe = recipe_of(*EVERY["mlp"])
    chain = chain_of(recipe, random_params(recipe, np.random.default_rng(SEED)))
    asked = stacked([one_row((np.full(5, 0.5), np.full(5, 0.5)), 3, 0, 1)])
    bounds = crown(chain, asked.low_Bn, asked.high_Bn)
    value = float((chain(asked.low_Bn) @ asked.rows_BRm[0].T).squeeze())
    need = float(proof_needs(chain, bounds, asked))
    assert 0 < need < 1e-11
    question = one_row((np.full(5, 0.5), np.full(5, 0.5)), 3, 0, 1, offset=need / 2 - value)
    (verdict,) = verify(
        chain, lambda points: chain(torch.from_numpy(points)).numpy(), [question], np.random.default_rng(0), BLIND
    )
    assert verdict.status is not Status.VERIFIED


@pytest.mark.parametrize("ends", ["parts", "clock"])
def test_what_is_not_settled_says_why(ends):
    """Too few parts leave it unknown; a clock that runs out is a timeout."""
    ticks = iter(range(1000))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        recipe = recipe_of(*EVERY["leaky"])
        params = random_params(recipe, rng)
        chain, forward = chain_of(recipe, params), forward_of(recipe, params)
        question = one_row(random_box(recipe, rng, 0.3), 3, 0, 1)
        told = minimum(chain, *_bounds_and_row_numpy(chain, question))
        asked = dataclasses.replace(question, offsets_R=np.array([0.01 - told.value]))
        effort = Effort(parts=1 if ends == "parts" else 10_000, seconds=1.0, alpha_steps=0, attack_steps=2)
        (verdict,) = verify(
            chain, forward, [asked], rng, effort, clock=lambda: 0.0 if ends == "parts" else float(next(ticks))
        )
        assert verdict.status is not Status.FALSIFIED
        if verdict.status is not Status.VERIFIED:
            assert verdict.status is (Status.UNKNOWN if ends == "parts" else Status.TIMEOUT)
            return
    raise AssertionError("every question was settled at once")


def _bounds_and_row_numpy(chain, question):
    bounds, row = _bounds_and_row(chain, question)
    return bounds, row.numpy(), 0.0


def test_recurrent_networks_have_no_exact_minimum():
    kind = next(iter(RECURRENT))
    chain, bounds, row = row_problem(kind, SEED)
    with pytest.raises(Exception, match="only ReLU"):
        minimum(chain, bounds, row.numpy(), 0.0)


def test_a_question_holds_its_own_box():
    question = Question(low_n=np.zeros(2), high_n=np.ones(2), rows_Rm=np.eye(2), offsets_R=np.zeros(2))
    assert question.contains(np.array([0.0, 1.0])) and not question.contains(np.array([0.0, 1.1]))
    assert question.margin(np.array([3.0, -1.0])) == -1.0
