"""The C engine: exact.c behind ctypes, threads over networks. Bit for bit what `reference` computes.

A call takes many networks by many steps: every thread makes one call into C and there takes network after network, so
that small networks cost no more Python than large ones, and threads meet at no lock.
"""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from protocol.engine import Evaluation, State
from protocol.engine.native.build import library
from protocol.engine.native.orders import KeptOrders
from protocol.engine.native.structs import (
    CProgram,
    CSamples,
    address,
    check_sizes,
    dropout_keys,
    networks_of,
    networks_that_draw,
    optimizer_of,
    program_of,
)
from protocol.engine.schedule import step_sizes
from protocol.errors import DiskError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.kinds import TaskShape
from protocol.tasks.philox import StreamKey

PROGRAMS_MAX = 64  # some kilobytes each
MEASURED_TOGETHER = 16  # networks at most for which held-out samples are loaded once


class NativeEngine:
    """`threads` networks are trained at the same time; the interpreter lock is free meanwhile."""

    def __init__(self, threads: int = 1, isa: str = "auto", optimize: str = "-O3"):
        path, isa = library(isa, optimize)
        self.name = f"c-{isa}"
        try:
            self._c = ctypes.CDLL(str(path))
        except OSError as error:
            raise DiskError(
                f"{path}: cannot load the compiled engine: {error}; delete the file, "
                "or set ZOOSWARM_HOME or XDG_CACHE_HOME to a folder from which programs may run"
            ) from None
        self._c.exact_scratch_floats.restype = self._c.exact_orthogonal_doubles.restype = ctypes.c_int64
        check_sizes(self._c.exact_struct_bytes)
        self._environment_bytes = self._c.exact_environment_bytes()
        self.fuses = bool(self._c.exact_fuses())  # False: the same bits, many times slower
        for name in ("train", "draw", "evaluate", "gradient", "orthogonal"):
            getattr(self._c, f"exact_{name}").restype = None
        self._c.exact_enter.restype = self._c.exact_leave.restype = None
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "exact") if threads > 1 else None
        self._local = threading.local()
        self._orders = KeptOrders()
        self._programs: dict[tuple[str, TaskShape, str, int], CProgram] = {}  # which C only reads

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        batch, count, each = recipe.training.batch, recipe.task_shape.samples, range(len(seeds))
        samples, keep = _samples(recipe, data.inputs, data.targets)
        if len(data.inputs) < count:
            raise ValueError(f"{len(data.inputs)} samples, and batches are drawn from {count}")
        with self._exact_environment():
            program, optimizer = self._program(recipe, data.inputs.dtype, batch), optimizer_of(recipe)
            sizes = {step: step_sizes(recipe, step, steps) for step in {state.step for state in states}}
        losses = np.zeros((len(seeds), steps), np.float32)
        after = [State(step=s.step + steps, params=s.params.copy(), moments=s.moments.copy()) for s in states]
        epochs = [self._orders.take(recipe, seeds[k], states[k].step, steps) for k in each]
        networks, alive = networks_of(recipe, seeds, states, after, sizes, epochs, losses)

        def some(begun: ctypes.c_int32) -> None:
            self._c.exact_train(
                ctypes.byref(program),
                ctypes.byref(samples),
                ctypes.c_int32(count),
                ctypes.c_int32(batch),
                ctypes.c_int32(steps),
                ctypes.byref(optimizer),
                networks,
                ctypes.c_int32(len(seeds)),
                ctypes.byref(begun),
                self._space("order", steps * batch, np.int32),
                self._space("draws", 2 * count, np.uint64),
                self._scratch(program),
            )

        self._share(some, len(seeds))
        for k in each:
            self._orders.keep(recipe, seeds[k], epochs[k])
        del keep, alive
        return after, losses

    def batch_orders(self, recipe: Recipe, seeds: list[int], at: list[int], steps: int) -> np.ndarray:
        """`streams.batch_orders` in C: for an engine that trains faster than Python draws."""
        batch, count = recipe.training.batch, recipe.task_shape.samples
        epochs = [self._orders.take(recipe, seed, step, steps) for seed, step in zip(seeds, at, strict=True)]
        networks, alive = networks_that_draw(at, epochs)
        order = np.empty((len(seeds), steps, batch), np.int32)

        def some(begun: ctypes.c_int32) -> None:
            self._c.exact_draw(
                networks,
                ctypes.c_int32(len(seeds)),
                ctypes.byref(begun),
                *(ctypes.c_int32(n) for n in (count, batch, steps)),
                _pointer(order, np.int32, order.shape),
                self._space("draws", 2 * count, np.uint64),
            )

        self._share(some, len(seeds))
        for seed, drawn in zip(seeds, epochs, strict=True):
            self._orders.keep(recipe, seed, drawn)
        del alive
        return order

    def orthogonal(self, keys: list[StreamKey], start: int, rows: int, columns: int) -> np.ndarray:
        """`initial.orthogonal` in C, ten times as fast for one network of small arrays."""
        words, out = np.array(keys, np.uint32), np.empty((len(keys), rows, columns))
        sizes = [ctypes.c_int32(rows), ctypes.c_int32(columns)]
        with self._exact_environment():
            self._c.exact_orthogonal(
                _pointer(words, np.uint32, (len(keys), 2)),
                ctypes.c_int32(len(keys)),
                ctypes.c_uint32(start),
                *sizes,
                _pointer(out, np.float64, out.shape),
                self._space("matrices", self._c.exact_orthogonal_doubles(*sizes), np.float64),
            )
        return out

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        return self._measure(recipe, data, params, None)

    def evaluate(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> Evaluation:
        correct = np.zeros(len(params), np.int64)
        return Evaluation.of(recipe, self._measure(recipe, data, params, correct), correct)

    def _measure(
        self, recipe: Recipe, data: TaskData, params: list[np.ndarray], correct: np.ndarray | None
    ) -> np.ndarray:
        """The losses; targets that are met are counted where somebody asks: they cost an eighth of it."""
        count = len(data.held_out_inputs)
        with self._exact_environment():
            program = self._program(recipe, data.held_out_inputs.dtype, count)
        samples, keep = _samples(recipe, data.held_out_inputs, data.held_out_targets)
        losses = np.zeros(len(params), np.float32)
        arrays = [np.ascontiguousarray(array) for array in params]
        places = (ctypes.c_void_p * len(params))(
            *(address(array, np.float32, (recipe.parameter_count,)) for array in arrays)
        )

        rounds = -(-len(params) // (MEASURED_TOGETHER * self._threads))
        together = -(-len(params) // max(1, rounds * self._threads))  # as many for each thread

        def some(begun: ctypes.c_int32) -> None:
            self._c.exact_evaluate(
                ctypes.byref(program),
                ctypes.byref(samples),
                ctypes.c_int32(count),
                places,
                ctypes.c_int32(len(params)),
                ctypes.c_int32(together),
                ctypes.byref(begun),
                _pointer(losses, np.float32, (len(params),)),
                None if correct is None else _pointer(correct, np.int64, (len(params),)),
                self._scratch(program),
            )

        self._share(some, len(params))
        del keep, arrays
        return losses

    def _program(self, recipe: Recipe, dtype: np.dtype, samples: int) -> CProgram:
        """`program_of`, kept: to make one takes 0.3 ms, and each segment of 50 steps asks for two."""
        key = (recipe.digest, recipe.task_shape, dtype.str, samples)  # the shape too: C trusts what it is told
        program = self._programs.get(key)
        if program is None:
            if len(self._programs) >= PROGRAMS_MAX:
                self._programs.clear()
            self._programs[key] = program = program_of(recipe, dtype, samples)
        return program

    def loss_and_gradient(
        self, recipe: Recipe, params: np.ndarray, data: TaskData, rows: np.ndarray, seed: int = 0, step: int = 0
    ) -> tuple[np.float32, np.ndarray]:
        """As in `reference`: a batch's mean loss and its gradient (P,)."""
        with self._exact_environment():
            program = program_of(recipe, data.inputs.dtype, len(rows))
        samples, keep = _samples(recipe, data.inputs, data.targets)
        loss, gradient = np.zeros(1, np.float32), np.zeros(recipe.parameter_count, np.float32)
        keys = dropout_keys(recipe, seed)
        with self._exact_environment():
            self._c.exact_gradient(
                ctypes.byref(program),
                ctypes.byref(samples),
                _pointer(np.ascontiguousarray(rows, np.int32), np.int32, (len(rows),)),
                ctypes.c_int32(len(rows)),
                ctypes.c_int32(step),
                _pointer(keys, np.uint32, keys.shape),
                _pointer(params, np.float32, (recipe.parameter_count,)),
                _pointer(loss, np.float32, (1,)),
                _pointer(gradient, np.float32, gradient.shape),
                self._scratch(program),
            )
        del keep
        return loss[0], gradient

    def _share(self, some: Callable[[ctypes.c_int32], None], networks: int) -> None:
        """Let each thread do some of the networks: they take the next from one number, so none waits for another."""
        begun = ctypes.c_int32(0)
        helpers = min(self._threads, networks) - 1
        helping = [self._pool.submit(some, begun) for _ in range(helpers)] if self._pool else []
        try:
            some(begun)
        finally:
            for other in helping:
                other.result()  # before the arrays go, whatever happened here

    @contextlib.contextmanager
    def _exact_environment(self) -> Iterator[None]:
        """Round to nearest and keep subnormals in this thread, whatever other libraries left; then as it was."""
        host = ctypes.create_string_buffer(self._environment_bytes)
        self._c.exact_enter(host)
        try:
            yield
        finally:
            self._c.exact_leave(host)

    def _scratch(self, program: CProgram) -> ctypes.c_void_p:
        return self._space("scratch", self._c.exact_scratch_floats(ctypes.byref(program)), np.float32)

    def _space(self, name: str, length: int, dtype: type) -> ctypes.c_void_p:
        """This thread's working space, kept: fresh pages at every call would cost a few percent."""
        space = getattr(self._local, name, None)
        if space is None or len(space) < length:
            space = np.empty(length, dtype)
            setattr(self._local, name, space)
        return _pointer(space, dtype, space.shape)


def _samples(recipe: Recipe, inputs: np.ndarray, targets: np.ndarray) -> tuple[CSamples, tuple[np.ndarray, np.ndarray]]:
    """What C reads, and the arrays to keep alive meanwhile. Raises ValueError: arrays that the task does not state."""
    shape = recipe.task_shape
    if shape.target == "classes":
        targets = np.ascontiguousarray(targets, np.int32)
        target_shape: tuple[int, ...] = (shape.target_length,)
    else:
        target_shape = (shape.target_length, shape.width)
    kinds = {"pins": np.uint8, "values": np.float32, "classes": np.int32}
    input_kind = np.uint8 if inputs.dtype == np.uint8 else np.float32
    return CSamples(
        _pointer(inputs, input_kind, (len(inputs), shape.length, *shape.input)),
        _pointer(targets, kinds[shape.target], (len(inputs), *target_shape)),
    ), (inputs, targets)


def _pointer(array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> ctypes.c_void_p:
    """As `address`; keeps the array alive for as long as the pointer."""
    address(array, dtype, shape)
    return array.ctypes.data_as(ctypes.c_void_p)
