"""What a host needs before a coordinator hears it: the organizer's time, and for a new key a stamp."""

import threading
import time
from collections.abc import Callable

from protocol.trust.stamp import PARTS, pay

SAY_SECONDS = 2.0  # a stamp that takes longer is explained
JITTER_SECONDS = 60.0  # of what we learn about his clock; he forgives as much
WAIT_SECONDS = 10.0  # how long a call waits for a stamp that is being paid: to come again later takes as long
STOP_SECONDS = 2.0


class OrganizersTime:
    """The organizer's clock as we know it, and never the same time twice: he hears a heartbeat once."""

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock, self._ahead, self._last = clock, 0.0, 0.0

    def learn(self, organizers: float) -> None:
        self._ahead = organizers - self._clock()

    @property
    def ahead(self) -> float:
        return self._ahead

    def now(self) -> float:
        """Later than before, unless the organizer's clock was set back."""
        now = self._clock() + self._ahead
        if abs(now - self._last) < JITTER_SECONDS:
            now = max(now, self._last + 1e-6)
        self._last = now
        return now


class StampPayer:
    """Does the work in a thread, once for each challenge."""

    def __init__(self, host: str, say: Callable[[str], None]):
        self._host, self._say = host, say
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._stamp = b""
        self._challenge = b""

    def begin(self, challenge: bytes, bits: int) -> None:
        """Nothing is to be paid for 0 bits."""
        self.stop()
        self._stopped, self._stamp, self._challenge = threading.Event(), b"", challenge
        if bits:
            self._thread = threading.Thread(target=self._pay, args=(challenge, bits, self._stopped), daemon=True)
            self._thread.start()

    def stamp(self) -> bytes | None:
        """What to send with a heartbeat: b"" when nothing was asked; None while it is not ready."""
        if self._thread is not None:
            self._thread.join(WAIT_SECONDS)
            if self._thread.is_alive():
                return None
        return self._stamp

    def used(self) -> None:
        """The coordinator has let us in."""
        if self._thread is None or not self._thread.is_alive():
            self._thread, self._stamp = None, b""

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def _pay(self, challenge: bytes, bits: int, stopped: threading.Event) -> None:
        began, said = time.monotonic(), False

        def go_on() -> bool:
            nonlocal said
            if not said and time.monotonic() - began > SAY_SECONDS:
                said = True
                self._say(f"a new key works for its first contact: about {PARTS << bits:,} hashes, a minute at most")
            return not stopped.is_set()

        proof = pay(challenge, self._host, bits, go_on)
        if proof is not None and not stopped.is_set():
            self._stamp = challenge + proof
