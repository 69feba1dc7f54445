"""Messages of other hosts, verified at the edge and entered: results, blobs, answers, campaigns.

Methods raise `Refused` for what breaks the protocol; `service` turns that into a gRPC status and a count. What a
refused upload means for its result is decided here.
"""

import threading
from collections.abc import Callable

import msgspec
from sqlalchemy import select

from coordinator.checking.beacon import Beacon
from coordinator.checking.blobs import Blobs
from coordinator.checking.cases import CampaignBook, CaseFile, CaseFiles, committed_weights
from coordinator.datasets.store import Library
from coordinator.ledger import results as results_ledger
from coordinator.ledger import settlement
from coordinator.ledger.database import Ledger
from coordinator.ledger.settlement import News
from coordinator.ledger.tables import hosts, results, seats
from coordinator.policy.referee import LIES_MAX, LIVE, Event, Phase
from protocol.engine import ENGINE
from protocol.errors import Refused
from protocol.recipes.campaign import campaign_from_bytes
from protocol.trust.envelope import Envelope, Message, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import Answer, ControlCampaign, Manifest, Result, SeedCampaign, Upload
from protocol.trust.openings import check_opened
from protocol.trust.spot_check import open_states
from protocol.trust.verdict import judge, open_result, open_traces, segments_of

CAMPAIGNS_MAX = 1000  # a coordinator's; each costs memory for as long as it runs


