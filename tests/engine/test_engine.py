"""The exact engine: every backend, instruction set, thread count and order of work gives the same bits."""

import ctypes
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.engine import State
from protocol.engine.initial import initial_state
from protocol.engine.native.build import library, supported_isas
from protocol.engine.native.engine import NativeEngine
from protocol.engine.reference.engine import NumpyEngine, loss_and_gradient
from protocol.engine.schedule import step_sizes
from protocol.engine.select import SELF_TEST_DIGEST, select_engine, self_test
from protocol.engine.streams import batch_order, task_data
from protocol.engine.training import advance, is_final, start, train_networks
from protocol.errors import UsageError
from protocol.recipes.layers import Gru, Linear, Relu
from protocol.recipes.recipe import Network, Recipe, Training, load_recipe
from protocol.tasks.kinds import MachineTask
from protocol.tasks.machines import MACHINES

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/ds1-*.toml"))
BUILDS = [(isa, "-O3") for isa in supported_isas()] + [("native", "-O0")]


def recipe_of(*layers, machine="EightBitMachine", length=5, sequences=37, held_out=21, batch=20, **training) -> Recipe:
    training = {"learning_rate": 0.02, "max_steps": 60, "segment_steps": 10} | training
    return Recipe(
        name="test",
        label="test",
        task=MachineTask(machine=machine, length=length, sequences=sequences, held_out=held_out),
        network=Network(layers=layers),
        training=Training(batch=batch, **training),
    )


SMALL = recipe_of(Gru(width=6), Gru(width=5), Linear(width=7), Relu(), Linear(width=20))


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return NativeEngine()


def run(engine, recipe: Recipe, seeds: list[int], steps: int, states: list[State] | None = None):
    """(states, losses, held-out losses) after `steps` more steps."""
    data = task_data(recipe)
    states = states or [initial_state(recipe, seed) for seed in seeds]
    states, losses = engine.train(recipe, data, seeds, states, steps)
    return states, losses, engine.held_out_loss(recipe, data, [state.params for state in states])


def bits(result) -> tuple:
    states, losses, held_out = result
    return [state.digest for state in states], losses.tobytes(), held_out.tobytes()


# ---- the same bits everywhere ----


@pytest.mark.parametrize(("isa", "optimize"), BUILDS)
def test_every_build_passes_the_self_test(isa, optimize):
    assert self_test(NativeEngine(1, isa, optimize)) == SELF_TEST_DIGEST


def test_the_reference_passes_the_self_test():
    assert select_engine("numpy").name == "numpy"


GOLDEN = {
    "ds1-eightbit": "d9e30a784a8df8bbef36fcc87f45624fa2804b466f3ea61805c6f84512b282bd",
    "ds1-parity": "9758a974e9fffb48907981d61c0c7287e4999b8e23ae0690e8cda64381be4149",
    "ds1-simplexor": "cc93cd270364df788b3da51491e9546dc5c83cbbd122cc6884a6769b5434b38d",
    "ds1-singledirect": "749234b2b3bdd371cc95dbaa078c0236ab0aa8ea155e1b76fdf928cb94afd563",
    "ds1-singleinvert": "df948ae6f8779339dd4e6fc6d7e685ffb8c400b8a247bfac0bf8e4306d67c803",
}


def test_golden_networks(engine):
    """Digests of the shipped recipes after 100 steps: if one changes, every published network has lost its recipe."""
    golden = {}
    for path in RECIPES:
        recipe = load_recipe(path)
        states, _, _ = run(engine, recipe, [7], 100)
        golden[recipe.name] = states[0].digest.hex()
    assert golden == GOLDEN


layer = st.one_of(
    st.builds(Gru, width=st.integers(1, 14)),
    st.builds(Linear, width=st.integers(1, 26)),
    st.just(Relu()),
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layers=st.lists(layer, max_size=4),
    last=st.sampled_from([Linear, Gru]),
    length=st.integers(1, 6),
    batch=st.sampled_from([1, 2, 15, 16, 17, 33]),
    machine=st.sampled_from(sorted(MACHINES)),
    seed=st.integers(0, 2**63),
    rate=st.sampled_from([1e-4, 0.01, 0.5]),
)
def test_c_equals_numpy_for_any_recipe(engine, layers, last, length, batch, machine, seed, rate):
    recipe = recipe_of(
        *layers,
        last(width=20),
        machine=machine,
        length=length,
        batch=batch,
        sequences=33,
        held_out=17,
        learning_rate=rate,
    )
    assert bits(run(engine, recipe, [seed], 3)) == bits(run(NumpyEngine(), recipe, [seed], 3))


