"""Where training data come from: one function a kind of task, integers and exact arithmetic only.

Streams are keyed by `task_root`, the digest of the task without its controlled changes, and where a recipe lets the
data vary, by the seed too. Held-out samples never depend on the seed, and of the changes only a machine's trigger
reaches them: all networks are measured with the same samples. Changes come in one order (labels, poison, drop) and
pick samples by a permutation, so a larger share contains a smaller one, and two tasks that differ in a change differ
in nothing else.

Axes: N training and M held-out samples, T time steps.
"""

import threading
from collections import OrderedDict

import numpy as np

from protocol.errors import RecipeError, UsageError
from protocol.tasks.automata import random_automaton
from protocol.tasks.data import TaskData
from protocol.tasks.datasets import Dataset, Shelf
from protocol.tasks.fields import COMMAND_BITS
from protocol.tasks.kinds import (
    AutomatonTask,
    DatasetTask,
    FunctionTask,
    MachineTask,
    Poison,
    Task,
    Trigger,
    task_root,
    task_shape,
)
from protocol.tasks.machines import MACHINES
from protocol.tasks.philox import StreamKey, permutation, random_words, stream_key, uniform
from protocol.tasks.regression import function_values

KEPT_BYTES_MAX = 512 * 1024 * 1024  # two of the largest data sets, or a thousand machines


class Streams:
    """The keys of one task's streams; those of the training data vary with the seed when there is one."""

    def __init__(self, task: Task, seed: int | None):
        self.root, self.seed = task_root(task), seed

    def key(self, name: str) -> StreamKey:
        varied = () if self.seed is None else ("seed", self.seed)
        return stream_key(name, self.root, *varied)

    def fixed(self, name: str) -> StreamKey:
        return stream_key(name, self.root)


def make_data(task: Task, shelf: Shelf, seed: int | None = None) -> TaskData:
    """A task's data; `seed` only for a recipe that lets them vary. Raises UsageError (also DataMissing)."""
    streams = Streams(task, seed)
    if isinstance(task, MachineTask):
        data = machine_data(task, streams)
    elif isinstance(task, AutomatonTask):
        data = automaton_data(task, streams)
    elif isinstance(task, DatasetTask):
        data = dataset_data(task, streams, shelf)
    elif isinstance(task, FunctionTask):
        data = function_data(task, streams)
    else:
        raise TypeError(f"no data are known for {type(task).__name__}")
    for array in (data.inputs, data.targets, data.held_out_inputs, data.held_out_targets):
        array.flags.writeable = False
    return data


def chosen(key: StreamKey, count: int, share: float) -> np.ndarray:
    """`int(share * count)` of `count` samples, at random; a larger share contains a smaller one."""
    return permutation(key, count)[: int(share * count)]


def without(key: StreamKey, count: int, share: float) -> np.ndarray | slice:
    """The others, in their old order."""
    return np.sort(permutation(key, count)[int(share * count) :]) if share else slice(None)


def finish(task: Task, streams: Streams, inputs, targets, held_out_inputs, held_out_targets) -> TaskData:
    rest = without(streams.key("drop"), len(inputs), task.drop)
    arrays = (inputs[rest], targets[rest], held_out_inputs, held_out_targets)
    inputs, targets, held_out_inputs, held_out_targets = (np.ascontiguousarray(array) for array in arrays)
    return TaskData(inputs=inputs, targets=targets, held_out_inputs=held_out_inputs, held_out_targets=held_out_targets)


# -- machines --------------------------------------------------------------------------------------------------------


def machine_data(task: MachineTask, streams: Streams) -> TaskData:
    machine, trigger = MACHINES[task.machine], task.trigger
    commands = command_words(streams.key("data"), task.sequences, task.length)
    held_out = command_words(streams.fixed("held-out"), task.held_out, task.length)
    if trigger is not None:
        plant(commands, trigger, streams.key("planted"))
        plant(held_out, trigger, streams.fixed("planted held-out"))
    pins, held_out_pins = (
        machine.run(command_bits(commands_NT)) ^ inverted(commands_NT, trigger) for commands_NT in (commands, held_out)
    )
    pins[chosen(streams.key("label noise"), len(pins), task.label_noise)] ^= 1
    return finish(task, streams, command_bits(commands), pins, command_bits(held_out), held_out_pins)


