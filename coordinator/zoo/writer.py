"""The curator's side of the zoo: publish networks, take bundles back, merge small files, remove what a crash left.

Order of a publish: shards, recipes, campaigns and evidence; the catalogue part; the manifest (signed, created, never
replaced); the card. A crash before the manifest leaves the zoo as it was plus stray files; after it, only the card is
old, and the next publish mends it. One writer at a time is the rule; if there are two, one create wins and the other
starts over from the winner's manifest. Axes: N networks, P parameters.
"""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from coordinator.zoo.files import put, sync_folders, weights_digest, write_evidence
from coordinator.zoo.garbage import collect_garbage
from coordinator.zoo.merge import Pieces, compact, is_scattered, without
from coordinator.zoo.networks import Published, add_data, add_networks, check_data, check_input
from protocol.canonical import hexdigest
from protocol.errors import DamageError, WrongKeyError, shown
from protocol.files import create_once
from protocol.recipes.recipe import Recipe
from protocol.trust.identity import Identity, verify_signature
from protocol.zoo.card import write_card
from protocol.zoo.manifests import (
    DataRef,
    Found,
    PackRef,
    Retraction,
    ZooManifest,
    find_manifest,
    manifest_path,
    signed_bytes,
)
from protocol.zoo.store import NetworkRow, Store, campaign_path, recipe_path

CREATE_ATTEMPTS_MAX = 8  # lost races against another writer before giving up
REASON_MAX = 250  # characters of a retraction; a manifest takes a little more
GRACE_SECONDS = 24 * 3600.0  # a reader may hold an old manifest for a day

log = logging.getLogger(__name__)


