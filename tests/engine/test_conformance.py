"""Every kind of layer, task and machine is known wherever a kind must be known.

A new kind fails here until it has an example below and every one of its consumers: the C structs and kernels, the NumPy
reference, the torch modules, the analysts' forward pass, symmetries and features, task data, the catalogue, the docs.
"""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from support.engines.engine_recipes import Made, made

from analysis.weights import chains, features, forward, symmetry
from analysis.weights.modules import network_module
from analysis.weights.symmetry_rules import symmetry_spec
from protocol.engine.initial import initial_state
from protocol.engine.native.engine import NativeEngine
from protocol.engine.native.structs import KINDS, program_of
from protocol.engine.reference.engine import NumpyEngine
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Gru,
    Last,
    Layer,
    LayerNorm,
    LeakyRelu,
    Linear,
    Lstm,
    MaxPool2d,
    Relu,
    Rnn,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import load_recipe
from protocol.tasks.datasets import Shelf
from protocol.tasks.generate import make_data
from protocol.tasks.kinds import (
    AutomatonTask,
    DatasetTask,
    FunctionTask,
    MachineTask,
    Task,
    check_task,
    task_shape,
)
from protocol.tasks.machines import MACHINES
from protocol.zoo.catalogue import all_columns

DOCS, RECIPES = (Path(__file__).parents[2] / name for name in ("docs", "recipes"))


def sequence(*layers: Layer) -> Made:
    return made(*layers, Linear(width=3), inputs=(4,), length=3, batch=6, samples=20)


def vector(*layers: Layer) -> Made:
    return made(Linear(width=6), *layers, Linear(width=3), inputs=(4,), batch=6, samples=20)


def image(*layers: Layer) -> Made:
    head = (Linear(width=3),)
    return made(*layers, *head, inputs=(2, 6, 6), target="classes", loss="cross_entropy", batch=6, samples=20)


EXAMPLES: dict[type, Made] = {
    Gru: sequence(Gru(width=5)),
    Lstm: sequence(Lstm(width=5)),
    Rnn: sequence(Rnn(width=5)),
    Last: made(Gru(width=4), Last(), Linear(width=3), inputs=(4,), length=3, target_length=1, batch=6, samples=20),
    Linear: vector(),
    Conv2d: image(Conv2d(channels=4, kernel=3), Flatten()),
    MaxPool2d: image(Conv2d(channels=4, kernel=3), MaxPool2d(kernel=2), Flatten()),
    AvgPool2d: image(Conv2d(channels=4, kernel=3), AvgPool2d(kernel=2), Flatten()),
    GlobalAvgPool: image(Conv2d(channels=4, kernel=3), GlobalAvgPool()),
    Flatten: image(Flatten()),
    Relu: vector(Relu()),
    LeakyRelu: vector(LeakyRelu(slope=0.1)),
    Tanh: vector(Tanh()),
    Sigmoid: vector(Sigmoid()),
    Dropout: vector(Dropout(rate=0.3)),
    LayerNorm: vector(LayerNorm()),
    GroupNorm: image(Conv2d(channels=4, kernel=3), GroupNorm(groups=2), Flatten()),
}

TASKS: dict[type, Task] = {
    MachineTask: MachineTask(machine="ParityMachine", length=3, sequences=8, held_out=4),
    AutomatonTask: AutomatonTask(states=4, alphabet=2, index=0, length=3, sequences=8, held_out=4),
    DatasetTask: DatasetTask(data="digits8x8", shape=(1, 8, 8), labels=10, train=20, held_out=10),
    FunctionTask: FunctionTask(function="wave", samples=8, held_out=4),
}


def weights_of(example: Made, n: int = 2) -> np.ndarray:
    """(N, P) float32, away from where biases are zero and gains one."""
    initial = np.stack([initial_state(example.recipe, seed).params for seed in range(n)])
    return initial + np.random.default_rng(1).normal(0, 0.1, initial.shape).astype(np.float32)


