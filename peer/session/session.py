"""Our conversation with one coordinator: each call goes out, comes back, is verified, and ends in one event."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from peer.session.client import Away, Client, Later, is_receipt
from peer.session.requests import enclosed_parts, fetch_check, hand_in_part, open_cells
from peer.state.actions import (
    CoordinatorCall,
    FetchCampaign,
    FetchCheck,
    OpenStates,
    Poll,
    SubmitResult,
    UploadPart,
)
from peer.state.events import (
    CallAway,
    CallEnded,
    CallPutOff,
    CallRefused,
    CampaignFetched,
    CheckFetched,
    DiskFailed,
    Event,
    InboxReceived,
    PartUploaded,
    RequestedCheck,
    ResultAccepted,
    ResultDuplicate,
    StatesOpened,
)
from peer.state.ids import CheckId
from peer.storage.workspace import Workspace, disk_error
from protocol.canonical import NOT_DECODABLE
from protocol.errors import Refused, UsageError
from protocol.rpc.wire import parse_address
from protocol.trust.challenge import BeaconChains
from protocol.trust.envelope import unseal
from protocol.trust.messages import Admission, BlobPart, CheckRequest, Inbox, Result

BANS_KEPT = 1000  # older ones have lost their leases long ago


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What coordinator and swarm are told about this host."""

    name: str
    version: str
    threads: int


class CoordinatorSession:
    """Performs coordinator calls, blocking; for one thread."""

    def __init__(
        self,
        client: Client,
        workspace: Workspace,
        introduction: Introduction,
        whereabouts: Callable[[], str] = str,  # where the organizer's manifest says that he is: host:port, or ""
    ):
        self.client, self.workspace, self.introduction = client, workspace, introduction
        self.whereabouts, self._told = whereabouts, client.target  # the address that a person gave us
        self._chains = BeaconChains()
        self._bans = KnownBans()

    def perform(self, call: CoordinatorCall) -> Event:
        try:
            return self._perform(call)
        except Later as error:
            return CallPutOff(call, str(error))
        except Away as error:
            self._look_elsewhere()
            return CallAway(call, str(error))
        except Refused as error:
            return CallRefused(call, error.reason, str(error))
        except FileNotFoundError as error:  # of one bundle, gone or set aside: the others go on
            refused = file_gone(error)
            return CallRefused(call, refused.reason, str(refused))
        except OSError as error:
            return DiskFailed(call, disk_error(error, self.workspace.home.path))

    def _look_elsewhere(self) -> None:
        """The next call goes where the manifest says, if that is not where nobody answered, else where we were told.

        Whoever answers must have the organizer's key, so a wrong address costs one call.
        """
        try:
            moved, _ = parse_address(self.whereabouts())
        except UsageError:  # it says nothing
            moved = self._told
        self.client.move(moved if self.client.target != moved else self._told)

    def _perform(self, call: CoordinatorCall) -> CallEnded:
        match call:
            case Poll():
                return self._poll(call)
            case SubmitResult():
                return self._submit_result(call)
            case UploadPart():
                hand_in_part(call.part, call.result, self.workspace.bundle(call.assignment), self.client)
                return PartUploaded(call)
            case OpenStates():
                self.client.put(call.request.result, BlobPart.STATES, self._states(call))
                return StatesOpened(call)
            case FetchCampaign():
                return self._fetch_campaign(call)
            case FetchCheck():
                return self._fetch_check(call)
        raise TypeError(f"not for the coordinator: {call}")

    def _poll(self, call: Poll) -> InboxReceived:
        heartbeat = {
            "name": self.introduction.name,
            "version": self.introduction.version,
            "device": call.device,
            "steps_per_second": call.steps_per_second,
            "networks_trained": call.networks_trained,
            "checks_done": call.checks_done,
            "holding": call.holding,
            "bans_list": self._bans.list,
            "bans_known": self._bans.known,
        }
        assert self.client.organizer is not None
        read = [self._try_states(opening) for opening in call.opened]
        pairs = zip(call.opened, read, strict=True)
        opened = [(opening.request.result, data) for opening, data in pairs if isinstance(data, bytes)]
        reply = self.client.poll(heartbeat, [answer for _, answer in call.answers], opened)
        said = iter(reply.refused_states)
        told = [next(said) if isinstance(data, bytes) else str(data) for data in read]
        bans = self._bans.learn(reply.inbox)
        return read_inbox(call, reply.inbox, self.client.organizer, bans, reply.refused, tuple(told))

    def _states(self, opening: OpenStates) -> bytes:
        """Raises Refused, FileNotFoundError."""
        bundle, policy = self.workspace.bundle(opening.assignment), self.workspace.policy(opening.assignment)
        return open_cells(opening.request, bundle, policy)

    def _try_states(self, opening: OpenStates) -> bytes | Refused:
        """The states to send along, or why there are none: the heartbeat goes without them."""
        try:
            return self._states(opening)
        except Refused as error:
            return error
        except FileNotFoundError as error:
            return file_gone(error)

    def _submit_result(self, call: SubmitResult) -> CallEnded:
        bundle = self.workspace.bundle(call.assignment)
        result = bundle.kept("result")
        if result is None:  # damaged since we signed it
            raise OSError(None, "the signed result is damaged", str(bundle.path))
        parts = enclosed_parts(bundle)
        reply = self.client.submit_result(result, *parts.values())
        if not is_receipt(reply):
            return ResultDuplicate(call)
        bundle.keep("receipt", reply)
        return ResultAccepted(call, tuple(parts))

    def _fetch_campaign(self, call: FetchCampaign) -> CampaignFetched:
        home, organizer = self.workspace.home, self.client.organizer
        assert organizer is not None
        cached = home.campaign(call.campaign, organizer)
        if cached is None:
            data, manifest = self.client.campaign(call.campaign)
            if home.add_campaign(data, manifest, organizer).digest != call.campaign:
                raise Refused("campaign-digest", "the bytes are another campaign's")
            cached = home.campaign(call.campaign, organizer)
            assert cached is not None
        return CampaignFetched(call, cached[0], self.workspace.follow(*cached))

    def _fetch_check(self, call: FetchCheck) -> CheckFetched:
        digest = campaign_of(call.request)
        followed = self.workspace.campaign(digest)
        if followed is None:
            raise Refused("check-request", "for a campaign that we do not know")
        job = fetch_check(call.request, *followed, self.client, self.workspace.home.identity.host, self._chains)
        job.write(self.workspace.check_path(*call.check))
        return CheckFetched(call)


