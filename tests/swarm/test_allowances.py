"""How much a host may claim: the rule, and the book that signs what it says."""

import pytest
from sqlalchemy import insert

from coordinator.ledger.allowances import LOOK_SECONDS, AllowanceBook
from coordinator.ledger.database import Ledger
from coordinator.ledger.tables import campaigns, results
from coordinator.policy.inbox import PATIENCE_SECONDS, PATIENCE_SECONDS_MAX, allowance_of
from protocol.errors import Refused
from protocol.trust.allowance import ASSIGNMENTS_MAX, FRESH_ASSIGNMENTS, Allowances
from protocol.trust.identity import Identity


def test_a_new_host_may_claim_a_handful_and_more_as_it_proves_its_speed():
    assert allowance_of([])[0] == FRESH_ASSIGNMENTS
    assert allowance_of([1000.0])[0] == FRESH_ASSIGNMENTS + 1, "one admitted bundle: proved, its speed unknown"
    slow, quick = [10_000.0 - 600 * i for i in range(16)], [1000.0 - i for i in range(16)]
    assert allowance_of(slow)[0] == FRESH_ASSIGNMENTS + 1
    assert allowance_of(quick)[0] == ASSIGNMENTS_MAX
    assert allowance_of([1000.0 - 10 * i for i in range(16)])[0] == FRESH_ASSIGNMENTS + 12, "two minutes of its pace"
    assert allowance_of([100_000.0, *quick])[0] == ASSIGNMENTS_MAX, "a night's pause is no pace"
    assert allowance_of([5.0, 5.0, 5.0])[0] == ASSIGNMENTS_MAX, "many at the same moment"


def test_patience_follows_the_pace_within_bounds():
    assert allowance_of([])[1] == allowance_of([10.0, 9.0])[1] == PATIENCE_SECONDS
    assert allowance_of([1000.0, 700.0])[1] == 6000
    assert allowance_of([90_000.0, 0.0])[1] == PATIENCE_SECONDS_MAX


def row(host: str, at: float) -> dict:
    blobs = dict.fromkeys(("receipt", "admission", "draw", "envelope"), b"")
    numbers = {"assignment": int(at), "epoch": 0, "received_at": at, "networks": 1, "segments": 1, "since": at}
    return {"digest": repr(at).encode(), "campaign": "c", "worker": host, "phase": "admitted"} | numbers | blobs


def test_the_book_signs_anew_only_when_something_has_changed():
    organizer, host, now = Identity.generate(), Identity.generate().host, [1_000_000.0]
    ledger = Ledger.in_memory()
    book = AllowanceBook(organizer, lambda: now[0])

    def ask():
        with ledger.read() as connection:
            return book.of(connection, host)

    first = ask()
    assert first.assignments == FRESH_ASSIGNMENTS and not first.proved
    believed = Allowances(organizer.host)
    believed.check(first, host, FRESH_ASSIGNMENTS, now[0])
    with pytest.raises(Refused, match="the allowance of"):
        believed.check(first, host, 1, first.expires + 61)
    now[0] += LOOK_SECONDS
    assert ask() is first, "nothing has changed"
    values = {"exact": b"", "manifest": b"", "state": "running", "seeded_at": 0.0}
    ledger.write(lambda c: c.execute(insert(campaigns).values(digest="c", **values)))
    ledger.write(lambda c: c.execute(insert(results), [row(host, now[0] - 10 * i) for i in range(4)]))
    assert ask() is first, "looked up a moment ago"
    now[0] += LOOK_SECONDS
    assert ask().assignments == FRESH_ASSIGNMENTS + 12
    now[0] += 13 * 3600
    assert ask().expires > now[0] + 23 * 3600, "renewed before it ends"
    ledger.close()
