"""BOINC's ways: a quorum of two, and adaptive replication.

Sources: the BOINC wiki's "Validation and replication" (min_quorum = 2: an instance is sent to another host until two
agree) and "AdaptiveReplication" (a host with fewer than 10 consecutive valid results is not trusted; afterwards its
job is replicated with probability 1 / consecutive valid results; an invalid result sets the count to 0). Colluders
return the same bytes, so they agree with each other. Nothing is audited later, and no key is banned.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from simulation.rivals.cases import BUNDLE, Fake, Nature, Player
from simulation.rivals.contest import Score

QUORUM = 2
TRUSTED = 10  # consecutive valid results
INSTANCES_MAX = 8  # max_total_results: then the job begins again

TRUE, RINGS = "true", "the ring's"


@dataclass(eq=False, slots=True)
class Job:
    said: list[tuple[Player, str]] = field(default_factory=list)  # who returned what
    needs: int = QUORUM


class Quorum:
    """Two instances that agree."""

    def __init__(self, bundles: int, rng: Random):
        self.rng, self.score = rng, Score()
        self.jobs = [Job() for _ in range(bundles)]
        self.fresh = dict.fromkeys(range(bundles))  # of which no instance was sent yet
        self.waiting: dict[int, None] = {}  # with one instance or more, the oldest first
        self.open = bundles

    def complete(self) -> bool:
        return not self.open

    def work_for(self, player: Player) -> int | None:
        for bundle in self.waiting:
            if all(other is not player for other, _ in self.jobs[bundle].said):
                return bundle
        return next(iter(self.fresh), None)

    def friendly(self, player: Player, bundle: int) -> bool:
        return any(what == RINGS for _, what in self.jobs[bundle].said)

    def trusted(self, player: Player) -> bool:
        return True  # all are treated alike, so there is nothing to wait for

    def banned(self, player: Player) -> bool:
        return False

    def hand_in(self, player: Player, bundle: int, fake: Fake | None) -> None:
        job = self.jobs[bundle]
        if not job.said:
            del self.fresh[bundle]
            self.waiting[bundle] = None
            job.needs = self.replicas(player)
        what = TRUE if fake is None and player.nature is not Nature.ACCUSER else RINGS if player.ring else player.name
        job.said.append((player, what))
        if player.honest and sum(said == TRUE for _, said in job.said) > 1:
            self.score.extra += BUNDLE
        winner, votes = Counter(said for _, said in job.said).most_common(1)[0]
        if votes >= job.needs:
            self._validate(bundle, winner)
        elif len(job.said) >= INSTANCES_MAX:
            job.said.clear()
            del self.waiting[bundle]
            self.fresh[bundle] = None

    def _validate(self, bundle: int, winner: str) -> None:
        del self.waiting[bundle]
        self.open -= 1
        self.score.admitted += 1
        if winner != TRUE:
            self.score.fakes_admitted += 1
            self.score.fakes_alive += 1
        for player, what in self.jobs[bundle].said:
            self.judged(player, what == winner)
            if player.honest and what != winner:
                self.score.punished.add(player.name)

    def replicas(self, player: Player) -> int:
        """How many instances of a job must agree whose first is this player's."""
        return QUORUM

    def judged(self, player: Player, valid: bool) -> None:
        return

    def background(self) -> None:
        return

    def finish(self) -> None:
        return


class Adaptive(Quorum):
    """One instance of a trusted host's job, but for one in as many as it had valid in a row."""

    def __init__(self, bundles: int, rng: Random):
        super().__init__(bundles, rng)
        self.valid: Counter[str] = Counter()  # consecutive, by host

    def replicas(self, player: Player) -> int:
        return 1 if self.trusted(player) and self.rng.random() >= 1 / self.valid[player.name] else QUORUM

    def trusted(self, player: Player) -> bool:
        return self.valid[player.name] >= TRUSTED

    def judged(self, player: Player, valid: bool) -> None:
        self.valid[player.name] = self.valid[player.name] + 1 if valid else 0
