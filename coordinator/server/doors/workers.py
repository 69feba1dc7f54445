"""Threads for what blocks (the ledger, disks, signatures), fed from `Turns`: who finds none free waits."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from coordinator.server.doors.limits import WAITING_MAX
from coordinator.server.doors.turns import Lane, Turns
from coordinator.server.handlers import Busy

T = TypeVar("T")

# One interpreter runs them, and most of the work is its own: more threads only change places more often. With four
# heartbeats waited ten times as long at 40 results a second as with two; a slow disk may hold up two of three.
WORKERS = 3


class Workers:
    def __init__(self, number: int = WORKERS, waiting_max: int = WAITING_MAX):
        self._turns: Turns[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = Turns(waiting_max)
        self._ready = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"door-{index}", daemon=True) for index in range(number)
        ]
        for thread in self._threads:
            thread.start()

    async def do(self, lane: Lane, address: str, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns or raises, when its turn has come. Raises Busy when there is no room to wait.

        A caller that goes away while it waits is left out.
        """
        future: Future[T] = Future()
        with self._ready:
            if self._closed or not self._turns.put(lane, address, (future, work, arguments)):
                raise Busy("too much is asked at once")
            self._ready.notify()
        return await asyncio.wrap_future(future)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not len(self._turns) and not self._closed:
                    self._ready.wait()
                item = self._turns.take()
            if item is None:
                return
            future, work, arguments = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value = work(*arguments)
            except StopIteration:
                future.set_exception(CancelledError())
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(value)
            del item, future, work, arguments  # of an upload, megabytes

    def close(self) -> None:
        """Do what waits, then end."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(5)
