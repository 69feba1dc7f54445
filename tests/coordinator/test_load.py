"""What a crowd may ask of a coordinator: when each asks again, what it is told, and what is remembered of it."""

import contextlib

import grpc
import msgspec
import pytest
from sqlalchemy import func, select
from support.scripted_host import CAMPAIGN, ScriptedHost, Stage, skip_training

from coordinator.ledger.tables import hosts, results
from protocol.trust.envelope import unseal
from protocol.trust.messages import Heartbeat, Result


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "host")
    stage.seed()
    yield stage
    stage.close()


def test_a_thousand_fresh_keys_grow_neither_the_status_nor_the_ledger(stage):
    worker = stage.host("worker")
    digest = worker.commit(0)
    worker.poll(digest)
    beat = Heartbeat(
        nonce=bytes(16),
        name="stranger",
        device="cpu",
        version="1",
        steps_per_second=1.0,
        networks_trained=0,
        checks_done=0,
        holding=(),
    )
    for i in range(1000):
        stage.core.inboxes.inbox(f"12D3KooW{i:044}", beat)
    stage.core.presence.flush(stage.clock.now, force=True)
    status = stage.core.status()
    assert (status.hosts_known, status.hosts_present, status.hosts_banned) == (1, 1001, 0)
    assert status.hosts[0].host == worker.host and len(status.hosts) == 100
    assert len(msgspec.json.encode(status)) < 60_000
    with stage.core.stores.ledger.read() as connection:
        assert list(connection.execute(select(hosts.c.host)).scalars()) == [worker.host]


def test_a_host_learns_when_to_ask_again_and_of_each_ban_once(stage):
    worker, idle = stage.host("worker"), stage.host("idle")
    worker.commit(0)
    stage.core.inboxes.presence.count_present = lambda now, seconds: 2000
    told = idle.poll()
    assert told.ask_again_seconds == 40.0 and told.banned_hosts == ()
    assert worker.poll().ask_again_seconds == 1.0
    worker.submit(worker.result(0, worker.traces(CAMPAIGN.assignment(0), skip_training)))  # equivocation
    stage.clock.now += 3.0
    first = idle.poll()
    assert first.banned_hosts == (worker.host,) and first.bans_known == 1
    again = {"bans_list": first.bans_list, "bans_known": first.bans_known}
    beat = Heartbeat(
        nonce=bytes(16),
        name="idle",
        device="cpu",
        version="1",
        steps_per_second=1.0,
        networks_trained=0,
        checks_done=0,
        holding=(),
        **again,
    )
    assert stage.core.inboxes.inbox(idle.host, beat).banned_hosts == ()


def test_an_equivocation_keeps_one_proof_a_key(stage):
    worker = stage.host("worker")
    worker.commit(0)
    for loss in (0.1, 0.2, 0.3):
        networks = tuple(msgspec.structs.replace(n, held_out_loss=loss) for n in stored(worker).networks)
        with contextlib.suppress(grpc.RpcError):
            worker.submit(worker.result(0, networks=networks))
    with stage.core.stores.ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(results)).scalar_one() == 2


def stored(worker: ScriptedHost) -> Result:
    return unseal(worker.result(0), Result)
