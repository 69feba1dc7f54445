"""A volunteer's directory: its key, what it knows of campaigns, and what it has trained and not handed in."""

import json
from pathlib import Path

from coordinator.server.doctor.findings import Findings
from protocol.engine import state_bytes_length, state_from_bytes
from protocol.files import PRIVATE
from protocol.recipes.campaign import Assignment, Campaign, campaign_from_bytes
from protocol.trust.commitment import LEAF_BYTES, leaf_from_bytes
from protocol.trust.envelope import envelope_from_bytes, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import CampaignManifest, Receipt, Result

AGAIN = "remove the file while `join` is stopped: it is fetched again"
ANEW = "remove the bundle's folder while `join` is stopped: it is trained anew"


def examine_volunteer(path: Path, findings: Findings) -> None:
    key = path / "identity"
    host = ""
    if not key.exists():
        findings.problem(f"{key}: gone", "put it back from a copy; without it your credit is nobody's")
    else:
        with findings.looking("keys", str(key), "put it back from a copy; without it your credit is nobody's"):
            host = Identity.load(key).host
        if key.stat().st_mode & 0o777 & ~PRIVATE:
            findings.problem(f"{key}: others may read it", f"chmod 600 {key}")
    campaigns: dict[str, Campaign] = {}
    for file in sorted((path / "campaigns").glob("*.json")):
        with findings.looking("campaigns", str(file), AGAIN):
            campaign = campaign_from_bytes(file.read_bytes())
            manifest = unseal(envelope_from_bytes(file.with_suffix(".manifest").read_bytes()), CampaignManifest)
            if campaign.digest != file.stem or manifest.campaign != file.stem:
                raise ValueError("its bytes or its manifest are another campaign's")
            campaigns[campaign.digest] = campaign
    for folder in sorted((path / "bundles").glob("*")):
        if (folder / "assignment.json").exists():  # else it was cut short before it began, and is begun again
            with findings.looking("bundles", str(folder), ANEW):
                _examine_bundle(folder, campaigns, host)


def _examine_bundle(folder: Path, campaigns: dict[str, Campaign], host: str) -> None:
    """Each state on the disk is the one that its leaf vouches for; signed messages are ours. Raises ValueError."""
    about = json.loads((folder / "assignment.json").read_bytes())
    campaign = campaigns.get(about["campaign"])
    if campaign is None:
        raise ValueError("of a campaign that is not here, or damaged")
    assignment = campaign.assignment(about["index"])
    for seed in assignment.seeds:
        if (folder / f"{seed}.leaves").exists() and (folder / f"{seed}.states").exists():
            _examine_network(folder, seed, assignment)
    for name, kind, signer in (("result", Result, host or None), ("receipt", Receipt, None)):
        file = folder / f"{name}.envelope"
        if file.exists():
            unseal(envelope_from_bytes(file.read_bytes()), kind, signer=signer)


def _examine_network(folder: Path, seed: int, assignment: Assignment) -> None:
    length = state_bytes_length(assignment.recipe)
    leaves, states = (folder / f"{seed}.leaves").read_bytes(), folder / f"{seed}.states"
    count = min(len(leaves) // LEAF_BYTES, states.stat().st_size // length)  # a record that was cut short is cut off
    with states.open("rb") as file:
        for i in range(count):
            leaf = leaf_from_bytes(leaves[i * LEAF_BYTES : (i + 1) * LEAF_BYTES])
            if state_from_bytes(assignment.recipe, file.read(length)).digest != leaf.state_digest:
                raise ValueError(f"{states.name}: boundary {i} is not the state that its leaf vouches for")
