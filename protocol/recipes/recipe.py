"""A recipe: everything that determines a network except its seed. TOML in, exact bytes and digest out.

Recipes are data, never code. The digest is the SHA-256 of the canonical JSON without fields that have their default,
so two TOML files that differ only in comments, order or spelled-out defaults name the same population of networks, and
a new optional field leaves all older digests as they are. A default, once released, never changes.
"""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from protocol.canonical import NOT_DECODABLE, canonical_json, convert, decode_toml, hexdigest, readable, sha256
from protocol.errors import RecipeError, Refused, UsageError
from protocol.files import read_limited
from protocol.recipes.layers import NO_BATCHNORM, Arrays, Flow, Layer, arrays_of, flow_after, values_kept
from protocol.tasks.dataset_names import digest_of
from protocol.tasks.fields import Decay, Name, Rate, StrictStruct
from protocol.tasks.kinds import DatasetTask, Task, TaskShape, check_task, task_shape, with_task_kinds

A = TypeVar("A")
T = TypeVar("T")
C = TypeVar("C", bound=StrictStruct)

ENGINE = "exact-2"  # the arithmetic that this version computes
RECORDED_ENGINE = "exact-1"  # that of recorded recipes which name none: version 0.1 had no other
RECIPE_BYTES_MAX = 64 * 1024  # a recipe is a page of text
SCALARS_MAX = 4_000_000  # parameters: 16 MB a network; more would not fit a volunteer's memory by the hundred
STREAMS = ("init", "order", "data")
Stream = Literal["init", "order", "data"]
FIXED_SEED = 0  # keys the streams that a recipe does not let vary
VARIED_BYTES_MAX = 16 * 1024 * 1024  # training data of one network, when every network has its own
VALUES_MAX = 2_000_000  # values kept for one sample: 128 MB for the 16 samples that a thread works on


class Span(NamedTuple):
    """One parameter array's place among the flat parameters (P,): from `begin` to before `end`."""

    name: str  # as the torch module names it: `0.weight_ih_l0`
    layer: int
    shape: tuple[int, ...]
    begin: int
    end: int


class Network(StrictStruct, frozen=True, kw_only=True):
    layers: Annotated[tuple[Layer, ...], Meta(min_length=1, max_length=32)]
    init: Annotated[str, Meta(pattern=r"^(pytorch|xavier|he|orthogonal|constant)\Z")] = "pytorch"
    init_draw: Annotated[str, Meta(pattern=r"^(uniform|normal)\Z")] = "uniform"  # xavier and he
    init_gain: Annotated[float, Meta(gt=0, le=100)] = 1.0  # xavier, he and orthogonal
    init_value: Annotated[float, Meta(ge=-100, le=100)] = 0.0  # constant


class Resistance(StrictStruct, frozen=True, kw_only=True):
    """Training against corrupted parameters (after Sun et al., AAAI 2021; with share 1 it is sharpness-aware).

    The gradient becomes (1 - share) * g(w) + share * g(w + a), with a along g(w) and |a| = radius * |w|; a batch costs
    twice as much.
    """

    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    radius: Annotated[float, Meta(gt=0, le=1)] = 0.01  # of the parameters' norm
    begin: Annotated[int, Meta(ge=0, le=10_000_000)] = 0  # the first step, from 0, that does it


class Training(StrictStruct, frozen=True, kw_only=True):
    loss: Annotated[str, Meta(pattern=r"^(mse|bce|cross_entropy)\Z")] = "mse"
    optimizer: Annotated[str, Meta(pattern=r"^(adam|adamw|sgd|rmsprop)\Z")] = "adam"
    learning_rate: Rate
    beta1: Decay = 0.9  # adam, adamw
    beta2: Decay = 0.999  # adam, adamw
    alpha: Decay = 0.99  # rmsprop
    momentum: Decay = 0.0  # sgd, rmsprop
    nesterov: bool = False  # sgd
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.0
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 1e-8  # adam, adamw, rmsprop
    clip_norm: Annotated[float, Meta(ge=0, le=1e6)] = 0.0  # 0: gradients are not clipped
    resist: Resistance | None = None
    schedule: Annotated[str, Meta(pattern=r"^(constant|step|cosine)\Z")] = "constant"
    warmup_steps: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # the rate rises linearly over these
    decay_every: Annotated[int, Meta(ge=0, le=10_000_000)] = 0  # schedule step: steps between two decays
    decay_factor: Annotated[float, Meta(gt=0, le=1)] = 0.1  # schedule step
    final_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0  # schedule cosine: what it ends at
    batch: Annotated[int, Meta(ge=1, le=1024)]
    max_steps: Annotated[int, Meta(ge=1, le=10_000_000)]
    segment_steps: Annotated[int, Meta(ge=1, le=1000)] = 50
    stop_held_out_loss: Annotated[float, Meta(ge=0, le=1e6)] = 0.0  # a network at or below this stops; 0: never


