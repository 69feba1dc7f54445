"""Audit a zoo: nothing in it is believed. Manifests, files, evidence and whole networks are checked again.

Each level catches what the one before cannot:
1. manifests: signed by one organizer, in one chain, the newest one readable (protocol.zoo.manifests);
2. files: every shard, catalogue part and recipe hashes to its name, every row to its weights (protocol.zoo.verify);
3. evidence: signatures, commitment, beacon, draw, answers and the decision, for every bundle (protocol.trust.evidence);
4. replay: networks trained again from nothing but recipe and seed must give the same weights, bit for bit.

Only the last one proves that a network is what its recipe gives: evidence shows what hosts have signed.
"""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from analysis.audit.replays import Drawing, Replays, replay_networks
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.recipes.recipe import ENGINE
from protocol.trust.challenge import BeaconChains
from protocol.trust.evidence import VerifiedBundle, evidence_from_bytes, verify_evidence
from protocol.trust.identity import verify_signature
from protocol.zoo.manifests import ZooManifest
from protocol.zoo.store import Store, open_store
from protocol.zoo.verify import verify_zoo

SECONDS = 30.0  # of training again, unless a number of networks is asked for
COLUMNS = ["id", "recipe", "seed", "campaign", "host", "evidence", "weights_digest", "state_digest", "steps"]


class HostAudit(msgspec.Struct, kw_only=True):
    """What was found of the networks of one host."""

    networks: int = 0
    checked: int = 0  # networks of which others replayed a segment
    cells: int = 0  # segments that others replayed
    agreed: int = 0  # networks that this audit trained again
    differed: int = 0


class Audit(msgspec.Struct, kw_only=True):
    """What an audit found. `problems` are one line each; an empty list is a clean zoo."""

    manifest: ZooManifest
    networks: int = 0
    bundles: int = 0
    by_host: dict[str, HostAudit] = {}
    cells_of_house: int = 0  # segments that the organizer, or a host that the campaign names, replayed
    unverified: int = 0  # bundles whose evidence is of version 0.1
    other_engines: dict[str, int] = {}  # engine that this version does not have -> networks trained with it
    replays: Replays = msgspec.field(default_factory=Replays)
    problems: list[str] = []

    @property
    def hosts(self) -> int:
        return len(self.by_host)

    @property
    def checked_by_others(self) -> int:
        """Networks that a host other than their trainer checked."""
        return sum(host.checked for host in self.by_host.values())

    @property
    def cells(self) -> int:
        """Segments that others replayed."""
        return sum(host.cells for host in self.by_host.values())

    @property
    def replayed(self) -> int:
        """Networks trained again, whole, by this audit."""
        return self.replays.agreed + self.replays.differed


def audit_zoo(
    path: Path,
    replay: int | None = 0,
    threads: int = 1,
    organizer: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    rng: random.Random | None = None,
    seconds: float = SECONDS,
    hear: Callable[[Replays], None] = lambda _: None,
) -> Audit:
    """Check a zoo at all levels. `replay` networks, drawn by `rng`, are trained again; None: as many as begin in time.

    `organizer` must have signed all of it; None: who signed the newest manifest. Raises UsageError: not a zoo.
    """
    say("files: hashing shards, catalogue and rows ...")
    store = open_store(path, verify_signature)
    audit = Audit(manifest=store.manifest, problems=list(verify_zoo(store, verify_signature, organizer).problems))
    rows = readable_rows(store, audit)
    _check_evidence(store, rows, organizer or store.manifest.organizer or None, audit, say)
    rows = replayable_rows(store, rows, audit)
    if replay != 0 and rows:
        say("replay: training networks again from recipe and seed ...")
        drawing = Drawing(rows, {name: host.cells / host.networks for name, host in audit.by_host.items()}, rng)
        replay_networks(store, drawing, audit.replays, networks=replay, seconds=seconds, threads=threads, hear=hear)
        audit.problems += audit.replays.problems
        for name, (agreed, differed) in audit.replays.by_host.items():
            audit.by_host[name].agreed, audit.by_host[name].differed = agreed, differed
    return audit


def readable_rows(store: Store, audit: Audit) -> list[dict[str, Any]]:
    """The catalogue's rows; a damaged part is a problem already."""
    try:
        rows = store.catalogue(COLUMNS).to_pylist()
    except UsageError as error:
        audit.problems.append(f"no evidence was looked at and nothing trained again: {error}")
        return []
    audit.networks = len(rows)
    for row in rows:
        audit.by_host.setdefault(row["host"], HostAudit()).networks += 1
    return rows


def replayable_rows(store: Store, rows: list[dict[str, Any]], audit: Audit) -> list[dict[str, Any]]:
    """Those whose bits this version computes; the others are counted."""
    engines: dict[str, str] = {}
    for digest in {row["recipe"] for row in rows}:
        with contextlib.suppress(UsageError):  # a damaged recipe is a problem already
            engines[digest] = store.recipe(digest).engine
    for row in rows:
        if (engine := engines.get(row["recipe"], ENGINE)) != ENGINE:
            audit.other_engines[engine] = audit.other_engines.get(engine, 0) + 1
    return [row for row in rows if engines.get(row["recipe"], ENGINE) == ENGINE]


def _check_evidence(
    store: Store, rows: list[dict[str, Any]], organizer: str | None, audit: Audit, say: Callable[[str], None]
) -> None:
    bundles: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        bundles.setdefault(row["evidence"], []).append(row)
    audit.bundles = len(bundles)
    say(f"evidence: {len(bundles)} bundles ...")
    chains, campaigns = BeaconChains(), dict[str, Campaign]()
    for digest, members in sorted(bundles.items()):
        try:
            name = members[0]["campaign"]
            if name not in campaigns:
                campaigns[name] = campaign_from_bytes(store.campaign(name))
            evidence = evidence_from_bytes(store.evidence(digest))
            verified = verify_evidence(evidence, campaigns[name], chains, organizer)
        except Refused as error:
            if error.reason == "evidence-version" and not store.manifest.organizer:
                audit.unverified += 1
            else:
                audit.problems.append(f"evidence {digest[:16]}: {error}")
            continue
        except UsageError as error:
            audit.problems.append(f"evidence {digest[:16]}: {error}")
            continue
        audit.cells_of_house += verified.cells_of_house
        for row in members:
            _compare(row, verified, campaigns[name], audit)


def _compare(row: dict[str, Any], verified: VerifiedBundle, campaign: Campaign, audit: Audit) -> None:
    """One catalogue row against what its evidence proves."""
    seed, host = row["seed"], audit.by_host[row["host"]]
    network = next((n for n in verified.result.networks if n.seed == seed), None)
    recipe = campaign.assignment(verified.result.assignment).recipe.digest
    if network is None or row["recipe"] != recipe or row["campaign"] != campaign.digest:
        audit.problems.append(f"network {row['id']}: its evidence is about other networks")
        return
    if network.weights_digest.hex() != row["weights_digest"] or network.steps != row["steps"]:
        audit.problems.append(f"network {row['id']}: weights or steps are not those that were checked")
    if verified.worker != row["host"]:
        audit.problems.append(f"network {row['id']}: trained by {verified.worker}, not by {row['host']}")
    host.cells += verified.cells[seed]
    host.checked += bool(set(verified.checkers[seed]) - {verified.worker})
