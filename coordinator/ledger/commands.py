"""Which commands of the organizer were taken: none works twice, after a restart neither."""

from sqlalchemy import Connection, func, insert, select

from coordinator.ledger.tables import commands
from coordinator.policy.campaigns import COMMAND_AHEAD_SECONDS, check_command


def accept_command(connection: Connection, kind: str, subject: str, issued_at: float, nonce: bytes, now: float) -> None:
    """Remember a command about `subject`. Raises Refused: it is old, or was taken before."""
    seen = connection.execute(select(commands.c.nonce).where(commands.c.nonce == nonce)).first() is not None
    newest = connection.execute(
        select(func.max(commands.c.issued_at)).where(
            commands.c.kind == kind,
            commands.c.subject == subject,
            commands.c.issued_at <= now + COMMAND_AHEAD_SECONDS,  # others were issued under a wrong clock
        )
    ).scalar()
    check_command(issued_at, newest, now, seen=seen)
    connection.execute(insert(commands).values(nonce=nonce, kind=kind, subject=subject, issued_at=issued_at))
