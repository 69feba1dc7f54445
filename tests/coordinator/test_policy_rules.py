"""The smaller rules: uploads, inboxes, presence, campaigns, publishing."""

from dataclasses import replace

import msgspec
import pytest

from coordinator.policy.campaigns import control, in_order_of_urgency, is_over
from coordinator.policy.inbox import (
    BANS_AT_ONCE,
    BANS_TOLD_MAX,
    CHECKS_BYTES_MAX,
    CHECKS_MAX,
    OwnResult,
    bans_to_tell,
    check_fits,
    uploads_wanted,
)
from coordinator.policy.phases import LIVE, Phase
from coordinator.policy.presence import (
    ask_again_seconds,
    check_heartbeat,
    gather_seconds,
    is_present,
    present_until,
    resumed,
    told_before,
)
from coordinator.policy.publishing import (
    BUNDLES_MAX,
    UNKNOWN,
    AdmittedBundle,
    batches_due,
    shards_to_announce,
    tidying_due,
)
from coordinator.policy.uploads import UploadFacts, is_here, may_fetch
from protocol.errors import Refused
from protocol.trust.messages import BlobPart, CampaignAction, CampaignState, Cell, Heartbeat, OpeningRequest

RUNNING, PAUSED = CampaignState.RUNNING, CampaignState.PAUSED
CANCELLED, COMPLETE = CampaignState.CANCELLED, CampaignState.COMPLETE
UPLOAD = UploadFacts(
    signer="alice",
    worker="alice",
    part=BlobPart.WEIGHTS,
    size=100,
    phase=Phase.COMMITTED,
    parts=(BlobPart.TRACE,),
    legal_sizes={BlobPart.TRACE: 50, BlobPart.WEIGHTS: 100},
)
CELLS = (Cell(network=0, segment=1),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signer": "bob"}, "upload-signer"),
        ({"phase": Phase.VOID}, "upload-late"),
        ({"size": 99}, "upload-size"),
        ({"part": "states"}, "upload-order"),  # not asked for
        ({"part": "states", "parts": (), "legal_sizes": {"states": 100}}, "upload-order"),  # the trace comes first
    ],
)
def test_an_upload_is_refused_before_a_byte_of_it_is_read(changes, reason):
    with pytest.raises(Refused) as refused:
        is_here(replace(UPLOAD, **changes))
    assert refused.value.reason == reason


def test_an_upload_is_taken_once():
    assert not is_here(UPLOAD)
    assert is_here(replace(UPLOAD, part="trace", size=1, phase=Phase.ADMITTED))  # we have it: nothing to say about it


def test_a_trace_is_not_to_be_had_before_the_outcome():
    for phase in Phase:
        assert may_fetch("trace", phase, ("trace",), 0, 2) is (phase not in LIVE)
        assert may_fetch("states", phase, ("states",), 1, 2) is (phase is Phase.CHECKING)
    assert not may_fetch("states", Phase.CHECKING, ("states",), 2, 2)
    assert not may_fetch("states", Phase.CHECKING, ("trace",), 0, 2)
    assert not may_fetch("secrets", Phase.ADMITTED, ("secrets",), 0, 2)


def test_a_host_is_asked_for_what_is_missing_and_for_states_once_the_trace_is_here():
    committed = OwnResult(digest=b"a", phase=Phase.COMMITTED, parts=("trace",), opened=CELLS)
    opening = replace(committed, digest=b"b", phase=Phase.OPENING)
    blind = replace(opening, digest=b"c", parts=("weights",))
    done = replace(opening, digest=b"d", parts=("states", "trace", "weights"))
    openings, missing = uploads_wanted([committed, opening, blind, done, replace(opening, phase=Phase.CHECKING)])
    assert openings == (OpeningRequest(result=b"b", cells=CELLS),)
    assert missing == ((b"a", "weights"), (b"b", "weights"), (b"c", "trace"))


def test_an_inbox_holds_few_checks_but_always_one():
    assert check_fits(0, CHECKS_BYTES_MAX + 1)
    assert check_fits(1, CHECKS_BYTES_MAX) and not check_fits(1, CHECKS_BYTES_MAX + 1)
    assert not check_fits(CHECKS_MAX, 1)


def test_numbers_of_heartbeats_that_must_not_reach_a_page_or_a_sum_are_refused():
    beat = Heartbeat(
        nonce=b"n" * 16,
        name="a",
        device="cpu",
        version="1",
        steps_per_second=1.0,
        networks_trained=0,
        checks_done=0,
        holding=(),
    )
    check_heartbeat(beat)
    for changes in (
        {"steps_per_second": float("inf")},
        {"steps_per_second": -1.0},
        {"networks_trained": 2**53},
        {"checks_done": 2**53},
    ):
        with pytest.raises(Refused, match="heartbeat"):
            check_heartbeat(msgspec.structs.replace(beat, **changes))


def test_time_stands_still_while_the_coordinator_is_away():
    assert resumed({"a": 1000.0, "b": 1007.0}, 9000.0) == {"a": 8993.0, "b": 9000.0}
    assert resumed({}, 9000.0) == {}
    assert is_present("a", {"a": 70.0}, 100.0, 30.0) and not is_present("a", {"a": 69.9}, 100.0, 30.0)
    assert not is_present("stranger", {}, 1_800_000_000.0, 30.0)


