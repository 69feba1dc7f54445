"""The catalogue's columns: a row a network, and every field of its recipe beside it."""

import functools
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from protocol.canonical import DIGEST, canonical_json
from protocol.errors import DamageError, shown
from protocol.recipes.recipe import Network, Recipe, Training
from protocol.tasks.kinds import Task
from protocol.zoo.parquet import check_part

if TYPE_CHECKING:
    import pyarrow as pa


def recipe_columns(recipe: Recipe) -> dict[str, Any]:
    """A recipe's fields as catalogue columns: `task.machine`, `training.learning_rate`, ..."""
    columns = {
        "recipe": recipe.digest,
        "recipe_name": recipe.name,
        "class": recipe.label,
        "engine": recipe.engine,
        "vary": ",".join(recipe.vary),
        "task.kind": recipe.task.__struct_config__.tag,
        "network.parameters": recipe.parameter_count,
    }
    for group, value in (("task", recipe.task), ("network", recipe.network), ("training", recipe.training)):
        for field in value.__struct_fields__:
            columns.setdefault(f"{group}.{field}", plain(getattr(value, field)))
    return columns


def plain(value: Any) -> Any:
    """Numbers, text and nothing as they are; lists and records, such as layers or a trigger, as JSON."""
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    return value if is_plain else canonical_json(value).decode()


COLUMNS = (  # name, Arrow type, meaning
    ("id", "string", "network: first 16 digits of the recipe digest, a dash, the seed"),
    ("class", "string", "the label analysts use: the recipe's class"),
    ("seed", "int64", "seed index; with the recipe it determines every bit of the network"),
    ("steps", "int64", "optimizer steps taken when the network stopped"),
    ("held_out_loss", "float64", "mean squared error on the held-out sequences, at the end"),
    ("training_losses", "list<float32>", "mean training loss of each segment"),
    ("held_out_losses", "list<float32>", "held-out loss after each segment"),
    ("campaign", "string", "digest of the campaign that asked for the network"),
    ("assignment", "string", "assignment (bundle) in which it was trained"),
    ("host", "string", "host that trained it"),
    ("checkers", "list<string>", "hosts that re-ran a piece of it"),
    ("checks_valid", "int64", "checks of it that agreed"),
    ("cells_checked", "int64", "segments of it that were re-run, bit for bit"),
    ("credit", "float64", "credit that its host earned for it, in network-segments"),
    ("weights_digest", "string", "SHA-256 of the weights: little-endian float32 in flat order"),
    ("state_digest", "string", "SHA-256 that the host committed to for the last state"),
    ("evidence", "string", "digest of the signed evidence file of its bundle"),
    ("shard", "string", "digest of the weights file that holds it"),
    ("row", "int64", "its row in that file"),
    ("admitted_at", "timestamp", "when it was admitted, UTC"),
    ("recipe", "string", "digest of the recipe"),
    ("recipe_name", "string", "name of the recipe"),
    ("engine", "string", "arithmetic that defines the bits"),
    ("vary", "string", "which streams depend on the seed: init, order, data"),
    ("task.kind", "string", "kind of task: machine, automaton, dataset, function"),
    ("network.layers", "string", "layers, as JSON"),
    ("network.parameters", "int64", "number of parameters"),
)


@functools.cache
def all_columns() -> tuple[tuple[str, str, str], ...]:
    """(name, Arrow type, meaning) of every column; recipe fields follow the recipe's own definition."""
    columns = list(COLUMNS)
    kinds = {
        msgspec.inspect.IntType: "int64",
        msgspec.inspect.FloatType: "float64",
        msgspec.inspect.StrType: "string",
        msgspec.inspect.BoolType: "bool",
    }
    known = {name for name, _, _ in columns}
    structs = [("task", task) for task in (get_args(Task) or (Task,))] + [("network", Network), ("training", Training)]
    for group, struct in structs:
        info = msgspec.inspect.type_info(struct)
        assert isinstance(info, msgspec.inspect.StructType)
        for field in info.fields:
            name = f"{group}.{field.encode_name}"
            if name not in known:  # two kinds of task may share a field's name
                kind = kinds.get(type(field.type), "string")  # lists and records are there as JSON
                columns.append((name, kind, f"the recipe's {name}"))
                known.add(name)
    return tuple(columns)


