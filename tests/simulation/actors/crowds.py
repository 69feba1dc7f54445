"""Many keys in one program: what a single attacker does with keys that cost it nothing.

A crowd sees and reaches everything: its calls are never lost and take no time, the ledger is open to it, and inventing
work costs it nothing. It is stopped by rules alone, not by its means.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordinator.policy.phases import HELD
from protocol.recipes.campaign import Assignment
from protocol.swarm.claim_rules import indices_of
from protocol.swarm.records import CLAIM, Claim, claims_key, shard_count, shard_size
from protocol.trust.allowance import FRESH_ASSIGNMENTS, Allowance
from protocol.trust.commitment import Trace
from protocol.trust.envelope import Envelope, seal
from protocol.trust.messages import Answer, Result
from protocol.trust.spot_check import open_states, open_weights, spot_check
from protocol.trust.verdict import agreeing_answer, make_result
from simulation.actors.ledger import Row
from simulation.actors.liars import LIES, RING, Kind, Networks
from simulation.actors.organizer import Refusal
from simulation.environment.crypto import CheapIdentity
from simulation.environment.disk import StoredBundle
from simulation.environment.engine import HashEngine
from simulation.environment.kernel import branch
from simulation.environment.network import Away

if TYPE_CHECKING:
    from simulation.world import World

CLAIM_SECONDS = 90.0  # of a squatter's claims, which it renews
LEDGER_KEYS_MAX = 100_000  # a flooder has no more keys than this


@dataclass(eq=False)
class Puppet:
    """One of a crowd's keys: as much of a `Host` as checkers and tables look at."""

    name: str
    kind: Kind
    identity: CheapIdentity
    up: bool = True
    down_since: float = 0.0
    result: Envelope | None = None  # under way
    bundle: StoredBundle | None = None

    @property
    def host(self) -> str:
        return self.identity.host

    @property
    def accuses(self) -> bool:
        return False

    def holds(self, index: int) -> bool:
        """Whatever it claims, it would say."""
        return True


@dataclass(eq=False)
class Crowd:
    """`size` fresh keys that act together, every `seconds`, until the campaign is complete."""

    world: "World"
    kind: Kind
    size: int
    seconds: float = 10.0
    keys: list[Puppet] = field(default_factory=list)
    made: int = 0

    def start(self) -> None:
        self.rng = branch(self.world.options.seed, "crowd", self.kind)
        self.engine = HashEngine("crowd")
        self.fakes: dict[int, Networks] = {}  # by assignment: one invention for all
        for _ in range(self.size):
            self.new_key()
        self._turn()

    def new_key(self) -> Puppet:
        name = f"{self.kind.value}-{self.made:04}"
        self.made += 1
        puppet = Puppet(name, self.kind, self.world.identity(name))
        self.world.by_host[puppet.host] = puppet
        self.keys.append(puppet)
        return puppet

    def _turn(self) -> None:
        if self.world.over():
            return
        if self.world.organizer.up:
            self.act()
        self.world.kernel.after(self.seconds, self._turn)

    def act(self) -> None:
        """One turn of all keys."""
        raise NotImplementedError

    # -- what all of them can do ----------------------------------------------------------------------------------

    def ask(self, method: Any, *arguments: Any) -> Any:
        """The reply, or None when it was refused."""
        reply = method(*arguments)
        return None if isinstance(reply, (Away, Refusal)) else reply

    def targets(self) -> Iterator[Assignment]:
        """Assignments that nobody holds, in an order of its own."""
        ledger, campaign = self.world.organizer.ledger, self.world.campaign
        free = [
            index
            for index in range(campaign.assignment_count)
            if not any(row.phase in HELD for row in ledger.by_assignment.get(index, ()))
        ]
        self.rng.shuffle(free)
        return (campaign.assignment(index) for index in free)

    def fake(self, assignment: Assignment) -> Networks:
        """All of it invented, as a lazy host has it; the same for every key."""
        if assignment.index not in self.fakes:
            truth = self.world.truth
            honest = truth.boundaries(assignment)
            rng = branch(self.world.options.seed, "fake", assignment.index)
            self.fakes[assignment.index] = LIES[Kind.SYBIL](truth, assignment.recipe, honest, rng)
        return self.fakes[assignment.index]

    def hand_in(self, puppet: Puppet, assignment: Assignment, traces: list[Trace] | None = None) -> bool:
        bundle = StoredBundle(assignment, self.fake(assignment), self.world.truth)
        result: Result = make_result(assignment, traces or bundle.traces(), puppet.host, "none")
        envelope = seal(puppet.identity, result)
        self.world.handed_in[envelope.digest] = bundle.paths
        if self.ask(self.world.organizer.submit_result, envelope) is None:
            return False
        puppet.result, puppet.bundle = envelope, bundle
        return True


