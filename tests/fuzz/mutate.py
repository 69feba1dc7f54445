"""What happens to legal bytes: some are changed, moved, cut off; or the value inside of them is, and encoded again."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**31,
    2**63,
    -(2**63),
    2**64 - 1,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "\x00",
    "\x1b]0;title\x07",
    "\u202e",
    "../../etc/passwd",
    "/dev/zero",
    "x" * 5000,
    "{" * 5000,
    b"",
    b"\xff" * 100,
    [],
    {},
    [[]] * 100,
    {"kind": "gru"},
)
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
DEEP = 2000  # brackets in brackets
GROWN_MAX = 1 << 20  # bytes that a mutation may lead to


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random, *, values: bool = False) -> bytes:
    """One input: mostly a sample with a few changes, at times nothing but noise; or only other `values`."""
    if values:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            data = inside(data, CODECS[0], rng) or data
        return data[:GROWN_MAX]
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(200))
    if rng.random() < 0.5:
        for codec in rng.sample(CODECS, len(CODECS)):
            found = inside(data, codec, rng)
            if found is not None:
                return found[:GROWN_MAX]
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        data = rng.choice(CHANGES)(data, others, rng)
    return data[:GROWN_MAX]


def flip(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    if not data:
        return b"\x00"
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """A number of 1 to 8 bytes becomes an extreme one; headers are at the beginning, so that is hit more often."""
    width = rng.choice((1, 2, 4, 8))
    if len(data) < width:
        return data + bytes(width)
    most = len(data) - width + 1
    at = rng.randrange(most if rng.random() < 0.5 else min(most, 96))
    number = (rng.choice(NUMBERS) & ((1 << 8 * width) - 1)).to_bytes(width, rng.choice(("little", "big")))
    return data[:at] + number + data[at + width :]


def cut(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def remove(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randrange(1, 64) :]


def repeat(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at : at + rng.randrange(1, 64)] * rng.choice((2, 3, 100)) + data[at:]


def insert(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 16)) + data[at:]


def splice(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others) if others else data
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def deep(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Lists in lists, in msgpack and in JSON."""
    return rng.choice((b"\x91" * DEEP, b"[" * DEEP, b'{"a":' * DEEP, b"\x81\xa1a" * DEEP)) + data[: rng.randrange(9)]


CHANGES: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    flip,
    flip,
    overwrite,
    overwrite,
    cut,
    remove,
    repeat,
    insert,
    splice,
    deep,
)
CODECS = ((msgspec.msgpack.decode, msgspec.msgpack.encode), (msgspec.json.decode, msgspec.json.encode))


def inside(data: bytes, codec: tuple[Callable, Callable], rng: random.Random) -> bytes | None:
    """Decode, change one value somewhere in the tree, encode. None when the bytes are not of this codec."""
    decode, encode = codec
    try:
        value = decode(data)
        if not isinstance(value, (dict, list)):
            return None
        return encode(changed(value, rng))
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError, OverflowError):
        return None


def changed(value: Any, rng: random.Random) -> Any:
    """A copy of the tree with one change."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        what = rng.random()
        if what < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if what < 0.2:
            return value | {rng.choice(("extra", "kind", "", "\x1b")): rng.choice(HOSTILE)}
        return value | {key: changed(value[key], rng)}
    if isinstance(value, list) and value:
        at, what = rng.randrange(len(value)), rng.random()
        if what < 0.1:
            return value[:at] + value[at + 1 :]
        if what < 0.2:
            return value + [value[at]] * rng.choice((1, 300, 5000))
        return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    return near(value, rng) if rng.random() < 0.5 else rng.choice(HOSTILE)


def near(value: Any, rng: random.Random) -> Any:
    """Something of the same kind that is a little off."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 1000, -(2**31), 2**31))
    if isinstance(value, float):
        return value * rng.choice((-1.0, 1e-300, 1e300, 0.0))
    if isinstance(value, bytes):
        return rng.choice((value[:-1], value + value, value[1:], value[::-1]))
    if isinstance(value, str):
        return rng.choice((value[:-1], value + value, value[1:], value.upper(), value[::-1]))
    return value
