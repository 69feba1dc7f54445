"""Open a zoo: its catalogue as a table, its weights as a matrix, a network as a module. Axes: N networks, P parameters.

`where` is a SQL expression over the catalogue's columns (docs/zoo.md); a recipe's fields may be written with or without
quotes: `class = 'parity' and training.learning_rate < 0.01`. It may ask the tables of probes, too (docs/probes.md):
`id in (select network from probes.corruption where halving < 0.01)`. Rows always come in one order: class, recipe,
seed.
"""

import re
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.catalogue.frames import as_texts, data_frame
from analysis.catalogue.parts import COLUMN_OF, THIRDS, parts_by_digest
from analysis.catalogue.probe_tables import read_probe
from analysis.catalogue.rows import Catalogue
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.trust.identity import verify_signature
from protocol.zoo.store import Store, open_store

NETWORK_ID = re.compile(r"[0-9a-f]{16}-[0-9]+\Z")  # `network_id` of protocol.zoo.store

if TYPE_CHECKING:
    from analysis.weights.modules import ZooNetwork
    from analysis.weights.pairs import WeightsDataset


def open_zoo(path: Path | str) -> "Zoo":
    """Open a zoo's directory at its newest manifest that is readable and signed, or that version 0.1 made.

    Newer ones are named in the log, in one line. Raises UsageError when there is none.
    """
    return Zoo(open_store(path, verify_signature))


