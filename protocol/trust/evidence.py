"""Evidence: everything that admitted a bundle, as bytes that anybody re-verifies with this package alone.

`verify_evidence` trusts nothing but the organizer's host name: signatures, the commitment, the beacon's chain, the
draw, every answer, and the decision are all recomputed.
"""

import msgspec

from protocol.errors import Refused
from protocol.recipes.campaign import campaign_from_bytes
from protocol.trust.admission import Decision, Outcome, decide
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import Admission, Answer, CampaignManifest, Draw, Result
from protocol.trust.openings import open_draw, slot_tasks
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

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(self)


class VerifiedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What the evidence proves about a bundle."""

    result: Result
    worker: str
    organizer: str
    checkers: dict[int, tuple[str, ...]]  # seed -> hosts other than the worker that checked this network
    cells: dict[int, int]  # seed -> segments replayed
    weights_digests: dict[int, bytes]


def evidence_from_bytes(data: bytes) -> Evidence:
    """Raises Refused."""
    if len(data) > EVIDENCE_BYTES_MAX:
        raise Refused("evidence-size", f"{len(data)} bytes")
    try:
        return msgspec.msgpack.decode(data, type=Evidence)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("evidence-schema", str(error)) from None


def verify_evidence(evidence: Evidence, campaign_bytes: bytes, organizer: str | None = None) -> VerifiedBundle:
    """Re-verify an admitted bundle from nothing but its evidence and the campaign's bytes. Raises Refused.

    Give `organizer` (a host name) to pin who must have signed; otherwise the manifest's signer is taken.
    """
    campaign = campaign_from_bytes(campaign_bytes)
    organizer = organizer or evidence.manifest.signer
    manifest = unseal(evidence.manifest, CampaignManifest, signer=organizer)
    result, assignment = open_result(evidence.result, campaign)
    worker, result_digest = evidence.result.signer, evidence.result.digest
    traces = open_traces(evidence.traces, result, assignment, worker)
    draw = open_draw(evidence.receipt, evidence.draw, manifest, campaign, evidence.result, organizer)
    tasks = slot_tasks(campaign, assignment, result, result_digest, draw)
    seated, decision = _judge_all(evidence, organizer, draw, worker, tasks, traces)
    admission = unseal(evidence.admission, Admission, signer=organizer)
    if decision.outcome != Outcome.ADMITTED or admission.outcome != "admitted" or admission.result != result_digest:
        raise Refused("admission", f"the evidence says {decision.outcome.value}: {decision.reason}")
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
        weights_digests={network.seed: network.weights_digest for network in result.networks},
    )


def _judge_all(
    evidence: Evidence, organizer: str, draw: Draw, worker: str, tasks: list, traces: list
) -> tuple[dict[int, str], Decision]:
    """Judge every answer and replay; returns who answered each slot, and the decision that follows."""
    judged, seated = {}, {}
    for envelope in evidence.answers:
        answer = unseal(envelope, Answer)
        if envelope.signer not in (*draw.candidates, organizer) or envelope.signer == worker:
            raise Refused("checker", f"{envelope.signer} was not drawn")
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
