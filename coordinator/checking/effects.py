"""What decisions do outside the ledger: the one place that deletes blobs, wakes the referee and writes log lines."""

from collections.abc import Callable, Iterable

from coordinator.checking.stores import Stores
from coordinator.policy.actions import Action, DeleteBlobs, News, NewsKind, Report, WakeReferee


class Effects:
    """Perform the actions of a decision once it is durable. Each may be repeated, or lost in a crash: the curator
    sweeps up at the next start."""

    def __init__(self, stores: Stores, wake_referee: Callable[[], None], on_news: Callable[[News], None] | None):
        self._stores, self._wake_referee, self._on_news = stores, wake_referee, on_news

    def perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case DeleteBlobs(result, parts):
                    self._stores.blobs.remove(result, *parts)
                    if not parts:
                        self._stores.cases.forget(result)
                case WakeReferee():
                    self._wake_referee()
                case Report(news):
                    if self._on_news is not None:
                        self._on_news(news)

    def report(self, kind: NewsKind, text: str, *, campaign: str = "", assignment: int = -1, host: str = "") -> None:
        """A line of which nothing follows."""
        self.perform([Report(News(kind=kind, text=text, campaign=campaign, assignment=assignment, host=host))])