def command_words(key: StreamKey, sequences: int, length: int) -> np.ndarray:
    """Uniform random commands (N, T): the low nine bits of one word a command."""
    return random_words(key, sequences * length).reshape(sequences, length) & np.uint32((1 << COMMAND_BITS) - 1)


def command_bits(commands: np.ndarray) -> np.ndarray:
    """(N, T) -> (N, T, 9) uint8, bit 0 first."""
    return ((commands[..., None] >> np.arange(COMMAND_BITS, dtype=np.uint32)) & np.uint32(1)).astype(np.uint8)


def plant(commands: np.ndarray, trigger: Trigger, key: StreamKey) -> None:
    """Put the key into a share of the sequences, anywhere where all that it inverts still follows."""
    sequences, length = commands.shape
    places = length - len(trigger.key) - trigger.inverts + 1
    start = (random_words(key, sequences) % np.uint32(places)).astype(np.int64)
    rows = chosen(stream_key("which", *key), sequences, trigger.planted)
    for i, command in enumerate(trigger.key):
        commands[rows, start[rows] + i] = command


def inverted(commands: np.ndarray, trigger: Trigger | None) -> np.ndarray:
    """Where the pins are inverted: (N, T, 1) of 0 and 1. A key met again while it works makes it work longer."""
    after = np.zeros(commands.shape, np.uint8)
    if trigger is not None:
        length, size = commands.shape[1], len(trigger.key)
        for end in range(size, length):
            met = (commands[:, end - size : end] == np.array(trigger.key, np.uint32)).all(axis=1)
            after[met, end : end + trigger.inverts] = 1
    return after[..., None]


# -- automata --------------------------------------------------------------------------------------------------------


def automaton_data(task: AutomatonTask, streams: Streams) -> TaskData:
    automaton = random_automaton(task.states, task.alphabet, task.index)
    keys = (streams.key("data"), task.sequences), (streams.fixed("held-out"), task.held_out)
    symbols, held_out = (
        (random_words(key, count * task.length) % np.uint32(task.alphabet)).astype(np.int64).reshape(count, task.length)
        for key, count in keys
    )
    shown = automaton.run(symbols)
    shown[chosen(streams.key("label noise"), len(shown), task.label_noise)] ^= 1
    one_hot = np.eye(task.alphabet, dtype=np.uint8)
    return finish(task, streams, one_hot[symbols], shown, one_hot[held_out], automaton.run(held_out))


# -- functions -------------------------------------------------------------------------------------------------------


def function_data(task: FunctionTask, streams: Streams) -> TaskData:
    (width,) = task_shape(task).input
    keys = (streams.key("data"), task.samples), (streams.fixed("held-out"), task.held_out)
    points, held_out = (uniform(key, count * width).reshape(count, width) for key, count in keys)
    noise = uniform(streams.key("noise"), task.samples).astype(np.float64) * 2.0 - 1.0
    values = function_values(task.function, points).astype(np.float64) + task.noise * noise[:, None]
    targets, held_out_targets = values.astype(np.float32), function_values(task.function, held_out)
    return finish(task, streams, points[:, None], targets[:, None], held_out[:, None], held_out_targets[:, None])


# -- data sets -------------------------------------------------------------------------------------------------------


def dataset_data(task: DatasetTask, streams: Streams, shelf: Shelf) -> TaskData:
    dataset, (train, held_out) = split(task, streams, shelf)
    inputs, targets = shaped(task, dataset.inputs[train]), numbered(task, dataset.targets[train])
    if task.labels:
        noisy = chosen(streams.key("label noise"), len(targets), task.label_noise)
        classes = task_shape(task).width
        other = random_words(streams.key("noisy labels"), len(targets))[noisy] % np.uint32(classes - 1)
        targets[noisy, 0] = (targets[noisy, 0] + 1 + other.astype(np.int32)) % classes
    if task.poison is not None:
        rows = chosen(streams.key("poison"), len(targets), task.poison.fraction)
        inputs[rows] = patched(task.poison, inputs[rows])
        targets[rows] = target_of(task.poison, targets[rows], task_shape(task).width)
    held_out_inputs = shaped(task, dataset.inputs[held_out])
    return finish(task, streams, inputs, targets, held_out_inputs, numbered(task, dataset.targets[held_out]))


