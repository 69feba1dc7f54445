"""Who takes part in a contest: honest hosts, and attackers of one nature."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from protocol.trust.messages import Cell

NETWORKS, SEGMENTS = 64, 100  # of a bundle
BUNDLE = NETWORKS * SEGMENTS  # network-segments: one unit of work
HONEST = 10  # hosts, unless a case says otherwise
CHEAP = 0.01  # of a bundle: what it costs to invent one
BUNDLES = 1000  # of a campaign: every host can earn standing, and lose it

Fake = frozenset[Cell]


class Nature(enum.StrEnum):
    HONEST = "honest"
    FAKER = "faker"  # always fakes
    SLEEPER = "sleeper"  # fakes as soon, and as long, as it is trusted
    COLLUDER = "colluder"  # works honestly, and vouches for its ring
    ACCUSER = "accuser"  # works honestly, and calls everything wrong that it checks


@dataclass(eq=False, slots=True)
class Player:
    """A key. What it fakes is `share` of a bundle's cells."""

    name: str
    nature: Nature = Nature.HONEST
    share: float = 1.0
    ring: bool = False  # its friends are all others in the ring: they vouch for each other, and agree on their fakes
    reborn: bool = False  # comes back with a new key after each ban
    handed_in: int = 0  # bundles since its first fake, that one included

    @property
    def honest(self) -> bool:
        return self.nature is Nature.HONEST


@dataclass(frozen=True, slots=True)
class Case:
    """`attackers` are made anew for each run."""

    line: str
    attackers: Callable[[], list[Player]]
    honest: int = HONEST
    bundles: int = BUNDLES

    def players(self) -> list[Player]:
        return [Player(f"honest-{i:02}") for i in range(self.honest)] + self.attackers()


def several(
    count: int, nature: Nature, share: float = 1.0, *, ring: bool = False, reborn: bool = False
) -> list[Player]:
    return [Player(f"{nature}-{i:04}", nature, share, ring, reborn) for i in range(count)]


def _vouching(colluders: int, fakers: int, nature: Nature) -> list[Player]:
    return several(colluders, Nature.COLLUDER, ring=True) + several(fakers, nature, ring=True)


CASES = {
    "nobody": Case("10 honest hosts", list),
    "sybil:10": Case("a ring of 10 fresh keys", lambda: several(10, Nature.FAKER, ring=True)),
    "sybil:60": Case("a ring of 60 fresh keys", lambda: several(60, Nature.FAKER, ring=True)),
    "sybil:1000": Case("a ring of 1,000 fresh keys", lambda: several(1000, Nature.FAKER, ring=True)),
    "sleeper:10": Case("2 of 20 sleep, then fake", lambda: several(2, Nature.SLEEPER, ring=True), 18),
    "sleeper:30": Case("6 of 20 sleep, then fake", lambda: several(6, Nature.SLEEPER, ring=True), 14),
    "colluder:10": Case("2 of 20 vouch for 20 keys", lambda: _vouching(2, 20, Nature.FAKER), 18),
    "colluder:30": Case("6 of 20 vouch for a sleeper", lambda: _vouching(6, 1, Nature.SLEEPER), 13),
    "lazy": Case("2 that train nothing", lambda: several(2, Nature.FAKER)),
    "partial-2": Case("2 sleepers fake 2 %", lambda: several(2, Nature.SLEEPER, 0.02)),
    "partial-10": Case("2 sleepers fake 10 %", lambda: several(2, Nature.SLEEPER, 0.1)),
    "partial-50": Case("2 sleepers fake 50 %", lambda: several(2, Nature.SLEEPER, 0.5)),
    "whitewasher": Case("2, a new key after each ban", lambda: several(2, Nature.FAKER, reborn=True)),
    "accuser": Case("3 call everything wrong", lambda: several(3, Nature.ACCUSER)),
}
WHOLE = frozenset(Cell(network=n, segment=s) for n in range(NETWORKS) for s in range(SEGMENTS - 1))


def fake_of(player: Player, rng: Random) -> Fake:
    """The false cells of one bundle: all but the last of each network when all of it is faked."""
    if player.share >= 1.0:
        return WHOLE
    flat = rng.sample(range(BUNDLE), max(1, round(player.share * BUNDLE)))
    return frozenset(Cell(network=i // SEGMENTS, segment=i % SEGMENTS) for i in flat)


def work_of(player: Player, fake: Fake | None) -> float:
    """Units of honest work in one bundle."""
    return 1.0 if fake is None else max(CHEAP, 1.0 - player.share)
