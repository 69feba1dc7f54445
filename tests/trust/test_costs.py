"""What checking costs, counted: the table of docs/trust.md is what the policy draws."""

import re
from math import comb
from pathlib import Path
from statistics import fmean

import msgspec
import pytest

from coordinator.policy.auditing import SUSPECT_NETWORKS_MAX
from protocol.canonical import sha256
from protocol.recipes.campaign import Policy, load_campaign
from protocol.recipes.recipe import Training
from protocol.trust.challenge import draw_cells

DOCUMENT = Path(__file__).parents[2] / "docs" / "trust.md"
RECIPES = Path(__file__).parents[2] / "recipes"
SHORT = 24  # segments of a DS1 network on average
EPOCHS = 11  # segments of a network of the MLDS campaign, each an epoch
SEGMENTS = [100] * 64
TRAINING = Training(learning_rate=0.1, batch=32, max_steps=10_000, segment_steps=100)
HELD_OUT = 128  # sequences


def drawn_share(policy: Policy, *, standing: bool) -> float:
    """Segments replayed, as a share of those that were trained."""
    draws = [draw_cells(policy, standing, sha256(bytes([i])), SEGMENTS) for i in range(50)]
    return fmean(sum(len(task.cells) for task in tasks) for tasks in draws) / sum(SEGMENTS)


def always_share() -> float:
    """The held-out loss again. A training step of a sequence is a pass forward and one back, of twice its cost."""
    segment = 3 * TRAINING.segment_steps * TRAINING.batch + HELD_OUT
    return HELD_OUT / segment / SEGMENTS[0]


def told(row: str) -> tuple[float, ...]:
    """A row of the document's table, as shares."""
    (line,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {row}")]
    return tuple(float(number) / 100 for number in re.findall(r"([\d.]+) %", line))


@pytest.mark.parametrize(("standing", "column"), [(True, 0), (False, 1)])
def test_the_table_says_what_is_drawn(standing, column):
    bare, whole = Policy(final_cell=False), Policy()
    drawn, always = drawn_share(bare, standing=standing), always_share()
    audit = whole.audit_share / len(SEGMENTS)
    final = drawn_share(whole, standing=standing) - drawn
    rows = {
        "drawn cells": drawn,
        "state 0": always,
        "the organizer's audit": audit,
        "**without `final_cell`**": drawn + always + audit,
        "`final_cell` |": final,
        "**with it**": drawn + always + audit + final,
    }
    for row, share in rows.items():
        assert told(row)[column] == pytest.approx(share, abs=1e-4), row


def test_hosts_with_standing_cost_less_than_a_hundredth_without_the_final_cell():
    policy = Policy(final_cell=False)
    extra = drawn_share(policy, standing=True) + always_share() + policy.audit_share / len(SEGMENTS)
    assert extra <= 0.01, extra
    assert drawn_share(Policy(), standing=True) <= 0.01 + 16 / 6400


@pytest.mark.parametrize(
    ("row", "campaign", "bundle", "segments"),
    [
        ("the demo's policy", "demo.toml", 10, SHORT),
        ("three slots of four, bundles of 50", "mlds-campaign.toml", 50, SHORT),
        ("**three slots of four, bundles of 100", "mlds-campaign.toml", 100, EPOCHS),
        ("three slots of four, bundles of 100, networks of 11 segments, with `final_cell`", None, 100, EPOCHS),
    ],
)
def test_the_table_says_what_short_networks_cost(row, campaign, bundle, segments):
    policy = load_campaign(RECIPES / (campaign or "mlds-campaign.toml")).policy
    policy = policy if campaign else msgspec.structs.replace(policy, final_cell=True)
    traces = [segments] * bundle
    draws = [draw_cells(policy, standing, sha256(bytes([i])), traces) for i in range(50) for standing in (True, False)]
    cells = fmean(sum(len(task.cells) for task in tasks) for tasks in draws)
    assert told(row) == pytest.approx([cells / sum(traces)], abs=5e-4)
    (line,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {row}")]
    (number,) = re.findall(r"([\d.]+) of", line)
    assert float(number) == pytest.approx(cells, abs=0.3)


def test_the_short_networks_policy_keeps_its_level():
    """99.9 % with 30 % of the standing colluding: whole fakes before the third bundle, of a tenth before the tenth."""
    campaign = load_campaign(RECIPES / "mlds-campaign.toml")
    policy = campaign.policy
    assert {population.bundle for population in campaign.populations} == {100}
    assert (policy.checkers, policy.cells) == (policy.probation_checkers, policy.probation_cells)
    for faked, bundles in ((1.0, 2), (0.1, 9)):
        missed = 0.3 + 0.7 * (1 - faked) ** policy.cells
        assert missed ** (policy.checkers * bundles) < 0.001
        assert missed ** (2 * bundles) > 0.001, "two slots of four would not"


def found_later(false: int, trained: int) -> float:
    """The chance that one of so many false networks, all in the liar's slot, is among those that are trained again."""
    chances = []
    for i in range(50):
        for slot, task in enumerate(draw_cells(Policy(), True, sha256(bytes([i])), SEGMENTS)):
            theirs = {cell.network for cell in task.cells}
            assert theirs >= set(range(slot, len(SEGMENTS), Policy().checkers)), "all final cells that are the slot's"
            chances.append(1 - comb(len(theirs) - false, trained) / comb(len(theirs), trained))
    return fmean(chances)


@pytest.mark.parametrize("false", [1, 2, 4, 8, 16])
def test_the_table_says_what_a_liars_bundles_hide(false):
    policy = Policy()
    others = (policy.checkers - 1) * policy.cells
    admitted = (1 - false / len(SEGMENTS)) ** others
    found = found_later(false, SUSPECT_NETWORKS_MAX)
    (line,) = [line for line in DOCUMENT.read_text().splitlines() if re.match(rf"\| {false} \| [\d.]+ c", line)]
    told = [float(number) for number in re.findall(r"[\d.]+", line)][1:]
    assert told == pytest.approx([admitted, found, false * admitted * (1 - found)], abs=0.01)