@functools.cache
def catalogue_schema() -> "pa.Schema":
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "float64": pa.float64(),
        "list<float32>": pa.list_(pa.float32()),
        "list<string>": pa.list_(pa.string()),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([(name, types[kind]) for name, kind, _ in all_columns()])


NAME_COLUMNS = ("class", "recipe_name")
DIGESTS = ("recipe", "campaign", "evidence", "shard")  # they name files
KEYS = (*DIGESTS, "id", "class", "seed", "steps", "host", "row", "weights_digest", "state_digest")
NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}")  # as `tasks.fields` has it


def read_part(path: Path, columns: list[str] | None = None, shared: Collection[str] = ()) -> "pa.Table":
    """One catalogue file; `shared` are text columns to be read as dictionaries, each text once.

    Raises UsageError: damaged, made to fill the memory, a column missing or of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_part(path)
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
        kinds, wanted = dict(zip(schema.names, schema.types, strict=True)), catalogue_schema()
        for name, kind, _ in COLUMNS:
            if name not in kinds:
                raise DamageError(f"{path}: not a catalogue file: there is no column {name}")
            if kinds[name] != wanted.field(name).type:
                raise DamageError(f"{path}: not a catalogue file: column {name} is not {kind}")
        there = [name for name in shared if name in kinds]  # an older version may have had fewer columns
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=there) as file:
            return with_keys(with_names(file.read(columns=columns), path), path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamageError(f"{path}: damaged catalogue file: {str(error).splitlines()[0]}") from None


def with_keys(table: "pa.Table", path: Path) -> "pa.Table":
    """The table, when no key is missing and what names files is a digest. Raises UsageError."""
    for name in set(KEYS) & set(table.column_names):
        if table[name].null_count:
            raise DamageError(f"{path}: column {name} has rows without a value; the zoo is damaged")
        if name in DIGESTS and not all(map(DIGEST.fullmatch, table[name].unique().to_pylist())):
            raise DamageError(f"{path}: column {name} names what is no digest; the zoo is damaged")
    return table


def with_names(table: "pa.Table", path: Path) -> "pa.Table":
    """The table, when its texts are what recipes and campaigns allow: classes are names, no text holds a line end or
    anything that a terminal obeys. Raises UsageError: somebody else wrote it.
    """
    for name in table.column_names:
        legal: Callable[[str], object] = NAME.fullmatch if name in NAME_COLUMNS else str.isprintable
        try:
            known = all(legal(text) for text in unusual_texts(table[name], name) if text is not None)
        except UnicodeDecodeError:
            known = False
        if not known:
            raise DamageError(f"{path}: column {shown(name, 64)} holds text that nobody could have put there")
    return table


def unusual_texts(column: "pa.ChunkedArray", name: str) -> list[str | None]:
    """The different texts in a column, or none if all are printable ASCII and that is all that is asked of them."""
    import pyarrow as pa
    from pyarrow import compute

    pc: Any = compute  # its functions are made when it loads, so no type checker knows them
    texts: Any = column
    if pa.types.is_list(texts.type):
        if pa.types.is_floating(texts.type.value_type):
            return []  # losses: a tenth of a catalogue, not to be copied
        texts = texts.combine_chunks().flatten()
    if pa.types.is_dictionary(texts.type):
        texts = pa.chunked_array([chunk.dictionary for chunk in texts.chunks], texts.type.value_type)
    if not pa.types.is_string(texts.type):
        return []
    plain = name not in NAME_COLUMNS and pc.all(pc.ascii_is_printable(texts)).as_py() is not False
    return [] if plain else texts.unique().to_pylist()
