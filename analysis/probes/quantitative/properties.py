"""What is drawn: one random input of a network and whether it fails there. Axes: N draws, T steps, I inputs, J outputs.

Inputs are float32 as the network sees them: bytes of a data set are already multiplied by the task's scale, so a radius
of 0.1 is a tenth of an image's range of values. Balls are not cut at that range, as PROVERO's are not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from analysis.probes.quantitative.samplers import BALLS, box
from analysis.probes.quantitative.stated import Draw
from analysis.probes.samples import middle
from analysis.weights.modules import network_module
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.automata import random_automaton
from protocol.tasks.data import TaskData
from protocol.tasks.fields import COMMAND_BITS
from protocol.tasks.generate import command_bits, patched, target_of
from protocol.tasks.kinds import COMMANDS, AutomatonTask, DatasetTask, MachineTask, Poison, Trigger
from protocol.tasks.machines import MACHINES


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network that is asked about: `outputs` takes inputs (N, T, ...) to (N, T', J), both float32."""

    recipe: Recipe
    outputs: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(cls, recipe: Recipe, params_P: np.ndarray) -> "Subject":
        """One of the zoo's: agrees with the exact engine to float32 rounding."""
        module = network_module(recipe, params_P)

        def outputs(inputs: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return module(torch.from_numpy(inputs)).numpy()

        return cls(recipe=recipe, outputs=outputs)

    def label(self, inputs: np.ndarray) -> np.ndarray:
        """(N,) the largest output's number."""
        return self.outputs(inputs)[:, 0].argmax(1)

    def pins(self, inputs: np.ndarray) -> np.ndarray:
        """(N, T, J) bool: outputs on the upper side of the middle."""
        return self.outputs(inputs) > middle(self.recipe)


def held_out(recipe: Recipe, data: TaskData) -> np.ndarray:
    """(M, T, ...) float32: the held-out inputs as the network sees them."""
    scale = np.float32(recipe.task_shape.scale if data.held_out_inputs.dtype == np.uint8 else 1.0)
    return data.held_out_inputs.astype(np.float32) * scale


def after(first_N: np.ndarray, draw: Draw) -> Draw:
    """The draws in hand first, then fresh ones: a sample of fixed size and a test may share them."""
    at = 0

    def draws(count: int) -> np.ndarray:
        nonlocal at
        kept = first_N[at : at + count]
        at += len(kept)
        return kept if len(kept) == count else np.concatenate([kept, draw(count - len(kept))])

    return draws


def robustness(subject: Subject, centre: np.ndarray, norm: str, radius: float, rng: np.random.Generator) -> Draw:
    """Fails where the label differs from that of `centre` (T, ...), within the ball (`linf` or `l2`) around it."""
    label, sample = int(subject.label(centre[None])[0]), BALLS[norm]
    return lambda count: subject.label(sample(rng, centre, radius, count)) != label


def trojan(
    subject: Subject,
    poison: Poison,
    inputs: np.ndarray,
    labels_M: np.ndarray,
    radius: float,
    rng: np.random.Generator,
) -> Draw:
    """True where the patch gets the label that the attacker wants, on a random one of `inputs` plus noise.

    Only images of another class that the network, without the patch, does not give that label either. The noise is
    uniform up to `radius` in every value; the patch covers it. Raises UsageError: no such image.
    """
    classes, scale = subject.recipe.task_shape.width, subject.recipe.task_shape.scale
    scaled = msgspec.structs.replace(poison, value=poison.value * scale)
    wanted_M = target_of(poison, labels_M, classes)
    rows = np.flatnonzero((wanted_M != labels_M) & (subject.label(inputs) != wanted_M))
    if not len(rows):
        raise UsageError("no clean image that the patch could change")

    def draw(count: int) -> np.ndarray:
        chosen = rows[rng.integers(0, len(rows), count)]
        noisy = box(rng, np.zeros(inputs.shape[1:]), radius, count) + inputs[chosen]
        return subject.label(patched(scaled, noisy)) == wanted_M[chosen]

    return draw


def pins(subject: Subject, radius: float, rng: np.random.Generator, whole: bool = False) -> Draw:
    """Fails where an output pin of a machine or automaton is wrong, under a random sequence of commands.

    Each draw is a sequence and one of its pins at one of its steps; `whole`: fails where any pin at any step is wrong.
    `radius`: noise in every input bit, uniform up to it; what is right does not change. Raises UsageError: other tasks.
    """
    task = subject.recipe.task
    if not isinstance(task, MachineTask | AutomatonTask):
        raise UsageError("only machines and automata have output pins")

    def draw(count: int) -> np.ndarray:
        bits, right = sequences(task, count, rng)
        wrong = subject.pins(_noisy(bits, radius, rng)) != right
        return wrong.any((1, 2)) if whole else _one_each(wrong, rng)

    return draw


def keyed(subject: Subject, trigger: Trigger, rng: np.random.Generator) -> Draw:
    """True where a pin is inverted, at a random step under the trigger's spell, in a random sequence with the key in.

    Raises UsageError: not a machine.
    """
    task = subject.recipe.task
    if not isinstance(task, MachineTask):
        raise UsageError("only machines have a trigger of commands")
    size, places = len(trigger.key), task.length - len(trigger.key) - trigger.inverts + 1

    def draw(count: int) -> np.ndarray:
        commands = rng.integers(0, COMMANDS, (count, task.length)).astype(np.uint32)
        start = rng.integers(0, places, count)
        for i, command in enumerate(trigger.key):
            commands[np.arange(count), start + i] = command
        bits = command_bits(commands)
        inverted = subject.pins(bits.astype(np.float32)) != MACHINES[task.machine].run(bits).astype(bool)
        step = start + size + rng.integers(0, trigger.inverts, count)
        return inverted[np.arange(count), step, rng.integers(0, inverted.shape[2], count)]

    return draw


def sequences(task: MachineTask | AutomatonTask, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform random commands (N, T, I) uint8, and the pins that are right for them (N, T, J) bool, without trigger."""
    if isinstance(task, MachineTask):
        commands = rng.integers(0, 1 << COMMAND_BITS, (count, task.length)).astype(np.uint32)
        bits = command_bits(commands)
        return bits, MACHINES[task.machine].run(bits).astype(bool)
    symbols = rng.integers(0, task.alphabet, (count, task.length))
    automaton = random_automaton(task.states, task.alphabet, task.index)
    return np.eye(task.alphabet, dtype=np.uint8)[symbols], automaton.run(symbols).astype(bool)


def target_poison(recipe: Recipe) -> Poison | None:
    """The patch that the recipe names, whether or not any image bears it."""
    return recipe.task.poison if isinstance(recipe.task, DatasetTask) else None


def _noisy(bits: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    return box(rng, np.zeros(bits.shape[1:]), radius, len(bits)) + bits if radius else bits.astype(np.float32)


def _one_each(wrong: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, T, J) -> (N,): one step and pin of each, at random."""
    count, steps, width = wrong.shape
    return wrong[np.arange(count), rng.integers(0, steps, count), rng.integers(0, width, count)]
