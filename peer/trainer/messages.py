"""What goes to the training process and comes back: msgpack with a length in front, over its stdin and stdout.

The first message is a TrainerConfig; Commands follow. What comes back are the events of `peer.state` that the training
process makes.
"""

import struct
from typing import IO, TypeVar

import msgspec

from peer.state.events import (
    AssignmentTrained,
    CheckAnswered,
    CheckFailed,
    NetworkTrained,
    TrainerFailed,
    TrainerNote,
    TrainerProgressed,
    TrainerReady,
)
from peer.state.ids import AssignmentId, CheckId

MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # an Answer, the largest, has at most 1 MiB
LENGTH = struct.Struct("<I")


class TrainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    home: str  # the volunteer's directory: campaigns and data sets are read from it
    backend: str
    threads: int
    nice: int
    device: str
    gpu_memory: float  # share of a card's memory
    memory_bytes: int = 0  # what this process may take on processors; 0: anything


class TrainBundle(msgspec.Struct, frozen=True, tag=True):
    assignment: AssignmentId
    path: str


class DropBundle(msgspec.Struct, frozen=True, tag=True):
    assignment: AssignmentId


class CheckFile(msgspec.Struct, frozen=True, tag=True):
    check: CheckId
    path: str  # of a CheckJob


Command = TrainBundle | DropBundle | CheckFile
Report = (
    TrainerReady
    | TrainerProgressed
    | TrainerNote
    | TrainerFailed
    | NetworkTrained
    | AssignmentTrained
    | CheckAnswered
    | CheckFailed
)

CONFIG: msgspec.msgpack.Decoder[TrainerConfig] = msgspec.msgpack.Decoder(TrainerConfig)
COMMANDS: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)  # type: ignore[arg-type]
REPORTS: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)  # type: ignore[arg-type]
M = TypeVar("M")


def write_message(stream: IO[bytes], message: msgspec.Struct) -> None:
    """Raises OSError when nobody reads any more."""
    data = msgspec.msgpack.encode(message)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def read_message(stream: IO[bytes], decoder: msgspec.msgpack.Decoder[M]) -> M | None:
    """The next message; None at the end, also in the middle of one. Raises ValueError for what is none of ours."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    if length > MESSAGE_BYTES_MAX:
        raise ValueError(f"a message of {length} bytes")
    data = stream.read(length)
    return decoder.decode(data) if len(data) == length else None
