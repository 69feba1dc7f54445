"""Who may vouch: the rules as values, then strangers and their friends before a real coordinator."""

from dataclasses import replace

import msgspec
import pytest
from support import scripted_host
from support.scripted_host import POLICY, RECIPE, Stage, skip_training

from coordinator.policy.actions import NewsKind
from coordinator.policy.standing import (
    Bar,
    Standing,
    bar_of,
    named_order,
    prefix_tag,
    rank,
    roster_of,
    slots_of,
    stands,
)
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.rpc.wire import refusal
from protocol.trust.challenge import BeaconChains
from protocol.trust.evidence import evidence_from_bytes, verify_evidence
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import Store

grpc = pytest.importorskip("grpc")
KEY = b"k" * 32


# -- values -----------------------------------------------------------------------------------------------------------
def test_standing_is_earned_and_lost():
    bar, host = Bar(bundles=3, credit=120), Standing(host="a", clean_bundles=3, credit=120)
    assert stands(host, bar) and not stands(Standing(host="a"), bar)
    assert not stands(replace(host, clean_bundles=2), bar) and not stands(replace(host, credit=119), bar)
    assert not stands(replace(host, banned=True), bar) and not stands(replace(host, false_accusations=3), bar)
    assert stands(Standing(host="a"), Bar(0, 0))


def test_standing_costs_so_many_bundles_of_middling_size():
    """Of each network ten segments count, or all of a short recipe; a bundle of next to no work is a part of one."""
    long, short = (
        msgspec.structs.replace(RECIPE, name=name, training=msgspec.structs.replace(RECIPE.training, **steps))
        for name, steps in (("long", {"max_steps": 5000}), ("short", {"max_steps": 150}))
    )
    populations = (Population(recipe=long, count=64, bundle=16), Population(recipe=short, count=32, bundle=16))
    campaign = Campaign(name="both", populations=populations, policy=Policy(probation_bundles=3))
    segments = [recipe.segments_max for recipe in (long, short)]
    assert segments == [500, 15] and bar_of(campaign) == Bar(3, 3 * (64 * 10 + 32 * 10) // 6)
    shorter = msgspec.structs.replace(short, training=msgspec.structs.replace(short.training, max_steps=35))
    one = msgspec.structs.replace(campaign, populations=(Population(recipe=shorter, count=32, bundle=16),))
    assert bar_of(one) == Bar(3, 3 * 16 * 4), "three segments and a half"


def test_a_roster_is_of_those_who_stand_and_are_here_with_their_credit_as_weight():
    known = {
        name: Standing(host=name, clean_bundles=bundles, credit=credit)
        for name, bundles, credit in (("a", 3, 300), ("b", 2, 200), ("c", 3, 0), ("gone", 9, 900))
    }
    roster = roster_of(known, Bar(3, 0), {"a": b"1", "b": b"2", "c": b"", "new": b"4"})
    assert [(e.host, e.weight, e.tag) for e in roster.entries] == [("a", 300, b"1"), ("c", 1, b"")]


def test_fresh_keys_are_on_no_roster_however_many_they_are():
    policy, crowd = Policy(), {f"{i:052d}": b"" for i in range(1000)}
    roster = roster_of({}, Bar(policy.probation_bundles, 0), crowd)
    assert roster.total == 0 and rank(bytes(32), roster, "w", b"", slots_of(policy, standing=False)) == ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("8.8.8.8", "8.8.8.200", True),
        ("8.8.8.8", "8.8.9.8", False),
        ("::ffff:8.8.8.8", "8.8.8.9", True),
        ("2a00:1450:4001::1", "2a00:1450:4001:ffff::2", True),
        ("2a00:1450:4001::1", "2a00:1450:4002::1", False),
    ],
)
def test_a_tag_names_a_network_prefix(one, other, same):
    assert (prefix_tag(KEY, one) == prefix_tag(KEY, other)) is same and len(prefix_tag(KEY, one)) == 8
    assert prefix_tag(b"another", one) != prefix_tag(KEY, one)  # nobody but the organizer can tell which


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1", "192.168.1.7", "10.0.0.1", "fe80::1%eth0", "unix:", "x"])
def test_addresses_of_a_lan_have_no_tag(address):
    assert prefix_tag(KEY, address) == b""


def test_hosts_that_a_campaign_names_share_its_results():
    policy = Policy(named_checkers=tuple(c * 52 for c in "ABC"))
    first = [next(iter(named_order(policy, bytes([i]) * 32))) for i in range(90)]
    assert all(first.count(host) > 10 for host in policy.named_checkers)


# -- a real coordinator -----------------------------------------------------------------------------------------------
@pytest.fixture
def stage(tmp_path):
    """Everybody is a stranger until one bundle of it was admitted."""
    stage = Stage(tmp_path / "host")
    yield stage
    stage.close()