def test_after_a_restart_a_crowd_is_here_until_it_may_have_been_told_to_ask():
    """Ten thousand idle hosts ask every two minutes: none of them is absent half a minute after a restart."""
    crowd = resumed({f"h{i}": 1000.0 - i % 120 for i in range(10_000)}, 9000.0)
    assert told_before(crowd, 9000.0) == 120.0
    assert told_before(resumed({"a": 1000.0, "b": 1.0}, 9000.0), 9000.0) == told_before({}, 9000.0) == 1.0


def test_few_hosts_ask_every_second_and_many_no_more_often_than_can_be_served():
    assert ask_again_seconds(False, 0, 1) == ask_again_seconds(False, 3, 50) == ask_again_seconds(True, 100, 9999) == 1
    assert ask_again_seconds(False, 0, 2000) == 40.0 and ask_again_seconds(True, 500, 2000) == 5.0
    for busy, idle in [(0, 100), (10, 10), (200, 2000), (1500, 4500)]:
        asked = busy / ask_again_seconds(True, busy, busy + idle) + idle / ask_again_seconds(False, busy, busy + idle)
        assert asked <= 150.0
    assert ask_again_seconds(False, 0, 10**6) == 120.0 and ask_again_seconds(True, 10**6, 10**6) == 15.0


def test_few_hosts_say_at_once_what_they_have_and_many_gather_it():
    assert gather_seconds(0) == 0.0 and gather_seconds(3) < 0.1 and gather_seconds(10**6) == 0.5
    assert all(busy / gather_seconds(busy) <= 80.0 + 1e-9 for busy in (1, 10, 40))


def test_a_host_counts_as_present_for_three_times_what_it_was_told():
    assert present_until(100.0, 1.0, 30.0) == 130.0
    assert present_until(100.0, 60.0, 30.0) == 280.0


def test_bans_are_told_once_and_the_newest_if_there_are_too_many():
    bans = [str(i) for i in range(BANS_TOLD_MAX + 50)]
    told, known = bans_to_tell(bans, 0)
    assert told == tuple(bans[50 : 50 + BANS_AT_ONCE]) and known == 50 + BANS_AT_ONCE
    assert bans_to_tell(bans, len(bans) - 1) == (tuple(bans[-1:]), len(bans))
    assert bans_to_tell(bans, len(bans)) == ((), len(bans)) == bans_to_tell(bans, 2**31)


def test_a_campaign_is_controlled_by_a_table():
    assert control(RUNNING, CampaignAction.PAUSE) == PAUSED == control(PAUSED, CampaignAction.PAUSE)
    assert control(CANCELLED, CampaignAction.RESUME) == RUNNING
    for state, action in (
        (COMPLETE, CampaignAction.PAUSE),
        (COMPLETE, CampaignAction.CANCEL),
        (CANCELLED, CampaignAction.PAUSE),
    ):
        with pytest.raises(Refused) as refused:
            control(state, action)
        assert refused.value.reason == "campaign-state"
    assert not is_over({}) and is_over({"a": COMPLETE, "b": CANCELLED}) and not is_over({"a": PAUSED})


def test_campaigns_with_work_to_do_come_first_by_priority_then_by_age():
    states = {"old": RUNNING, "done": COMPLETE, "urgent": RUNNING, "paused": PAUSED, "young": RUNNING}
    priorities = dict.fromkeys(states, 0) | {"urgent": 5, "done": 9}
    assert in_order_of_urgency(states, priorities) == ["urgent", "old", "young", "paused", "done"]


def test_bundles_gather_for_a_manifest_unless_a_campaign_is_complete():
    waiting = [AdmittedBundle(bytes([i]), False) for i in range(3)]
    assert batches_due(waiting, 101.9, 100.0) == []
    assert batches_due(waiting, 102.0, 100.0) == [(b"\0", b"\1", b"\2")]
    assert batches_due(waiting, 99.0, 100.0) != []  # the clock was set back
    assert batches_due(waiting, 100.0, 100.0, force=True) != []
    assert batches_due([*waiting, AdmittedBundle(b"\3", True)], 100.0, 100.0) != []
    assert batches_due([], 200.0, 100.0, force=True) == []
    many = [AdmittedBundle(i.to_bytes(2, "big"), False) for i in range(BUNDLES_MAX + 1)]
    assert [len(batch) for batch in batches_due(many, 200.0, 100.0)] == [BUNDLES_MAX, 1]
    assert tidying_due(3700.0, 100.0) and not tidying_due(3699.0, 100.0) and tidying_due(99.0, 100.0)


def test_the_dht_is_told_what_is_new_and_what_is_taken_back():
    assert shards_to_announce({}, {}) == {}
    assert shards_to_announce({}, {3: 0b1}) == {3: 0b1}
    assert shards_to_announce({3: 0b1}, {3: 0b1}) == {}
    assert shards_to_announce({3: 0b1, 4: 0b1}, {3: 0b11}) == {3: 0b11, 4: 0}
    assert shards_to_announce({4: 0}, {}) == {}
    assert shards_to_announce({5: UNKNOWN, 6: UNKNOWN}, {6: 0b1}) == {5: 0, 6: 0b1}  # an earlier run said something
