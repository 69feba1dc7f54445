"""May this volunteer train now? The rule, and what follows from it; no clock, no battery, no other programs."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.volunteer import CAMPAIGN, PLENTY, Volunteer, check_of, id_of, opening_of

from peer.computer.options import measurable
from peer.computer.sensors import TEMPERATURE_VARIABLE, Sensors, temperature
from peer.state import Phase
from peer.state import actions as act
from peer.state import events as on
from peer.state.facts import AWAY_POLL_SECONDS
from peer.state.lending.pausing import (
    BUSY_CORES,
    LONG_SECONDS,
    LOOKS_OVER,
    QUIET_SECONDS,
    Conditions,
    Terms,
    duration,
    hours_text,
    parse_duration,
    parse_hours,
    too_hot,
    why_not,
    within,
)
from protocol.errors import UsageError

STRICT = Terms(only_when_idle=True, not_on_battery=True, hours=(22.0, 6.0))
NIGHT = Conditions(hour=23.0, on_battery=False, others_cores=0.0)


def reason(terms: Terms, now: Conditions, quiet: float = inf) -> str:
    pause = why_not(terms, now, quiet)
    return pause.reason if pause else ""


def test_each_term_pauses_with_its_own_words():
    assert reason(STRICT, NIGHT) == ""
    assert reason(STRICT, Conditions(hour=23.0, on_battery=True)) == "on battery"
    assert reason(STRICT, NIGHT, quiet=QUIET_SECONDS - 1) == "other programs are busy"
    assert reason(STRICT, Conditions(hour=20.5)) == "outside of the hours 22-6, for 1 h 30 min more"
    assert (
        reason(STRICT, Conditions(paused_seconds=90)) == "you asked for it, for 2 min more; `zooswarm resume` goes on"
    )
    assert reason(STRICT, Conditions(paused_seconds=inf)) == "you asked for it; `zooswarm resume` goes on"


def test_nobody_who_set_no_terms_waits_for_them():
    assert reason(Terms(), Conditions(hour=3.0, on_battery=True, others_cores=8.0), quiet=0.0) == ""
    assert reason(Terms(not_on_battery=True), Conditions(on_battery=None)) == ""


@pytest.mark.parametrize(
    ("hour", "night", "day"), [(0, 1, 0), (5.99, 1, 0), (6, 0, 0), (8.5, 0, 1), (17, 0, 0), (22, 1, 0)]
)
def test_hours_may_go_over_midnight(hour, night, day):
    assert within(hour, parse_hours("22-6")) == bool(night)
    assert within(hour, parse_hours("8:30-17")) == bool(day)


def test_hours_and_lengths_of_time_are_read_and_written():
    assert [hours_text(parse_hours(text)) for text in ("22-6", "8:30-17:05", "24-8", "0-24")] == [
        "22-6",
        "8:30-17:05",
        "0-8",
        "0-24",
    ]
    assert all(within(hour, parse_hours("0-24")) for hour in (0.0, 12.0, 23.99))
    assert [parse_duration(text) for text in ("90", "2h", "1.5m", "1d", "10s")] == [90, 7200, 90, 86400, 10]
    assert [duration(seconds) for seconds in (0.2, 59, 61, 7200, 7500)] == ["1 s", "59 s", "1 min", "2 h", "2 h 5 min"]


@pytest.mark.parametrize("text", ["", "22", "22-", "-6", "25-3", "8:60-9", "7-7", "a-b", "1-2-3", "²-3", "nan-3"])
def test_what_are_no_hours_is_said(text):
    with pytest.raises(UsageError, match="--hours"):
        parse_hours(text)


@pytest.mark.parametrize("text", ["", "h", "-2h", "0", "nan", "inf", "2w", "400d", "2 hours"])
def test_what_is_no_length_of_time_is_said(text):
    with pytest.raises(UsageError, match="length of time"):
        parse_duration(text)


# -- what follows ------------------------------------------------------------------------------------------------------


def looks(volunteer: Volunteer, **conditions) -> list[act.Action]:
    volunteer.now += 1.0
    return volunteer.hears(on.Tick(PLENTY, conditions=Conditions(**conditions)))


def training(*indices: int, **settings) -> Volunteer:
    alice = Volunteer(**settings).joins()
    alice.claimed(*indices)
    if alice.state.claiming is not None:
        alice.claimed()  # nothing more is free
    alice.inbox()
    return alice


def test_on_battery_it_stands_still_and_keeps_its_claims():
    alice = training(0, terms=Terms(not_on_battery=True))
    looks(alice, on_battery=True)
    assert alice.wanted(act.PauseTrainer) and "paused: on battery" in alice.said
    alice.waits(60.0)  # a Tick without conditions would end the pause, and that is what happens:
    assert alice.ever(act.ResumeTrainer)
    assert alice.phase(0) is Phase.TRAINING and not alice.ever(act.ReleaseClaims)


def test_a_pause_claims_nothing_and_starts_nothing():
    alice = Volunteer(terms=Terms(not_on_battery=True)).joins()
    looks(alice, on_battery=True)
    alice.claimed(0)  # it was under way
    assert alice.phase(0) is Phase.WAITING and not alice.ever(act.Train)
    looks(alice, on_battery=False)
    assert alice.wanted(act.ResumeTrainer) and alice.wanted(act.Train) == [act.Train(id_of(0))]


def test_a_pause_by_hand_gives_back_at_once_and_is_taken_up_again():
    alice = training(0)
    alice.hears(on.NetworkTrained(id_of(0), CAMPAIGN.assignment(0).seeds[0]))
    looks(alice, paused_seconds=inf)
    assert alice.wanted(act.DropTraining) == [act.DropTraining(id_of(0))] and not alice.ever(act.RemoveBundle)
    (released,) = alice.wanted(act.ReleaseClaims)
    looks(alice)
    assert alice.wanted(act.ResumeTrainer) and not alice.wanted(act.ResumeClaims), "it is still being given back"
    alice.hears(on.ClaimsReleased(released))
    alice.waits(2.0)
    (again,) = alice.ever(act.ResumeClaims)
    alice.hears(on.ClaimsResumed(again, again.indices))
    assert alice.wanted(act.Train) == [act.Train(id_of(0))] and alice.phase(0) is Phase.TRAINING
    alice.trains(0)


def test_who_took_it_meanwhile_keeps_it():
    alice = training(0)
    looks(alice, paused_seconds=2 * LONG_SECONDS)
    alice.hears(on.ClaimsReleased(alice.wanted(act.ReleaseClaims)[0]))
    looks(alice)
    alice.hears(on.ClaimsResumed(alice.ever(act.ResumeClaims)[0], ()))
    assert alice.phase(0) is None and alice.wanted(act.RemoveBundle)


def test_a_pause_that_lasts_gives_back_too():
    alice = training(0, terms=Terms(only_when_idle=True))
    for _ in range(int(LONG_SECONDS)):
        looks(alice, others_cores=1.0)
    assert not alice.ever(act.ReleaseClaims) and alice.phase(0) is Phase.TRAINING
    looks(alice, others_cores=1.0)
    assert alice.wanted(act.ReleaseClaims) and alice.phase(0) is Phase.RESUMING


def test_others_have_to_be_quiet_for_a_while():
    alice = training(0, terms=Terms(only_when_idle=True))
    looks(alice, others_cores=BUSY_CORES)
    assert alice.wanted(act.PauseTrainer)
    for _ in range(int(QUIET_SECONDS) - 1):
        looks(alice, others_cores=0.0)
    assert not alice.ever(act.ResumeTrainer)
    looks(alice, others_cores=0.0)
    assert alice.wanted(act.ResumeTrainer)


@given(st.lists(st.one_of(st.none(), st.floats(20, 110)), max_size=40))
def test_it_stands_still_above_the_limit_and_goes_on_five_degrees_below(readings):
    terms, hot = Terms(max_temperature=80.0), False
    for reading in readings:
        was, hot = hot, too_hot(terms, Conditions(temperature=reading), hot)
        if reading is None:
            assert hot == was, "what cannot be read stays as it was"
        else:
            assert hot == (reading > 80.0 or (was and reading > 75.0))
        assert not too_hot(Terms(), Conditions(temperature=reading), was)


def test_a_hot_processor_pauses_it_with_the_reason():
    alice = training(0, terms=Terms(max_temperature=80.0))
    looks(alice, temperature=80.0)
    assert not alice.ever(act.PauseTrainer)
    looks(alice, temperature=84.4)
    assert alice.wanted(act.PauseTrainer)
    assert "paused: the processor is hot at 84 °C; it goes on at 75" in alice.said
    looks(alice, temperature=76.0)
    assert not alice.ever(act.ResumeTrainer)
    looks(alice, temperature=75.0)
    assert alice.wanted(act.ResumeTrainer)


def test_the_temperature_is_read_from_a_file_that_is_named(tmp_path, monkeypatch):
    (tmp_path / "temp").write_text("61500\n")
    monkeypatch.setenv(TEMPERATURE_VARIABLE, str(tmp_path / "temp"))
    assert Sensors(lambda: 0.0).look().temperature == 61.5 and measurable(80.0) == 80.0
    (tmp_path / "temp").write_text("61.5")
    assert temperature() == 61.5
    for told in ("", "hot"):
        (tmp_path / "temp").write_text(told)
        assert temperature() is None
    with pytest.raises(UsageError, match="no sensor of the processor can be read here; leave it out"):
        measurable(80.0)
    assert measurable(None) is None


def test_in_a_pause_results_are_handed_in_and_opened_but_checks_are_left_to_others():
    alice = training(0)
    alice.trains(0)
    alice.hears(on.Tick(PLENTY, conditions=Conditions(paused_seconds=inf)))
    alice.hands_in(0)
    alice.inbox(openings=(opening_of(0),), checks=(check_of(1),))
    assert alice.state.call is None or isinstance(alice.state.call, act.Poll)
    alice.waits(2.0)
    assert isinstance(alice.state.call, act.Poll) and alice.state.call.opened, "the challenge is answered"


def test_in_a_long_pause_with_nothing_in_hand_it_calls_rarely_and_at_once_when_it_is_over():
    alice = training()
    alice.inbox()
    alice.now += 1.0
    for _ in range(2):
        alice.hears(on.Tick(PLENTY, conditions=Conditions(paused_seconds=inf)))
        if isinstance(alice.state.call, act.Poll):
            alice.inbox()
    assert alice.state.poll_seconds == AWAY_POLL_SECONDS
    alice.now += 5.0
    alice.hears(on.Tick(PLENTY, conditions=Conditions(paused_seconds=inf)))
    assert alice.state.call is None
    looks(alice)
    assert isinstance(alice.state.call, act.Poll)


def test_a_training_process_that_dies_in_a_pause_is_started_and_told_again():
    alice = training(0, terms=Terms(not_on_battery=True))
    looks(alice, on_battery=True)
    alice.hears(on.TrainerDied(-9))
    assert alice.wanted(act.StartTrainer) and alice.wanted(act.Train)  # the handle keeps it standing still


def test_memory_above_the_limit_ends_it_with_the_mend():
    alice = training(0, memory_bytes=10**9)
    for _ in range(LOOKS_OVER - 1):
        looks(alice, own_bytes=2 * 10**9)
    looks(alice, own_bytes=10**8)
    assert alice.state.leaving is None, "a moment is no harm"
    for _ in range(LOOKS_OVER):
        looks(alice, own_bytes=2 * 10**9)
    assert "2 GB of memory, and the limit is 1 GB (--memory)" in alice.state.leaving.error