def campaign_of(request: CheckRequest) -> str:
    """Which campaign is meant; everything else is verified when it is fetched. "" when that cannot be read."""
    try:
        return msgspec.msgpack.decode(request.result.payload, type=Result).campaign
    except NOT_DECODABLE:
        return ""


class KnownBans:
    """The organizer's bans as they came, a few in every inbox: the newest BANS_KEPT."""

    def __init__(self) -> None:
        self.list, self.known = 0, 0  # which list, and how many of it have come
        self._hosts: dict[str, None] = {}

    def learn(self, inbox: Inbox) -> tuple[str, ...]:
        """All that are known now. Another list, of a coordinator that started again, begins anew."""
        if inbox.bans_list != self.list:
            self._hosts.clear()
        self.list, self.known = inbox.bans_list, inbox.bans_known
        self._hosts |= dict.fromkeys(inbox.banned_hosts)
        for host in list(self._hosts)[:-BANS_KEPT]:
            del self._hosts[host]
        return tuple(self._hosts)


def file_gone(error: FileNotFoundError) -> Refused:
    return Refused("file-gone", str(error.filename))


def read_inbox(
    call: Poll,
    inbox: Inbox,
    organizer: str,
    banned_hosts: tuple[str, ...],
    refused: tuple[str, ...] = (),
    refused_states: tuple[str, ...] = (),
) -> InboxReceived:
    """A verified inbox as an event. Raises Refused when an outcome is not the organizer's."""
    return InboxReceived(
        call,
        openings=inbox.openings,
        missing=inbox.missing,
        checks=tuple(
            RequestedCheck(CheckId(request.result.digest, request.slot), campaign_of(request), request)
            for request in inbox.checks
        ),
        outcomes=tuple(unseal(envelope, Admission, signer=organizer) for envelope in inbox.outcomes),
        unknown=inbox.unknown,
        credit=inbox.credit,
        escrow=inbox.escrow,
        clean_bundles=inbox.clean_bundles,
        banned=inbox.banned,
        banned_hosts=banned_hosts,
        campaigns=inbox.campaigns,
        orders=inbox.orders,
        allowance=inbox.allowance,
        ask_again_seconds=inbox.ask_again_seconds,
        gather_seconds=inbox.gather_seconds,
        refused=refused,
        refused_states=refused_states,
    )
