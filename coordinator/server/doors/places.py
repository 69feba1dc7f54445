"""Places for calls that hold memory. Who finds none waits; one address or key never has them all. For one loop."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from coordinator.server.doors.limits import PLACES_PER_KEY, WAITING_FOR_PLACE_MAX
from coordinator.server.handlers import Busy


class Places:
    def __init__(self, number: int, per_address: int | None = None, per_key: int = PLACES_PER_KEY):
        self.number, self.per_address, self.per_key = number, per_address or max(number // 2, 1), per_key
        self._taken = 0
        self._addresses: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], tuple[str, str]] = {}  # in the order of their coming

    @contextlib.asynccontextmanager
    async def take(self, address: str, key: str = "") -> AsyncIterator[None]:
        """A place, as soon as there is one for this caller. Raises Busy when too many wait already."""
        if self._has_one_for(address, key):
            self._seat(address, key)
        elif len(self._waiting) >= WAITING_FOR_PLACE_MAX:
            raise Busy(f"{WAITING_FOR_PLACE_MAX} transfers wait already")
        else:
            await self._wait(address, key)
        try:
            yield
        finally:
            self._free(address, key)

    async def _wait(self, address: str, key: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = (address, key)
        try:
            await turn  # whoever frees a place has seated us by then
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free(address, key)
            raise
        finally:
            self._waiting.pop(turn, None)

    def _has_one_for(self, address: str, key: str) -> bool:
        if self._taken >= self.number or self._addresses[address] >= self.per_address:
            return False
        return not key or self._keys[key] < self.per_key

    def _seat(self, address: str, key: str) -> None:
        self._taken += 1
        self._addresses[address] += 1
        if key:
            self._keys[key] += 1

    def _free(self, address: str, key: str) -> None:
        self._taken -= 1
        for counter, name in ((self._addresses, address), (self._keys, key)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]
        for turn, (other, other_key) in self._waiting.items():
            if not turn.done() and self._has_one_for(other, other_key):
                self._seat(other, other_key)
                turn.set_result(None)
                return
