"""A zoo's catalogue as one table: which columns are read, which rows an expression picks, in which order they come.

`Catalogue.rows` first. What costs here is memory that is touched, so only the columns that are asked for are read, a
file at a time, and text that many networks share (class, recipe, layers, host, ...) is there once: such columns are
Arrow dictionaries. Axes: N networks.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.catalogue.probe_tables import FOLDER, probe_names, read_probe
from protocol.errors import DamageError, UsageError
from protocol.zoo.catalogue import all_columns, catalogue_schema, read_part
from protocol.zoo.store import Store

if TYPE_CHECKING:
    import duckdb

ORDER = ("class", "recipe", "seed")
OWN = ("id", "weights_digest", "state_digest")  # texts that no two networks share
PLACE = "row of the catalogue"  # no recipe has a field of this name
SHARED_TEXT = pa.dictionary(pa.int32(), pa.string())
RELEASED_ROWS = 20_000  # read, until memory is given back: more often takes longer, less often 20 MB more
RUNS_MAX = 1000  # a thousand pieces of a column are read at the speed of one
WORD = re.compile(r"\w+")


class Catalogue:
    """The catalogue of a store. Damaged files raise a UsageError that names the file."""

    def __init__(self, store: Store):
        self.store = store

    @cached_property
    def schema(self) -> pa.Schema:
        """All columns of all files, and those of this version."""
        paths = self.store.part_paths()
        try:
            found = pa.unify_schemas([catalogue_schema(), *map(pq.read_schema, paths)])
            names = found.names  # one that is not UTF-8 shows itself here
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            raise self._misfit() from None
        shared = {name for name in names if pa.types.is_string(found.field(name).type) and name not in OWN}
        return pa.schema([(f.name, SHARED_TEXT if f.name in shared else f.type) for f in found])

    def rows(self, where: str | None = None, columns: list[str] | None = None) -> pa.Table:
        """Rows of which the SQL expression `where` is true, ordered by class, recipe, seed.

        Raises UsageError: no such column, a `where` that is not SQL.
        """
        names = columns or self.schema.names
        if unknown := [name for name in names if name not in self.schema.names]:
            raise UsageError(f"no such column: {', '.join(unknown)}; columns: {column_names()}")
        if where is None:
            return ordered(self._read([*names, *ORDER]), names)
        place_N = self._places(where)
        return ordered(self._read([*names, *ORDER], place_N), names)

    def _places(self, where: str) -> np.ndarray:
        """Numbers of the rows of which `where` is true, ascending, counted over all files."""
        import duckdb

        mentioned = [name for name in self.schema.names if name == OWN[0] or is_mentioned(name, where)]
        for names in (mentioned, self.schema.names):
            table = self._read(names)
            table = table.append_column(PLACE, pa.array(np.arange(table.num_rows)))
            grouped = ", ".join(["*", *groups(names)])
            query = f"select {quoted(PLACE)} from (select {grouped} from catalogue) where ({where}\n)"
            with duckdb.connect() as connection:
                connection.register("catalogue", table)
                self._probes(connection, where)
                connection.execute("set enable_external_access = false")  # `where` reads this zoo, no other file
                try:
                    return np.sort(connection.sql(query).to_arrow_table()[PLACE].to_numpy())
                except duckdb.Error as error:
                    reason = str(error).splitlines()[0]
            if len(names) == len(self.schema.names):
                break
        raise UsageError(f"where {where!r}: {reason}; columns: {column_names()}")

    def sql(self, query: str) -> pa.Table:
        """Any SELECT over the tables `catalogue` and `probes.NAME`. Raises UsageError: not SQL, or no such table."""
        import duckdb

        with duckdb.connect() as connection:
            connection.register("catalogue rows", self._read(self.schema.names))
            columns = ", ".join(["*", *groups(self.schema.names)])
            connection.execute(f'create temp view catalogue as select {columns} from "catalogue rows"')
            self._probes(connection, query)
            connection.execute("set enable_external_access = false")
            try:
                found = connection.sql(query)
                if found is not None:
                    return found.to_arrow_table()
                reason = "no SELECT: this gives no rows"
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
        tables = ", ".join(["catalogue", *(f"{FOLDER}.{name}" for name in probe_names(self.store.path))])
        raise UsageError(f"sql: {reason}; tables: {tables}")

    def _probes(self, connection: "duckdb.DuckDBPyConnection", query: str) -> None:
        """Make the tables `probes.NAME` that the query names."""
        words = set(WORD.findall(query.lower()))
        if FOLDER not in words:
            return
        connection.execute(f"create schema {FOLDER}")
        for name in probe_names(self.store.path):
            if name in words:
                connection.register("rows of a probe", read_probe(self.store.path, name))
                connection.execute(f'create table {FOLDER}.{name} as select * from "rows of a probe"')
                connection.unregister("rows of a probe")

    def _read(self, names: list[str], place_N: np.ndarray | None = None) -> pa.Table:
        """Columns in the files' order, each once; all rows, or those of the numbers `place_N`, which ascend."""
        names, begin, unreleased, tables = list(dict.fromkeys(names)), 0, 0, []
        for path, part in zip(self.store.part_paths(), self.store.manifest.catalogue, strict=True):
            chosen_N = place_N
            if place_N is not None:
                low, high = np.searchsorted(place_N, [begin, begin + part.rows])
                chosen_N = place_N[low:high] - begin
            if chosen_N is None or len(chosen_N) == part.rows:
                tables.append(self._part(path, names))
            elif len(chosen_N):
                tables.append(self._part(path, names).take(pa.array(chosen_N)))
            begin += part.rows
            unreleased += part.rows
            if unreleased >= RELEASED_ROWS:
                pa.default_memory_pool().release_unused()  # reading leaves behind as much as it read
                unreleased = 0
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.concat_tables(tables).unify_dictionaries() if tables else schema.empty_table()

    def _part(self, path: Path, names: list[str]) -> pa.Table:
        """These columns of one file; those that it does not have are empty."""
        shared = [name for name in names if self.schema.field(name).type == SHARED_TEXT]
        table = read_part(path, names, shared)
        there = dict(zip(table.column_names, table.columns, strict=True))
        try:
            columns = [fitting(there.get(name), self.schema.field(name), table.num_rows) for name in names]
        except pa.ArrowException:
            raise self._misfit() from None
        return pa.table(columns, names=names)

    def _misfit(self) -> UsageError:
        for path in self.store.part_paths():
            read_part(path)  # names the damaged one
        return DamageError(f"{self.store.path}: the catalogue's files do not fit together; fetch it again")


