"""Numbers for Prometheus, made of the status when it asks: `zooswarm host --metrics 127.0.0.1:9750`."""

from collections.abc import Callable, Iterator
from typing import Any

from coordinator.server.status import Status
from protocol.errors import BusyError, LibraryError

STAGES = ("all", "admitted", "published")
AUDITS = ("due", "suspect", "judging", "passed", "judged")
COUNTS = ("pending", "committed", "checking", "kept", "admitted", "rejected", "retracted")


def families(status: Status) -> Iterator[tuple[str, str, tuple[str, ...], list[tuple[tuple[str, ...], float]]]]:
    """(name, help, names of labels, [(labels, value)]) of each."""
    yield "zooswarm_beacon_epoch", "Links of the beacon that were shown.", (), [((), status.beacon_epoch)]
    yield "zooswarm_disk_free_bytes", "Free on the host's disk.", (), [((), status.free_bytes)]
    hosts = {"known": status.hosts_known, "present": status.hosts_present, "banned": status.hosts_banned}
    yield "zooswarm_hosts", "Volunteers' hosts.", ("state",), [((name,), count) for name, count in hosts.items()]
    each = [((c.name, c.digest[:16]), c) for c in status.campaigns]
    states = [((*labels, state), float(getattr(c, state))) for labels, c in each for state in COUNTS]
    label = ("campaign", "digest")
    yield "zooswarm_assignments", "Assignments; of rejected and retracted, results.", (*label, "state"), states
    networks = [
        ((*labels, state), float(count))
        for labels, c in each
        for state, count in (
            ("all", c.networks),
            ("admitted", c.networks_admitted),
            ("published", c.networks_published),
        )
    ]
    yield "zooswarm_networks", "Networks of campaigns.", (*label, "state"), networks
    progress = [(labels, c.progress_at) for labels, c in each]
    yield "zooswarm_campaign_progress_seconds", "When something was last admitted, since 1970.", label, progress
    audits = [
        ((name,), float(getattr(status.audits, name))) for name in ("due", "suspect", "judging", "passed", "judged")
    ]
    yield "zooswarm_audits", "The organizer's own audits.", ("state",), audits
    refused: dict[str, float] = {}
    for one in status.refusals:
        refused[one.reason] = refused.get(one.reason, 0.0) + one.count
    counted = [((reason,), number) for reason, number in refused.items()]
    yield "zooswarm_refusals", "Refused messages, of the newest reasons.", ("reason",), counted


class Metrics:
    """A collector of prometheus_client."""

    def __init__(self, status: Callable[[], Status]):
        self._status = status

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        for name, text, labels, values in families(self._status()):
            family = GaugeMetricFamily(name, text, labels=labels)
            for label_values, value in values:
                family.add_metric(label_values, value)
            yield family


def serve_metrics(host: str, port: int, status: Callable[[], Status]) -> Callable[[], None]:
    """Answer Prometheus there; returns what ends it. Raises UsageError: the library or the address is not to be had."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
    except ImportError:
        raise LibraryError("--metrics needs prometheus-client: pip install 'zooswarm[organizer]'") from None
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(Metrics(status))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BusyError(f"--metrics {host}:{port}: {error.strerror or error}; choose another address") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
