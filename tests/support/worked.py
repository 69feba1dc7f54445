"""An organizer's directory in which something has happened, for tests of what an organizer finds there."""

from pathlib import Path

from support.scripted_host import Stage


def work(path: Path) -> float:
    """One result admitted and published, one that waits for its checks, one that was only handed in; the time then.

    Nobody uses the directory afterwards.
    """
    stage = Stage(path)
    stage.seed()
    alice, bob = stage.host("alice"), stage.host("bob")
    alice.poll()
    first = alice.commit(0)
    stage.clock.now += 6
    bob.poll()
    stage.settle(lambda: alice.open(first, 0))
    stage.settle(lambda: (bob.check() and None) or alice.outcome(first))
    stage.core.curate(force=True)
    second = alice.commit(2)
    stage.clock.now += 6
    stage.settle(lambda: alice.open(second, 2))
    bob.commit(1)
    stage.close()
    return stage.clock.now


def admit_one_more(path: Path) -> None:
    """Another one is admitted, and not published yet."""
    stage = Stage(path)
    stage.clock.now += 1000
    carol, bob = stage.host("carol"), stage.host("bob")
    digest = carol.commit(3)
    stage.clock.now += 6
    bob.poll()
    stage.settle(lambda: carol.open(digest, 3))
    stage.settle(lambda: (bob.check() and None) or carol.outcome(digest))
    stage.close()
