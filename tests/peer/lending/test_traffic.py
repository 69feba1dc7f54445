"""--bandwidth: what passes is bounded over every stretch of time; campaigns that are too large for it are not taken."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted_host import CAMPAIGN as SEEDED
from support.scripted_host import Stage, trained
from support.volunteer import CAMPAIGN, RECIPE, Volunteer, campaign_of

from peer.session.client import Away, Client, leaving
from peer.session.throttle import Throttle
from peer.state import actions as act
from peer.state.lending.limits import needs_of, turned_down
from peer.state.lending.sizes import parse_rate
from peer.state.lending.traffic import BURST_SECONDS, Bucket, spend
from protocol.errors import UsageError
from protocol.recipes.layers import Linear
from protocol.recipes.recipe import Network
from protocol.rpc.wire import to_wire
from protocol.trust.commitment import leaf_of, traces_to_bytes
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import BlobPart, Upload
from protocol.trust.verdict import make_result

RATE = 1000.0
WIDE = msgspec.structs.replace(RECIPE, network=Network(layers=(Linear(width=400), Linear(width=20))))
HEARTBEAT = {"name": "x", "device": "cpu", "version": "test", "steps_per_second": 1.0, "networks_trained": 0}
HEARTBEAT |= {"checks_done": 0, "holding": (), "bans_list": 0, "bans_known": 0}


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5000)), min_size=1, max_size=30))
def test_over_any_stretch_no_more_passes_than_the_burst_and_what_its_time_allows(messages):
    """(silence before it, size) of each; a message passes when it has waited."""
    now, bucket, passed = 0.0, Bucket.full(RATE, 0.0), []
    for silence, size in messages:
        now += silence
        bucket, wait = spend(bucket, size, now)
        now += wait
        passed.append((now, size))
    for first, (begin, _) in enumerate(passed):
        for last in range(first, len(passed)):
            sent = sum(size for _, size in passed[first : last + 1])
            allowed = RATE * (BURST_SECONDS + passed[last][0] - begin)
            assert sent <= allowed + passed[first][1] + 1e-6, "and the first message, which had waited before"


@given(st.lists(st.integers(1, 5000), min_size=10, max_size=30))
def test_who_sends_all_the_time_has_the_whole_rate(sizes):
    now, bucket = 0.0, Bucket.full(RATE, 0.0)
    for size in sizes:
        bucket, wait = spend(bucket, size, now)
        now += wait
    assert now == pytest.approx(max(0.0, sum(sizes) / RATE - BURST_SECONDS))


def test_rates_are_read():
    assert [parse_rate(text) for text in ("64kB", "500 kB", "2MB", "1.5M", "1MB/s")] == [64e3, 500e3, 2e6, 1.5e6, 1e6]
    for wrong in ("", "10", "63kB", "nan MB", "-1MB", "fast", "inf GB"):
        with pytest.raises(UsageError, match="--bandwidth"):
            parse_rate(wrong)


def test_a_campaign_whose_uploads_would_be_cut_off_is_turned_down():
    needs = needs_of(CAMPAIGN)
    enough = needs.transfer / 100
    assert turned_down(needs, 1 << 62, 1 << 62, enough) == ""
    assert "--bandwidth" in turned_down(needs, 1 << 62, 1 << 62, enough * 0.99)
    wide = campaign_of(WIDE, name="wide")
    alice = Volunteer(wide, CAMPAIGN, bandwidth=needs_of(wide).transfer / 101).joins()
    said = [line for line in alice.said if "not taken" in line]
    assert len(said) == 1 and said[0].startswith("campaign wide: not taken: a bundle of tiny may send")
    assert alice.ever(act.FollowCampaign) == [act.FollowCampaign(CAMPAIGN.digest)]


class Wire:
    """Time that passes by waiting alone."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False


def test_calls_wait_for_what_they_send_and_what_came_before(tmp_path):
    """Real calls to a real host; each direction counts, a blob chunk by chunk."""
    stage, wire = Stage(tmp_path), Wire()
    stage.seed()
    client = Client(f"127.0.0.1:{stage.port}", Identity.generate(), stage.core.identity.host, bandwidth=RATE)
    client._throttle = throttle = Throttle(RATE, leaving, lambda: wire.now, wire.wait)
    passed = []
    throttle.passes, passes = (lambda message: (passed.append(message.ByteSize()), passes(message))), throttle.passes
    try:
        client.join("test")
        client.campaign(SEEDED.digest)
        assignment = SEEDED.assignment(0)
        kept = trained(assignment).values()
        traces = [tuple(leaf_of(b.state, b.loss, b.held_out_loss) for b in boundaries) for boundaries in kept]
        client.poll(HEARTBEAT)
        envelope = seal(client.identity, make_result(assignment, traces, client.identity.host, "test"))
        client.submit_result(envelope)
        client.put(envelope.digest, BlobPart.TRACE, traces_to_bytes(traces))
    finally:
        client.close()
        stage.close()
    assert len(passed) >= 8 and min(passed) >= 0
    assert wire.now == pytest.approx(sum(passed) / RATE - BURST_SECONDS)


def test_who_leaves_waits_no_more():
    throttle, message = Throttle(RATE, leaving), Upload(result=b"x" * 32, part=BlobPart.TRACE, size=1)
    sent = to_wire(seal(Identity.generate(), message))
    throttle.close()
    throttle.passes(sent)
    with pytest.raises(Away):
        while True:
            throttle.passes(sent)
    assert list(throttle.sent([sent, sent])) == []
