"""One card: its queue of networks, its memory, and the job that exact.cu reads."""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np

from protocol.engine import State
from protocol.engine.native.structs import (
    LANES,
    LANES_MAX,
    CLayer,
    COptimizer,
    CProgram,
    CSamples,
    dropout_keys,
    optimizer_of,
    program_of,
)
from protocol.engine.schedule import step_sizes
from protocol.engine.streams import batch_orders
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

LAUNCH_SECONDS = 0.1  # of one kernel: a desktop that is drawn by the same card stays usable
YIELD_SECONDS = 0.001  # between two kernels
WAVES = 4  # networks that go to the card at once, per block that it holds; the next ones are prepared meanwhile
RESIDENT_ARRAYS_MAX = 8  # samples that stay on a card between calls: training and held-out, of two recipes


Draw = Callable[[Recipe, list[int], list[int], int], np.ndarray]  # as streams.batch_orders


class CardError(Exception):
    """A card that cannot be used, or not any more; the message says why in one line."""


class CJob(ctypes.Structure):
    """exact.cu's Job."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("program", "optimizer")),
        ("samples", CSamples),
        *((name, ctypes.c_void_p) for name in ("step", "order", "sizes", "keys", "params", "moments", "losses")),
        *((name, ctypes.c_void_p) for name in ("correct", "scratch")),
        ("scratch_floats", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("networks", "batch", "all_steps", "from_step", "steps")),
    ]


class Card(Protocol):
    """A card's memory and kernels. Addresses are plain numbers. Calls come from one thread at a time."""

    name: str
    memory_bytes: int  # that we may use
    blocks: int  # that it runs at the same time

    def allocate(self, size: int) -> int: ...

    def free(self, address: int) -> None: ...

    def upload(self, address: int, array: np.ndarray) -> None: ...

    def download(self, address: int, array: np.ndarray) -> None: ...

    def launch(self, kernel: str, job: CJob, blocks: int) -> None:
        """Runs to the end. Raises CardError."""
        ...


class NetworkBatch(msgspec.Struct, kw_only=True):
    """Networks that go to a card together, as exact.cu reads them; K networks, N steps, B samples a batch."""

    step: np.ndarray  # (K,) int32
    order: np.ndarray  # (K, N, B) int32
    sizes: np.ndarray  # (K, N, 3)
    keys: np.ndarray  # (K, layers, 2) uint32
    params: np.ndarray  # (K, P)
    moments: np.ndarray  # (K, 2, P)
    losses: np.ndarray  # (K, N)

    @classmethod
    def of(
        cls, recipe: Recipe, seeds: list[int], states: list[State], steps: int, draw: "Draw" = batch_orders
    ) -> "NetworkBatch":
        at = [state.step for state in states]
        sizes = {step: step_sizes(recipe, step, steps) for step in set(at)}
        return cls(
            step=np.array(at, np.int32),
            order=draw(recipe, seeds, at, steps).astype(np.int32, copy=False),
            sizes=np.stack([sizes[step] for step in at]).astype(np.float32, copy=False),
            keys=np.stack([dropout_keys(recipe, seed) for seed in seeds]).astype(np.uint32, copy=False),
            params=np.stack([state.params for state in states]).astype(np.float32, copy=False),
            moments=np.stack([state.moments for state in states]).astype(np.float32, copy=False),
            losses=np.zeros((len(seeds), steps), np.float32),
        )


