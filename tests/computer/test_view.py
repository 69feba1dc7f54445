"""What a volunteer sees, drawn from a state."""

import io
from math import inf, nan

import pytest
from rich.console import Console
from support.volunteer import PLENTY

from peer.progress import View, line, loss_chart, rows, summary
from peer.state import PeerSettings, PeerState
from peer.state import events as on
from peer.state.figures import LOSSES_MAX
from peer.state.lending.pausing import Conditions, Terms


@pytest.fixture
def state():
    terms = Terms(not_on_battery=True, hours=(22.0, 6.0), only_when_idle=True)
    state = PeerState(PeerSettings(threads=1, device="cpu", cpu_cores=0.25, memory_bytes=2 * 10**9, terms=terms))
    state.handle(on.Started(()), 0.0)
    for step in range(2 * LOSSES_MAX):
        state.handle(on.TrainerProgressed("parity", 16, 1600, 1.0, step, 0.9**step), float(step))
    return state


def test_the_chart_falls_as_the_losses_do():
    assert loss_chart([1.0, 0.1, 0.01, 0.01]) == "█▅▁▁  0.01 to 1"
    assert loss_chart([0.5, 0.5]) == "▁▁  0.5 to 0.5" and loss_chart([0.5]) == loss_chart([]) == ""
    assert loss_chart([nan, inf, 1.0, 0.0])[:2] == "█▁"


def test_the_rows_say_what_is_in_use_and_which_limits_hold(state):
    told = Conditions(hour=23.0, own_cores=0.24, others_cores=0.1, own_bytes=203_000_000, temperature=54.4)
    state.handle(on.Tick(PLENTY, conditions=told), 100.0)
    found = dict(rows(state, 100.0))
    assert found["this computer"] == "24% of a core for zooswarm, 10% for others, 203 MB of memory, 54 °C"
    assert found["limits"] == "1 thread, 25% of a core, 2 GB of memory, only when idle, not on battery, only 22-6"
    assert state.figures.training.startswith("parity: 16 networks")
    assert found["now"].startswith("waiting for "), "nothing is held"
    assert len(found["losses"].split()[0]) == LOSSES_MAX


def test_while_it_stands_still_every_view_says_why(state):
    state.handle(on.Tick(PLENTY, conditions=Conditions(hour=23.0, on_battery=True)), 100.0)
    found = dict(rows(state, 100.0))
    assert found["paused"] == "on battery" and "now" not in found
    assert line(state, 100.0).endswith("paused: on battery")
    assert summary("ada", state, 100.0)["paused"] == "on battery"


@pytest.mark.parametrize("terminal", [True, False])
def test_it_is_drawn_on_a_terminal_and_in_lines_elsewhere(state, terminal):
    state.handle(on.Tick(PLENTY, conditions=Conditions(hour=12.0)), 100.0)
    screen, told = io.StringIO(), []
    view = View("ada", Console(file=screen, width=80, force_terminal=terminal, color_system=None))
    view.tell = told.append
    with view:
        view.refresh(100.0, state)
        view.refresh(120.0, state)
    assert "outside of the hours 22-6, for 10 h more" in screen.getvalue() and len(told) == 2
    assert ("losses" in screen.getvalue()) == terminal
