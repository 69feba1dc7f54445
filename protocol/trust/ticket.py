"""A ticket: the organizer's word that a host may hand in results, for campaigns that ask for one (`policy.tickets`)."""

import base64
import binascii

from protocol.errors import InviteError, Refused
from protocol.trust.envelope import Envelope, envelope_from_bytes, seal, unseal
from protocol.trust.identity import Identity
from protocol.trust.messages import Ticket

TICKET_BYTES_MAX = 1024
WHERE = "it is the line that `zooswarm ticket` prints, or a file with it"


def make_ticket(organizer: Identity, host: str, expires_at: float) -> str:
    """As text that a person can send to another."""
    return base64.urlsafe_b64encode(seal(organizer, Ticket(host=host, expires_at=expires_at)).to_bytes()).decode()


def read_ticket(text: str, now: float = 0.0) -> bytes:
    """Raises UsageError: no ticket, or one that has run out `now`, seconds since 1970. The organizer knows the rest."""
    try:
        data = base64.b64decode(text.strip().encode(), altchars=b"-_", validate=True)
        ticket = unseal(envelope_from_bytes(data, TICKET_BYTES_MAX), Ticket)
    except (Refused, binascii.Error, UnicodeError):
        raise InviteError(f"--ticket: this is no ticket; {WHERE}") from None
    if not now < ticket.expires_at:
        raise InviteError(f"--ticket: it has run out; ask the organizer for another: {WHERE}")
    return data


def check_ticket(data: bytes, organizer: str, host: str, now: float) -> None:
    """Raises Refused unless the organizer gave it to this host and it has not run out."""
    envelope: Envelope = envelope_from_bytes(data, TICKET_BYTES_MAX)
    ticket = unseal(envelope, Ticket, signer=organizer)
    if ticket.host != host:
        raise Refused("ticket", "it is another host's")
    if not now < ticket.expires_at:
        raise Refused("ticket", "it has run out; ask the organizer for another")
