"""Many recipes from one: a campaign's `grid` and `sample` tables, written out into concrete recipes when it is loaded.

    [[populations]]
    recipe = "base.toml"
    seeds = "0:10"
    own_seeds = true                              # the second recipe takes 10:20, and so on; else all take 0:10
    class = "automaton-{task.index}"              # name and class may show fields that vary
    [populations.grid]                            # every combination
    "task.index" = "0:100"                        # or a list: [3, 5, 8]
    [populations.sample]                          # `count` draws for each of them
    count = 20
    "training.learning_rate" = { log_uniform = [1e-4, 1e-1] }
    "network.layers.0.width" = { integer = [4, 16] }
    "training.batch" = { choice = [16, 32] }

Draws are keyed by the campaign's name and the population without its seeds, so that more seeds later are more networks
of the same recipes. Hosts see the concrete recipes only; nobody else has to repeat the drawing.
"""

import copy
import itertools
import math
import re
from typing import Any

from protocol.canonical import canonical_json, sha256
from protocol.errors import RecipeError
from protocol.tasks.philox import random_words, stream_key

RECIPES_MAX = 1000  # what a campaign may hold
RANGE = re.compile(r"(\d{1,9}):(\d{1,9})")
FIELD = re.compile(r"\{([a-z0-9_.]+)\}")
TABLES = ("grid", "sample", "name", "class")
Values = dict[str, Any]


def expand(population: dict[str, Any], campaign: str, place: str) -> list[dict[str, Any]]:
    """A population whose `recipe` is a plain table -> one population a concrete recipe. Raises UsageError."""
    rest = {key: value for key, value in population.items() if key not in TABLES}
    if rest.keys() == population.keys():
        return [population]
    points = combinations(population.get("grid", {}), f"{place}.grid")
    told = {key: value for key, value in population.items() if key not in ("seeds", "bundle")}
    key = stream_key("sample", sha256(canonical_json([campaign, told])))
    drawn = [
        point | draw
        for i, point in enumerate(points)
        for draw in draws(population.get("sample", {}), key, i, f"{place}.sample")
    ]
    if len(drawn) > RECIPES_MAX:
        raise RecipeError(f"{place}: {len(drawn):,} recipes; a campaign has at most {RECIPES_MAX:,}")
    return [rest | {"recipe": write_out(population, values, i, len(drawn), place)} for i, values in enumerate(drawn)]


def combinations(grid: Any, place: str) -> list[Values]:
    """Every combination of the listed values, the last field fastest."""
    if not isinstance(grid, dict):
        raise RecipeError(f'{place}: a table of fields and lists, e.g. "training.learning_rate" = [0.001, 0.01]')
    lists = [listed(value, f"{place}.{path}") for path, value in grid.items()]
    if math.prod(map(len, lists)) > RECIPES_MAX:
        raise RecipeError(f"{place}: {math.prod(map(len, lists)):,} combinations; at most {RECIPES_MAX:,}")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]


def listed(value: Any, place: str) -> list[Any]:
    found = RANGE.fullmatch(value) if isinstance(value, str) else None
    if found and int(found[1]) < int(found[2]) <= int(found[1]) + RECIPES_MAX:
        return list(range(int(found[1]), int(found[2])))
    if not isinstance(value, list) or not value:
        raise RecipeError(f'{place}: a list of values, or "first:end" for whole numbers')
    if any(item in value[:i] for i, item in enumerate(value)):
        raise RecipeError(f"{place}: a value is there twice")
    return value


def draws(sample: Any, key: tuple[int, int], point: int, place: str) -> list[Values]:
    """`count` draws of every field for one point of the grid."""
    if sample == {}:
        return [{}]
    if not isinstance(sample, dict) or not isinstance(sample.get("count"), int) or sample["count"] < 1:
        raise RecipeError(f"{place}.count: how many draws, a whole number above 0")
    count, fields = sample["count"], sorted(path for path in sample if path != "count")
    if count > RECIPES_MAX:
        raise RecipeError(f"{place}.count: at most {RECIPES_MAX:,}")
    if not fields:
        raise RecipeError(f'{place}: name a field, e.g. "training.learning_rate" = {{ log_uniform = [1e-4, 1e-1] }}')
    each = 2 * len(fields)
    row = random_words(key, each * count, start=each * count * point).tolist()
    chances = [((row[i] >> 5) * 2**26 + (row[i + 1] >> 6)) / 2**53 for i in range(0, len(row), 2)]
    return [
        {path: draw(sample[path], chances[d * len(fields) + f], f"{place}.{path}") for f, path in enumerate(fields)}
        for d in range(count)
    ]


def draw(how: Any, chance: float, place: str) -> Any:
    """One value from a chance in [0, 1); real numbers have six digits, so that they are the same on every computer."""
    if isinstance(how, dict) and len(how) == 1:
        kind, bounds = next(iter(how.items()))
        if kind == "choice" and isinstance(bounds, list) and bounds:
            return bounds[int(chance * len(bounds))]
        numbers = isinstance(bounds, list) and len(bounds) == 2 and all(type(b) in (int, float) for b in bounds)
        if numbers and all(map(math.isfinite, bounds)) and bounds[0] < bounds[1]:
            low, high = bounds
            if kind == "uniform":
                return float(f"{low + chance * (high - low):.6g}")
            if kind == "log_uniform" and low > 0:
                return float(f"{math.exp(math.log(low) + chance * (math.log(high) - math.log(low))):.6g}")
            if kind == "integer" and type(low) is type(high) is int:
                return low + int(chance * (high - low + 1))
    raise RecipeError(
        f"{place}: one of {{ uniform = [low, high] }}, {{ log_uniform = [low, high] }} above 0, "
        "{ integer = [first, last] }, { choice = [...] }"
    )


def write_out(population: dict[str, Any], values: Values, index: int, count: int, place: str) -> dict[str, Any]:
    """The recipe's table with these values in it, and a name of its own."""
    recipe = copy.deepcopy(population["recipe"])
    for path, value in values.items():
        put(recipe, path, copy.deepcopy(value), place)  # a later path may lead into it
    default = f"{recipe.get('name', '')}.{index:0{len(str(count - 1))}d}" if count > 1 else recipe.get("name", "")
    recipe["name"] = fill(population.get("name", default), values, f"{place}.name")
    if "class" in population:
        recipe["class"] = fill(population["class"], values, f"{place}.class")
    return recipe


def put(recipe: dict[str, Any], path: str, value: Any, place: str) -> None:
    """`training.batch`, `network.layers.0.width`; optional fields may be new, tables and layers must be there."""
    *parents, last = path.split(".")
    table: Any = recipe
    for name in parents:
        if isinstance(table, list) and name.isdecimal() and int(name) < len(table):
            table = table[int(name)]
        elif isinstance(table, dict) and isinstance(table.get(name), (dict, list)):
            table = table[name]
        else:
            raise RecipeError(f"{place}: {path}: the recipe has no table {name!r} there")
    if isinstance(table, list) and last.isdecimal() and int(last) < len(table):
        table[int(last)] = value
    elif isinstance(table, dict):
        table[last] = value
    else:
        raise RecipeError(f"{place}: {path}: there is no {last!r} in that list")


def fill(text: Any, values: Values, place: str) -> str:
    """`automaton-{task.index}` with the values of this recipe; of a list, `3-8`."""
    if not isinstance(text, str):
        raise RecipeError(f"{place}: expected text")

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise RecipeError(f"{place}: {found[0]}: not a field of grid or sample")
        shown = values[found[1]]
        return "-".join(map(str, shown)) if isinstance(shown, list) else str(shown)

    return FIELD.sub(value, text)
