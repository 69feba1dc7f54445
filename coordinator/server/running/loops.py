"""The host's threads: each does one step again and again, until the host stops."""

import logging
import threading
import time
from collections.abc import Callable

from coordinator.ledger.database import LedgerUnavailable
from coordinator.server.coordinator import Coordinator

TICK_SECONDS = 0.2
RESTS = 6.0  # times what a step took
CURATE_SECONDS = 0.5
AUDIT_SECONDS = 1.0
SWARM_SECONDS = 2.0
TROUBLE_SECONDS = 2.0  # after a full disk or the like, before the next try
WATCH_SECONDS = 15.0  # between two statuses that alerts compare

log = logging.getLogger(__name__)


def start_threads(
    core: Coordinator, node, target: str, stopping: threading.Event, watching: Callable[[], None]
) -> list[threading.Thread]:
    loops = [
        ("referee", core.tick, TICK_SECONDS, core.woken),
        ("curator", core.curate, CURATE_SECONDS, None),
        ("auditor", core.audit, AUDIT_SECONDS, core.audits.woken),
        ("watch", watching, WATCH_SECONDS, None),
    ]
    if node is not None:
        from coordinator.server.swarm_publisher import SwarmPublisher

        loops.append(("swarm-publisher", SwarmPublisher(core, node, target).publish, SWARM_SECONDS, core.ordered))
    threads = [
        threading.Thread(target=repeat, args=(step, seconds, woken, stopping), name=name, daemon=True)
        for name, step, seconds, woken in loops
    ]
    for thread in threads:
        thread.start()
    return threads


def repeat(
    step: Callable[[], object], seconds: float, woken: threading.Event | None, stopping: threading.Event
) -> None:
    """Do `step` every so often, or when woken, whatever it raises: one trouble must not stop the rest for ever.

    However often it is woken, it rests for a while that grows with what it took: others need the processor.
    """
    last_error = ""
    while not stopping.is_set():
        began = time.monotonic()
        try:
            step()
            last_error, pause = "", seconds
        except (LedgerUnavailable, OSError, TimeoutError) as error:
            if str(error) != last_error:
                log.error("%s; trying again every %g s", error, TROUBLE_SECONDS)
            last_error, pause = str(error), TROUBLE_SECONDS
        except Exception:
            log.exception("%s failed; this is a bug, please report it", getattr(step, "__qualname__", step))
            pause = TROUBLE_SECONDS
        if woken is not None and pause == seconds:
            rest = min(pause, RESTS * (time.monotonic() - began))
            stopping.wait(rest)
            woken.wait(pause - rest)
        else:
            stopping.wait(pause)
