"""Small networks of every kind that is verified, with random parameters, and questions about them."""

from typing import Any

import numpy as np

from analysis.probes.verification.question import Question, ball
from protocol.recipes.recipe import Recipe, parse_recipe


def linear(width: int) -> dict[str, Any]:
    return {"kind": "linear", "width": width}


def layer(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, **fields}


RELU, FLAT, LAST = layer("relu"), layer("flatten"), layer("last")
IMAGE = [1, 6, 6]
# name: (layers, shape of the input, outputs)
PIECEWISE_LINEAR: dict[str, tuple[list[dict[str, Any]], list[int]]] = {
    "mlp": ([linear(8), RELU, linear(8), RELU, linear(3)], [5]),
    "leaky": ([linear(9), layer("leaky_relu", slope=0.2), linear(6), RELU, linear(3)], [12]),
    "deep": ([linear(6), RELU, linear(6), RELU, linear(6), RELU, linear(3)], [4]),
    "maxpool": (
        [layer("conv2d", channels=2, kernel=3), RELU, layer("maxpool2d", kernel=3, stride=1), FLAT, linear(3)],
        IMAGE,
    ),
    "avgpool": (
        [layer("conv2d", channels=2, kernel=3, padding=1), layer("avgpool2d", kernel=3), RELU, FLAT, linear(3)],
        IMAGE,
    ),
    "strided": (
        [layer("conv2d", channels=3, kernel=3, stride=2, padding=1), RELU, layer("globalavgpool"), linear(3)],
        IMAGE,
    ),
}
SMOOTH: dict[str, tuple[list[dict[str, Any]], list[int]]] = {
    "tanh": ([linear(8), layer("tanh"), linear(8), layer("tanh"), linear(3)], [5]),
    "sigmoid": ([linear(8), layer("sigmoid"), linear(8), RELU, linear(3)], [12]),
}
RECURRENT: dict[str, tuple[list[dict[str, Any]], list[int]]] = {
    "rnn": ([layer("rnn", width=4), LAST, linear(3)], [4, 2]),
    "gru": ([layer("gru", width=3), LAST, linear(3)], [3, 2]),
    "lstm": ([layer("lstm", width=3), layer("rnn", width=3), LAST, linear(3)], [3, 2]),
}
EVERY = PIECEWISE_LINEAR | SMOOTH | RECURRENT


def recipe_of(layers: list[dict[str, Any]], shape: list[int], outputs: int = 3) -> Recipe:
    """A recipe with these layers, over a data set that is never opened."""
    table = {
        "name": "small",
        "class": "small",
        "task": {"kind": "dataset", "data": "0" * 64, "shape": shape, "labels": outputs, "train": 8, "held_out": 8},
        "network": {"layers": layers},
        "training": {"loss": "cross_entropy", "learning_rate": 0.1, "batch": 2, "max_steps": 1},
    }
    return parse_recipe(table, "small")


def random_params(recipe: Recipe, rng: np.random.Generator, gain: float = 1.5) -> np.ndarray:
    """(P,) float32; weights of deviation gain / sqrt(fan in), biases of a tenth of the gain."""
    blocks = []
    for span in recipe.spans:
        fan = int(np.prod(span.shape[1:])) if len(span.shape) > 1 else 100
        blocks.append(rng.normal(size=span.end - span.begin) * gain / np.sqrt(fan))
    return np.concatenate(blocks).astype(np.float32)


def shifted(recipe: Recipe, params_P: np.ndarray, output: int, by: float) -> np.ndarray:
    """Parameters with another bias of the last layer's output."""
    arrays = {name: array.copy() for name, array in recipe.split(params_P).items()}
    name = f"{len(recipe.network.layers) - 1}.bias"
    arrays[name][output] = np.float32(np.float64(arrays[name][output]) + by)
    return recipe.join(arrays)


def random_box(recipe: Recipe, rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    point = rng.uniform(0, 1, recipe.flows[0].features * recipe.flows[0].length)
    return ball(point, radius, 0.0, 1.0)


def one_row(box: tuple[np.ndarray, np.ndarray], outputs: int, over: int, under: int, offset: float = 0.0) -> Question:
    """Is output `over` greater than output `under`, by more than -offset?"""
    row = np.zeros((1, outputs))
    row[0, over], row[0, under] = 1.0, -1.0
    return Question(low_n=box[0], high_n=box[1], rows_Rm=row, offsets_R=np.array([offset]))
