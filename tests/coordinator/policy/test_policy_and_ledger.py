"""Whatever hosts hand in, in whatever order: the ledger stores exactly what the policy decided, and its sums hold."""

from typing import ClassVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection, func, select
from support.scripted_host import CAMPAIGN

from coordinator.ledger.audits import pass_audit
from coordinator.ledger.database import Ledger
from coordinator.ledger.done import DoneBits
from coordinator.ledger.facts import HOLDS, read_host, read_result
from coordinator.ledger.places import add_parts, take_up
from coordinator.ledger.results import add_campaign, add_draw, begin_checks, hand_in
from coordinator.ledger.settlement import settle_result
from coordinator.ledger.tables import campaigns, hosts, networks, results
from coordinator.policy.auditing import Audit
from coordinator.policy.facts import HostRecord
from coordinator.policy.phases import LIVE, Event, Phase, next_phase
from coordinator.policy.receive import KEPT_MAX, Received
from protocol.engine import ENGINE
from protocol.recipes.campaign import Campaign
from protocol.trust.envelope import Envelope, Message, seal
from protocol.trust.identity import Identity
from protocol.trust.messages import BlobPart, NetworkResult, Result

ORGANIZER = Identity.generate()
WORKERS = [Identity.generate() for _ in range(3)]
SEGMENTS = 12
LARGER = msgspec.structs.replace(CAMPAIGN, populations=(msgspec.structs.replace(CAMPAIGN.populations[0], count=40),))
GOING_ON = (Event.DRAWN, Event.UPLOADED, Event.BLOB_LOST, Event.HANDED_IN_AGAIN, Event.SET_ASIDE, Event.TAKEN_UP)
SETTLING = [event for event in Event if event not in GOING_ON]


def sign(message: Message) -> bytes:
    return seal(ORGANIZER, message).to_bytes()


