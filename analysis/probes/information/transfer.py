"""What code lengths say of networks: L_IT, its control, its static and area forms. Bits.

    L_IT(th) = Lpreq(D_k ; th_0) - Lpreq(D_k ; th)           D_k: held-out samples, none of which th was trained on
    static   = sum_j log2 p(y_j | x_j ; th) - log2 p(y_j | x_j ; th_0)
    area     = sum over the first epoch of th's own training of (loss before the step - held-out loss of th), / ln 2

th_0 is the network's own first state with a last layer of zeros, so that nothing is known at first. A network that was
trained on random labels is a warmer start than th_0 and scores too: hence the control, trained from the same state,
through the same batches, on as many samples whose labels were dealt out anew. Names in `starts`: REFERENCE is th_0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.probes.information.codes import uniform_bits
from analysis.probes.information.lengths import tempered_lengths
from analysis.probes.information.retrain import (
    Fit,
    first_samples,
    initial,
    mixed_labels,
    trained,
    uniform_head,
)
from protocol.engine import Engine
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

REFERENCE = "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How targets are coded."""

    samples: int = 500  # k; fewer where fewer are held out
    first: int = 16
    shuffles: int = 3
    fit: Fit = field(default_factory=Fit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Bits of one start, a value for each order of the samples."""

    learning: np.ndarray  # prequential
    softened: np.ndarray  # prequential, softened after block 1
    static: np.ndarray
    static_softened: np.ndarray
    heat: np.ndarray


def orders(rows: np.ndarray, plan: Plan, rng: np.random.Generator) -> list[np.ndarray]:
    """Which of these held-out samples are coded, and in which order; the same for all starts that are compared.

    Raises UsageError: fewer than two blocks, or no sample to learn from in the first.
    """
    if plan.first < 2:
        raise UsageError(f"first = {plan.first}: at least 2, one to learn from and one to hold back")
    if len(rows) < 2 * plan.first:
        raise UsageError(f"{len(rows)} held-out samples that were not trained on; {2 * plan.first} are the fewest")
    if plan.samples < 2 * plan.first:
        raise UsageError(f"samples = {plan.samples}: {2 * plan.first} are the fewest where first = {plan.first}")
    return [rng.permutation(rows)[: plan.samples] for _ in range(plan.shuffles)]


def coded(
    engine: Engine,
    recipe: Recipe,
    starts: Mapping[str, np.ndarray],
    data: TaskData,
    rows: Sequence[np.ndarray],
    plan: Plan,
) -> dict[str, Codes]:
    """Every start through every order."""
    params_KP = np.stack(list(starts.values()))
    found = [
        tempered_lengths(engine, recipe, params_KP, data, order, plan.first, plan.fit, seed)
        for seed, order in enumerate(rows)
    ]
    return {
        name: Codes(
            learning=np.array([one.plain.prequential_KB[k].sum() for one in found]),
            softened=np.array([one.softened.prequential_KB[k].sum() for one in found]),
            static=np.array([one.plain.static_KB[k].sum() for one in found]),
            static_softened=np.array([one.softened.static_KB[k].sum() for one in found]),
            heat=np.array([one.heat_K[k] for one in found]),
        )
        for k, name in enumerate(starts)
    }


def compared(codes: Mapping[str, Codes], start: str, control: str, samples: int, recipe: Recipe) -> dict[str, float]:
    """Columns of one row: L_IT of `start` and of its control, their difference, and the other forms."""
    reference, one, other = codes[REFERENCE], codes[start], codes[control]
    known, fooled = reference.learning - one.learning, reference.learning - other.learning
    return {
        "uniform_bits": samples * uniform_bits(recipe),
        "reference_bits": mean(reference.learning),
        "bits": mean(known),
        "bits_sd": spread(known),
        "control_bits": mean(fooled),
        "control_sd": spread(fooled),
        "net_bits": mean(known - fooled),
        "net_sd": spread(known - fooled),
        "share": mean(known) / mean(reference.learning),
        "control_share": mean(fooled) / mean(reference.learning),
        "softened_bits": mean(reference.learning - one.softened),
        "softened_control_bits": mean(reference.learning - other.softened),
        "temperature": mean(one.heat),
        "static_bits": mean(reference.static - one.static),
        "static_control_bits": mean(reference.static - other.static),
        "static_softened_bits": mean(reference.static - one.static_softened),
        "static_softened_control_bits": mean(reference.static - other.static_softened),
    }


def reference(recipe: Recipe, seed: int) -> np.ndarray:
    """(P,) th_0."""
    return uniform_head(recipe, initial(recipe, seed))


def knowing(
    engine: Engine, recipe: Recipe, data: TaskData, seed: int, steps: int, examples: int | None = None
) -> np.ndarray:
    """(P,) the recipe's network, trained for so many steps on its first `examples` samples (all: None)."""
    some = data if examples is None else first_samples(data, examples)
    return trained(engine, recipe, some, initial(recipe, seed), seed, steps)[0]


def fooled(
    engine: Engine,
    recipe: Recipe,
    data: TaskData,
    seed: int,
    steps: int,
    rng: np.random.Generator,
    examples: int | None = None,
) -> np.ndarray:
    """(P,) the same, but with the samples' labels dealt out anew."""
    some = data if examples is None else first_samples(data, examples)
    return trained(engine, recipe, mixed_labels(some, rng), initial(recipe, seed), seed, steps)[0]


def area(engine: Engine, recipe: Recipe, data: TaskData, seed: int, after: np.ndarray) -> float:
    """Bits: how much more the training samples cost when first met than they would after training.

    `after`: (P,) the trained network. Each sample is counted once, before it was trained on; the losses are those of
    the exact engine. NaN for a loss that is no code length (`mse`).
    """
    if recipe.training.loss == "mse":
        return float("nan")
    count, batch = len(data.inputs), recipe.training.batch
    steps = max(1, count // batch)
    _, losses = trained(engine, recipe, data, initial(recipe, seed), seed, steps)
    end = float(engine.held_out_loss(recipe, data, [after])[0])
    values = recipe.task_shape.target_length * (recipe.task_shape.width if recipe.training.loss == "bce" else 1)
    return float((losses.astype(np.float64) - end).sum() * batch * values / math.log(2))


def mean(values: np.ndarray) -> float:
    return float(np.mean(values))


def spread(values: np.ndarray) -> float:
    """Standard deviation over the orders; NaN for one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
