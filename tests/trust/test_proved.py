"""A signature that was verified is not verified again for the same bytes, and for no others."""

import msgspec
import pytest

from protocol.errors import Refused
from protocol.trust import envelope as envelopes
from protocol.trust.envelope import Proved, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import Receipt

ME, OTHER = Identity.generate(), Identity.generate()
RECEIPT = Receipt(result=b"r" * 32, epoch=3, received_at=5.0)


@pytest.fixture
def verified(monkeypatch) -> list[str]:
    """Signers whose signatures were verified, by a memory of our own."""
    seen: list[str] = []
    real = envelopes.verify_signature

    def verify(host: str, domain: str, data: bytes, signature: bytes) -> None:
        seen.append(host)
        real(host, domain, data, signature)

    monkeypatch.setattr(envelopes, "verify_signature", verify)
    monkeypatch.setattr(envelopes, "PROVED", Proved(4))
    return seen


def test_the_same_bytes_are_verified_once(verified):
    sealed = seal(ME, RECEIPT)
    assert [unseal(sealed, Receipt) for _ in range(3)] == [RECEIPT] * 3
    assert verified == [ME.host]


def test_any_other_byte_is_verified_and_refused_each_time(verified):
    sealed = seal(ME, RECEIPT)
    unseal(sealed, Receipt)
    changed = [
        msgspec.structs.replace(sealed, signature=bytes([sealed.signature[0] ^ 1]) + sealed.signature[1:]),
        msgspec.structs.replace(sealed, payload=sealed.payload[:-1] + bytes([sealed.payload[-1] ^ 1])),
        msgspec.structs.replace(sealed, signer=OTHER.host),
        msgspec.structs.replace(sealed, signature=sealed.signature[:60]),
    ]
    for bad in changed * 2:
        with pytest.raises(Refused, match="signature"):
            unseal(bad, Receipt)
    assert len(verified) == 1 + 2 * len(changed)


def test_what_is_remembered_is_bounded_and_told_on(verified):
    sealed = [seal(ME, msgspec.structs.replace(RECEIPT, epoch=epoch)) for epoch in range(6)]
    for one in sealed:
        unseal(one, Receipt)
    assert envelopes.PROVED.among(one.proof for one in sealed) == tuple(one.proof for one in sealed[-4:])
    told = Proved()
    told.add(envelopes.PROVED.among(one.proof for one in sealed))
    assert told.among([sealed[5].proof, sealed[0].proof]) == (sealed[5].proof,)
