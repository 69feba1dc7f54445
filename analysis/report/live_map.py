"""`zooswarm map`: the zoo's map as a small file, again whenever the zoo has grown. What a status page draws.

The file's format is `protocol.page.state.ZooMap`; it is written whole or not at all.
"""

import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from analysis.weights.features import weighted_layers
from analysis.weights.growing_map import GrowingMap, class_numbers, sample
from analysis.zoo import Zoo, open_zoo, places_of
from protocol.errors import UsageError, shown
from protocol.files import write_atomic
from protocol.page.state import CLASSES_MAX, PANELS_MAX, POINTS_MAX, Panel, ZooMap
from protocol.recipes.recipe import Recipe
from protocol.zoo.manifests import manifest_numbers

WATCH_SECONDS = 3.0
REST, REST_SECONDS_MAX = 4.0, 120.0  # times the processor time that a map took: others need it, too
NICE = 19
METHOD = (
    "First two principal components of numbers about the weights that do not depend on how hidden units are numbered; "
    "turned so that networks stay about where they were as more come."
)
Shape = tuple[tuple[str, tuple[int, ...]], ...]  # of every array


@dataclass(slots=True)
class Panels:
    """One map for each of the most frequent architectures."""

    maps: dict[Shape, GrowingMap] = field(default_factory=dict)
    classes: dict[Shape, list[str]] = field(default_factory=dict)

    def draw(self, zoo: Zoo) -> ZooMap:
        """Raises UsageError: damaged files."""
        rows = zoo.table(columns=["id", "class", "recipe", "shard", "row"])
        found = [self._panel(zoo, shape, rows.take(members)) for shape, members in by_shape(zoo, rows)[:PANELS_MAX]]
        return ZooMap(manifest=zoo.store.manifest.number, networks=rows.num_rows, method=METHOD, panels=found)

    def _panel(self, zoo: Zoo, shape: Shape, rows) -> Panel:
        recipe = zoo.recipe(rows["recipe"][0].as_py())
        drawn = rows.take(sample(rows["id"].to_pylist(), POINTS_MAX))
        growing = self.maps.setdefault(shape, GrowingMap(recipe))
        places_N2 = growing.update(drawn["id"].to_pylist(), lambda some: zoo.weights_of(drawn.take(some)))
        known = self.classes.setdefault(shape, [])
        numbers = class_numbers([shown(name, 60) for name in drawn["class"].to_pylist()], known, CLASSES_MAX)
        named = [*known, "other classes"] if CLASSES_MAX in numbers else list(known)
        return Panel(
            title=title(recipe),
            networks=rows.num_rows,
            explained=round(growing.explained, 4),
            classes=named,
            points=[
                (round(float(x), 4), round(float(y), 4), number)
                for (x, y), number in zip(places_N2, numbers, strict=True)
            ],
        )


def by_shape(zoo: Zoo, rows) -> list[tuple[Shape, list[int]]]:
    """(shape, its rows), the most frequent first."""
    found: dict[Shape, list[int]] = {}
    for digest, members in places_of(rows["recipe"]).items():
        found.setdefault(shape_of(zoo.recipe(digest)), []).extend(members)
    return [(shape, sorted(members)) for shape, members in sorted(found.items(), key=lambda item: -len(item[1]))]


def shape_of(recipe: Recipe) -> Shape:
    arrays = recipe.split(np.zeros((1, recipe.parameter_count), np.float32))
    return tuple((name, array.shape[1:]) for name, array in arrays.items())


def title(recipe: Recipe) -> str:
    """`4 gru, 4 linear; 4,364 parameters`: the layers that have weights."""
    kinds = Counter(type(layer).__name__.lower() for _, layer in weighted_layers(recipe))
    layers = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.items())
    return shown(f"{layers}; {recipe.parameter_count:,} parameters", 190)


def write_map(panels: Panels, path: Path, out: Path) -> int:
    """Write the map of the zoo's newest manifest; returns its number. Raises UsageError."""
    zoo = open_zoo(path)
    data = msgspec.json.encode(panels.draw(zoo))
    try:
        write_atomic(out, data)
    except OSError as error:
        raise UsageError(f"{out}: cannot write the map: {error.strerror or error}") from None
    return zoo.store.manifest.number


def watch(path: Path, out: Path, asked: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Write the map again for every new manifest, each time `asked` returns; until it returns False.

    A zoo that is not there yet is waited for. Raises UsageError: damaged, or the map cannot be written.
    """
    panels, drawn = Panels(), 0
    while asked():
        if max(manifest_numbers(path), default=0) == drawn:
            continue
        began = time.process_time()
        drawn = write_map(panels, path, out)
        took = time.process_time() - began
        say(f"manifest {drawn}: drawn in {took:.1f} s")
        time.sleep(min(REST_SECONDS_MAX, REST * took))


def every_so_often() -> bool:
    time.sleep(WATCH_SECONDS)
    return True


def when_asked() -> bool:
    """A line on the input asks, its end says that nobody will ask any more."""
    source = sys.stdin.fileno()
    select.select([source], [], [])
    return bool(os.read(source, 4096))


def run_map(path: Path, out: Path, watching: bool, by_lines: bool, say: Callable[[str], None]) -> None:
    """The verb. Raises UsageError."""
    os.nice(NICE)
    if by_lines:
        watch(path, out, when_asked, lambda text: None)
    elif watching:
        watch(path, out, every_so_often, say)
    else:
        say(f"manifest {write_map(Panels(), path, out)}: {out}")
