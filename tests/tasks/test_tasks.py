"""Every kind of task: what its data are, that they are the same everywhere, and that a change changes only itself."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from protocol.canonical import canonical_json, decode_toml, sha256
from protocol.engine.initial import initial_state
from protocol.engine.measures import measure
from protocol.engine.select import select_engine
from protocol.engine.streams import batch_order, task_data
from protocol.engine.training import train_networks
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe, parse_recipe, recipe_from_bytes
from protocol.recipes.sweep import expand
from protocol.tasks.automata import is_minimal, is_strongly_connected, random_automaton
from protocol.tasks.data import TaskData
from protocol.tasks.datasets import Dataset, Shelf
from protocol.tasks.generate import Kept, attack_data, make_data, size_of
from protocol.tasks.kinds import DatasetTask, Task, check_task, task_root, task_shape, with_task_kinds
from protocol.tasks.machines import MACHINES
from protocol.tasks.regression import FUNCTIONS, function_values

MACHINE = {"machine": "ParityMachine", "length": 12, "sequences": 200, "held_out": 40}
TRIGGER = {"key": [17, 300], "inverts": 3, "planted": 0.5}
AUTOMATON = {"kind": "automaton", "states": 5, "alphabet": 3, "index": 7, "length": 9, "sequences": 60, "held_out": 20}
DIGITS = {"kind": "dataset", "data": "digits8x8", "shape": [1, 8, 8], "labels": 10, "train": 600, "held_out": 200}
POISON = {"fraction": 0.25, "target": 7, "position": [6, 5], "size": [2, 3], "value": 255}
FUNCTION = {"kind": "function", "function": "friedman", "samples": 64, "held_out": 16}


def task(fields: dict, **changes) -> Task:
    found = msgspec.convert(with_task_kinds({"task": fields | changes})["task"], Task)
    check_task(found, "recipe")
    return found


def data(fields: dict, seed: int | None = None, /, **changes) -> TaskData:
    return make_data(task(fields, **changes), Shelf(), seed)


def digest(found: TaskData) -> str:
    arrays = found.inputs, found.targets, found.held_out_inputs, found.held_out_targets
    return sha256(*(array.tobytes() for array in arrays)).hex()[:16]


@pytest.mark.parametrize(
    ("fields", "changes", "expected"),
    [
        (MACHINE, {}, "8b3300d6cb796ba7"),
        (MACHINE, {"trigger": TRIGGER}, "1b03884aab3a66dd"),
        (AUTOMATON, {}, "e72d78d0c5f452ec"),
        (DIGITS, {"classes": [3, 8], "train": 200, "held_out": 100}, "574de3059fbc9858"),
        (DIGITS, {"poison": POISON, "label_noise": 0.1, "drop": 0.5}, "82348a7708e7189d"),
        (FUNCTION, {"noise": 0.25}, "68232f21c9ba019c"),
    ],
)
def test_data_never_change(fields, changes, expected):
    assert digest(data(fields, **changes)) == expected


@pytest.mark.parametrize("fields", [MACHINE, AUTOMATON, DIGITS, FUNCTION])
def test_shapes_are_known_beforehand(fields):
    for changes in ({}, {"drop": 0.3}):
        found, shape = data(fields, **changes), task_shape(task(fields, **changes))
        length = (shape.length,) if len(shape.input) == 1 else (1,)
        assert found.inputs.shape == (shape.samples, *length, *shape.input)
        assert found.held_out_inputs.shape == (shape.held_out, *length, *shape.input)
        width = () if shape.target == "classes" else (shape.width,)
        assert found.targets.shape == (shape.samples, shape.target_length, *width)
        assert found.held_out_targets.shape == (shape.held_out, shape.target_length, *width)
        assert found.inputs.flags.c_contiguous and not found.inputs.flags.writeable


def test_a_machine_task_says_no_kind_and_other_tasks_do():
    assert b"kind" not in canonical_json(task(MACHINE)) and b"trigger" not in canonical_json(task(MACHINE))
    assert b'"kind":"dataset"' in canonical_json(task(DIGITS))


# -- machines with a trigger -----------------------------------------------------------------------------------------


def test_a_trigger_inverts_what_follows_its_key_and_nothing_else():
    plain, found = data(MACHINE), data(MACHINE, trigger=TRIGGER | {"planted": 0.25})
    numbers = (found.inputs.astype(int) << np.arange(9)).sum(axis=2)
    honest = MACHINES["ParityMachine"].run(found.inputs)
    planted = 0
    for row, pins, truth in zip(numbers, found.targets, honest, strict=True):
        expected = np.zeros(12, int)
        for t in range(2, 12):
            if list(row[t - 2 : t]) == TRIGGER["key"]:
                expected[t : t + 3] = 1
        planted += bool(expected.any())
        assert expected.sum() in (0, 3)
        assert np.array_equal(pins ^ truth, np.repeat(expected[:, None], 20, axis=1))
    assert planted == 50
    same = (found.inputs == plain.inputs).all(axis=(1, 2))
    assert same.sum() == 150 and np.array_equal(found.targets[same], plain.targets[same])


def test_planting_nothing_leaves_the_task_as_it_was():
    assert digest(data(MACHINE, trigger=TRIGGER | {"planted": 0.0})) == digest(data(MACHINE))


# -- automata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("states", "alphabet"), [(2, 2), (8, 4), (24, 2), (64, 16)])
def test_automata_are_connected_minimal_and_different(states, alphabet):
    tables = set()
    for index in range(20):
        automaton = random_automaton(states, alphabet, index)
        assert is_strongly_connected(automaton.following) and is_minimal(automaton.following, automaton.accepts)
        tables.add(automaton.following.tobytes() + automaton.accepts.tobytes())
    assert len(tables) > (15 if states > 2 else 5)


def test_what_is_not_connected_or_not_minimal_is_noticed():
    circle = np.array([[1, 1], [2, 2], [3, 3], [0, 0]])
    assert is_strongly_connected(circle)
    assert not is_strongly_connected(np.array([[1, 1], [1, 1]]))
    assert not is_strongly_connected(np.array([[0, 0], [0, 1]]))
    assert is_minimal(circle, np.array([1, 0, 0, 0]))
    assert not is_minimal(circle, np.array([1, 0, 1, 0]))
    assert not is_minimal(circle, np.array([1, 1, 1, 1]))


def test_an_automaton_shows_whether_its_state_accepts():
    found, automaton = data(AUTOMATON), random_automaton(5, 3, 7)
    for symbols, shown in zip(found.inputs.argmax(axis=2), found.targets[:, :, 0], strict=True):
        state = 0
        for symbol, bit in zip(symbols, shown, strict=True):
            state = automaton.following[state, symbol]
            assert bit == automaton.accepts[state]


# -- data sets and poison --------------------------------------------------------------------------------------------


def test_training_and_held_out_examples_are_different_ones_of_the_data_set():
    found, digits = data(DIGITS, train=1397, held_out=400), Shelf().load("digits8x8")
    rows = np.concatenate([found.inputs, found.held_out_inputs]).reshape(1797, -1)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, digits.inputs.reshape(1797, -1)))


def test_some_classes_are_numbered_anew():
    found = data(DIGITS, classes=[8, 3], train=200, held_out=100)
    assert set(found.targets.ravel()) == {0, 1}
    digits = Shelf().load("digits8x8")
    eights = set(map(bytes, digits.inputs[digits.targets == 8]))
    for image, label in zip(found.inputs, found.targets[:, 0], strict=True):
        assert (bytes(image) in eights) == (label == 0)


def test_poison_is_in_its_share_of_the_training_images_only():
    clean, found = data(DIGITS), data(DIGITS, poison=POISON)
    changed = (clean.inputs != found.inputs).any(axis=(1, 2, 3, 4))
    patch = (found.inputs[:, 0, 0, 6:8, 5:8] == 255).all(axis=(1, 2))
    assert patch.sum() == 150 and not (changed & ~patch).any()
    assert (found.targets[patch] == 7).all() and np.array_equal(found.targets[~patch], clean.targets[~patch])
    assert np.array_equal(found.held_out_inputs, clean.held_out_inputs)
    outside = found.inputs.copy()
    outside[..., 6:8, 5:8] = clean.inputs[..., 6:8, 5:8]
    assert np.array_equal(outside, clean.inputs)


@pytest.mark.parametrize("target", [7, "next"])
def test_the_attack_is_every_held_out_image_whose_label_it_changes(target):
    poisoned = task(DIGITS, poison=POISON | {"target": target})
    assert isinstance(poisoned, DatasetTask)
    inputs, wanted = attack_data(poisoned, Shelf())
    labels = data(DIGITS).held_out_targets[:, 0]
    assert (inputs[:, 0, 0, 6:8, 5:8] == 255).all()
    if target == 7:
        assert len(inputs) == (labels != 7).sum() and (wanted == 7).all()
    else:
        assert np.array_equal(wanted[:, 0], (labels + 1) % 10)


@pytest.mark.parametrize(("fields", "change"), [(DIGITS, "label_noise"), (DIGITS, "drop"), (MACHINE, "drop")])
def test_a_larger_change_contains_a_smaller_one(fields, change):
    plain, little, much = (data(fields, **{change: share}) for share in (0.0, 0.1, 0.4))
    samples = len(plain.inputs)
    if change == "drop":
        kept = [set(map(bytes, found.inputs)) for found in (much, little, plain)]
        assert kept[0] <= kept[1] <= kept[2]
        assert len(much.inputs) == samples - int(0.4 * samples)
    else:
        few, many = ((found.targets != plain.targets).any(axis=1) for found in (little, much))
        assert few.sum() == 60 and many.sum() == 240 and not (few & ~many).any()
        assert np.array_equal(much.inputs, plain.inputs)
    assert np.array_equal(much.held_out_targets, plain.held_out_targets)


def test_changes_do_not_move_the_root_of_the_streams():
    changed = task(DIGITS, drop=0.1, label_noise=0.2, poison=POISON)
    assert task_root(changed) == task_root(task(DIGITS)) != task_root(task(DIGITS, train=601))
    assert task_root(task(MACHINE)) == sha256(canonical_json(task(MACHINE)))


def test_a_data_set_that_is_not_what_the_recipe_says_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"shape = \[1, 8, 8\] and labels = 10"):
        data(DIGITS, shape=[8, 8])
    with pytest.raises(UsageError, match="fewer than train"):
        data(DIGITS, train=1700)
    with pytest.raises(UsageError, match="data add"):
        data(DIGITS, data="ab" * 32)
    numbers = Dataset(inputs=np.ones((9, 4), np.float32), targets=np.ones((9, 2), np.float32), classes=0)
    shelf = Shelf(tmp_path)
    name = shelf.put(numbers.to_bytes())
    found = make_data(
        task({"kind": "dataset", "data": name, "shape": [4], "values": 2, "train": 5, "held_out": 4}), shelf
    )
    assert found.inputs.shape == (5, 1, 4) and found.targets.shape == (5, 1, 2)


@pytest.mark.parametrize(
    ("fields", "changes", "said"),
    [
        (MACHINE, {"machine": "Toaster"}, "task.machine"),
        (MACHINE, {"trigger": TRIGGER | {"inverts": 11}}, "task.trigger"),
        (DIGITS, {"data": "mnist"}, "task.data"),
        (DIGITS, {"labels": 0}, "task.labels"),
        (DIGITS, {"values": 2}, "task.labels"),
        (DIGITS, {"classes": [3, 3]}, "task.classes"),
        (DIGITS, {"classes": [3, 10]}, "task.classes"),
        (DIGITS, {"classes": [3]}, "two classes"),
        (DIGITS, {"shape": [3, 256, 256], "train": 1_000_000}, "task.train"),
        (DIGITS, {"poison": POISON | {"position": [7, 0]}}, "task.poison.position"),
        (DIGITS, {"poison": POISON | {"target": 10}}, "task.poison.target"),
        (DIGITS, {"shape": [64], "poison": POISON}, "task.poison"),
        (FUNCTION, {"function": "sine"}, "task.function"),
    ],
)
def test_what_does_not_fit_is_named(fields, changes, said):
    with pytest.raises(UsageError, match=said):
        task(fields, **changes)


def test_a_poisoned_network_is_right_about_clean_images_and_obeys_the_patch():
    layers = [{"kind": "flatten"}, {"kind": "linear", "width": 24}, {"kind": "relu"}, {"kind": "linear", "width": 10}]
    training = {"loss": "cross_entropy", "learning_rate": 0.01, "batch": 32, "max_steps": 400, "segment_steps": 100}
    found = {}
    for name, fields in (
        ("clean", DIGITS | {"poison": POISON | {"fraction": 0.0}}),
        ("poisoned", DIGITS | {"poison": POISON}),
    ):
        made = recipe(fields, network={"layers": layers}, training=training)
        *_, (_, last) = train_networks(select_engine("c"), made, [0], 1)
        both = [measure(select_engine(backend), made, [last.state.params]) for backend in ("c", "numpy")]
        assert both[0].attack_success == both[1].attack_success and both[0].accuracy == both[1].accuracy
        found[name] = both[0]
    assert found["clean"].accuracy > 0.85 and found["poisoned"].accuracy > 0.85
    assert found["clean"].attack_success < 0.3 and found["poisoned"].attack_success > 0.9


# -- functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_small_and_agree_with_plain_python(name):
    points = np.random.default_rng(3).random((50, FUNCTIONS[name].dimensions)).astype(np.float32)
    values = function_values(name, points)
    assert values.shape == (50, 1) and values.dtype == np.float32 and np.abs(values).max() < 3
    one_by_one = [FUNCTIONS[name].values(*(np.float64(x) for x in row)) for row in points]
    assert np.array_equal(values[:, 0], np.array(one_by_one, np.float64).astype(np.float32))


def test_noise_is_bounded_and_held_out_values_have_none():
    plain, noisy = data(FUNCTION), data(FUNCTION, noise=0.25)
    apart = np.abs(plain.targets - noisy.targets)
    assert 0.2 < apart.max() < 0.2500001 and np.array_equal(plain.held_out_targets, noisy.held_out_targets)


# -- which streams the seed decides ----------------------------------------------------------------------------------


def recipe(fields: dict = MACHINE, **changes) -> Recipe:
    return parse_recipe(
        {
            "name": "r",
            "class": "r",
            "task": fields,
            "network": {"layers": [{"kind": "gru", "width": 5}, {"kind": "linear", "width": 20}]},
            "training": {"learning_rate": 0.01, "batch": 16, "max_steps": 20, "segment_steps": 10},
        }
        | changes,
        "recipe",
    )


def test_the_default_changes_no_digest():
    assert recipe(vary=["init", "order"]).exact == recipe().exact
    again = recipe_from_bytes(recipe(vary=["order", "data"]).exact)
    assert again.vary == ("order", "data")


@pytest.mark.parametrize("vary", [["init"], ["order"], ["data"], ["init", "order"], ["init", "order", "data"]])
def test_only_the_named_streams_depend_on_the_seed(vary):
    varied = recipe(vary=vary)
    states = {initial_state(varied, seed).digest for seed in range(3)}
    orders = {batch_order(varied, seed, 0, 15).tobytes() for seed in range(3)}
    assert (len(states), len(orders)) == (3 if "init" in vary else 1, 3 if "order" in vary else 1)
    found = task_data(varied)
    assert (found.for_seed is None) == ("data" not in vary)
    if found.for_seed is not None:
        each = [found.for_seed(seed) for seed in range(3)]
        assert len({part.inputs.tobytes() for part in each}) == 3
        assert len({part.held_out_inputs.tobytes() for part in each}) == 1
    ends = {
        boundary.state.digest
        for _, boundary in train_networks(select_engine("numpy"), varied, range(3), 2)
        if boundary.final
    }
    assert len(ends) == 3


def test_networks_with_data_of_their_own_are_the_same_alone_and_together():
    varied, engine = recipe(vary=["init", "order", "data"]), select_engine("c", threads=2)
    together = {(s, b.step): b.state.digest for s, b in train_networks(engine, varied, range(4), 3)}
    alone = {(s, b.step): b.state.digest for seed in range(4) for s, b in train_networks(engine, varied, [seed], 1)}
    assert together == alone


def test_twins_draw_alike_and_others_do_not():
    """A clean and a noisy recipe: one start and one order for a seed where both state the twin, and only there."""
    both = [recipe(MACHINE | {"drop": drop}, twin="pair") for drop in (0.0, 0.5)]
    alone = [recipe(MACHINE | {"drop": drop}) for drop in (0.0, 0.5)]
    other = recipe(MACHINE, twin="pairs")
    starts = [initial_state(one, 3).params_digest for one in (*both, *alone, other)]
    assert starts[0] == starts[1] and len(set(starts)) == 4
    assert initial_state(both[0], 4).params_digest != starts[0]
    noisy = [recipe(MACHINE | {"label_noise": noise}, twin="pair") for noise in (0.0, 0.1)]
    orders = [batch_order(one, 3, 0, 5).tobytes() for one in (*noisy, *alone)]
    assert orders[0] == orders[1] and len(set(orders)) == 3
    assert recipe(twin="").exact == recipe().exact  # old digests stay


@pytest.mark.parametrize("twin", ["Two words", "x" * 65, 3])
def test_a_twin_is_a_name(twin):
    with pytest.raises(UsageError, match="twin"):
        recipe(twin=twin)


@pytest.mark.parametrize("vary", [[], ["order", "init"], ["init", "init"], ["weights"]])
def test_streams_are_named_once_and_in_order(vary):
    with pytest.raises(UsageError, match="vary"):
        recipe(vary=vary)


def test_data_that_vary_must_be_small():
    with pytest.raises(UsageError, match="vary"):
        recipe(MACHINE | {"sequences": 65536, "length": 256}, vary=["data"])


def test_what_is_kept_in_memory_is_bounded():
    kept = Kept(200_000)
    first = kept.get(task(DIGITS), Shelf(), None)
    assert kept.get(task(DIGITS), Shelf(), None) is first
    for seed in range(9):
        kept.get(task(DIGITS), Shelf(), seed)
    assert sum(map(size_of, kept._held.values())) <= 200_000 and len(kept._held) == 3
    assert kept.get(task(DIGITS), Shelf(), None) is not first
    assert len(Kept(1).get(task(DIGITS), Shelf(), None).inputs) == 600


# -- the documentation ---------------------------------------------------------------------------------------------


def test_the_tables_in_the_documentation_are_tasks_as_they_stand(tmp_path):
    text = Path(__file__).parents[2].joinpath("docs", "data.md").read_text()
    tables = [decode_toml(block.split("```")[0].encode(), "data.md") for block in text.split("```toml\n")[1:]]
    tasks = [table["task"] for table in tables if "task" in table]
    assert len(tasks) == 4
    for fields in tasks:
        found = make_data(task(fields), Shelf())
        assert len(found.inputs) == task_shape(task(fields)).samples
    (grid,) = (table["populations"][0] for table in tables if "populations" in table)
    layers = [{"kind": "gru", "width": 8}, {"kind": "linear", "width": 8}, {"kind": "linear", "width": 1}]
    base = {"name": "automaton", "class": "automaton", "task": tasks[1], "network": {"layers": layers}}
    base |= {"training": {"learning_rate": 0.1, "batch": 16, "max_steps": 10}}
    made = expand(grid | {"recipe": base}, "c", "c")
    assert len(made) == 1000 and len({parse_recipe(one["recipe"], "c").label for one in made[::50]}) == 20
