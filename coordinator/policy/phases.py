"""A result's phases, and the events that lead from one to the next. What is absent from the table cannot happen.

The words are stored in the ledger: a name here may change, its value may not.
"""

import enum


class Phase(enum.StrEnum):
    COMMITTED = "committed"  # receipt given; waits for a beacon link younger than the receipt
    OPENING = "opening"  # challenged; waits for the worker's blobs
    CHECKING = "checking"  # all blobs are here; waits for the checkers
    KEPT = "kept"  # another host's result has the assignment; it is taken up should that one fall
    ADMITTED = "admitted"
    VOID = "void"  # not paid, its assignment is free again; nobody was shown to have lied
    INVALID = "convicted"  # shown to be wrong: the worker is banned
    RETRACTED = "retracted"  # was admitted, and is no more: not paid, and its assignment is free again


UNDER_WAY = (Phase.COMMITTED, Phase.OPENING, Phase.CHECKING)
LIVE = (*UNDER_WAY, Phase.KEPT)  # not settled
HELD = (*LIVE, Phase.ADMITTED)  # an assignment with such a result is not in the pool


class Event(enum.StrEnum):
    DRAWN = "drawn"
    UPLOADED = "uploaded"
    MISMATCH = "mismatch"  # an upload is not what was committed to
    OVERDUE = "overdue"  # the worker opened nothing in time
    AGREED = "agreed"
    ONE_BAD_PLACE = "one-bad-place"  # may be a hardware fault
    PROVED_WRONG = "proved-wrong"
    AUDIT_FAILED = "audit-failed"  # admitted, and then the organizer trained a network of it again
    VOIDED_UNVESTED = "voided-unvested"  # admitted, and its worker was convicted while the credit was in escrow
    EQUIVOCATED = "equivocated"  # two results of one host for one assignment
    HOST_BANNED = "host-banned"
    HANDED_IN_AGAIN = "handed-in-again"  # keeps its receipt and its draw: the challenge is never drawn twice
    BLOB_LOST = "blob-lost"  # our own disk's fault
    SET_ASIDE = "set-aside"  # another host's result for the assignment was uploaded first; this one is kept
    TAKEN_UP = "taken-up"  # that one fell: now it is judged as if it had come now
    OVERTAKEN = "overtaken"  # another host's was uploaded first, and is admitted, or too many are kept already
    WITHDRAWN = "withdrawn"  # never opened, and then another result was handed in instead


TRANSITIONS = {
    (Phase.COMMITTED, Event.DRAWN): Phase.OPENING,
    (Phase.COMMITTED, Event.SET_ASIDE): Phase.KEPT,
    (Phase.COMMITTED, Event.MISMATCH): Phase.VOID,
    (Phase.COMMITTED, Event.OVERTAKEN): Phase.VOID,
    (Phase.COMMITTED, Event.EQUIVOCATED): Phase.INVALID,
    (Phase.COMMITTED, Event.HOST_BANNED): Phase.VOID,
    (Phase.OPENING, Event.UPLOADED): Phase.CHECKING,
    (Phase.OPENING, Event.SET_ASIDE): Phase.KEPT,
    (Phase.OPENING, Event.MISMATCH): Phase.VOID,
    (Phase.OPENING, Event.OVERDUE): Phase.VOID,
    (Phase.OPENING, Event.OVERTAKEN): Phase.VOID,
    (Phase.OPENING, Event.EQUIVOCATED): Phase.INVALID,
    (Phase.OPENING, Event.HOST_BANNED): Phase.VOID,
    (Phase.CHECKING, Event.AGREED): Phase.ADMITTED,
    (Phase.CHECKING, Event.ONE_BAD_PLACE): Phase.VOID,
    (Phase.CHECKING, Event.PROVED_WRONG): Phase.INVALID,
    (Phase.CHECKING, Event.EQUIVOCATED): Phase.INVALID,
    (Phase.CHECKING, Event.HOST_BANNED): Phase.VOID,
    (Phase.CHECKING, Event.BLOB_LOST): Phase.OPENING,
    (Phase.KEPT, Event.TAKEN_UP): Phase.COMMITTED,
    (Phase.KEPT, Event.MISMATCH): Phase.VOID,
    (Phase.KEPT, Event.OVERDUE): Phase.VOID,
    (Phase.KEPT, Event.OVERTAKEN): Phase.VOID,
    (Phase.KEPT, Event.EQUIVOCATED): Phase.INVALID,
    (Phase.KEPT, Event.HOST_BANNED): Phase.VOID,
    (Phase.ADMITTED, Event.AUDIT_FAILED): Phase.RETRACTED,
    (Phase.ADMITTED, Event.VOIDED_UNVESTED): Phase.RETRACTED,
    (Phase.VOID, Event.HANDED_IN_AGAIN): Phase.COMMITTED,
    (Phase.VOID, Event.WITHDRAWN): Phase.VOID,
    (Phase.VOID, Event.PROVED_WRONG): Phase.INVALID,  # one bad place, and then who judged its checkers found another
}
FAULTS = frozenset({Event.MISMATCH, Event.ONE_BAD_PLACE, Event.WITHDRAWN})
PROVEN_FRAUD = frozenset({Event.PROVED_WRONG, Event.EQUIVOCATED, Event.AUDIT_FAILED})
JUDGED = frozenset({Event.PROVED_WRONG, Event.ONE_BAD_PLACE, Event.AUDIT_FAILED})  # then: who vouched for it?
MAY_RETURN = frozenset({Event.MISMATCH, Event.OVERDUE, Event.OVERTAKEN, Event.HOST_BANNED})  # nobody lied


def next_phase(phase: Phase, event: Event) -> Phase | None:
    """Where the event leads, or None: it comes too late, for another event was faster."""
    return TRANSITIONS.get((phase, event))
