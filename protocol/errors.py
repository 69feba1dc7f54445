"""What can go wrong, in three kinds: the user's input, another host's bytes, and ourselves; and how it is told.

A `UsageError` is shown as one line and exits with 2. Its subclasses, one for each thing that a person can do about it,
have a code: `zooswarm explain CODE` and docs/errors.md show their docstrings. A `Refused` is a message or a blob of
another host that we do not accept: it is counted and named, never raised past the edge where the bytes came in.

Whatever comes from outside goes through `shown` on its way to a terminal, a log, a plot or a page: names, reasons and
addresses may hold sequences that a terminal obeys, letters that turn the line around, or another line.
"""

import logging
import logging.handlers
import sys
import threading
import traceback
from errno import (
    EACCES,
    EDQUOT,
    EFBIG,
    EIO,
    EISDIR,
    ELOOP,
    EMFILE,
    ENAMETOOLONG,
    ENOSPC,
    ENOTDIR,
    EPERM,
    EROFS,
)
from pathlib import Path
from types import TracebackType
from typing import ClassVar

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
    """What was typed cannot be used as it is: an option, a selection, a name.

    The line says which word, and what is expected there. `zooswarm VERB --help` lists all options with their defaults.

    - A verb or an option is misspelt: the line names the nearest one that exists.
    - `--where` is not SQL, or names a column that the catalogue does not have: the line lists the columns.
    - A network, recipe, probe or setting of that name is not there: the line lists what is.
    - The networks asked for have not one shape: narrow `--where`, for example to one `recipe_name`.
    """

    code: ClassVar[str] = "ZS-USAGE"

    def __init__(self, message: str):
        super().__init__(shown(message))


class AddressError(UsageError):
    """This is no address of a swarm: nothing was sent, and nothing was made.

    An address is `host:port/ORGANIZER`, for example `203.0.113.7:7750/12D3KooW...`, in one piece, as `zooswarm host`
    prints it. What stands after the `/` is the organizer's key; it is what makes sure that nobody else answers.

    - A piece is missing or was cut off on its way to you: copy the whole line again.
    - The name before the port does not exist: look for a letter that changed.
    - An organizer's `--listen` or `--announce` is no address of that machine: `0.0.0.0:7750` listens everywhere.
    """

    code = "ZS-ADDRESS"


class AwayError(UsageError):
    """Nobody answers there now, or what answers is no host of a swarm.

    - The host is not running, or it moved: ask its organizer, or try later. `zooswarm join` tries again by itself.
    - The port is another one: compare with the address that you were given.
    - A firewall, a proxy or a VPN is between you: try from another network. Organizers: is the port open to the world?
    - You are the organizer, and the host stopped: start it with `zooswarm host DIR`; nothing is lost.
    """

    code = "ZS-AWAY"


class WrongKeyError(UsageError):
    """Who answers there, or what lies there, has not the key that was named: it was not believed.

    - The organizer began a new swarm with a new key: ask for the new address.
    - The address was mixed from two, or somebody else answers at that place: ask the organizer which key is right.
    - A directory belongs to another organizer, or its key was exchanged: choose another directory, or put the key back.
    """

    code = "ZS-KEY"


class VersionError(UsageError):
    """The two sides, or a file and this program, are of versions that do not understand each other.

    - Yours is the older one: `pip install --upgrade zooswarm` (or `uv tool upgrade zooswarm`, `pipx upgrade zooswarm`).
    - The other side is the older one: ask its organizer to update, or install the version that the line names.
    - Versions with the same first two numbers (0.2.1 and 0.2.7) always work together.
    """

    code = "ZS-VERSION"


class InviteError(UsageError):
    """The ticket or the invite is not accepted.

    - It has run out, or it was made for another key: send the organizer what `zooswarm identity show` prints, and ask
      for a new one.
    - It was cut off or changed on its way: copy it again, in one piece, or give the file that holds it.
    """

    code = "ZS-INVITE"


class BusyError(UsageError):
    """Another program has what this one needs: a directory, or a port.

    - The same command runs already, perhaps in another terminal or as a service: use that one, or stop it first.
    - Two volunteers or two hosts on one computer need two directories (`--dir`, `DIR`) and two ports.
    - The port is another program's: choose another, for example `--listen 127.0.0.1:7751`.
    """

    code = "ZS-BUSY"


