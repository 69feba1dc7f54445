"""A verified spot check as a file, since it carries weights and states: written by the session, read by the worker."""

from pathlib import Path

import msgspec

from protocol.files import write_atomic
from protocol.trust.challenge import SlotTask


class CheckJob(msgspec.Struct, frozen=True, kw_only=True):
    campaign: str
    assignment: int
    result: bytes
    slot: int
    task: SlotTask
    states: bytes
    weights: bytes

    def write(self, path: Path) -> None:
        write_atomic(path, msgspec.msgpack.encode(self))


def read_check_job(path: Path) -> CheckJob:
    """Raises OSError, and what `canonical.NOT_DECODABLE` lists."""
    return msgspec.msgpack.decode(path.read_bytes(), type=CheckJob)
