"""Networks trained again by the exact engine: from any parameters, on any samples, many networks in one call.

Axes: K networks, P parameters.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from protocol.engine import Engine, State
from protocol.engine.initial import initial_state
from protocol.errors import UsageError
from protocol.recipes.layers import Linear
from protocol.recipes.recipe import ENGINE, Recipe, Training
from protocol.tasks.data import TaskData
from protocol.tasks.kinds import Task

COUNTS = ("train", "sequences", "samples")  # how the kinds of task call their number of training samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How every start is trained on what was seen so far: Adam, the same for all."""

    rate: float = 1e-3
    batch: int = 16
    held_back: float = 0.1  # share of the samples that early stopping looks at
    look_steps: int = 60  # between two looks
    looks: int = 10  # most
    patience: int = 3  # looks without a better loss


def on_samples(recipe: Recipe, count: int, training: Training | None = None) -> Recipe:
    """The recipe with so many training samples, none dropped; its batches and dropout are drawn anew."""
    task: Task = recipe.task
    field = next(name for name in COUNTS if hasattr(task, name))
    training = training or recipe.training
    return msgspec.structs.replace(
        recipe,
        engine=ENGINE,
        task=msgspec.structs.replace(task, **{field: count, "drop": 0.0}),
        training=msgspec.structs.replace(training, batch=min(training.batch, count)),
    )


def samples_of(inputs: np.ndarray, targets: np.ndarray, held_inputs: np.ndarray, held_targets: np.ndarray) -> TaskData:
    """Arrays as the engine wants them."""
    parts = (np.ascontiguousarray(array) for array in (inputs, targets, held_inputs, held_targets))
    inputs, targets, held_inputs, held_targets = parts
    return TaskData(inputs=inputs, targets=targets, held_out_inputs=held_inputs, held_out_targets=held_targets)


def fit_from(
    engine: Engine, recipe: Recipe, starts_KP: np.ndarray, inputs: np.ndarray, targets: np.ndarray, fit: Fit, seed: int
) -> np.ndarray:
    """(K, P) float32: each start trained on the samples, at its best on the last tenth of them, which are held back.

    The start itself is among the candidates. All starts see the same batches. A network stops by itself: what it
    becomes does not depend on the others.
    """
    held = max(1, round(fit.held_back * len(inputs)))
    data = samples_of(inputs[:-held], targets[:-held], inputs[-held:], targets[-held:])
    training = Training(loss=recipe.training.loss, learning_rate=fit.rate, batch=fit.batch, max_steps=1)
    part = on_samples(recipe, len(data.inputs), training)
    best_KP = np.array(starts_KP, np.float32)
    best_K = engine.held_out_loss(part, data, list(best_KP)).astype(np.float64)
    states = {k: fresh(row) for k, row in enumerate(best_KP)}
    since = dict.fromkeys(states, 0)
    for _ in range(fit.looks):
        running = [k for k in states if since[k] < fit.patience]
        if not running:
            break
        moved, _ = engine.train(part, data, [seed] * len(running), [states[k] for k in running], fit.look_steps)
        found = engine.held_out_loss(part, data, [state.params for state in moved])
        for k, state, loss in zip(running, moved, found.tolist(), strict=True):
            states[k], since[k] = state, since[k] + 1
            if loss < best_K[k]:
                best_K[k], since[k] = loss, 0
                best_KP[k] = state.params
    return best_KP


def trained(
    engine: Engine, recipe: Recipe, data: TaskData, params: np.ndarray, seed: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) float32 and the losses (steps,) float32: the recipe's own training from these parameters on these data."""
    part = on_samples(recipe, len(data.inputs))
    (state,), losses = engine.train(part, data, [seed], [fresh(params)], steps)
    return state.params, losses[0]


def fresh(params: np.ndarray) -> State:
    """Step 0 at these parameters, moments zero."""
    params = np.array(params, np.float32)
    return State(step=0, params=params, moments=np.zeros((2, len(params)), np.float32))


def initial(recipe: Recipe, seed: int) -> np.ndarray:
    """(P,) float32 where the recipe's network of that seed begins."""
    return initial_state(recipe, seed).params


def first_samples(data: TaskData, count: int) -> TaskData:
    """The first so many training samples."""
    return samples_of(data.inputs[:count], data.targets[:count], data.held_out_inputs, data.held_out_targets)


def unseen(held_out: np.ndarray, *trained_on: np.ndarray) -> np.ndarray:
    """Rows of the held-out inputs that are none of those; a short sequence may well be both."""
    known = {sample.tobytes() for inputs in trained_on for sample in inputs}
    return np.array([i for i, sample in enumerate(held_out) if sample.tobytes() not in known], np.int64)


def mixed_labels(data: TaskData, rng: np.random.Generator) -> TaskData:
    """Training targets dealt out anew among the samples, and held-out ones among theirs: nothing to know is left."""
    return samples_of(
        data.inputs,
        data.targets[rng.permutation(len(data.targets))],
        data.held_out_inputs,
        data.held_out_targets[rng.permutation(len(data.held_out_targets))],
    )


def uniform_head(recipe: Recipe, params_KP: np.ndarray) -> np.ndarray:
    """(K, P) float32 whose last layer has weights 0 and a bias of 0, or 0.5 where pins are fitted by `mse`.

    So every class costs log2 C bits and every pin 1. Raises UsageError: the last layer with weights is not linear.
    """
    middle = 0.5 if recipe.task_shape.target == "pins" and recipe.training.loss == "mse" else 0.0
    params_KP = np.array(params_KP, np.float32)
    weight, bias = _head(recipe)
    params_KP[..., weight] = 0.0
    params_KP[..., bias] = middle
    return params_KP


def softened(recipe: Recipe, params_KP: np.ndarray, heat_K: np.ndarray) -> np.ndarray:
    """(K, P) float32 whose last layer is divided by a temperature, so that logits are. Raises UsageError as above."""
    params_KP = np.array(params_KP, np.float32)
    for part in _head(recipe):
        params_KP[:, part] /= np.asarray(heat_K, np.float32)[:, None]
    return params_KP


def _head(recipe: Recipe) -> list[slice]:
    """Where weight and bias of the last layer with parameters stand."""
    last = max(span.layer for span in recipe.spans)
    if not isinstance(recipe.network.layers[last], Linear):
        raise UsageError("a code that knows nothing needs a linear layer at the network's end")
    return [slice(span.begin, span.end) for span in recipe.spans if span.layer == last]
