"""A volunteer's computer: the real `PeerState`, and a shell that performs its actions in simulated time.

The shell decides nothing. A crash loses the state, the training process, and every call that is under way; the disk
and the key stay. What comes back to an earlier life is dropped.
"""

from collections.abc import Callable, Coroutine
from math import ceil, inf, nextafter
from typing import TYPE_CHECKING, Any

from peer.state import AssignmentId, CheckId, PeerState, actions, events
from protocol.swarm.claimer import Claims
from protocol.trust.allowance import Allowance
from protocol.trust.envelope import seal
from simulation.actors import calls
from simulation.actors.liars import Kind, Networks
from simulation.actors.trainer import CheckJob, Trainer
from simulation.environment.dht import EclipsedNode, Node
from simulation.environment.disk import Disk, DiskFull
from simulation.environment.kernel import Task, Timer, branch

if TYPE_CHECKING:
    from simulation.world import World

RESTART_SECONDS = 60.0  # after its program has ended with an error, a person starts it again
TRAINER_DEATHS_MAX = 5  # as `peer.trainer.process` has it


class Host:
    """`name` is short and for people; `host` is its key's name."""

    def __init__(self, world: "World", name: str, kind: Kind | None, speed: float, skew: float, rate: float):
        self.world, self.name, self.kind, self.speed, self.skew, self.rate = world, name, kind, speed, skew, rate
        self.phase = branch(world.options.seed, "phase", name).random()  # seconds: no two hosts wake together
        self.identity = world.identity(name)
        self.host = self.identity.host
        self.disk = Disk(world.truth)
        self.plans: dict[int, Networks] = {}  # a liar's inventions, the same in every life
        self.life = 0  # counts starts
        self.up = self.dead = self.left = False  # running; never to come back; ended by itself
        self.down_since = 0.0
        self.washes = 0  # new keys after a ban
        self.why_left = ""
        self.state: PeerState | None = None
        self.trainer: Trainer | None = None
        self.jobs: dict[CheckId, CheckJob] = {}
        self.node: Node | None = None
        self.claims: dict[str, Claims] = {}
        self.allowance: Allowance | None = None
        self._tasks: list[Task] = []
        self._wake: Timer | None = None
        self._deaths = 0
        self._away_seconds: float | None = None  # asked to stop, and to come back so long after it did

    # -- life and death -------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.up or self.dead or self.left:
            return
        self.life += 1
        self.up, self._away_seconds = True, None
        self.state = PeerState(self.world.settings)
        self.trainer, self.jobs, self.claims, self._tasks, self._deaths = None, {}, {}, [], 0
        self.allowance = None
        node = EclipsedNode if self.kind is Kind.ECLIPSED else Node
        self.node = node(self.world.dht, self.host, self.skew, self.rate)
        self.note("started")
        self.feed(events.Started((self.world.campaign.digest,)))
        self.feed(events.Tick(self.disk.free_bytes))

    def crash(self, torn: float) -> None:
        """As SIGKILL, or the power: nothing is said and nothing saved."""
        if not self.up:
            return
        self._end()
        if self.disk.crash(self.world.faults_rng, torn):
            self.world.counts["torn writes"] += 1
        self.note("crashed")

    def stop_for(self, seconds: float) -> None:
        """A person asks the program to end; `seconds` after it has, it is started again."""
        self._away_seconds = seconds
        self.feed(events.StopRequested())

    def _end(self) -> None:
        self.up, self.down_since = False, self.world.kernel.now
        if self.trainer is not None:
            self.trainer.stop()
        if self._wake is not None:
            self._wake.cancel()
        self.close()

    def close(self) -> None:
        """What waits in the DHT is given up."""
        if self.node is not None:
            self.node.dead = True
        for task in self._tasks:
            task.kill()

    def _wash(self) -> None:
        """A new key, and a disk on which nothing is left of the old one."""
        self.washes += 1
        self.identity = self.world.identity(f"{self.name} {self.washes}")
        self.host, self.disk, self.plans = self.identity.host, Disk(self.world.truth), {}
        self.world.by_host[self.host] = self

    def note(self, what: str) -> None:
        self.world.kernel.note(self.name, what)

    @property
    def accuses(self) -> bool:
        return self.kind is Kind.ACCUSER

    @property
    def lies_as(self) -> Kind | None:
        """Its kind, or None as long as a sleeper is honest."""
        if self.kind is not Kind.SLEEPER:
            return self.kind
        clean = self.world.organizer.ledger.host(self.host).clean_bundles
        return self.kind if clean >= self.world.options.sleep_bundles else None

    def holds(self, index: int) -> bool:
        """Whether its program knows of this assignment."""
        return self.state is not None and AssignmentId(self.world.campaign.digest, index) in self.state.held.items

    # -- the loop -------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.world.kernel.now * self.rate

    def feed(self, event: events.Event) -> None:
        """One event into the state, its actions out into the world."""
        state = self.state
        if not self.up or state is None:
            return
        out = state.handle(event, self.now())
        if self.world.validating:
            state.validate(self.now())
        for action in out:
            if self.up:
                self.perform(action)
        if self.up:
            self._sleep(state.next_wakeup())

    def _sleep(self, until: float) -> None:
        when = until / self.rate
        while when * self.rate < until:  # rounded down, it would wake before it is due, for ever
            when = nextafter(when, inf)
        grain = self.world.options.tick_seconds
        if grain and when < inf:
            when = ceil(when / grain) * grain + self.phase
        if self._wake is not None:
            if self._wake.when == when and not self._wake.over:
                return
            self._wake.cancel()
        if when < inf:
            self._wake = self.world.kernel.at(when, self._tick)

    def _tick(self) -> None:
        self.feed(events.Tick(self.disk.free_bytes))

    def in_this_life(self, call: Callable[..., Any]) -> Callable[..., None]:
        """`call`, unless the host has crashed or left in the meantime."""
        life = self.life

        def later(*arguments: Any) -> None:
            if self.up and self.life == life:
                call(*arguments)

        return later

    # -- actions --------------------------------------------------------------------------------------------------

    def perform(self, action: actions.Action) -> None:
        if isinstance(action, actions.CoordinatorCall):
            calls.begin(self, action)
        elif isinstance(action, actions.SwarmAction):
            self._swarm(action)
        elif isinstance(action, actions.TrainerAction):
            self._train(action)
        elif isinstance(action, actions.HomeAction):
            try:
                self._home(action)
            except DiskFull as error:
                failed = events.DiskFailed(action, str(error))
                self.world.kernel.after(0.0, self.in_this_life(self.feed), failed)
        elif isinstance(action, actions.Exit):
            self._exit(action.error)
        elif isinstance(action, actions.Say):
            self.note(action.text)
        else:
            raise AssertionError(f"no port for {action}")

    def _exit(self, error: str) -> None:
        self._end()
        self.why_left = error
        self.note(f"left: {error}")
        if self.kind is Kind.WHITEWASHER and self.world.organizer.ledger.host(self.host).banned:
            self._wash()
            self.world.kernel.after(RESTART_SECONDS, self.start)
        elif self.world.organizer.ledger.host(self.host).banned or (not error and self._away_seconds is None):
            self.left = True
        else:
            self.world.kernel.after(self._away_seconds or RESTART_SECONDS, self.start)

    def _train(self, action: actions.TrainerAction) -> None:
        if isinstance(action, actions.StartTrainer):
            self.trainer = Trainer(self, self.in_this_life(self.feed_heard))
            return
        trainer = self.trainer
        assert trainer is not None, "an action for a training process that was never started"
        if isinstance(action, actions.Train):
            trainer.train(action.assignment)
        elif isinstance(action, actions.DropTraining):
            trainer.drop(action.assignment)
        elif isinstance(action, actions.DoCheck):
            if self.kind is not Kind.SILENT:
                trainer.check(action.check)
        elif isinstance(action, actions.StopTrainer):
            trainer.stop()
            self.world.kernel.after(0.1, self.in_this_life(self.feed), events.TrainerStopped())

    def feed_heard(self, event: events.Event) -> None:
        if isinstance(event, events.TrainerDied):
            self._deaths += 1
            if self._deaths > TRAINER_DEATHS_MAX:
                event = events.TrainerFailed("the training process keeps dying")
        self.feed(event)

    def _home(self, action: actions.HomeAction) -> None:
        if isinstance(action, actions.CreateBundle):
            self.disk.create(self.world.campaign.assignment(action.assignment.index))
        elif isinstance(action, actions.RemoveBundle):
            self.disk.remove(action.assignment.index)
        elif isinstance(action, actions.ForgetReceipt):
            self.disk.bundles[action.assignment.index].receipt = None
        elif isinstance(action, actions.RemoveCheck):
            self.jobs.pop(action.check, None)
        elif isinstance(action, actions.SignResult):
            digest = self._sign(action.assignment, action.backend)
            self.world.kernel.after(0.0, self.in_this_life(self.feed), events.ResultSigned(action.assignment, digest))

    def _sign(self, assignment: AssignmentId, backend: str) -> bytes:
        bundle = self.disk.bundles[assignment.index]
        envelope = seal(self.identity, self.world.make_result(self, bundle, backend))
        self.disk.keep_result(assignment.index, envelope)
        self.world.handed_in[envelope.digest] = dict(bundle.paths)
        self.note(f"signed {assignment.index} {envelope.digest.hex()[:12]}")
        return envelope.digest

    # -- claims ---------------------------------------------------------------------------------------------------

    def _swarm(self, action: actions.SwarmAction) -> None:
        assert self.node is not None
        if isinstance(action, actions.FollowCampaign):
            campaign = self.world.campaign
            self.claims[action.campaign] = Claims(
                self.node,
                campaign.digest,
                campaign.assignment_count,
                self.world.organizer.host,
                settle=campaign.policy.settle_seconds,
                lease=self.world.rules.lease(campaign.policy.lease_seconds),
                allowance=self.allowance,
            )
        elif isinstance(action, actions.IgnoreHosts):
            for claims in self.claims.values():
                claims.banned = self.world.banned_set(action.hosts)
        elif isinstance(action, actions.UseAllowance):
            self.allowance = action.allowance
            for claims in self.claims.values():
                claims.allowance = action.allowance
        else:
            self._spawn(action)

    def _spawn(self, action: actions.SwarmAction) -> None:
        """Begin a coroutine of the real `Claims`; its result becomes an event."""
        work, event = self._work(action)

        def finished(value: Any) -> None:
            self.world.kernel.after(0.0, self.in_this_life(self.feed), event(value))

        self._tasks = [task for task in self._tasks if task.alive]
        self._tasks.append(Task(work, finished))

    def _work(self, action: actions.SwarmAction) -> tuple[Coroutine[Any, Any, Any], Callable[[Any], events.Event]]:
        if isinstance(action, actions.Claim):
            work = self.claims[action.campaign].claim(action.batch)
            return work, lambda won: events.Claimed(action, None if won is None else tuple(won))
        if isinstance(action, actions.ResumeClaims):
            return self.claims[action.campaign].resume(action.indices), lambda won: events.ClaimsResumed(
                action, tuple(won)
            )
        if isinstance(action, actions.RenewClaims):
            return self._renew(action.campaigns), lambda gone: events.ClaimsRenewed(action, gone)
        if isinstance(action, actions.ReleaseClaims):
            return self.claims[action.campaign].release(action.indices), lambda _: events.ClaimsReleased(action)
        raise AssertionError(f"no port for {action}")

    async def _renew(self, campaigns: tuple[str, ...]) -> tuple[AssignmentId, ...]:
        gone = []
        for campaign in campaigns:
            renewal = await self.claims[campaign].renew()
            gone += [AssignmentId(campaign, index) for index in (*renewal.lost, *renewal.done)]
        return tuple(gone)
