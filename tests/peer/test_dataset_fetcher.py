"""Data sets on their way to a volunteer: broken downloads go on, liars are named, full disks are said."""

from pathlib import Path
from typing import Any

import pytest
from support.images import blobs

from peer.session.client import Away
from peer.session.dataset_fetcher import DatasetFetcher
from peer.state.actions import FetchDataset
from peer.state.events import DatasetFailed, DatasetReady
from protocol.canonical import hexdigest
from protocol.tasks.datasets import Shelf


class Line:
    """A client whose connection breaks after every `cut` bytes, and that may lie."""

    def __init__(self, data: bytes, cut: int, lie: bytes = b""):
        self.bytes, self.cut, self.lie, self.offsets = data, cut, lie, []

    def data(self, digest: str, offset: int):
        self.offsets.append(offset)
        if self.lie:
            lie, self.lie = self.lie, b""
            yield lie
            return
        end = min(len(self.bytes), offset + self.cut)
        for begin in range(offset, end, 1000):
            yield self.bytes[begin : min(begin + 1000, end)]
        if end < len(self.bytes):
            raise Away("broken")


def fetcher_of(path: Path, line: Any, free: int = 1 << 40) -> tuple[DatasetFetcher, list[str]]:
    said: list[str] = []
    return DatasetFetcher(Shelf(path), line, lambda: free, said.append), said


def test_a_broken_download_goes_on_where_it_stopped(tmp_path):
    data = blobs().to_bytes()
    line = Line(data, 3000)
    fetcher, _ = fetcher_of(tmp_path, line)
    wanted = FetchDataset(hexdigest(data))
    while fetcher.perform(wanted) != DatasetReady(wanted.digest):
        pass
    assert line.offsets == list(range(0, len(data), 3000))
    assert fetcher.perform(wanted) == DatasetReady(wanted.digest, fetched=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [hexdigest(data)]


def test_nobody_there_is_not_a_refusal(tmp_path):
    data = blobs().to_bytes()
    fetcher, _ = fetcher_of(tmp_path, Line(data, 3000))
    assert fetcher.perform(FetchDataset(hexdigest(data))) == DatasetFailed(hexdigest(data), away=True, detail="broken")


@pytest.mark.parametrize(
    "lie",
    [b"x" * 500, blobs(299).to_bytes(), blobs().to_bytes() + b"more", blobs().to_bytes()[:-1] + b"\xff", bytes(64)],
)
def test_a_liar_is_named_and_the_right_bytes_are_taken_later(tmp_path, lie):
    data = blobs().to_bytes()
    fetcher, _ = fetcher_of(tmp_path, Line(data, 1 << 30, lie))
    failed = fetcher.perform(FetchDataset(hexdigest(data)))
    assert isinstance(failed, DatasetFailed) and not failed.away and "refused" in failed.detail
    assert fetcher.perform(FetchDataset(hexdigest(data))) == DatasetReady(hexdigest(data))
    assert (tmp_path / hexdigest(data)).read_bytes() == data


def test_a_damaged_file_is_set_aside_and_a_full_disk_is_said(tmp_path):
    data = blobs().to_bytes()
    digest = hexdigest(data)
    (tmp_path / digest).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    fetcher, said = fetcher_of(tmp_path, Line(data, 1 << 30))
    assert fetcher.perform(FetchDataset(digest)) == DatasetReady(digest)
    assert "set aside" in said[0] and (tmp_path / f"{digest}.damaged").exists()
    full, _ = fetcher_of(tmp_path / "full", Line(data, 1 << 30), free=1000)
    failed = full.perform(FetchDataset(digest))
    assert isinstance(failed, DatasetFailed) and "disk-space" in failed.detail and not failed.away


def test_what_nobody_expects_is_not_swallowed(tmp_path):
    """It reaches the daemon's loop as an exception; a fetch that ends silently would never be tried again."""

    class Broken:
        def data(self, digest: str, offset: int):
            raise ValueError("a channel that was closed, and nobody closed it")

    fetcher, _ = fetcher_of(tmp_path, Broken())
    with pytest.raises(ValueError, match="nobody closed it"):
        fetcher.perform(FetchDataset("a" * 64))
    fetcher.stop()
    failed = fetcher.perform(FetchDataset("a" * 64))
    assert isinstance(failed, DatasetFailed) and failed.away
