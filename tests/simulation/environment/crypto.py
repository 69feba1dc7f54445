"""Keys and signatures that cost a microsecond: everything about an identity but the mathematics.

A host's name has the real form. A signature is a keyed hash whose key only the simulation knows, so it cannot be
forged by anybody inside, and `verify` says so as the real one does.
"""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from unittest import mock

import base58

from protocol.errors import Refused
from protocol.trust import envelope, identity


class CheapIdentity(identity.Identity):
    """A host's name, and signatures that nobody else can make; there is no key to store."""

    def __init__(self, rng: random.Random):  # in place of a key's
        self.public = rng.randbytes(32)
        prefix = identity.MULTIHASH_PREFIX + identity.PUBLIC_PREFIX
        self.host = base58.b58encode(prefix + self.public).decode()

    def sign(self, domain: str, data: bytes) -> bytes:
        return _signature(self.host, domain, data)

    def secret(self, purpose: str) -> bytes:
        return hashlib.blake2b(purpose.encode(), key=self.public, digest_size=32).digest()


def _signature(host: str, domain: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=host.encode(), person=domain.encode()[-16:]).digest()


def _verify(host: str, domain: str, data: bytes, signature: bytes) -> None:
    if signature != _signature(host, domain, data):
        raise Refused("signature", f"not signed by {host}")


@contextlib.contextmanager
def cheap_signatures() -> Iterator[None]:
    """While this lasts, envelopes are verified the cheap way, in this process."""
    with mock.patch.object(envelope, "verify_signature", _verify):
        yield
