"""A network that is slow, loses, repeats and reorders, and falls apart into sides for a while.

Hosts are names. The organizer's server is one more of them. A message needs a latency of its sender and receiver; the
spread of latencies reorders. A call is a message there and a message back; whoever hears nothing gives up in time.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import log
from typing import Any

from simulation.environment.kernel import Kernel

CALL_SECONDS = 15.0  # as `peer.session.client` waits


@dataclass(frozen=True, slots=True)
class Away:
    """No answer: the other side is down, out of reach, or a message was lost. Whether the call did its work is open."""

    why: str = "no answer"


def _nothing() -> None:
    return


@dataclass
class Network:
    kernel: Kernel
    rng: random.Random
    latency_seconds: float = 0.05  # mean, one way
    loss: float = 0.0  # share of messages
    duplication: float = 0.0  # share of messages that arrive twice
    counts: Counter[str] = field(default_factory=Counter)
    _side: dict[str, int] = field(default_factory=dict)
    _slow: dict[str, float] = field(default_factory=dict)

    def side(self, name: str) -> int:
        return self._side.get(name, 0)

    def split(self, sides: Iterable[Iterable[str]]) -> None:
        """From now on only names of one side reach each other; who is not named is on side 0, the first."""
        self._side = {name: number for number, side in enumerate(sides) for name in side}

    def heal(self) -> None:
        self._side = {}

    def slow_down(self, name: str, factor: float) -> None:
        self._slow[name] = factor

    def reaches(self, sender: str, receiver: str) -> bool:
        return self.side(sender) == self.side(receiver)

    def calm(self) -> None:
        """Faults stop: nothing is lost or repeated any more. Latencies stay."""
        self.loss = self.duplication = 0.0
        self.heal()

    def delay(self, *names: str) -> float:
        """Seconds one way: half of the mean for sure, the rest with a long tail, so that messages overtake."""
        mean = self.latency_seconds
        if self._slow:
            mean *= max([self._slow.get(name, 1.0) for name in names])
        return mean * (0.5 - 0.5 * log(1.0 - self.rng.random()))

    def send(
        self,
        sender: str,
        receiver: str,
        deliver: Callable[..., object],
        arguments: tuple = (),
        lost: Callable[[], object] = _nothing,
    ) -> None:
        """Deliver once, twice or never; `lost` hears when it never will."""
        if not self.reaches(sender, receiver):
            self.counts["cut off"] += 1
            lost()
            return
        if self.loss and self.rng.random() < self.loss:
            self.counts["lost"] += 1
            lost()
            return
        self.kernel.after(self.delay(sender, receiver), self._arrive, sender, receiver, deliver, arguments, lost)
        if self.duplication and self.rng.random() < self.duplication:
            self.counts["repeated"] += 1
            late = 2 * self.delay(sender, receiver)
            self.kernel.after(late, self._arrive, sender, receiver, deliver, arguments, _nothing)

    def _arrive(
        self,
        sender: str,
        receiver: str,
        deliver: Callable[..., object],
        arguments: tuple,
        lost: Callable[[], object],
    ) -> None:
        if self.reaches(sender, receiver):  # or the network fell apart on the way
            deliver(*arguments)
        else:
            self.counts["cut off"] += 1
            lost()

    def call(
        self,
        caller: str,
        server: str,
        method: Callable[..., Any],
        arguments: tuple,
        answered: Callable[[Any], object],
    ) -> None:
        """`answered` hears once: what `method` returned, or Away. A server that is down returns Away itself."""
        _Call(self, caller, server, method, arguments, answered)


class _Call:
    """The first reply counts; a message that is lost on either way is noticed when the time is over."""

    __slots__ = ("answered", "arguments", "caller", "ended", "gives_up", "method", "network", "server")

    def __init__(
        self,
        network: Network,
        caller: str,
        server: str,
        method: Callable[..., Any],
        arguments: tuple,
        answered: Callable[[Any], object],
    ):
        self.network, self.caller, self.server = network, caller, server
        self.method, self.arguments, self.answered = method, arguments, answered
        self.ended = False
        self.gives_up = network.kernel.now + CALL_SECONDS
        network.send(caller, server, self.serve, (), self.lost)

    def serve(self) -> None:
        self.network.send(self.server, self.caller, self.end, (self.method(*self.arguments),), self.lost)

    def lost(self) -> None:
        self.network.kernel.at(self.gives_up, self.end, Away())

    def end(self, reply: object) -> None:
        if not self.ended:
            self.ended = True
            self.answered(reply)
