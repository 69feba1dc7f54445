"""Admission: the pure function from judged answers to admitted, rejected or waiting.

Convicting needs evidence, not votes: where a checker disagrees with the worker, the organizer replays the same slot
with another build (the NumPy reference), and that replay decides who is wrong. Anyone can repeat it.
"""

import msgspec

from protocol import StrEnum
from protocol.trust.verdict import Verdict


class Outcome(StrEnum):
    WAITING = "waiting"
    ADMITTED = "admitted"
    VOID = "void"  # not paid, assignment back in the pool; one bad place may be a hardware fault
    INVALID = "convicted"  # two bad places or more, confirmed by another build: the key is banned


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    outcome: Outcome
    reason: str
    disputed: tuple[int, ...] = ()  # the slot that the organizer must replay next
    false_accusers: tuple[int, ...] = ()  # slots whose checker's answer the replay contradicts


def decide(slots: int, answers: dict[int, Verdict], replays: dict[int, Verdict]) -> Decision:
    """`answers` are checkers' (or the organizer's, where he holds the slot), `replays` the organizer's of disputes.

    All slots must be answered; a slot that disagrees with the trace counts only after its replay. One is replayed after
    another, and two bad places are enough: a fake must not cost the organizer a slow replay of every slot.
    """
    disputed = tuple(s for s, judged in sorted(answers.items()) if not judged.valid and s not in replays)
    false_accusers = tuple(s for s in sorted(replays) if s in answers and not answers[s].valid and replays[s].valid)
    bad = [replays[s] for s in sorted(replays) if not replays[s].valid]
    cells = {cell for judged in bad for cell in judged.bad_cells}
    networks = {n for judged in bad for n in judged.bad_networks}
    if len(cells) + len(networks) >= 2:
        return Decision(
            outcome=Outcome.INVALID,
            reason=f"replay disagrees in {len(cells)} segments and {len(networks)} networks' start or held-out loss",
            false_accusers=false_accusers,
        )
    if disputed:
        return Decision(outcome=Outcome.WAITING, reason="a disagreement is being replayed", disputed=disputed[:1])
    if cells or networks:
        place = ", ".join(f"network {c.network} segment {c.segment}" for c in cells) or f"network {min(networks)}"
        return Decision(outcome=Outcome.VOID, reason=f"replay disagrees at {place}", false_accusers=false_accusers)
    missing = slots - len(answers)
    if missing:
        return Decision(
            outcome=Outcome.WAITING,
            reason=f"{missing} of {slots} checkers have not answered",
            false_accusers=false_accusers,
        )
    return Decision(outcome=Outcome.ADMITTED, reason=f"{slots} checkers agree", false_accusers=false_accusers)
