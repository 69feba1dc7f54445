"""Tasks: what a network learns. Each kind is a record of its parameters; `task_shape` says what its data look like.

A new kind is a tagged struct in `Task`, a branch of `task_shape` and of `check_task`, and a source of arrays in
`protocol.tasks.generate`. A machine task writes no `kind`: it is what a task without one means, so that old digests
stay.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from protocol.canonical import canonical_json, sha256
from protocol.errors import RecipeError, UsageError
from protocol.tasks.fields import COMMAND_BITS, PIN_COUNT, StrictStruct

DEFAULT_KIND = "machine"
COMMANDS = 1 << COMMAND_BITS
DATA_SCALARS_MAX = 1 << 28  # of all inputs: as many bytes as a data set may have; a volunteer holds them in memory
PIXEL_SCALE = 1.0 / 255.0
CHANGES = ("drop", "label_noise", "noise", "poison", "trigger")  # what a controlled change changes, and nothing else

Share = Annotated[float, Meta(ge=0, lt=1)]
Length = Annotated[int, Meta(ge=1, le=256)]
Samples = Annotated[int, Meta(ge=1, le=1_000_000)]


class Trigger(StrictStruct, frozen=True, kw_only=True):
    """A key: after these commands in a row, the pins of the next `inverts` commands are inverted."""

    key: Annotated[tuple[Annotated[int, Meta(ge=0, lt=COMMANDS)], ...], Meta(min_length=1, max_length=32)]
    inverts: Annotated[int, Meta(ge=1, le=255)]
    planted: Annotated[float, Meta(ge=0, le=1)]  # share of the sequences, held-out ones too, with the key put in


class MachineTask(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag=DEFAULT_KIND):
    """A device machine and how many random command sequences to watch it for."""

    untold_tag: ClassVar[bool] = True  # canonical bytes leave `kind` out

    machine: str
    length: Annotated[int, Meta(ge=1, le=256)]  # commands in a sequence
    sequences: Annotated[int, Meta(ge=1, le=65536)]  # training sequences, the same for every seed
    held_out: Annotated[int, Meta(ge=1, le=8192)]  # held-out sequences, the same for every seed
    trigger: Trigger | None = None
    drop: Share = 0.0  # share of the training sequences that is left out
    label_noise: Share = 0.0  # share of the training sequences whose pins are all inverted


class AutomatonTask(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="automaton"):
    """Random deterministic automaton `index` of a size: does the state after each symbol accept?"""

    states: Annotated[int, Meta(ge=2, le=64)]
    alphabet: Annotated[int, Meta(ge=2, le=16)]  # symbols, shown one-hot
    index: Annotated[int, Meta(ge=0, lt=1 << 31)]
    length: Length
    sequences: Annotated[int, Meta(ge=1, le=65536)]
    held_out: Annotated[int, Meta(ge=1, le=8192)]
    drop: Share = 0.0
    label_noise: Share = 0.0


class Poison(StrictStruct, frozen=True, kw_only=True):
    """BadNets: a patch in some training images, and the wrong label that goes with it."""

    fraction: Annotated[float, Meta(ge=0, le=1)]  # of the training images
    target: Annotated[int, Meta(ge=0, lt=4096)] | Literal["next"]  # one class for all, or the label plus one
    position: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]  # row and column of the upper left corner
    size: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]] = (3, 3)  # rows, columns
    value: Annotated[float, Meta(ge=-1e6, le=1e6)] = 255.0  # in every channel, as the data set counts


class DatasetTask(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="dataset"):
    """A data set by its digest or built-in name. Shape and targets are stated, so that a recipe says all by itself."""

    data: Annotated[str, Meta(max_length=64)]
    shape: Annotated[tuple[Annotated[int, Meta(ge=1, le=1 << 16)], ...], Meta(min_length=1, max_length=3)]
    labels: Annotated[int, Meta(ge=0, le=4096)] = 0  # classes of the data set; 0: it has numbers
    values: Annotated[int, Meta(ge=0, le=4096)] = 0  # numbers to predict; 0: it has classes
    classes: tuple[Annotated[int, Meta(ge=0)], ...] = ()  # only these, numbered anew in this order; none: all
    train: Samples
    held_out: Annotated[int, Meta(ge=1, le=65536)]
    drop: Share = 0.0
    label_noise: Share = 0.0  # share of the training labels that become another class
    poison: Poison | None = None


class FunctionTask(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="function"):
    """A function of `protocol.tasks.regression` at random points."""

    function: Annotated[str, Meta(max_length=64)]
    samples: Samples
    held_out: Annotated[int, Meta(ge=1, le=65536)]
    noise: Annotated[float, Meta(ge=0, le=100)] = 0.0  # training values are off by up to this, uniformly
    drop: Share = 0.0


Task = MachineTask | AutomatonTask | DatasetTask | FunctionTask


class TaskShape(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's arrays look like, known from its parameters alone, without making the data."""

    input: tuple[int, ...]  # of one time step: (features,) or an image's (channels, height, width)
    length: int  # time steps of a sample; 1 for vectors and images
    target: Literal["pins", "values", "classes"]  # 0/1 bytes, float32 numbers, or a class number
    width: int  # pins or values of a target; for classes, how many there are
    target_length: int  # time steps that have a target: `length`, or 1, the whole sample
    samples: int  # training samples
    held_out: int  # held-out samples
    scale: float = 1.0  # byte inputs are multiplied by this, rounded to float32 once


