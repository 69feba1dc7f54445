"""The CUDA engine: exact.cu on one or more cards, a thread block a network. Bit for bit what `native` computes.

Here networks are divided among cards and turns; `card_queue` has what one card does, `driver` a real card behind
ctypes; the tests have an emulated one.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from protocol.engine import Engine, Evaluation, State
from protocol.engine.cuda.card_queue import WAVES, Card, CardError, CardQueue, Draw, NetworkBatch
from protocol.engine.streams import batch_orders
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

T = TypeVar("T")


class CudaEngine:
    """Networks are divided among the cards; a card takes them in turns that fit its memory."""

    def __init__(self, cards: list[Card], draw: Draw = batch_orders):
        """`draw` gives the networks' batches; in C it is six times as fast, and a card waits for it."""
        self.name = "cuda-" + "+".join(sorted({card.name for card in cards}))
        self._draw = draw
        self._queues = [CardQueue(card) for card in cards]
        self.width = 2 * WAVES * sum(card.blocks for card in cards)  # networks in flight that keep the cards busy
        self._pool = ThreadPoolExecutor(len(cards), "card")
        self._ahead = ThreadPoolExecutor(1, "batches")

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        def prepare(rows: range) -> NetworkBatch:
            return NetworkBatch.of(recipe, [seeds[k] for k in rows], [states[k] for k in rows], steps, self._draw)

        trained: list[State | None] = [None] * len(seeds)
        losses = np.zeros((len(seeds), steps), np.float32)

        def on(queue: CardQueue, rows: range) -> None:
            turns = parts(rows, queue.fitting(recipe, data.inputs, data.targets, recipe.training.batch, steps))
            ahead = self._ahead.submit(prepare, turns[0]) if turns else None
            for turn, following in zip(turns, [*turns[1:], None], strict=True):
                assert ahead is not None
                prepared = ahead.result()
                ahead = self._ahead.submit(prepare, following) if following else None
                queue.train(recipe, data, prepared, steps)
                losses[turn.start : turn.stop] = prepared.losses
                for row, k in enumerate(turn):
                    trained[k] = State(
                        step=states[k].step + steps,
                        params=prepared.params[row].copy(),
                        moments=prepared.moments[row].copy(),
                    )

        self._share(on, len(seeds))
        return [state for state in trained if state is not None], losses

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        return self.evaluate(recipe, data, params).loss

    def evaluate(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> Evaluation:
        losses, correct = np.zeros(len(params), np.float32), np.zeros(len(params), np.int64)

        def on(queue: CardQueue, rows: range) -> None:
            inputs, targets = data.held_out_inputs, data.held_out_targets
            for turn in parts(rows, queue.fitting(recipe, inputs, targets, len(inputs), 0)):
                here = slice(turn.start, turn.stop)
                losses[here], correct[here] = queue.measure(recipe, data, np.stack(params[here]))

        self._share(on, len(params))
        return Evaluation.of(recipe, losses, correct)

    def release(self) -> None:
        """Gives the cards' memory back, which stays taken between calls."""
        for queue in self._queues:
            queue.release()

    def _share(self, on: Callable[["CardQueue", range], None], count: int) -> None:
        """Neighbouring rows to each card, as many as it has blocks for."""
        blocks = np.cumsum([0] + [queue.card.blocks for queue in self._queues])
        edges = [int(count * part // blocks[-1]) for part in blocks]
        jobs = [
            self._pool.submit(on, queue, range(first, end))
            for queue, first, end in zip(self._queues, edges, edges[1:], strict=False)
            if end > first
        ]
        for job in jobs:
            job.result()


class CudaOrElse:
    """The CUDA engine, until a card fails (no memory for a recipe, a driver that goes away); then the other, for good.

    Calls with fewer than `few` networks go to the other engine at once: a card is slow with one network, and fast with
    hundreds (docs/performance.md). Which engine computes changes no bit.
    """

    def __init__(self, cuda: Engine, otherwise: Callable[[], Engine], say: Callable[[str], None], few: int = 0):
        self._cuda: Engine | None = cuda
        self._make, self._say, self._few = otherwise, say, few
        self._other: Engine | None = None
        self._making = threading.Lock()
        self.name, self.width = cuda.name, getattr(cuda, "width", 0)

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        return self._try(len(seeds), lambda engine: engine.train(recipe, data, seeds, states, steps))

    def held_out_loss(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> np.ndarray:
        return self._try(len(params), lambda engine: engine.held_out_loss(recipe, data, params))

    def evaluate(self, recipe: Recipe, data: TaskData, params: list[np.ndarray]) -> Evaluation:
        return self._try(len(params), lambda engine: engine.evaluate(recipe, data, params))

    def _try(self, networks: int, work: Callable[[Engine], T]) -> T:
        cuda = self._cuda
        if cuda is None or networks < self._few:
            return work(self._otherwise())
        try:
            return work(cuda)
        except CardError as error:
            self._say(f"the GPU is given up: {error}; going on with the processor")
            self._cuda, other = None, self._otherwise()
            self.name = other.name
            return work(other)

    def _otherwise(self) -> Engine:
        with self._making:
            if self._other is None:
                self._other = self._make()
            return self._other


def parts(rows: range, most: int) -> list[range]:
    return [rows[first : first + most] for first in range(0, len(rows), most)]