class DiskError(UsageError):
    """A disk or a directory cannot be written to: it is full, read-only, or not yours.

    Nothing is lost: what was whole stays whole, and the same command goes on where it stopped.

    - No room: make some (`zooswarm join --disk 5GB` bounds what a volunteer keeps), or choose another directory.
    - No permission: choose a directory of your own (`--dir`, `--out`), or ask whoever owns it.
    - A file is where a directory should be: choose another name.
    """

    code = "ZS-DISK"


class FileError(UsageError):
    """A file or a directory that was named is not there, cannot be read, or is something else.

    - A misspelt path; or a path that is meant from another directory: paths count from where the command is typed.
    - A directory holds something else than was expected: choose an empty one, or the right one.
    - The data set is not on this computer: `zooswarm data list` shows what is, `zooswarm data add` brings one in.
    """

    code = "ZS-FILE"


class DamageError(UsageError):
    """A file is there, but its bytes are not what they were: the line names the file.

    Nothing of it is believed, and nothing is written over it.

    - A copy was cut off, or a disk lost something: copy or `zooswarm pull` it again; whole files are not sent twice.
    - `zooswarm doctor DIR` looks through a whole directory and says, for each problem, what to do.
    - If it happens again, look at the disk and at the memory of that computer.
    """

    code = "ZS-DAMAGE"


class RecipeError(UsageError):
    """A recipe or a campaign does not say what can be trained: the line names the file, the place in it, and the mend.

    - A field is misspelt: the line names the nearest one. A field that does not exist is never passed over.
    - A value is out of range, or two do not fit together (a loss and its targets, a patch and its image).
    - `recipes/README.md` explains every field; `zooswarm train RECIPE.toml --seeds 0:8 --out DIR` tries a recipe.
    """

    code = "ZS-RECIPE"


class LibraryError(UsageError):
    """A program or a library that only this needs is not installed: the line says how to get it.

    - An extra: `pip install 'zooswarm[NAME]'` with the name in the line, in the environment that `zooswarm` runs in.
    - A C compiler, where no ready-made engine fits this computer: `apt install gcc`, `xcode-select --install`.
    - A driver or compiler of a graphics card: without it, `--device cpu` works everywhere.
    """

    code = "ZS-LIBRARY"


# In the order of docs/errors.md, which scripts/errors.py writes from these docstrings.
KINDS: tuple[type[UsageError], ...] = (
    UsageError,
    AddressError,
    AwayError,
    WrongKeyError,
    VersionError,
    InviteError,
    BusyError,
    DiskError,
    FileError,
    DamageError,
    RecipeError,
    LibraryError,
)


class Refused(Exception):
    """Bytes from another host break the protocol. `reason` is a short stable word for counting; str() is for people."""

    def __init__(self, reason: str, detail: str = ""):
        self.reason, self.detail = shown(reason, REASON_MAX), shown(detail)
        super().__init__(f"{self.reason}: {self.detail}" if detail else self.reason)


# What the other side refuses because of what was typed here; of anything else the line itself has to say it all.
REFUSALS: dict[str, type[UsageError]] = {
    "data-missing": FileError,
    "no-host": AwayError,
    "organizer": WrongKeyError,
    "version": VersionError,
    "ticket": InviteError,
}
DISK_ERRORS = frozenset(
    (EACCES, EDQUOT, EFBIG, EIO, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENOSPC, ENOTDIR, EPERM, EROFS)
)


def refused_there(refused: Refused, where: str) -> UsageError:
    """What a person is told when `where` refuses: of the kind that says what to do."""
    kind = REFUSALS.get(refused.reason)
    return kind(f"{where}: {refused.detail or refused}") if kind else UsageError(f"{where}: {refused}")


def disk_trouble(error: OSError) -> DiskError | None:
    """An error of the system that is a person's to mend, not ours; None for others."""
    if error.errno not in DISK_ERRORS:
        return None
    where = error.filename if error.filename is not None else "the disk"
    return DiskError(f"{where}: {error.strerror}; nothing is lost: make room there, or choose another place")


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


def in_one_piece(error: BaseException) -> str:
    """Its traceback, harmless and set in."""
    return _set_in("".join(traceback.format_exception(error)))


def _set_in(text: str) -> str:
    return "\n".join("  | " + shown(line) for line in text.rstrip("\n").split("\n"))