@pytest.mark.parametrize("kind", get_args(Layer), ids=lambda kind: kind.__name__)
class TestEveryLayer:
    def test_has_an_example_that_contains_it(self, kind):
        assert any(type(layer) is kind for layer in EXAMPLES[kind].recipe.network.layers)

    def test_trains_to_the_same_bits_in_numpy_and_c(self, kind):
        one = EXAMPLES[kind]
        assert (kind in KINDS) == (kind is not Flatten)  # an image's features are in order already
        assert program_of(one.recipe, one.data.inputs.dtype, 6).parameters == one.recipe.parameter_count
        states = [initial_state(one.recipe, seed) for seed in (0, 1)]
        trained = [
            e.train(one.recipe, one.data, [0, 1], states, 3) for e in (NumpyEngine(), NativeEngine(isa="baseline"))
        ]
        (numpy, numpy_losses), (c, c_losses) = trained
        assert [state.to_bytes() for state in numpy] == [state.to_bytes() for state in c]
        assert numpy_losses.tobytes() == c_losses.tobytes() and np.isfinite(c_losses).all()

    def test_is_the_torch_module_of_its_name(self, kind):
        one, weights_NP = EXAMPLES[kind], weights_of(EXAMPLES[kind], 1)
        module = network_module(one.recipe, weights_NP[0])
        assert [(n, tuple(p.shape)) for n, p in module.named_parameters()] == list(one.recipe.shapes)
        with torch.no_grad():
            found = module(torch.from_numpy(np.asarray(one.data.held_out_inputs, np.float32))).numpy()
        expected = forward.outputs(one.recipe, weights_NP, one.data.held_out_inputs)[0]
        assert np.allclose(found.reshape(expected.shape), expected, atol=1e-4)

    def test_is_computed_by_analysts_as_by_the_engine(self, kind):
        one, weights_NP = EXAMPLES[kind], weights_of(EXAMPLES[kind])
        losses = forward.held_out_losses(one.recipe, weights_NP, one.data)
        assert np.allclose(losses, NumpyEngine().held_out_loss(one.recipe, one.data, list(weights_NP)), atol=1e-4)

    def test_has_symmetries_that_leave_the_function_and_features_that_do_not_see_them(self, kind):
        one, weights_NP = EXAMPLES[kind], weights_of(EXAMPLES[kind])
        spec = symmetry_spec(one.recipe)
        changed_NP = symmetry.apply_change(spec, weights_NP, symmetry.random_change(spec, 2, np.random.default_rng(0)))
        before, after = (forward.outputs(one.recipe, w, one.data.held_out_inputs) for w in (weights_NP, changed_NP))
        assert np.allclose(before, after, atol=1e-8)
        found, again = (chains.chain_features(one.recipe, w) for w in (weights_NP, changed_NP))
        assert np.allclose(found, again, rtol=1e-6, atol=1e-8)
        assert np.isfinite(features.invariants(one.recipe, weights_NP)).all()

    def test_is_in_the_docs(self, kind):
        assert f"`{kind.__struct_config__.tag}`" in (RECIPES / "README.md").read_text()


@pytest.mark.parametrize("kind", get_args(Task), ids=lambda kind: kind.__name__)
class TestEveryTask:
    def test_has_data_of_the_shape_that_it_states(self, kind):
        task = TASKS[kind]
        check_task(task, "example")
        shape, data = task_shape(task), make_data(task, Shelf())
        assert data.inputs.shape[0] == shape.samples and data.held_out_inputs.shape[0] == shape.held_out
        assert int(np.prod(data.inputs.shape[1:])) == shape.length * int(np.prod(shape.input))
        assert len(data.targets) == shape.samples

    def test_has_its_fields_in_the_catalogue(self, kind):
        columns = {name for name, _, _ in all_columns()}
        assert {f"task.{field}" for field in kind.__struct_fields__} <= columns

    def test_is_in_the_docs(self, kind):
        assert f'kind = "{kind.__struct_config__.tag}"' in (DOCS / "data.md").read_text() or kind is MachineTask


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_has_data_a_recipe_and_a_place_in_the_docs(name):
    assert MACHINES[name].name == name
    data = make_data(MachineTask(machine=name, length=3, sequences=8, held_out=4), Shelf())
    assert data.targets.shape[:2] == (8, 3)
    recipes = [load_recipe(path) for path in sorted(RECIPES.glob("ds?-*.toml")) if "campaign" not in path.name]
    assert any(isinstance(recipe.task, MachineTask) and recipe.task.machine == name for recipe in recipes)
    assert name in (RECIPES / "README.md").read_text()
