"""Bundles of overlapping campaigns: who stands behind another in the zoo, and takes its place when that is taken back.

A network is registered to the admitted bundle that brought it in first. Another campaign's bundle of the same networks,
its double, is paid and kept on the disk, for the zoo has nothing of it.
"""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from coordinator.ledger.tables import networks, results
from coordinator.policy.phases import Phase

REGISTERED = select(func.count()).select_from(networks).where(networks.c.result == results.c.digest).scalar_subquery()
IS_DOUBLE: ColumnElement[bool] = (results.c.phase == Phase.ADMITTED) & (results.c.networks > REGISTERED)
DOUBLES = select(results.c.digest).where(IS_DOUBLE).order_by(results.c.since)
RETRACTED = select(func.count()).select_from(results).where(results.c.phase == Phase.RETRACTED)


def count_retracted(connection: Connection) -> int:
    """While this stays as it is, no network has lost its bundle."""
    return connection.execute(RETRACTED).scalar_one()


def read_doubles(connection: Connection) -> tuple[bytes, ...]:
    """Admitted results of whose networks another's stand in the zoo, all or some; the oldest first."""
    return tuple(connection.execute(DOUBLES).scalars())


def hand_over(connection: Connection, doubles: Mapping[bytes, tuple[str, tuple[int, ...]]]) -> int:
    """Networks that no bundle brings in any more become those of the first double that has them, which is published.

    `doubles`: results, the oldest first, with their recipe's digest and their seeds. How many take a place.
    """
    heirs = 0
    for digest, (recipe, seeds) in doubles.items():
        same = select(networks.c.seed).where(networks.c.recipe == recipe, networks.c.seed.in_(seeds))
        known = set(connection.execute(same).scalars())
        admitted = results.c.digest == digest, results.c.phase == Phase.ADMITTED
        free = [seed for seed in seeds if seed not in known]
        if free and connection.execute(update(results).where(*admitted).values(published=0)).rowcount:
            rows = [{"recipe": recipe, "seed": seed, "result": digest} for seed in free]
            connection.execute(insert(networks), rows)
            heirs += 1
    return heirs