def result_of(
    worker: Identity, assignment: int, variant: int, campaign: Campaign = CAMPAIGN
) -> tuple[Envelope, Result]:
    """Variants 0 and 1 are the same work under two labels; 2 is other work."""
    result = Result(
        campaign=campaign.digest,
        assignment=assignment,
        engine=ENGINE,
        backend="ab"[variant % 2],
        commitment=bytes([variant // 2]) * 32,
        networks=tuple(
            NetworkResult(seed=seed, steps=60, trace_root=bytes(32), weights_digest=bytes(32), held_out_loss=0.5)
            for seed in campaign.assignment(assignment).seeds
        ),
    )
    return seal(worker, result), result


class Organizer(RuleBasedStateMachine):
    campaign: ClassVar[Campaign] = CAMPAIGN  # of four assignments: credit vests at once

    def __init__(self) -> None:
        super().__init__()
        self.ledger, self.now = Ledger.in_memory(), 1_800_000_000.0
        self.ledger.write(lambda c: add_campaign(c, self.campaign.digest, self.campaign.exact, b"", self.now))
        self.digests: set[bytes] = set()
        self.done = DoneBits(CAMPAIGN.digest, margin_seconds=0.5)

    def teardown(self) -> None:
        self.ledger.close()

    @rule(worker=st.sampled_from(WORKERS), assignment=st.integers(0, 9), variant=st.integers(0, 2))
    def somebody_hands_in(self, worker: Identity, assignment: int, variant: int) -> None:
        self.now += 1
        assignment %= self.campaign.assignment_count
        envelope, result = result_of(worker, assignment, variant, self.campaign)
        before = self.record(worker.host)
        reply = self.ledger.write(lambda c: hand_in(c, envelope, result, SEGMENTS, self.campaign, sign, self.now))
        assert (reply.what is Received.BANNED) == (not reply.envelope)
        if reply.what in (Received.KNOWN, Received.DUPLICATE):
            assert self.record(worker.host) == before and not any(
                action for action in reply.actions if type(action).__name__ == "DeleteBlobs"
            )
        if reply.what in (Received.NEW, Received.KEPT, Received.AGAIN, Received.KNOWN, Received.EQUIVOCATION):
            self.digests.add(envelope.digest)

    @rule(data=st.data(), event=st.sampled_from(SETTLING))
    def something_happens(self, data: st.DataObject, event: Event) -> None:
        """An outcome, for a result where it is possible; else nothing at all may change."""
        if not self.digests:
            return
        self.now += 1
        digest = data.draw(st.sampled_from(sorted(self.digests)))
        with self.ledger.read() as connection:
            stored = read_result(connection, digest)
        assert stored is not None
        before = self.record(stored.worker)
        assignment = self.campaign.assignment(stored.assignment)
        actions = self.ledger.write(
            lambda c: settle_result(c, digest, event, "why", self.campaign, sign, self.now, assignment)
        )
        if next_phase(stored.phase, event) is None:
            assert actions == () and self.record(stored.worker) == before

    @rule(data=st.data(), part=st.sampled_from((BlobPart.TRACE, BlobPart.WEIGHTS)))
    def somebody_uploads(self, data: st.DataObject, part: BlobPart) -> None:
        if self.digests:
            digest = data.draw(st.sampled_from(sorted(self.digests)))
            self.now += 1
            self.ledger.write(lambda c: add_parts(c, digest, [part], CAMPAIGN, sign, self.now))

    @rule(data=st.data())
    def the_referee_goes_on(self, data: st.DataObject) -> None:
        """It begins no check before everything is here."""
        if self.digests:
            digest = data.draw(st.sampled_from(sorted(self.digests)))
            self.now += 1
            self.ledger.write(lambda c: self._go_on(c, digest))

    @rule(data=st.data())
    def the_referee_takes_up(self, data: st.DataObject) -> None:
        if self.digests:
            digest = data.draw(st.sampled_from(sorted(self.digests)))
            self.now += 1
            self.ledger.write(lambda c: take_up(c, digest, self.campaign, sign, self.now))

    def _go_on(self, connection: Connection, digest: bytes) -> None:
        result = read_result(connection, digest)
        if not add_draw(connection, digest, b"draw", b"", self.now) and result is not None and result.uploaded:
            begin_checks(connection, digest, ("a", "b"), self.now)

    def record(self, host: str) -> HostRecord:
        with self.ledger.read() as connection:
            return read_host(connection, host)

    @invariant()
    def an_assignment_is_held_once(self) -> None:
        held = select(results.c.assignment, func.count()).where(HOLDS).group_by("assignment")
        with self.ledger.read() as connection:
            assert all(number == 1 for _, number in connection.execute(held))

    @invariant()
    def few_are_kept(self) -> None:
        kept = select(func.count()).where(results.c.phase == Phase.KEPT).group_by(results.c.assignment)
        with self.ledger.read() as connection:
            assert all(number <= KEPT_MAX for number in connection.execute(kept).scalars())

    @rule()
    def done_bits_are_looked_at_now_and_then(self) -> None:
        with self.ledger.read() as connection:
            assert self.done.look(connection, self.now) == DoneBits(CAMPAIGN.digest).look(connection, self.now)

    @invariant()
    def credit_is_what_was_admitted(self) -> None:
        with self.ledger.read() as connection:
            rows = connection.execute(select(results)).all()
            admitted = [row for row in rows if row.phase == Phase.ADMITTED]
            for host in connection.execute(select(hosts)):
                mine = [row for row in admitted if row.worker == host.host]
                assert (host.credit, host.clean_bundles) == (SEGMENTS * len(mine), len(mine))
                waiting = [row for row in mine if not row.vested]
                assert host.escrow == SEGMENTS * len(waiting) == self.record(host.host).escrow
                assert all(row.vests_at > host.admissions for row in waiting)
                assert not (host.convicted and waiting)
            campaign = connection.execute(select(campaigns)).one()
            assert campaign.admitted == len(admitted)
            assert (campaign.state == "complete") == (len(admitted) == self.campaign.assignment_count)
            registered = connection.execute(select(networks.c.seed)).scalars().all()
            assert sorted(registered) == sorted(
                seed for row in admitted for seed in self.campaign.assignment(row.assignment).seeds
            )

    @invariant()
    def all_that_a_liars_word_stands_behind_is_looked_at_again(self) -> None:
        liars = select(hosts.c.host).where(hosts.c.convicted == 1)
        theirs = select(results.c.audit).where(results.c.phase == Phase.ADMITTED, results.c.worker.in_(liars))
        with self.ledger.read() as connection:
            assert set(connection.execute(theirs).scalars()) <= {Audit.SUSPECT, Audit.PASSED}

    @rule(data=st.data())
    def an_audit_passes(self, data: st.DataObject) -> None:
        if self.digests:
            digest = data.draw(st.sampled_from(sorted(self.digests)))
            self.ledger.write(lambda c: pass_audit(c, digest))

    @invariant()
    def a_banned_host_has_nothing_unsettled_and_every_outcome_is_signed(self) -> None:
        with self.ledger.read() as connection:
            for row in connection.execute(
                select(results, hosts.c.banned).join(hosts, hosts.c.host == results.c.worker)
            ):
                assert not (row.banned and row.phase in LIVE)
                assert (row.admission is None) == (row.phase in LIVE)
                if row.admission is not None:
                    signed = msgspec.msgpack.decode(row.admission, type=Envelope)
                    assert signed.signer == ORGANIZER.host


Organizer.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
test_the_ledger_and_the_policy_agree = pytest.mark.slow(Organizer.TestCase)


class Larger(Organizer):
    """Of twenty assignments: credit waits for two more bundles of its host."""

    campaign = LARGER


Larger.TestCase.settings = Organizer.TestCase.settings
test_the_ledger_and_the_policy_agree_about_escrow = pytest.mark.slow(Larger.TestCase)
