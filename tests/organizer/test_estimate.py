"""What a campaign will cost, before anything is seeded."""

import itertools

import msgspec
import pytest
from support.scripted_host import CAMPAIGN, POLICY, RECIPE, trained

from coordinator.estimate import calibrate, estimate, lines
from peer.state.lending.limits import needs_of
from protocol.engine import select
from protocol.errors import UsageError
from protocol.recipes.campaign import Campaign, Policy, Population, campaign_from_bytes, follow_up
from protocol.trust.challenge import draw_cells
from protocol.trust.commitment import leaf_of, traces_to_bytes


def test_it_counts_networks_bytes_and_seconds():
    longer = msgspec.structs.replace(
        RECIPE, name="longer", training=msgspec.structs.replace(RECIPE.training, max_steps=120)
    )
    populations = (Population(recipe=RECIPE, count=10, bundle=4), Population(recipe=longer, count=2, bundle=8))
    said = estimate(Campaign(name="both", populations=populations), {RECIPE.digest: 100.0, longer.digest: 50.0})
    assert (said.networks, said.assignments, said.steps) == (12, 4, 10 * 60 + 2 * 120)
    assert said.zoo_bytes == 12 * 4 * RECIPE.parameter_count and said.unmeasured == ()
    assert said.cpu_seconds == 600 / 100 + 240 / 50
    less = estimate(Campaign(name="both", populations=populations), {RECIPE.digest: 100.0})
    assert less.unmeasured == ("longer",) and less.cpu_seconds == 6.0


@pytest.mark.parametrize("policy", [POLICY, Policy(), Policy(cells_per_network=1, final_cell=False)])
def test_traffic_memory_and_disk_are_what_a_bundle_and_its_challenge_have(policy):
    """Counted on the bytes of a bundle that was trained, and on the largest of many draws."""
    campaign = Campaign(name="c", populations=(Population(recipe=RECIPE, count=4, bundle=4),), policy=policy)
    assignment = campaign.assignment(0)
    boundaries = list(trained(assignment).values())
    traces = [tuple(leaf_of(b.state, b.loss, b.held_out_loss) for b in kept) for kept in boundaries]
    weights = sum(kept[-1].state.params.nbytes for kept in boundaries)
    state = len(boundaries[0][0].state.to_bytes())
    segments = [len(trace) - 1 for trace in traces]
    drawn = [draw_cells(policy, standing, bytes([i]) * 32, segments) for standing in (True, False) for i in range(200)]
    opened = max(len({cell for task in tasks for cell in task.opened}) for tasks in drawn)
    said = estimate(campaign, {})
    handed_in, checkers = len(traces_to_bytes(traces)) + weights, max(policy.checkers, policy.probation_checkers)
    assert handed_in + opened * state <= said.received_bytes <= handed_in + sum(segments) * state
    assert said.sent_bytes == said.received_bytes - handed_in + checkers * weights
    assert said.disk_bytes == said.bundle_bytes == sum(map(len, segments_and_starts(boundaries)))
    assert said.memory_bytes == needs_of(campaign).memory, "what volunteers turn campaigns down by"


def segments_and_starts(boundaries):
    """Every file that the worker keeps of a bundle: states and leaves."""
    for kept in boundaries:
        yield b"".join(boundary.state.to_bytes() for boundary in kept)
        yield b"".join(leaf_of(b.state, b.loss, b.held_out_loss).to_bytes() for b in kept)


def test_recipes_that_differ_in_their_task_alone_are_measured_once_and_no_more_than_there_is_time_for():
    def other(**changes):
        return msgspec.structs.replace(RECIPE, **changes)

    task = msgspec.structs.replace(RECIPE.task, machine="SingleDirectMachine")
    slower = msgspec.structs.replace(RECIPE.training, batch=RECIPE.training.batch * 2)
    recipes = (RECIPE, other(name="other", task=task), other(name="slower", training=slower))
    campaign = Campaign(name="c", populations=tuple(Population(recipe=r, count=2, bundle=2) for r in recipes))
    ticks = itertools.count(0.0, 0.25)
    speeds = calibrate(campaign, clock=lambda: next(ticks))
    assert len(speeds) == 3 and speeds[recipes[0].digest] == speeds[recipes[1].digest]
    ticks = itertools.count(0.0, 20.0)
    speeds = calibrate(campaign, clock=lambda: next(ticks))
    assert speeds.keys() == {recipes[0].digest, recipes[1].digest}
    assert "without 1 that need data sets or were not measured in time: slower" in lines(
        campaign, estimate(campaign, speeds), 2, 0.0
    )


def test_an_engine_that_is_compiled_first_makes_nothing_look_slower(monkeypatch):
    """At the first `seed --dry-run` of a computer a campaign of minutes was said to take hours."""
    now, really = [0.0], select.select_engine

    def compiled_first():
        now[0] += 20.0
        return really()

    def clock():
        now[0] += 0.25
        return now[0]

    monkeypatch.setattr(select, "select_engine", compiled_first)
    first = calibrate(CAMPAIGN, clock)
    monkeypatch.setattr(select, "select_engine", really)
    assert first == pytest.approx(calibrate(CAMPAIGN, clock)), "to the rounding of the clock"


def test_speeds_are_measured_and_told():
    ticks = itertools.count(0.0, 0.25)
    speeds = calibrate(CAMPAIGN, clock=lambda: next(ticks))
    assert set(speeds) == {RECIPE.digest} and 0 < speeds[RECIPE.digest] <= 4 * 60 / 0.25
    told = lines(CAMPAIGN, estimate(CAMPAIGN, {RECIPE.digest: 8.0}), 2, 48.0)
    text = "\n".join(told)
    assert "8 networks in 4 assignments" in text and "60.0 s of one core" in text and "alone: 30.0 s" in text
    assert "(48 steps/s): 10.0 s" in text


def test_a_campaign_is_extended_by_one_with_other_seeds():
    more = follow_up(CAMPAIGN, "100:104")
    assert more.digest != CAMPAIGN.digest and more.name == "test-100-104" and more.policy == CAMPAIGN.policy
    assert [seed for i in range(more.assignment_count) for seed in more.assignment(i).seeds] == [100, 101, 102, 103]
    assert campaign_from_bytes(more.exact) == more
    for seeds in ("7:9", "0:1", "9", "5:5"):
        with pytest.raises(UsageError):
            follow_up(CAMPAIGN, seeds)
    apart = tuple(msgspec.structs.replace(CAMPAIGN.populations[0], first_seed=first) for first in (0, 100))
    with pytest.raises(UsageError, match="seeds of their own"):
        follow_up(msgspec.structs.replace(CAMPAIGN, populations=apart), "500:600")
