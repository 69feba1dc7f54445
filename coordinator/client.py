"""Talking to a running coordinator: what `seed`, `control` and `status` do."""

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
import msgspec

from coordinator.directories import address_of, read_settings
from coordinator.server.console import duration, note_of
from coordinator.server.status import Status
from protocol.canonical import NOT_DECODABLE
from protocol.errors import AwayError, FileError, Refused, UsageError, VersionError, WrongKeyError, refused_there, shown
from protocol.rpc import coordinator_pb2 as pb
from protocol.rpc.channel import NO_HOST, is_no_host, is_stranger, locate, open_channel
from protocol.rpc.coordinator_pb2_grpc import CoordinatorStub
from protocol.rpc.invite import Invite, make_invite
from protocol.rpc.wire import CHUNK_BYTES, parse_address, refusal, to_wire
from protocol.swarm.addresses import split_address
from protocol.trust.envelope import Envelope, seal
from protocol.trust.identity import HOST_LENGTH, Identity, public_key
from protocol.trust.messages import (
    NONCE_BYTES,
    CampaignAction,
    CampaignState,
    ControlCampaign,
    ModerateHost,
    SeedCampaign,
    UploadData,
)
from protocol.trust.ticket import make_ticket

CALL_SECONDS = 15.0
STATUS_SECONDS = 10.0  # a person waits and sees nothing
CELL_MAX = 300  # characters in a cell of the status
DATA_SECONDS = 300.0  # the coordinator cuts a transfer off then
C = TypeVar("C", SeedCampaign, ControlCampaign, UploadData, ModerateHost)
HOST_CHARS_MIN = 6  # of the end of a host's name
STATES_SETTLED = (CampaignState.COMPLETE, CampaignState.CANCELLED)


