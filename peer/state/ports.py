"""The four parts of the world that a volunteer needs, as the daemon sees them; real ones and doubles pass one suite.

Whoever performs an action answers it with one of the events that the action names, exactly once, unless the program
ends first. Nothing here is called by `PeerState`.
"""

from collections.abc import Callable
from typing import Protocol

from peer.state.actions import CoordinatorCall, FetchDataset, SwarmAction, TrainerAction
from peer.state.events import Event

Emit = Callable[[Event], None]  # may be called from any thread


class Trainer(Protocol):
    """The training process. Returns at once; what it says later goes to the Emit that it was made with."""

    def perform(self, action: TrainerAction, /) -> None: ...


class CoordinatorApi(Protocol):
    """One coordinator. Blocks until the call ends, in whatever way."""

    def perform(self, action: CoordinatorCall, /) -> Event: ...


class ClaimBook(Protocol):
    """Our claims in the swarm. Returns at once and answers later."""

    def perform(self, action: SwarmAction, /) -> None: ...


class DatasetSource(Protocol):
    """Data sets on disk. Blocks until the data set is here, or is not."""

    def perform(self, action: FetchDataset, /) -> Event: ...
