"""What a campaign will cost, before anything is seeded."""

import itertools

import msgspec
import pytest
from support.scripted_host import CAMPAIGN, RECIPE

from coordinator.estimate import calibrate, estimate, lines
from protocol.errors import UsageError
from protocol.recipes.campaign import Campaign, Population, campaign_from_bytes, follow_up


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
