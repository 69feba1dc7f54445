"""One call, while it is answered: what it may do, each step with its deadline."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError, Message

from coordinator.server.doors.callers import Caller
from coordinator.server.doors.limits import FIRST_MESSAGE_SECONDS, patience
from coordinator.server.doors.turns import Lane
from coordinator.server.doors.workers import Workers
from protocol.errors import Refused
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.wire import from_wire
from protocol.trust.envelope import Envelope

T = TypeVar("T")
M = TypeVar("M", bound=Message)
END = grpc.aio.EOF  # type: ignore[attr-defined]  # read, when the other side has said all
OVER = object()  # a stream that has nothing more


class TooSlow(Exception):
    """The other side said nothing, or too little, for too long."""


class Call:
    """Every call is a stream of messages both ways on the wire, whatever it is in the .proto."""

    envelope: Envelope | None = None  # once there is one, it says whom to blame

    def __init__(
        self,
        context: grpc.aio.ServicerContext,
        caller: Caller,
        lane: Lane,
        workers: Workers,
        spoke: Callable[[], None],
        has_standing: Callable[[str], bool],
    ):
        self.context, self.caller, self.lane = context, caller, lane
        self._workers, self._spoke, self._has_standing = workers, spoke, has_standing
        self._got, self._since = 0, time.monotonic()

    async def first(self, kind: type[M]) -> M:
        """The first message. Raises TooSlow, Busy, Refused."""
        try:
            async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                raw = await self.context.read()
        except TimeoutError:
            raise TooSlow(f"nothing was said for {FIRST_MESSAGE_SECONDS:.0f} s") from None
        self._spoke()
        self._since = time.monotonic()
        if raw is END:
            raise Refused("no-message", "the call said nothing")
        return _parsed(kind, raw)

    def parse(self, wire: pb.Signed) -> Envelope:
        """The signed message of this call; one of a host with standing goes before others. Raises Refused.

        Who only says to have standing is told otherwise as soon as the signature is verified: before anything else.
        """
        self.envelope = from_wire(wire)
        if self.lane == Lane.HOST and self._has_standing(self.envelope.signer):
            self.lane = Lane.STANDING
        return self.envelope

    def metadata(self, key: str) -> bytes:
        """What came beside the message under this key, or nothing."""
        for name, value in self.context.invocation_metadata() or ():
            if name == key and isinstance(value, bytes):
                return value
        return b""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes that follow the first message. Raises TooSlow when they trickle, Refused."""
        while True:
            raw = await self._keep_going(self.context.read())
            if raw is END:
                return
            data = _parsed(pb.BlobChunk, raw).data
            self._got += len(data)
            yield data

    async def collect(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises Refused on the first byte too many, or at the end if some miss; TooSlow."""
        parts, got = [], 0
        async for data in self.chunks():
            got += len(data)
            if got > size:
                raise Refused("blob-size", f"more than the announced {size} bytes")
            parts.append(data)
        if got != size:
            raise Refused("blob-size", f"{got} bytes of the announced {size}")
        return b"".join(parts)

    async def work(self, work: Callable[..., T], *arguments: Any) -> T:
        """What blocks, in a thread, when this caller's turn has come."""
        return await self._workers.do(self.lane, self.caller.address, work, *arguments)

    async def send(self, message: Message) -> None:
        """Raises TooSlow when the other side does not take it."""
        raw = message.SerializeToString()
        await self._keep_going(self.context.write(raw))
        self._got += len(raw)

    async def send_all(self, messages: Iterator[Message]) -> None:
        """Messages that are made in a thread, one after another."""
        try:
            while (message := await self.work(next, messages, OVER)) is not OVER:
                await self.send(message)  # type: ignore[arg-type]
        finally:
            close = getattr(messages, "close", None)
            if close is not None:
                with contextlib.suppress(ValueError):  # a thread is still at it: it goes when that is done
                    close()

    def starts_moving(self) -> None:
        """From here on its speed counts: it has waited for us until now."""
        self._got, self._since = 0, time.monotonic()

    async def _keep_going(self, step: Any) -> Any:
        try:
            async with asyncio.timeout(patience(self._got, time.monotonic() - self._since)):
                return await step
        except TimeoutError:
            raise TooSlow("too few bytes for too long") from None


def _parsed(kind: type[M], raw: bytes) -> M:
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise Refused("message", f"no {kind.DESCRIPTOR.name}") from None
