"""A certificate of credit: asked for over gRPC, kept in a file, verified without anybody."""

import base64
import json

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import insert, update
from support.scripted_host import Stage

from coordinator.ledger.tables import hosts
from coordinator.policy.presence import BEAT_AHEAD_SECONDS, BEAT_SECONDS
from peer.cli import certificate as verb
from peer.session.certificate import about, fetch, read_certificate, sentence, write_certificate
from peer.session.client import Client
from peer.storage.home import Home, JoinCache
from protocol.errors import AwayError, DamageError, FileError, Refused, UsageError, WrongKeyError
from protocol.trust.envelope import seal
from protocol.trust.identity import Identity
from protocol.trust.messages import CertificateRequest, CreditCertificate

CREDIT = {"credit": 1200, "escrow": 300, "admissions": 5, "name": "Ada", "first_seen": 1.7e9, "last_seen": 1.8e9}


@pytest.fixture
def swarm(tmp_path):
    """(a coordinator, a volunteer's directory that knows it)."""
    stage = Stage(tmp_path / "host")
    home = Home(tmp_path / "ada")
    organizer = stage.core.identity.host
    address = f"127.0.0.1:{stage.port}/{organizer}"
    home.remember(JoinCache(address=address, organizer=organizer, bootstrap=[], campaigns=[]))
    home.close()
    yield stage, home
    stage.close()


def earn(stage: Stage, host: str) -> None:
    stage.core.stores.ledger.write(lambda c: c.execute(insert(hosts).values(host=host, **CREDIT)))


def test_it_is_signed_kept_and_verified_offline(swarm, tmp_path):
    stage, home = swarm
    with pytest.raises(UsageError, match="nothing of this host's is admitted yet"):
        fetch(home.path)
    earn(stage, home.identity.host)
    file = tmp_path / "credit.json"
    done = CliRunner().invoke(verb, ["--dir", str(home.path), "--out", str(file)], catch_exceptions=False)
    assert (
        "Ada" in done.output and "1,200 network-segments, 300 of them in escrow with 5 admitted bundles" in done.output
    )
    organizer = stage.core.identity.host
    stage.close()  # nobody is asked from here on
    said = read_certificate(file, organizer)
    assert (said["host"], said["credit"], said["bundles"]) == (home.identity.host, 1200, 5)
    assert CliRunner().invoke(verb, ["verify", str(file)]).output.startswith("valid: Ada")
    with pytest.raises(WrongKeyError, match="not by"):
        read_certificate(file, home.identity.host)
    with pytest.raises(AwayError):
        fetch(home.path)


@pytest.mark.parametrize("change", ["credit", "signed", "cut", "other kind", "not json", "more"])
def test_what_was_changed_is_no_certificate(swarm, tmp_path, change):
    stage, home = swarm
    earn(stage, home.identity.host)
    file, envelope = tmp_path / "credit.json", fetch(home.path)
    write_certificate(file, envelope)
    told = json.loads(file.read_text())
    if change == "credit":
        told["credit"] = 10**9
    elif change == "more":
        told["escrow_free"] = True
    elif change == "signed":
        richer = msgspec.structs.replace(unsealed(envelope), credit=10**9)
        payload = msgspec.msgpack.encode(richer)
        told["signed"] = base64.b64encode(msgspec.structs.replace(envelope, payload=payload).to_bytes()).decode()
    elif change == "other kind":
        request = seal(stage.core.identity, CertificateRequest(nonce=bytes(16), issued_at=1.0))
        told["signed"] = base64.b64encode(request.to_bytes()).decode()
    text = json.dumps(told)
    file.write_text({"cut": text[:-20], "not json": "hello"}.get(change, text))
    with pytest.raises(DamageError, match=r"this is no valid|is not what was signed"):
        read_certificate(file)


def unsealed(envelope) -> CreditCertificate:
    return msgspec.msgpack.decode(envelope.payload, type=CreditCertificate)


def test_every_value_that_a_signer_can_choose_is_told_or_refused(tmp_path):
    mallory = Identity.generate()
    fields = {"nonce": bytes(16), "host": mallory.host, "name": "m", "credit": 0, "escrow": 0, "bundles": 0}
    for day in (float("nan"), float("inf"), 1e300, -1e300):
        envelope = seal(mallory, CreditCertificate(**fields, first_seen=day, issued_at=0.0))
        with pytest.raises(Refused):
            about(envelope)
    assert "0 admitted bundles" in sentence(
        about(seal(mallory, CreditCertificate(**fields, first_seen=0, issued_at=0)))
    )


def test_old_requests_strangers_and_banned_hosts_are_refused(swarm):
    stage, home = swarm
    earn(stage, home.identity.host)
    client = Client(f"127.0.0.1:{stage.port}", home.identity, stage.core.identity.host)
    client.join("test")
    assert unsealed(client.certificate()).credit == 1200
    for seconds in (-BEAT_SECONDS - 1, BEAT_AHEAD_SECONDS + 1):
        client._time.learn(stage.clock.now + seconds)
        with pytest.raises(Refused, match="heartbeat-time"):
            client.certificate()
    client._time.learn(stage.clock.now)
    stage.core.stores.ledger.write(lambda c: c.execute(update(hosts).values(banned="rude")))
    with pytest.raises(Refused, match="banned: rude"):
        client.certificate()
    client.close()


def test_without_a_swarm_to_ask_it_says_so(tmp_path):
    home = Home(tmp_path / "new")
    home.close()
    with pytest.raises(FileError, match="cannot read"):
        fetch(home.path)
    (home.path / "known.json").write_text("{")
    with pytest.raises(DamageError, match="writes it again"):
        fetch(home.path)
