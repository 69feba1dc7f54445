"""The campaigns that we follow and our bundles of them, on disk: what `HomeAction`s do, and what a restart finds."""

import threading
from pathlib import Path

from peer.state.actions import CreateBundle, ForgetReceipt, HomeAction, RemoveBundle, RemoveCheck, SignResult
from peer.state.events import DiskFailed, Event, RestoredBundle, ResultSigned
from peer.state.ids import AssignmentId
from peer.storage.bundle import Bundle
from peer.storage.home import Home, bundle_path, check_path, folder_bytes
from protocol.recipes.campaign import Campaign, Policy
from protocol.trust.envelope import seal
from protocol.trust.messages import CampaignManifest


class Workspace:
    """May be used by the daemon's thread and by the one that calls the coordinator."""

    def __init__(self, home: Home):
        self.home = home
        self._campaigns: dict[str, tuple[Campaign, CampaignManifest]] = {}
        self._lock = threading.Lock()

    def follow(self, campaign: Campaign, manifest: CampaignManifest) -> tuple[RestoredBundle, ...]:
        """From now on this campaign's bundles have names here. Returns those that an earlier run left."""
        with self._lock:
            self._campaigns[campaign.digest] = (campaign, manifest)
        return tuple(restored(bundle) for bundle in self.home.bundles(campaign))

    def campaign(self, digest: str) -> tuple[Campaign, CampaignManifest] | None:
        with self._lock:
            return self._campaigns.get(digest)

    def digests(self) -> list[str]:
        with self._lock:
            return list(self._campaigns)

    def bundle(self, id: AssignmentId) -> Bundle:
        campaign, _ = self._campaigns[id.campaign]
        return Bundle(bundle_path(self.home.path, *id), campaign.assignment(id.index))

    def policy(self, id: AssignmentId) -> Policy:
        return self._campaigns[id.campaign][0].policy

    def check_path(self, result: bytes, slot: int) -> Path:
        return check_path(self.home.path, result, slot)

    def perform(self, action: HomeAction) -> Event | None:
        """At once. A full or broken disk is a DiskFailed."""
        try:
            return self._perform(action)
        except OSError as error:
            return DiskFailed(action, disk_error(error, self.home.path))

    def _perform(self, action: HomeAction) -> Event | None:
        match action:
            case CreateBundle(id):
                Bundle.create(bundle_path(self.home.path, *id), self.bundle(id).assignment)
            case SignResult(id, backend):
                bundle, identity = self.bundle(id), self.home.identity
                result = seal(identity, bundle.result(identity.host, backend))
                bundle.keep("result", result)
                return ResultSigned(id, result.digest, folder_bytes(bundle.path))
            case RemoveBundle(id):
                self.bundle(id).remove()
            case ForgetReceipt(id):
                self.bundle(id).forget("receipt")
            case RemoveCheck(check):
                self.check_path(*check).unlink(missing_ok=True)
            case _:
                raise TypeError(f"not for the disk: {action}")
        return None


def restored(bundle: Bundle) -> RestoredBundle:
    """What the files of a bundle show after a restart."""
    result = bundle.kept("result")
    seeds = () if result else bundle.assignment.seeds
    return RestoredBundle(
        index=bundle.assignment.index,
        untrained=tuple(s for s in seeds if not (bundle.is_trained(s) and bundle.is_sound(s))),
        result=result.digest if result else None,
        receipt=bundle.kept("receipt") is not None,
        disk_bytes=folder_bytes(bundle.path) if result else None,
    )


def disk_error(error: OSError, path: Path) -> str:
    return f"{error.filename or path}: {error.strerror or error}"
