"""A stamp: a little work that a new key has done before it is remembered. Keys are free; so many of them are not.

Hashcash in eight parts, so that luck decides little: for each part a number such that the hash over the purpose, the
organizer's challenge to this host, the part and the number begins with `bits` zero bits.
"""

import hashlib
from collections.abc import Callable
from itertools import count

PARTS = 8
PROOF_BYTES = 8 * PARTS
CHALLENGE_BYTES_MAX = 64
BITS_MAX = 32
SLICE = 4096  # tries between two looks at whether to go on


def is_paid(challenge: bytes, host: str, bits: int, proof: bytes) -> bool:
    if len(proof) != PROOF_BYTES:
        return False
    return all(
        _zero_bits(_hash(challenge, host, part), proof[8 * part : 8 * part + 8]) >= bits for part in range(PARTS)
    )


def pay(challenge: bytes, host: str, bits: int, go_on: Callable[[], bool] = lambda: True) -> bytes | None:
    """The proof, after about `PARTS * 2**bits` hashes; None when it is not to go on."""
    proof = b""
    for part in range(PARTS):
        begun = _hash(challenge, host, part)
        for number in count():
            if number % SLICE == 0 and not go_on():
                return None
            tried = number.to_bytes(8, "big")
            if _zero_bits(begun, tried) >= bits:
                proof += tried
                break
    return proof


def _hash(challenge: bytes, host: str, part: int) -> "hashlib._Hash":
    return hashlib.sha256(b"zooswarm/stamp/1\0" + host.encode() + b"\0" + challenge + bytes([part]))


def _zero_bits(begun: "hashlib._Hash", number: bytes) -> int:
    tried = begun.copy()
    tried.update(number)
    return 64 - int.from_bytes(tried.digest()[:8], "big").bit_length()
