"""Everything together: a seed in, what happened out."""

import contextlib
import gc
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.checking.beacon import Beacon
from coordinator.policy.inbox import CHECKS_MAX
from peer.state import AssignmentId, PeerSettings
from protocol.recipes.campaign import Assignment
from protocol.trust.challenge import BeaconChains
from protocol.trust.commitment import commitment, context, network_result
from protocol.trust.messages import Result
from simulation import aftermath
from simulation.actors.crowds import CROWDS, Puppet
from simulation.actors.grinding import grind
from simulation.actors.host import Host
from simulation.actors.ledger import Ledger
from simulation.actors.liars import HONEST, Kind, Networks, bad_cells
from simulation.actors.loads import Loads
from simulation.actors.organizer import Organizer
from simulation.checkers import Checkers
from simulation.environment.crypto import CheapIdentity, cheap_signatures
from simulation.environment.dht import Dht
from simulation.environment.disk import StoredBundle
from simulation.environment.engine import Truth, known_initial_states
from simulation.environment.kernel import Kernel, branch
from simulation.environment.network import Network
from simulation.faults import Faults
from simulation.options import CROWD, Options
from simulation.rules import Rules
from simulation.violation import Violation

LOOKS, LOOKS_OF_A_CROWD = 100, 20  # of the checkers, over the time in which faults happen
AUDITED_EVERY = 20  # in large campaigns: every so many admitted bundles are verified from their evidence
BANNED_SETS_MAX = 16
BEACON_LENGTH = 2**12  # a day has 2,880 epochs
LEAVE_SECONDS = 900.0  # after completion, for every honest host to leave, beside the checks that it has in hand


@dataclass(kw_only=True)
class Report:
    """What a run was."""

    options: Options
    violation: Violation | None
    seconds: float  # of simulated time
    events: int
    digest: str  # of the trace
    counts: Counter[str]
    lines: list[str]  # the last ones of the trace
    story: list[str] = field(default_factory=list)  # of the violation's assignment, as each holder tells it
    world: "World"


