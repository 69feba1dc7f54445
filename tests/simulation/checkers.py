"""What must never be, and what must come to pass. Outside the code that they check, and knowing the truth.

Safety is checked whenever something happens: `Violation` says what was broken. Liveness is checked by `world`, after
the faults have stopped.
"""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from coordinator.policy.phases import HELD, Phase
from coordinator.policy.receive import Received, Reception
from coordinator.policy.settle import Settlement
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign
from protocol.swarm.claim_rules import indices_of
from protocol.swarm.records import CLAIM
from protocol.trust.evidence import Evidence, verify_evidence
from protocol.trust.roster import Roster
from simulation import chance
from simulation.actors.ledger import Row
from simulation.actors.liars import FAKERS, GUILTY, RING, Kind, bad_cells
from simulation.violation import Violation

if TYPE_CHECKING:
    from simulation.world import World

CLAIM_SLACK_SECONDS = 30.0  # beyond the lease: clocks, and the way through the network
FORGOTTEN_SECONDS = 1800.0  # a claim that its live owner neither works on nor lets go


class Verified(NamedTuple):
    """A bundle to a host's credit."""

    networks: int
    segments: int  # of all of them; where networks stop early these may be fewer than the networks


class Checkers:
    def __init__(self, world: "World"):
        self.world = world
        self.admitted: dict[int, bytes] = {}  # assignment -> result
        self.offered: dict[bytes, set[tuple[int, int]]] = {}  # fake result -> its bad cells
        self.chances: dict[bytes, float] = {}  # drawn fake -> its chance to escape
        self.escaped: list[bytes] = []  # admitted fakes
        self.taken: set[bytes] = set()  # results that were kept behind another, and taken up when it fell
        self.first_fake: dict[str, float] = {}  # worker -> when it handed in the first
        self.received_at: dict[bytes, float] = {}
        self.shown_at: dict[bytes, float] = {}  # beacon link -> when it was first shown
        self.credit: dict[str, int] = defaultdict(int)
        self.verified: dict[str, dict[bytes, Verified]] = defaultdict(dict)  # host -> bundles, by believed hosts
        self.work_to_stand = work_to_stand(world.campaign)
        self.believed: dict[bytes, frozenset[str]] = {}  # roster's root -> hosts on it
        self._bad: dict[int, set[tuple[int, int]]] = {}  # by the identity of what was handed in
        self._idle_claims: dict[tuple[str, int], float] = {}

    # -- what the organizer does ----------------------------------------------------------------------------------

    def received(self, reception: Reception, row: Row) -> None:
        if reception.what not in (Received.NEW, Received.KEPT):
            return
        world = self.world
        self.received_at[row.digest] = world.kernel.now
        host = world.by_host[row.worker]
        if not self._is_true(row):
            kind = host.kind
            if kind not in FAKERS:
                raise Violation("false result", f"{host.name} is honest and handed in what is not true")
            self.offered[row.digest] = self._bad_cells(row)
            self.first_fake.setdefault(row.worker, world.kernel.now)

    def _bad_cells(self, row: Row) -> set[tuple[int, int]]:
        """A ring hands in one invention under many names: what is wrong with it is found once."""
        networks = self.world.handed_in[row.digest]
        known = self._bad.get(id(networks))
        if known is None:
            known = self._bad[id(networks)] = bad_cells(self.world.truth, row.assignment.recipe, networks)
        return known

    def taken_up(self, row: Row) -> None:
        """Its receipt may be new: what challenges it comes later all the same."""
        self.taken.add(row.digest)

    def revealed(self, link: bytes) -> None:
        self.shown_at[link] = self.world.kernel.now

    def drawn(self, row: Row) -> None:
        """The challenge must be younger than the commitment, and standing is earned."""
        assert row.draw is not None
        if row.draw.standing and not self._stands(row.worker):
            raise Violation("standing unearned", self._name(row.worker), self._index(row))
        if row.digest in self.offered:
            policy = self.world.campaign.policy
            self.chances[row.digest] = chance.escapes(policy, row.draw.standing, row.segments, self.offered[row.digest])

    def listed(self, roster: Roster) -> None:
        """Only hosts with standing are drawn, each with the weight that it earned."""
        self.believed[roster.root] = frozenset(entry.host for entry in roster.entries)
        for entry in roster.entries:
            if not self._stands(entry.host):
                raise Violation("roster", f"{self._name(entry.host)} has no standing")
            if entry.weight != max(1, self.credit[entry.host]):
                raise Violation("roster", f"{self._name(entry.host)}: {entry.weight} for {self.credit[entry.host]}")

    def _stands(self, name: str) -> bool:
        """By our own account: bundles that took training, and the work in all, verified by who was believed then."""
        bundles, needed = self.verified[name].values(), self.world.campaign.policy.probation_bundles
        banned = self.world.organizer.ledger.host(name).banned
        trained = sum(bundle.segments >= bundle.networks for bundle in bundles)
        return not banned and trained >= needed and sum(b.segments for b in bundles) >= self.work_to_stand

    def _by_the_believed(self, row: Row) -> bool:
        """Each of its slots was answered by the organizer, or a host that was believed."""
        assert row.draw is not None
        believed = self._house | self.believed[row.draw.roster_root]
        return believed.issuperset(envelope.signer for _, envelope in row.answers.values())

    @property
    def _house(self) -> set[str]:
        return {self.world.organizer.host, *self.world.campaign.policy.named_checkers}

    def settled(self, settlement: Settlement) -> None:
        for outcome in settlement.outcomes:
            row = self.world.organizer.ledger.rows[outcome.result.digest]
            if outcome.phase is Phase.ADMITTED:
                self._admitted(row)
                continue
            if outcome.retracts:
                self._retracted(row)
            if outcome.fault and self.world.by_host[row.worker].kind not in FAKERS:
                raise Violation("honest host blamed", f"{self._name(row.worker)}: {outcome.reason}", self._index(row))
        if settlement.ban is not None and self.world.by_host[settlement.ban.host].kind not in GUILTY:
            raise Violation("honest host banned", f"{self._name(settlement.ban.host)}: {settlement.ban.why}")
        for accusation in settlement.false_accusations:
            if not self.world.by_host[accusation.host].accuses:
                raise Violation("honest checker blamed", f"{self._name(accusation.host)} in slot {accusation.slot}")

    def _admitted(self, row: Row) -> None:
        index = self._index(row)
        if index in self.admitted:
            raise Violation("admitted twice", f"assignment {index}", index)
        self.admitted[index] = row.digest
        self.credit[row.worker] += sum(row.segments)
        if self._by_the_believed(row):
            self.verified[row.worker][row.digest] = Verified(len(row.segments), sum(row.segments))
        self.world.counts["kept results that were admitted"] += row.digest in self.taken
        self._house_checked(row)
        if row.digest in self.offered or not self._is_true(row):
            self._false_admitted(row)
        if self.world.audits(index):
            self._audit(row)

    def _house_checked(self, row: Row) -> None:
        """Of a stranger's bundle the organizer, or somebody whom he named, replayed a part himself."""
        assert row.draw is not None
        if not row.draw.standing and row.answers[0][1].signer not in self._house:
            raise Violation(
                "no house slot", f"only strangers' friends checked {self._name(row.worker)}", self._index(row)
            )

    def _retracted(self, row: Row) -> None:
        """Free again; a fake that luck had let through is not alive any more."""
        if self.admitted.pop(self._index(row), None) != row.digest:
            raise Violation("retracted what was not admitted", f"assignment {self._index(row)}", self._index(row))
        self.credit[row.worker] -= sum(row.segments)
        self.verified[row.worker].pop(row.digest, None)
        if row.digest in self.offered:
            self.world.counts["fakes retracted"] += 1

    def _audit(self, row: Row) -> None:
        """As `zooswarm audit` does it, from the bytes that the zoo would hold."""
        try:
            verify_evidence(self._evidence(row), self.world.campaign, self.world.chains, self.world.organizer.host)
        except Refused as error:
            raise Violation("evidence", f"does not bear the admission out: {error}", self._index(row)) from None

    def _false_admitted(self, row: Row) -> None:
        """By bad luck, or by a broken rule?"""
        assert row.draw is not None
        index, bad = self._index(row), self.offered.get(row.digest, set())
        friends = self._friends(row)
        honest = [task for slot, task in enumerate(row.tasks) if slot not in friends]
        drawn = {(cell.network, cell.segment) for task in honest for cell in task.cells}
        if bad & drawn or not bad:
            raise Violation("false work admitted", f"although {len(bad & drawn)} false segments were replayed", index)
        self.escaped.append(row.digest)
        luck = chance.escapes(self.world.campaign.policy, row.draw.standing, row.segments, bad, friends)
        self.chances[row.digest] = max(luck, self.chances.get(row.digest, 0.0))
        self.world.counts["fakes that luck let through"] += 1
        probability = chance.at_least(len(self.escaped), list(self.chances.values()))
        if probability < chance.IMPOSSIBLE:
            raise Violation(
                "false work admitted",
                f"{len(self.escaped)} of {len(self.chances)} fakes escaped the draw; chance does that with"
                f" {probability:.0e}: it was not blind",
                index,
            )

    def _friends(self, row: Row) -> set[int]:
        """Slots that a friend of the worker answered."""
        if self.world.by_host[row.worker].kind not in RING:
            return set()
        ring = {name for name, host in self.world.by_host.items() if host.kind in RING}
        return {slot for slot, (_, envelope) in row.answers.items() if envelope.signer in ring}

    def _is_true(self, row: Row) -> bool:
        """The work itself, and that it is the signer's own."""
        world, truth = self.world, self.world.truth.boundaries(row.assignment)
        same = all(
            network.weights_digest == truth[network.seed][-1].state.params_digest for network in row.result.networks
        )
        if not same or world.by_host[row.worker].kind is Kind.COPYCAT:
            return False
        index = row.result.assignment
        return not world.audits(index) or row.result.commitment == world.true_commitment(row.worker, row.assignment)

    def _evidence(self, row: Row) -> Evidence:
        assert row.receipt is not None and row.draw_envelope is not None and row.admission is not None
        return Evidence(
            manifest=self.world.organizer.manifest,
            result=row.envelope,
            traces=row.blobs["trace"],
            receipt=row.receipt,
            draw=row.draw_envelope,
            answers=tuple(envelope for _, envelope in row.answers.values()),
            replays=tuple(envelope for _, envelope in row.replays.values()),
            admission=row.admission,
            seats={
                slot: seat
                for slot, (_, envelope) in row.answers.items()
                if (seat := row.seat(envelope.signer)) is not None
            },
        )

    # -- from time to time ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Everything that should hold at any moment."""
        self._nothing_lost()
        self._credit_conserved()
        self._claims_end()
        self._checks_spread()

    def _checks_spread(self) -> None:
        """No host has more in hand than the policy lets it have; the organizer has what nobody else may do."""
        in_hand = Counter(
            checker.host
            for row in self.world.organizer.ledger.live.values()
            if row.phase is Phase.CHECKING
            for slot, checker in row.checkers.items()
            if slot not in row.answers
        )
        for name, checks in in_hand.items():
            if name != self.world.organizer.host and checks > self.world.campaign.policy.checks_at_once:
                raise Violation("checks pile up", f"{self._name(name)} has {checks} in hand")

    def _nothing_lost(self) -> None:
        rows = self.world.organizer.ledger.rows
        for index, digest in self.admitted.items():
            if digest not in rows or rows[digest].phase is not Phase.ADMITTED:
                raise Violation("admitted work lost", f"assignment {index}", index)

    def _credit_conserved(self) -> None:
        for name, host in self.world.organizer.ledger.hosts.items():
            if host.credit != self.credit.get(name, 0):
                raise Violation("credit", f"{self._name(name)} has {host.credit}, earned {self.credit.get(name, 0)}")

    def _claims_end(self) -> None:
        """A claim ends with its host, and a living host does not hold what it does not work on."""
        now, world = self.world.kernel.now, self.world
        seen: dict[tuple[str, int], float] = {}
        for shard, host, claim in claims_in(world.dht.records(), world.campaign):
            owner = world.by_host[host]
            limit = world.campaign.policy.lease_seconds + CLAIM_SLACK_SECONDS
            if claim and not owner.up and now - owner.down_since > limit:
                away = now - owner.down_since
                raise Violation(
                    "claim held for ever", f"{owner.name} is gone for {away:.0f} s", indices_of(shard, claim)[0]
                )
            for index in indices_of(shard, claim):
                if owner.up and not owner.holds(index):
                    seen[host, index] = self._idle_claims.get((host, index), now)
                    if now - seen[host, index] > FORGOTTEN_SECONDS:
                        raise Violation("claim held for ever", f"{owner.name} forgot assignment {index}", index)
        self._idle_claims = seen

    def complete(self) -> list[str]:
        """What is still open; empty when the campaign is complete."""
        ledger = self.world.organizer.ledger
        return [
            f"assignment {index}: "
            + (
                ", ".join(f"{row.phase.value} ({self._name(row.worker)})" for row in rows if row.phase in HELD)
                or "free"
            )
            for index in range(self.world.campaign.assignment_count)
            if index not in self.admitted
            for rows in [ledger.by_assignment.get(index, [])]
        ]

    def _name(self, host: str) -> str:
        return self.world.by_host[host].name if host in self.world.by_host else host

    def _index(self, row: Row) -> int:
        return row.result.assignment


def work_to_stand(campaign: Campaign) -> int:
    """Network-segments of so many usual bundles, of which no more than the first ten of a network count."""
    bundles = [campaign.assignment(index) for index in range(campaign.assignment_count)]
    counted = sum(len(one.seeds) * min(10, one.recipe.segments_max) for one in bundles)
    return campaign.policy.probation_bundles * counted // len(bundles)


def claims_in(records: list, campaign: Campaign) -> list[tuple[int, str, int]]:
    """(shard, host, claimed bits) of all claim records."""
    return [(int(key.rpartition("/")[2]), host, value.claimed) for key, host, kind, value in records if kind == CLAIM]
