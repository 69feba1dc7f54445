"""Whose turn is next, when more is asked than can be done at once. No clock, no thread."""

import enum
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

FAIR_TURN = 8  # every so many turns the lowest lane goes first, so that none waits for ever


class Lane(enum.IntEnum):
    """Lower goes first."""

    JOIN = 0  # newcomers and the organizer's own commands
    STANDING = 1  # hosts that have earned something
    HOST = 2
    GUEST = 3  # who watches, or copies the zoo


class Turns(Generic[T]):
    """Lanes in order; within a lane each address in turn, so that a crowd at one address is one caller to the others;
    within an address whoever came first."""

    def __init__(self, waiting_max: int):
        self._waiting_max = waiting_max
        self._lanes: dict[Lane, OrderedDict[str, deque[T]]] = {lane: OrderedDict() for lane in Lane}
        self._count = self._taken = 0

    def __len__(self) -> int:
        return self._count

    def put(self, lane: Lane, address: str, item: T) -> bool:
        """False when there is no room to wait: for this lane, or for this address beside others."""
        line = self._lanes[lane].get(address, ())
        # Half of the room for one address, and a tenth kept for those who join.
        room = self._waiting_max if lane is Lane.JOIN else self._waiting_max * 9 // 10
        if self._count >= room or len(line) >= self._waiting_max // 2:
            return False
        self._lanes[lane].setdefault(address, deque()).append(item)
        self._count += 1
        return True

    def take(self) -> T | None:
        """The next one, or None when nobody waits."""
        self._taken += 1
        fair = self._taken % FAIR_TURN == 0
        for lane in sorted(self._lanes, reverse=fair):
            addresses = self._lanes[lane]
            if addresses:
                address, line = next(iter(addresses.items()))
                item = line.popleft()
                if line:
                    addresses.move_to_end(address)
                else:
                    del addresses[address]
                self._count -= 1
                return item
        return None
