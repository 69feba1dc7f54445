"""arm64 computes the same bits: exact.c from a cross compiler, run by an emulator. No arm64 machine is needed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from support.engines.emulated_arm import MISSING, ArmEngine, program
from support.engines.engine_recipes import made
from support.engines.engine_strategies import ANY, OPTIMIZERS, SCHEDULES, images, sequences

from protocol.engine.initial import initial_state
from protocol.engine.native.engine import NativeEngine
from protocol.engine.streams import task_data
from protocol.recipes.layers import Dropout, Linear, Relu
from protocol.recipes.recipe import load_recipe

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/ds1-*.toml"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module", params=["-O3", "-O0"])
def arm(request, tmp_path_factory) -> ArmEngine:
    return ArmEngine(program(tmp_path_factory.mktemp("arm"), request.param))


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return NativeEngine()


def trained(engine, recipe, data, steps: int) -> tuple:
    states, losses = engine.train(recipe, data, [5], [initial_state(recipe, 5)], steps)
    return states[0].digest, losses.tobytes()


def same(engine, arm, m, steps: int = 3) -> None:
    found = trained(engine, m.recipe, m.data, steps)
    assert np.isfinite(np.frombuffer(found[1], np.float32)).all()
    assert trained(arm, m.recipe, m.data, steps) == found


@settings(max_examples=40, **ANY)
@given(sequences())
def test_sequences(engine, arm, m):
    same(engine, arm, m)


@settings(max_examples=40, **ANY)
@given(images())
def test_images(engine, arm, m):
    same(engine, arm, m)


@pytest.mark.parametrize("training", [*OPTIMIZERS, *SCHEDULES], ids=str)
def test_optimizers_and_schedules(engine, arm, training):
    same(engine, arm, made(Linear(width=7), Relu(), Dropout(rate=0.2), Linear(width=3), **training), 6)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes(engine, arm, path):
    recipe = load_recipe(path)
    assert trained(arm, recipe, task_data(recipe), 20) == trained(engine, recipe, task_data(recipe), 20)
