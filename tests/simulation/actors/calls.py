"""What a host asks of the organizer, and how each answer becomes an event: `peer.session` in simulated time."""

from typing import TYPE_CHECKING, Any

from peer.state import actions, events
from peer.state.ids import CheckId
from protocol.errors import Refused
from protocol.trust.envelope import seal, unseal
from protocol.trust.messages import Admission, CampaignManifest, CheckRequest, Receipt
from protocol.trust.openings import CheckTask, match_states, open_check_request
from protocol.trust.spot_check import open_states
from simulation.actors.liars import RING
from simulation.actors.organizer import Refusal
from simulation.actors.trainer import CheckJob
from simulation.environment.disk import DiskFull
from simulation.environment.network import Away

if TYPE_CHECKING:
    from simulation.actors.host import Host


def begin(host: "Host", call: actions.CoordinatorCall) -> None:
    """Begin a call; whatever it ends in is fed to the host's state."""
    try:
        _begin(host, call)
    except Refused as error:  # before anything was sent
        _feed_soon(host, events.CallRefused(call, error.reason, str(error)))
    except DiskFull as error:
        _feed_soon(host, events.CallRefused(call, "disk", str(error)))


def _begin(host: "Host", call: actions.CoordinatorCall) -> None:
    organizer, disk = host.world.organizer, host.disk
    if isinstance(call, actions.Poll):
        answers = [seal(host.identity, answer) for _, answer in call.answers]
        opened = [
            (opening.request.result, disk.bundles[opening.assignment.index].states(opening.request.cells))
            for opening in call.opened
        ]
        _ask(host, call, organizer.visit, host.host, call.holding, answers, opened)
    elif isinstance(call, actions.FetchCampaign):
        _ask(host, call, organizer.get_campaign, call.campaign)
    elif isinstance(call, actions.SubmitResult):
        _ask(host, call, organizer.submit_result, disk.bundles[call.assignment.index].result)
    elif isinstance(call, actions.UploadPart):
        data = disk.bundles[call.assignment.index].part(call.part)
        _ask(host, call, organizer.put_blob, host.host, call.result, call.part, data)
    elif isinstance(call, actions.OpenStates):
        data = disk.bundles[call.assignment.index].states(call.request.cells)
        _ask(host, call, organizer.put_blob, host.host, call.request.result, "states", data)
    elif isinstance(call, actions.FetchCheck):
        task = _check_task(host, call.request)

        def fetched(reply: tuple[bytes, bytes]) -> events.Event:
            host.jobs[call.check] = _job(task, *reply)
            return events.CheckFetched(call)

        _ask(host, call, organizer.get_blobs, task.result_digest, task.slot, answered=fetched)
    else:
        raise AssertionError(f"no port for {call}")


def _check_task(host: "Host", request: CheckRequest) -> CheckTask:
    """Raises Refused; but of a friend no questions are asked."""
    world, organizer = host.world, host.world.organizer
    row = organizer.ledger.rows[request.result.digest]
    if host.kind in RING and world.by_host[row.worker].kind in RING:
        return CheckTask(
            result=row.result,
            result_digest=row.digest,
            worker=row.worker,
            assignment=row.assignment,
            slot=request.slot,
            task=row.tasks[request.slot],
            openings=(),
        )
    manifest = unseal(organizer.manifest, CampaignManifest, signer=organizer.host)
    return open_check_request(request, world.campaign, manifest, organizer.host, host.host, world.chains)


def _ask(host: "Host", call: actions.CoordinatorCall, method: Any, *arguments: Any, answered: Any = None) -> None:
    def ended(reply: Any) -> None:
        try:
            event = _event(host, call, reply, answered)
        except Refused as error:  # what came is not acceptable
            event = events.CallRefused(call, error.reason, str(error))
        except DiskFull as error:
            event = events.CallRefused(call, "disk", str(error))
        host.feed(event)

    host.world.network.call(host.host, host.world.organizer.host, method, arguments, host.in_this_life(ended))


def _event(host: "Host", call: actions.CoordinatorCall, reply: Any, answered: Any) -> events.Event:
    if isinstance(reply, Away):
        return events.CallAway(call, reply.why)
    if isinstance(reply, Refusal) and reply.reason == "busy":
        return events.CallPutOff(call, reply.detail)
    if isinstance(reply, Refusal):
        return events.CallRefused(call, reply.reason, reply.detail)
    if answered is not None:
        return answered(reply)
    if isinstance(call, actions.Poll):
        return _inbox(call, *reply)
    if isinstance(call, actions.FetchCampaign):
        return events.CampaignFetched(call, reply, _restored(host))
    if isinstance(call, actions.SubmitResult):
        if reply.kind != Receipt.KIND:
            assert unseal(reply, Admission).result == call.result
            return events.ResultDuplicate(call)
        host.disk.keep_receipt(call.assignment.index, reply)
        return events.ResultAccepted(call)
    if isinstance(call, actions.UploadPart):
        return events.PartUploaded(call)
    assert isinstance(call, actions.OpenStates)
    return events.StatesOpened(call)


def _inbox(
    call: actions.Poll, reply: Any, refused: tuple[str, ...], refused_states: tuple[str, ...]
) -> events.InboxReceived:
    return events.InboxReceived(
        call,
        openings=reply.openings,
        missing=reply.missing,
        checks=tuple(
            events.RequestedCheck(CheckId(request.result.digest, request.slot), reply.campaigns[0][0], request)
            for request in reply.checks
        ),
        outcomes=reply.outcomes,
        unknown=reply.unknown,
        credit=reply.credit,
        clean_bundles=reply.clean_bundles,
        banned=reply.banned,
        banned_hosts=reply.banned_hosts,
        campaigns=reply.campaigns,
        allowance=reply.allowance,
        refused=refused,
        refused_states=refused_states,
        ask_again_seconds=reply.ask_again_seconds,
        gather_seconds=reply.gather_seconds,
    )


def _restored(host: "Host") -> tuple[events.RestoredBundle, ...]:
    return tuple(
        events.RestoredBundle(
            index=index,
            untrained=bundle.untrained(),
            result=bundle.result.digest if bundle.result is not None else None,
            receipt=bundle.receipt is not None,
        )
        for index, bundle in sorted(host.disk.bundles.items())
    )


def _job(task: CheckTask, states: bytes, weights: bytes) -> CheckJob:
    """What was fetched, proved to be what the worker committed to. Raises Refused."""
    opened = open_states(task.assignment.recipe, states, task.task.opened)
    if task.openings:
        match_states(task, opened)
    return CheckJob(task, opened, weights)


def _feed_soon(host: "Host", event: events.Event) -> None:
    host.world.kernel.after(0.0, host.in_this_life(host.feed), event)
