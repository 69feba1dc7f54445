"""Colluding keys: each hands in fakes, the others vouch for them and check everybody else honestly.

A key that is banned is replaced by a fresh one: keys cost nothing. What the ring was told is counted.
"""

import contextlib
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from peer.session.client import Away, Client
from peer.session.requests import fetch_check
from protocol.engine.select import select_engine
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.rpc.wire import parse_address
from protocol.trust.challenge import BeaconChains
from protocol.trust.envelope import unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import (
    ANSWERS_MAX,
    Admission,
    Answer,
    BlobPart,
    CampaignManifest,
    CampaignState,
    CheckRequest,
    Inbox,
    Receipt,
)
from protocol.trust.openings import open_check_request
from protocol.trust.spot_check import open_states, open_weights, spot_check
from soaking.fakes import Fake, fake_bundle

THREADS = 8
POLL_SECONDS = 1.0
FAKES_AT_ONCE = 4  # of the whole ring: honest volunteers must find work too
TRIES = 8  # assignments that turn out to be somebody else's, in one turn


@dataclass
class Key:
    """One host of the ring."""

    name: str
    client: Client
    joined: bool = False
    fakes: dict[bytes, Fake] = field(default_factory=dict)  # handed in, no outcome yet
    answers: list[Answer] = field(default_factory=list)  # for the next heartbeat

    @property
    def host(self) -> str:
        return self.client.identity.host


