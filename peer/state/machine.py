"""`PeerState`: an event and the time in, actions out. No clock, chance, disk or network in here."""

from math import inf

from peer.state.actions import Action
from peer.state.events import CallEnded, Event
from peer.state.facts import PeerFacts, StoryEntry
from peer.state.held import CheckPhase, ImpossibleEvent, Phase
from peer.state.ids import AssignmentId
from peer.state.reactions import REACTIONS
from peer.state.replies import call_ended
from peer.state.rules import LEAVING_RULES, WORKING_RULES


class PeerState(PeerFacts):
    """A volunteer: `state = PeerState(settings)`, then `handle` everything that happens, beginning with Started."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """What to do about it, in order. Raises ImpossibleEvent for what cannot happen: a mistake in this program.

        `now` is in seconds on a monotonic clock of any origin.
        """
        if self.exited:
            raise ImpossibleEvent(f"{type(event).__name__} after Exit")
        if isinstance(event, CallEnded):
            call_ended(self, event, now)
        else:
            REACTIONS[type(event)](self, event, now)
        self._decide(now)
        actions, self.actions = self.actions, []
        return actions

    def _decide(self, now: float) -> None:
        working = self.leaving is None
        for rule in WORKING_RULES if working else LEAVING_RULES:
            rule(self, now)
            if working and self.leaving is not None:
                return self._decide(now)

    def next_wakeup(self) -> float:
        """When a Tick is due: before that it changes nothing. inf: only another event can bring something to do."""
        if self.leaving is not None:
            return self.leaving.by
        times = [self.claim_at]
        if self.call is None:
            campaigns = self.retries.earliest(self.unknown_campaigns)
            times.append(max(min(self.poll_at, campaigns), self.backoff.until))
            if self.hand_in.delay and self.held.phases[Phase.TRAINED]:
                times.append(max(self.hand_in.until, self.backoff.until))
        if self.renewing is None and self.campaigns:
            times.append(self.renew_at)
        if self.fetching is None and self.missing_datasets:
            times.append(min(self.dataset_retries.get(digest, -inf) for digest in self.missing_datasets))
        return min(times)

    def story(self, assignment: AssignmentId) -> tuple[StoryEntry, ...]:
        """What happened to an assignment since this program started, in order; of the last thousand."""
        return tuple(self.stories.get(assignment, ()))

    def validate(self, now: float) -> None:
        """Raises AssertionError when something does not fit together. After any event; for tests and simulations."""
        held, checks = self.held, self.checks
        assert not self.actions, "actions are returned by the handle that decided them"
        listed = [item for phase in Phase for item in held.phases[phase].values()]
        assert sorted(item.id for item in listed) == sorted(held.items), "every assignment is in one phase"
        for item in listed:
            assert item is held.items[item.id] and item in held.phases[item.phase].values()
            assert item.id.campaign in self.campaigns, f"{item.id}: of a campaign that we do not know"
            signed = item.phase in (Phase.TRAINED, Phase.COMMITTED)
            assert signed == (item.result is not None), f"{item.id} in {item.phase.name}: result {item.result!r}"
            assert not signed or held.results[item.result or b""] is item
            assert self.stories.get(item.id), f"{item.id} has no story"
        assert len(held.results) == held.count(Phase.TRAINED, Phase.COMMITTED)
        for key, wanted in (*self.uploads.items(), *((r, o) for r, o in self.openings.items())):
            assert wanted.assignment in held.items, f"{key} is to be uploaded, and is gone"
        for check in checks.items.values():
            assert (check.answer is not None) == (check.phase is CheckPhase.ANSWERED)
        assert not set(self.datasets) & set(self.missing_datasets)
        assert self.fetching is None or self.fetching in self.missing_datasets
        self._validate_nothing_forgotten(now)

    def _validate_nothing_forgotten(self, now: float) -> None:
        """Whatever waits has something that it waits for."""
        if self.exited:
            return
        assert self.next_wakeup() > now, "something is due and was not done"
        if self.leaving is not None:
            assert now < self.leaving.by
            return
        for item in self.held.of(Phase.WAITING):
            missing = item.data_set is not None and item.data_set in self.missing_datasets
            assert missing or self.pause is not None, f"{item.id} waits for nothing"
        if self.held.phases[Phase.RESUMING]:
            waits = self.allowance is None or self.claiming is not None or self.claim_at < inf
            waits = waits or bool(self.releasing) or self.pause is not None
            assert waits, "nobody resumes what was found on disk"
        assert self.fetching or not self.missing_datasets or self.next_wakeup() < inf
        if self.call is None and self.backoff.ready(now):
            trained = self.held.count(Phase.TRAINED) if self.hand_in.ready(now) else 0
            assert not trained + len(self.uploads), "something is ready for the coordinator, and nobody calls"
            to_say = self.openings or any(True for _ in self.checks.of(CheckPhase.ANSWERED))
            assert not to_say or now < self.gathers_until >= self.poll_at, "an answer or an opening is not sent"
