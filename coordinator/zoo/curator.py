"""From the ledger to the zoo: admitted bundles' networks, weights and evidence. Repeating any of it is harmless.

A bundle is marked as published once the zoo is durable, and its blobs are removed only then. So a kill anywhere
leaves either an unpublished bundle with its blobs, or a published one whose mark is made again.
"""

import errno
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from sqlalchemy import Connection, bindparam, select, update

from coordinator.checking.cases import RESULT, ResultCase, decode_envelope
from coordinator.checking.effects import Effects
from coordinator.checking.stores import Stores
from coordinator.ledger.database import LedgerDamaged
from coordinator.ledger.doubles import IS_DOUBLE, count_retracted, hand_over, read_doubles
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.tables import answers, campaigns, networks, results
from coordinator.policy.actions import DeleteBlobs
from coordinator.policy.auditing import OWED
from coordinator.policy.phases import Event, Phase
from coordinator.policy.publishing import WEIGHTS_BYTES_MAX, AdmittedBundle, batches_due, tidying_due
from coordinator.zoo.press import Job, Press, Printer
from coordinator.zoo.writer import ZooWriter
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.trust.envelope import PROVED
from protocol.trust.evidence import Evidence
from protocol.trust.identity import Identity
from protocol.trust.messages import BlobPart, CampaignState
from protocol.zoo.manifests import latest_manifest
from protocol.zoo.store import Store, network_id

ANSWERED = Prepared(
    select(answers.c.slot, answers.c.host, answers.c.replay, answers.c.envelope)
    .where(answers.c.result == bindparam("digest"))
    .order_by(answers.c.replay, answers.c.slot)
)

log = logging.getLogger(__name__)


