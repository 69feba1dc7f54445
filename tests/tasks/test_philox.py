"""Philox4x32-10: known answers, and streams that can be entered anywhere."""

import numpy as np
import pytest

from protocol.tasks.philox import permutation, philox, random_words, stream_key, uniform

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [  # Random123's kat_vectors: counter, key, result
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_random123_known_answers(counter, key, expected):
    assert tuple(philox(np.array([counter], np.uint64), key)[0].tolist()) == expected


def test_a_stream_can_be_entered_anywhere():
    key = stream_key("test", 7)
    whole = random_words(key, 100)
    for start, count in [(0, 1), (3, 5), (4, 4), (97, 3), (10, 0)]:
        assert np.array_equal(random_words(key, count, start), whole[start : start + count])
    far = random_words(key, 8, start=2**40 * 4 - 4)  # the block number passes 32 bits of the counter
    assert len(set(far.tolist())) == 8


def test_keys_are_told_apart_by_the_lengths_of_their_parts():
    keys = {
        stream_key("ab", "c"),
        stream_key("a", "bc"),
        stream_key("abc"),
        stream_key(b"abc", b""),
        stream_key("init", 1),
        stream_key("init", 2),
        stream_key("order", 1),
    }
    assert len(keys) == 7


def test_streams_are_pinned():
    key = stream_key("data", bytes(32))
    assert key == (0xA567F159, 0xA14362F0)
    assert random_words(key, 3).tolist() == [0x679C5AA4, 0x1CBAB9B4, 0xCDCCFAB1]
    assert stream_key("init", bytes(32), 2**40 + 1) == (0x5FEE13B0, 0xDCDC492C)


def test_uniform_is_24_exact_bits():
    u = uniform(stream_key("u"), 10_000)
    assert u.dtype == np.float32
    assert u.min() >= 0 and u.max() < 1
    assert np.array_equal(u * np.float32(2**24), np.floor(u * np.float32(2**24)))
    assert abs(u.mean() - 0.5) < 0.02


def test_permutation_holds_every_item_once():
    order = permutation(stream_key("p"), 1000)
    assert order.dtype == np.int32
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(order, np.arange(1000))