def seed(stage: Stage, monkeypatch, **changes) -> Campaign:
    changes = {"probation_bundles": 1, "checkers": 1} | changes
    policy = msgspec.structs.replace(POLICY, **changes)
    campaign = msgspec.structs.replace(scripted_host.CAMPAIGN, policy=policy)
    monkeypatch.setattr(scripted_host, "CAMPAIGN", campaign)
    stage.seed(campaign)
    return campaign


def bring(stage: Stage, worker, index: int, *others, lie=None) -> str:
    """Hand in, open, let everybody answer what it is asked; the outcome."""
    traces = worker.traces(scripted_host.CAMPAIGN.assignment(index), lie) if lie else None
    digest = worker.commit(index, traces)
    for other in others:
        other.poll()
    stage.clock.now += 6
    stage.settle(lambda: worker.open(digest, index, lie))
    stage.settle(lambda: ([other.check() for other in others] and None) or worker.outcome(digest))
    outcome = worker.outcome(digest)
    assert outcome is not None
    return outcome.outcome


def evidence(stage: Stage, campaign: Campaign) -> dict:
    """What the zoo's evidence proves, by assignment."""
    stage.core.curate(force=True)
    manifest = latest_manifest(stage.path / "zoo")
    assert manifest is not None
    store, chains = Store(stage.path / "zoo", manifest), BeaconChains()
    files = {row["evidence"] for row in store.catalogue().to_pylist()}
    verified = [
        verify_evidence(evidence_from_bytes(store.evidence(f)), campaign, chains, stage.core.identity.host)
        for f in files
    ]
    return {bundle.result.assignment: bundle for bundle in verified}


def test_strangers_are_checked_by_the_organizer_and_check_once_they_stand(stage, monkeypatch):
    campaign = seed(stage, monkeypatch)
    alice, bob, organizer = stage.host("alice"), stage.host("bob"), stage.core.identity.host
    assert bring(stage, alice, 0, bob) == "admitted"  # bob is a stranger: he is asked nothing
    assert bring(stage, bob, 1, alice) == "admitted"  # alice stands: she has the second slot, he the first
    assert bring(stage, alice, 2, bob) == "admitted"  # both stand: bob alone
    found = evidence(stage, campaign)
    checkers = {i: {host for hosts in bundle.checkers.values() for host in hosts} for i, bundle in found.items()}
    assert not found[0].standing and checkers[0] == {organizer}
    assert found[0].cells_of_house == sum(found[0].cells.values())
    assert not found[1].standing and {h for hosts in found[1].checkers.values() for h in hosts} == {
        organizer,
        alice.host,
    }
    assert 0 < found[1].cells_of_house < sum(found[1].cells.values())
    assert found[2].standing and checkers[2] == {bob.host}
    assert found[2].cells_of_house == 0


def test_a_ring_of_fresh_keys_that_vouch_for_each_other_gets_nothing_in(stage, monkeypatch):
    seed(stage, monkeypatch)
    ring = [stage.host(f"ring-{i}") for i in range(6)]
    for i, liar in enumerate(ring[:3]):
        assert (
            bring(stage, liar, i, *[friend for friend in ring if friend is not liar], lie=skip_training) == "convicted"
        )
    assert not any(friend.poll().checks for friend in ring[3:])
    assert NewsKind.ADMITTED not in stage.kinds() and stage.kinds().count(NewsKind.BANNED) == 3


def test_one_network_checks_neither_itself_nor_twice(stage, monkeypatch):
    """Three hosts with standing and a worker; the organizer knows their addresses from their heartbeats."""
    seed(stage, monkeypatch, probation_bundles=0, probation_checkers=3, checkers=3)
    worker, near, far, farther = (stage.host(name) for name in ("worker", "near", "far", "farther"))
    addresses = {worker: "8.8.8.8", near: "8.8.8.9", far: "9.9.9.9", farther: "9.9.9.10"}
    see = stage.core.presence.see

    def seen(host, beat, now, address="", **options):
        known = {one.host: two for one, two in addresses.items()}
        return see(host, beat, now, address=known.get(host, address), **options)

    monkeypatch.setattr(stage.core.presence, "see", seen)
    digest = worker.commit(0)
    for other in (near, far, farther):
        other.poll()
    stage.clock.now += 6
    stage.settle(lambda: worker.open(digest, 0))
    stage.settle(lambda: far.poll().checks or farther.poll().checks)
    asked = {host.name: len(host.poll().checks) for host in (near, far, farther)}
    assert asked["near"] == 0 and sorted((asked["far"], asked["farther"])) == [0, 1]


def test_a_campaign_that_asks_for_tickets_takes_no_result_without_one(stage, monkeypatch):
    seed(stage, monkeypatch, tickets=True)
    alice = stage.host("alice")
    with pytest.raises(grpc.RpcError) as caught:
        alice.submit(alice.result(0))
    found = refusal(caught.value)
    assert isinstance(found, Refused) and found.reason == "no-ticket"
    assert stage.core.handlers.submit_result(alice.result(0), ticketed=True)