class ZooWriter:
    """The one writer of a zoo's directory, which is `identity`'s."""

    def __init__(self, path: Path | str, identity: Identity, *, clock: Callable[[], float] = time.time):
        self.path, self.identity, self.clock = Path(path), identity, clock
        self._known: dict[str, str] = {}  # network id -> weights digest, as of the parts below
        self._known_parts: frozenset[str] | None = None  # it is to be read (again)
        self._recipes: dict[str, Recipe] = {}  # of the zoo, read or written by us: a publish must not read them all

    def publish(
        self,
        networks: Published,
        recipes: Mapping[str, Recipe],
        evidence: Mapping[str, bytes],
        campaigns: Mapping[str, bytes],
        data: Mapping[str, Path] | None = None,
    ) -> int:
        """Add networks (row, params (P,) float32) and return the manifest's number. Repeating is harmless.

        A network already in the zoo is passed over, and so is one of a retracted bundle. Every recipe, evidence file
        and campaign that a new row names must be given or be in the zoo, and so must a data set that its recipe names;
        `data` says where its file is. Raises ValueError for values that no admission can have let through, OSError when
        the disk refuses, UsageError when a file of the zoo itself is damaged or the zoo is another organizer's.
        """

        def attempt(base: Found, store: Store) -> int | None:
            fresh = self._fresh(store, networks)
            given = dict(data or {})
            listed = {*recipes, *campaigns} <= {*store.manifest.recipes, *store.manifest.campaigns}
            listed &= given.keys() <= {ref.digest for ref in store.manifest.data}
            if store.manifest.number and listed and not fresh:
                write_card(store)
                return store.manifest.number
            refs, packs = self._write_files(store, fresh, recipes, evidence, campaigns, given)
            pieces = Pieces(store.manifest.catalogue, store.manifest.shards)
            digests = {row.id: weights_digest(params) for row, params in fresh}
            if fresh:
                pieces = add_networks(self.path, pieces, fresh, {**store.recipes, **recipes}, digests)
            draft = msgspec.structs.replace(
                store.manifest,
                recipes=tuple(sorted({*store.manifest.recipes, *recipes})),
                campaigns=tuple(sorted({*store.manifest.campaigns, *campaigns})),
                data=refs,
                packs=(*store.manifest.packs, *packs),
            )
            return self._commit(base, draft, pieces, digests)

        return self._until_won(attempt)

    def retract(self, reasons: Mapping[str, str]) -> int:
        """Take bundles back (digest of the evidence -> why) and return the manifest's number. Repeating is harmless.

        Their rows and weights are in no later manifest, which says why; nor can they be published (again). Other
        networks of the same seeds can. Raises OSError, UsageError as `publish`.
        """

        def attempt(base: Found, store: Store) -> int | None:
            known = {retraction.evidence for retraction in store.manifest.retracted}
            fresh = {digest: " ".join(reason.split()) for digest, reason in reasons.items() if digest not in known}
            if not fresh:
                return store.manifest.number
            pieces, rows = without(store, fresh.keys())
            at = self._now()
            told = [
                Retraction(evidence=digest, networks=rows[digest], reason=shown(reason, REASON_MAX), retracted_at=at)
                for digest, reason in sorted(fresh.items())
            ]
            draft = msgspec.structs.replace(store.manifest, retracted=(*store.manifest.retracted, *told))
            return self._commit(base, draft, pieces, None)

        return self._until_won(attempt)

    def collect_garbage(self, grace_seconds: float = GRACE_SECONDS) -> list[Path]:
        """Remove files that no manifest of the last `grace_seconds` names and that are older; return their paths."""
        return collect_garbage(self.path, self.clock() - grace_seconds)

    def _until_won(self, attempt: Callable[[Found, Store], int | None]) -> int:
        for _ in range(CREATE_ATTEMPTS_MAX):
            base = self._base()
            store = self._store(base.manifest or ZooManifest())
            self._recipes |= store.recipes
            number = attempt(base, store)
            if number is not None:
                return number
        raise OSError(
            f"{self.path}: {CREATE_ATTEMPTS_MAX} other writers won the next manifest; is there a second curator?"
        )

    def _base(self) -> Found:
        """What the next manifest is made from. Raises UsageError where that would lose networks, or is not ours."""
        found = find_manifest(self.path, verify_signature)
        if found.passed_over:
            raise DamageError(
                f"{found.passed_over[0]}. Nothing is published until it is back (who pulled the zoo has a copy) or "
                "deleted; its networks leave the zoo then"
            )
        signer = found.manifest.organizer if found.manifest else ""
        if signer not in ("", self.identity.host):
            raise WrongKeyError(
                f"{self.path}: this is the zoo of {signer}, and the key here is {self.identity.host}'s; put the right "
                "identity back or choose another directory"
            )
        return found

    def _fresh(self, store: Store, networks: Published) -> list[tuple[NetworkRow, np.ndarray]]:
        """The networks that the zoo does not have yet, each once."""
        parts = frozenset(part.digest for part in store.manifest.catalogue)
        if parts != self._known_parts:
            table = store.catalogue(["id", "weights_digest"])
            self._known = dict(zip(table["id"].to_pylist(), table["weights_digest"].to_pylist(), strict=True))
            self._known_parts = parts
        retracted = {retraction.evidence for retraction in store.manifest.retracted}
        fresh: dict[str, tuple[NetworkRow, np.ndarray]] = {}
        for row, params in networks:
            have = self._known.get(row.id)
            if row.evidence in retracted:
                log.warning("[network %s host %s] left out: its bundle was retracted", row.id, row.host)
            elif have is None:
                fresh.setdefault(row.id, (row, params))
            elif have != weights_digest(params):
                log.error("[network %s host %s] other weights than the zoo has: one of them is wrong", row.id, row.host)
        return list(fresh.values())

    def _write_files(
        self,
        store: Store,
        fresh: Published,
        recipes: Mapping[str, Recipe],
        evidence: Mapping[str, bytes],
        campaigns: Mapping[str, bytes],
        data: Mapping[str, Path],
    ) -> tuple[tuple[DataRef, ...], tuple[PackRef, ...]]:
        """All that new rows name but their weights; the data sets that the zoo has then, and new packs of evidence."""
        known_recipes = {**store.recipes, **recipes}
        check_input(fresh, known_recipes, recipes, evidence, campaigns, store)
        refs = add_data(self.path, store.manifest.data, data)
        check_data(fresh, known_recipes, refs)
        for digest, recipe in recipes.items():
            put(recipe_path(self.path, digest), recipe.exact)
            self._recipes[digest] = recipe
        for digest, exact in campaigns.items():
            put(campaign_path(self.path, digest), exact)
        proofs = {row.evidence: evidence[row.evidence] for row, _ in fresh if row.evidence in evidence}
        return refs, write_evidence(self.path, proofs)

    def _commit(self, base: Found, draft: ZooManifest, pieces: Pieces, added: Mapping[str, str] | None) -> int | None:
        """The next manifest becomes the zoo; None when another writer took its number.

        `added`: network id -> weights digest of what is new; None: some are gone, so the catalogue is read again.
        """
        draft = msgspec.structs.replace(
            draft,
            number=draft.number + 1,
            written_at=self._now(),
            catalogue=pieces.catalogue,
            shards=pieces.shards,
            organizer=self.identity.host,
            follows=draft.number,
            previous=hexdigest(base.exact) if draft.number else "",
        )
        if is_scattered(draft.catalogue):
            pieces = compact(self._store(draft))
            draft = msgspec.structs.replace(draft, catalogue=pieces.catalogue, shards=pieces.shards)
        self.path.mkdir(parents=True, exist_ok=True)
        known = set(base.manifest.shards) if base.manifest else set()
        sync_folders(self.path, {ref.recipe for ref in draft.shards if ref not in known})
        if not create_once(manifest_path(self.path, draft.number), signed_bytes(draft, self.identity.sign)):
            return None
        self._known |= added or {}
        self._known_parts = None if added is None else frozenset(part.digest for part in draft.catalogue)
        write_card(self._store(draft))
        return draft.number

    def _store(self, manifest: ZooManifest) -> Store:
        return Store(self.path, manifest, read=self._recipes)

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="seconds")
