"""A node's start, without a network: what is tried again and what is not."""

import asyncio

import pytest

from protocol.errors import UsageError
from protocol.swarm import dht as dht_module
from protocol.swarm.addresses import NodeOptions
from protocol.swarm.clock import THIS_COMPUTERS
from protocol.swarm.dht import START_TRIES, Dht
from protocol.swarm.p2p import DaemonEnded
from protocol.swarm.records import KeySpace
from protocol.trust.identity import Identity


@pytest.mark.parametrize(
    ("deaths", "error", "tries"),
    [
        (0, None, 1),
        (START_TRIES - 1, None, START_TRIES),
        (START_TRIES, DaemonEnded, START_TRIES),
    ],
)
def test_a_daemon_that_is_killed_while_it_starts_is_started_again(tmp_path, monkeypatch, deaths, error, tries):
    monkeypatch.setattr(dht_module, "START_PAUSE_SECONDS", 0.0)
    said, calls = [], []

    async def up():
        calls.append(1)
        if len(calls) <= deaths:
            raise DaemonEnded("it ended")

    dht = Dht(Identity.generate(), tmp_path, KeySpace("x" * 52), NodeOptions(), said.append, THIS_COMPUTERS)
    monkeypatch.setattr(dht.link, "up", up)
    if error is None:
        asyncio.run(dht._first_up())
    else:
        with pytest.raises(error):
            asyncio.run(dht._first_up())
    assert len(calls) == tries and len(said) == min(deaths, START_TRIES - 1)


def test_what_a_person_has_to_mend_is_said_at_once(tmp_path, monkeypatch):
    async def up():
        raise UsageError("no such address")

    dht = Dht(Identity.generate(), tmp_path, KeySpace("x" * 52), NodeOptions(), print, THIS_COMPUTERS)
    monkeypatch.setattr(dht.link, "up", up)
    with pytest.raises(UsageError, match="no such address"):
        asyncio.run(dht._first_up())
