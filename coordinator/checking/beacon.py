"""The beacon: a hash chain from a secret file. Link e = H(link e + 1), so showing one tells nothing of the next.

The ledger says how many links have been shown (the epoch); it is written before anybody sees the link.
"""

import hashlib
import os
from pathlib import Path

from protocol.errors import DamageError
from protocol.files import PRIVATE, create_once
from protocol.trust.challenge import beacon_link

CHAIN_LENGTH = 2**18  # 15 days of a link every 5 s without a pause; 8 MB and a quarter second at start
SECRET_BYTES = 32


class BeaconExhausted(Exception):
    """All links have been shown: this directory can admit nothing more."""


class Beacon:
    """Links 0 .. length; link 0 is the anchor that manifests carry."""

    def __init__(self, secret: bytes, length: int = CHAIN_LENGTH):
        self.length = length
        links = bytearray(32 * (length + 1))
        link = beacon_link(secret, 0, 0)  # the chain's end, link `length`
        for epoch in range(length, -1, -1):
            links[32 * epoch : 32 * epoch + 32] = link
            link = hashlib.sha256(link).digest()
        self._links = bytes(links)

    @classmethod
    def load_or_create(cls, path: Path, length: int = CHAIN_LENGTH) -> "Beacon":
        """The chain of the secret in `path`, made on first use with mode 0600. Raises UsageError when damaged."""
        if not path.exists():
            create_once(path, os.urandom(SECRET_BYTES), PRIVATE)
        return cls.load(path, length)

    @classmethod
    def load(cls, path: Path, length: int = CHAIN_LENGTH) -> "Beacon":
        """The chain of the secret in `path`; nothing is written. Raises UsageError when damaged, OSError when gone."""
        secret = path.read_bytes()
        if len(secret) != SECRET_BYTES:
            raise DamageError(f"{path}: not a beacon's secret ({len(secret)} bytes); restore it from a copy")
        return cls(secret, length)

    @property
    def anchor(self) -> bytes:
        return self.link(0)

    def link(self, epoch: int) -> bytes:
        """Raises BeaconExhausted past the last link."""
        if epoch > self.length:
            raise BeaconExhausted(f"all {self.length:,} links of the beacon have been shown; start a new directory")
        return self._links[32 * epoch : 32 * epoch + 32]