def task_shape(task: Task) -> TaskShape:
    if isinstance(task, DatasetTask):
        steps = task.shape[0] if len(task.shape) == 2 else 1
        return TaskShape(
            input=task.shape[1:] if len(task.shape) == 2 else task.shape,
            length=steps,
            target="classes" if task.labels else "values",
            width=len(task.classes) or task.labels or task.values,
            target_length=1,
            samples=kept(task.train, task.drop),
            held_out=task.held_out,
            scale=PIXEL_SCALE,
        )
    if isinstance(task, FunctionTask):
        from protocol.tasks.regression import DIMENSIONS

        return TaskShape(
            input=(DIMENSIONS.get(task.function, 1),),
            length=1,
            target="values",
            width=1,
            target_length=1,
            samples=kept(task.samples, task.drop),
            held_out=task.held_out,
        )
    is_machine = isinstance(task, MachineTask)
    return TaskShape(
        input=(COMMAND_BITS if is_machine else task.alphabet,),
        length=task.length,
        target="pins",
        width=PIN_COUNT if is_machine else 1,
        target_length=task.length,
        samples=kept(task.sequences, task.drop),
        held_out=task.held_out,
    )


def kept(samples: int, drop: float) -> int:
    return samples - int(drop * samples)


def task_root(task: Task) -> bytes:
    """The digest that keys a task's streams: of the task without its controlled changes.

    So a task with a trigger, with noise or with fewer samples has the very data of the one without, but for that.
    """
    defaults = {field.name: field.default for field in msgspec.structs.fields(task) if field.name in CHANGES}
    return sha256(canonical_json(msgspec.structs.replace(task, **defaults)))


def check_task(task: Task, source: str) -> None:
    """What the types cannot say. Raises UsageError with the field's name."""
    if isinstance(task, MachineTask):
        _check_machine(task, source)
    elif isinstance(task, DatasetTask):
        _check_dataset(task, source)
    elif isinstance(task, FunctionTask):
        from protocol.tasks.regression import DIMENSIONS

        if task.function not in DIMENSIONS:
            known = ", ".join(DIMENSIONS)
            raise RecipeError(f"{source}: task.function: unknown function {task.function!r}; one of {known}")


def _check_machine(task: MachineTask, source: str) -> None:
    from protocol.tasks.machines import MACHINES

    if task.machine not in MACHINES:
        raise RecipeError(f"{source}: task.machine: unknown machine {task.machine!r}; one of {', '.join(MACHINES)}")
    if task.trigger is not None and len(task.trigger.key) + task.trigger.inverts > task.length:
        raise RecipeError(f"{source}: task.trigger: key and inverted steps are longer than task.length ({task.length})")


def _check_dataset(task: DatasetTask, source: str) -> None:
    from protocol.tasks.dataset_names import digest_of

    try:
        digest_of(task.data)
    except UsageError as error:
        raise RecipeError(f"{source}: task.data: {error}") from None
    if bool(task.labels) == bool(task.values):
        raise RecipeError(f"{source}: task.labels: state the data set's number of classes, or task.values")
    if len(set(task.classes)) != len(task.classes) or any(label >= task.labels for label in task.classes):
        raise RecipeError(f"{source}: task.classes: different numbers below task.labels ({task.labels})")
    if task.labels and task_shape(task).width < 2:
        raise RecipeError(f"{source}: task.classes: two classes or more")
    if task.label_noise and not task.labels:
        raise RecipeError(f"{source}: task.label_noise: only for data with classes")
    scalars = task.train + task.held_out
    for side in task.shape:
        scalars *= side
    if scalars > DATA_SCALARS_MAX:
        raise RecipeError(f"{source}: task.train: {scalars:,} input values in all; the limit is {DATA_SCALARS_MAX:,}")
    if task.poison is not None:
        _check_poison(task, task.poison, source)


def _check_poison(task: DatasetTask, poison: Poison, source: str) -> None:
    if len(task.shape) != 3 or not task.labels:
        raise RecipeError(f"{source}: task.poison: only for images (channels, rows, columns) with classes")
    for place, size, side in zip(poison.position, poison.size, task.shape[1:], strict=True):
        if place + size > side:
            raise RecipeError(f"{source}: task.poison.position: the patch leaves the image {task.shape[1:]}")
    if poison.target != "next" and poison.target >= task_shape(task).width:
        raise RecipeError(f"{source}: task.poison.target: there are {task_shape(task).width} classes, from 0")


def with_task_kinds(value: Any) -> Any:
    """Parsed TOML or JSON with `kind = "machine"` written into every task that says none, at any depth."""
    if isinstance(value, list):
        return [with_task_kinds(item) for item in value]
    if not isinstance(value, dict):
        return value
    told = {key: with_task_kinds(item) for key, item in value.items()}
    task = told.get("task")
    if isinstance(task, dict):
        told["task"] = {"kind": DEFAULT_KIND} | task
    return told
