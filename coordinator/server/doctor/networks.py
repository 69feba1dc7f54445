"""A zoo, end to end: every file hashes to its name, and every bundle's evidence proves what the catalogue says."""

from pathlib import Path

from coordinator.server.doctor.findings import Findings
from protocol.canonical import hexdigest
from protocol.errors import Refused
from protocol.recipes.campaign import Campaign, campaign_from_bytes
from protocol.trust.challenge import BeaconChains
from protocol.trust.envelope import unseal
from protocol.trust.evidence import evidence_from_bytes, verify_evidence
from protocol.trust.identity import verify_signature
from protocol.trust.messages import Receipt
from protocol.zoo.store import Store, open_store
from protocol.zoo.verify import verify_zoo

COLUMNS = ["id", "seed", "campaign", "host", "evidence", "weights_digest", "steps"]
PULL = "put the file back from a copy of the zoo, or `zooswarm pull` it from somebody who has it"


def examine_zoo(path: Path, organizer: str | None, findings: Findings) -> dict[str, int]:
    """Digest of each bundle's result (hex) -> the beacon's link that its draw used."""
    with findings.looking("zoos", str(path), PULL):
        verified = verify_zoo(path, verify_signature, organizer)
        findings.looked_at["files"] += verified.files
        for line in verified.problems:
            findings.problem(line, PULL)
        return _examine_evidence(open_store(path), organizer, findings)
    return {}


def _examine_evidence(store: Store, organizer: str | None, findings: Findings) -> dict[str, int]:
    bundles: dict[str, list[dict]] = {}
    for row in store.catalogue(COLUMNS).to_pylist():
        bundles.setdefault(row["evidence"], []).append(row)
    campaigns: dict[str, Campaign] = {}
    chains = BeaconChains()
    found: dict[str, int] = {}
    for digest, rows in sorted(bundles.items()):
        with findings.looking("bundles", f"{store.path}: evidence {digest[:16]}", PULL):
            name = rows[0]["campaign"]
            campaigns[name] = campaigns.get(name) or campaign_from_bytes(store.campaign(name))
            result, epoch = _bundle(store, digest, rows, campaigns[name], chains, organizer)
            found[result] = epoch
    return found


def _bundle(
    store: Store, digest: str, rows: list[dict], campaign: Campaign, chains: BeaconChains, organizer: str | None
) -> tuple[str, int]:
    """Raises Refused."""
    data = store.evidence(digest)
    if hexdigest(data) != digest:
        raise Refused("evidence-digest", "the file does not hash to its name")
    evidence = evidence_from_bytes(data)
    verified = verify_evidence(evidence, campaign, chains, organizer)
    proved = {network.seed: network for network in verified.result.networks}
    for row in rows:
        network = proved.get(row["seed"])
        told = (row["weights_digest"], row["steps"], row["host"])
        if network is None or told != (network.weights_digest.hex(), network.steps, verified.worker):
            raise Refused("evidence-row", f"network {row['id']} is not what was checked")
    return evidence.result.digest.hex(), unseal(evidence.receipt, Receipt).epoch + 1
