"""The data sets that this host has, and the thread that fetches the others: a big one takes minutes, polls go on."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable

from peer.session.client import Away, Client
from protocol.errors import Refused
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import DATA_BYTES_MAX, HEADER, Shelf, check_file, read_header

RETRY_SECONDS = 3.0
REFUSED_SECONDS = 30.0  # what was refused may be seeded again, or was cut short on the way
FREE_BYTES_MIN = 256 * 1024 * 1024  # left on the disk for the work itself


class Stock:
    """Wanting the same data set twice is harmless. Everything may be called from the daemon's thread."""

    def __init__(self, shelf: Shelf, client: Client, free_bytes: Callable[[], int], say: Callable[[str], None]):
        self.shelf, self.client, self.free_bytes, self.say = shelf, client, free_bytes, say
        self._wanted: list[str] = []
        self._here: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._said: set[str] = set()
        self.state = ""  # what is being fetched, in a few words
        self._thread = threading.Thread(target=self._run, name="data", daemon=True)
        self._thread.start()

    def want(self, digests: Iterable[str]) -> None:
        with self._changed:
            fresh = [digest for digest in digests if digest not in self._wanted]
            self._wanted += fresh
            if fresh:
                self._changed.notify()

    def has(self, digests: Iterable[str]) -> bool:
        """Whether all are here. What is not is fetched from now on."""
        missing = [digest for digest in digests if not self._is_here(digest)]
        self.want(missing)
        return not missing

    def ready(self, recipe: Recipe) -> bool:
        return recipe.data_set is None or self.has([recipe.data_set])

    def _is_here(self, digest: str) -> bool:
        return digest in self._here and self.shelf.find(digest) is not None

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                digest = self._wanted[0]
            pause = self._try(digest)
            with self._changed:
                self._wanted.remove(digest)
                if pause:
                    self._wanted.append(digest)  # the others are not held up by it
                    self._changed.wait(pause)

    def _try(self, digest: str) -> float:
        """Fetch one; seconds to wait before the next try, 0 when it is here."""
        try:
            self.state = f"data set {digest[:16]}"
            self._set_aside(digest)
            if self.shelf.ensure(digest) is None:
                self.fetch(digest)
                self.say(f"data set {digest[:16]} is here")
            self._here.add(digest)
            return 0.0
        except Away:
            return RETRY_SECONDS
        except ValueError:  # the channel was closed under us
            if not self._stopping:
                raise
            return 0.0
        except Refused as error:
            self._say_once(f"data set {digest[:16]} refused: {error}")
            return REFUSED_SECONDS
        except OSError as error:
            self._say_once(f"{error.filename or self.shelf.path(digest)}: cannot keep a data set: {error.strerror}")
            return REFUSED_SECONDS
        finally:
            self.state = ""

    def _set_aside(self, digest: str) -> None:
        """A file that is not what its name says makes room for a good one."""
        path = self.shelf.find(digest)
        if path is not None:
            try:
                check_file(path, digest)
            except Refused as error:
                self.say(f"{path}: damaged ({error}); set aside, fetching it again")
                path.replace(path.with_name(f"{digest}.damaged"))

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)

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
