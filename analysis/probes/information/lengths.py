"""Code lengths of targets under networks that learn as they go, and under networks that do not. In bits.

Prequential: the targets of D_k come in blocks; each is coded by the networks that were trained, from their starts, on
all blocks before. Blocks double: the first has `first` samples. Axes: K networks (starts), P parameters, B blocks.
"""

from dataclasses import dataclass

import numpy as np

from analysis.probes.information.codes import Running, block_bits, heats
from analysis.probes.information.retrain import Fit, fit_from, softened
from analysis.weights.forward import outputs
from protocol.engine import Engine
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Bits of K networks for one order of the samples, block by block."""

    prequential_KB: np.ndarray  # by networks that learn from the blocks before
    static_KB: np.ndarray  # by the starts themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempered:
    """The same as they are, and with the last layer softened by the temperature that fits block 1 best.

    Block 1 is coded before the temperature is known, so it costs the same in both.
    """

    plain: Lengths
    softened: Lengths
    heat_K: np.ndarray


def block_ends(samples: int, first: int) -> list[int]:
    """16, 32, 64, ... and all: t_1 to t_S. Raises ValueError: fewer samples than one block, or no block."""
    if not 1 <= first <= samples:
        raise ValueError(f"blocks from {first} on, of {samples} samples")
    ends = [first]
    while ends[-1] < samples:
        ends.append(min(2 * ends[-1], samples))
    return ends


def code_lengths(
    engine: Engine,
    recipe: Recipe,
    starts_KP: np.ndarray,
    data: TaskData,
    rows: np.ndarray,
    first: int,
    fit: Fit,
    seed: int,
) -> Lengths:
    """Code the held-out targets of `rows`, in that order, by every start. `seed` draws the batches."""
    inputs, targets = data.held_out_inputs[rows], data.held_out_targets[rows]
    starts_KP = np.asarray(starts_KP, np.float32)
    learning = still = Running.begin(recipe, data, len(starts_KP))
    prequential, static = [], []
    begin, now_KP = 0, starts_KP
    for end in block_ends(len(rows), first):
        x, y = inputs[begin:end], targets[begin:end]
        if begin:
            now_KP = fit_from(engine, recipe, starts_KP, inputs[:begin], targets[:begin], fit, seed)
        bits_KS, learning = block_bits(recipe, outputs(recipe, now_KP, x), y, learning)
        prequential.append(bits_KS.sum(1))
        bits_KS, still = block_bits(recipe, outputs(recipe, starts_KP, x), y, still)
        static.append(bits_KS.sum(1))
        begin = end
    return Lengths(prequential_KB=np.stack(prequential, 1), static_KB=np.stack(static, 1))


def tempered_lengths(
    engine: Engine,
    recipe: Recipe,
    starts_KP: np.ndarray,
    data: TaskData,
    rows: np.ndarray,
    first: int,
    fit: Fit,
    seed: int,
) -> Tempered:
    """`code_lengths` of the starts, and of those that block 1 finds too sure of themselves also softened."""
    heat_K = heats(
        recipe, outputs(recipe, starts_KP, data.held_out_inputs[rows[:first]]), data.held_out_targets[rows[:first]]
    )
    hot = np.flatnonzero(heat_K > 1)
    soft_HP = softened(recipe, starts_KP[hot], heat_K[hot]) if len(hot) else starts_KP[:0]
    both = code_lengths(engine, recipe, np.concatenate([starts_KP, soft_HP]), data, rows, first, fit, seed)
    count = len(starts_KP)
    plain = Lengths(prequential_KB=both.prequential_KB[:count], static_KB=both.static_KB[:count])
    soft = Lengths(prequential_KB=plain.prequential_KB.copy(), static_KB=plain.static_KB.copy())
    soft.prequential_KB[hot, 1:] = both.prequential_KB[count:, 1:]
    soft.static_KB[hot, 1:] = both.static_KB[count:, 1:]
    return Tempered(plain=plain, softened=soft, heat_K=heat_K)
