"""Every call to the coordinator waits until its bytes may pass (`peer.state.lending.traffic`)."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from peer.state.lending.traffic import Bucket, spend


class Throttle(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor):
    """Counts messages as they are before encryption, in both directions together; for any number of threads."""

    def __init__(
        self,
        rate: float,
        leaving: Callable[[], Exception],  # what is raised where somebody waits when nothing is to be sent any more
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,  # so many seconds; True: we are leaving
    ):
        self._leaving, self._clock, self._lock, self._closing = leaving, clock, threading.Lock(), threading.Event()
        self._bucket = Bucket.full(rate, clock())
        self._wait = wait or self._closing.wait

    def close(self) -> None:
        """Nobody waits any more."""
        self._closing.set()

    def passes(self, message: Any) -> None:
        """Raises what `leaving` gives."""
        with self._lock:
            self._bucket, seconds = spend(self._bucket, message.ByteSize(), self._clock())
        if seconds and self._wait(seconds):
            raise self._leaving()

    def each(self, messages: Iterable[Any]) -> Iterator[Any]:
        for message in messages:
            self.passes(message)
            yield message

    def sent(self, messages: Iterable[Any]) -> Iterator[Any]:
        """In gRPC's own thread, where nobody would hear what is raised: the stream ends, and the channel after it."""
        with contextlib.suppress(type(self._leaving())):
            yield from self.each(messages)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.passes(request)
        return self._received(continuation(client_call_details, request))

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._received(continuation(client_call_details, self.sent(request_iterator)))

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.passes(request)
        return self.each(continuation(client_call_details, request))

    def _received(self, call: Any) -> Any:
        """What came is here already: the next message waits for it."""
        if not isinstance(call, grpc.RpcError):
            self.passes(call.result())
        return call