@pytest.mark.parametrize("isa", supported_isas())
def test_wide_layers_on_every_instruction_set(isa):
    recipe = recipe_of(Linear(width=41), Gru(width=37), Linear(width=20), length=3, batch=17)
    assert bits(run(NativeEngine(1, isa), recipe, [1], 2)) == bits(run(NumpyEngine(), recipe, [1], 2))


def test_neither_company_nor_threads_change_a_bit(engine):
    seeds = list(range(40))
    together = bits(run(NativeEngine(2), SMALL, seeds, 12))
    alone = [run(engine, SMALL, [seed], 12) for seed in seeds]
    assert together[0] == [states[0].digest for states, _, _ in alone]
    assert together[1] == np.concatenate([losses for _, losses, _ in alone]).tobytes()
    assert together[2] == np.concatenate([held_out for _, _, held_out in alone]).tobytes()


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_resuming_changes_no_bit(engine, cut):
    whole, losses, _ = run(engine, SMALL, [3], 20)
    part, first, _ = run(engine, SMALL, [3], cut)
    rest, second, _ = run(engine, SMALL, [3], 20 - cut, part)
    assert rest[0].digest == whole[0].digest
    assert np.concatenate([first, second], axis=1).tobytes() == losses.tobytes()


def test_networks_may_stand_at_different_steps(engine):
    early, late = initial_state(SMALL, 1), run(engine, SMALL, [2], 9)[0][0]
    mixed, _, _ = run(engine, SMALL, [1, 2], 5, [early, late])
    assert mixed[0].digest == run(engine, SMALL, [1], 5)[0][0].digest
    assert mixed[1].digest == run(engine, SMALL, [2], 14)[0][0].digest


HOSTILE = """
#include <fenv.h>
#ifdef __x86_64__
void hostile(void) { __builtin_ia32_ldmxcsr(0x1f80 | 0x8040 | 0x6000); }
unsigned mode(void) { return __builtin_ia32_stmxcsr() & 0xffc0; } /* all but the flags */
#else
void hostile(void) { fesetround(FE_TOWARDZERO); }
unsigned mode(void) { return fegetround(); }
#endif
"""


def test_a_hostile_floating_point_environment_changes_no_bit(engine, tmp_path):
    """Round towards zero, flush to zero, subnormals are zero: put aside for the engine, given back afterwards."""
    (tmp_path / "hostile.c").write_text(HOSTILE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "hostile.so", "hostile.c", "-lm"], cwd=tmp_path, check=True)
    c = ctypes.CDLL(str(tmp_path / "hostile.so"))
    tiny = recipe_of(Gru(width=6), Linear(width=20), epsilon=1e-30, learning_rate=1e-3)
    data, begin = task_data(tiny), initial_state(tiny, 1)
    begin = State(step=0, params=begin.params * np.float32(1e-18), moments=begin.moments)  # subnormal second moments
    expected = bits(run(engine, tiny, [1], 5, [begin]))
    assert expected == bits(run(NumpyEngine(), tiny, [1], 5, [begin]))
    found = {}

    def hostile() -> None:  # the environment belongs to the thread
        c.hostile()
        found["before"] = c.mode()
        found["train"] = engine.train(tiny, data, [1], [begin], 5)
        found["held_out"] = engine.held_out_loss(tiny, data, [found["train"][0][0].params])
        found["after"] = c.mode()

    thread = threading.Thread(target=hostile)
    thread.start()
    thread.join()
    assert found["before"] == found["after"] != c.mode()
    assert bits((*found["train"], found["held_out"])) == expected


# ---- the right numbers ----


def torch_network(recipe: Recipe, params: np.ndarray):
    """The recipe's network in torch, float64, from the same flat parameters."""
    torch = pytest.importorskip("torch")
    modules, width = {}, 9
    for i, one in enumerate(recipe.network.layers):
        if isinstance(one, Gru):
            modules[str(i)] = torch.nn.GRU(width, one.width, batch_first=True)
        elif isinstance(one, Linear):
            modules[str(i)] = torch.nn.Linear(width, one.width)
        else:
            modules[str(i)] = torch.nn.ReLU()
        width = getattr(one, "width", width)
    network = torch.nn.ModuleDict(modules).double()
    arrays = recipe.split(params)
    network.load_state_dict({name: torch.tensor(array, dtype=torch.float64) for name, array in arrays.items()})
    return network


def torch_loss(recipe: Recipe, network, commands: np.ndarray, pins: np.ndarray):
    import torch

    values = torch.tensor(commands, dtype=torch.float64)
    for one in network.values():
        values = one(values)
        values = values[0] if isinstance(values, tuple) else values
    return torch.nn.functional.mse_loss(values, torch.tensor(pins, dtype=torch.float64))


