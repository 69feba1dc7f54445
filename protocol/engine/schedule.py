"""Step sizes: the learning rate's schedule and Adam's corrections, in binary64 by fixed formulas, rounded once."""

import threading

import numpy as np

from protocol.recipes.recipe import Recipe, Training

POWERS_BLOCK = 1024  # steps of Adam's recurrence that are computed and kept together
PI = 3.141592653589793
COSINE = (  # (-1)^k / (2k)!, k falling from 11: Taylor's series of cos, to the last bit below pi / 2
    -1 / 1124000727777607680000,
    1 / 2432902008176640000,
    -1 / 6402373705728000,
    1 / 20922789888000,
    -1 / 87178291200,
    1 / 479001600,
    -1 / 3628800,
    1 / 40320,
    -1 / 720,
    1 / 24,
    -1 / 2,
    1.0,
)


def step_sizes(recipe: Recipe, step: int, steps: int) -> np.ndarray:
    """(rate, correction, shrink) of steps `step` to `step + steps`, (steps, 3) float32.

    Adam's, for the s-th step (from 1): rate / (1 - beta1^s) and 1 / sqrt(1 - beta2^s), in binary64 from powers by
    repeated multiplication, each rounded once to binary32. Others take the rate itself. Adamw shrinks by rate * decay.
    """
    t = recipe.training
    rates = learning_rates(t, step, steps)
    sizes = np.zeros((steps, 3), np.float32)
    sizes[:, 0] = rates
    if t.optimizer in ("adam", "adamw"):
        first_power, second_power = (_powers(beta, step, steps) for beta in (t.beta1, t.beta2))
        sizes[:, 0] = rates / (1.0 - first_power)
        sizes[:, 1] = 1.0 / np.sqrt(1.0 - second_power)
    if t.optimizer == "adamw":
        sizes[:, 2] = rates * t.weight_decay
    return sizes


def learning_rates(t: Training, step: int, steps: int) -> np.ndarray:
    """The schedule's rates, (steps,) float64. The warm-up rises over its steps; the schedule proper starts after it."""
    rates = np.full(steps, t.learning_rate, np.float64)
    at = np.arange(step, step + steps)
    after = np.maximum(at - t.warmup_steps, 0)
    if t.schedule == "step":
        decays = after // t.decay_every
        powers = np.multiply.accumulate(np.concatenate([[1.0], np.full(decays[-1], t.decay_factor)]))
        rates = rates * powers[decays]
    if t.schedule == "cosine":
        part = after.astype(np.float64) / float(t.max_steps - t.warmup_steps)
        share = t.final_rate + (1.0 - t.final_rate) * (0.5 * (1.0 + half_turn_cosine(part)))
        rates = rates * share
    warming = at < t.warmup_steps
    rates[warming] = t.learning_rate * ((at[warming] + 1).astype(np.float64) / float(t.warmup_steps or 1))
    return rates


def half_turn_cosine(x: np.ndarray) -> np.ndarray:
    """cos(pi x) for x in [0, 1], float64, by Taylor's series of its quarter turn: the same bits everywhere."""
    mirrored = x > 0.5
    angle = PI * np.where(mirrored, 1.0 - x, x)
    square = angle * angle
    total = np.full_like(square, COSINE[0])
    for coefficient in COSINE[1:]:
        total = total * square + coefficient
    return np.where(mirrored, 0.0 - total, total)


def _powers(beta: float, step: int, steps: int) -> np.ndarray:
    """beta^(step+1) .. beta^(step+steps) by repeated multiplication from 1.0, (steps,) float64."""
    first, last = step // POWERS_BLOCK, -(-(step + steps) // POWERS_BLOCK)
    with _powers_lock:
        blocks = _powers_known.setdefault(beta, [])
        while len(blocks) < last:
            factors = np.full(POWERS_BLOCK, beta, np.float64)
            if blocks:
                factors[0] = blocks[-1][-1] * beta
            blocks.append(np.multiply.accumulate(factors))
        row = np.concatenate(blocks[first:last])
    return row[step - first * POWERS_BLOCK :][:steps]


_powers_lock = threading.Lock()
_powers_known: dict[float, list[np.ndarray]] = {}  # 8 bytes a step: 80 MB for the longest recipe, 80 KB for ours