class CardQueue:
    """One card, and what lies on it between calls: samples, and every block's working space."""

    def __init__(self, card: Card):
        self.card = card
        self._lock = threading.RLock()
        self._resident: dict[int, tuple[np.ndarray, int]] = {}  # by the array's identity
        self._resident_bytes = 0
        self._scratch, self._scratch_bytes = 0, 0
        self._seconds: dict[tuple[str, int], float] = {}  # of one step, by recipe and waves of blocks

    def fitting(self, recipe: Recipe, inputs: np.ndarray, targets: np.ndarray, batch: int, steps: int) -> int:
        """How many networks go to the card at once. Raises CardError: not even one fits."""
        with self._lock:
            each = 12 * recipe.parameter_count + steps * (4 * batch + 16) + 4096
            for forget in (False, True):
                if forget:
                    self._forget()
                self._samples(recipe, inputs, targets)
                blocks, floats = self._blocks(recipe, inputs, batch)
                room = self.card.memory_bytes - self._resident_bytes - 4 * floats * blocks
                if room >= each:
                    return min(room // each, WAVES * blocks)
            raise CardError(f"{self.card.name}: {recipe.label} does not fit in {self.card.memory_bytes >> 20} MiB")

    def train(self, recipe: Recipe, data: TaskData, networks: NetworkBatch, steps: int) -> None:
        """Changes `networks` in place."""
        with self._lock, CardMemory(self.card) as memory:
            job = self._job(memory, recipe, data.inputs, data.targets, recipe.training.batch)
            for name in ("step", "order", "sizes", "keys", "params", "moments", "losses"):
                setattr(job, name, memory.holding(getattr(networks, name)))
            job.optimizer = memory.holding(bytes_of(optimizer_of(recipe)))
            job.networks, job.all_steps = len(networks.step), steps
            blocks = min(job.networks, self._blocks(recipe, data.inputs, recipe.training.batch)[0])
            pace = recipe.digest, -(-job.networks // blocks)
            while job.from_step < steps:
                allowed = int(LAUNCH_SECONDS / self._seconds.get(pace, LAUNCH_SECONDS))
                job.steps = max(1, min(allowed, steps - job.from_step))
                began = time.perf_counter()
                self.card.launch("exact_train", job, blocks)
                self._seconds[pace] = max((time.perf_counter() - began) / job.steps, 1e-7)
                job.from_step += job.steps
                if job.from_step < steps:
                    time.sleep(YIELD_SECONDS)
            for name in ("params", "moments", "losses"):
                self.card.download(getattr(job, name), getattr(networks, name))

    def measure(self, recipe: Recipe, data: TaskData, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(K,) held-out losses, (K,) targets met."""
        with self._lock, CardMemory(self.card) as memory:
            count = len(data.held_out_inputs)
            job = self._job(memory, recipe, data.held_out_inputs, data.held_out_targets, count)
            losses, correct = np.zeros(len(params), np.float32), np.zeros(len(params), np.int64)
            job.params, job.losses = memory.holding(params.astype(np.float32)), memory.holding(losses)
            job.correct, job.networks = memory.holding(correct), len(params)
            blocks = self._blocks(recipe, data.held_out_inputs, count)[0]
            self.card.launch("exact_measure", job, min(job.networks, blocks))
            self.card.download(job.losses, losses)
            self.card.download(job.correct, correct)
            return losses, correct

    def _job(self, memory: "CardMemory", recipe: Recipe, inputs: np.ndarray, targets: np.ndarray, batch: int) -> CJob:
        """With program, samples and working space filled in."""
        blocks, floats = self._blocks(recipe, inputs, batch)
        if 4 * floats * blocks > self._scratch_bytes:
            self._free_scratch()
            self._scratch = self.card.allocate(4 * floats * blocks)
            self._scratch_bytes = 4 * floats * blocks
        return CJob(
            program=self._program(memory, recipe, inputs, batch),
            samples=self._samples(recipe, inputs, targets),
            batch=batch,
            scratch=self._scratch,
            scratch_floats=floats,
        )

    def _program(self, memory: "CardMemory", recipe: Recipe, inputs: np.ndarray, batch: int) -> int:
        program = program_of(recipe, inputs.dtype, batch)
        program.lanes = min(-(-batch // LANES) * LANES, LANES_MAX)  # no cache to fit: as many threads as can be
        layers = (CLayer * program.layers).from_address(ctypes.addressof(program.layer.contents))
        address = memory.holding(bytes_of(layers))
        ctypes.memmove(ctypes.addressof(program) + CProgram.layer.offset, ctypes.byref(ctypes.c_void_p(address)), 8)
        return memory.holding(bytes_of(program))

    def _blocks(self, recipe: Recipe, inputs: np.ndarray, batch: int) -> tuple[int, int]:
        """(blocks that run at the same time, floats of working space of each)."""
        floats = np.zeros(1, np.int64)
        with CardMemory(self.card) as memory:
            job = CJob(program=self._program(memory, recipe, inputs, batch), correct=memory.holding(floats))
            self.card.launch("exact_scratch", job, 1)
            self.card.download(job.correct, floats)
        fit = (self.card.memory_bytes - self._resident_bytes) // 2 // (4 * int(floats[0]))  # half is for networks
        return max(1, min(self.card.blocks, fit)), int(floats[0])

    def _samples(self, recipe: Recipe, inputs: np.ndarray, targets: np.ndarray) -> CSamples:
        """Samples stay on the card until others need the room."""
        new = [array for array in (inputs, targets) if id(array) not in self._resident]
        if len(self._resident) + len(new) > RESIDENT_ARRAYS_MAX:
            self._forget()
        return CSamples(self._keep(inputs), self._keep(targets, recipe.task_shape.target == "classes"))

    def _keep(self, array: np.ndarray, as_classes: bool = False) -> int:
        if id(array) not in self._resident:
            plain = np.ascontiguousarray(array, np.int32 if as_classes else array.dtype)
            address = self.card.allocate(plain.nbytes)
            self._resident[id(array)] = (array, address)
            self._resident_bytes += plain.nbytes
            self.card.upload(address, plain)
        return self._resident[id(array)][1]

    def release(self) -> None:
        """Gives the card's memory back; what comes next takes it again."""
        with self._lock:
            self._forget()
            self._free_scratch()

    def _free_scratch(self) -> None:
        if self._scratch:
            self.card.free(self._scratch)
        self._scratch = self._scratch_bytes = 0

    def _forget(self) -> None:
        for _, address in self._resident.values():
            self.card.free(address)
        self._resident, self._resident_bytes = {}, 0


class CardMemory:
    """Card memory for the length of a `with` block."""

    def __init__(self, card: Card):
        self.card, self._addresses = card, []

    def __enter__(self) -> "CardMemory":
        return self

    def __exit__(self, *_: object) -> None:
        for address in self._addresses:
            self.card.free(address)

    def holding(self, array: np.ndarray) -> int:
        address = self.card.allocate(array.nbytes)
        self._addresses.append(address)
        self.card.upload(address, np.ascontiguousarray(array))
        return address


def bytes_of(struct: COptimizer | CProgram | ctypes.Array) -> np.ndarray:
    return np.frombuffer(bytes(struct), np.uint8)
