"""Blobs: which a host may upload, and which it may fetch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from coordinator.policy.phases import LIVE, Phase
from protocol.errors import Refused
from protocol.trust.messages import BlobPart


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFacts:
    """An announced upload, and the result that it belongs to."""

    signer: str
    worker: str
    part: BlobPart
    size: int  # bytes, as announced
    phase: Phase
    parts: Collection[str]  # that are here already
    legal_sizes: Mapping[BlobPart, int]  # bytes of every part that has been asked for


def is_here(facts: UploadFacts) -> bool:
    """True when we have the part, False when it is to be sent. Raises Refused, before a byte of it is read."""
    part = facts.part
    if facts.signer != facts.worker:
        raise Refused("upload-signer", "this result is another host's")
    if part in facts.parts:
        return True
    if facts.phase not in LIVE:
        raise Refused("upload-late", f"this result is {facts.phase}")
    if part == BlobPart.STATES and BlobPart.TRACE not in facts.parts:
        raise Refused("upload-order", "the trace comes before the states")
    if part not in facts.legal_sizes:
        raise Refused("upload-order", f"no {part} have been asked for")
    if facts.size != facts.legal_sizes[part]:
        raise Refused("upload-size", f"{facts.size} bytes announced; this {part} has {facts.legal_sizes[part]}")
    return False


def may_fetch(part: str, phase: Phase, parts: Collection[str], slot: int, slots: int) -> bool:
    """Whether anybody may download it now. A trace never before the outcome: checkers must not see end states."""
    if part == BlobPart.STATES:
        return slot < slots and BlobPart.STATES in parts and phase is Phase.CHECKING
    return part == BlobPart.WEIGHTS or (part == BlobPart.TRACE and phase not in LIVE)
