"""One target a parser: what reads the bytes, and legal samples to begin from.

A new kind of signed message, and a new record of the DHT, is a target as soon as its class exists. A parser of another
kind is added to one of the lists, with its samples; `tests/fuzz/test_fuzz.py` says what must be here.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from fuzz.values import encoded
from protocol.canonical import NOT_DECODABLE
from protocol.errors import Refused, UsageError

ALLOWED = (Refused, UsageError)
SAMPLES = 8  # of a drawn type


@dataclass(frozen=True, kw_only=True)
class Target:
    """`parse` may return anything, or raise one of ALLOWED; `share`: how many turns of a round it gets."""

    name: str
    parse: Callable[[bytes], object]
    samples: tuple[bytes, ...]
    share: int = 1
    values: bool = False  # changes are to values of the sample, not to its bytes: what it takes is never undecodable
    seconds: float = 1.0  # of processor time for one input, at most


def subclasses(base: type) -> Iterator[type]:
    for kind in base.__subclasses__():
        yield kind
        yield from subclasses(kind)


def drawn(kind: Any, count: int = SAMPLES) -> tuple[bytes, ...]:
    return tuple(encoded(kind, random.Random(f"{kind} {i}")) for i in range(count))


def decoded_as(kind: Any) -> Callable[[bytes], object]:
    """A part of a message that travels as bytes inside another one, read as its reader reads it."""

    def parse(data: bytes) -> object:
        try:
            return msgspec.msgpack.decode(data, type=kind)
        except NOT_DECODABLE as error:
            raise Refused("schema", str(error)) from None

    return parse


@cache
def targets() -> tuple[Target, ...]:
    """All of them, in a fixed order."""
    from fuzz.file_targets import file_targets
    from fuzz.footer_targets import footer_targets
    from fuzz.judged_targets import judged_targets
    from fuzz.message_targets import message_targets, record_targets
    from fuzz.text_targets import text_targets
    from fuzz.zoo_targets import zoo_targets

    parsers = [*message_targets(), *record_targets(), *text_targets(), *file_targets(), *zoo_targets()]
    found = [*parsers, *footer_targets(), *judged_targets()]
    assert len({target.name for target in found}) == len(found), "two targets of one name"
    return tuple(found)
