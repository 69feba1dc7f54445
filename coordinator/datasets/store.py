"""The data sets that campaigns name: the organizer uploads them, everybody may fetch them. DIR/data/<digest>."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import Refused, UsageError
from protocol.files import whole_or_absent
from protocol.recipes.campaign import Campaign
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.wire import CHUNK_BYTES
from protocol.tasks.datasets import DATA_BYTES_MAX, Shelf, check_file
from protocol.tasks.generate import check_data
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import UploadData


class DatasetServer:
    """Whole and verified files only; what a kill left half-written goes at the next start."""

    def __init__(self, path: Path, organizer: str):
        self.shelf, self.organizer = Shelf(path), organizer
        path.mkdir(parents=True, exist_ok=True)
        for partial in path.glob(".*.partial"):
            partial.unlink(missing_ok=True)

    def open_upload(self, envelope: Envelope) -> tuple[UploadData, bool]:
        """Judge an upload by its first message; True when we have the data set. Raises Refused."""
        upload = unseal(envelope, UploadData, signer=self.organizer)
        if upload.size > DATA_BYTES_MAX:
            raise Refused("data-size", f"{upload.size:,} bytes; the limit is {DATA_BYTES_MAX:,}")
        return upload, self.shelf.ensure(upload.digest) is not None

    def receive(self, upload: UploadData) -> "Receiving":
        """Begin to keep exactly the announced bytes. Raises OSError."""
        return Receiving(self.shelf.path(upload.digest), upload)

    def serve(self, digest: str, offset: int) -> Iterator[pb.BlobChunk]:
        """From `offset` to the end, in chunks. Raises Refused when it is not here."""
        path = self.shelf.ensure(digest) if digest else None
        if path is None:
            raise Refused("no-data", f"there is no data set {digest[:16]} here")
        return _chunks(path, offset)

    def check(self, campaign: Campaign) -> None:
        """Raises Refused unless every data set is here and is what the recipes state."""
        seen = set()
        for recipe in campaign.recipes.values():
            if recipe.data_set is None or recipe.task in seen:
                continue
            seen.add(recipe.task)
            if self.shelf.ensure(recipe.data_set) is None:
                raise Refused(
                    "data-missing",
                    f"recipe {recipe.name}: data set {recipe.data_set[:16]} is on neither side; `zooswarm data add` it",
                )
            try:
                check_data(recipe.task, self.shelf)
            except UsageError as error:
                raise Refused("data-mismatch", f"recipe {recipe.name}: {error}") from None


class Receiving:
    """A data set on its way to the disk: `add` its bytes as they come, then `keep` it; `drop` what was not kept."""

    def __init__(self, path: Path, upload: UploadData):
        self.upload, self._got = upload, 0
        self._undo = contextlib.ExitStack()
        self._partial = self._undo.enter_context(whole_or_absent(path))
        self._file = self._undo.enter_context(self._partial.open("wb"))

    def add(self, data: bytes) -> None:
        """Raises Refused, OSError; then nothing is kept."""
        self._got += len(data)
        if self._got > self.upload.size:
            raise Refused("data-size", f"more than the announced {self.upload.size} bytes")
        self._file.write(data)

    def keep(self) -> None:
        """Raises Refused, OSError; then nothing is kept."""
        if self._got != self.upload.size:
            raise Refused("data-size", f"{self._got} bytes came, {self.upload.size} were announced")
        self._file.close()
        check_file(self._partial, self.upload.digest)
        self._undo.close()

    def drop(self) -> None:
        """After `keep` it does nothing."""
        with contextlib.suppress(GivenUp):
            self._undo.__exit__(GivenUp, GivenUp(), None)


class GivenUp(Exception):
    """An upload that did not come to its end."""


def _chunks(path: Path, offset: int) -> Iterator[pb.BlobChunk]:
    with path.open("rb") as f:
        f.seek(min(offset, path.stat().st_size))
        while data := f.read(CHUNK_BYTES):
            yield pb.BlobChunk(data=data)