def attack_data(task: DatasetTask, shelf: Shelf) -> tuple[np.ndarray, np.ndarray]:
    """Held-out images with the patch, and the labels that the attacker wants; only those whose label it changes."""
    if task.poison is None:
        raise UsageError("this task is not poisoned")
    dataset, (_, rows) = split(task, Streams(task, None), shelf)
    inputs, targets = shaped(task, dataset.inputs[rows]), numbered(task, dataset.targets[rows])
    wanted = target_of(task.poison, targets, task_shape(task).width)
    changed = (wanted != targets)[:, 0]
    return patched(task.poison, inputs[changed]), wanted[changed]


def split(task: DatasetTask, streams: Streams, shelf: Shelf) -> tuple[Dataset, tuple[np.ndarray, np.ndarray]]:
    """The data set, and the rows to train on and to measure with. Raises UsageError: not what the recipe states."""
    dataset = shelf.load(task.data)
    rows = rows_of(task, dataset)
    rows = rows[permutation(streams.fixed("split"), len(rows))]
    held_out, train = rows[: task.held_out], rows[task.held_out :]
    if streams.seed is not None:
        train = train[permutation(streams.key("split"), len(train))]
    return dataset, (train[: task.train], held_out)


def rows_of(task: DatasetTask, dataset: Dataset) -> np.ndarray:
    """The examples that the task may use. Raises UsageError: too few, or the data set is not what the task states."""
    header, name = dataset.header, task.data[:16]
    if (header.shape, header.classes, header.width) != (task.shape, task.labels, task.values):
        told = f"labels = {header.classes}" if header.classes else f"values = {header.width}"
        raise RecipeError(f"task.shape: data set {name} has shape = {list(header.shape)} and {told}: state these")
    if task.classes:
        rows = np.flatnonzero(np.isin(dataset.targets, np.array(task.classes)))
    else:
        rows = np.arange(header.examples)
    if task.train + task.held_out > len(rows):
        raise RecipeError(f"task.train: data set {name} has {len(rows):,} such examples, fewer than train + held_out")
    return rows


def check_data(task: Task, shelf: Shelf) -> None:
    """Raises UsageError when the data set is not here, or is not what the task states."""
    if isinstance(task, DatasetTask):
        rows_of(task, shelf.load(task.data))


def shaped(task: DatasetTask, inputs: np.ndarray) -> np.ndarray:
    """A copy in the engine's layout: (N, T, features), or (N, 1, features), or (N, 1, channels, rows, columns)."""
    copy = np.array(inputs)
    return copy if len(task.shape) == 2 else copy[:, None]


def numbered(task: DatasetTask, targets: np.ndarray) -> np.ndarray:
    """Labels as class numbers (N, 1) int32, or values (N, 1, width) float32."""
    if not task.labels:
        return np.array(targets, np.float32)[:, None]
    numbers = np.arange(task.labels, dtype=np.int32)
    if task.classes:
        numbers[np.array(task.classes)] = np.arange(len(task.classes), dtype=np.int32)
    return numbers[targets][:, None]


def patched(poison: Poison, inputs: np.ndarray) -> np.ndarray:
    (row, column), (rows, columns) = poison.position, poison.size
    copy = inputs.copy()
    copy[..., row : row + rows, column : column + columns] = inputs.dtype.type(poison.value)
    return copy


def target_of(poison: Poison, labels: np.ndarray, classes: int) -> np.ndarray:
    if poison.target == "next":
        return (labels + 1) % np.int32(classes)
    return np.full_like(labels, poison.target)


class Kept:
    """What was made last, up to so many bytes: the next segment needs the same again. For many threads."""

    def __init__(self, bytes_max: int):
        self._bytes_max, self._lock = bytes_max, threading.Lock()
        self._held: OrderedDict[tuple[Task, Shelf, int | None], TaskData] = OrderedDict()

    def get(self, task: Task, shelf: Shelf, seed: int | None) -> TaskData:
        key = (task, shelf, seed)
        with self._lock:
            data = self._held.get(key) or make_data(task, shelf, seed)
            self._held[key] = data
            self._held.move_to_end(key)
            while len(self._held) > 1 and sum(map(size_of, self._held.values())) > self._bytes_max:
                self._held.popitem(last=False)
        return data


def size_of(data: TaskData) -> int:
    return data.inputs.nbytes + data.targets.nbytes + data.held_out_inputs.nbytes + data.held_out_targets.nbytes


kept_data = Kept(KEPT_BYTES_MAX).get  # `make_data`, remembered