class Recipe(StrictStruct, frozen=True, kw_only=True, dict=True):
    name: Name
    label: Name = msgspec.field(name="class")
    untold: ClassVar[dict[str, str]] = {"engine": RECORDED_ENGINE}  # canonical bytes name every other engine
    engine: Annotated[str, Meta(pattern=r"^exact-[12]\Z")] = ENGINE
    vary: Annotated[tuple[Stream, ...], Meta(min_length=1, max_length=3)] = ("init", "order")  # what the seed decides
    twin: Annotated[str, Meta(max_length=64, pattern=r"^([a-z0-9][a-z0-9._-]*)?\Z")] = (
        ""  # whose random draws it shares
    )
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
    def data_set(self) -> str | None:
        """Digest of the data set that it is trained on; None when its data are generated."""
        return digest_of(self.task.data) if isinstance(self.task, DatasetTask) else None

    @cached_property
    def stream_root(self) -> bytes:
        """What keys initial weights, order and dropout: the recipe, or the twin's name that other recipes state too."""
        return sha256(b"zooswarm/twin/1\0", self.twin.encode()) if self.twin else bytes.fromhex(self.digest)

    def stream_seed(self, stream: Stream, seed: int) -> int:
        """The seed that keys this stream: the network's own, or the same for all when the recipe keeps it fixed."""
        return seed if stream in self.vary else FIXED_SEED

    @property
    def segments_max(self) -> int:
        """Of a network that never meets its stop rule."""
        return -(-self.training.max_steps // self.training.segment_steps)

    @cached_property
    def task_shape(self) -> TaskShape:
        return task_shape(self.task)

    @cached_property
    def flows(self) -> tuple[Flow, ...]:
        """What flows into the first layer, and out of each. Raises ValueError, with the layer, if one does not fit."""
        flows = [Flow(self.task_shape.input, self.task_shape.length)]
        for i, layer in enumerate(self.network.layers):
            try:
                flows.append(flow_after(layer, flows[-1]))
            except ValueError as error:
                raise ValueError(f"network.layers[{i}]: {error}") from None
        return tuple(flows)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Where each parameter array stands among the flat parameters, in flat order."""
        begin, spans = 0, []
        for i, layer in enumerate(self.network.layers):
            for name, shape in arrays_of(layer, self.flows[i]):
                end = begin + math.prod(shape)
                spans.append(Span(f"{i}.{name}", i, shape, begin, end))
                begin = end
        return tuple(spans)

    @cached_property
    def shapes(self) -> Arrays:
        """(name, shape) of every parameter array in flat order, named as the torch module names them."""
        return tuple((span.name, span.shape) for span in self.spans)

    @cached_property
    def parameter_count(self) -> int:
        return self.spans[-1].end if self.spans else 0

    def split(self, flat: A) -> dict[str, A]:
        """Flat parameters (..., P), of NumPy or torch -> views by array name, each (..., *shape), in flat order."""
        values: Any = flat
        return {s.name: values[..., s.begin : s.end].reshape(*values.shape[:-1], *s.shape) for s in self.spans}

    def join(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """What `split` took apart, as a new array (..., P)."""
        blocks = [(arrays[s.name], len(s.shape)) for s in self.spans]
        return np.concatenate([array.reshape(*array.shape[: array.ndim - axes], -1) for array, axes in blocks], axis=-1)


# Fields that only some choices read; stated elsewhere, they would change the digest and nothing else.
TRAINING_FIELDS = (
    ("optimizer", "beta1", {"adam", "adamw"}),
    ("optimizer", "beta2", {"adam", "adamw"}),
    ("optimizer", "alpha", {"rmsprop"}),
    ("optimizer", "momentum", {"sgd", "rmsprop"}),
    ("optimizer", "nesterov", {"sgd"}),
    ("optimizer", "epsilon", {"adam", "adamw", "rmsprop"}),
    ("schedule", "decay_every", {"step"}),
    ("schedule", "decay_factor", {"step"}),
    ("schedule", "final_rate", {"cosine"}),
)
NETWORK_FIELDS = (
    ("init", "init_draw", {"xavier", "he"}),
    ("init", "init_gain", {"xavier", "he", "orthogonal"}),
    ("init", "init_value", {"constant"}),
)
LOSS_TARGETS = {"mse": ("pins", "values"), "bce": ("pins",), "cross_entropy": ("classes",)}


def check_recipe(recipe: Recipe, source: str) -> Recipe:
    """What the types cannot say: names that exist, shapes that fit. Raises UsageError with the field's name."""
    check_task(recipe.task, source)
    _check_vary(recipe, source)
    try:
        flows = recipe.flows
    except ValueError as error:
        raise RecipeError(f"{source}: {error}") from None
    _check_outputs(recipe, flows[-1], source)
    if not recipe.shapes:
        raise RecipeError(f"{source}: network.layers: no layer has parameters; add a gru or linear layer")
    if recipe.parameter_count > SCALARS_MAX:
        raise RecipeError(
            f"{source}: network.layers: {recipe.parameter_count:,} parameters; the limit is {SCALARS_MAX:,}"
        )
    values = sum(values_kept(layer, flow) for layer, flow in zip(recipe.network.layers, flows, strict=False))
    if values > VALUES_MAX:
        raise RecipeError(f"{source}: network.layers: {values:,} values for each sample; the limit is {VALUES_MAX:,}")
    _check_training(recipe, source)
    return recipe


def _check_vary(recipe: Recipe, source: str) -> None:
    if recipe.vary != tuple(stream for stream in STREAMS if stream in recipe.vary):
        raise RecipeError(f"{source}: vary: each at most once, in this order: {', '.join(STREAMS)}")
    shape = recipe.task_shape
    if "data" in recipe.vary and 4 * math.prod(shape.input) * shape.length * shape.samples > VARIED_BYTES_MAX:
        raise RecipeError(
            f"{source}: vary: too many training samples for each network to have its own; fewer, or fix data"
        )


def _check_outputs(recipe: Recipe, output: Flow, source: str) -> None:
    shape, loss = recipe.task_shape, recipe.training.loss
    what = {"pins": "output pins", "values": "target values", "classes": "classes"}[shape.target]
    if len(output.shape) != 1:
        raise RecipeError(f"{source}: network.layers: the network ends in an image {output.shape}; end with flatten")
    if output.features != shape.width:
        raise RecipeError(
            f"{source}: network.layers: the last width is {output.features}; the task shows {shape.width} {what}"
        )
    if output.length != shape.target_length:
        mend = "; end the sequence with a last layer" if shape.target_length == 1 else "; leave the last layer out"
        raise RecipeError(
            f"{source}: network.layers: the network gives {output.length} time steps; "
            f"the task has targets for {shape.target_length}{mend}"
        )
    if shape.target not in LOSS_TARGETS[loss]:
        good = ", ".join(name for name, targets in LOSS_TARGETS.items() if shape.target in targets)
        raise RecipeError(f"{source}: training.loss: {loss} does not fit targets that are {shape.target}; use {good}")


def _check_training(recipe: Recipe, source: str) -> None:
    t, samples = recipe.training, recipe.task_shape.samples
    if t.batch > samples:
        field = "sequences" if recipe.task_shape.length > 1 else "samples"
        raise RecipeError(f"{source}: training.batch: larger than task.{field} ({samples})")
    for group, struct, fields in (("training", t, TRAINING_FIELDS), ("network", recipe.network, NETWORK_FIELDS)):
        defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
        for choice, field, readers in fields:
            if getattr(struct, field) != defaults[field] and getattr(struct, choice) not in readers:
                raise RecipeError(
                    f"{source}: {group}.{field}: {choice} {getattr(struct, choice)} does not read it; "
                    f"only {', '.join(sorted(readers))}"
                )
    if t.nesterov and not t.momentum:
        raise RecipeError(f"{source}: training.nesterov: needs a momentum above 0")
    if t.schedule == "step" and not t.decay_every:
        raise RecipeError(f"{source}: training.decay_every: schedule step needs the number of steps between two decays")
    if t.warmup_steps >= t.max_steps:
        raise RecipeError(f"{source}: training.warmup_steps: must be smaller than max_steps ({t.max_steps})")
    if t.resist is not None and t.resist.begin >= t.max_steps:
        raise RecipeError(f"{source}: training.resist.begin: must be smaller than max_steps ({t.max_steps})")


def parse_recipe(value: dict, source: str) -> Recipe:
    """A parsed TOML table -> Recipe. Raises UsageError: one line, with `source` and the field's name."""
    _refuse_batchnorm(value, source)
    recipe = convert(with_task_kinds(value), Recipe, source)
    check_engine(recipe, source)
    return check_recipe(recipe, source)


def check_engine(recipe: Recipe, source: str) -> None:
    """Raises UsageError: a recipe of an older version, whose bits this one does not compute."""
    if recipe.engine != ENGINE:
        raise RecipeError(
            f"{source}: its networks are those of the engine {recipe.engine}, which this version cannot compute: "
            f"it has {ENGINE}"
        )


def _refuse_batchnorm(value: dict, source: str) -> None:
    network = value.get("network")
    layers = network.get("layers") if isinstance(network, dict) else None
    for i, layer in enumerate(layers if isinstance(layers, list) else []):
        if isinstance(layer, dict) and str(layer.get("kind", "")).startswith("batchnorm"):
            raise RecipeError(f"{source}: network.layers[{i}].kind: {NO_BATCHNORM}")


def decode_recorded(data: bytes, kind: type[T]) -> T:
    """JSON bytes -> a record that holds recipes, whose machine tasks say no `kind`, and whose engine may be untold.

    Raises msgspec's errors.
    """
    raw: Any = msgspec.json.decode(data)
    return msgspec.convert(_with_engines(with_task_kinds(raw)), kind)


def _with_engines(value: Any) -> Any:
    """Decoded JSON with an engine in every recipe, at any depth."""
    if isinstance(value, list):
        return [_with_engines(item) for item in value]
    if not isinstance(value, dict):
        return value
    untold = {"engine": RECORDED_ENGINE} if {"task", "network", "training"} <= value.keys() else {}
    return untold | {key: _with_engines(item) for key, item in value.items()}


def from_canonical_bytes(data: bytes, what: str, most: int, kind: type[C], check: Callable[[C, str], C]) -> C:
    """A peer's bytes -> a checked record. Raises Refused unless they are exactly what we would have written."""
    if len(data) > most:
        raise Refused(f"{what}-size", f"{len(data)} bytes")
    try:
        found = check(decode_recorded(data, kind), what)
    except msgspec.ValidationError as error:
        raise Refused(f"{what}-schema", readable(error)) from None
    except NOT_DECODABLE as error:
        raise Refused(f"{what}-json", str(error)) from None
    except UsageError as error:
        raise Refused(f"{what}-value", str(error)) from None
    if canonical_json(found) != data:
        raise Refused(f"{what}-canonical", "the bytes are not in canonical form")
    return found


def load_recipe(path: Path) -> Recipe:
    """Read a recipe's TOML file. Raises UsageError."""
    return parse_recipe(decode_toml(read_limited(path, RECIPE_BYTES_MAX, "recipe"), str(path)), str(path))


def recipe_from_bytes(data: bytes) -> Recipe:
    """Canonical recipe bytes from another host. Raises Refused."""
    return from_canonical_bytes(data, "recipe", RECIPE_BYTES_MAX, Recipe, check_recipe)