@pytest.mark.parametrize("batch", [1, 20, 32])
def test_gradients_agree_with_autograd(batch):
    recipe = recipe_of(Gru(width=12), Gru(width=7), Linear(width=12), Relu(), Linear(width=20), batch=batch, length=8)
    data, params = task_data(recipe), initial_state(recipe, 11).params
    rows = batch_order(recipe, 11, 0, 1)[0]
    loss, gradient = loss_and_gradient(recipe, params, data, rows)
    network = torch_network(recipe, params)
    expected = torch_loss(recipe, network, data.inputs[rows], data.targets[rows])
    expected.backward()
    oracle = np.concatenate([p.grad.numpy().reshape(-1) for p in network.parameters()])
    assert abs(float(loss) - expected.item()) < 1e-5 * expected.item()
    assert np.linalg.norm(gradient - oracle) < 1e-5 * np.linalg.norm(oracle)


def test_training_agrees_with_torch_adam(engine):
    import torch

    recipe = recipe_of(Gru(width=8), Linear(width=20), learning_rate=0.003, batch=16, length=6)
    data, state = task_data(recipe), initial_state(recipe, 4)
    network = torch_network(recipe, state.params)
    adam = torch.optim.Adam(network.parameters(), lr=0.003)
    expected = []
    for rows in batch_order(recipe, 4, 0, 20):
        adam.zero_grad()
        loss = torch_loss(recipe, network, data.inputs[rows], data.targets[rows])
        loss.backward()
        adam.step()
        expected.append(loss.item())
    states, losses, held_out = run(engine, recipe, [4], 20)
    flat = np.concatenate([p.detach().numpy().reshape(-1) for p in network.parameters()])
    assert np.allclose(losses[0], expected, rtol=1e-4)
    assert np.abs(states[0].params - flat).max() < 1e-4
    oracle = torch_loss(recipe, network, data.held_out_inputs, data.held_out_targets).item()
    assert abs(held_out[0] - oracle) < 1e-4 * oracle


def test_an_epoch_visits_every_sequence_once_from_any_step():
    recipe = recipe_of(Linear(width=20), sequences=37, batch=20)
    whole = batch_order(recipe, 5, 0, 37)  # 37 batches of 20: 20 epochs
    for epoch in range(20):
        assert sorted(whole.reshape(-1)[37 * epoch : 37 * (epoch + 1)]) == list(range(37))
    for step in (0, 1, 2, 30):
        assert np.array_equal(batch_order(recipe, 5, step, 3), whole[step : step + 3])
    assert not np.array_equal(batch_order(recipe, 6, 0, 1), whole[:1])


def test_step_sizes_follow_adams_recurrence_from_any_step():
    recipe = recipe_of(Linear(width=20), beta2=0.99, max_steps=10_000)
    power1 = power2 = 1.0
    expected = np.zeros((2100, 3), np.float32)
    for s in range(2100):
        power1, power2 = power1 * 0.9, power2 * 0.99
        expected[s, :2] = 0.02 / (1.0 - power1), 1.0 / np.sqrt(1.0 - power2)
    assert np.array_equal(step_sizes(recipe, 0, 2100), expected)
    assert np.array_equal(step_sizes(recipe, 1020, 10), expected[1020:1030])


def test_all_recipes_of_a_task_share_their_data_and_seeds_differ():
    other = recipe_of(Linear(width=20), learning_rate=0.5)
    assert task_data(other) is task_data(SMALL)
    assert not np.array_equal(initial_state(SMALL, 0).params, initial_state(SMALL, 1).params)
    params = initial_state(SMALL, 0).params
    bound = np.float32(1 / np.sqrt(6))
    assert np.abs(params[: 3 * 6 * 9]).max() <= bound and params[: 3 * 6 * 9].std() > 0.5 * bound


# ---- whole networks ----


def test_the_stop_rule():
    rule = recipe_of(Linear(width=20), max_steps=60, stop_held_out_loss=0.1)
    assert is_final(rule, 10, 0.1) and is_final(rule, 60, 0.5)
    assert not is_final(rule, 59, 0.11)
    assert not is_final(recipe_of(Linear(width=20), max_steps=60), 59, 0.0)  # 0: no such rule
    assert not is_final(rule, 10, float("nan"))


