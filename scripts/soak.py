"""Hurts a swarm of real processes on loopback, and says what came of it. Started by scripts/soak.

What is done is drawn from a seed; how fast the machine is decides what it hits.
"""

import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from soaking.faults import Faults  # noqa: E402
from soaking.link import Link  # noqa: E402
from soaking.nuisances import Nuisance, Replayer, Silent, Squatter, captured_commands  # noqa: E402
from soaking.report import Outcome, counted, judge_directory, judge_fakes, judge_honest, judge_logs  # noqa: E402
from soaking.ring import Ring  # noqa: E402
from soaking.swarm import POLICIES, Swarm  # noqa: E402

NAMES = ["alice", "bob", "carol", "dave"]
WAVE = 240  # networks of a campaign; there is always one that is not complete
LOOK_SECONDS = 8.0  # asking for the status starts a process
FINISH_SECONDS = 400.0
ATTACKS = ("sybil", "squat", "idle", "replay")


def parse_attack(text: str) -> tuple[str, int]:
    """`"sybil:60"` -> ("sybil", 60); how many is 10 when it is not said."""
    kind, _, number = text.partition(":")
    if kind not in ATTACKS or (number and not number.isdecimal()):
        raise click.BadParameter(f"{text!r}: expected one of {', '.join(ATTACKS)}, and how many, e.g. sybil:10")
    return kind, int(number or 10)


KILLS_A_MINUTE = 6  # at least: what is killed has to start again and get to work


