"""What is damage, and what is only in the way: of a file that SQLite wrote, and what to say about it."""

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from protocol.errors import DamageError

SAID_CHARS_MAX = 200  # SQLite quotes whole tables
NOT_TEXT = "Could not decode to UTF-8"  # Python's driver, of a text that SQLite itself does not look into
DAMAGE_MEND = "put back a copy of this very state, or start a new directory; `zooswarm doctor` says what else is sound"


def refuse_damage(engine: Engine, place: str) -> None:
    """Every page is looked at, about a second a gigabyte: what is damaged must not be built upon. Raises UsageError."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if found != "ok":
            raise DamageError(f"{place}: the ledger is damaged ({' '.join(found.split())}); {DAMAGE_MEND}")


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that the file is not what it wrote, not that a disk or a lock is in the way."""
    said = getattr(error, "orig", None)
    name = getattr(said, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or NOT_TEXT in str(said)


def explained(error: DBAPIError) -> str:
    """What the database says, in one line, and the mend where it is damaged."""
    said = " ".join(str(error.orig).split())[:SAID_CHARS_MAX]
    return f"the ledger is damaged ({said}); {DAMAGE_MEND}" if is_damage(error) else said
