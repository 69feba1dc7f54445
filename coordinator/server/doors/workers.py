"""Threads for what blocks (the ledger, disks, signatures), fed from `Turns`: who finds none free waits."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
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
        self._turns: Turns[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = Turns(waiting_max)
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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._ready:
            if self._closed or not self._turns.put(lane, address, (future, work, arguments)):
                raise Busy("too much is asked at once")
            self._ready.notify()
        return await future

    def _run(self) -> None:
        while True:
            with self._ready:
                while not len(self._turns) and not self._closed:
                    self._ready.wait()
                item = self._turns.take()
            if item is None:
                return
            future, work, arguments = item
            if not future.cancelled():  # who goes away while it is worked at hears nothing of it
                _do(future, work, arguments)
            del item, future, work, arguments  # of an upload, megabytes

    def close(self) -> None:
        """Do what waits, then end."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(5)


def _do(future: asyncio.Future[Any], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the thread; the loop is told once, and by nothing between: a second kind of future costs as much as a look at
    the ledger."""
    value, raised = None, None
    try:
        value = work(*arguments)
    except StopIteration as error:  # a future cannot hold it
        raised = RuntimeError(repr(error))
    except BaseException as error:
        raised = error
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        future.get_loop().call_soon_threadsafe(_settle, future, value, raised)


def _settle(future: asyncio.Future[Any], value: Any, raised: BaseException | None) -> None:
    if future.cancelled():
        return
    if raised is None:
        future.set_result(value)
    else:
        future.set_exception(raised)
