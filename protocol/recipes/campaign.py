"""A campaign: recipes x seed ranges, the trust policy, licence and citation. TOML in, exact bytes and digest out.

Assignment `i` is found by arithmetic, never by a list of all: every host that holds the same bytes finds the same.
"""

from bisect import bisect_right
from difflib import get_close_matches
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.canonical import canonical_json, convert, decode_toml, hexdigest
from protocol.errors import RecipeError, Refused
from protocol.files import read_limited
from protocol.recipes.recipe import ENGINE, RECIPE_BYTES_MAX, Recipe, check_recipe, from_canonical_bytes, parse_recipe
from protocol.recipes.sweep import expand
from protocol.tasks.fields import Name, StrictStruct

CAMPAIGN_BYTES_MAX = 1024 * 1024  # a thousand recipes; anything larger is a mistake
BUNDLE_BYTES_MAX = 64 * 1024 * 1024  # final weights of one bundle, as one upload
PROVING_SEGMENTS = 10  # of a network: how much of its training proves something of its host, once
DATA_SETS_MAX = 32  # a volunteer fetches them all
SEED_MAX = 2**31
ASSIGNMENTS_MAX = 1_000_000  # 16,000 keys in the DHT

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=0, le=10000)]
HostName = Annotated[str, Meta(pattern="^[A-Za-z0-9]{52}$")]  # a PeerID, as `zooswarm` prints it


class Policy(StrictStruct, frozen=True, kw_only=True):
    """How results are checked and how long hosts may take (docs/trust.md has the formulas and what each costs)."""

    probation_bundles: Count = 20  # a host's first admitted bundles are checked harder
    probation_checkers: Annotated[int, Meta(ge=1, le=64)] = 8
    probation_cells: Count = 4  # cells drawn for each checker, over the whole bundle
    checkers: Annotated[int, Meta(ge=1, le=64)] = 4
    cells: Count = 4
    cells_per_network: Annotated[int, Meta(ge=0, le=64)] = 0  # drawn in every single network, on top
    final_cell: bool = True  # the segment that ends in the published weights, of every network
    epoch_seconds: Seconds = 5.0  # the beacon reveals at most one link in this time
    opening_seconds: Seconds = 600.0  # a worker that opens nothing for so long voids its bundle
    answer_seconds: Seconds = 300.0  # then the next checker in the draw's order takes the place
    checks_at_once: Annotated[int, Meta(ge=1, le=1024)] = 8  # unanswered ones of a host; its others wait in order
    lease_seconds: Annotated[float, Meta(ge=5, le=300)] = 90.0
    settle_seconds: Annotated[float, Meta(ge=0.1, le=30)] = 1.0
    faults_before_ban: Annotated[int, Meta(ge=1, le=1000)] = 3
    vesting_bundles: Count = 50  # later clean bundles until a bundle's credit vests; a tenth of the campaign at most
    audit_share: Annotated[float, Meta(ge=0, le=1)] = 0.05  # admitted bundles of which the organizer trains one network
    fresh_pending: Annotated[int, Meta(ge=1, le=64)] = 4  # unsettled results of a host without standing
    named_checkers: Annotated[tuple[HostName, ...], Meta(max_length=64)] = ()  # may check in the organizer's place
    tickets: bool = False  # only hosts with a ticket that the organizer signed may hand in results


