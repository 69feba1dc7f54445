"""One run: players hand in bundles, in an order that chance decides, until the campaign is complete and audited."""

from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from simulation.rivals.cases import BUNDLE, Case, Fake, Nature, Player, fake_of, work_of

TURNS_MAX = 100_000  # a campaign that is not complete by then will never be


@dataclass(kw_only=True)
class Score:
    """What came of a run. Work is in network-segments unless it says units."""

    admitted: int = 0  # bundles that stand at the end
    fakes_admitted: int = 0  # ever
    fakes_alive: int = 0  # at the end, after all audits
    extra: float = 0.0  # segments computed by honest hosts and the organizer beside the first true copy of a bundle
    attackers_units: float = 0.0  # of honest work that the attackers spent
    to_conviction: list[int] = field(default_factory=list)  # bundles of each convicted key from its first fake on
    punished: set[str] = field(default_factory=set)  # honest hosts
    turns: int = 0
    complete: bool = False

    @property
    def extra_percent(self) -> float:
        return 100 * self.extra / (BUNDLE * max(1, self.admitted - self.fakes_alive))

    @property
    def fakes_per_unit(self) -> float:
        return self.fakes_admitted / self.attackers_units if self.attackers_units else 0.0


class Way(Protocol):
    """A way to trust strangers. `score` is filled as it goes; `cost` of attackers is counted by the contest."""

    score: Score

    def complete(self) -> bool: ...
    def work_for(self, player: Player) -> int | None: ...  # a bundle that it may work on
    def friendly(self, player: Player, bundle: int) -> bool: ...  # whether its ring has faked this one already
    def trusted(self, player: Player) -> bool: ...  # whether a sleeper would dare
    def banned(self, player: Player) -> bool: ...
    def hand_in(self, player: Player, bundle: int, fake: Fake | None) -> None: ...
    def background(self) -> None: ...  # what the organizer does by himself between two turns
    def finish(self) -> None: ...


def run(case: Case, way: Way, rng: Random) -> Score:
    """Until all is admitted and audited."""
    active = case.players()
    score = way.score
    while active and score.turns < TURNS_MAX:
        if way.complete():
            way.background()
            if way.complete():
                break
            continue
        score.turns += 1
        at = rng.randrange(len(active))
        player = active[at]
        bundle = way.work_for(player)
        if bundle is not None:
            turn(way, player, bundle, rng)
        if way.banned(player):
            active[at] = active[-1]
            active.pop()
            if player.reborn:
                name = f"{player.name.partition('+')[0]}+{score.turns}"
                active.append(Player(name, player.nature, player.share, player.ring, True))
        way.background()
    way.finish()
    score.complete = way.complete()
    return score


def turn(way: Way, player: Player, bundle: int, rng: Random) -> None:
    """One bundle of one player."""
    friendly = player.ring and way.friendly(player, bundle)
    dares = player.nature is Nature.FAKER or (player.nature is Nature.SLEEPER and way.trusted(player))
    fake = fake_of(player, rng) if friendly or dares else None
    if fake is not None or player.handed_in:
        player.handed_in += 1
    if not player.honest:
        way.score.attackers_units += work_of(player, fake)
    way.hand_in(player, bundle, fake)
