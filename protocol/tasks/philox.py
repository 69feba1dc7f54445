"""Seeded random streams with the same bits everywhere: Philox4x32-10 (Salmon et al. 2011), integers only.

A stream is a 64-bit key derived from what it is for; a value's counter is its position in the stream. So any part of a
stream is computed without the parts before it, and two streams never share state.
"""

import hashlib

import numpy as np

StreamKey = tuple[int, int]  # two 32-bit words

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF
DOMAIN = b"zooswarm/philox/1\0"


def stream_key(*parts: bytes | str | int) -> StreamKey:
    """The stream's key: the first 64 bits of SHA-256 over the parts, each with its length before it.

    Text is UTF-8, a non-negative integer is 8 bytes little-endian.
    """
    h = hashlib.sha256(DOMAIN)
    for part in parts:
        if isinstance(part, int):
            part = part.to_bytes(8, "little")
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little") + data)
    digest = h.digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def philox(counter: np.ndarray, key: StreamKey) -> np.ndarray:
    """Ten rounds of the bijection: counters (N, 4) of 32-bit words in uint64 -> (N, 4) uint32."""
    low, high = np.uint64(MASK), np.uint64(32)
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (p1 >> high) ^ c1 ^ np.uint64(k0), p1 & low, (p0 >> high) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return np.stack((c0, c1, c2, c3), axis=1).astype(np.uint32)


def random_words(key: StreamKey, count: int, start: int = 0) -> np.ndarray:
    """Words `start` to `start + count` of a stream, (count,) uint32; word w is word w % 4 of block w // 4."""
    first, last = start // 4, -(-(start + count) // 4)
    blocks = np.arange(first, last, dtype=np.uint64)
    counter = np.zeros((len(blocks), 4), np.uint64)
    counter[:, 0], counter[:, 1] = blocks & np.uint64(MASK), blocks >> np.uint64(32)
    return philox(counter, key).reshape(-1)[start - 4 * first :][:count]


def uniform(key: StreamKey, count: int, start: int = 0) -> np.ndarray:
    """Uniform in [0, 1), (count,) float32: the top 24 bits of each word times 2^-24, exactly."""
    return (random_words(key, count, start) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def permutation(key: StreamKey, count: int) -> np.ndarray:
    """A random order of `count` items, (count,) int32: the items sorted by their word, ties by item."""
    return np.argsort(random_words(key, count), kind="stable").astype(np.int32)
