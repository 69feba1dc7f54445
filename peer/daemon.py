"""The volunteer's loop: what happens becomes an event, `PeerState` decides, the actions go to who performs them.

Nothing is decided here. Events come from any thread and are handled one after the other in this one.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from peer.progress import View
from peer.state import PeerState
from peer.state.actions import Action, CoordinatorCall, Exit, FetchDataset, HomeAction, Say, SwarmAction, TrainerAction
from peer.state.events import Event, Started, StopRequested, Tick
from peer.state.lending.pausing import Conditions
from peer.state.ports import ClaimBook, CoordinatorApi, DatasetSource, Trainer
from protocol.trust.allowance import Allowance

TICK_SECONDS = 1.0  # at most this long between two looks at the screen and at the disk's free space
KEPT_SECONDS = 2.0  # between two looks at what the directory holds, file by file


class Disk(Protocol):
    """The volunteer's directory."""

    def perform(self, action: HomeAction, /) -> Event | None: ...


class EventQueue:
    """From any thread to the loop. An exception in a thread is raised in the loop: no thread ends unheard."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()

    def emit(self, item: Event | BaseException) -> None:
        self._items.put(item)

    def wake(self) -> None:
        """Let `next` return: there is something else to look at. May be called by a signal's handler."""
        self._items.put(None)

    def next(self, seconds: float) -> Event | None:
        """None after so many seconds, or when woken."""
        try:
            item = self._items.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item


class Background:
    """One thread for one kind of blocking action; what the action ends in goes to the queue."""

    def __init__(self, name: str, perform: Callable[[Any], Event], events: EventQueue):
        self._perform, self._events, self._closed = perform, events, False
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()  # daemon: nobody waits for it at the end

    def __call__(self, action: Action) -> None:
        self._actions.put(action)

    def _work(self) -> None:
        while (action := self._actions.get()) is not None and not self._closed:
            try:
                self._events.emit(self._perform(action))
            except BaseException as error:
                self._events.emit(error)

    def close(self) -> None:
        self._closed = True
        self._actions.put(None)


class Daemon:
    def __init__(
        self,
        state: PeerState,
        events: EventQueue,
        *,
        trainer: Trainer,
        coordinator: CoordinatorApi,
        claims: ClaimBook,
        datasets: DatasetSource,
        disk: Disk,
        free_bytes: Callable[[], int],
        kept_bytes: Callable[[], int] = lambda: 0,
        conditions: Callable[[], Conditions] = Conditions,
        view: View,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.state, self.events, self.view, self.clock, self.free_bytes = state, events, view, clock, free_bytes
        self.kept_bytes, self.conditions = kept_bytes, conditions
        self.disk, self.error = disk, ""
        self._calls = Background("coordinator", coordinator.perform, events)
        self._fetches = Background("data", datasets.perform, events)
        self._performers: tuple[tuple[type[Action], Callable[..., None]], ...] = (
            (CoordinatorCall, self._calls),
            (FetchDataset, self._fetches),
            (SwarmAction, claims.perform),
            (TrainerAction, trainer.perform),
            (HomeAction, self._on_disk),
            (Say, lambda action: view.say(action.text)),
            (Exit, self._exit),
        )

    def run(self, campaigns: tuple[str, ...], stop: Callable[[], bool], allowance: Allowance | None = None) -> str:
        """Until the state exits; `stop()` asks it to. Returns "" or the one line that a person has to read."""
        try:
            self._handle(Started(campaigns, allowance))
            asked, kept = False, 0
            tick_at = look_at = show_at = self.clock()
            while not self.state.exited:
                event = self.events.next(min(tick_at, self.state.next_wakeup()) - self.clock())
                if event is not None:
                    self._handle(event)
                if (event is None or self.clock() >= show_at) and stop() and not asked and not self.state.exited:
                    asked = True
                    self._handle(StopRequested())
                if self.clock() >= min(tick_at, self.state.next_wakeup()) and not self.state.exited:
                    if self.clock() >= look_at:
                        kept, look_at = self.kept_bytes(), self.clock() + KEPT_SECONDS
                    self._handle(Tick(self.free_bytes(), kept, self.conditions()))
                    tick_at = self.clock() + TICK_SECONDS
                    if self.clock() >= show_at or self.state.exited:
                        self.view.refresh(self.clock(), self.state)
                        show_at = self.clock() + TICK_SECONDS
            return self.error
        finally:
            self._calls.close()
            self._fetches.close()

    def _handle(self, event: Event) -> None:
        for action in self.state.handle(event, self.clock()):
            next(perform for kind, perform in self._performers if isinstance(action, kind))(action)

    def _on_disk(self, action: HomeAction) -> None:
        event = self.disk.perform(action)
        if event is not None:
            self.events.emit(event)

    def _exit(self, action: Exit) -> None:
        self.error = action.error
