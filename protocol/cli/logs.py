"""The log of a verb: what helps when something went wrong that is our mistake.

A verb with a directory of its own keeps its log there (`keep_log`); the others share `log/zooswarm.log` in the cache
directory. It is begun with the first line that there is to write, so a command that was only typed wrongly leaves none.
"""

import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from protocol.errors import LineFormatter, LogFile, UsageError, in_one_piece, shown
from protocol.files import cache_directory

BYTES_MAX, KEPT = 1 << 20, 1
QUICK_SECONDS = 10.0  # a verb that ends earlier with a person's mistake has nothing to tell later
OURS = ("protocol", "peer", "coordinator", "analysis", "zooswarm")  # loggers
WORDS_MAX = 300
log = logging.getLogger("zooswarm.verb")


class VerbLog(LogFile):
    """Says first what was started, without what is nobody's business."""

    def __init__(self, path: Path, begun: Callable[[], str], bytes_max: int = BYTES_MAX, backups: int = KEPT):
        super().__init__(path, bytes_max, backups)
        self.path = path
        self._begun: Callable[[], str] | None = begun

    def emit(self, record: logging.LogRecord) -> None:
        begun, self._begun = self._begun, None
        if begun:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError:
                self._begun = begun  # another time; `LogFile` tells that lines are missing
            else:
                super().emit(logging.makeLogRecord({"name": log.name, "levelname": "INFO", "msg": begun()}))
        super().emit(record)


class Terminal(logging.StreamHandler):
    """Warnings, one harmless line each."""

    def __init__(self) -> None:
        super().__init__()
        self.setLevel(logging.WARNING)
        self.setFormatter(LineFormatter("%(message)s"))


_begun_at = time.monotonic()


def begin(verb: str) -> None:
    """Lines of level INFO of ours, and warnings of anybody, go to the log from now on; warnings to the terminal too."""
    global _begun_at
    _begun_at = time.monotonic()
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    _replace(Terminal, Terminal())
    _replace(VerbLog, VerbLog(cache_directory() / "log" / "zooswarm.log", partial(started, verb)))


def keep_log(path: Path, bytes_max: int = BYTES_MAX, backups: int = KEPT) -> VerbLog:
    """From now on to this file, in a directory of the verb's own; returns what writes it."""
    kept = VerbLog(path, partial(started, ""), bytes_max, backups)
    _replace(VerbLog, kept)
    return kept


def _replace(kind: type[logging.Handler], handler: logging.Handler) -> None:
    """The root logger has one handler of each kind."""
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, kind)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)


def log_path() -> Path | None:
    """Where this process's lines go; None before `begin`."""
    found = [handler.path for handler in logging.getLogger().handlers if isinstance(handler, VerbLog)]
    return found[-1] if found else None


def ended(error: UsageError) -> None:
    """After a while, why it ended is worth a line: the terminal may be gone."""
    if time.monotonic() - _begun_at > QUICK_SECONDS:
        log.info("ended with %s: %s", error.code, error)


def tell_mistake(error: BaseException) -> int:
    """Two lines for the person, the story for the log (or for the terminal, where there is no log); returns 1."""
    path, story = log_path(), (type(error), error, error.__traceback__)
    for handler in [handler for handler in logging.getLogger().handlers if isinstance(handler, VerbLog)]:
        handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, "our mistake", (), story))
    kept = path is not None and path.is_file()
    if not kept or os.environ.get("ZOOSWARM_DEBUG"):
        print(in_one_piece(error), file=sys.stderr)
    words = shown(f"{type(error).__name__}: {error}", WORDS_MAX)
    print(f"zooswarm: this is our mistake, not yours: {words}", file=sys.stderr)
    where = shown(f"the story is in {path}; ") if kept else ""
    print(f"zooswarm: {where}`zooswarm report-bug --out bug.zip` packs what helps us to find it", file=sys.stderr)
    return 1


def started(verb: str) -> str:
    """What was typed, without what is nobody's business; asked for only where a log is begun."""
    from importlib.metadata import version

    from protocol.cli.redact import Redactor

    words = Redactor()(" ".join(sys.argv[1:]) or verb)
    return (
        f"zooswarm {words} (version {version('zooswarm')}, Python {platform.python_version()}, process {os.getpid()})"
    )
