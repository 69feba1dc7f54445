"""Alerts are a function of two statuses; a webhook never holds anybody up; Prometheus gets the status's numbers."""

import json
import logging
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest
from support.scripted_host import Stage
from support.swarms.stage import free_port

from coordinator.server.status import HostStatus
from coordinator.server.watch.alerts import DISK_BYTES_MIN, STALLED_SECONDS, AlertKind, alerts
from coordinator.server.watch.metrics import families, serve_metrics
from coordinator.server.watch.watching import JsonLines, Watch
from coordinator.server.watch.webhook import WAITING_MAX, Webhook, check_url
from protocol.errors import UsageError

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def status(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("host"))
    stage.seed()
    alice = stage.host("alice")
    alice.commit(0)
    found = stage.core.status()
    stage.close()
    assert found.free_bytes > 0 and found.campaigns[0].progress_at == found.campaigns[0].seeded_at
    return replace(found, free_bytes=2 * DISK_BYTES_MIN)


def kinds(before, now) -> list[AlertKind]:
    return [alert.kind for alert in alerts(before, now)]


def later(status, seconds: float, **campaign):
    return replace(status, time=status.time + seconds, campaigns=[replace(status.campaigns[0], **campaign)])


def test_each_alert_comes_once_when_it_begins(status):
    full = replace(status, free_bytes=DISK_BYTES_MIN - 1)
    assert kinds(status, status) == [] == kinds(None, full), "what is so at the start is not told"
    assert kinds(status, full) == [AlertKind.DISK_LOW] and kinds(full, full) == []
    quiet, quieter = later(status, STALLED_SECONDS), later(status, 2 * STALLED_SECONDS)
    assert kinds(status, quiet) == [AlertKind.STALLED] and kinds(quiet, quieter) == []
    moved = later(status, 2 * STALLED_SECONDS, progress_at=status.time + STALLED_SECONDS + 1)
    assert kinds(quiet, moved) == []
    assert kinds(moved, later(status, 4 * STALLED_SECONDS)) == [AlertKind.STALLED]
    for state in ("paused", "cancelled"):
        assert kinds(status, later(status, STALLED_SECONDS, state=state)) == [], "nobody is to work on it"
    done = later(status, 1.0, state="complete", admitted=4, networks_published=8)
    assert kinds(status, done) == [AlertKind.COMPLETE] and kinds(done, done) == []
    assert "8 networks" in alerts(status, done)[0].text


def test_a_host_that_was_convicted_is_named_and_one_that_was_banned_by_hand_is_not(status):
    host: HostStatus = status.hosts[0]
    liar = replace(status, hosts=[replace(host, convicted=True, banned="2 bad places")])
    (alert,) = alerts(status, liar)
    assert alert.kind is AlertKind.CONVICTED and alert.host == host.host and "2 bad places" in alert.text
    assert kinds(liar, liar) == [] == kinds(status, replace(status, hosts=[replace(host, banned="rude")]))


class Receiver:
    """A web server that answers with the codes it is told, then with 200."""

    def __init__(self, *codes: int):
        self.codes, self.bodies, self.told = list(codes), [], threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                code = receiver.codes.pop(0) if receiver.codes else 200
                self.send_response(code)
                self.end_headers()
                if code == 200:
                    receiver.told.set()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_webhook_is_tried_again_and_its_url_is_in_no_log(status, caplog):
    (alert,) = alerts(status, later(status, 1.0, state="complete"))
    receiver = Receiver(500, 503)
    hook = Webhook(receiver.url, pauses=(0.0, 0.0))
    with caplog.at_level(logging.INFO):
        hook.send(alert)
        assert receiver.told.wait(20)
    hook.close()
    receiver.close()
    assert receiver.bodies == [msgspec.to_builtins(alert)] * 3
    assert set(receiver.bodies[0]) == {"kind", "text", "at", "organizer", "campaign", "host"}
    assert "answers 500" in caplog.text and "secret" not in caplog.text


def test_a_webhook_that_does_not_answer_holds_nobody_up(status, caplog):
    (alert,) = alerts(status, later(status, 1.0, state="complete"))
    hook = Webhook(f"http://127.0.0.1:{free_port()}/secret", pauses=(60.0,))
    began = time.monotonic()
    for _ in range(WAITING_MAX + 10):
        hook.send(alert)
    assert time.monotonic() - began < 5.0 and "does not keep up" in caplog.text and "secret" not in caplog.text
    hook.close()


@pytest.mark.parametrize("url", ["", "chat.example", "ftp://a/b", "http://", "file:///etc/passwd", "http://[1"])
def test_what_is_no_url_is_refused_before_anything_starts(url):
    with pytest.raises(UsageError, match="--webhook"):
        check_url(url)
    with pytest.raises(UsageError):
        Watch(webhook=url).check()
    with pytest.raises(UsageError, match="--metrics"):
        Watch(metrics="7750").check()


def test_prometheus_gets_the_numbers_of_the_status(status):
    pytest.importorskip("prometheus_client")
    port = free_port()
    stop = serve_metrics("127.0.0.1", port, lambda: status)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
            text = reply.read().decode()
        with pytest.raises(UsageError, match="--metrics"):
            serve_metrics("127.0.0.1", port, lambda: status)
    finally:
        stop()
    assert 'zooswarm_networks{campaign="test"' in text and 'state="all"} 8.0' in text
    assert "zooswarm_hosts{" in text and f"zooswarm_beacon_epoch {float(status.beacon_epoch)}" in text
    with_values = {name for name, _, _, values in families(status) if values}
    assert len(with_values) >= 7 and with_values <= {line.split("{")[0].split(" ")[0] for line in text.splitlines()}


def test_a_line_of_the_log_as_json():
    record = logging.makeLogRecord(
        {"name": "coordinator.x", "levelname": "ERROR", "msg": "a\n\x1b[31m%s", "args": ("b",)}
    )
    told = json.loads(JsonLines().format(record))
    assert told["level"] == "ERROR" and told["message"] == "a\\n\\x1b[31mb" and "\n" not in JsonLines().format(record)
