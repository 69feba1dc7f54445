"""Dealing with the coordinator: hand in, poll, read the inbox, answer. Nothing here blocks for longer than one call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peer.progress import View
from peer.session.client import Away, Backoff, Client, is_receipt
from peer.session.dataset_fetcher import Stock
from peer.session.requests import fetch_check, hand_in_part, open_cells
from peer.state import Event, Holding, Holdings, Phase
from peer.storage.home import Home
from peer.trainer.process import Crew
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign
from protocol.trust.envelope import unseal
from protocol.trust.messages import Admission, Answer, CheckRequest, Inbox, Manifest

REFUSALS_MAX = 3
HELD_NAMED_MAX = 64  # results in one heartbeat, the message's own limit


@dataclass(frozen=True)
class Options:
    name: str
    threads: int
    version: str
    device: str
    until_done: bool


class Banned(Exception):
    """The organizer refuses this host; the message says why."""


class Desk:
    """What this host owes the coordinator and hears from it. `gone` is told of holdings that have ended."""

    def __init__(
        self,
        home: Home,
        client: Client,
        crew: Crew,
        options: Options,
        view: View,
        holdings: Holdings,
        stock: Stock,
        gone: Callable[[Holding, Event], None],
        new_campaign: Callable[[str], None],
    ):
        self.home, self.client, self.crew, self.options = home, client, crew, options
        self.view, self.stats, self.holdings, self.stock = view, view.stats, holdings, stock
        self.gone, self.new_campaign = gone, new_campaign
        self.campaigns: dict[str, tuple[Campaign, Manifest]] = {}
        self.states: dict[str, str] = {}  # campaign digest -> running, paused, complete, cancelled
        self.banned_hosts: set[str] = set()
        self.answers: list[Answer] = []
        self.checking: set[tuple[bytes, int]] = set()
        self.backoff = Backoff()
        self.refusals = 0  # results refused in a row
        self._refused: set[str] = set()

    def ask(self, now: float) -> None:
        try:
            self.hand_in()
            self._send_answers()
            inbox = self.client.poll(self._heartbeat())
            self.backoff.worked()
            self._read(inbox)
        except Away as error:
            if not self.backoff.delay:
                self.view.say(f"the coordinator is away ({error}); work goes on, results are kept on disk")
            self.backoff.failed(now)
        except Refused as error:
            if error.reason == "banned":
                raise Banned(str(error)) from None
            if str(error) not in self._refused:
                self._refused.add(str(error))
                self.view.say(f"refused: {error}")
            self.backoff.failed(now)

    def _heartbeat(self) -> dict[str, Any]:
        holding = [h.result.digest for h in self.holdings.of(Phase.COMMITTED) if h.result is not None]
        return {
            "name": self.options.name,
            "device": self.options.device,
            "version": self.options.version,
            "steps_per_second": self.stats.steps_per_second,
            "networks_trained": self.stats.networks,
            "checks_done": self.stats.checks,
            "holding": tuple(holding[:HELD_NAMED_MAX]),
        }

    def hand_in(self) -> None:
        for holding in self.holdings.of(Phase.TRAINED):
            assert holding.result is not None
            try:
                reply = self.client.submit_result(holding.result)
            except Refused as error:
                if error.reason == "banned":
                    raise
                self.view.say(f"{holding.name}: refused: {error}")
                self.gone(holding, Event.OUTCOME)
                self.refusals += 1
                if self.refusals >= REFUSALS_MAX:  # training the same for the same answer helps nobody
                    raise UsageError(f"the coordinator refused {self.refusals} results in a row: {error}") from None
                continue
            self.refusals = 0
            if is_receipt(reply):
                holding.bundle.keep("receipt", reply)
                self.holdings.take(holding, Event.RECEIPT)
                self._upload(holding, ("trace", "weights"))
            else:
                self.view.say(f"{holding.name}: another host handed this in first; dropped")
                self.gone(holding, Event.OUTCOME)

    def _upload(self, holding: Holding, parts: tuple[str, ...]) -> None:
        assert holding.result is not None
        for part in parts:
            try:
                hand_in_part(part, holding.result.digest, holding.bundle, self.client)
            except Refused as error:
                self.view.say(f"{holding.name}: {part} refused: {error}")

    def _send_answers(self) -> None:
        while self.answers:
            answer = self.answers[0]
            try:
                self.client.submit_answer(answer)
                self.stats.checks += 1
            except Refused as error:  # too late, or no longer ours: somebody else has the slot
                self.view.say(f"check not needed any more: {error}")
            self.answers.pop(0)
            self.checking.discard((answer.result, answer.slot))

    def _read(self, inbox: Inbox) -> None:
        if inbox.banned:
            raise Banned(inbox.banned)
        self.stats.credit, self.stats.clean_bundles = inbox.credit, inbox.clean_bundles
        self.banned_hosts.clear()
        self.banned_hosts.update(inbox.banned_hosts)
        self.states = dict(inbox.campaigns)
        for digest, state in inbox.campaigns:
            if digest not in self.campaigns and state == "running":
                self.new_campaign(digest)
        for envelope in inbox.outcomes:
            self._outcome(unseal(envelope, Admission, signer=self.client.organizer))
        for digest in inbox.unknown:
            holding = self.holdings.by_result(digest)
            if holding is not None and holding.phase == Phase.COMMITTED:
                (holding.bundle.path / "receipt.envelope").unlink(missing_ok=True)
                self.holdings.take(holding, Event.UNKNOWN)
        for digest, part in inbox.missing:
            holding = self.holdings.by_result(digest)
            if holding is not None:
                self._upload(holding, (part,))
        for request in inbox.openings:
            holding = self.holdings.by_result(request.result)
            if holding is not None:
                self._guard(f"{holding.name}: opening refused", open_cells, request, holding.bundle, self.client)
        for request in inbox.checks:
            self._check(request)

    def _guard(self, what: str, action: Any, *args: Any) -> Any:
        """A single refusal is said, and the rest of the inbox goes on."""
        try:
            return action(*args)
        except Refused as error:
            self.view.say(f"{what}: {error}")
            return None

    def _check(self, request: CheckRequest) -> None:
        key = (request.result.digest, request.slot)
        if key in self.checking:
            return
        self.checking.add(key)
        try:
            path = fetch_check(request, self.campaigns, self.client, self.home, self.stock)
        except Refused as error:
            self.view.say(f"check refused: {error}")
            return
        if path is None:
            self.checking.discard(key)  # the next inbox asks again
        else:
            self.crew.check(path)

    def _outcome(self, admission: Admission) -> None:
        holding = self.holdings.by_result(admission.result)
        if holding is None:
            return
        if admission.outcome == "admitted":
            self.stats.admitted += 1
            self.view.say(f"{holding.name}: admitted, credit {admission.credit:,}")
        else:
            self.view.say(f"{holding.name}: {admission.outcome}: {admission.reason}")
        self.gone(holding, Event.OUTCOME)
