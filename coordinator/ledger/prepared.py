"""Statements that are compiled once, and with SQLite handed straight to its driver.

SQLAlchemy takes a tenth of a millisecond to run a statement that it knows, the driver a hundredth; a result is some
hundred statements on its way. Everywhere but in the hottest places plain SQLAlchemy is right, and both may be used in
one transaction. With another database a prepared statement is an ordinary one. And changes of the ledger that are made
in one transaction: all of them, or each for itself.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, OperationalError

from coordinator.ledger.damage import is_damage

T = TypeVar("T")
Change = Callable[[Connection], T]
Outcome = tuple[Any, BaseException | None]  # of a change: what it returned, or raised
DIALECT = sqlite.dialect(paramstyle="qmark")
ROWS_MAX = 64  # in one insert: SQLite takes at least 999 values


class Prepared:
    """A statement made of named parameters and constants; of an insert or an update, other names are columns."""

    def __init__(self, statement: Any):
        self.statement: Executable = statement
        self._row: type | None = None
        if statement.is_select:
            names = statement.selected_columns.keys()
            self._row = namedtuple("Row", names, rename=True)  # type: ignore[misc]
        self._plans: dict[tuple[str, ...], _Plan] = {}  # by the names of the parameters

    def all(self, connection: Connection, **values: Any) -> list[Any]:
        """Its rows, with the columns as attributes."""
        assert self._row is not None
        cursor = self._on_driver(connection, values)
        if cursor is None:
            return list(connection.execute(self.statement, values).all())
        return [self._row._make(row) for row in cursor.fetchall()]  # type: ignore[attr-defined]

    def first(self, connection: Connection, **values: Any) -> Any:
        """Its first row, or None."""
        rows = self.all(connection, **values)
        return rows[0] if rows else None

    def scalars(self, connection: Connection, **values: Any) -> list[Any]:
        """The first column of each row."""
        return [row[0] for row in self.all(connection, **values)]

    def scalar(self, connection: Connection, **values: Any) -> Any:
        """The first column of the first row, or None."""
        rows = self.all(connection, **values)
        return rows[0][0] if rows else None

    def change(self, connection: Connection, **values: Any) -> int:
        """Insert, update or delete; how many rows."""
        cursor = self._on_driver(connection, values)
        return cursor.rowcount if cursor is not None else connection.execute(self.statement, values).rowcount

    def insert_all(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """So many rows with the same columns, as few statements as may be."""
        for begin in range(0, len(rows), ROWS_MAX):
            some = rows[begin : begin + ROWS_MAX]
            if connection.dialect.name != "sqlite":
                connection.execute(self.statement, [dict(values) for values in some])
                continue
            plan = self._plan(tuple(some[0]))
            head, _, row = plan.sql.rpartition(" VALUES ")
            arguments = [value for values in some for value in plan.arguments(values)]
            _run(connection, f"{head} VALUES {', '.join([row] * len(some))}", arguments)

    def _on_driver(self, connection: Connection, values: dict[str, Any]) -> sqlite3.Cursor | None:
        """What SQLite's driver gives; None with another database."""
        if connection.dialect.name != "sqlite":
            return None
        plan = self._plan(tuple(values))
        return _run(connection, plan.sql, plan.arguments(values))

    def _plan(self, names: tuple[str, ...]) -> "_Plan":
        plan = self._plans.get(names)
        if plan is None:
            plan = self._plans[names] = _Plan(self.statement, names)
        return plan


class _Plan:
    """The SQL for one set of parameters, and where each goes."""

    def __init__(self, statement: Any, names: tuple[str, ...]):
        compiled = statement.compile(dialect=DIALECT, column_keys=list(names))
        written = compiled.construct_expanded_state(dict.fromkeys(names))  # lists of constants, one after another
        self.sql, self._order = written.statement, list(written.positiontup or ())
        self._constants = {name: _plain(value) for name, value in written.parameters.items() if name not in names}
        for column in compiled.insert_prefetch if statement.is_insert else ():
            self._constants[column.key] = column.default.arg

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] if name in values else self._constants[name] for name in self._order]


def _run(connection: Connection, sql: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
    driver: Any = connection.connection.driver_connection
    try:
        return driver.execute(sql, arguments)
    except sqlite3.Error as error:  # as SQLAlchemy would have it
        raise DBAPIError.instance(sql, None, error, sqlite3.Error) from error


def _plain(value: Any) -> Any:
    """Of an enumeration's word, the word: the driver takes it at once."""
    return str(value) if isinstance(value, str) else value


def say(connection: Connection, words: str) -> None:
    """BEGIN, SAVEPOINT ...: SQLAlchemy's objects for them cost as much as a change."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(words)
    else:
        _run(connection, words)


def end(connection: Connection, word: str) -> None:
    """COMMIT or ROLLBACK what is under way, whoever began it, if anything is."""
    if connection.in_transaction():  # SQLAlchemy has heard of it
        (connection.commit if word == "COMMIT" else connection.rollback)()
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite" and driver.in_transaction:
        say(connection, word)


def together(connection: Connection, changes: Sequence[Change[Any]]) -> list[Outcome]:
    """All of them, or none: then what one raised that is alone, and of several nothing. Raises DBAPIError."""
    outcomes: list[Outcome] = []
    try:
        for change in changes:
            outcomes.append((change(connection), None))
    except Exception as error:
        _refuse_doubt(error)
        end(connection, "ROLLBACK")
        return [(None, error)] if len(changes) == 1 else []
    return outcomes


def apart(connection: Connection, change: Change[Any]) -> Outcome:
    """The change's value, or what it raised; then nothing of it stays. Raises DBAPIError."""
    try:
        say(connection, "SAVEPOINT one_change")
        value = change(connection)
        say(connection, "RELEASE SAVEPOINT one_change")
        return value, None
    except Exception as error:
        _refuse_doubt(error)
        say(connection, "ROLLBACK TO SAVEPOINT one_change")
        say(connection, "RELEASE SAVEPOINT one_change")
        return None, error


def _refuse_doubt(error: Exception) -> None:
    """Raises what is not about one change: the disk refuses, so the whole batch is in doubt."""
    if isinstance(error, OperationalError) or is_damage(error):
        raise error