class Organizer:
    """The organizer's own calls, signed with DIR's identity. Methods raise UsageError: refused, or nobody there."""

    def __init__(self, path: Path):
        self.path, (self.target, _) = path, parse_address(address_of(path))
        if not (path / "identity").exists():
            raise FileError(f"{path}: there is no organizer's identity; start it with `zooswarm host {path}`")
        self.identity = Identity.load_or_create(path / "identity")
        self.channel = open_channel(self.target, self.identity.host)
        self.stub = CoordinatorStub(self.channel)

    def __enter__(self) -> "Organizer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.channel.close()

    def upload_data(self, digest: str, file: Path) -> None:
        """Give the coordinator a data set; it takes one that it has already without reading it. Raises UsageError."""
        announced = seal(self.identity, issued_now(UploadData(digest=digest, size=file.stat().st_size)))
        try:
            self.stub.PutData(_data_chunks(announced, file), timeout=DATA_SECONDS)
        except grpc.RpcError as error:
            _explain(error, self.target, self.path)

    def seed(self, message: SeedCampaign) -> str:
        return self._call(self.stub.SubmitCampaign, message).digest

    def state_of(self, digest: str) -> str:
        """Of a campaign, in the words of the status; "" where there is none with this digest."""
        campaigns = next(follow(self.stub, self.target, False, self.path)).campaigns
        return next((campaign.state for campaign in campaigns if campaign.digest == digest), "")

    def control(self, which: str, action: str, value: int = 0) -> tuple[str, str]:
        """(name, new state) of the campaign with this name or digest prefix."""
        campaigns = next(follow(self.stub, self.target, False, self.path)).campaigns
        matching = [c for c in campaigns if c.name == which or (len(which) >= 4 and c.digest.startswith(which))]
        if len(matching) != 1:
            names = ", ".join(f"{c.name} ({c.digest[:8]})" for c in matching or campaigns) or "none"
            raise UsageError(f"{which!r}: {'more than one' if matching else 'no'} such campaign; there are: {names}")
        digest = matching[0].digest
        command = ControlCampaign(campaign=digest, action=CampaignAction(action), value=value)
        return matching[0].name, self._call(self.stub.ControlCampaign, command).state

    def steps_per_second(self) -> float:
        """What the hosts that are present report together."""
        hosts = next(follow(self.stub, self.target, False, self.path)).hosts
        return sum(host.steps_per_second for host in hosts if host.present)

    def moderate(self, which: str, banned: bool, reason: str) -> str:
        """The whole name of the host, given so or by the end of it, that is refused from now on, or no longer."""
        host = which
        if len(which) != HOST_LENGTH:
            hosts = next(follow(self.stub, self.target, False, self.path)).hosts
            matching = [h.host for h in hosts if len(which) >= HOST_CHARS_MIN and h.host.endswith(which)]
            if len(matching) != 1:
                many = "more than one host ends" if matching else "no host in the status ends"
                raise UsageError(f"{many} with {which!r}; give its whole name, `zooswarm status --json` has it")
            host = matching[0]
        try:
            public_key(host)
        except Refused as error:
            raise UsageError(f"{which!r}: {error}; `zooswarm status --json` has the names of hosts") from None
        self._call(self.stub.ModerateHost, ModerateHost(host=host, banned=banned, reason=reason))
        return host

    def _call(self, method: Any, message: C) -> Any:
        try:
            return method(to_wire(seal(self.identity, issued_now(message))), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            _explain(error, self.target, self.path)


def issued_now(command: C, clock: Callable[[], float] = time.time) -> C:
    """The command with its time and its number: the coordinator takes it once, within minutes."""
    return msgspec.structs.replace(command, issued_at=clock(), nonce=secrets.token_bytes(NONCE_BYTES))


def ticket_for(path: Path, host: str, days: float) -> str:
    """A ticket of DIR's organizer; nobody has to run. Raises UsageError."""
    if not (path / "identity").exists():
        raise FileError(f"{path}: there is no organizer's identity; start it with `zooswarm host {path}`")
    try:
        public_key(host)
    except Refused as error:
        raise UsageError(f"{host!r}: {error}; `zooswarm identity show` on the volunteer's computer prints it") from None
    return make_ticket(Identity.load_or_create(path / "identity"), host, time.time() + 86_400 * days)


def invite_for(path: Path, days: float | None, also: Sequence[str], bootstrap: Sequence[str], now: float) -> str:
    """An invite code to DIR's swarm; nobody has to run. `also`: further host:port; `now`: seconds since 1970.

    Raises UsageError.
    """
    join = read_settings(path).get("join")
    if not isinstance(join, str):
        raise UsageError(f"{path}: no coordinator has run here; start it with `zooswarm host {path}`")
    target, organizer = parse_address(join)
    if organizer is None:
        raise UsageError(f"{path / 'host.json'}: its address does not name the organizer; start the host again")
    for address in bootstrap:
        split_address(address)
    expires_at = 0 if days is None else int(now + 86_400 * days)
    targets = tuple(dict.fromkeys((target, *also)))
    return make_invite(Invite(organizer=organizer, targets=targets, bootstrap=tuple(bootstrap), expires_at=expires_at))


def _data_chunks(announced: Envelope, file: Path) -> Iterator[pb.BlobChunk]:
    yield pb.BlobChunk(upload=to_wire(announced))
    with file.open("rb") as f:
        while data := f.read(CHUNK_BYTES):
            yield pb.BlobChunk(data=data)


def _explain(error: grpc.RpcError, target: str, path: Path | None) -> NoReturn:
    refused = refusal(error)
    if refused is not None:
        raise refused_there(refused, f"the coordinator at {target} refuses") from None
    code = error.code() if isinstance(error, grpc.Call) else None
    details = str(error.details() if isinstance(error, grpc.Call) else error)
    if is_no_host(error):
        raise AwayError(f"{target}: {NO_HOST}") from None
    if is_stranger(error):
        raise WrongKeyError(f"{target}: who answers there has another key; ask for the new address") from None
    away = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if away and "coordinator is in trouble" not in details:
        mend = f"; start it with `zooswarm host {path}`" if path else ""
        raise AwayError(f"no coordinator answers at {target}{mend}") from None
    raise UsageError(f"{target}: {details}") from None


def follow(stub: CoordinatorStub, target: str, on_and_on: bool, path: Path | None = None) -> Iterator[Status]:
    """Statuses as they come. Raises UsageError."""
    timeout = None if on_and_on else STATUS_SECONDS
    try:
        while True:  # the host ends a watch after some minutes, so that places come free
            for reply in stub.WatchStatus(pb.StatusRequest(watch=on_and_on), timeout=timeout):
                yield read_status(reply.json, target)
            if not on_and_on:
                return
    except grpc.RpcError as error:
        _explain(error, target, path)


def read_status(data: bytes, target: str) -> Status:
    """Raises UsageError."""
    try:
        return msgspec.json.decode(data, type=Status)
    except NOT_DECODABLE as error:
        raise VersionError(f"{target}: its status is not one that this version reads ({error})") from None


def show_status(address: str, *, as_json: bool, watch: bool, until_done: bool, page: str = "") -> None:
    """Print one status, or one after another; and where the `page` is. Raises UsageError when nobody answers."""
    target, organizer = parse_address(locate(address))
    try:
        opened = open_channel(target, organizer)
    except ConnectionError as error:
        raise AwayError(f"{error}; start one with `zooswarm host`, or give its address") from None
    with opened as channel:
        statuses = follow(CoordinatorStub(channel), target, watch)
        if as_json:
            for status in statuses:
                print(as_line(status), flush=True)
                if until_done and is_done(status):
                    return
            return
        from rich.console import Console
        from rich.live import Live

        console = Console()
        if not watch or not sys.stdout.isatty():
            for status in statuses:
                console.print(table(status, page))
                if until_done and is_done(status):
                    return
            return
        with Live(console=console, refresh_per_second=2) as live:
            for status in statuses:
                live.update(table(status, page))
                if until_done and is_done(status):
                    return


def as_line(status: Status) -> str:
    """JSON in ASCII: a terminal obeys none of it."""
    return json.dumps(msgspec.to_builtins(status))


def is_done(status: Status) -> bool:
    """Every campaign is settled, and what was admitted is in the zoo."""
    campaigns = status.campaigns
    return bool(campaigns) and all(
        c.state in STATES_SETTLED and c.networks_published == c.networks_admitted for c in campaigns
    )


def table(status: Status, page: str = "") -> Any:
    """Everything as rich tables, one under another."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def text(outside: str) -> Text:
        return Text(shown(outside, CELL_MAX))

    campaigns = Table(
        "campaign", "state", "networks", "assignments admitted", "", title="Campaigns", title_justify="left"
    )
    for c in status.campaigns:
        networks = f"{c.networks_admitted:,} / {c.networks:,}"
        assignments = f"{c.admitted:,} / {c.assignments:,}"
        campaigns.add_row(text(c.name), text(c.state), networks, assignments, text(note_of(c, status)))
    hosts = Table(
        "host", "device", "steps/s", "credit", "clean", "faults", "seen", "", title="Hosts", title_justify="left"
    )
    for h in status.hosts:
        name = text(f"{h.name} {h.host[-8:]}".strip())
        remark = text(f"banned: {h.banned}" if h.banned else "")
        numbers = (f"{h.steps_per_second:,.0f}", f"{h.credit:,}", str(h.clean_bundles), str(h.faults))
        hosts.add_row(name, text(h.device), *numbers, f"{duration(h.seconds_ago)} ago", remark)
    parts: list[Any] = [campaigns, hosts]
    more = status.hosts_known, status.hosts_present, status.hosts_banned
    parts.append(Text("hosts that have earned something: {:,}; here now: {:,}; banned: {:,}".format(*more)))
    if status.refusals:
        refusals = Table("refused", "host", "times", "the last one", title="Refusals", title_justify="left")
        for r in status.refusals[:20]:
            refusals.add_row(text(r.reason), text(r.host[-8:] or "unknown"), str(r.count), text(r.detail))
        parts.append(refusals)
    classes = ", ".join(f"{name} {count:,}" for name, count in status.networks_by_class.items() if count)
    parts.append(Text(shown(f"networks by class: {classes or 'none yet'}")))
    if page:
        parts.append(Text(shown(f"status page: {page}")))
    return Group(*parts)
