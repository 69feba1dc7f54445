"""Allowances: how many assignments a host may claim at once, signed by the organizer, carried in every claim.

Keys and claims are free of charge, so a claim alone proves nothing: without a limit one record claims a whole
campaign. The organizer allows a new host a handful, and more as it proves its speed; every node checks it.
"""

import struct
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.errors import Refused
from protocol.trust.identity import Identity, verify_signature

DOMAIN = "claims-allowance"  # of the signature
ASSIGNMENTS_MAX = 64  # of one host: no more than a volunteer holds
FRESH_ASSIGNMENTS = 8  # of a host that has proved nothing yet
SKEW_SECONDS = 60.0
KNOWN_MAX = 10_000  # allowances whose signature was verified


class Allowance(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The organizer's word about one host. It is not secret, and worthless to any other host."""

    assignments: Annotated[int, Meta(ge=1, le=ASSIGNMENTS_MAX)]  # claimed at once
    patience: Annotated[int, Meta(ge=1, le=86_400)]  # seconds that one of its claims may stand without a result
    expires: Annotated[int, Meta(ge=0, lt=1 << 40)]  # seconds since 1970
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]

    @property
    def proved(self) -> bool:
        """Whether its host has earned more than anybody gets."""
        return self.assignments > FRESH_ASSIGNMENTS


def allow(identity: Identity, host: str, assignments: int, patience: int, expires: int) -> Allowance:
    """Sign an allowance; `identity` is the organizer's."""
    signature = identity.sign(DOMAIN, _signed(host, assignments, patience, expires))
    return Allowance(assignments, patience, expires, signature)


class Allowances:
    """Checks the allowances of one organizer's swarm, each signature once."""

    def __init__(self, organizer: str):
        self.organizer = organizer
        self._known: dict[tuple[str, Allowance], None] = {}

    def check(self, allowance: Allowance, host: str, claimed: int, now: float) -> None:
        """Whether `host` may claim so many assignments of one shard now. Raises Refused."""
        if claimed > allowance.assignments:
            raise Refused("claim-allowance", f"{host} claims {claimed} of the {allowance.assignments} it may")
        if now > allowance.expires + SKEW_SECONDS:
            raise Refused("claim-allowance", f"the allowance of {host} has ended")
        if (host, allowance) in self._known:
            return
        signed = _signed(host, allowance.assignments, allowance.patience, allowance.expires)
        verify_signature(self.organizer, DOMAIN, signed, allowance.signature)
        while len(self._known) >= KNOWN_MAX:
            self._known.pop(next(iter(self._known)))
        self._known[host, allowance] = None


def _signed(host: str, assignments: int, patience: int, expires: int) -> bytes:
    return struct.pack(">IIQ", assignments, patience, expires) + host.encode()
