"""The volunteer's loop: hear the worker, ask the coordinator, claim through the DHT, hand in. One thread, short ticks.

Deciding lives in `holdings`, `duties` and protocol/; this file does what they say. Training runs in another process
(`crew`), the DHT on its own thread (`protocol.swarm.node`).
"""

import contextlib
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from peer.progress import View
from peer.session.client import Away, Client
from peer.session.dataset_fetcher import Stock
from peer.session.session import Desk, Options
from peer.state import Event, Holding, Holdings, Phase, claims_wanted, restore
from peer.storage.home import Home, Known
from peer.trainer.process import Crew
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign
from protocol.swarm.claimer import Claims
from protocol.swarm.node import SwarmNode
from protocol.swarm.records import BARE, PRESENCE_TTL, Presence, presence_bucket, presence_key
from protocol.trust.envelope import seal
from protocol.trust.messages import Answer, Manifest

POLL_SECONDS = 1.0
TICK_SECONDS = 0.1
CLAIM_PAUSE_SECONDS = 2.0  # after a claim that found nothing free
PRESENCE_SECONDS = 30.0


class Daemon:
    """Everything a volunteer's program holds while it runs."""

    def __init__(self, home: Home, client: Client, node: SwarmNode, crew: Crew, options: Options, view: View):
        self.home, self.client, self.node, self.crew = home, client, node, crew
        self.options, self.view, self.stats = options, view, view.stats
        self.holdings = Holdings()
        self.stock = Stock(home.shelf, client, home.free_bytes, view.say)
        self.desk = Desk(home, client, crew, options, view, self.holdings, self.stock, self._gone, self.learn_campaign)
        self.claims: dict[str, Claims] = {}
        self._unready: list[Holding] = []  # ours, but their data set is still on its way
        self._claiming: tuple[str, Future] | None = None
        self._renewing: Future | None = None
        self.device, self.width = (
            options.device,
            0,
        )  # the training process knows better; width: networks on GPUs at once
        self._next = {"poll": 0.0, "claim": 0.0, "renew": 0.0, "presence": 0.0}

    # -- the loop -------------------------------------------------------------------------------------------------
    def run(self, stop: Any) -> None:
        """Until `stop()` is true, or everything is done with --until-done. Raises Banned, UsageError."""
        while not stop():
            now = time.monotonic()
            self._hear_worker(now)
            if now >= self._next["poll"] and self.desk.backoff.ready(now):
                self._next["poll"] = now + POLL_SECONDS
                self.desk.ask(now)
            self._start_ready()
            self._claim(now)
            self._renew(now)
            self._present(now)
            self._update_stats()
            self.view.refresh(now)
            if self.options.until_done and self._all_done():
                return
            time.sleep(TICK_SECONDS)

    def _all_done(self) -> bool:
        states = self.desk.states.values()
        finished = bool(states) and all(state in ("complete", "cancelled") for state in states)
        return finished and not self.holdings.items and not self.desk.checking

    def _submit(self, coroutine: Coroutine) -> Future:
        return self.node.submit(coroutine)

    # -- the training process -------------------------------------------------------------------------------------
    def _hear_worker(self, now: float) -> None:
        for event in self.crew.events():
            kind = event["event"]
            if kind == "progress":
                self.stats.stepped(event["steps"], event["seconds"])
                self.stats.training = (
                    f"{event['label']}: {event['networks']} networks at step {event['at']:,}, "
                    f"best held-out loss {event['loss']:.4f}"
                )
            elif kind == "ready":
                self.device, self.width = event.get("device", self.device), event.get("width", 0)
            elif kind == "note":
                self.view.say(event["text"])
            elif kind == "network":
                self.stats.finished(now)
            elif kind == "trained":
                self._sign(event["path"], event["backend"])
            elif kind == "checked":
                self._answer(event)
            elif kind == "unchecked":
                Path(event["path"]).unlink(missing_ok=True)
                self.view.say(f"could not check: {event['reason']}")
            elif kind == "ended":
                self.view.say("the training process ended unexpectedly; started it again from its last segment")
            elif kind == "failed":
                raise UsageError(event["reason"])

    def _sign(self, path: str, backend: str) -> None:
        holding = self.holdings.by_path(path)
        if holding is None or holding.phase != Phase.TRAINING:
            return
        holding.result = seal(self.home.identity, holding.bundle.result(self.home.identity.host, backend))
        holding.bundle.keep("result", holding.result)
        self.holdings.take(holding, Event.ALL_TRAINED)
        self.stats.training = ""
        self._next["poll"] = 0.0

    def _answer(self, event: dict[str, Any]) -> None:
        answer = msgspec.msgpack.decode(bytes.fromhex(event["answer"]), type=Answer)
        Path(event["path"]).unlink(missing_ok=True)
        self.desk.answers.append(answer)
        self._next["poll"] = 0.0

    def _gone(self, holding: Holding, event: Event) -> None:
        self.holdings.take(holding, event)
        self.crew.drop(holding.bundle.path)
        if holding.key[0] in self.claims:
            self._submit(self.claims[holding.key[0]].release([holding.key[1]]))
        holding.bundle.remove()

    # -- campaigns and claims -------------------------------------------------------------------------------------
    def learn_campaign(self, digest: str) -> None:
        """Fetch, check and keep a campaign; from now on its claims can be read and written. Raises Away, Refused."""
        assert self.client.organizer is not None
        cached = self.home.campaign(digest, self.client.organizer)
        if cached is None:
            data, manifest = self.client.campaign(digest)
            campaign = self.home.add_campaign(data, manifest, self.client.organizer)
            if campaign.digest != digest:
                raise Refused("campaign-digest", "the bytes are another campaign's")
            cached = self.home.campaign(digest, self.client.organizer)
            assert cached is not None
        self.adopt_campaign(*cached)

    def adopt_campaign(self, campaign: Campaign, manifest: Manifest) -> None:
        assert self.client.organizer is not None
        self.desk.campaigns[campaign.digest] = (campaign, manifest)
        self.desk.states.setdefault(campaign.digest, "running")
        self.node.allow_campaign(campaign.digest, len(campaign.assignments))
        self.claims[campaign.digest] = Claims(
            self.node.dht,
            campaign.digest,
            len(campaign.assignments),
            self.client.organizer,
            settle=campaign.policy.settle_seconds,
            lease=campaign.policy.lease_seconds,
            banned=self.desk.banned_hosts,
        )
        self.view.say(
            f"campaign {campaign.name}: {campaign.network_count:,} networks of {len(campaign.recipes)} recipes"
        )
        self._take_up(campaign)

    def _take_up(self, campaign: Campaign) -> None:
        """Bundles that an earlier run left on disk: finished ones are handed in, others claimed again if free."""
        begun = []
        for bundle in self.home.bundles({campaign.digest: campaign}):
            holding = restore(bundle)
            if holding.phase == Phase.TRAINING:
                begun.append(holding)
            else:
                self.holdings.add(holding)
        if not begun:
            return
        claims = self.claims[campaign.digest]
        won = self._submit(claims.resume([h.key[1] for h in begun])).result(60)
        for holding in begun:
            if holding.key[1] in won:
                self._begin(holding)
                self.view.say(f"{holding.name}: resumed at {holding.bundle.segments_done} segments")
            else:
                holding.bundle.remove()

    def _begin(self, holding: Holding) -> None:
        self.holdings.add(holding)
        self._unready.append(holding)
        self._start_ready()

    def _start_ready(self) -> None:
        """Give the training process what has its data; the rest waits for them."""
        self._unready = [holding for holding in self._unready if self.holdings.items.get(holding.key) is holding]
        for holding in list(self._unready):
            if self.stock.ready(holding.bundle.assignment.recipe):
                self._unready.remove(holding)
                self.crew.train(holding.bundle.path, *holding.key)

    def _claim(self, now: float) -> None:
        if self._claiming is not None:
            digest, future = self._claiming
            if future.done():
                self._claiming = None
                self._claimed(digest, future, now)
        elif now >= self._next["claim"] and (wanted := self._claims_wanted()):
            running = [d for d in self.claims if self.desk.states.get(d) == "running"]
            ready = [d for d in running if self.stock.has(self.desk.campaigns[d][0].data_sets)]
            if running and not ready:
                self.stats.waits_for = f"{self.stock.state or 'data sets'} from the coordinator"
                self._next["claim"] = now + CLAIM_PAUSE_SECONDS / 4
            running = ready
            if running:
                digest = max(running, key=lambda d: (self.desk.campaigns[d][0].priority, d))
                self._claiming = (digest, self._submit(self.claims[digest].claim(wanted)))

    def _claims_wanted(self) -> int:
        speed = self.stats.steps_per_second
        return claims_wanted(self.holdings, self.options.threads, self.width, speed, self.home.free_bytes())

    def _claimed(self, digest: str, future: Future, now: float) -> None:
        won = future.result()
        if won:
            for index in won:
                assignment = self.desk.campaigns[digest][0].assignments[index]
                self._begin(Holding(self.home.bundle(assignment), Phase.TRAINING))
            return
        self._next["claim"] = now + CLAIM_PAUSE_SECONDS
        if won is None:
            self.stats.waits_for = "checks and outcomes; every assignment has a result"
        else:
            self.stats.waits_for = "a free assignment; others hold the rest"

    def _renew(self, now: float) -> None:
        if self._renewing is not None and self._renewing.done():
            for digest, renewal in self._renewing.result().items():
                for index in (*renewal.lost, *renewal.done):
                    holding = self.holdings.items.get((digest, index))
                    if holding is not None and holding.phase == Phase.TRAINING:
                        self.view.say(f"{holding.name}: another host has it now; dropped")
                        self._gone(holding, Event.LOST)
            self._renewing = None
        if self._renewing is None and now >= self._next["renew"] and self.claims:
            shortest = min(campaign.policy.lease_seconds for campaign, _ in self.desk.campaigns.values())
            self._next["renew"] = now + shortest / 4
            self._renewing = self._submit(self._renew_all())

    async def _renew_all(self) -> dict[str, Any]:
        return {digest: await claims.renew() for digest, claims in list(self.claims.items())}

    def _present(self, now: float) -> None:
        if now >= self._next["presence"]:
            self._next["presence"] = now + PRESENCE_SECONDS
            presence = Presence(
                name=self.options.name,
                version=self.options.version,
                device=self.device,
                network_steps_per_second=self.stats.steps_per_second,
                threads=self.options.threads,
            )
            key = presence_key(presence_bucket(self.node.host))
            self._submit(self.node.dht.keep(key, BARE, presence, PRESENCE_TTL))

    def _update_stats(self) -> None:
        self.stats.bundles = self.holdings.counts()
        if not self.holdings.of(Phase.TRAINING):
            self.stats.training = ""

    # -- leaving --------------------------------------------------------------------------------------------------
    def leave(self) -> list[str]:
        """Stop training, hand in what is finished, give back what is not. Returns what was saved, in sentences."""
        self.stock.stop()
        self.crew.stop()
        self._hear_worker(time.monotonic())
        with contextlib.suppress(Away, Refused):
            self.desk.hand_in()
        training = self.holdings.of(Phase.TRAINING)
        for digest, claims in self.claims.items():
            indices = [h.key[1] for h in training if h.key[0] == digest]
            if indices:
                try:
                    self._submit(claims.release(indices)).result(10)
                except Exception as error:  # the network is going down with us; the lease ends by itself
                    self.view.say(f"could not give claims back ({error}); their leases end by themselves")
        said = [
            f"{h.name}: {h.bundle.segments_done} segments kept; given back, resumed if still free" for h in training
        ]
        for holding in self.holdings.of(Phase.TRAINED):
            said.append(f"{holding.name}: finished, kept on disk, handed in next time")
        for holding in self.holdings.of(Phase.COMMITTED):
            said.append(f"{holding.name}: handed in; if it is challenged meanwhile, come back to open it")
        return said

    def known(self, address: str, bootstrap: list[str]) -> Known:
        assert self.client.organizer is not None
        return Known(
            address=address,
            organizer=self.client.organizer,
            bootstrap=bootstrap,
            campaigns=list(self.desk.campaigns),
            peers=self.node.known_addresses()[:32],
        )