class Zoo:
    """A zoo at one manifest. Damaged files raise a UsageError that names the file."""

    def __init__(self, store: Store):
        self.store = store

    def __repr__(self) -> str:
        return f"Zoo({str(self.store.path)!r}, manifest {self.store.manifest.number}, {len(self):,} networks)"

    def __len__(self) -> int:
        return self.store.manifest.networks

    @property
    def recipes(self) -> dict[str, Recipe]:
        """Digest -> recipe."""
        return self.store.recipes

    @property
    def campaigns(self) -> dict[str, bytes]:
        """Digest -> the organizer's exact bytes (canonical JSON)."""
        return self.store.campaigns

    def table(self, where: str | None = None, columns: list[str] | None = None) -> pa.Table:
        """Catalogue rows, ordered by class, recipe, seed. Raises UsageError for a `where` that is not SQL.

        Texts that networks share (class, recipe, layers, host, ...) are Arrow dictionaries; the others are strings.
        """
        return self._catalogue.rows(where, columns)

    def weights(self, where: str | None = None, *, into: Path | str | None = None, verify: bool = False) -> np.ndarray:
        """(N, P) float32, row i being row i of `table(where)`. Raises UsageError: networks of different shapes.

        `into`: a `.npy` file to write, of which a read-only mapping is returned: for more networks than fit in memory,
        and to be opened again by `np.load(into, mmap_mode="r")`. `verify`: every file must hash to its name first.
        """
        return self.weights_of(self.table(where, ["shard", "row"]), into=into, verify=verify)

    def initial_weights(self, where: str | None = None) -> np.ndarray:
        """(N, P) float32 at step 0, recomputed from recipe and seed: the control for every claim about weights."""
        return self.initial_weights_of(self.table(where, ["recipe", "seed"]))

    def weights_of(self, rows: pa.Table, *, into: Path | str | None = None, verify: bool = False) -> np.ndarray:
        """`weights` for rows in hand (columns shard, row)."""
        shards = rows["shard"].cast(pa.string()).to_numpy()
        try:
            return self.store.gather(shards, rows["row"].to_numpy(), into=Path(into) if into else None, verify=verify)
        except OSError as error:
            raise UsageError(f"{into or self.store.path}: {error.strerror or error}") from None

    def initial_weights_of(self, rows: pa.Table) -> np.ndarray:
        """`initial_weights` for rows in hand (columns recipe, seed)."""
        from protocol.engine.initial import initial_states

        places, seeds = places_of(rows["recipe"]), rows["seed"].to_pylist()
        widths = {self.recipe(digest).parameter_count for digest in places}
        if len(widths) > 1:
            raise UsageError("these networks do not have one shape: narrow `where`, e.g. to one recipe_name")
        initial_NP = np.empty((rows.num_rows, widths.pop() if widths else 0), np.float32)
        for digest, members in places.items():
            for i, state in zip(members, initial_states(self.recipe(digest), [seeds[i] for i in members]), strict=True):
                initial_NP[i] = state.params
        return initial_NP

    def frame(self, where: str | None = None, columns: list[str] | None = None, kind: str = "pandas") -> Any:
        """`table(where, columns)` as a pandas.DataFrame, or with kind "polars" as a polars.DataFrame; texts are texts.

        Raises UsageError: the library is not here.
        """
        return data_frame(self.table(where, columns), kind)

    def splits(
        self,
        where: str | None = None,
        by: str | Sequence[Hashable] = "seed",
        parts: Sequence[float] = THIRDS,
        salt: int = 0,
    ) -> np.ndarray:
        """(N,) the part, from 0, of row i of `table(where)`: networks that share `by` are always in one part.

        `by`: a column (seed: twins of all classes stay together; recipe; host), `machine`, or a group for each row, as
        `analysis.statistics.splits.groups` gives them. A column's parts hold in every selection, and when the zoo has
        grown. Raises UsageError: a part gets no network, or some have no such value.
        """
        if isinstance(by, str):
            column = COLUMN_OF.get(by, by)
            return parts_by_digest(self.table(where, [column])[column].to_pylist(), parts, salt, column)
        if len(by) != (rows := self.table(where, ["seed"]).num_rows):
            raise UsageError(f"{len(by)} groups for {rows} networks: `by` has one for each row of `table(where)`")
        return parts_by_digest(by, parts, salt)

    def dataset(
        self, where: str | None = None, label: str = "class", *, initial: bool = False, into: Path | str | None = None
    ) -> "WeightsDataset":
        """A torch Dataset: item i is (weights (P,), label) of row i of `table(where)`; `label` is a column.

        Texts become numbers of `dataset.classes`. `initial`: weights at step 0, the control. `into`: as in `weights`.
        Raises UsageError: networks of different shapes, no such column, rows without a label.
        """
        from analysis.weights.pairs import WeightsDataset, labels_of

        rows = self.table(where, list(dict.fromkeys(["id", "recipe", "seed", "shard", "row", label])))
        labels = labels_of(rows[label], label)
        weights_NP = self.initial_weights_of(rows) if initial else self.weights_of(rows, into=into)
        return WeightsDataset(rows["id"].to_pylist(), weights_NP, labels)

    def hugging_face(self, where: str | None = None, label: str = "class", columns: Sequence[str] = ()) -> Any:
        """A Hugging Face datasets.Dataset: id, weights, label, and other columns of the catalogue; rows as in `table`.

        Raises UsageError as `dataset` does, and where the library `datasets` is not here.
        """
        from analysis.weights.pairs import hugging_face_dataset, labels_of

        rows = self.table(where, list(dict.fromkeys(["id", "shard", "row", label, *columns])))
        labels, beside = labels_of(rows[label], label), as_texts(rows.select(list(columns)))
        return hugging_face_dataset(rows["id"].to_pylist(), self.weights_of(rows), labels, beside)

    def row(self, network_id: str) -> dict[str, Any]:
        """One network's catalogue row. Raises UsageError for an unknown id."""
        rows = self.table("id = '" + network_id.replace("'", "''") + "'").to_pylist()
        if not rows:
            raise UsageError(f"{self.store.path}: there is no network {network_id!r}")
        return rows[0]

    def module(self, network_id: str) -> "ZooNetwork":
        """The network as a PyTorch module: (B, T, 9) commands -> (B, T, 20) pins. Raises UsageError: unknown id."""
        from analysis.weights.modules import network_module

        row = self.row(network_id)
        return network_module(self.recipe(row["recipe"]), self.store.gather([row["shard"]], np.array([row["row"]]))[0])

    def recipe(self, recipe: Recipe | str) -> Recipe:
        """A recipe by digest or by name. Raises UsageError when there is none, or two of that name."""
        if isinstance(recipe, Recipe):
            return recipe
        if recipe in self.recipes:
            return self.recipes[recipe]
        found = [known for known in self.recipes.values() if known.name == recipe]
        if len(found) != 1:
            names = ", ".join(sorted({known.name for known in self.recipes.values()}))
            raise UsageError(f"{len(found)} recipes are called {recipe!r}; recipes: {names}")
        return found[0]

    def data(self, recipe: Recipe | str) -> TaskData:
        """The very sequences that a recipe (or its digest, or its name) trains and is judged on."""
        from protocol.engine.streams import task_data

        return task_data(self.recipe(recipe), self.store.shelf)

    def measures(self, where: str | None = None) -> pa.Table:
        """id, loss, accuracy, attack_success of row i of `table(where)`, computed now, by the exact engine.

        Accuracy is of the held-out samples (null where targets are numbers); attack_success is the share of patched
        held-out images that get the label the attacker wants (null without poison).
        """
        from protocol.engine.measures import measure
        from protocol.engine.select import select_engine

        rows = self.table(where, ["id", "recipe", "shard", "row"])
        lines: dict[str, dict[str, Any]] = {}
        engine = select_engine()
        for digest, members in places_of(rows["recipe"]).items():
            some = rows.take(members)
            found = measure(engine, self.recipe(digest), list(self.weights_of(some)), self.store.shelf)
            for i, name in enumerate(some["id"].to_pylist()):
                values = {"loss": found.loss, "accuracy": found.accuracy, "attack_success": found.attack_success}
                lines[name] = {key: None if value is None else float(value[i]) for key, value in values.items()}
        ordered = [{"id": name} | lines[name] for name in rows["id"].to_pylist()]
        numbers = [(name, pa.float64()) for name in ("loss", "accuracy", "attack_success")]
        return pa.Table.from_pylist(ordered, schema=pa.schema([("id", pa.string()), *numbers]))

    def probe(self, name: str, among: str | pa.Table | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """Rows that `zooswarm probe` left for a probe, in the file's order; of networks of `among` and of families.

        `among`: a `where`, or a table in hand. `columns`: of the catalogue, put behind the probe's own; null for rows
        of families. Raises UsageError: there are no rows yet.
        """
        rows = read_probe(self.store.path, name)
        if among is None and not columns:
            return rows
        table = self.table(among, ["id", *columns]) if among is None or isinstance(among, str) else among
        place = {network: i for i, network in enumerate(table["id"].to_pylist())}
        networks = rows["network"].to_pylist()
        if among is not None:
            kept = [i for i, name in enumerate(networks) if name in place or not NETWORK_ID.match(name)]
            rows, networks = rows.take(pa.array(kept, pa.int64())), [networks[i] for i in kept]
        at = pa.array([place.get(network) for network in networks], pa.int64())
        for column in columns:
            rows = rows.append_column(column, table[column].take(at))
        return rows

    def sql(self, query: str) -> pa.Table:
        """Any SELECT over `catalogue` and `probes.NAME`, whose column `network` is the catalogue's `id`.

        Raises UsageError: not SQL, or no such table.
        """
        return self._catalogue.sql(query)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(self.store)


def places_of(column: pa.ChunkedArray) -> dict[str, list[int]]:
    """Text -> the rows that have it, ascending."""
    places: dict[str, list[int]] = {}
    for i, text in enumerate(column.to_pylist()):
        places.setdefault(text, []).append(i)
    return places
