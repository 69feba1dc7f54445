"""What a new key pays, what is heard once, and what an organizer's command is good for: rows 6, 7, 14 and 22."""

import threading
import time

import grpc
import msgspec
import pytest
from sqlalchemy import insert, update
from support.scripted_host import CAMPAIGN, Stage

from coordinator.ledger.tables import hosts
from coordinator.policy.actions import NewsKind
from coordinator.policy.campaigns import COMMAND_SECONDS, check_command
from coordinator.policy.presence import BEAT_AHEAD_SECONDS, BEAT_SECONDS, check_time
from coordinator.server.calls import REFUSALS_SAID_PER_SECOND
from coordinator.server.doors import limits
from coordinator.server.doors.desk import Desk
from coordinator.server.doors.limits import STAMP_SECONDS, stamp_bits
from peer.join import ticket_bytes
from peer.session.client import Away, Client
from peer.session.first_contact import OrganizersTime, StampPayer
from protocol.errors import Refused, UsageError
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.wire import open_welcome, refusal, to_wire
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import CampaignAction, ControlCampaign, Heartbeat
from protocol.trust.stamp import PROOF_BYTES, is_paid, pay
from protocol.trust.ticket import check_ticket, make_ticket, read_ticket

BITS = 6
BEAT = {
    "name": "n",
    "device": "cpu",
    "version": "1",
    "steps_per_second": 1.0,
    "networks_trained": 0,
    "checks_done": 0,
    "holding": (),
}


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "host", stamp_bits=BITS)
    stage.seed()
    yield stage
    stage.close()


def refused(call) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = refusal(caught.value)
    return error.reason if error else str(caught.value.code())


def hosts_of(stage) -> int:
    return len(stage.core.presence.last_seen())


def pay_for(stage, host) -> None:
    nonce = b"n" * 16
    reply = host.stub.Join(pb.JoinRequest(version="1", nonce=nonce, host=host.host))
    _, welcome = open_welcome(reply, nonce, stage.core.identity.host)
    proof = pay(welcome.stamp_challenge, host.host, welcome.stamp_bits)
    assert proof is not None
    host.stamp = welcome.stamp_challenge + proof


# -- stamps ----------------------------------------------------------------------------------------------------------


def test_a_stamp_is_for_one_host_one_challenge_and_so_many_bits():
    proof = pay(b"challenge", "me", 8)
    assert proof is not None and is_paid(b"challenge", "me", 8, proof)
    assert not is_paid(b"challenge", "you", 8, proof) and not is_paid(b"other", "me", 8, proof)
    assert not is_paid(b"challenge", "me", 30, proof) and not is_paid(b"challenge", "me", 8, proof[:-1])
    assert pay(b"challenge", "me", 30, lambda: False) is None


def test_the_price_doubles_with_the_new_keys_of_a_network_or_of_all():
    assert stamp_bits(15, 0, 0) == 15 == stamp_bits(15, limits.NEWCOMERS_HERE - 1, limits.NEWCOMERS_ALL - 1)
    assert stamp_bits(15, limits.NEWCOMERS_HERE, 0) == 16 == stamp_bits(15, 0, limits.NEWCOMERS_ALL)
    assert stamp_bits(15, 4 * limits.NEWCOMERS_HERE, 2 * limits.NEWCOMERS_ALL) == 20
    assert stamp_bits(15, 1 << 30, 1 << 30) == 15 + limits.STAMP_BITS_MORE_MAX
    prices = [stamp_bits(15, n, 0) for n in range(1000)]
    assert prices == sorted(prices)


def test_keys_of_a_flooding_network_pay_more_than_others(stage):
    desk = Desk(stage.core.identity, stage.core.stores.ledger, stage.clock, BITS)
    for number in range(limits.NEWCOMERS_HERE):
        host = Identity.generate().host
        bits, challenge = desk.terms(host, "8.8.8.7")
        proof = pay(challenge, host, bits)
        assert bits == BITS and proof is not None
        beat = Heartbeat(nonce=b"n" * 16, issued_at=stage.clock.now, stamp=challenge + proof, **BEAT)
        desk.admit(host, beat, f"8.8.8.{number}")
    stranger = Identity.generate().host
    assert desk.terms(stranger, "8.8.8.99")[0] == BITS + 1
    assert desk.terms(stranger, "9.9.9.9")[0] == BITS == desk.terms(stranger, "127.0.0.1")[0]
    stage.clock.now += limits.NEWCOMERS_HERE_SECONDS + 1
    assert desk.terms(stranger, "8.8.8.99")[0] == BITS


