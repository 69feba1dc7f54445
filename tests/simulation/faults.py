"""What goes wrong and when: drawn beforehand from the seed, then it happens. After `fault_seconds` nothing does."""

import random
from typing import TYPE_CHECKING

from peer.state import events
from simulation.environment.kernel import branch
from simulation.options import DAY, HOUR

if TYPE_CHECKING:
    from simulation.actors.host import Host
    from simulation.world import World

DEATHS_SHARE_MAX = 0.3  # of the hosts: somebody has to be left to finish the campaign


def times(rng: random.Random, per_hour: float, until: float) -> list[float]:
    """Moments of a Poisson process."""
    found, at = [], 0.0
    while per_hour:
        at += rng.expovariate(per_hour / HOUR)
        if at >= until:
            break
        found.append(at)
    return found


class Faults:
    def __init__(self, world: "World"):
        self.world, self.options, self.kernel = world, world.options, world.kernel
        self._deaths_left = int(DEATHS_SHARE_MAX * len(world.hosts))
        self.longest = 1800.0 if self.options.limit_seconds > DAY else 300.0  # seconds of one fault
        self._split_until = self._out_until = 0.0

    def arrange(self) -> None:
        """Put everything that will go wrong into the queue."""
        options = self.options
        for host in self.world.hosts:
            rng = branch(options.seed, "faults", host.name)
            self.kernel.at(rng.uniform(0, options.join_seconds), host.start)
            for at in times(rng, options.crashes_per_hour, options.fault_seconds):
                fault = rng.choices((self.crash, self.stop, self.kill_trainer), (5, 2, 2))[0]
                self.kernel.at(at, fault, host, rng.uniform(1, self.longest), rng.random())
            if rng.random() < options.full_disks:
                self.kernel.at(
                    rng.uniform(0, options.fault_seconds), self.fill_disk, host, rng.uniform(10, self.longest)
                )
        for crowd in self.world.crowds:
            self.kernel.at(branch(options.seed, "faults", crowd.kind).uniform(0, options.join_seconds), crowd.start)
        rng = branch(options.seed, "faults", "network")
        for at in times(rng, options.partitions_per_hour, options.fault_seconds):
            self.kernel.at(at, self.split, rng.uniform(10, self.longest), rng.randrange(2**32))
        for at in times(rng, options.outages_per_hour, options.fault_seconds):
            self.kernel.at(at, self.outage, rng.uniform(5, self.longest))
        self.kernel.at(options.fault_seconds, self.end)

    # -- hosts ----------------------------------------------------------------------------------------------------

    def crash(self, host: "Host", seconds: float, luck: float) -> None:
        if not host.up:
            return
        self.world.counts["crashes"] += 1
        host.crash(self.options.torn_writes)
        if luck < self.options.deaths and self._deaths_left and self.world.may_die(host):
            self._deaths_left -= 1
            host.dead = True
            self.world.counts["hosts gone for good"] += 1
        else:
            self.kernel.after(seconds, host.start)

    def stop(self, host: "Host", seconds: float, luck: float) -> None:
        """A person stops the program, and starts it again later."""
        if host.up:
            self.world.counts["stopped and started again"] += 1
            host.stop_for(seconds)

    def kill_trainer(self, host: "Host", seconds: float, luck: float) -> None:
        if host.up and host.trainer is not None and host.trainer.running:
            self.world.counts["training processes killed"] += 1
            host.trainer.stop()
            host.feed_heard(events.TrainerDied(-9))

    def fill_disk(self, host: "Host", seconds: float) -> None:
        self.world.counts["full disks"] += 1
        host.disk.full = True
        host.note("disk full")
        self.kernel.after(seconds, self.empty_disk, host)

    def empty_disk(self, host: "Host") -> None:
        host.disk.full = False

    # -- the network and the organizer ----------------------------------------------------------------------------

    def split(self, seconds: float, luck: int) -> None:
        """Some hosts on the other side, now and then with the organizer; one split at a time."""
        if self.kernel.now < self._split_until:
            return
        rng = random.Random(luck)
        names = [host.host for host in self.world.hosts]
        other = [name for name in names if rng.random() < rng.choice((0.1, 0.5))]
        if not other:
            return
        self._split_until = self.kernel.now + seconds
        self.world.counts["partitions"] += 1
        self.kernel.note("network", f"{len(other)} of {len(names)} hosts are cut off")
        self.world.network.split(([], other))
        self.world.dht.split(2)
        self.kernel.after(seconds, self.heal)

    def heal(self) -> None:
        self.world.network.heal()
        self.world.dht.heal()
        self.kernel.note("network", "healed")

    def outage(self, seconds: float) -> None:
        if self.kernel.now < self._out_until:
            return
        self._out_until = self.kernel.now + seconds
        self.world.counts["outages of the organizer"] += 1
        self.world.organizer.crash()
        self.kernel.after(seconds, self.recover)

    def recover(self) -> None:
        if not self.world.organizer.up:
            self.world.organizer.restart()

    def end(self) -> None:
        """Faults stop: everything that can work works from now on."""
        self.kernel.note("world", "faults stop")
        self.heal()
        self.world.network.calm()
        self.world.dht.failure = 0.0
        self.recover()
        for host in self.world.hosts:
            host.disk.full = False
            host.start()
