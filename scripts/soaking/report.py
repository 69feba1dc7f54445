"""What came of it, as a table, and whether that is good."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from protocol.errors import UsageError
from protocol.zoo.store import open_store
from soaking.swarm import Swarm


@dataclass
class Outcome:
    """Rows for a person; `wrong` is what must not be."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def row(self, name: str, value: object) -> None:
        self.rows.append((name, str(value)))

    def lines(self) -> list[str]:
        width = max(len(name) for name, _ in self.rows)
        return [f"{name:<{width}}  {value}" for name, value in self.rows]


def counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"


def zoo_hosts(path: Path) -> Counter[str]:
    """Networks in the zoo by who trained them."""
    try:
        return Counter(open_store(path).catalogue(["host"])["host"].to_pylist())
    except UsageError:
        return Counter()


def judge_fakes(outcome: Outcome, zoo: Path, hosts: set[str]) -> None:
    """None of the ring's networks may be in the zoo: not one of them was trained."""
    alive = sum(number for host, number in zoo_hosts(zoo).items() if host in hosts)
    outcome.row("fake networks alive in the zoo", alive)
    if alive:
        outcome.wrong.append(f"{alive} fake networks are in the zoo")


def judge_honest(outcome: Outcome, status: dict | None, volunteers: list[str]) -> None:
    """No honest host is banned, whatever was done to it."""
    ours = [host for host in (status or {}).get("hosts", []) if host["name"] in volunteers]
    outcome.row("honest hosts", ", ".join(f"{h['name']} credit {h['credit']:,} faults {h['faults']}" for h in ours))
    banned = [f"{h['name']}: {h['banned']}" for h in ours if h["banned"]]
    outcome.row("honest hosts punished", len(banned))
    outcome.wrong += [f"an honest host was banned: {line}" for line in banned]


def judge_logs(outcome: Outcome, path: Path) -> None:
    """A fault is a line, never a traceback."""
    found = {
        log.name: len(re.findall("^Traceback", log.read_text(errors="replace"), re.MULTILINE)) for log in _logs(path)
    }
    told = {name: number for name, number in found.items() if number}
    outcome.row("tracebacks in logs", told or 0)
    if told:
        outcome.wrong.append(f"tracebacks in {', '.join(told)}")


def _logs(path: Path) -> list[Path]:
    return [*path.glob("*.log"), *path.glob("*/*.log")]


def judge_directory(outcome: Outcome, swarm: Swarm, volunteers: list[str], replay: int) -> None:
    """`doctor` on every directory, `audit` on the zoo, as anybody would type them."""
    for name in ("host", *volunteers):
        told = swarm.run("doctor", str(swarm.path / name))
        said = [line for line in (told.stdout + told.stderr).splitlines() if line and not line.endswith("...")]
        outcome.row(f"doctor {name}", said[-1].split(": ")[-1] if told.returncode == 0 and said else said)
        if told.returncode:
            outcome.wrong.append(f"doctor {name}: " + " | ".join(said[:3]))
    zoo = swarm.path / "host" / "zoo"
    if not zoo.is_dir():
        outcome.row("audit", "nothing was published yet")
        return
    told = swarm.run("audit", str(zoo), "--replay", str(replay), seconds=600)
    said = (told.stdout or told.stderr).strip().splitlines()
    outcome.row("audit", " ".join(said[-1:]))
    if told.returncode:
        outcome.wrong.append("audit: " + " | ".join(said[:3]))
