"""A recipe: everything that determines a network except its seed. TOML in, exact bytes and digest out.

Recipes are data, never code. The digest is the SHA-256 of the canonical JSON without fields that have their default,
so two TOML files that differ only in comments, order or spelled-out defaults name the same population of networks, and
a new optional field leaves all older digests as they are. A default, once released, never changes.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.canonical import canonical_json, convert, decode_toml, hexdigest, read_limited, readable
from protocol.errors import Refused, UsageError

RECIPE_BYTES_MAX = 64 * 1024  # a recipe is a page of text
COMMAND_BITS, PIN_COUNT = 9, 20  # what a device machine reads and shows at each step
SCALARS_MAX = 4_000_000  # parameters: 16 MB a network; more would not fit a volunteer's memory by the hundred

Width = Annotated[int, Meta(ge=1, le=4096)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._+-]{0,63}$")]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that is parsed: immutable, no unknown field tolerated. kw_only is not inherited: repeat it."""


class Gru(Record, frozen=True, kw_only=True, tag_field="kind", tag="gru"):
    """PyTorch's GRU cell over the sequence; weights in nn.GRU's order (r, z, n)."""

    width: Width


class Linear(Record, frozen=True, kw_only=True, tag_field="kind", tag="linear"):
    """Affine map applied at every time step."""

    width: Width


class Relu(Record, frozen=True, kw_only=True, tag_field="kind", tag="relu"):
    """max(x, 0)."""


Layer = Gru | Linear | Relu


class Task(Record, frozen=True, kw_only=True):
    """A device machine and how many random command sequences to watch it for."""

    machine: str
    length: Annotated[int, Meta(ge=1, le=256)]  # commands in a sequence
    sequences: Annotated[int, Meta(ge=1, le=65536)]  # training sequences, the same for every seed
    held_out: Annotated[int, Meta(ge=1, le=8192)]  # held-out sequences, the same for every seed


class Network(Record, frozen=True, kw_only=True):
    layers: Annotated[tuple[Layer, ...], Meta(min_length=1, max_length=32)]


class Training(Record, frozen=True, kw_only=True):
    loss: Annotated[str, Meta(pattern="^mse$")] = "mse"
    optimizer: Annotated[str, Meta(pattern="^adam$")] = "adam"
    learning_rate: Rate
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 1e-8
    batch: Annotated[int, Meta(ge=1, le=1024)]
    max_steps: Annotated[int, Meta(ge=1, le=10_000_000)]
    segment_steps: Annotated[int, Meta(ge=1, le=1000)] = 50
    stop_held_out_loss: Annotated[float, Meta(ge=0, le=1e6)] = 0.0  # a network at or below this stops; 0: never


class Recipe(Record, frozen=True, kw_only=True, dict=True):
    name: Name
    label: Name = msgspec.field(name="class")
    engine: Annotated[str, Meta(pattern="^exact-1$")] = "exact-1"
    task: Task
    network: Network
    training: Training

    @cached_property
    def exact(self) -> bytes:
        """The canonical bytes that are signed and hashed."""
        return canonical_json(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `exact`, 64 hex digits: the population's name."""
        return hexdigest(self.exact)

    @cached_property
    def segments_max(self) -> int:
        """Segments of a network that never meets its stop rule; the last one may be shorter."""
        return -(-self.training.max_steps // self.training.segment_steps)

    @cached_property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(name, shape) of every parameter array in flat order, named as the torch module names them."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        width = COMMAND_BITS
        for i, layer in enumerate(self.network.layers):
            if isinstance(layer, Gru):
                gates = 3 * layer.width
                shapes += [
                    (f"{i}.weight_ih_l0", (gates, width)),
                    (f"{i}.weight_hh_l0", (gates, layer.width)),
                    (f"{i}.bias_ih_l0", (gates,)),
                    (f"{i}.bias_hh_l0", (gates,)),
                ]
            elif isinstance(layer, Linear):
                shapes += [(f"{i}.weight", (layer.width, width)), (f"{i}.bias", (layer.width,))]
            width = getattr(layer, "width", width)
        return tuple(shapes)

    @cached_property
    def parameter_count(self) -> int:
        total = 0
        for _, shape in self.shapes:
            count = 1
            for n in shape:
                count *= n
            total += count
        return total

    @cached_property
    def output_width(self) -> int:
        width = COMMAND_BITS
        for layer in self.network.layers:
            width = getattr(layer, "width", width)
        return width


def check_recipe(recipe: Recipe, source: str) -> Recipe:
    """What the types cannot say: names that exist, shapes that fit. Raises UsageError with the field's name."""
    from protocol.machines import MACHINES

    if recipe.task.machine not in MACHINES:
        raise UsageError(
            f"{source}: task.machine: unknown machine {recipe.task.machine!r}; one of {', '.join(MACHINES)}"
        )
    if recipe.output_width != PIN_COUNT:
        raise UsageError(
            f"{source}: network.layers: the last width is {recipe.output_width}; the task shows {PIN_COUNT} output pins"
        )
    if not recipe.shapes:
        raise UsageError(f"{source}: network.layers: no layer has parameters; add a gru or linear layer")
    if recipe.parameter_count > SCALARS_MAX:
        raise UsageError(
            f"{source}: network.layers: {recipe.parameter_count:,} parameters; the limit is {SCALARS_MAX:,}"
        )
    if recipe.training.batch > recipe.task.sequences:
        raise UsageError(f"{source}: training.batch: larger than task.sequences ({recipe.task.sequences})")
    return recipe


def parse_recipe(value: dict, source: str) -> Recipe:
    """A parsed TOML table -> Recipe. Raises UsageError: one line, with `source` and the field's name."""
    return check_recipe(convert(value, Recipe, source), source)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe's TOML file. Raises UsageError."""
    return parse_recipe(decode_toml(read_limited(path, RECIPE_BYTES_MAX, "recipe"), str(path)), str(path))


def recipe_from_bytes(data: bytes) -> Recipe:
    """Canonical recipe bytes from another host. Raises Refused unless they are exactly what we would have written."""
    if len(data) > RECIPE_BYTES_MAX:
        raise Refused("recipe-size", f"{len(data)} bytes")
    try:
        recipe = check_recipe(msgspec.json.decode(data, type=Recipe), "recipe")
    except msgspec.ValidationError as error:
        raise Refused("recipe-schema", readable(error)) from None
    except msgspec.DecodeError as error:
        raise Refused("recipe-json", str(error)) from None
    except UsageError as error:
        raise Refused("recipe-value", str(error)) from None
    if recipe.exact != data:
        raise Refused("recipe-canonical", "the bytes are not in canonical form")
    return recipe