class Ring(Crowd):
    """Fresh keys that fake whole bundles and vouch for each other. A ban costs it one key."""

    def act(self) -> None:
        targets = self.targets()
        for puppet in list(self.keys):
            inbox = self.ask(self.world.organizer.poll, puppet.host, self._holding(puppet))
            if inbox is None:
                continue
            if inbox.banned:
                self.keys.remove(puppet)
                continue
            for digest, slot in [(request.result.digest, request.slot) for request in inbox.checks]:
                answer = self._answer(self.world.organizer.ledger.rows[digest], slot)
                self.ask(self.world.organizer.submit_answer, seal(puppet.identity, answer))
            if inbox.outcomes or inbox.unknown:
                puppet.result = puppet.bundle = None
            self._upload(puppet, inbox)
            if puppet.result is None:
                assignment = next(targets, None)
                if assignment is not None and self.hand_in(puppet, assignment):
                    for part in ("trace", "weights"):
                        self._put(puppet, part, puppet.bundle.part(part))

    def _holding(self, puppet: Puppet) -> tuple[bytes, ...]:
        return (puppet.result.digest,) if puppet.result is not None else ()

    def _upload(self, puppet: Puppet, inbox: Any) -> None:
        if puppet.bundle is None:
            return
        for _, part in inbox.missing:
            self._put(puppet, part, puppet.bundle.part(part))
        for request in inbox.openings:
            self._put(puppet, "states", puppet.bundle.states(request.cells))

    def _put(self, puppet: Puppet, part: str, data: bytes) -> None:
        assert puppet.result is not None
        self.ask(self.world.organizer.put_blob, puppet.host, puppet.result.digest, part, data)

    def _answer(self, row: Row, slot: int) -> Answer:
        """For a friend what it wants to hear; for others the truth, so that nothing is on the record."""
        task = row.tasks[slot]
        if self.world.by_host[row.worker].kind in RING:
            return agreeing_answer(row.digest, slot, task, row.traces, "friend")
        states, weights = self.world.organizer.get_blobs(row.digest, slot)
        recipe = row.assignment.recipe
        opened = open_states(recipe, states, task.opened)
        final = open_weights(recipe, weights, len(row.segments))
        return spot_check(self.engine, row.assignment, row.digest, slot, task, opened, final)


class Overtakers(Ring):
    """A ring that sees in the DHT what others train, and hands in a fake of it before they are done, with fresh keys
    again and again, until faults stop."""

    def start(self) -> None:
        self.seconds = 2.0
        super().start()

    def act(self) -> None:
        super().act()
        if self.world.kernel.now < self.world.options.fault_seconds:
            for _ in range(self.size - len(self.keys)):
                self.new_key()

    def targets(self) -> Iterator[Assignment]:
        ledger, campaign = self.world.organizer.ledger, self.world.campaign
        claimed = {
            index
            for key, _, kind, claim in self.world.dht.records()
            if kind == CLAIM
            for index in indices_of(int(key.rpartition("/")[2]), claim.claimed)
        }
        wanted = sorted(i for i in claimed if not any(row.stored.holds for row in ledger.by_assignment.get(i, ())))
        self.rng.shuffle(wanted)
        return (campaign.assignment(index) for index in wanted)


class Squatters(Crowd):
    """They claim everything in the DHT, commit to whatever is free, and open nothing."""

    def act(self) -> None:
        campaign, dht, now = self.world.campaign, self.world.dht, self.world.kernel.now
        total = campaign.assignment_count
        for puppet in list(self.keys):
            if self.world.organizer.ledger.host(puppet.host).banned:
                self.keys.remove(puppet)
                continue
            self.ask(self.world.organizer.poll, puppet.host, ())
            for shard in range(shard_count(total)):
                bits = (1 << min(FRESH_ASSIGNMENTS, shard_size(total, shard))) - 1  # of each shard: more than it may
                claim = Claim(bits, bits, Allowance(FRESH_ASSIGNMENTS, 1800, 1 << 39, bytes(64)))
                dht.store(puppet.host, claims_key(campaign.digest, shard), CLAIM, claim, now + CLAIM_SECONDS)
        if self.keys:
            for assignment in self.targets():
                self.hand_in(self.rng.choice(self.keys), assignment)


class Flood(Crowd):
    """`size` new keys each turn: a heartbeat and garbage from each, and then never again."""

    def start(self) -> None:
        self.per_turn, self.size = self.size, 0
        super().start()

    def act(self) -> None:
        if self.made >= LEDGER_KEYS_MAX or self.world.kernel.now > self.world.options.fault_seconds:
            return
        self.keys.clear()
        indices = range(self.world.campaign.assignment_count)
        for _ in range(self.per_turn):
            puppet = self.new_key()
            self.ask(self.world.organizer.poll, puppet.host, (self.rng.randbytes(32),))
            assignment = self.world.campaign.assignment(self.rng.choice(indices))
            if self.hand_in(puppet, assignment):
                assert puppet.result is not None
                self.ask(self.world.organizer.put_blob, puppet.host, puppet.result.digest, "trace", b"garbage")


CROWDS: dict[Kind, type[Crowd]] = {
    Kind.SYBIL: Ring,
    Kind.OVERTAKER: Overtakers,
    Kind.SQUATTER: Squatters,
    Kind.FLOODER: Flood,
}
