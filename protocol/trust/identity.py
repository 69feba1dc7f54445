"""A host's identity: one Ed25519 key, used for libp2p and for every signature; the PeerID *is* the public key."""

import functools
import hmac
from pathlib import Path
from typing import TYPE_CHECKING

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.errors import DamageError, Refused
from protocol.files import PRIVATE, create_once

if TYPE_CHECKING:  # 40 ms, and only who serves certifies
    from cryptography import x509

# libp2p's protobuf framing: PrivateKey/PublicKey {1: key_type = Ed25519 (1), 2: data}
PRIVATE_PREFIX = b"\x08\x01\x12\x40"
PUBLIC_PREFIX = b"\x08\x01\x12\x20"
MULTIHASH_PREFIX = b"\x00\x24"  # identity multihash of 36 bytes
KEYS_KEPT = 4096  # of the hosts that were heard last
HOST_LENGTH = 52  # base58 characters of an Ed25519 PeerID
# Encodings of the points of order 1, 2, 4, 8: a signature under one of them proves nothing (RFC 8032, section 5.1.7).
SMALL_ORDER = {
    bytes.fromhex(h)
    for h in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
}


class Identity:
    """A private key and the host name that follows from it. Never printed, pickled or sent."""

    def __init__(self, key: Ed25519PrivateKey):
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        self.host = base58.b58encode(MULTIHASH_PREFIX + PUBLIC_PREFIX + self.public).decode()

    @classmethod
    def generate(cls) -> "Identity":
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path) -> "Identity":
        """The identity in `path`, made on first use with mode 0600. Raises UsageError when the file is damaged."""
        if not path.exists():
            create_once(path, cls.generate().file_bytes(), PRIVATE)  # never over another process's key
        identity = cls.load(path)
        path.chmod(PRIVATE)
        return identity

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """The identity in `path`; nothing is written. Raises UsageError when it is damaged, OSError when it is gone."""
        data = path.read_bytes()
        if len(data) != 68 or not data.startswith(PRIVATE_PREFIX):
            raise DamageError(f"{path}: not an Ed25519 identity file; restore it from a copy or move it away")
        return cls(Ed25519PrivateKey.from_private_bytes(data[4:36]))

    def file_bytes(self) -> bytes:
        """libp2p's private-key file, so that the same file starts the libp2p daemon."""
        return PRIVATE_PREFIX + self._key.private_bytes_raw() + self.public

    def certify(self, certificate: "x509.CertificateBuilder") -> "x509.Certificate":
        """A TLS certificate signed by this key (what is signed begins with 0x30, no message of ours does)."""
        return certificate.sign(self._key, None)

    def sign(self, domain: str, data: bytes) -> bytes:
        """64-byte Ed25519 signature over domain, zero byte, data: a signature for one purpose fits no other."""
        return self._key.sign(b"zooswarm/1/" + domain.encode() + b"\0" + data)

    def secret(self, purpose: str) -> bytes:
        """32 bytes that only the key's owner knows, the same after every start; those for one purpose fit no other."""
        return hmac.digest(self._key.private_bytes_raw(), b"zooswarm/secret/1/" + purpose.encode(), "sha256")


@functools.lru_cache(KEYS_KEPT)
def _key_of(host: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key(host))


def public_key(host: str) -> bytes:
    """The 32-byte public key inside a PeerID. Raises Refused for anything but a sound Ed25519 PeerID."""
    if len(host) != HOST_LENGTH:
        raise Refused("host-name", "not an Ed25519 PeerID")
    try:
        raw = base58.b58decode(host)
    except ValueError:
        raise Refused("host-name", "not base58") from None
    prefix = MULTIHASH_PREFIX + PUBLIC_PREFIX
    if len(raw) != 38 or not raw.startswith(prefix) or raw[6:] in SMALL_ORDER:
        raise Refused("host-name", "not an Ed25519 PeerID")
    return raw[6:]


def verify_signature(host: str, domain: str, data: bytes, signature: bytes) -> None:
    """Raises Refused unless `signature` is `host`'s over `data` for this domain."""
    try:
        _key_of(host).verify(signature, b"zooswarm/1/" + domain.encode() + b"\0" + data)
    except InvalidSignature:
        raise Refused("signature", f"not signed by {host}") from None
