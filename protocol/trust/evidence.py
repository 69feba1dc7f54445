"""Evidence: everything that admitted a bundle, as bytes that anybody re-verifies with this package alone.

`verify_evidence` trusts nothing but the organizer's host name: signatures, the commitment, the beacon's chain, the
draw, every checker's seat, every answer, and the decision are all recomputed. What it cannot see is who was present.
"""

import msgspec

from protocol.canonical import NOT_DECODABLE
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign, Policy
from protocol.trust.admission import Decision, Outcome, decide
from protocol.trust.challenge import BeaconChains, SlotTask
from protocol.trust.commitment import Trace
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import Admission, Answer, CampaignManifest, Draw, Result, Seat
from protocol.trust.openings import check_checker, open_draw, slot_tasks
from protocol.trust.verdict import judge, open_result, open_traces

EVIDENCE_BYTES_MAX = 64 * 1024 * 1024


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bundle's file in the zoo's `evidence/`, as msgpack."""

    manifest: Envelope
    result: Envelope
    traces: bytes
    receipt: Envelope
    draw: Envelope
    answers: tuple[Envelope, ...]  # one a slot, by its checker
    replays: tuple[Envelope, ...]  # the organizer's, where answers disagreed
    admission: Envelope
    seats: dict[int, Seat]  # by slot: why this host had it; none for the organizer and hosts that the campaign names

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self)

    def envelopes(self) -> tuple[Envelope, ...]:
        """All that somebody signed."""
        one = (self.manifest, self.result, self.receipt, self.draw, self.admission)
        return (*one, *self.answers, *self.replays)


class VerifiedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What the evidence proves about a bundle."""

    result: Result
    worker: str
    organizer: str
    checkers: dict[int, tuple[str, ...]]  # seed -> hosts other than the worker that checked this network
    cells: dict[int, int]  # seed -> segments replayed
    cells_of_house: int  # segments that the organizer, or a host that the campaign names, replayed
    standing: bool  # whether the worker's earlier bundles had been verified
    weights_digests: dict[int, bytes]
    traces: tuple[Trace, ...]
    tasks: tuple[SlotTask, ...]  # of the slots


def evidence_from_bytes(data: bytes) -> Evidence:
    """Raises Refused."""
    if len(data) > EVIDENCE_BYTES_MAX:
        raise Refused("evidence-size", f"{len(data)} bytes")
    try:
        return msgspec.msgpack.decode(data, type=Evidence)
    except NOT_DECODABLE as error:
        if "missing required field `seats`" in str(error):
            raise Refused("evidence-version", "written by zooswarm 0.1; this version does not verify it") from None
        raise Refused("evidence-schema", str(error)) from None


def verify_evidence(
    evidence: Evidence, campaign: Campaign, chains: BeaconChains, organizer: str | None = None
) -> VerifiedBundle:
    """Re-verify an admitted bundle from nothing but its evidence and its campaign. Raises Refused.

    Give `organizer` (a host name) to pin who must have signed; otherwise the manifest's signer is taken. `chains` may
    be new; whoever verifies many keeps one.
    """
    organizer = organizer or evidence.manifest.signer
    manifest = unseal(evidence.manifest, CampaignManifest, signer=organizer)
    result, assignment = open_result(evidence.result, campaign)
    worker, result_digest = evidence.result.signer, evidence.result.digest
    traces = open_traces(evidence.traces, result, assignment, worker)
    draw = open_draw(evidence.receipt, evidence.draw, manifest, campaign, evidence.result, organizer, chains)
    tasks = slot_tasks(campaign, assignment, result, result_digest, draw)
    seated, decision = _judge_all(evidence, organizer, tasks, traces)
    _check_seats(evidence, draw, campaign.policy, organizer, seated)
    admission = unseal(evidence.admission, Admission, signer=organizer)
    if decision.outcome != Outcome.ADMITTED or admission.outcome != "admitted" or admission.result != result_digest:
        raise Refused("admission", f"the evidence says {decision.outcome.value}: {decision.reason}")
    named = campaign.policy.named_checkers
    checkers: dict[int, set[str]] = {seed: set() for seed in assignment.seeds}
    cells = dict.fromkeys(assignment.seeds, 0)
    for slot, task in enumerate(tasks):
        for cell in task.cells:
            checkers[assignment.seeds[cell.network]].add(seated[slot])
            cells[assignment.seeds[cell.network]] += 1
        for n in task.networks:
            checkers[assignment.seeds[n]].add(seated[slot])
    return VerifiedBundle(
        result=result,
        worker=worker,
        organizer=organizer,
        checkers={seed: tuple(sorted(hosts)) for seed, hosts in checkers.items()},
        cells=cells,
        cells_of_house=sum(len(task.cells) for slot, task in enumerate(tasks) if seated[slot] in (organizer, *named)),
        standing=draw.standing,
        weights_digests={network.seed: network.weights_digest for network in result.networks},
        traces=tuple(traces),
        tasks=tuple(tasks),
    )


def _judge_all(
    evidence: Evidence, organizer: str, tasks: list[SlotTask], traces: list[Trace]
) -> tuple[dict[int, str], Decision]:
    """Judge every answer and replay; returns who answered each slot, and the decision that follows."""
    judged, seated = {}, {}
    for envelope in evidence.answers:
        answer = unseal(envelope, Answer)
        if answer.result != evidence.result.digest or answer.slot >= len(tasks) or answer.slot in judged:
            raise Refused("answer", "an answer is for another result, or twice for one slot")
        judged[answer.slot] = judge(answer, tasks[answer.slot], traces)
        seated[answer.slot] = envelope.signer
    replays = {}
    for envelope in evidence.replays:
        answer = unseal(envelope, Answer, signer=organizer)
        if answer.result != evidence.result.digest or answer.slot not in judged:
            raise Refused("replay", "a replay is for another result, or for a slot without an answer")
        replays[answer.slot] = judge(answer, tasks[answer.slot], traces)
    return seated, decide(len(tasks), judged, replays)


def _check_seats(evidence: Evidence, draw: Draw, policy: Policy, organizer: str, seated: dict[int, str]) -> None:
    """Every checker had its seat by the draw, none had two, and no two came from one network's prefix."""
    worker = evidence.result.signer
    if worker in seated.values():
        raise Refused("checker", "the worker checked itself")
    others = {slot: host for slot, host in seated.items() if host != organizer}
    tags = [seat.tag for slot, seat in evidence.seats.items() if slot in others and seat.tag]
    if len(set(others.values())) < len(others) or len(set(tags)) < len(tags):
        raise Refused("checker", "one host, or one network's prefix, has two slots")
    for slot, host in others.items():
        check_checker(draw, policy, worker, slot, host, evidence.seats.get(slot))
