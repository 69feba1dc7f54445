"""What can go wrong, in three kinds: the user's input, another host's bytes, and ourselves; and how it is told.

A `UsageError` is shown as one line and exits with 2. A `Refused` is a message or a blob of another host that we do
not accept: it is counted and named, never raised past the edge where the bytes came in.

Whatever comes from outside goes through `shown` on its way to a terminal, a log, a plot or a page: names, reasons and
addresses may hold sequences that a terminal obeys, letters that turn the line around, or another line.
"""

import logging
import logging.handlers
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType

LINE_MAX = 1000  # characters: more is no line that a person reads
REASON_MAX = 64
LOG_LINES = "%(asctime)s %(levelname)s %(name)s %(message)s"


def shown(text: object, most: int = LINE_MAX) -> str:
    r"""Text from outside as one harmless line of at most `most` characters (and a word that more was cut off).

    What is not printable is spelled out (`\x1b`, `\u202e`): control characters, line ends, direction marks, lone
    halves of a surrogate pair, and whatever else has no place of its own on the screen.
    """
    whole = text if isinstance(text, str) else str(text)
    cut = whole[:most]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    if len(cut) <= most and len(whole) <= most:
        return cut
    return f"{cut[:most]} ... ({len(whole):,} characters)"


class UsageError(Exception):
    """A person gave us something we cannot use; the message names the thing and the mend, in one line."""

    def __init__(self, message: str):
        super().__init__(shown(message))


class Refused(Exception):
    """Bytes from another host break the protocol. `reason` is a short stable word for counting; str() is for people."""

    def __init__(self, reason: str, detail: str = ""):
        self.reason = shown(reason, REASON_MAX)
        super().__init__(f"{self.reason}: {shown(detail)}" if detail else self.reason)


class LineFormatter(logging.Formatter):
    """A record is one line; the lines of a traceback are set in, so that nobody's text looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record))

    def formatException(self, ei: tuple) -> str:
        return _set_in(super().formatException(ei))


class LogFile(logging.handlers.RotatingFileHandler):
    """A log of bounded size. On a full disk it loses lines and says so once, in one line, until it can write again."""

    def __init__(self, path: Path, bytes_max: int, backups: int):
        super().__init__(path, maxBytes=bytes_max, backupCount=backups, delay=True, encoding="utf-8", errors="replace")
        self.setFormatter(LineFormatter(LOG_LINES))
        self._trouble = False

    def emit(self, record: logging.LogRecord) -> None:
        self._failed = False
        super().emit(record)
        self._trouble = self._failed

    def handleError(self, record: logging.LogRecord) -> None:
        self._failed, error = True, sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        if not self._trouble:
            reason = error.strerror or error
            print(f"zooswarm: {shown(f'{self.baseFilename}: {reason}')}; lines are missing there", file=sys.stderr)


def harmless_tracebacks() -> None:
    """Our own mistakes end in a traceback, and that may hold somebody's text: spell it out in every thread."""

    def told(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, SystemExit):
            return
        print(_set_in("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, flush=True)

    sys.excepthook = told
    threading.excepthook = lambda args: told(args.exc_type, args.exc_value, args.exc_traceback)


def _set_in(text: str) -> str:
    return "\n".join("  | " + shown(line) for line in text.rstrip("\n").split("\n"))