class Population(StrictStruct, frozen=True, kw_only=True):
    """One recipe trained from many seeds. Seeds are first_seed .. first_seed + count - 1, `bundle` to an assignment."""

    recipe: Recipe
    first_seed: Annotated[int, Meta(ge=0, lt=SEED_MAX)] = 0
    count: Annotated[int, Meta(ge=1, le=1_000_000)]
    bundle: Annotated[int, Meta(ge=1, le=256)] = 16

    @property
    def assignment_count(self) -> int:
        return -(-self.count // self.bundle)

    @property
    def largest_bundle(self) -> int:
        """Networks of its largest assignment."""
        return min(self.count, self.bundle)

    def seeds_of(self, index: int) -> tuple[int, ...]:
        """The seeds of its assignment `index`, counted from 0; the last one may have fewer."""
        first = index * self.bundle
        return tuple(range(self.first_seed + first, self.first_seed + min(self.count, first + self.bundle)))


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer claims: one recipe and a block of seeds, named by (campaign digest, index)."""

    campaign: str
    index: int
    recipe: Recipe
    seeds: tuple[int, ...]


class Campaign(StrictStruct, frozen=True, kw_only=True, dict=True):
    name: Name
    description: Annotated[str, Meta(max_length=2000)] = ""
    licence: Annotated[str, Meta(min_length=1, max_length=100)] = "CC-BY-4.0"
    citation: Annotated[str, Meta(max_length=2000)] = ""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    populations: Annotated[tuple[Population, ...], Meta(min_length=1, max_length=1000)]
    policy: Policy = Policy()

    @cached_property
    def exact(self) -> bytes:
        return canonical_json(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `exact`, 64 hex digits: the campaign's name."""
        return hexdigest(self.exact)

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """For each population, the index after its last assignment."""
        return tuple(accumulate(population.assignment_count for population in self.populations))

    @property
    def assignment_count(self) -> int:
        return self._ends[-1]

    def assignment(self, index: int) -> Assignment:
        """The assignment that bit `index` of the DHT's bitmaps stands for. Raises IndexError when there is none."""
        if not 0 <= index < self.assignment_count:
            raise IndexError(f"assignment {index}: this campaign has {self.assignment_count}")
        place = bisect_right(self._ends, index)
        population = self.populations[place]
        within = index - (self._ends[place - 1] if place else 0)
        return Assignment(
            campaign=self.digest, index=index, recipe=population.recipe, seeds=population.seeds_of(within)
        )

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        return {population.recipe.digest: population.recipe for population in self.populations}

    @cached_property
    def data_sets(self) -> tuple[str, ...]:
        """Digests of the data sets that its recipes name; every host needs them before it trains or checks."""
        return tuple(sorted({recipe.data_set for recipe in self.recipes.values() if recipe.data_set}))

    @cached_property
    def probation_credit(self) -> int:
        """Network-segments to a host's credit until it stands: those of `probation_bundles` bundles of middling size,
        of each network the first PROVING_SEGMENTS, or all of a short recipe.
        """
        proving = (p.count * min(PROVING_SEGMENTS, p.recipe.segments_max) for p in self.populations)
        return self.policy.probation_bundles * sum(proving) // self.assignment_count

    @property
    def network_count(self) -> int:
        return sum(population.count for population in self.populations)


def check_campaign(campaign: Campaign, source: str) -> Campaign:
    """What the types cannot say. Raises UsageError with the field's name."""
    taken: dict[str, list[tuple[int, int]]] = {}
    names: dict[str, str] = {}
    for i, population in enumerate(campaign.populations):
        place = f"populations[{i}]"
        recipe = check_recipe(population.recipe, f"{source}: {place}.recipe")
        first, end = population.first_seed, population.first_seed + population.count
        if end > SEED_MAX:
            raise RecipeError(f"{source}: {place}.seeds: seeds end below {SEED_MAX}")
        if any(first < other_end and other < end for other, other_end in taken.get(recipe.digest, [])):
            raise RecipeError(f"{source}: {place}.seeds: overlap with another population of the same recipe")
        taken.setdefault(recipe.digest, []).append((first, end))
        if names.setdefault(recipe.name, recipe.digest) != recipe.digest:
            raise RecipeError(f"{source}: {place}.recipe.name: two different recipes are called {recipe.name!r}")
        if 4 * recipe.parameter_count * population.bundle > BUNDLE_BYTES_MAX:
            raise RecipeError(f"{source}: {place}.bundle: too many networks of this size; make it smaller")
    if campaign.assignment_count > ASSIGNMENTS_MAX:
        raise RecipeError(f"{source}: more than {ASSIGNMENTS_MAX:,} assignments; make bundles larger, or two campaigns")
    if len(campaign.data_sets) > DATA_SETS_MAX:
        raise RecipeError(f"{source}: names {len(campaign.data_sets)} data sets; at most {DATA_SETS_MAX}, split it")
    if len(campaign.exact) > CAMPAIGN_BYTES_MAX:
        raise RecipeError(f"{source}: expands to more than {CAMPAIGN_BYTES_MAX:,} bytes; split the campaign")
    return campaign


def taken(population: dict, flag: str, place: str) -> bool:
    """Take a true-or-false field out of a population's table. Raises UsageError."""
    value = population.pop(flag, False)
    if not isinstance(value, bool):
        raise RecipeError(f"{place}.{flag}: expected true or false")
    return value


def load_campaign(path: Path) -> Campaign:
    """Read campaign.toml; `recipe` is a table, or the path of a recipe file beside it. Raises UsageError.

    In the file, a population says `seeds = "0:32"` (first : end, end excluded), and may stand for many recipes
    (`expansion`).
    """
    source = str(path)
    table = decode_toml(read_limited(path, CAMPAIGN_BYTES_MAX, "campaign"), source)
    populations = table.get("populations")
    if not isinstance(populations, list) or not all(isinstance(p, dict) for p in populations):
        raise RecipeError(f"{source}: populations: write one [[populations]] table or more")
    expanded: list[dict] = []
    for i, population in enumerate(populations):
        place = f"{source}: populations[{i}]"
        recipe = population.get("recipe")
        if isinstance(recipe, str):
            place_of_recipe = str(path.parent / recipe)
            data = read_limited(path.parent / recipe, RECIPE_BYTES_MAX, "recipe")
            population["recipe"] = decode_toml(data, place_of_recipe)
        elif isinstance(recipe, dict):
            place_of_recipe = f"{place}.recipe"
        else:
            raise RecipeError(f"{place}.recipe: the path of a recipe file, or a table")
        for field in ("first_seed", "count"):
            if field in population:
                raise RecipeError(f'{place}.{field}: there is no such field; write seeds = "first:end"')
        if "seeds" not in population:
            meant = "".join(f"; is {name} meant to be it?" for name in get_close_matches("seeds", population, 1))
            raise RecipeError(f'{place}.seeds: write seeds = "first:end"{meant}')
        first, count = parse_seeds(population.get("seeds"), f"{place}.seeds")
        step = count if taken(population, "own_seeds", place) else 0
        for k, one in enumerate(expand(population, str(table.get("name", "")), place)):
            one["recipe"] = parse_recipe(one["recipe"], place_of_recipe)
            seeds = {"first_seed": first + k * step, "count": count}
            expanded.append({key: value for key, value in one.items() if key != "seeds"} | seeds)
    return check_campaign(convert(table | {"populations": expanded}, Campaign, source), source)


def parse_seeds(text: object, place: str) -> tuple[int, int]:
    """`"3:8"` -> (3, 5): first seed and count. Raises UsageError."""
    if isinstance(text, str):
        first, colon, end = text.partition(":")
        if colon and first.isdecimal() and end.isdecimal() and int(first) < int(end) <= SEED_MAX:
            return int(first), int(end) - int(first)
    raise RecipeError(f'{place}: expected "first:end" with 0 <= first < end <= {SEED_MAX}, got {str(text)[:40]!r}')


def follow_up(campaign: Campaign, seeds: str) -> Campaign:
    """More networks of the same populations: a campaign of its own, so all that was signed for the first one stands.

    `seeds`: "first:end". Raises UsageError: networks that the first one has, or populations with seeds of their own.
    """
    first, count = parse_seeds(seeds, "--seeds")
    if len({population.first_seed for population in campaign.populations}) > 1:
        raise RecipeError("--seeds: this campaign's populations have seeds of their own; write another file for more")
    populations = []
    for population in campaign.populations:
        if first < population.first_seed + population.count and population.first_seed < first + count:
            end = population.first_seed + population.count
            raise RecipeError(
                f"--seeds {seeds}: the campaign has {population.first_seed}:{end} already; begin at {end}"
            )
        populations.append(msgspec.structs.replace(population, first_seed=first, count=count))
    name = f"{campaign.name[:40]}-{first}-{first + count}"
    more = msgspec.structs.replace(campaign, name=name, populations=tuple(populations))
    return check_campaign(convert(msgspec.to_builtins(more), Campaign, "--seeds"), "--seeds")


def check_engines(campaign: Campaign) -> None:
    """Raises Refused: networks whose bits this version does not compute; nobody here could train or check them."""
    for recipe in campaign.recipes.values():
        if recipe.engine != ENGINE:
            raise Refused("campaign-engine", f"it is trained with {recipe.engine}; this version has {ENGINE}")


def campaign_from_bytes(data: bytes) -> Campaign:
    """Canonical campaign bytes from another host. Raises Refused."""
    return from_canonical_bytes(data, "campaign", CAMPAIGN_BYTES_MAX, Campaign, check_campaign)
