"""Adversaries by name: what is changed in a seed's options so that they take part.

Each takes a number: keys of a crowd, or a share of the hosts in percent. Without one it has the usual number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from simulation.actors.liars import Kind
from simulation.options import Options, draw

HOSTS = 10  # beside an adversary, unless the command line says otherwise
ASSIGNMENTS_PER_HOST = 8  # so that standing can be earned, and lost


@dataclass(frozen=True, slots=True)
class Adversary:
    usual: int  # its number, unless another is said
    apply: Callable[[Options, int], Options]
    line: str  # what it does, with {n} for its number


def crowd(kind: Kind) -> Callable[[Options, int], Options]:
    """So many fresh keys, beside hosts that are all honest."""
    return lambda options, number: replace(options, crowds=((kind, number),), liars=())


def share(kind: Kind, ring: int = 0) -> Callable[[Options, int], Options]:
    """So many percent of the hosts, one at least; and a ring of fresh keys that they vouch for."""

    def apply(options: Options, number: int) -> Options:
        count = max(1, round(options.hosts * number / 100))
        return replace(options, liars=(kind,) * count, crowds=((Kind.SYBIL, ring),) if ring else ())

    return apply


ADVERSARIES = {
    "sybil": Adversary(
        60, crowd(Kind.SYBIL), "a ring of {n} fresh keys: each fakes whole bundles, all vouch for each other"
    ),
    "sleeper": Adversary(
        30, share(Kind.SLEEPER), "{n} % of the hosts earn standing, then fake whole bundles and vouch for each other"
    ),
    "colluder": Adversary(
        30, share(Kind.COLLUDER, 20), "{n} % of the hosts work honestly and vouch for what 20 fresh keys fake"
    ),
    "lazy": Adversary(20, share(Kind.LAZY), "{n} % of the hosts train only the last segment of each network"),
    "partial-2": Adversary(20, share(Kind.PARTIAL_2), "{n} % of the hosts invent 2 % of their segments"),
    "partial-10": Adversary(20, share(Kind.PARTIAL_10), "{n} % of the hosts invent 10 % of their segments"),
    "partial-50": Adversary(20, share(Kind.PARTIAL_50), "{n} % of the hosts invent 50 % of their segments"),
    "one-cell": Adversary(20, share(Kind.ONE_CELL), "{n} % of the hosts invent one segment of each bundle"),
    "copycat": Adversary(20, share(Kind.COPYCAT), "{n} % of the hosts hand in another's commitment"),
    "grinder": Adversary(
        20, share(Kind.GRINDER), "{n} % of the hosts fake half and sign until the last shown link would miss it"
    ),
    "whitewasher": Adversary(
        20, share(Kind.WHITEWASHER), "{n} % of the hosts fake everything, with a new key after each ban"
    ),
    "silent": Adversary(30, share(Kind.SILENT), "{n} % of the hosts never answer a check"),
    "accuser": Adversary(30, share(Kind.ACCUSER), "{n} % of the hosts call everything wrong that they check"),
    "overtaker": Adversary(
        5, crowd(Kind.OVERTAKER), "{n} fresh keys hand in a fake of whatever others are training, before they are done"
    ),
    "squatter": Adversary(5, crowd(Kind.SQUATTER), "{n} keys claim everything, commit to everything, and open nothing"),
    "flooder": Adversary(50, crowd(Kind.FLOODER), "{n} fresh keys every 10 s, each with a heartbeat and garbage"),
    "eclipser": Adversary(
        30, share(Kind.ECLIPSED), "{n} % of the hosts, honest ones, see of the DHT what an attacker shows them"
    ),
}


def parse(text: str) -> tuple[Adversary, int]:
    """`"sybil:1000"` -> the adversary and its number. Raises ValueError with what is possible."""
    name, colon, number = text.partition(":")
    if name not in ADVERSARIES or (colon and not (number.isdecimal() and 1 <= int(number) <= 100_000)):
        raise ValueError(f"no adversary {text!r}; write NAME or NAME:NUMBER with one of {', '.join(ADVERSARIES)}")
    adversary = ADVERSARIES[name]
    return adversary, int(number) if colon else adversary.usual


def against(text: str, seed: int, hosts: int | None = None, day: bool = False) -> Options:
    """A seed's options with an adversary in them."""
    adversary, number = parse(text)
    return adversary.apply(draw(seed, hosts or HOSTS, day, None if day else ASSIGNMENTS_PER_HOST), number)


def lines() -> list[str]:
    """One for each adversary."""
    return [f"{f'{name}:{a.usual}':<16}{a.line.format(n=a.usual)}" for name, a in ADVERSARIES.items()]
