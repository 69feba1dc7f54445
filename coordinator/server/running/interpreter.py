"""What is set once for a host's process: open files, threads, garbage, logs."""

import contextlib
import logging
import sys
from pathlib import Path

from coordinator.server.watch.watching import JsonLines
from protocol.cli.garbage import settle
from protocol.cli.logs import keep_log
from protocol.errors import LineFormatter

SWITCH_SECONDS = 0.02  # how long a thread may compute while others want to


def raise_file_limit() -> None:
    """A connection is an open file: as many as this user may have."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def calm_interpreter() -> None:
    """Threads change places when one waits, seldom in the middle: each change costs as much as a small call does. And
    what is loaded by now is not looked through for garbage again and again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    settle()


def log_to_file(path: Path, as_json: bool = False) -> None:
    """Everything to DIR/host.log, which is bounded; what a person must know also to stderr."""
    logger = logging.getLogger("coordinator")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    kept = keep_log(path, 4 << 20, backups=2)
    if as_json:
        kept.setFormatter(JsonLines())
    logger.addHandler(kept)
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.WARNING)
    shown.setFormatter(LineFormatter("zooswarm: %(message)s"))
    logger.addHandler(shown)