def test_fresh_keys_leave_nothing_behind_until_they_have_paid(stage):
    """Rows 6 and 7: neither presence nor a row in the ledger, and few lines."""
    before = hosts_of(stage)
    for _ in range(30):
        host = stage.host("flood")
        assert refused(lambda host=host: host.poll()) == "stamp"
    assert hosts_of(stage) == before
    assert stage.refused() == {("stamp", ""): 30}  # counted, against nobody
    result = stage.hosts[0].result(0)
    assert refused(lambda: stage.hosts[0].submit(result)) == "StatusCode.RESOURCE_EXHAUSTED"  # later, not never
    stolen = msgspec.structs.replace(result, signer=Identity.generate().host)
    assert refused(lambda: stage.hosts[0].submit(stolen)) == "signature"  # never, not later
    host = stage.host("honest")
    pay_for(stage, host)
    host.poll()
    assert hosts_of(stage) == before + 1
    host.submit(host.result(0))


def test_a_flood_of_refusals_is_a_few_lines(stage):
    for number in range(40):
        host = stage.host(f"flood {number}")
        signed = pb.Signed(kind=f"kind {number}", signer=host.host, payload=b"", signature=bytes(64))
        refused(lambda host=host, signed=signed: host.stub.SubmitResult(pb.Submission(result=signed)))
        pay_for(stage, host)
        host.poll()
        no_beat = host.sealed(ControlCampaign(campaign="0" * 64, action=CampaignAction.PAUSE))
        refused(lambda host=host, no_beat=no_beat: host.stub.Poll(pb.Visit(heartbeat=no_beat)))
    said = [news.text for news in stage.news if news.kind is NewsKind.REFUSED]
    assert 1 <= len(said) <= REFUSALS_SAID_PER_SECOND  # the clock stands still
    stage.clock.now += 2
    refused(lambda: stage.hosts[0].stub.GetCampaign(pb.CampaignRequest(digest="0" * 64)))
    assert "other refusals were not shown" in [n.text for n in stage.news if n.kind is NewsKind.REFUSED][-1]
    assert sum(stage.refused().values()) > 40


def test_stamps_of_others_old_ones_and_changed_ones_are_refused(stage):
    alice, bob = stage.host("alice"), stage.host("bob")
    pay_for(stage, alice)
    bob.stamp = alice.stamp
    assert refused(bob.poll) == "stamp"
    stamp = alice.stamp
    cheaper = bytearray(stamp)
    cheaper[8] = 0  # bits in the challenge
    alice.stamp = bytes(cheaper)
    assert refused(alice.poll) == "stamp"
    alice.stamp = stamp[:-PROOF_BYTES] + bytes(PROOF_BYTES)
    assert refused(alice.poll) == "stamp"
    alice.stamp = stamp
    stage.clock.now += STAMP_SECONDS + 1
    assert refused(alice.poll) == "stamp"
    pay_for(stage, alice)
    alice.poll()
    alice.stamp = b""
    alice.poll()  # once is enough


def test_a_volunteer_pays_by_itself_and_again_after_the_coordinator_forgot_it(stage):
    said: list[str] = []
    client = Client(f"127.0.0.1:{stage.port}", Identity.generate(), stage.core.identity.host, say=said.append)
    client.join("1")
    client.poll(BEAT)
    client.poll(BEAT)
    stage.restart()
    again = Client(f"127.0.0.1:{stage.port}", client.identity, client.organizer)
    again.poll(BEAT)  # without a join: it asks what is wanted
    assert said == [] and hosts_of(stage) == 1
    client.close()
    again.close()


def test_a_stamp_that_takes_long_is_explained_and_ends_with_the_program(monkeypatch):
    from peer.session import first_contact

    monkeypatch.setattr(first_contact, "SAY_SECONDS", 0.0)
    monkeypatch.setattr(first_contact, "WAIT_SECONDS", 0.05)
    said, told = [], threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    payer = StampPayer("me", say)
    payer.begin(b"challenge", 32)
    assert told.wait(10) and payer.stamp() is None and len(said) == 1 and "\n" not in said[0]
    thread = payer._thread
    monkeypatch.setattr(first_contact, "STOP_SECONDS", 10.0)
    payer.stop()
    assert thread is not None and not thread.is_alive()


# -- heartbeats ------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_heard_once(stage):
    """Row 22: kept heartbeats seat nobody."""
    alice = stage.host("alice")
    pay_for(stage, alice)
    message = seal(alice.identity, Heartbeat(nonce=b"n" * 16, issued_at=stage.clock.now + 1, stamp=alice.stamp, **BEAT))
    alice.stub.Poll(pb.Visit(heartbeat=to_wire(message)))
    seen = stage.core.presence.last_seen()[alice.host]
    stage.clock.now += 20
    assert refused(lambda: alice.stub.Poll(pb.Visit(heartbeat=to_wire(message)))) == "heartbeat-time"
    assert stage.core.presence.last_seen()[alice.host] == seen
    stage.clock.now += BEAT_SECONDS
    stage.restart()  # forgets when the last one came
    assert refused(lambda: alice.stub.Poll(pb.Visit(heartbeat=to_wire(message)))) in ("heartbeat-time", "stamp")
    assert alice.host not in stage.core.presence.last_seen() or stage.core.presence.last_seen()[alice.host] <= seen


