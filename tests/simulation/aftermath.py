"""What must have become of liars and their work when all is over: looked at once, from the truth and the ledger."""

from typing import TYPE_CHECKING

from coordinator.policy.phases import Event, Phase
from simulation import chance
from simulation.actors.ledger import Row
from simulation.violation import Violation

if TYPE_CHECKING:
    from simulation.world import World


def check(world: "World") -> None:
    """Raises Violation."""
    _escrow_fell(world)
    _vouchers_fell(world)
    _no_fake_lives(world)


def _escrow_fell(world: "World") -> None:
    """A convicted host's bundles that had not vested are not in the zoo."""
    for row in world.organizer.ledger.rows.values():
        host = world.organizer.ledger.host(row.worker)
        if host.convicted and row.phase is Phase.ADMITTED and row.vests_at > host.admissions:
            name = world.by_host[row.worker].name
            raise Violation("escrow stands", f"{name} is convicted, this bundle had not vested", row.result.assignment)


def _vouchers_fell(world: "World") -> None:
    """Whoever signed that a false segment is true is banned, once the fake was proved."""
    ledger = world.organizer.ledger
    for row in ledger.rows.values():
        if row.phase is Phase.INVALID and row.event == Event.PROVED_WRONG:
            for host in vouched(world, row):
                if not ledger.host(host).banned:
                    name = world.by_host[host].name
                    raise Violation("voucher at large", f"{name} vouched for what was false", row.result.assignment)


def vouched(world: "World", row: Row) -> set[str]:
    """Hosts whose answer agrees with a false segment."""
    bad = world.checkers.offered.get(row.digest, set())
    return {
        envelope.signer
        for slot, (verdict, envelope) in row.answers.items()
        if any((c.network, c.segment) in bad and c not in verdict.bad_cells for c in row.tasks[slot].cells)
    }


def _no_fake_lives(world: "World") -> None:
    """But by luck: no honest checker drew a false segment, and no audit its network."""
    alive = fakes_alive(world)
    if not alive:
        return
    share = world.campaign.policy.audit_share
    chances = []
    for digest, escape in world.checkers.chances.items():
        false = len({network for network, _ in world.checkers.offered[digest]})
        networks = len(world.organizer.ledger.rows[digest].segments)
        chances.append(escape * (1 - share * false / networks))
    probability = chance.at_least(len(alive), chances)
    if probability < chance.IMPOSSIBLE:
        raise Violation("fakes alive", f"{len(alive)} of {len(chances)}; chance does that with {probability:.0e}")


def fakes_alive(world: "World") -> list[Row]:
    rows = world.organizer.ledger.rows
    return [rows[digest] for digest in world.checkers.escaped if rows[digest].phase is Phase.ADMITTED]