class Ring:
    """`count` keys at one coordinator, run by threads until `stop`."""

    def __init__(self, address: str, count: int, seed: int, connections: int = 4):
        self.target, self.organizer = parse_address(address)
        self.rng, self.engine = random.Random(seed), select_engine("c")
        self.counts: Counter[str] = Counter()
        self.hosts: set[str] = set()  # every key that ever was one of ours
        self.admitted: list[tuple[str, int, str]] = []  # (campaign, assignment, host) of fakes
        self._known: dict[bytes, Fake] = {}
        self._campaigns: dict[str, tuple[Campaign, CampaignManifest]] = {}
        self._chains = BeaconChains()
        self._running: tuple[str, ...] = ()
        self._taken: set[tuple[str, int]] = set()
        self._engine_lock, self._lock, self._stopping = threading.Lock(), threading.Lock(), threading.Event()
        self._number = 0
        self.keys = [self._fresh() for _ in range(count)]
        self._thread = threading.Thread(target=self._run, name="ring", daemon=True)

    def start(self) -> "Ring":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)
        for key in self.keys:
            key.client.close()

    def _fresh(self) -> Key:
        self._number += 1
        client = Client(self.target, Identity.generate(), self.organizer)
        self.hosts.add(client.identity.host)
        return Key(f"s{self._number}", client)

    def _run(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            while not self._stopping.wait(POLL_SECONDS):
                list(pool.map(self._turn, range(len(self.keys))))

    def _turn(self, place: int) -> None:
        if self._stopping.is_set():
            return
        key = self.keys[place]
        try:
            inbox = self._poll(key)
            self._hear(key, inbox)
            if inbox.banned:
                self._replace(place)
                return
            for request in inbox.checks:
                self._answer(key, request)
            self._open(key, inbox)
            self._fake(key)
        except Away:
            self.counts["away"] += 1
        except Refused as error:
            self.counts[f"refused: {error.reason}"] += 1
            if error.reason == "banned":
                self._replace(place)
        except UsageError as error:
            self.counts[f"error: {error}"[:60]] += 1

    def _replace(self, place: int) -> None:
        self.counts["keys banned"] += 1
        self.keys[place].client.close()
        with self._lock:
            self.keys[place] = self._fresh()

    # -- one key's turn ----------------------------------------------------------------------------------------------

    def _poll(self, key: Key) -> Inbox:
        """As often as we like, whatever the last inbox says."""
        if not key.joined:
            key.client.join("0.2.0")
            key.joined = True
        answers, key.answers = key.answers[:ANSWERS_MAX], key.answers[ANSWERS_MAX:]
        inbox, refused, _ = key.client.poll(
            {
                "name": key.name,
                "device": "cpu x86_64",
                "version": "0.2.0",
                "steps_per_second": 5000.0,
                "networks_trained": 0,
                "checks_done": 0,
                "holding": tuple(key.fakes)[:64],
            },
            answers,
        )
        for why in filter(None, refused):
            self.counts[f"answer refused: {why.partition(':')[0]}"] += 1
        self._running = tuple(digest for digest, state in inbox.campaigns if state == CampaignState.RUNNING)
        for digest in self._running:
            if digest not in self._campaigns:
                data, manifest = key.client.campaign(digest)
                opened = unseal(manifest, CampaignManifest, signer=key.client.organizer)
                self._campaigns[digest] = campaign_from_bytes(data), opened
        return inbox

    def _hear(self, key: Key, inbox: Inbox) -> None:
        for envelope in inbox.outcomes:
            admission = unseal(envelope, Admission)
            fake = key.fakes.pop(admission.result, None)
            if fake is None:
                continue
            with self._lock:
                self.counts[f"fakes {admission.outcome.value}"] += 1
                place = (fake.assignment.campaign, fake.assignment.index)
                self._taken.discard(place)
                if admission.outcome.value == "admitted":
                    self.admitted.append((*place, key.host))

    def _answer(self, key: Key, request: CheckRequest) -> None:
        fake = self._known.get(request.result.digest)
        campaign, manifest = self._campaign_of(request)
        if fake is not None:
            assert key.client.organizer is not None
            check = open_check_request(request, campaign, manifest, key.client.organizer, key.host, self._chains)
            answer = fake.vouch(check.result_digest, check.slot, check.task)
            self.counts["vouched"] += 1
        else:
            job = fetch_check(request, campaign, manifest, key.client, key.host, self._chains)
            assignment = campaign.assignment(job.assignment)
            states = open_states(assignment.recipe, job.states, job.task.opened)
            weights = open_weights(assignment.recipe, job.weights, len(assignment.seeds))
            with self._engine_lock:
                answer = spot_check(self.engine, assignment, job.result, job.slot, job.task, states, weights)
            self.counts["checked honestly"] += 1
        key.answers.append(answer)

    def _campaign_of(self, request: CheckRequest) -> tuple[Campaign, CampaignManifest]:
        for campaign, manifest in self._campaigns.values():
            if bytes(campaign.digest, "ascii") in request.result.payload:
                return campaign, manifest
        raise Refused("check-request", "for a campaign that we do not know")

    def _open(self, key: Key, inbox: Inbox) -> None:
        for result, part in inbox.missing:
            fake = key.fakes.get(result)
            if fake is not None:
                self._put(key, result, BlobPart(part), fake)
        for request in inbox.openings:
            fake = key.fakes.get(request.result)
            if fake is not None:
                key.client.put(request.result, BlobPart.STATES, fake.states_blob(request.cells))

    def _put(self, key: Key, result: bytes, part: BlobPart, fake: Fake) -> None:
        if part != BlobPart.STATES:
            key.client.put(result, part, fake.trace_blob if part == BlobPart.TRACE else fake.weights_blob)

    def _fake(self, key: Key) -> None:
        """Hand in another fake, if it is this key's turn."""
        if key.fakes or not self._running or sum(len(k.fakes) for k in self.keys) >= FAKES_AT_ONCE:
            return
        for _ in range(TRIES):
            campaign = self._campaigns[self.rng.choice(self._running)][0]
            place = (campaign.digest, self.rng.randrange(campaign.assignment_count))
            with self._lock:
                if place in self._taken:
                    continue
                self._taken.add(place)
            if self._hand_in(key, campaign, place[1]):
                return

    def _hand_in(self, key: Key, campaign: Campaign, index: int) -> bool:
        with self._engine_lock:
            fake = fake_bundle(self.engine, campaign.assignment(index))
        envelope = fake.signed(key.client.identity)
        self._known[envelope.digest] = fake
        reply = key.client.submit_result(envelope)
        if reply.kind != Receipt.KIND:
            return False  # somebody else's
        key.fakes[envelope.digest] = fake
        self.counts["fakes handed in"] += 1
        with contextlib.suppress(Away):
            self._put(key, envelope.digest, BlobPart.TRACE, fake)
            self._put(key, envelope.digest, BlobPart.WEIGHTS, fake)
        return True
