"""A stranger's fakes are the organizer's slowest work: nobody else's work may wait for them."""

from concurrent.futures import Future
from typing import Any

from coordinator.checking.own_checks import JOBS_MAX, OwnChecks
from protocol.trust.identity import Identity


class Line:
    """An executor that does nothing yet."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def submit(self, function: Any, job: Any) -> Future:
        self.waiting.append(job)
        return Future()


def test_slots_do_not_wait_for_the_replays_of_disputes():
    slots, disputes = Line(), Line()
    nothing: Any = None
    checks = OwnChecks(nothing, nothing, nothing, Identity.generate(), lambda: 0.0, slots, disputes, nothing)  # type: ignore[arg-type]
    for i in range(2 * JOBS_MAX):
        checks.ask(bytes([i]) * 32, 0, replay=True)
    checks.ask(b"h" * 32, 0, replay=False)
    checks.ask(b"h" * 32, 0, replay=False)  # twice is harmless
    assert slots.waiting == [(b"h" * 32, 0, False)]
    assert len(disputes.waiting) == 2 * JOBS_MAX