@click.command()
@click.option("--kills", default=0, show_default=True, help="End after so many kill -9 that hit.")
@click.option("--minutes", type=float, help="End at the latest after so long; default: 10, more for many kills.")
@click.option(
    "--attack", "attacks", multiple=True, help="sybil:10, squat:8, idle:200 or replay:10; more than one is fine."
)
@click.option("--policy", type=click.Choice(sorted(POLICIES)), default="demo", show_default=True)
@click.option("--volunteers", type=click.IntRange(1, len(NAMES)), default=2, show_default=True)
@click.option("--seed", type=int, help="What is done, and when; default: a new one, which is printed.")
@click.option("--only-kills", is_flag=True, help="No standstills, disks, links, clocks or flipped bits.")
@click.option("--replay", default=50, show_default=True, help="Networks that the audit trains again.")
@click.option("--wave", default=WAVE, show_default=True, help="Networks of each campaign.")
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Work here, and leave it as it is.")
def main(
    kills: int,
    minutes: float | None,
    attacks: tuple[str, ...],
    policy: str,
    volunteers: int,
    seed: int | None,
    only_kills: bool,
    replay: int,
    wave: int,
    directory: Path | None,
) -> None:
    """Kill, stop, fill, cut and flip what runs; attack it; then ask `doctor` and `audit`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what we started and mounted must go
    wanted = [parse_attack(text) for text in attacks]
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    click.echo(f"seed {seed} (--seed {seed} does the same again)")
    place = directory or Path(tempfile.mkdtemp(prefix="zooswarm-soak-"))
    link = None if only_kills or not kills else Link.make()
    swarm = Swarm(place, policy, link)
    play = Play(swarm, NAMES[:volunteers], random.Random(seed), only_kills, wave)
    try:
        outcome = play.run(kills, 60 * (minutes or max(10.0, kills / KILLS_A_MINUTE)), wanted, replay)
    finally:
        play.close()
        if link is not None:
            link.remove()
    click.echo("\n".join(outcome.lines()))
    for line in outcome.wrong:
        click.echo(f"WRONG: {line}")
    if outcome.wrong or directory is not None:
        click.echo(f"everything is in {place}")
    else:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(1 if outcome.wrong else 0)


class Play:
    """One soak, from the first process to the table."""

    def __init__(self, swarm: Swarm, volunteers: list[str], rng: random.Random, only_kills: bool, wave: int):
        self.swarm, self.volunteers, self.rng, self.wave = swarm, volunteers, rng, wave
        self.faults = Faults(swarm, volunteers, rng, only_kills)
        self.ring: Ring | None = None
        self.nuisances: list[Nuisance] = []
        self.restarts, self.began = 0, 0.0

    def run(self, kills: int, seconds: float, attacks: list[tuple[str, int]], replay: int) -> Outcome:
        began = self.began = time.monotonic()
        if kills:
            self.faults.mount_disks()
        if self.swarm.link is not None:
            self.swarm.prefix[self.volunteers[-1]] = self.swarm.link.prefix
        self.swarm.start_host()
        self.swarm.wait_for_host()
        self.swarm.seed(self.wave if kills else 10 * self.wave)
        for name in self.volunteers:
            self.swarm.start_volunteer(name)
        for kind, number in attacks:
            self.attack(kind, number)
        self.hurt(kills, began + seconds)
        self.stop_attacks()
        self.restarts += self.faults.revive()
        self.swarm.wait_for_host()
        if kills:
            self.swarm.wait(self.swarm.is_complete, FINISH_SECONDS, "the last campaign")
        else:
            time.sleep(10)  # what was handed in may still be judged
        return self.report(time.monotonic() - began, replay)

    def attack(self, kind: str, number: int) -> None:
        self.faults.leave_out("move host", "attackers know one address")
        address, seed = self.swarm.address, self.rng.randrange(10**6)
        if kind == "sybil":
            self.ring = Ring(address, number, seed).start()
        elif kind == "squat":
            self.nuisances.append(Squatter(address, number, seed).start())
        elif kind == "idle":
            self.nuisances.append(Silent(address, number, seed).start())
        else:
            commands = captured_commands(self.swarm.path / "host", "soak-0")
            self.nuisances.append(Replayer(address, number, seed, commands).start())

    def hurt(self, kills: int, until: float) -> None:
        looked = time.monotonic()
        while time.monotonic() < until and (not kills or self.faults.kills < kills):
            time.sleep(self.rng.uniform(0.2, 5.0))  # the moment *is* random: that is the test
            said = self.faults.strike() if kills else ""
            if said:
                click.echo(
                    f"{time.monotonic() - self.began:6.0f} s  {said}; {self.faults.kills} of {kills} kills", err=True
                )
                time.sleep(self.rng.uniform(0.0, 0.5))
            self.restarts += self.faults.revive()
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                if not self.swarm.has_work():
                    self.swarm.seed(self.wave)

    def stop_attacks(self) -> None:
        for attacker in [*self.nuisances, *([self.ring] if self.ring else [])]:
            attacker.stop()

    def report(self, seconds: float, replay: int) -> Outcome:
        outcome = Outcome()
        status = self.swarm.status()
        campaigns = status["campaigns"] if status else []
        outcome.row("seconds", f"{seconds:.0f}")
        outcome.row(
            "campaigns, networks admitted", f"{len(campaigns)}, {sum(c['networks_admitted'] for c in campaigns):,}"
        )
        outcome.row("faults", counted(self.faults.hits))
        outcome.row("started again", self.restarts)
        for kind, why in self.faults.skipped.items():
            outcome.row(f"left out: {kind}", why)
        outcome.wrong += self.faults.problems
        for name in self.volunteers:
            self.swarm.stop(name)
        if self.swarm.stop("host") != 0:
            outcome.wrong.append("the host did not stop cleanly")
        self.faults.unmount_disks()
        if self.ring is not None:
            outcome.row("ring", counted(self.ring.counts))
            judge_fakes(outcome, self.swarm.path / "host" / "zoo", self.ring.hosts)
        for nuisance in self.nuisances:
            outcome.row(type(nuisance).__name__.lower(), counted(nuisance.counts))
            if isinstance(nuisance, Silent) and nuisance.join_seconds:
                outcome.row("a newcomer's first call, seconds at most", f"{max(nuisance.join_seconds):.2f}")
        judge_honest(outcome, status, self.volunteers)
        judge_logs(outcome, self.swarm.path)
        judge_directory(outcome, self.swarm, self.volunteers, replay)
        return outcome

    def close(self) -> None:
        self.stop_attacks()
        self.swarm.close()
        self.faults.unmount_disks()


if __name__ == "__main__":
    main()
