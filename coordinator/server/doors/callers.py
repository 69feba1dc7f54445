"""Which calls are open, by connection and address, and which one goes when there are too many. For one thread."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from coordinator.server.doors.limits import OPEN_PER_ADDRESS, SILENT_MAX, SILENT_PER_ADDRESS, SILENT_PER_CONNECTION


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as the network says: gRPC's `ipv4:192.0.2.7:40123` taken apart."""

    connection: str
    address: str

    @classmethod
    def of(cls, peer: str) -> "Caller":
        plain = unquote(peer)
        _, _, rest = plain.partition(":")
        return cls(connection=plain, address=rest.rpartition(":")[0].strip("[]"))


class Callers:
    """Calls that have said nothing yet, the eldest first, and how many have spoken."""

    def __init__(
        self,
        per_connection: int = SILENT_PER_CONNECTION,
        per_address: int = SILENT_PER_ADDRESS,
        silent_max: int = SILENT_MAX,
        open_per_address: int = OPEN_PER_ADDRESS,
    ):
        self._limits = (per_connection, per_address, silent_max)
        self._open_per_address = open_per_address
        self._numbers = itertools.count()
        self._silent: dict[int, tuple[Caller, Callable[[], None]]] = {}
        self._by_connection: dict[str, dict[int, None]] = {}
        self._by_address: dict[str, dict[int, None]] = {}
        self._speaking: Counter[str] = Counter()

    def enter(self, caller: Caller, cut_off: Callable[[], None]) -> int:
        """A call has begun; its number. The eldest silent one of its kind goes when there are too many."""
        number = next(self._numbers)
        self._silent[number] = (caller, cut_off)
        connection = self._by_connection.setdefault(caller.connection, {})
        address = self._by_address.setdefault(caller.address, {})
        connection[number] = address[number] = None
        crowds = (connection, address, self._silent)
        for crowd, limit in zip(crowds, self._limits, strict=True):
            if len(crowd) > limit:
                # Of all that are silent the fullest address pays: the others did nothing.
                crowd = max(self._by_address.values(), key=len) if crowd is self._silent else crowd
                eldest = next(iter(crowd))
                _, cut = self._silent[eldest]
                self._forget(eldest)
                cut()
        return number

    def speaks(self, number: int, caller: Caller) -> bool:
        """Its first message is here; False when this address has too many calls under way."""
        self._forget(number)
        self._speaking[caller.address] += 1
        return self._speaking[caller.address] <= self._open_per_address

    def leave(self, number: int, caller: Caller, *, spoke: bool) -> None:
        """The call has ended, however."""
        self._forget(number)
        if spoke:
            self._speaking[caller.address] -= 1
            if not self._speaking[caller.address]:
                del self._speaking[caller.address]

    def silent(self) -> int:
        return len(self._silent)

    def _forget(self, number: int) -> None:
        found = self._silent.pop(number, None)
        if found is None:
            return
        for crowds, key in ((self._by_connection, found[0].connection), (self._by_address, found[0].address)):
            crowds[key].pop(number)
            if not crowds[key]:
                del crowds[key]