class Intake:
    """Everything that comes in. Safe to call from many threads: all that matters happens in the ledger's writer."""

    def __init__(
        self,
        identity: Identity,
        ledger: Ledger,
        blobs: Blobs,
        beacon: Beacon,
        book: CampaignBook,
        files: CaseFiles,
        clock: Callable[[], float],
        report: Callable[[News], None],
        library: Library,
    ):
        self.identity, self.ledger, self.blobs, self.beacon = identity, ledger, blobs, beacon
        self.book, self.files, self.clock, self.report, self.library = book, files, clock, report, library
        self._judging = threading.Lock()  # one upload or answer is examined at a time: they are CPU-bound

    def sign(self, message: Message) -> bytes:
        return seal(self.identity, message).to_bytes()

    def refuse_banned(self, host: str) -> None:
        with self.ledger.read() as connection:
            results_ledger.refuse_banned(connection, host)

    # -- campaigns -----------------------------------------------------------------------------------------------

    def seed_campaign(self, envelope: Envelope) -> str:
        """Start a campaign; the digest. Seeding it again is harmless. Raises Refused."""
        exact = unseal(envelope, SeedCampaign, signer=self.identity.host).campaign
        campaign = campaign_from_bytes(exact)
        if len(self.book.states()) >= CAMPAIGNS_MAX:
            raise Refused("campaign-limit", f"{CAMPAIGNS_MAX} campaigns are here already; start another directory")
        self.library.check(campaign)
        manifest = Manifest(
            campaign=campaign.digest, beacon_anchor=self.beacon.anchor, engine=ENGINE, issued_at=self.clock()
        )
        signed, now = self.sign(manifest), self.clock()
        if self.ledger.write(lambda c: results_ledger.add_campaign(c, campaign.digest, exact, signed, now)):
            text = f"{campaign.network_count:,} networks in {len(campaign.assignments):,} assignments"
            self.report(News(kind="started", text=text, campaign=campaign.digest))
        return campaign.digest

    def control_campaign(self, envelope: Envelope) -> str:
        """Pause, resume or cancel; the digest. Raises Refused."""
        control = unseal(envelope, ControlCampaign, signer=self.identity.host)
        state = self.ledger.write(lambda c: results_ledger.control_campaign(c, control.campaign, control.action))
        self.report(News(kind="campaign", text=state, campaign=control.campaign))
        return control.campaign

    # -- results -------------------------------------------------------------------------------------------------

    def submit_result(self, envelope: Envelope) -> bytes:
        """A worker's result: our signed Receipt, durable when this returns, or an Admission. Raises Refused, Busy."""
        digest = unseal(envelope, Result).campaign
        self.refuse_banned(envelope.signer)
        campaign, _ = self.book.get(digest)
        result, assignment = open_result(envelope, campaign)
        segments = sum(segments_of(assignment.recipe, result))
        policy, now = campaign.policy, self.clock()
        reply = self.ledger.write(
            lambda c: results_ledger.hand_in(c, envelope, result, segments, policy, self.sign, now)
        )
        for news in reply.news:
            self.report(news)
        if reply.what is not results_ledger.HandedIn.KNOWN:
            self.report(
                News(
                    kind=reply.what.value,
                    text=f"{len(result.networks)} networks, {segments} segments",
                    campaign=digest,
                    assignment=assignment.index,
                    host=envelope.signer,
                )
            )
        return reply.envelope

    # -- blobs ---------------------------------------------------------------------------------------------------

    def open_upload(self, envelope: Envelope) -> tuple[CaseFile, Upload, bool]:
        """Judge an upload by its first message, before a byte is read; True when we have the part. Raises Refused."""
        upload = unseal(envelope, Upload)
        self.refuse_banned(envelope.signer)
        file = self.files.get(upload.result)
        if envelope.signer != file.worker:
            raise Refused("upload-signer", "this result is another host's")
        phase, parts = self._state(upload.result)
        if upload.part in parts:
            return file, upload, True
        if phase not in LIVE:
            raise Refused("upload-late", f"this result is {phase.value}")
        if upload.part == "states" and "trace" not in parts:
            raise Refused("upload-order", "the trace comes before the states")
        size = file.legal_size(upload.part)
        if upload.size != size:
            raise Refused("upload-size", f"{upload.size} bytes announced; this {upload.part} has {size}")
        return file, upload, False

    def _state(self, digest: bytes) -> tuple[Phase, list[str]]:
        with self.ledger.read() as connection:
            row = connection.execute(select(results.c.phase, results.c.parts).where(results.c.digest == digest)).first()
        if row is None:
            raise Refused("unknown-result", digest.hex())
        return Phase(row.phase), row.parts.split(",")

    def store_upload(self, file: CaseFile, part: str, data: bytes) -> None:
        """Verify a whole part and keep it. Raises Refused, and then the result is void: it was not what it said."""
        try:
            with self._judging:
                self._verify_part(file, part, data)
        except Refused as error:
            reason, now = f"{part} refused: {error}", self.clock()
            policy = file.campaign.policy
            for news in self.ledger.write(
                lambda c: settlement.settle(c, file.digest, Event.MISMATCH, reason, policy, self.sign, now)
            ):
                self.report(news)
            raise
        self.blobs.put(file.digest, part, data)
        self.ledger.write(lambda c: results_ledger.add_part(c, file.digest, part))

    def _verify_part(self, file: CaseFile, part: str, data: bytes) -> None:
        recipe = file.assignment.recipe
        if part == "trace":
            open_traces(data, file.result, file.assignment, file.worker)
        elif part == "weights":
            committed_weights(file, data)
        else:
            check_opened(self.files.traces(file), file.opened, open_states(recipe, data, file.opened))

    def serve_blob(self, digest: bytes, part: str, slot: int) -> bytes:
        """A checker's download. A trace is never served before the outcome: checkers must not see end states."""
        file = self.files.get(digest)
        phase, parts = self._state(digest)
        if part == "states" and slot < len(file.tasks) and "states" in parts and phase is Phase.CHECKING:
            return self.files.slot_states(file, slot)
        if part == "weights" or (part == "trace" and phase not in LIVE):
            data = self.blobs.get(digest, part)
            if data is not None:
                return data
        raise Refused("no-blob", f"there is no {part[:20]!r} of this result to fetch now")

    # -- answers -------------------------------------------------------------------------------------------------

    def submit_answer(self, envelope: Envelope) -> None:
        """A checker's answer for its slot; dropped when it comes after the outcome. Raises Refused."""
        answer = unseal(envelope, Answer)
        host = envelope.signer
        self.refuse_banned(host)
        file = self.files.get(answer.result)
        self._refuse_stranger(answer, host)
        if self._state(answer.result)[0] is not Phase.CHECKING:
            return
        self.enter_answer(file, answer, envelope, replay=False)

    def _refuse_stranger(self, answer: Answer, host: str) -> None:
        mine = select(seats.c.silent).where(
            seats.c.result == answer.result, seats.c.slot == answer.slot, seats.c.host == host
        )
        with self.ledger.read() as connection:
            silent = connection.execute(mine).scalar()
        if silent != 0:
            raise Refused("not-seated", f"slot {answer.slot} is not this host's")

    def enter_answer(self, file: CaseFile, answer: Answer, envelope: Envelope, *, replay: bool) -> None:
        """Judge and store an answer, a checker's or our own. Raises Refused."""
        if answer.slot >= len(file.tasks):
            raise Refused("answer-slot", f"there is no slot {answer.slot}")
        with self._judging:
            judged = judge(answer, file.tasks[answer.slot], self.files.traces(file))
        packed, now, data = msgspec.msgpack.encode(judged), self.clock(), envelope.to_bytes()
        fresh = self.ledger.write(
            lambda c: results_ledger.add_answer(c, file.digest, answer.slot, replay, envelope.signer, data, packed, now)
        )
        if fresh and not judged.valid:
            bad = len(judged.bad_cells) + len(judged.bad_networks)
            who = "the organizer's replay" if replay else "a checker"
            text = f"{who} disagrees in {bad} places of slot {answer.slot} ({answer.backend})"
            self.report(
                News(
                    kind="dispute",
                    text=text,
                    campaign=file.campaign.digest,
                    assignment=file.assignment.index,
                    host=envelope.signer,
                )
            )

    def unfit(self) -> list[str]:
        """Hosts known for false accusations."""
        with self.ledger.read() as connection:
            return list(connection.execute(select(hosts.c.host).where(hosts.c.lies >= LIES_MAX)).scalars())
