"""The C engine: exact.c behind ctypes, threads over networks. Bit for bit what `reference` computes."""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from protocol.engine import Evaluation, State
from protocol.engine.native.build import library
from protocol.engine.native.structs import CProgram, CSamples, check_sizes, dropout_keys, optimizer_of, program_of
from protocol.engine.schedule import step_sizes
from protocol.engine.streams import batch_order
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData
from protocol.tasks.philox import StreamKey

T = TypeVar("T")


class NativeEngine:
    """`threads` networks are trained at the same time; the interpreter lock is free meanwhile."""

    def __init__(self, threads: int = 1, isa: str = "auto", optimize: str = "-O3"):
        path, isa = library(isa, optimize)
        self.name = f"c-{isa}"
        try:
            self._c = ctypes.CDLL(str(path))
        except OSError as error:
            raise UsageError(
                f"{path}: cannot load the compiled engine: {error}; delete the file, "
                "or set ZOOSWARM_HOME or XDG_CACHE_HOME to a folder from which programs may run"
            ) from None
        self._c.exact_scratch_floats.restype = ctypes.c_int64
        check_sizes(self._c.exact_struct_bytes)
        self._environment_bytes = self._c.exact_environment_bytes()
        self.fuses = bool(self._c.exact_fuses())  # False: the same bits, many times slower
        for function in (self._c.exact_train, self._c.exact_evaluate, self._c.exact_gradient, self._c.exact_order):
            function.restype = None
        self._c.exact_enter.restype = self._c.exact_leave.restype = None
        self._pool = ThreadPoolExecutor(threads, "exact") if threads > 1 else None
        self._local = threading.local()
        self._permute = self._permutation  # one object, by which epochs are kept

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        batch, count = recipe.training.batch, recipe.parameter_count
        samples, keep = _samples(recipe, data.inputs, data.targets)
        with self._exact_environment():
            program, optimizer = program_of(recipe, data.inputs.dtype, batch), optimizer_of(recipe)
            sizes = {step: step_sizes(recipe, step, steps) for step in {state.step for state in states}}
        losses = np.zeros((len(seeds), steps), np.float32)

        def one(k: int) -> State:
            state = states[k]
            params, moments = state.params.copy(), state.moments.copy()
            keys = dropout_keys(recipe, seeds[k])
            self._c.exact_train(
                ctypes.byref(program),
                ctypes.byref(samples),
                _pointer(batch_order(recipe, seeds[k], state.step, steps, self._permute), np.int32, (steps, batch)),
                ctypes.c_int32(batch),
                ctypes.c_int32(state.step),
                ctypes.c_int32(steps),
                _pointer(sizes[state.step], np.float32, (steps, 3)),
                _pointer(keys, np.uint32, keys.shape),
                ctypes.byref(optimizer),
                _pointer(params, np.float32, (count,)),
                _pointer(moments, np.float32, (2, count)),
                _pointer(losses[k], np.float32, (steps,)),
                self._scratch(program),
            )
            return State(step=state.step + steps, params=params, moments=moments)

        trained = self._each(one, len(seeds))
        del keep
        return trained, losses

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        return self.evaluate(recipe, data, params).loss

    def evaluate(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> Evaluation:
        count = len(data.held_out_inputs)
        with self._exact_environment():
            program = program_of(recipe, data.held_out_inputs.dtype, count)
        samples, keep = _samples(recipe, data.held_out_inputs, data.held_out_targets)
        losses, correct = np.zeros(len(params), np.float32), np.zeros(len(params), np.int64)

        def one(k: int) -> None:
            self._c.exact_evaluate(
                ctypes.byref(program),
                ctypes.byref(samples),
                ctypes.c_int32(count),
                _pointer(np.ascontiguousarray(params[k]), np.float32, (recipe.parameter_count,)),
                _pointer(losses[k : k + 1], np.float32, (1,)),
                _pointer(correct[k : k + 1], np.int64, (1,)),
                self._scratch(program),
            )

        self._each(one, len(params))
        del keep
        return Evaluation.of(recipe, losses, correct)

    def loss_and_gradient(
        self, recipe: Recipe, params: np.ndarray, data: TaskData, rows: np.ndarray, seed: int = 0, step: int = 0
    ) -> tuple[np.float32, np.ndarray]:
        """As in `reference`: a batch's mean loss and its gradient (P,)."""
        with self._exact_environment():
            program = program_of(recipe, data.inputs.dtype, len(rows))
        samples, keep = _samples(recipe, data.inputs, data.targets)
        loss, gradient = np.zeros(1, np.float32), np.zeros(recipe.parameter_count, np.float32)
        keys = dropout_keys(recipe, seed)

        def one(_: int) -> None:
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

        self._each(one, 1)
        del keep
        return loss[0], gradient

    def _permutation(self, key: StreamKey, count: int) -> np.ndarray:
        """As `philox.permutation`."""
        order, space = np.empty(count, np.int32), np.empty(2 * count, np.uint64)
        self._c.exact_order(
            _pointer(np.array(key, np.uint32), np.uint32, (2,)),
            ctypes.c_int32(count),
            _pointer(order, np.int32, (count,)),
            _pointer(space, np.uint64, (2 * count,)),
        )
        return order

    def _each(self, job: Callable[[int], T], count: int) -> list[T]:
        def exact_job(k: int) -> T:
            with self._exact_environment():
                return job(k)

        return list(self._pool.map(exact_job, range(count)) if self._pool else map(exact_job, range(count)))

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
        """This thread's working space, kept: fresh pages at every call would cost a few percent."""
        floats = self._c.exact_scratch_floats(ctypes.byref(program))
        space = getattr(self._local, "space", None)
        if space is None or len(space) < floats:
            space = self._local.space = np.empty(floats, np.float32)
        return _pointer(space, np.float32, space.shape)


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
    """The array's address, once it is certain that C will read what Python meant."""
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(f"expected contiguous {dtype.__name__} {shape}, got {array.dtype} {array.shape}")
    return array.ctypes.data_as(ctypes.c_void_p)  # which keeps the array alive for as long as the pointer
