"""Admission: the pure function from judged answers to admitted, rejected or waiting.

Convicting needs evidence, not votes: where a checker disagrees with the worker, the organizer replays the same slot
with another build (the NumPy reference), and that replay decides who is wrong. Anyone can repeat it.
"""

import enum

import msgspec

from protocol.trust.verdict import Judged


class Outcome(str, enum.Enum):
    WAITING = "waiting"
    ADMITTED = "admitted"
    VOID = "void"  # not paid, assignment back in the pool; one bad place may be a hardware fault
    CONVICTED = "convicted"  # two bad places or more, confirmed by another build: the key is banned


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    outcome: Outcome
    reason: str
    disputed: tuple[int, ...] = ()  # slots that the organizer must replay before anything is decided
    liars: tuple[int, ...] = ()  # slots whose checker's answer the replay contradicts


def decide(slots: int, answers: dict[int, Judged], replays: dict[int, Judged]) -> Decision:
    """`answers` are checkers' (or the organizer's, where he holds the slot), `replays` the organizer's of disputes.

    All slots must be answered; a slot that disagrees with the trace counts only after its replay.
    """
    disputed = tuple(s for s, judged in sorted(answers.items()) if not judged.valid and s not in replays)
    if disputed:
        return Decision(outcome=Outcome.WAITING, reason="a disagreement is being replayed", disputed=disputed)
    liars = tuple(s for s, judged in sorted(answers.items()) if not judged.valid and replays[s].valid)
    bad = [replays[s] for s in sorted(replays) if not replays[s].valid]
    cells = {cell for judged in bad for cell in judged.bad_cells}
    networks = {n for judged in bad for n in judged.bad_networks}
    if len(cells) + len(networks) >= 2:
        return Decision(
            outcome=Outcome.CONVICTED,
            reason=f"replay disagrees in {len(cells)} segments and {len(networks)} networks' start or held-out loss",
            liars=liars,
        )
    if cells or networks:
        place = ", ".join(f"network {c.network} segment {c.segment}" for c in cells) or f"network {min(networks)}"
        return Decision(outcome=Outcome.VOID, reason=f"replay disagrees at {place}", liars=liars)
    missing = slots - len(answers)
    if missing:
        return Decision(outcome=Outcome.WAITING, reason=f"{missing} of {slots} checkers have not answered", liars=liars)
    return Decision(outcome=Outcome.ADMITTED, reason=f"{slots} checkers agree", liars=liars)