class World:
    """Hosts, organizer, network, DHT and truth of one run."""

    def __init__(self, options: Options, rules: Rules):
        self.options, self.rules, self.campaign = options, rules, options.campaign
        self.counts: Counter[str] = Counter()
        self.chains = BeaconChains()
        self.kernel = Kernel()
        self.network = Network(
            self.kernel,
            branch(options.seed, "network"),
            latency_seconds=options.latency_seconds,
            loss=options.loss,
            duplication=options.duplication,
        )
        self.dht = Dht(self.kernel, self.network, branch(options.seed, "dht"), failure=options.dht_failure)
        self.faults_rng = branch(options.seed, "torn")
        self.truth = Truth()
        self.settings = PeerSettings(
            threads=1,
            device="simulated",
            until_done=True,
            poll_seconds=options.poll_seconds,
            claim_pause_seconds=2 * options.poll_seconds,
        )
        self.presence_seconds = max(30.0, 3 * options.poll_seconds)
        self.large = self.campaign.assignment_count > 500
        self.validating = not self.large
        self.loads = Loads()
        self.checkers = Checkers(self)
        self.organizer = Organizer(
            self, Ledger(self.campaign), Beacon(branch(options.seed, "beacon").randbytes(32), BEACON_LENGTH)
        )
        self.handed_in: dict[bytes, Networks] = {}  # by result: what its worker says that it computed
        self.hosts = [self._host(i) for i in range(options.hosts)]
        self.crowds = [CROWDS[kind](self, kind, size) for kind, size in options.crowds]
        self.by_host: dict[str, Host | Puppet] = {host.host: host for host in self.hosts}
        self._banned_sets: dict[int, frozenset[str]] = {}
        self._commitments: dict[tuple[str, int], bytes] = {}

    def identity(self, name: str) -> CheapIdentity:
        return CheapIdentity(branch(self.options.seed, "key", name))

    def _host(self, number: int) -> Host:
        """The first ones are the liars: who is where in the DHT is decided by keys, not by numbers."""
        options, rng = self.options, branch(self.options.seed, "host", number)
        kind = options.liars[number] if number < len(options.liars) else None
        speed = rng.uniform(0.5, 2.0) * (0.1 if rng.random() < options.slow_hosts else 1.0)
        skew = rng.uniform(-1, 1) * options.skew_seconds
        rate = 1.0 + rng.uniform(-1, 1) * 1e-4 * bool(options.skew_seconds)
        host = Host(self, f"h{number:03}", kind, speed, skew, rate)
        if speed < 0.3:
            self.network.slow_down(host.host, 3.0)
        return host

    def may_die(self, host: Host) -> bool:
        """An honest host may be lost only while most of those that are left are honest."""
        honest = sum(1 for h in self.hosts if h.kind in HONEST and not h.dead)
        others = sum(1 for h in self.hosts if h.kind not in HONEST and not h.dead)
        return host.kind not in HONEST or honest - 1 > max(1, others)

    def banned_set(self, hosts: tuple[str, ...]) -> frozenset[str]:
        """One for all hosts that know of so many bans: bans are never taken back, so their number says which."""
        if len(hosts) not in self._banned_sets:
            if len(self._banned_sets) >= BANNED_SETS_MAX:
                self._banned_sets.clear()
            self._banned_sets[len(hosts)] = frozenset(hosts)
        return self._banned_sets[len(hosts)]

    def audits(self, index: int) -> bool:
        return not self.large or index % AUDITED_EVERY == 0

    # -- what hosts hand in ---------------------------------------------------------------------------------------

    def make_result(self, host: Host, bundle: StoredBundle, backend: str) -> Result:
        """The claim about a bundle: honestly, with another's name in it, or with a challenge in mind."""
        if host.kind is Kind.COPYCAT:
            victim = self.hosts[-1] if self.hosts[-1] is not host else self.hosts[0]
            return bundle.make_result(victim.host, backend)
        result = bundle.make_result(host.host, backend)
        if host.kind is Kind.GRINDER:
            return grind(host, result, bad_cells(self.truth, bundle.assignment.recipe, bundle.paths))
        return result

    def true_commitment(self, worker: str, assignment: Assignment) -> bytes:
        key = worker, assignment.index
        if key not in self._commitments:
            ctx = context(assignment.campaign, assignment.index, worker)
            paths = self.truth.boundaries(assignment).items()
            networks = [network_result(ctx, seed, self.truth.trace(path)) for seed, path in paths]
            self._commitments[key] = commitment(ctx, networks)
        return self._commitments[key]

    # -- running --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Raises Violation."""
        Faults(self).arrange()
        step = self.options.fault_seconds / (LOOKS if self.options.hosts < CROWD else LOOKS_OF_A_CROWD)
        while not self.over():
            if self.kernel.now >= self.options.limit_seconds:
                raise self._stuck()
            self.kernel.run(self.kernel.now + step)
            self.checkers.look()
        self._all_leave()

    def over(self) -> bool:
        ledger = self.organizer.ledger
        return ledger.state == "complete" and not ledger.owed

    def _stuck(self) -> Violation:
        open_ = self.checkers.complete()
        hours = (self.options.limit_seconds - self.options.fault_seconds) / 3600
        first = open_[0] if open_ else "all is admitted"
        index = int(first.split()[1].rstrip(":")) if open_ else None
        return Violation(
            "not complete", f"{len(open_)} assignments open {hours:.0f} h after the last fault; {first}", index
        )

    def _all_leave(self) -> None:
        """Nothing holds an honest host any more; then the last look."""
        self.checkers.look()
        self.kernel.at(self.kernel.now, Faults(self).end)
        cells = sum(sum(report.segments) for report in list(self.organizer.ledger.rows.values())[:1])
        check = cells * self.options.segment_seconds / min(host.speed for host in self.hosts)
        until = self.kernel.now + LEAVE_SECONDS + (CHECKS_MAX + 1) * check
        while self._staying() and self.kernel.now < until:
            self.kernel.run(self.kernel.now + 30.0)
        self.checkers.look()
        aftermath.check(self)
        if self._staying():
            names = ", ".join(self._staying())
            raise Violation("does not leave", f"{names}: the campaign is complete, and they stay")

    def _staying(self) -> list[str]:
        return [host.name for host in self.hosts if host.kind in HONEST and not host.left and not host.dead]

    def close(self) -> None:
        """Nobody waits for anything any more."""
        for host in self.hosts:
            host.close()

    def story(self, index: int) -> list[str]:
        """What happened to an assignment, as every host that had it tells it."""
        told = []
        for host in self.hosts:
            if host.state is not None:
                for entry in host.state.story(AssignmentId(self.campaign.digest, index)):
                    told.append((entry.at / host.rate, f"{host.name} {entry.text}"))
        return [f"{at:12.3f} {text}" for at, text in sorted(told)]


def simulate(options: Options, rules: Rules | None = None) -> Report:
    """One run from beginning to end, or to its first violation. A function of its arguments alone."""
    rules = rules or Rules()
    with cheap_signatures(), known_initial_states(), rules.in_force(), few_collections(options.hosts >= CROWD):
        world = World(options, rules)
        violation = None
        try:
            world.run()
        except Violation as found:
            violation = found
            world.kernel.note("checker", str(found))
        except Exception as error:  # of the code under test, or of ours: either way this seed shows it
            violation = Violation("exception", _told(error))
            world.kernel.note("checker", str(violation))
        world.close()
    index = violation.assignment if violation is not None else None
    return Report(
        options=options,
        violation=violation,
        seconds=world.kernel.now,
        events=world.kernel.events,
        digest=world.kernel.trace.digest,
        counts=world.counts,
        lines=list(world.kernel.trace.lines),
        story=world.story(index) if index is not None else [],
        world=world,
    )


@contextlib.contextmanager
def few_collections(crowd: bool) -> Iterator[None]:
    """A crowd is millions of objects that stay: to look through all of them for cycles takes a third of the time."""
    before = gc.get_threshold()
    if crowd:
        gc.set_threshold(1_000_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _told(error: Exception) -> str:
    """The error and where it was raised, without anything that differs between machines."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    way = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return f"{type(error).__name__}: {error} ({way})"
