"""What checking costs, counted: the table of docs/trust.md is what the policy draws."""

import re
from pathlib import Path
from statistics import fmean

import pytest

from protocol.canonical import sha256
from protocol.recipes.campaign import Policy
from protocol.recipes.recipe import Training
from protocol.trust.challenge import draw_cells

DOCUMENT = Path(__file__).parents[2] / "docs" / "trust.md"
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
