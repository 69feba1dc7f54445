"""The zoo as strangers may read it: its newest manifest, and the files that it names. Nothing else is opened."""

import errno
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from coordinator.zoo.garbage import files_of
from protocol.errors import Refused, UsageError
from protocol.files import read_limited
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.wire import CHUNK_BYTES
from protocol.zoo.manifests import MANIFEST_BYTES_MAX, latest_manifest, manifest_numbers, manifest_path
from protocol.zoo.store import Store


class ZooFiles:
    """Calls come from many threads. Names of a manifest are looked up in memory; a new one is read when it is asked for
    or when a name is not known, so that an analyst who holds the manifest before it can still finish."""

    def __init__(self, zoo: Path):
        self.zoo = zoo
        self._lock = threading.Lock()
        self._highest = 0  # the manifest's number when we looked last, readable or not
        self._manifest = b""
        self._files: dict[str, Path] = {}

    def serve(self, name: str, offset: int) -> Iterator[pb.BlobChunk]:
        """From `offset` to the end, in chunks; "" is the manifest. Raises Refused: not (or no longer) here, OSError."""
        f = self._open(name)
        f.seek(min(offset, f.seek(0, io.SEEK_END)))
        return _chunks(f)

    def _open(self, name: str) -> BinaryIO:
        path = self._files.get(name) if name else None
        if path is None:
            self._look()
            if not self._manifest:
                raise Refused("no-zoo", "nothing is published yet")
            if not name:
                return io.BytesIO(self._manifest)
            path = self._files.get(name)
        try:
            if path is not None:
                return path.open("rb")
        except FileNotFoundError:
            pass  # removed as garbage since
        raise Refused("no-file", f"the zoo has no file {name[:100]!r} now")

    def _look(self) -> None:
        """Take the newest manifest, if there is a newer one. Raises OSError when it, or the catalogue, is damaged."""
        with self._lock:
            highest = max(manifest_numbers(self.zoo), default=0)
            if highest == self._highest:
                return
            manifest = latest_manifest(self.zoo)
            if manifest is None:
                return
            try:
                exact = read_limited(manifest_path(self.zoo, manifest.number), MANIFEST_BYTES_MAX, "manifest")
                paths = files_of(Store(self.zoo, manifest))
            except UsageError as error:
                raise OSError(errno.EIO, "its zoo is damaged", str(error)) from None
            self._files = {path.relative_to(self.zoo).as_posix(): path for path in paths}
            self._manifest, self._highest = exact, highest


def _chunks(f: BinaryIO) -> Iterator[pb.BlobChunk]:
    with f:
        while data := f.read(CHUNK_BYTES):
            yield pb.BlobChunk(data=data)