class Curator:
    """One thread calls `publish`; nobody else writes the zoo."""

    def __init__(
        self,
        path: Path,
        identity: Identity,
        stores: Stores,
        effects: Effects,
        clock: Callable[[], float],
        printer: Printer | None = None,  # where the work is done; by default here
    ):
        self.path, self.organizer, self.clock = path, identity.host, clock
        self.stores, self.effects = stores, effects
        self.writer = ZooWriter(path, identity, clock=clock)
        self.printer = printer or Press(self.writer)
        self._published_at, self._tidied_at = 0.0, 0.0
        self._unusable: set[bytes] = set()  # said once; a restart tries again
        self._seen = -1  # the ledger's version at which nothing was left to do
        self._retracted = -1  # so many results were, when doubles last took the places of such

    def reconcile(self) -> int:
        """Compare the ledger with the zoo's latest manifest; bundles it does not have are published again."""
        manifest = latest_manifest(self.path)
        have = set(Store(self.path, manifest).catalogue(["id"])["id"].to_pylist()) if manifest else set()
        with self.stores.ledger.read() as connection:
            rows = connection.execute(
                select(networks.c.recipe, networks.c.seed, networks.c.result)
                .join(results, results.c.digest == networks.c.result)
                .where(results.c.published == 1)
            )
            lost = {row.result for row in rows if network_id(row.recipe, row.seed) not in have}
        missing = [digest for digest in lost if not self.stores.blobs.has(digest, BlobPart.WEIGHTS)]
        if missing:
            log.error("%s: %d published bundles are not in this zoo any more; put it back", self.path, len(missing))
        to_publish = sorted(lost - set(missing))
        if to_publish:
            change = update(results).where(results.c.digest.in_(to_publish)).values(published=0)
            self.stores.ledger.write(lambda connection: connection.execute(change).rowcount)
        self._sweep_blobs()
        return len(to_publish)

    def _sweep_blobs(self) -> None:
        """Remove what a kill left behind: blobs of results that need none any more."""
        on_disk = self.stores.blobs.results()
        in_the_zoo = (results.c.published == 1) & (results.c.phase == Phase.ADMITTED)
        over = in_the_zoo | (results.c.phase == Phase.VOID) | (results.c.event == Event.VOIDED_UNVESTED)
        done = select(results.c.digest).where(over & results.c.audit.not_in(OWED) & ~IS_DOUBLE)
        with self.stores.ledger.read() as connection:
            self.effects.perform(
                DeleteBlobs(digest) for digest in connection.execute(done).scalars() if digest in on_disk
            )

    def publish(self, *, force: bool = False) -> int:
        """Take out what is retracted, publish what is admitted, tidy the zoo if it is time; the number of networks.

        In this order: who trained a retracted bundle again finds its place free. Raises OSError when the disk refuses
        (nothing is lost).
        """
        now, version = self.clock(), self.stores.ledger.version  # before we look
        if version == self._seen and not tidying_due(now, self._tidied_at):
            return 0
        self._retract()
        self._hand_over()
        waiting = self._waiting()
        if not waiting:
            self._seen = version
        batches = batches_due(waiting, now, self._published_at, force=force)
        count = sum(self._publish(batch) for batch in batches)
        if batches:
            self._published_at = now
        if tidying_due(now, self._tidied_at):
            self._tidied_at = now
            self._tidy()
        return count

    def _retract(self) -> None:
        """The next manifest leaves retracted bundles out and says why. After a kill in between it is done again."""
        leaving = self._leaving()
        if not leaving:
            return
        try:
            self.writer.retract(dict(leaving.values()))
        except UsageError as error:
            raise OSError(errno.EIO, str(error)) from None
        change = update(results).where(results.c.digest.in_(leaving)).values(published=0)
        self.stores.ledger.write(lambda connection: connection.execute(change).rowcount)
        log.info("%s: took %d retracted bundles out", self.path, len(leaving))

    def _hand_over(self) -> None:
        """What was taken back may stand in another campaign too: that one's bundle is published in its place."""
        with self.stores.ledger.read() as connection:
            retracted = count_retracted(connection)
            doubles = read_doubles(connection) if retracted != self._retracted else ()
        assignments = {digest: self.stores.cases.get(digest).assignment for digest in doubles}
        known = {digest: (a.recipe.digest, tuple(a.seeds)) for digest, a in assignments.items()}
        if known and (heirs := self.stores.ledger.write(lambda connection: hand_over(connection, known))):
            log.info("%s: %d bundles of other campaigns take the places of retracted ones", self.path, heirs)
        self._retracted = retracted

    def _leaving(self) -> dict[bytes, tuple[str, str]]:
        """Retracted results that the zoo still has: (digest of the evidence, why)."""
        columns = (results.c.digest, results.c.evidence, results.c.reason)
        gone = select(*columns).where(results.c.phase == Phase.RETRACTED, results.c.published == 1)
        with self.stores.ledger.read() as connection:
            return {row.digest: (row.evidence, row.reason) for row in connection.execute(gone)}

    def _tidy(self) -> None:
        """Remove what no manifest of the last day names: analysts may hold one that is so old. Raises OSError."""
        try:
            removed = self.writer.collect_garbage()
        except UsageError as error:
            log.error("the zoo is damaged, so nothing is removed from it: %s", error)
            return
        if removed:
            log.info("%s: removed %d files that no manifest of the last day names", self.path, len(removed))

    def waiting(self) -> int:
        """How many bundles are admitted and not yet in the zoo, or retracted and still in it."""
        return len(self._waiting()) + len(self._leaving())

    def _waiting(self) -> list[AdmittedBundle]:
        admitted = (
            select(results.c.digest, campaigns.c.state)
            .join(campaigns, campaigns.c.digest == results.c.campaign)
            .where(results.c.phase == Phase.ADMITTED, results.c.published == 0)
            .order_by(results.c.since)
        )
        with self.stores.ledger.read() as connection:
            rows = connection.execute(admitted).all()
        return [
            AdmittedBundle(r.digest, r.state == CampaignState.COMPLETE) for r in rows if r.digest not in self._unusable
        ]

    def _publish(self, digests: tuple[bytes, ...]) -> int:
        count, rest = 0, digests
        while rest:
            jobs, rest = self._jobs(rest)
            count += self._print(jobs) if jobs else 0
        return count

    def _jobs(self, digests: tuple[bytes, ...]) -> tuple[list[Job], tuple[bytes, ...]]:
        """What the press needs of as many bundles as may be in memory together, and the bundles that are left."""
        jobs: list[Job] = []
        size = 0
        with self.stores.ledger.read():  # one look for all of them
            for i, digest in enumerate(digests):
                if size >= WEIGHTS_BYTES_MAX:
                    return jobs, digests[i:]
                try:
                    jobs.append(self._job(self.stores.cases.get(digest)))
                except (OSError, LedgerDamaged) as error:
                    self._give_up(digest, str(error))
                else:
                    size += len(jobs[-1].weights)
        return jobs, ()

    def _print(self, jobs: list[Job]) -> int:
        recipes: dict[str, Recipe] = {}
        exact: dict[str, bytes] = {}
        for job in jobs:
            case = self.stores.cases.get(job.result)
            recipes[case.assignment.recipe.digest] = case.assignment.recipe
            exact[case.campaign.digest] = case.campaign.exact
        printed = self.printer.publish(jobs, exact, self._data(recipes))
        for digest, why in printed.unusable.items():
            self._give_up(digest, why)
        if printed.done:
            self.stores.ledger.write(lambda connection: mark_published(connection, printed.done))
            self.effects.perform(DeleteBlobs(digest) for digest in self._done_with(printed.done))
        return printed.networks

    def _give_up(self, digest: bytes, why: str) -> None:
        """Until the next start."""
        worker = self.stores.cases.get(digest).worker
        log.error("[result %s host %s] admitted, but cannot be published: %s", digest.hex()[:8], worker, why)
        self._unusable.add(digest)

    def _done_with(self, digests: Collection[bytes]) -> list[bytes]:
        """Those whose blobs neither an audit may need, nor the zoo when their double is taken back."""
        with self.stores.ledger.read() as connection:
            free = select(results.c.digest).where(
                results.c.digest.in_(digests), results.c.audit.not_in(OWED), ~IS_DOUBLE
            )
            return list(connection.execute(free).scalars())

    def _data(self, recipes: dict[str, Recipe]) -> dict[str, Path]:
        """Where the data sets of these recipes are. Raises OSError when one is missing: it has to come back first."""
        paths = {}
        for recipe in recipes.values():
            if recipe.data_set is not None:
                path = self.stores.datasets.shelf.ensure(recipe.data_set)
                if path is None:
                    raise FileNotFoundError(errno.ENOENT, "data set is gone; seed its campaign again", recipe.data_set)
                paths[recipe.data_set] = path
        return paths

    def _job(self, case: ResultCase) -> Job:
        """What the press needs of a bundle. Raises OSError, LedgerDamaged."""
        with self.stores.ledger.decoding(f"result {case.digest.hex()[:16]}"):
            evidence, admitted_at = self._evidence(case)
        return Job(
            result=case.digest,
            campaign=case.campaign.digest,
            evidence=evidence.to_bytes(),
            proved=PROVED.among(envelope.proof for envelope in evidence.envelopes()),
            weights=self.stores.cases.blob(case, BlobPart.WEIGHTS),
            admitted_at=admitted_at,
        )

    def _evidence(self, case: ResultCase) -> tuple[Evidence, float]:
        with self.stores.ledger.read() as connection:
            row = RESULT.first(connection, digest=case.digest)
            answered = ANSWERED.all(connection, digest=case.digest)
        _, manifest = self.stores.campaigns.get(row.campaign)
        evidence = Evidence(
            manifest=manifest,
            result=case.envelope,
            traces=self.stores.cases.blob(case, BlobPart.TRACE),
            receipt=decode_envelope(row.receipt),
            draw=decode_envelope(row.draw),
            answers=tuple(decode_envelope(a.envelope) for a in answered if not a.replay),
            replays=tuple(decode_envelope(a.envelope) for a in answered if a.replay),
            admission=decode_envelope(row.admission),
            seats={a.slot: seat for a in answered if not a.replay and (seat := case.seat(a.host)) is not None},
        )
        return evidence, row.since


def mark_published(connection: Connection, evidence: Mapping[bytes, str]) -> None:
    """These results are durable in the zoo, under the digests of their evidence."""
    change = update(results).where(results.c.digest == bindparam("result"))
    rows = [{"result": digest, "name": name} for digest, name in evidence.items()]
    connection.execute(change.values(published=1, evidence=bindparam("name")), rows)
