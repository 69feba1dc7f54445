"""The catalogue's rows as the tables that analysts know: a pandas or a polars data frame."""

from typing import Any

import pyarrow as pa

from protocol.errors import LibraryError, UsageError

KINDS = ("pandas", "polars")


def data_frame(table: pa.Table, kind: str) -> Any:
    """The table as a pandas.DataFrame or a polars.DataFrame, row i being row i.

    Texts are texts, not categories: those of a whole zoo would follow a few of its rows into every `groupby`. Raises
    UsageError: another kind, or the library is not here.
    """
    if kind not in KINDS:
        raise UsageError(f"a frame of kind {kind!r}? There is {' and '.join(KINDS)}")
    table = as_texts(table)
    try:
        if kind == "polars":
            import polars

            return polars.from_arrow(table)
        return table.to_pandas()
    except ImportError:
        raise LibraryError(f"a frame needs {kind}: pip install 'zooswarm[frames]'") from None


def as_texts(table: pa.Table) -> pa.Table:
    """The same, Arrow's dictionaries written out."""
    kinds = [(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(kinds))
