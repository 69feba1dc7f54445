"""A volunteer's directory: identity, lock, cached campaigns, bundles. Everything in it survives a kill."""

import contextlib
import json
import os
from pathlib import Path

import msgspec

from peer.storage.bundle import Bundle
from protocol.canonical import NOT_DECODABLE
from protocol.errors import DiskError, Refused
from protocol.files import home_directory, lock_directory, write_atomic
from protocol.recipes.campaign import Campaign, campaign_from_bytes, check_engines
from protocol.tasks.datasets import Shelf
from protocol.trust.allowance import Allowance
from protocol.trust.envelope import Envelope, envelope_from_bytes, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import CampaignManifest

KEPT = ("data", "checks", "campaigns")  # folders


def default_home() -> Path:
    """The volunteer's directory where none is named; ZOOSWARM_HOME moves it."""
    return home_directory() / "volunteer"


class JoinCache(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the last successful join taught us, so that we can go on while the coordinator is away."""

    address: str
    organizer: str
    bootstrap: list[str]
    campaigns: list[str]
    peers: list[str] = []  # addresses met in the DHT


class Home:
    """Opens and locks a volunteer's directory. Raises UsageError when it cannot be used, naming the path."""

    def __init__(self, path: Path):
        self.path = path
        try:
            (path / "bundles").mkdir(parents=True, exist_ok=True)
            (path / "campaigns").mkdir(exist_ok=True)
        except OSError as error:
            raise DiskError(f"{path}: cannot use this directory: {error.strerror}; choose another with --dir") from None
        in_use = "another volunteer runs from this directory; give this one its own --dir"
        self._lock = lock_directory(path, in_use, "choose another with --dir")
        self.shelf = Shelf(path / "data")
        self.identity_path = path / "identity"
        self.identity = Identity.load_or_create(self.identity_path)

    def close(self) -> None:
        """Let another program have the directory."""
        self._lock.release()

    # -- what we know of the swarm --------------------------------------------------------------------------------
    def known(self, address: str) -> JoinCache | None:
        return read_known(self.path / "known.json", address)

    def remember(self, known: JoinCache) -> None:
        write_atomic(self.path / "known.json", msgspec.json.encode(known))

    def allowance(self, organizer: str) -> Allowance | None:
        """What this organizer last allowed us to claim, if we know."""
        try:
            kept = msgspec.msgpack.decode((self.path / "allowance").read_bytes(), type=tuple[str, Allowance])
        except (OSError, msgspec.DecodeError):
            return None  # the first inbox brings it
        return kept[1] if kept[0] == organizer else None

    def keep_allowance(self, organizer: str, allowance: Allowance) -> None:
        write_atomic(self.path / "allowance", msgspec.msgpack.encode((organizer, allowance)))

    def add_campaign(self, data: bytes, manifest: Envelope, organizer: str) -> Campaign:
        """Check and keep a campaign's bytes and manifest. Raises Refused."""
        campaign = campaign_from_bytes(data)
        if unseal(manifest, CampaignManifest, signer=organizer).campaign != campaign.digest:
            raise Refused("manifest", "the manifest is for another campaign")
        check_engines(campaign)
        folder = self.path / "campaigns"
        write_atomic(folder / f"{campaign.digest}.json", data)
        write_atomic(folder / f"{campaign.digest}.manifest", manifest.to_bytes())
        return campaign

    def campaign(self, digest: str, organizer: str) -> tuple[Campaign, CampaignManifest] | None:
        """A cached campaign and its manifest, checked again; None when it is not here."""
        folder = self.path / "campaigns"
        try:
            campaign = campaign_from_bytes((folder / f"{digest}.json").read_bytes())
            envelope = envelope_from_bytes((folder / f"{digest}.manifest").read_bytes())
            return campaign, unseal(envelope, CampaignManifest, signer=organizer)
        except (FileNotFoundError, Refused):
            return None

    # -- bundles --------------------------------------------------------------------------------------------------
    def bundles(self, campaign: Campaign) -> list[Bundle]:
        """Those on disk that belong to this campaign."""
        found = []
        for path in sorted((self.path / "bundles").iterdir()):
            try:
                about = json.loads((path / "assignment.json").read_bytes())
                if about["campaign"] == campaign.digest:
                    found.append(Bundle(path, campaign.assignment(about["index"])))
            except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
                continue  # cut short before it began
        return found

    def free_bytes(self) -> int:
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def used_bytes(self) -> int:
        """What is here in all, bundles too."""
        return self.kept_bytes() + sum(
            folder_bytes(path) for path in (self.path / "bundles").iterdir() if path.is_dir()
        )

    def kept_bytes(self) -> int:
        """What is here besides bundles: data sets, fetched checks, campaigns, logs."""
        return sum(folder_bytes(folder) for folder in (self.path, *(self.path / name for name in KEPT)))


def read_known(path: Path, address: str) -> JoinCache | None:
    """The cache of this address; None when it is missing, damaged or of another swarm."""
    try:
        known = msgspec.json.decode(path.read_bytes(), type=JoinCache)
    except (FileNotFoundError, *NOT_DECODABLE):
        return None
    return known if known.address == address else None


def folder_bytes(folder: Path) -> int:
    """Of its own files. One that goes meanwhile counts nothing."""
    size = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat().st_size if entry.is_file() else 0
    return size


def bundle_path(home: Path, campaign: str, index: int) -> Path:
    return home / "bundles" / f"{campaign[:16]}-{index}"


def check_path(home: Path, result: bytes, slot: int) -> Path:
    return home / "checks" / f"{result.hex()[:16]}-{slot}.job"
