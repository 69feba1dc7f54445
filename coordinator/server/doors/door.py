"""The gRPC server: its own asyncio loop in a thread. Every call is entered, answered, and turned into a status."""

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from coordinator.ledger.database import LedgerUnavailable
from coordinator.server.calls import DETAIL_CHARS_MAX, Calls
from coordinator.server.doors.call import Call, TooSlow
from coordinator.server.doors.callers import Caller, Callers
from coordinator.server.doors.limits import STREAMS_PER_CONNECTION, patience
from coordinator.server.doors.turns import Lane
from coordinator.server.doors.workers import Workers
from coordinator.server.handlers import Busy
from protocol.errors import Refused
from protocol.rpc.wire import GRPC_OPTIONS

T = TypeVar("T")
SERVICE = "zooswarm.v1.Coordinator"
OPTIONS = [
    *GRPC_OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
    ("grpc.server_handshake_timeout_ms", 10_000),  # of TLS: a connection that says nothing is closed
    ("grpc.max_connection_idle_ms", 300_000),
]


@dataclass(frozen=True, slots=True)
class Answer:
    """How one call of the service is answered: by the message that its handler returns, or by those that it sends."""

    handler: Callable[[Call], Awaitable[Message | None]]
    lane: Lane
    seconds_max: float
    stream: bool = False  # it sends its messages itself


class Door(grpc.GenericRpcHandler):
    def __init__(self, answers: Mapping[str, Answer], calls: Calls, has_standing: Callable[[str], bool]):
        self._answers, self._calls, self._has_standing = answers, calls, has_standing
        self.callers, self.workers = Callers(), Workers()
        self._server: grpc.aio.Server | None = None

    # -- from other threads --------------------------------------------------------------------------------------

    def start(self, listen: str, credentials: grpc.ServerCredentials | None) -> int:
        """Listen on `host:port`; the port, or 0 when the address cannot be had."""
        return on_loop(self._start(listen, credentials))

    def stop(self, grace_seconds: float) -> None:
        """End the calls that are under way."""
        if self._server is not None:
            on_loop(self._server.stop(grace_seconds))
            self._server = None
        self.workers.close()

    # -- on the loop ---------------------------------------------------------------------------------------------

    async def _start(self, listen: str, credentials: grpc.ServerCredentials | None) -> int:
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        try:
            if credentials is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, credentials)
        except RuntimeError:
            return 0
        if port:
            await self._server.start()
        return port

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, name = handler_call_details.method.strip("/").partition("/")  # type: ignore[attr-defined]
        answer = self._answers.get(name) if service == SERVICE else None
        if answer is None:
            return None

        async def behave(_: Any, context: grpc.aio.ServicerContext) -> bytes:
            return await self._answer(name, answer, context)

        # All read their messages themselves. What is returned goes in one piece with the status; sent by itself it
        # would cost a turn of the loop and of gRPC's threads more.
        make = grpc.stream_stream_rpc_method_handler if answer.stream else grpc.stream_unary_rpc_method_handler
        return make(behave)

    async def _answer(self, name: str, answer: Answer, context: grpc.aio.ServicerContext) -> bytes:
        """The one reply, if there is one; the call lasts, and is counted, until gRPC is done with it."""
        caller, task = Caller.of(context.peer()), asyncio.current_task()
        assert task is not None
        spoke = cut = False

        def cut_off() -> None:
            nonlocal cut
            cut = True
            task.cancel()

        def speaks() -> None:
            nonlocal spoke
            spoke = True
            if not self.callers.speaks(number, caller):
                raise Busy("too many calls from this address")

        number = self.callers.enter(caller, cut_off)
        task.add_done_callback(lambda _: self.callers.leave(number, caller, spoke=spoke))
        call = Call(context, caller, answer.lane, self.workers, speaks, self._has_standing)
        try:
            async with asyncio.timeout(answer.seconds_max):
                reply = await answer.handler(call)
        except asyncio.CancelledError:
            if not cut:
                raise  # the caller has gone
            task.uncancel()
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls that say nothing")
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await context.abort(*self._status(name, call, error))
        raw = reply.SerializeToString() if reply is not None else b""
        too_slow = asyncio.get_running_loop().call_later(patience(len(raw), 0.0), task.cancel)  # to take it
        task.add_done_callback(lambda _: too_slow.cancel())
        return raw

    def _status(self, name: str, call: Call, error: Exception) -> tuple[grpc.StatusCode, str]:
        match error:
            case Refused():
                self._calls.count(error, call.envelope)
                return grpc.StatusCode.INVALID_ARGUMENT, str(error)[:DETAIL_CHARS_MAX]
            case NotHere():
                return grpc.StatusCode.NOT_FOUND, str(error)[:DETAIL_CHARS_MAX]
            case Busy():
                return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
            case TooSlow():
                return grpc.StatusCode.CANCELLED, str(error)
            case TimeoutError():
                return grpc.StatusCode.CANCELLED, "this took too long; ask for the rest"
            case LedgerUnavailable() | OSError():
                return grpc.StatusCode.UNAVAILABLE, self._calls.trouble(name, error)
        return grpc.StatusCode.UNKNOWN, self._calls.bug(name, error)


class NotHere(Exception):
    """What is asked for is not here now: nobody's fault."""


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for the process: grpc.aio shares its poller between all servers of a process, and wants one loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="doors", daemon=True).start()
    return loop


def on_loop(step: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(step, _loop()).result()
