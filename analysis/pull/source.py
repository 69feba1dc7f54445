"""A running host as a source of its zoo's files, over gRPC. What comes is another's bytes: `transfer` checks them."""

import secrets
from collections.abc import Iterator
from importlib.metadata import version

import grpc

from protocol.errors import AwayError, FileError, Refused, VersionError, WrongKeyError
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import NO_HOST, is_no_host, is_stranger, locate, open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.wire import open_welcome, parse_address, refusal
from protocol.trust.messages import NONCE_BYTES

GREET_SECONDS = 10.0  # a person waits and sees nothing
FILE_SECONDS = 300.0  # the host cuts a transfer off then; the rest is asked for again
LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
LATER += (grpc.StatusCode.CANCELLED,)  # how the host cuts off


class Away(Exception):
    """The host does not answer now; or it is `busy` with others and will soon."""

    def __init__(self, details: str, busy: bool = False):
        super().__init__(details)
        self.busy = busy


class HostSource:
    """One host's zoo. Methods raise Away, Refused (it has no such file now), UsageError (it never will have)."""

    def __init__(self, address: str):
        self.target, self.organizer = parse_address(locate(address))
        try:
            self.channel = open_channel(self.target, self.organizer)
        except ConnectionError as error:
            raise AwayError(f"{error}; check the address, it is what `zooswarm host` prints") from None
        self.stub = CoordinatorStub(self.channel)

    def __enter__(self) -> "HostSource":
        return self

    def __exit__(self, *exception: object) -> None:
        self.channel.close()

    def greet(self) -> None:
        """Raises UsageError when nobody answers, or another organizer than the address names."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        another = f"{self.target}: who answers there is not {self.organizer}; ask for the new address"
        try:
            request = pb.JoinRequest(version=version("zooswarm"), nonce=nonce)
            self.organizer, _ = open_welcome(self.stub.Join(request, timeout=GREET_SECONDS), nonce, self.organizer)
        except Refused:
            raise WrongKeyError(another) from None
        except grpc.RpcError as error:
            if is_no_host(error):
                raise AwayError(f"{self.target}: {NO_HOST}") from None
            if is_stranger(error):
                raise WrongKeyError(another) from None
            said = f": {self._translate(error)}" if refusal(error) else ""
            raise AwayError(
                f"no host answers at {self.target}{said}; check the address, it is what `zooswarm host` prints"
            ) from None

    def file(self, name: str, offset: int) -> Iterator[bytes]:
        """A file's bytes from `offset` on, as they come; without a name, the newest manifest's."""
        try:
            for chunk in self.stub.GetZooFile(pb.ZooFileRequest(name=name, offset=offset), timeout=FILE_SECONDS):
                yield chunk.data
        except grpc.RpcError as error:
            raise self._translate(error) from None

    def _translate(self, error: grpc.RpcError) -> Exception:
        refused = refusal(error)
        if refused is not None:
            if refused.reason == "no-zoo":
                return FileError(f"{self.target}: no zoo is published yet; `zooswarm status ADDRESS` shows when")
            return refused
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNAVAILABLE
        details = str(error.details() if isinstance(error, grpc.Call) else error)[:200]
        if code in LATER:
            return Away(details, busy=code == grpc.StatusCode.RESOURCE_EXHAUSTED)
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return VersionError(f"{self.target}: this host's version gives no zoo away; ask its organizer to update it")
        return AwayError(f"{self.target}: the host fails: {details}; tell its organizer")
