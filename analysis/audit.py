"""Audit a zoo: nothing in it is believed. Files, evidence and, on request, whole networks are checked again.

Three levels, each catching what the one before cannot:
1. files: every shard, catalogue part and recipe hashes to its name, every row to its weights (protocol.zoo.verify);
2. evidence: signatures, commitment, beacon, draw, answers and the decision, for every bundle (protocol.trust.evidence);
3. replay: networks trained again from nothing but recipe and seed must give the same weights, bit for bit.
"""

import random
from collections.abc import Callable
from pathlib import Path

import msgspec

from protocol.canonical import hexdigest
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.trust.challenge import BeaconChains
from protocol.trust.evidence import VerifiedBundle, evidence_from_bytes, verify_evidence
from protocol.zoo.store import open_store
from protocol.zoo.verify import verify_zoo

COLUMNS = [
    "id",
    "recipe",
    "seed",
    "campaign",
    "host",
    "checkers",
    "evidence",
    "weights_digest",
    "state_digest",
    "steps",
]


class Audit(msgspec.Struct, kw_only=True):
    """What an audit found. `problems` are one line each; an empty list is a clean zoo."""

    networks: int = 0
    bundles: int = 0
    hosts: int = 0
    checked_by_others: int = 0  # networks that a host other than their trainer checked
    cells: int = 0  # segments that others replayed
    replayed: int = 0  # networks trained again, whole, by this audit
    problems: list[str] = []


def audit_zoo(
    path: Path,
    replay: int = 0,
    threads: int = 1,
    organizer: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    rng: random.Random | None = None,
) -> Audit:
    """Check a zoo at all three levels; `replay` networks, drawn by `rng`, are trained again. Raises UsageError."""
    say("files: hashing shards, catalogue and rows ...")
    audit = Audit(problems=list(verify_zoo(path).problems))
    store = open_store(path)
    rows = store.catalogue(COLUMNS).to_pylist()
    audit.networks, audit.hosts = len(rows), len({row["host"] for row in rows})
    bundles: dict[str, list[dict]] = {}
    for row in rows:
        bundles.setdefault(row["evidence"], []).append(row)
    audit.bundles = len(bundles)
    say(f"evidence: {len(bundles)} bundles ...")
    chains, campaigns = BeaconChains(), dict[str, Campaign]()
    for digest, members in sorted(bundles.items()):
        try:
            data = store.evidence(digest)
            if hexdigest(data) != digest:
                raise Refused("evidence-digest", "the file does not hash to its name")
            name = members[0]["campaign"]
            if name not in campaigns:
                campaigns[name] = campaign_from_bytes(store.campaign(name))
            verified = verify_evidence(evidence_from_bytes(data), campaigns[name], chains, organizer)
        except (Refused, UsageError) as error:
            audit.problems.append(f"evidence {digest[:16]}: {error}")
            continue
        for row in members:
            _compare(row, verified, audit)
    chosen = (rng or random.Random()).sample(rows, min(replay, len(rows)))
    for i, row in enumerate(chosen, 1):
        say(f"replay: network {row['id']} from recipe and seed ({i} of {len(chosen)}) ...")
        _replay(row, store, threads, audit)
    return audit


def _compare(row: dict, verified: VerifiedBundle, audit: Audit) -> None:
    """One catalogue row against what its evidence proves."""
    seed = row["seed"]
    network = next((n for n in verified.result.networks if n.seed == seed), None)
    if network is None:
        audit.problems.append(f"network {row['id']}: its evidence is about other networks")
        return
    if network.weights_digest.hex() != row["weights_digest"] or network.steps != row["steps"]:
        audit.problems.append(f"network {row['id']}: weights or steps are not those that were checked")
    if verified.worker != row["host"]:
        audit.problems.append(f"network {row['id']}: trained by {verified.worker}, not by {row['host']}")
    audit.cells += verified.cells[seed]
    audit.checked_by_others += bool(set(verified.checkers[seed]) - {verified.worker})


def _replay(row: dict, store, threads: int, audit: Audit) -> None:
    from protocol.engine.select import select_engine
    from protocol.engine.training import train_networks

    recipe = store.recipe(row["recipe"])
    last = None
    for _, boundary in train_networks(
        select_engine("auto", threads=threads), recipe, [row["seed"]], 1, shelf=store.shelf
    ):
        last = boundary
    audit.replayed += 1
    if last is None or last.state.params_digest.hex() != row["weights_digest"]:
        audit.problems.append(f"network {row['id']}: trained again, it has other weights")