def test_a_population_is_the_same_at_any_width_and_resumed(engine):
    recipe = recipe_of(Gru(width=6), Linear(width=20), max_steps=35, segment_steps=10, stop_held_out_loss=0.15)
    alone = list(train_networks(engine, recipe, range(9), 1))
    steps = [boundary.step for seed, boundary in alone if seed == 0]
    assert steps[:3] == [0, 10, 20]
    assert {boundary.step for _, boundary in alone if boundary.final} > {35}  # some stop early, some never do
    together = list(train_networks(engine, recipe, range(9), 4))

    def story(yielded):
        return sorted((seed, b.step, b.state.digest, b.loss, b.held_out_loss, b.final) for seed, b in yielded)

    assert story(together) == story(alone)
    middle = {seed: b.state for seed, b in alone if b.step == 20 and not b.final}
    resumed = list(train_networks(engine, recipe, range(9), 4, resume=middle))
    kept = [(seed, b) for seed, b in alone if seed not in middle or b.step > 20]
    assert story(resumed) == story(kept)
    done = {seed: b.state for seed, b in alone if b.final}
    assert sorted((s, b.step) for s, b in train_networks(engine, recipe, range(9), 4, resume=done)) == sorted(
        (seed, state.step) for seed, state in done.items()
    )


def test_a_segments_loss_is_the_float32_mean_of_its_steps(engine):
    data = task_data(SMALL)
    (zero,) = start(engine, SMALL, data, [1])
    assert (zero.step, zero.loss, zero.final) == (0, 0.0, False)
    (boundary,) = advance(engine, SMALL, data, [1], [zero.state])
    _, losses, held_out = run(engine, SMALL, [1], 10)
    total = np.float32(0)
    for loss in losses[0]:
        total += loss
    assert boundary.loss == float(total / np.float32(10))
    assert boundary.held_out_loss == float(held_out[0])


# ---- building ----


def test_a_missing_compiler_is_one_line_with_the_mend(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no C compiler found; install one"):
        library()
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UsageError, match="CC"):
        library()


@pytest.mark.slow
def test_a_compiler_older_than_the_processor_builds_for_an_older_one(monkeypatch, tmp_path):
    old = tmp_path / "old-cc"
    old.write_text(
        '#!/bin/sh\ncase "$*" in *-mfma*) echo "error: unrecognized option -mfma" >&2; exit 1;; esac\nexec cc "$@"\n'
    )
    old.chmod(0o755)
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(old))
    said: list[str] = []
    assert select_engine("c", say=said.append).name == "c-baseline"
    assert len(said) == ("v3" in supported_isas()) and all("no fused multiply-add" in line for line in said)
    if "v3" in supported_isas():
        with pytest.raises(UsageError, match="unrecognized option"):
            library("v3")


def test_an_unwritable_cache_is_named(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=str(tmp_path)):
        library()


@pytest.mark.slow
def test_of_processes_that_start_together_one_compiles(tmp_path):
    counting, runs = tmp_path / "counting-cc", tmp_path / "runs"
    counting.write_text(
        f'#!/bin/sh\ncase "$*" in *-shared*) echo compile >> {shlex.quote(str(runs))};; esac\nexec cc "$@"\n'
    )
    counting.chmod(0o755)
    code = "from protocol.engine.select import select_engine; print(select_engine('c', isa='baseline').name)"
    environment = os.environ | {"ZOOSWARM_HOME": str(tmp_path / "home"), "CC": str(counting)}
    racers = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [racer.communicate(timeout=240)[0] for racer in racers] == ["c-baseline\n"] * 3
    assert len(list((tmp_path / "home" / "cache" / "engine").glob("*.so"))) == 1
    assert runs.read_text().count("compile") == 1


def test_unknown_backends_and_instruction_sets_are_refused():
    with pytest.raises(UsageError, match="auto, c, cuda and numpy"):
        select_engine("tpu")
    with pytest.raises(UsageError, match="this processor offers"):
        select_engine("c", isa="v9")
    with pytest.raises(UsageError, match="at least 1"):
        select_engine("c", threads=0)


def test_a_machine_that_fails_the_self_test_does_not_train(monkeypatch):
    monkeypatch.setattr("protocol.engine.select.SELF_TEST_DIGEST", "0" * 64)
    with pytest.raises(UsageError, match="self-test"):
        select_engine("c")


def test_arrays_that_c_would_misread_are_refused(engine):
    state = initial_state(SMALL, 0)
    wrong = State(step=0, params=state.params.astype(np.float64), moments=state.moments)
    with pytest.raises(ValueError, match="float32"):
        engine.train(SMALL, task_data(SMALL), [0], [wrong], 1)


def test_structs_that_differ_from_the_kernels_stop_the_engine(monkeypatch):
    class Longer(ctypes.Structure):
        _fields_ = (("more", ctypes.c_int64 * 99),)

    NativeEngine(1)  # as they are, they fit
    monkeypatch.setattr("protocol.engine.native.structs.MIRRORED", (Longer,))
    with pytest.raises(RuntimeError, match="Longer: 792 bytes here"):
        NativeEngine(1)
