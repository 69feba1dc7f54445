"""The roster against a list that is searched from end to end, and every forged path that we could think of."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.trust.roster import EMPTY_ROOT, TOTAL_MAX, WEIGHT_MAX, Entry, Roster, RosterPath, check_path


def name(i: int) -> str:
    return f"{i:052d}"


entries = st.lists(
    st.tuples(st.integers(1, 50) | st.integers(1, WEIGHT_MAX), st.sampled_from((b"", b"prefix-1", b"prefix-2"))),
    min_size=1,
    max_size=40,
).map(lambda pairs: [Entry(host=name(7919 * i % 41), weight=w, tag=tag) for i, (w, tag) in enumerate(pairs)])


def holder_of(listed: list[Entry], point: int) -> Entry:
    """The naive way: one after another, by name."""
    for entry in sorted(listed, key=lambda entry: entry.host):
        if point < entry.weight:
            return entry
        point -= entry.weight
    raise AssertionError("past the end")


@given(listed=entries, share=st.floats(0, 1, exclude_max=True))
def test_a_point_is_its_holders_and_the_path_proves_it_to_nobody_else(listed, share):
    roster = Roster(reversed(listed))
    assert roster.count == len(listed) and roster.total == sum(entry.weight for entry in listed)
    point = min(int(share * roster.total), roster.total - 1)
    place = roster.holder(point)
    entry, path = roster.entries[place], roster.path(place)
    assert entry == holder_of(listed, point)
    check_path(roster.root, roster.total, roster.count, entry, path, point)
    end = sum(e.weight for e in roster.entries[: place + 1])
    for outside in (end, end - entry.weight - 1):
        with pytest.raises(Refused):
            check_path(roster.root, roster.total, roster.count, entry, path, outside)


@settings(max_examples=300)
@given(listed=entries, data=st.data())
def test_forged_paths_are_refused(listed, data):
    """Another weight, tag, host or place; a sum moved, a sibling left out, added or changed; another total or count."""
    roster = Roster(listed)
    place = data.draw(st.integers(0, roster.count - 1))
    entry, path = roster.entries[place], roster.path(place)
    first = sum(e.weight for e in roster.entries[:place])
    lies: list[tuple] = [
        (Entry(host=entry.host, weight=entry.weight + 1, tag=entry.tag), path, 0, 0),
        (Entry(host=entry.host, weight=entry.weight, tag=b"elsewher"), path, 0, 0),
        (Entry(host=name(99), weight=entry.weight, tag=entry.tag), path, 0, 0),
        (entry, path, 1, 0),
        (entry, path, 0, place - roster.count),
        (entry, RosterPath(index=path.index, siblings=(*path.siblings, (bytes(32), 1))), 0, 0),
    ]
    if path.siblings:
        at = data.draw(st.integers(0, len(path.siblings) - 1))
        digest, weight = path.siblings[at]
        for sibling in ((bytes(32), weight), (digest, weight + 1), (digest, TOTAL_MAX + 1), (digest, 0)):
            siblings = (*path.siblings[:at], sibling, *path.siblings[at + 1 :])
            lies.append((entry, RosterPath(index=path.index, siblings=siblings), 0, 0))
        lies.append((entry, RosterPath(index=path.index, siblings=path.siblings[:-1]), 0, 0))
    for lie, forged, more, fewer in lies:
        with pytest.raises(Refused):
            check_path(roster.root, roster.total + more, roster.count + fewer, lie, forged, first)


def test_an_empty_roster_seats_nobody_and_one_host_holds_everything():
    empty = Roster(())
    assert (empty.root, empty.total, empty.count) == (EMPTY_ROOT, 0, 0)
    one = Entry(host=name(1), weight=5)
    roster = Roster([one])
    check_path(roster.root, 5, 1, one, roster.path(0), 4)
    with pytest.raises(Refused):
        check_path(EMPTY_ROOT, 0, 0, one, roster.path(0), 0)


def test_ten_thousand_hosts_take_less_than_a_tenth_of_a_second():
    listed = [Entry(host=name(i), weight=i + 1, tag=i.to_bytes(8, "little")) for i in range(10_000)]
    roster, times = Roster(()), []
    for _ in range(5):
        began = time.process_time()
        roster = Roster(listed)
        times.append(time.process_time() - began)
    assert roster.count == 10_000 and len(roster.path(9_999).siblings) <= 14
    assert min(times) < 0.1, times