def test_what_was_heard_before_a_restart_is_not_heard_after_it(stage):
    alice = stage.host("alice")
    pay_for(stage, alice)
    message = seal(alice.identity, Heartbeat(nonce=b"n" * 16, issued_at=stage.clock.now, stamp=alice.stamp, **BEAT))
    alice.stub.Poll(pb.Visit(heartbeat=to_wire(message)))
    stage.clock.now += 2.0
    stage.restart()
    assert refused(lambda: alice.stub.Poll(pb.Visit(heartbeat=to_wire(message)))) == "heartbeat-time"


def test_heartbeats_are_new_and_from_now():
    now = 1e9
    check_time(now, None, now)
    check_time(now - BEAT_SECONDS, None, now)
    check_time(now, now - 0.001, now)
    for issued_at, last in (
        (now, now),
        (now - 1, now),
        (now - BEAT_SECONDS - 1, None),
        (now + BEAT_AHEAD_SECONDS + 1, None),
        (float("nan"), None),
        (float("inf"), None),
    ):
        with pytest.raises(Refused, match="heartbeat-time"):
            check_time(issued_at, last, now)
    check_time(now, now + 86_400.0, now)  # our clock was set back by a day: its host is heard at once


def test_a_volunteer_goes_by_the_organizers_clock_and_never_says_a_time_twice():
    local = [1000.0]
    clock = OrganizersTime(lambda: local[0])
    clock.learn(5000.0)
    first, second = clock.now(), clock.now()
    assert first == 5000.0 and second > first
    local[0] += 10
    clock.learn(5009.0)  # the answer took a second longer this time
    assert clock.now() >= 5009.0
    clock.learn(5008.5)
    assert clock.now() > 5009.0
    clock.learn(1.0)  # the organizer's clock was set back
    assert clock.now() == 1.0


# -- commands --------------------------------------------------------------------------------------------------------


def test_a_captured_command_never_works_again(stage):
    """Row 14: pause, resume and cancel, kept and sent again, after a restart too."""
    stub = stage.host("organizer").stub

    def say(action: CampaignAction) -> pb.Signed:
        message = stage.issued(ControlCampaign(campaign=CAMPAIGN.digest, action=action))
        return to_wire(seal(stage.core.identity, message))

    kept = [say(action) for action in (CampaignAction.PAUSE, CampaignAction.RESUME)]
    assert [stub.ControlCampaign(signed).state for signed in kept] == ["paused", "running"]
    held_back = say(CampaignAction.PAUSE)  # by somebody between, to be sent later
    assert stub.ControlCampaign(say(CampaignAction.CANCEL)).state == "cancelled"
    assert [refused(lambda s=s: stub.ControlCampaign(s)) for s in kept] == ["command-replayed"] * 2
    assert refused(lambda: stub.ControlCampaign(held_back)) == "command-stale"
    stage.restart()
    stub = stage.hosts[0].stub
    assert [refused(lambda s=s: stub.ControlCampaign(s)) for s in (*kept, held_back)] == [
        "command-replayed",
        "command-replayed",
        "command-stale",
    ]
    late = say(CampaignAction.RESUME)
    stage.clock.now += COMMAND_SECONDS + 1
    assert refused(lambda: stub.ControlCampaign(late)) == "command-stale"
    assert stage.core.stores.campaigns.states() == {CAMPAIGN.digest: "cancelled"}
    assert stub.ControlCampaign(say(CampaignAction.RESUME)).state == "running"


def test_commands_are_in_time_and_newer_than_the_last():
    check_command(100.0, None, 100.0, seen=False)
    check_command(100.0, 99.0, 100.0, seen=False)
    for issued_at, newest, seen in (
        (100.0, None, True),
        (100.0, 100.0, False),
        (99.0, 100.0, False),
        (100.0 - COMMAND_SECONDS - 1, None, False),
        (1e6, None, False),
        (0.0, None, False),
        (float("nan"), None, False),
    ):
        with pytest.raises(Refused, match="command"):
            check_command(issued_at, newest, 1000.0 if issued_at == 0.0 else 100.0, seen=seen)


# -- tickets ---------------------------------------------------------------------------------------------------------