def fitting(column: pa.ChunkedArray | None, field: pa.Field, rows: int) -> pa.Array | pa.ChunkedArray:
    """A file's column as the whole catalogue has it; nulls where the file has none. Raises ArrowInvalid."""
    if column is None:
        return pa.nulls(rows, field.type)
    return column if column.type == field.type else column.cast(field.type)


def ordered(table: pa.Table, names: list[str]) -> pa.Table:
    """`names` of the table, its rows by class, recipe, seed.

    A file's rows are in this order already, so a few long runs are put one behind the other, and nothing is copied.
    """
    keys = [*map(rank, (table["class"], table["recipe"])), table["seed"].to_numpy()]
    place_N = np.lexsort(keys[::-1])
    table = table.select(names)
    begins = np.flatnonzero(np.diff(place_N, prepend=-2) != 1)
    if len(begins) > RUNS_MAX:
        return table.combine_chunks().take(pa.array(place_N))
    lengths = np.diff(begins, append=len(place_N))
    runs = [table.slice(int(place_N[begin]), int(length)) for begin, length in zip(begins, lengths, strict=True)]
    return pa.concat_tables(runs) if runs else table


def rank(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) numbers that sort as the texts of a column of SHARED_TEXT do, by code points."""
    codes = column.combine_chunks()
    texts = np.array(codes.dictionary.to_pylist(), object)
    rank_T = np.empty(len(texts), np.int64)
    rank_T[np.argsort(texts, kind="stable")] = np.arange(len(texts))
    return rank_T[codes.indices.to_numpy()]


def is_mentioned(name: str, where: str) -> bool:
    """Might the expression need this column? A column too many costs a little, one too few is noticed by DuckDB."""
    words = set(WORD.findall(where.lower()))
    if "*" in where or words & {"columns", "catalogue"}:
        return True
    return set(WORD.findall(name.partition(".")[0].lower())) <= words


def groups(names: list[str]) -> list[str]:
    """`task.machine` without quotes: SQL reads it as a field of a struct `task`, so there is one."""
    fields: dict[str, list[str]] = {}
    for name in names:
        group, dot, field = name.partition(".")
        if dot:
            fields.setdefault(group, []).append(f"{quoted(field)} := {quoted(name)}")
    return [f"struct_pack({', '.join(members)}) as {quoted(group)}" for group, members in fields.items()]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def column_names() -> str:
    return ", ".join(name for name, _, _ in all_columns())
