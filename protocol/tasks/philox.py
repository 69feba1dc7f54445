"""Seeded random streams with the same bits everywhere: Philox4x32-10 (Salmon et al. 2011), integers only.

A stream is a 64-bit key derived from what it is for; a value's counter is its position in the stream. So any part of a
stream is computed without the parts before it, and two streams never share state.
"""

import hashlib
import sys
from collections.abc import Sequence

import numpy as np

StreamKey = tuple[int, int]  # two 32-bit words

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF
DOMAIN = b"zooswarm/philox/1\0"
EIGHT = (8).to_bytes(8, "little")


def stream_key(*parts: bytes | str | int) -> StreamKey:
    """The stream's key: the first 64 bits of SHA-256 over the parts, each with its length before it.

    Text is UTF-8, a non-negative integer is 8 bytes little-endian.
    """
    digest = hashlib.sha256(DOMAIN + b"".join(map(_with_length, parts))).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def stream_keys(*parts: bytes | str | int, numbers: range) -> bytes:
    """The keys of streams that differ in their last part, a number: 8 bytes each, two words in this machine's order."""
    begun = hashlib.sha256(DOMAIN + b"".join(map(_with_length, parts)))
    keys = []
    for number in numbers:
        whole = begun.copy()
        whole.update(EIGHT + number.to_bytes(8, "little"))
        keys.append(whole.digest()[:8])
    joined = b"".join(keys)
    return joined if sys.byteorder == "little" else np.frombuffer(joined, "<u4").astype(np.uint32).tobytes()


def _with_length(part: bytes | str | int) -> bytes:
    if isinstance(part, int):
        part = part.to_bytes(8, "little")
    data = part.encode() if isinstance(part, str) else part
    return len(data).to_bytes(8, "little") + data


def philox(counter: np.ndarray, key: StreamKey) -> np.ndarray:
    """Ten rounds of the bijection: counters (N, 4) of 32-bit words in uint64 -> (N, 4) uint32."""
    return _rounds(counter, [key])[0]


def _rounds(counter: np.ndarray, keys: Sequence[StreamKey]) -> np.ndarray:
    """The same under each of K keys: (K, N, 4) uint32. Words 0 and 2 go together, and so do 1 and 3."""
    low, high, multipliers = np.uint64(MASK), np.uint64(32), np.array(MULTIPLIERS, np.uint64)[:, None, None]
    even, odd = (np.ascontiguousarray(counter.T[first::2], np.uint64)[:, None] for first in (0, 1))  # (2, 1, N)
    words, weyl = np.array(keys, np.uint64).T[:, :, None], np.array(WEYL, np.uint64)[:, None, None]
    for _ in range(ROUNDS):
        product = (even * multipliers)[::-1]
        even, odd = (product >> high) ^ odd ^ words, product & low
        words = (words + weyl) & low
    return np.stack((even[0], odd[0], even[1], odd[1]), axis=-1).astype(np.uint32)


def random_words(key: StreamKey, count: int, start: int = 0) -> np.ndarray:
    """Words `start` to `start + count` of a stream, (count,) uint32; word w is word w % 4 of block w // 4."""
    return words_of_each([key], count, start)[0]


def words_of_each(keys: Sequence[StreamKey], count: int, start: int = 0) -> np.ndarray:
    """`random_words` of K streams at once, (K, count) uint32."""
    first, last = start // 4, -(-(start + count) // 4)
    blocks = np.arange(first, last, dtype=np.uint64)
    counter = np.zeros((len(blocks), 4), np.uint64)
    counter[:, 0], counter[:, 1] = blocks & np.uint64(MASK), blocks >> np.uint64(32)
    return _rounds(counter, keys).reshape(len(keys), -1)[:, start - 4 * first :][:, :count]


def uniform(key: StreamKey, count: int, start: int = 0) -> np.ndarray:
    """Uniform in [0, 1), (count,) float32: the top 24 bits of each word times 2^-24, exactly."""
    return uniform_of_each([key], count, start)[0]


def uniform_of_each(keys: Sequence[StreamKey], count: int, start: int = 0) -> np.ndarray:
    """`uniform` of K streams at once, (K, count) float32."""
    return (words_of_each(keys, count, start) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def permutation(key: StreamKey, count: int) -> np.ndarray:
    """A random order of `count` items, (count,) int32: the items sorted by their word, ties by item."""
    return np.argsort(random_words(key, count), kind="stable").astype(np.int32)
