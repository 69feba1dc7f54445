"""The organizer's commands: none works twice, after a restart neither; and what stays of them."""

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from coordinator.ledger.facts import read_host
from coordinator.ledger.settlement import Sign, ensure_host, store_settlement
from coordinator.ledger.tables import campaigns, commands, hosts, moderation, orders
from coordinator.policy.actions import Action
from coordinator.policy.campaigns import COMMAND_AHEAD_SECONDS, check_command
from coordinator.policy.settle import moderate
from protocol.errors import Refused
from protocol.trust.envelope import Envelope
from protocol.trust.messages import ModerateHost


class Order(NamedTuple):
    """What the organizer said of a campaign after he seeded it."""

    priority: int
    max_leased: int = 0  # assignments under way at once; 0: as many as there are


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


def read_orders(connection: Connection) -> dict[str, Order]:
    """{campaign: what was said of it}."""
    return {row.campaign: Order(row.priority, row.max_leased) for row in connection.execute(select(orders))}


def give_order(connection: Connection, campaign: str, order: Order) -> None:
    """Raises Refused for a campaign that is not here."""
    if connection.execute(select(campaigns.c.digest).where(campaigns.c.digest == campaign)).first() is None:
        raise Refused("unknown-campaign", campaign)
    connection.execute(delete(orders).where(orders.c.campaign == campaign))
    connection.execute(insert(orders).values(campaign=campaign, **order._asdict()))


def moderate_host(
    connection: Connection, command: ModerateHost, envelope: Envelope, sign: Sign, now: float
) -> tuple[Action, ...]:
    """Ban a host or let it in again, and remember who said so and why. Raises Refused."""
    settlement = moderate(read_host(connection, command.host), command.banned, command.reason)
    ensure_host(connection, command.host, now)
    store_settlement(connection, settlement, sign, now)
    if not command.banned:
        connection.execute(update(hosts).where(hosts.c.host == command.host).values(banned=""))
    row = {"at": now, "host": command.host, "banned": int(command.banned), "reason": command.reason}
    connection.execute(insert(moderation).values(**row, envelope=envelope.to_bytes()))
    return settlement.actions
