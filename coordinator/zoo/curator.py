"""From the ledger to the zoo: admitted bundles' networks, weights and evidence. Repeating any of it is harmless.

A bundle is marked as published once the zoo is durable, and its blobs are removed only then. So a kill anywhere
leaves either an unpublished bundle with its blobs, or a published one whose mark is made again.
"""

import errno
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, select, update

from coordinator.checking.blobs import Blobs
from coordinator.checking.cases import CampaignBook, CaseFile, CaseFiles, decode_envelope
from coordinator.ledger.database import Ledger
from coordinator.ledger.tables import answers, campaigns, networks, results
from coordinator.policy.referee import Phase
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.errors import Refused
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import Shelf
from protocol.trust.commitment import traces_to_bytes
from protocol.trust.evidence import Evidence, verify_evidence
from protocol.zoo.store import NetworkRow, Store, latest_manifest, network_id

PUBLISH_SECONDS = 2.0  # at most this often, so that many bundles share a manifest; at once when a campaign is complete
BUNDLES_MAX = 64  # in one publish: their weights are in memory together

log = logging.getLogger(__name__)


class Curator:
    """One thread calls `publish`; nobody else writes the zoo."""

    def __init__(
        self,
        path: Path,
        organizer: str,
        ledger: Ledger,
        book: CampaignBook,
        files: CaseFiles,
        blobs: Blobs,
        clock: Callable[[], float],
        shelf: Shelf,
    ):
        self.path, self.organizer, self.clock, self.shelf = path, organizer, clock, shelf
        self.ledger, self.book, self.files, self.blobs = ledger, book, files, blobs
        self.writer = ZooWriter(path, clock=clock)
        self._published_at = 0.0
        self._unusable: set[bytes] = set()  # said once; a restart tries again

    def reconcile(self) -> int:
        """Compare the ledger with the zoo's latest manifest; bundles it does not have are published again."""
        manifest = latest_manifest(self.path)
        have = set(Store(self.path, manifest).catalogue(["id"])["id"].to_pylist()) if manifest else set()
        with self.ledger.read() as connection:
            rows = connection.execute(
                select(networks.c.recipe, networks.c.seed, networks.c.result)
                .join(results, results.c.digest == networks.c.result)
                .where(results.c.published == 1)
            )
            lost = {row.result for row in rows if network_id(row.recipe, row.seed) not in have}
        gone = [digest for digest in lost if not self.blobs.has(digest, "weights")]
        if gone:
            log.error("%s: %d published bundles are not in this zoo any more; put it back", self.path, len(gone))
        again = sorted(lost - set(gone))
        if again:
            change = update(results).where(results.c.digest.in_(again)).values(published=0)
            self.ledger.write(lambda connection: connection.execute(change).rowcount)
        self._sweep_blobs()
        return len(again)

    def _sweep_blobs(self) -> None:
        """Remove what a kill left behind: blobs of results that need none any more."""
        on_disk = {folder.name for folder in self.blobs.path.iterdir() if len(folder.name) == 64}
        done = select(results.c.digest).where(
            (results.c.published == 1) | (results.c.phase == Phase.VOID),
        )
        with self.ledger.read() as connection:
            for digest in connection.execute(done).scalars():
                if digest.hex() in on_disk:
                    self.blobs.remove(digest)

    def publish(self, *, force: bool = False) -> int:
        """Publish what is admitted; the number of networks. Raises OSError when the disk refuses (nothing is lost)."""
        now = self.clock()
        with self.ledger.read() as connection:
            waiting = self._waiting(connection)
            if not waiting:
                return 0
            complete = select(campaigns.c.digest).where(campaigns.c.state == "complete")
            urgent = any(campaign in set(connection.execute(complete).scalars()) for _, campaign in waiting)
        if not (force or urgent or now - self._published_at >= PUBLISH_SECONDS):
            return 0
        count = 0
        for begin in range(0, len(waiting), BUNDLES_MAX):
            count += self._publish([digest for digest, _ in waiting[begin : begin + BUNDLES_MAX]])
        self._published_at = now
        return count

    def waiting(self) -> int:
        """Bundles that are admitted and not yet in the zoo."""
        with self.ledger.read() as connection:
            return len(self._waiting(connection))

    def _waiting(self, connection: Connection) -> list[tuple[bytes, str]]:
        admitted = select(results.c.digest, results.c.campaign).where(
            results.c.phase == Phase.ADMITTED, results.c.published == 0
        )
        found = connection.execute(admitted.order_by(results.c.since))
        return [(row.digest, row.campaign) for row in found if row.digest not in self._unusable]

    def _publish(self, digests: list[bytes]) -> int:
        rows: list[tuple[NetworkRow, np.ndarray]] = []
        recipes: dict[str, Recipe] = {}
        evidence: dict[str, bytes] = {}
        exact: dict[str, bytes] = {}
        done = []
        for digest in digests:
            file = self.files.get(digest)
            try:
                bundle, data = self._bundle(file)
            except (OSError, Refused) as error:
                log.error(
                    "[result %s host %s] admitted, but cannot be published: %s", digest.hex()[:8], file.worker, error
                )
                self._unusable.add(digest)
                continue
            rows += bundle
            recipes[file.assignment.recipe.digest] = file.assignment.recipe
            exact[file.campaign.digest] = file.campaign.exact
            evidence[hexdigest(data)] = data
            done.append(digest)
        if not done:
            return 0
        try:
            self.writer.publish(rows, recipes, evidence, exact, self._data(recipes))
        except OSError as error:  # a full disk does not say which file it was
            place = str(error.filename or self.path)
            raise OSError(error.errno, f"cannot write the zoo: {error.strerror or error}", place) from None
        change = update(results).where(results.c.digest.in_(done)).values(published=1)
        self.ledger.write(lambda connection: connection.execute(change).rowcount)
        for digest in done:
            self.blobs.remove(digest)
        return len(rows)

    def _data(self, recipes: dict[str, Recipe]) -> dict[str, Path]:
        """Where the data sets of these recipes are. Raises OSError when one is gone: it has to come back first."""
        found = {}
        for recipe in recipes.values():
            if recipe.data_set is not None:
                path = self.shelf.ensure(recipe.data_set)
                if path is None:
                    raise FileNotFoundError(errno.ENOENT, "data set is gone; seed its campaign again", recipe.data_set)
                found[recipe.data_set] = path
        return found

    def _bundle(self, file: CaseFile) -> tuple[list[tuple[NetworkRow, np.ndarray]], bytes]:
        """A bundle's rows and evidence, verified as any stranger would first. Raises OSError, Refused."""
        evidence, admitted_at = self._evidence(file)
        verified = verify_evidence(evidence, file.campaign.exact, self.organizer)
        data = evidence.to_bytes()
        traces, weights = self.files.traces(file), self.files.weights(file)
        rows = []
        for i, (network, trace) in enumerate(zip(file.result.networks, traces, strict=True)):
            row = NetworkRow(
                recipe=file.assignment.recipe.digest,
                seed=network.seed,
                campaign=file.campaign.digest,
                assignment=f"{file.campaign.digest[:16]}/{file.assignment.index}",
                steps=network.steps,
                held_out_loss=network.held_out_loss,
                training_losses=tuple(leaf.loss for leaf in trace[1:]),
                held_out_losses=tuple(leaf.held_out_loss for leaf in trace[1:]),
                host=file.worker,
                checkers=verified.checkers[network.seed],
                checks_valid=_slots_with(file, i),
                cells_checked=verified.cells[network.seed],
                credit=float(file.segments[i]),
                state_digest=trace[-1].state_digest.hex(),
                evidence=hexdigest(data),
                admitted_at=admitted_at,
            )
            rows.append((row, weights[i]))
        return rows, data

    def _evidence(self, file: CaseFile) -> tuple[Evidence, float]:
        with self.ledger.read() as connection:
            row = connection.execute(select(results).where(results.c.digest == file.digest)).one()
            said = connection.execute(
                select(answers.c.replay, answers.c.envelope)
                .where(answers.c.result == file.digest)
                .order_by(answers.c.replay, answers.c.slot)
            ).all()
        _, manifest = self.book.get(row.campaign)
        evidence = Evidence(
            manifest=manifest,
            result=file.envelope,
            traces=traces_to_bytes(self.files.traces(file)),
            receipt=decode_envelope(row.receipt),
            draw=decode_envelope(row.draw),
            answers=tuple(decode_envelope(a.envelope) for a in said if not a.replay),
            replays=tuple(decode_envelope(a.envelope) for a in said if a.replay),
            admission=decode_envelope(row.admission),
        )
        return evidence, row.since


def _slots_with(file: CaseFile, network: int) -> int:
    """How many slots looked at this network: all of them agreed in the end, or it were not admitted."""
    return sum(network in task.networks or any(cell.network == network for cell in task.cells) for task in file.tasks)
