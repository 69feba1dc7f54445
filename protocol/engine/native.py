"""The C engine: exact.c behind ctypes, threads over networks. Bit for bit what `reference` computes."""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from protocol.engine import State, TaskData
from protocol.engine.build import library
from protocol.engine.data import batch_order, step_sizes
from protocol.errors import UsageError
from protocol.layers import Gru, Linear
from protocol.recipe import Recipe
from protocol.tasks import COMMAND_BITS, PIN_COUNT

T = TypeVar("T")

GRU, LINEAR, RELU = 1, 2, 3  # as in exact.c
DATA_KEPT = 16  # packed data sets kept: a few tasks in turn


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("kind", "inputs", "outputs", "offset")]


class _Program(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.c_int32),
        ("length", ctypes.c_int32),
        ("parameters", ctypes.c_int32),
        ("layer", ctypes.POINTER(_Layer)),
    ]


class _Adam(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("beta1", "rest1", "beta2", "rest2", "epsilon")]


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
                "or set XDG_CACHE_HOME to a folder from which programs may run"
            ) from None
        self._c.exact_scratch_floats.restype = ctypes.c_int64
        self._environment_bytes = self._c.exact_environment_bytes()
        self._c.exact_train.restype = self._c.exact_held_out.restype = None
        self._c.exact_enter.restype = self._c.exact_leave.restype = None
        self._pool = ThreadPoolExecutor(threads, "exact") if threads > 1 else None
        self._local = threading.local()
        self._packed: dict[int, tuple[TaskData, np.ndarray, np.ndarray]] = {}

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        program, (words, _) = _program(recipe), self._pack(data)
        losses = np.zeros((len(seeds), steps), np.float32)

        def one(k: int) -> State:
            state = states[k]
            params, moments = state.params.copy(), state.moments.copy()
            self._c.exact_train(
                ctypes.byref(program),
                _pointer(words, np.uint32, words.shape),
                _pointer(batch_order(recipe, seeds[k], state.step, steps), np.int32, (steps, recipe.training.batch)),
                ctypes.c_int32(recipe.training.batch),
                ctypes.c_int32(steps),
                _pointer(step_sizes(recipe, state.step, steps), np.float32, (steps, 2)),
                ctypes.byref(_adam(recipe)),
                _pointer(params, np.float32, (recipe.parameter_count,)),
                _pointer(moments, np.float32, (2, recipe.parameter_count)),
                _pointer(losses[k], np.float32, (steps,)),
                self._scratch(program),
            )
            return State(step=state.step + steps, params=params, moments=moments)

        return self._each(one, len(seeds)), losses

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        program, (_, words) = _program(recipe), self._pack(data)
        losses = np.zeros(len(params), np.float32)

        def one(k: int) -> None:
            self._c.exact_held_out(
                ctypes.byref(program),
                _pointer(words, np.uint32, words.shape),
                ctypes.c_int32(len(words)),
                _pointer(np.ascontiguousarray(params[k]), np.float32, (recipe.parameter_count,)),
                _pointer(losses[k : k + 1], np.float32, (1,)),
                self._scratch(program),
            )

        self._each(one, len(params))
        return losses

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

    def _scratch(self, program: _Program) -> ctypes.c_void_p:
        """This thread's working space, kept: fresh pages at every call would cost a few percent."""
        floats = self._c.exact_scratch_floats(ctypes.byref(program))
        space = getattr(self._local, "space", None)
        if space is None or len(space) < floats:
            space = self._local.space = np.empty(floats, np.float32)
        return _pointer(space, np.float32, space.shape)

    def _pack(self, data: TaskData) -> tuple[np.ndarray, np.ndarray]:
        """Training and held-out sequences as exact.c reads them; keeping `data` keeps its id from being reused."""
        kept = self._packed.get(id(data))
        if kept is None:
            if len(self._packed) >= DATA_KEPT:
                self._packed.pop(next(iter(self._packed)))
            kept = (data, pack(data.inputs, data.targets), pack(data.held_out_inputs, data.held_out_targets))
            self._packed[id(data)] = kept
        return kept[1], kept[2]


def pack(commands: np.ndarray, pins: np.ndarray) -> np.ndarray:
    """(N, T, 9) and (N, T, 20) bits -> (N, T) uint32 words: command bits from bit 0, then pins."""
    bits = np.zeros((*commands.shape[:2], 32), np.uint8)
    bits[..., :COMMAND_BITS], bits[..., COMMAND_BITS : COMMAND_BITS + PIN_COUNT] = commands, pins
    packed = np.packbits(bits, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4")[..., 0].astype(np.uint32)


def _program(recipe: Recipe) -> _Program:
    layers = []
    width, offset = COMMAND_BITS, 0
    for layer in recipe.network.layers:
        outputs = getattr(layer, "width", width)
        kind = GRU if isinstance(layer, Gru) else LINEAR if isinstance(layer, Linear) else RELU
        layers.append(_Layer(kind, width, outputs, offset))
        if kind == GRU:
            offset += 3 * outputs * (width + outputs) + 6 * outputs
        elif kind == LINEAR:
            offset += outputs * (width + 1)
        width = outputs
    assert offset == recipe.parameter_count
    return _Program(len(layers), recipe.task_shape.length, offset, (_Layer * len(layers))(*layers))


def _adam(recipe: Recipe) -> _Adam:
    t = recipe.training
    return _Adam(*(np.float32(x) for x in (t.beta1, 1.0 - t.beta1, t.beta2, 1.0 - t.beta2, t.epsilon)))


def _pointer(array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> ctypes.c_void_p:
    """The array's address, once it is certain that C will read what Python meant."""
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(f"expected contiguous {dtype.__name__} {shape}, got {array.dtype} {array.shape}")
    return array.ctypes.data_as(ctypes.c_void_p)  # which keeps the array alive for as long as the pointer
