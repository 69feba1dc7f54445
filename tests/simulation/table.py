"""What happened, as a table: faults that were put in, and what became of liars and of honest hosts."""

from collections import Counter
from dataclasses import dataclass

from coordinator.policy.phases import Phase
from simulation.actors.liars import FAKERS
from simulation.world import Report

FAULTS = (
    "crashes",
    "torn writes",
    "hosts gone for good",
    "stopped and started again",
    "training processes killed",
    "full disks",
    "partitions",
    "outages of the organizer",
    "messages lost",
    "messages repeated",
    "messages cut off",
    "DHT stores failed",
    "DHT reads failed",
)


@dataclass(kw_only=True)
class Kinds:
    """What one kind of host did; `seconds` are from the first fake to the conviction."""

    hosts: int = 0
    results: int = 0
    fakes: int = 0
    admitted: int = 0  # of its results
    fakes_admitted: int = 0
    void: int = 0
    banned: int = 0
    seconds: float = 0.0
    credit: int = 0


def faults(reports: list[Report]) -> dict[str, int]:
    """How often each fault happened, over all runs."""
    total: Counter[str] = Counter()
    for report in reports:
        world = report.world
        total.update(report.counts)
        total["messages lost"] += world.network.counts["lost"]
        total["messages repeated"] += world.network.counts["repeated"]
        total["messages cut off"] += world.network.counts["cut off"]
        total["DHT stores failed"] += world.dht.counts["failed stores"]
        total["DHT reads failed"] += world.dht.counts["failed reads"]
    return {name: total[name] for name in FAULTS}


def kinds(reports: list[Report]) -> dict[str, Kinds]:
    """By kind of host, the honest ones first."""
    found = {"honest": Kinds()}
    for report in reports:
        world = report.world
        for name, host in world.by_host.items():
            kind = found.setdefault(host.kind.value if host.kind is not None else "honest", Kinds())
            kind.hosts += 1
            row = world.organizer.ledger.hosts.get(name)
            if row is None:
                continue
            kind.credit += row.credit
            if row.banned:
                kind.banned += 1
                since = world.checkers.first_fake.get(name)
                if since is not None and host.kind in FAKERS:
                    kind.seconds += row.banned_at - world.organizer.started - since
        for result in world.organizer.ledger.rows.values():
            host = world.by_host[result.worker]
            kind = found[host.kind.value if host.kind is not None else "honest"]
            fake = result.digest in world.checkers.offered
            kind.results += 1
            kind.fakes += fake
            kind.admitted += result.phase is Phase.ADMITTED
            kind.fakes_admitted += fake and result.phase is Phase.ADMITTED
            kind.void += result.phase is Phase.VOID
    return dict(sorted(found.items(), key=lambda item: (item[0] != "honest", item[0])))


def lines(reports: list[Report]) -> list[str]:
    """The tables as text, the same for the same runs."""
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report.counts)
    replayed = total["segments replayed"] + total["segments replayed by the organizer"]
    said = [
        "fault                          times",
        *(f"{name:<28}{count:>8,}" for name, count in faults(reports).items()),
    ]
    said += ["", _head()]
    for name, kind in kinds(reports).items():
        conviction = f"{kind.seconds / kind.banned:,.0f} s" if kind.banned else "-"
        said.append(
            f"{name:<16}{kind.hosts:>7,}{kind.results:>9,}{kind.admitted:>10,}{kind.fakes:>8,}"
            f"{kind.fakes_admitted:>10,}{kind.void:>7,}{kind.banned:>10,}{conviction:>14}{kind.credit:>12,}"
        )
    said += [
        "",
        f"segments trained {total['segments trained']:,}, replayed {replayed:,}"
        f" ({100 * replayed / max(1, total['segments trained']):.1f} % extra),"
        f" slots reassigned {total['slots reassigned']:,}, disputes replayed {total['replays of disputes']:,},"
        f" slots that fell to the organizer {total['slots of the organizer']:,}",
        *(report.world.loads.line() for report in reports[:1] if len(reports) == 1),
    ]
    return said


def _head() -> str:
    return (
        f"{'hosts that are':<16}{'hosts':>7}{'results':>9}{'admitted':>10}{'fakes':>8}"
        f"{'admitted':>10}{'void':>7}{'banned':>10}{'to the ban':>14}{'credit':>12}"
    )