def test_a_ticket_is_for_one_host_and_a_time_and_of_one_organizer():
    organizer, host = Identity.generate(), Identity.generate().host
    data = read_ticket(make_ticket(organizer, host, 1000.0) + "\n")
    check_ticket(data, organizer.host, host, 999.0)
    for signer, holder, now, reason in (
        (organizer.host, host, 1000.0, "ticket"),
        (organizer.host, Identity.generate().host, 1.0, "ticket"),
        (Identity.generate().host, host, 1.0, "signer"),
    ):
        with pytest.raises(Refused, match=reason):
            check_ticket(data, signer, holder, now)
    for nonsense in ("", "hello", "é", make_ticket(organizer, host, 1.0)[:-8], "A" * 5000):
        with pytest.raises(UsageError, match="zooswarm ticket"):
            read_ticket(nonsense)


def test_a_volunteer_shows_its_ticket_and_a_wrong_one_is_refused(stage):
    alice = stage.host("alice")
    pay_for(stage, alice)
    alice.poll()
    target, organizer = f"127.0.0.1:{stage.port}", stage.core.identity
    stranger = read_ticket(make_ticket(organizer, Identity.generate().host, stage.clock.now + 60))
    client = Client(target, alice.identity, organizer.host, ticket=stranger)
    with pytest.raises(Refused, match="another host"):
        client.submit_result(alice.result(0))
    client.close()
    mine = read_ticket(make_ticket(organizer, alice.host, stage.clock.now + 60))
    client = Client(target, alice.identity, organizer.host, ticket=mine)
    client.submit_result(alice.result(0))
    client.close()


def test_a_campaign_that_asks_for_tickets_takes_results_only_with_one(stage):
    policy = msgspec.structs.replace(CAMPAIGN.policy, tickets=True)
    closed = msgspec.structs.replace(CAMPAIGN, name="closed", policy=policy)
    stage.seed(closed)
    alice = stage.host("alice")
    pay_for(stage, alice)
    alice.poll()
    result = alice.result(0, campaign=closed.digest)
    target, organizer = f"127.0.0.1:{stage.port}", stage.core.identity
    client = Client(target, alice.identity, organizer.host)
    with pytest.raises(Refused, match="no-ticket"):
        client.submit_result(result)
    client.close()
    mine = read_ticket(make_ticket(organizer, alice.host, stage.clock.now + 60))
    client = Client(target, alice.identity, organizer.host, ticket=mine)
    client.submit_result(result)
    client.close()


def test_a_client_that_cannot_pay_in_time_is_away_not_refused(stage, monkeypatch):
    client = Client(f"127.0.0.1:{stage.port}", Identity.generate(), stage.core.identity.host)
    client.join("1")
    monkeypatch.setattr(client._payer, "stamp", lambda: None)
    with pytest.raises(Away, match="working"):
        client.poll(BEAT)
    monkeypatch.setattr(client._payer, "stamp", lambda: b"")
    began = time.monotonic()
    with pytest.raises(Away, match="stamp"):
        client.poll(BEAT)
    assert time.monotonic() - began < 10
    client.close()
    assert msgspec.json.decode(stage.core.status_json())["organizer"] == stage.core.identity.host


def test_an_organizer_prints_a_ticket_and_a_volunteer_reads_it_from_its_line_or_a_file(stage, tmp_path):
    from coordinator.client import ticket_for

    alice = stage.host("alice")
    text = ticket_for(stage.path, alice.host, 1.0)
    check_ticket(read_ticket(text), stage.core.identity.host, alice.host, time.time())
    with pytest.raises(Refused, match="run out"):
        check_ticket(read_ticket(text), stage.core.identity.host, alice.host, time.time() + 86_401)
    with pytest.raises(UsageError, match="identity show"):
        ticket_for(stage.path, "alice", 1.0)
    with pytest.raises(UsageError, match="zooswarm host"):
        ticket_for(tmp_path / "nothing", alice.host, 1.0)
    (tmp_path / "ticket").write_text(text + "\n")
    assert (
        ticket_bytes(str(tmp_path / "ticket")) == ticket_bytes(text) == read_ticket(text) and ticket_bytes(None) == b""
    )


def test_hosts_that_have_earned_something_go_before_others_and_banned_ones_do_not(stage):
    names = [Identity.generate().host for _ in range(3)]
    rows = [
        {"host": host, "first_seen": 0.0, "last_seen": 0.0, "credit": credit, "banned": banned}
        for host, credit, banned in zip(names, (5, 0, 5), ("", "", "a fake"), strict=True)
    ]
    stage.core.stores.ledger.write(lambda connection: connection.execute(insert(hosts), rows))
    desk = stage.service.desk
    desk.look_up()
    assert [desk.has_standing(host) for host in names] == [True, False, False]
    assert all(desk.knows(host) for host in names) and not desk.knows(Identity.generate().host)
    stage.core.stores.ledger.write(lambda connection: connection.execute(update(hosts).values(credit=5)))
    desk.look_up()
    assert not desk.has_standing(names[1])  # looked up at most every ten seconds
    stage.clock.now += 11
    desk.look_up()
    assert desk.has_standing(names[1])
