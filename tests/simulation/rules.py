"""The rules that a simulation may replace, and broken ones that its checkers have to notice.

Each broken rule changes one function or parameter, and nothing that the checkers look at with.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from coordinator.policy import referee, settle, standing
from coordinator.policy.facts import HostRecord, StoredResult
from coordinator.policy.referee import CaseState, Situation
from coordinator.policy.settle import Settlement
from coordinator.policy.standing import Bar, Standing
from protocol.recipes.campaign import Policy
from protocol.trust import admission
from protocol.trust.admission import Decision
from protocol.trust.roster import Roster
from protocol.trust.verdict import Verdict
from simulation.actors import refereeing


def unchanged(value):
    return value


def shows_work(result: StoredResult, _right=StoredResult.shows_work) -> bool:
    return _right.__get__(result)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """As the product has them, by default."""

    receipt_epoch: Callable[[int], int] = unchanged  # links shown so far -> the epoch that a receipt states
    lease: Callable[[float], float] = unchanged  # the policy's seconds -> those of a claim
    decide: Callable[..., Decision] = admission.decide
    next_checker: Callable[..., str] = referee.next_checker
    roster_of: Callable[..., Roster] = standing.roster_of
    convict: Callable[..., Settlement] = settle.convict
    has_room: Callable[..., bool] = Situation.has_room
    stands: Callable[..., bool] = standing.stands
    shows_work: Callable[..., bool] = shows_work

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """While this lasts, the policy decides by these rules."""
        places: tuple[tuple[Any, str], ...] = (
            (referee, "decide"),
            (referee, "next_checker"),
            (refereeing, "roster_of"),
            (settle, "convict"),
            (Situation, "has_room"),
            (standing, "stands"),
            (refereeing, "stands"),
        )
        with contextlib.ExitStack() as stack:
            for module, name in places:
                stack.enter_context(mock.patch.object(module, name, getattr(self, name)))
            stack.enter_context(mock.patch.object(StoredResult, "shows_work", property(self.shows_work)))
            yield


def dated_back(epoch: int) -> int:
    """The receipt states an epoch before the last link: its challenge was known before the result was handed in."""
    return max(0, epoch - 1)


def without_end(seconds: float) -> float:
    return 1e12


def accused_decides(slots: int, answers: dict[int, Verdict], replays: dict[int, Verdict]) -> Decision:
    """Where a checker disagrees with the worker, the worker's own word settles it: of course it agrees with itself."""
    own = {slot: Verdict(cells=said.cells, bad_cells=(), bad_networks=()) for slot, said in answers.items()}
    return admission.decide(slots, answers, {slot: own[slot] for slot, said in answers.items() if not said.valid})


def anybody_first(case: CaseState, situation: Situation, slot: int, busy: set[str], _right=referee.next_checker) -> str:
    """A stranger's first slot is drawn like all others: nothing keeps its friends from having all of them."""
    return _right(replace(case, standing=True), situation, slot, busy)


def one_key_one_vote(known: Mapping[str, Standing], bar: Bar, tags: Mapping[str, bytes]) -> Roster:
    """Every key weighs the same: a host that splits itself into many has most of the draw."""
    equal = {name: replace(one, credit=1) for name, one in known.items() if standing.stands(one, bar)}
    return standing.roster_of(equal, Bar(bar.bundles, 0), tags)


def only_banned(worker: HostRecord, why: str) -> Settlement:
    """A convicted host keeps what it was credited with, and what it handed in stays."""
    settlement = settle.ban(worker, why)
    known = replace(settlement.worker, convicted=True)
    return settlement.then(Settlement(worker=known, convicted="" if worker.convicted else worker.host))


def always_room(situation: Situation, host: str, policy: Policy) -> bool:
    """Whoever has standing gets all checks at once, however many come."""
    return True


def bundles_alone(host: Standing, bar: Bar, _right=standing.stands) -> bool:
    """However little was trained for them."""
    return _right(host, Bar(bar.bundles, 0))


def all_count(_result: StoredResult) -> bool:
    """A bundle of networks that met their stop rule before the first step, too."""
    return True


BROKEN = {
    "challenge known before commitment": Rules(receipt_epoch=dated_back),
    "leases never end": Rules(lease=without_end),
    "verdict of the accused host counts": Rules(decide=accused_decides),
    "no house slot": Rules(next_checker=anybody_first),
    "unweighted draws": Rules(roster_of=one_key_one_vote),
    "nothing is retracted": Rules(convict=only_banned),
    "checks pile up": Rules(has_room=always_room),
    "standing without much work": Rules(stands=bundles_alone),
    "standing without any work": Rules(stands=bundles_alone, shows_work=all_count),
}
