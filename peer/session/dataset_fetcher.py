"""Data sets from the coordinator to this disk: a big one takes minutes, so it has a thread of its own."""

import contextlib
import os
from collections.abc import Callable

from peer.session.client import Away, Client
from peer.state.actions import FetchDataset
from peer.state.events import DatasetFailed, DatasetReady, Event
from protocol.errors import Refused
from protocol.tasks.datasets import DATA_BYTES_MAX, HEADER, Shelf, check_file, read_header

FREE_BYTES_MIN = 256 * 1024 * 1024  # left on the disk for the work itself


class DatasetFetcher:
    """Fetches one at a time; when to try again is not decided here."""

    def __init__(self, shelf: Shelf, client: Client, free_bytes: Callable[[], int], say: Callable[[str], None]):
        self.shelf, self.client, self.free_bytes, self.say = shelf, client, free_bytes, say
        self._stopping = False

    def stop(self) -> None:
        """Ends a fetch in hand at its next bytes; what it has is kept, and the next fetch goes on from there."""
        self._stopping = True

    def perform(self, action: FetchDataset) -> Event:
        """Blocks until the data set is on the disk, checked, or cannot be had now."""
        digest = action.digest
        try:
            self._set_aside(digest)
            if self.shelf.ensure(digest) is not None:
                return DatasetReady(digest, fetched=False)
            self.fetch(digest)
            return DatasetReady(digest)
        except Away as error:
            return DatasetFailed(digest, away=True, detail=str(error))
        except Refused as error:
            return DatasetFailed(digest, away=False, detail=f"data set {digest[:16]} refused: {error}")
        except OSError as error:
            where = error.filename or self.shelf.path(digest)
            return DatasetFailed(digest, away=False, detail=f"{where}: cannot keep a data set: {error.strerror}")
        except ValueError as error:
            if self._stopping:  # the channel was closed under us
                return DatasetFailed(digest, away=True, detail=str(error))
            raise

    def _set_aside(self, digest: str) -> None:
        """A file that is not what its name says makes room for a good one."""
        path = self.shelf.find(digest)
        if path is not None:
            try:
                check_file(path, digest)
            except Refused as error:
                self.say(f"{path}: damaged ({error}); set aside, fetching it again")
                path.replace(path.with_name(f"{digest}.damaged"))

    def fetch(self, digest: str) -> None:
        """From where the last try ended. Raises Away, Refused (then it begins anew), OSError."""
        path = self.shelf.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{digest}.partial")
        with partial.open("ab+") as f:
            f.seek(0)
            head, got = f.read(HEADER.size), f.seek(0, os.SEEK_END)
            try:
                limit = read_header(head).length if got >= HEADER.size else DATA_BYTES_MAX
                for data in self.client.data(digest, got):
                    if self._stopping:
                        raise Away("we are leaving")
                    if len(head) < HEADER.size:
                        head = (head + data)[: HEADER.size]
                        limit = read_header(head).length if len(head) == HEADER.size else HEADER.size
                        if self.free_bytes() < limit + FREE_BYTES_MIN:
                            raise Refused("disk-space", f"{limit:,} bytes are wanted; make room on {path.parent}")
                    got += len(data)
                    if got > limit:
                        raise Refused("data-size", f"more than the {limit:,} bytes that its header says")
                    f.write(data)
            except Refused:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
        self.shelf.adopt(partial, digest)
