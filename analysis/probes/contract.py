"""What a probe is. It gets networks and gives rows; where they come from and where rows go is `run`'s business.

    class Sizes(Probe[SizesSettings]):
        name, version, title, settings = "sizes", 1, "How large are the weights?", SizesSettings
        columns = {"norm": "Euclidean length of all weights"}

        def units(self, table, recipes, settings):
            return units_of_networks(table)

        def rows(self, inputs, settings):
            return [{"network": inputs.networks[0], "norm": float(np.linalg.norm(inputs.weights[0]))}]

Axes: P parameters.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import pyarrow as pa

from protocol.canonical import hexdigest
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.datasets import NO_SHELF, Shelf

if TYPE_CHECKING:
    from analysis.weights.modules import ZooNetwork

Row = dict[str, Any]  # flat, of str, int, float, bool; always with `network`: a catalogue id, or a family's name


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """What may be chosen of a probe: int, float, str, bool, and tuples of them, each with a default.

    A probe's own settings are a frozen dataclass made from this one. Raises UsageError: a number outside of its limits.
    """

    probe: ClassVar[str]  # a name in `names.PROBES`, or `module:Class`
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}  # else whole numbers from 1, others above 0
    may_be_empty: ClassVar[frozenset[str]] = frozenset()  # lists

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            told = wrong(value, self.limits.get(name), name in self.may_be_empty)
            if told:
                raise UsageError(f"{self.probe}: {name} is {told}, not {value!r}")

    @property
    def digest(self) -> str:
        return hexdigest(json.dumps(asdict(self), sort_keys=True).encode())


def wrong(value: Any, limits: tuple[float, float] | None, may_be_empty: bool) -> str:
    """What a setting has to be, if it is not; else nothing."""
    if isinstance(value, tuple):
        each = next((told for one in value if (told := wrong(one, limits, may_be_empty))), "")
        return f"a list, each {each}" if each else "" if value or may_be_empty else "a list of one or more"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if limits is not None:
        low, high = limits
        return "" if low <= value <= high else f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
    if isinstance(value, int):
        return "" if value >= 1 else "1 or more"
    return "" if 0 < value < math.inf else "above 0 and finite"


S = TypeVar("S", bound=ProbeSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is computed at once and kept in one file: a network, a pair, a family."""

    networks: tuple[str, ...]  # the catalogue's ids, in the order in which `Inputs` has them
    digests: tuple[str, ...]  # their weights_digest
    about: str = ""  # what else tells it from other units of the same networks: a family's name, a task

    @property
    def key(self) -> str:
        """64 hex digits that change when a network, its weights or what it is about does."""
        return hexdigest(json.dumps([self.networks, self.digests, self.about]).encode())


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that `Probe.rows` may look at. A tuple has an entry a network, in the unit's order."""

    unit: Unit
    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]
    weights: tuple[np.ndarray, ...]  # (P,) float32
    shelf: Shelf = NO_SHELF  # data sets

    @property
    def networks(self) -> tuple[str, ...]:
        return self.unit.networks

    def data(self, i: int = 0) -> TaskData:
        """What network `i` was trained and is judged on; its own training samples where the data vary.

        Raises UsageError: a data set is missing.
        """
        from protocol.engine.streams import task_data

        data = task_data(self.recipes[i], self.shelf)
        return data.for_seed(self.seeds[i]) if data.for_seed else data

    def module(self, i: int = 0) -> "ZooNetwork":
        """Network `i` for PyTorch, float32, in eval mode."""
        from analysis.weights.modules import network_module

        return network_module(self.recipes[i], self.weights[i])

    def initial(self, i: int = 0, another: int = 0) -> np.ndarray:
        """(P,) float32: network `i` before training; with `another` = 1, 2, ... fresh draws of the same recipe."""
        from protocol.engine.initial import initial_state

        return initial_state(self.recipes[i], (self.seeds[i] + 1_000_003 * another) % (1 << 31)).params

    @cached_property
    def _entropy(self) -> int:
        return int(self.unit.key[:32], 16)

    def rng(self, *names: str) -> np.random.Generator:
        """Chance that is the same whenever and wherever this unit is computed; other names, another stream."""
        words = [int(hexdigest(name.encode())[:16], 16) for name in names]
        return np.random.default_rng([self._entropy, *words])


class Probe(ABC, Generic[S]):
    """A question to networks. Holds nothing: the same inputs and settings give the same rows, bit for bit."""

    name: ClassVar[str]  # as in `names.PROBES` and of its table: small letters, digits and _
    version: ClassVar[int]  # raise it when numbers change: rows that were kept are then computed again
    title: ClassVar[str]
    settings: ClassVar[type[ProbeSettings]]
    columns: ClassVar[Mapping[str, str]]  # every column but `network`, `unit` and `seconds`: one line, with its unit

    @abstractmethod
    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: S) -> list[Unit]:
        """What there is to compute of these catalogue rows (all columns); networks that it cannot read are left out.

        `recipes`: by digest. Raises UsageError: nothing here for this probe, for the reason given.
        """

    @abstractmethod
    def rows(self, inputs: Inputs, settings: S) -> list[Row]:
        """All rows of one unit; torch on one thread of a processor.

        Raises UsageError: this unit cannot be computed, for the reason given. It is skipped, and the reason told.
        """


def units_of_networks(table: pa.Table, about: str = "") -> list[Unit]:
    """A unit a network."""
    pairs = zip(table["id"].to_pylist(), table["weights_digest"].to_pylist(), strict=True)
    return [Unit(networks=(name,), digests=(digest,), about=about) for name, digest in pairs]


def unit_of(table: pa.Table, networks: Iterable[str], about: str = "") -> Unit:
    """One unit of several networks of the table, by id; for many units make the dictionary once (`digests_of`)."""
    return unit_from(digests_of(table), networks, about)


def digests_of(table: pa.Table) -> dict[str, str]:
    """Network -> weights_digest."""
    return dict(zip(table["id"].to_pylist(), table["weights_digest"].to_pylist(), strict=True))


def unit_from(digests: Mapping[str, str], networks: Iterable[str], about: str = "") -> Unit:
    names = tuple(networks)
    return Unit(networks=names, digests=tuple(digests[name] for name in names), about=about)


def plain(value: Any) -> str | int | float | bool:
    """A NumPy or torch number as a plain one. Raises TypeError: not a single number, text, or truth."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a row holds numbers, texts and truths, not {type(value).__name__}")
