"""Grids and random draws: one population in a campaign's file, many concrete recipes for everybody."""

import math

import pytest

from protocol.errors import UsageError
from protocol.recipes.campaign import campaign_from_bytes, load_campaign

RECIPE = """
name = "base"
class = "base"
[task]
kind = "automaton"
states = 4
alphabet = 3
index = 0
length = 6
sequences = 64
held_out = 16
[network]
layers = [{ kind = "gru", width = 6 }, { kind = "linear", width = 1 }]
[training]
learning_rate = 0.01
batch = 16
max_steps = 20
"""


def campaign(tmp_path, text: str, name: str = "c"):
    (tmp_path / "base.toml").write_text(RECIPE)
    head = f'name = "{name}"\n[[populations]]\nrecipe = "base.toml"\nseeds = "0:3"\n'
    (tmp_path / "c.toml").write_text(head + text)
    return load_campaign(tmp_path / "c.toml")


def recipes(tmp_path, text: str, name: str = "c"):
    return [population.recipe for population in campaign(tmp_path, text, name).populations]


def test_a_grid_is_every_combination(tmp_path):
    found = campaign(
        tmp_path,
        '[populations.grid]\n"training.learning_rate" = [0.01, 0.02]\n"network.layers.0.width" = [5, 6, 7]\n',
    )
    told = [(p.recipe.training.learning_rate, p.recipe.network.layers[0].width) for p in found.populations]
    assert told == [(rate, width) for rate in (0.01, 0.02) for width in (5, 6, 7)]
    assert [p.recipe.name for p in found.populations] == [f"base.{i}" for i in range(6)]
    assert found.network_count == 18 and len({p.recipe.digest for p in found.populations}) == 6
    assert campaign_from_bytes(found.exact) == found


def test_a_field_may_lead_into_a_table_that_the_grid_gives(tmp_path):
    found = recipes(
        tmp_path, '[populations.grid]\n"training.resist" = [{ share = 0.5 }]\n"training.resist.radius" = [0.1, 0.2]\n'
    )
    assert [one.training.resist.radius for one in found] == [0.1, 0.2]


def test_recipes_share_their_seeds_or_have_their_own(tmp_path):
    grid = '[populations.grid]\n"task.index" = "0:4"\n'
    shared, own = (campaign(tmp_path, text + grid) for text in ("", "own_seeds = true\n"))
    assert [(p.first_seed, p.count) for p in shared.populations] == [(0, 3)] * 4
    assert [(p.first_seed, p.count) for p in own.populations] == [(0, 3), (3, 3), (6, 3), (9, 3)]
    assert list(own.recipes) == list(shared.recipes)
    with pytest.raises(UsageError, match="own_seeds: expected true or false"):
        campaign(tmp_path, 'own_seeds = "yes"\n' + grid)


def test_names_and_classes_show_what_varies(tmp_path):
    text = 'name = "ds3-{task.index}"\nclass = "automaton-{task.index}"\n[populations.grid]\n"task.index" = "0:12"\n'
    found = recipes(tmp_path, text)
    assert [(r.name, r.label, r.task.index) for r in found] == [(f"ds3-{i}", f"automaton-{i}", i) for i in range(12)]


SAMPLE = """[populations.sample]
count = 40
"training.learning_rate" = { log_uniform = [1e-4, 1e-1] }
"training.beta1" = { uniform = [0.5, 0.9] }
"training.batch" = { choice = [8, 16, 32] }
"network.layers.0.width" = { integer = [3, 5] }
"""


def test_draws_are_within_bounds_and_cover_them(tmp_path):
    found = recipes(tmp_path, SAMPLE)
    rates = [r.training.learning_rate for r in found]
    assert len(set(rates)) == 40 and all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert 10 < sum(rate < math.sqrt(1e-5) for rate in rates) < 30
    assert all(0.5 <= r.training.beta1 <= 0.9 for r in found)
    assert {r.training.batch for r in found} == {8, 16, 32}
    assert {r.network.layers[0].width for r in found} == {3, 4, 5}
    assert found[0].name == "base.00" and found[39].name == "base.39"


def test_draws_depend_on_the_content_and_not_on_the_seeds(tmp_path):
    first, again = recipes(tmp_path, SAMPLE), recipes(tmp_path, "bundle = 2\n" + SAMPLE)
    assert first == again and first[0].training.learning_rate == 0.000445666
    other = recipes(tmp_path, SAMPLE, "d")
    assert not {r.digest for r in first} & {r.digest for r in other}


def test_every_point_of_a_grid_has_draws_of_its_own(tmp_path):
    grid = '[populations.grid]\n"task.states" = [4, 5]\n'
    sample = '[populations.sample]\ncount = 5\n"training.learning_rate" = { uniform = [0.001, 0.1] }\n'
    found = recipes(tmp_path, grid + sample)
    assert [r.task.states for r in found] == [4] * 5 + [5] * 5
    assert len({r.training.learning_rate for r in found}) == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grid = 3\n", "grid: a table"),
        ('[populations.grid]\n"training.batch" = 5\n', "training.batch: a list"),
        ('[populations.grid]\n"training.batch" = []\n', "training.batch: a list"),
        ('[populations.grid]\n"task.index" = "5:5"\n', "task.index: a list"),
        ('[populations.grid]\n"task.index" = "0:2000"\n', "task.index: a list"),
        ('[populations.grid]\n"task.index" = "0:900"\n"task.states" = [4, 5]\n', "1,800 combinations"),
        ('[populations.grid]\n"training.speed" = [1, 2]\n', "training.speed: there is no such field"),
        ('[populations.grid]\n"training.batch" = [16, 0]\n', "training.batch"),
        ('[populations.grid]\n"network.layers.9.width" = [1, 2]\n', "no table '9'"),
        ('[populations.grid]\n"network.layers.width" = [1, 2]\n', "no 'width' in that list"),
        ('class = "{task.states}"\n[populations.grid]\n"task.index" = [1, 2]\n', "not a field of grid"),
        ('name = "same"\n[populations.grid]\n"task.index" = [1, 2]\n', "two different recipes are called 'same'"),
        ('[populations.grid]\n"task.index" = [1, 1]\n', "twice"),
        ('[populations.sample]\n"training.batch" = { choice = [1] }\n', "count"),
        ("[populations.sample]\ncount = 3\n", "name a field"),
        ('[populations.sample]\ncount = 0\n"training.batch" = { choice = [1] }\n', "count"),
        ('[populations.sample]\ncount = 3\n"training.batch" = { choice = [] }\n', "one of"),
        ('[populations.sample]\ncount = 3\n"training.learning_rate" = { uniform = [1, 0] }\n', "one of"),
        ('[populations.sample]\ncount = 3\n"training.learning_rate" = { uniform = [0, inf] }\n', "one of"),
        ('[populations.sample]\ncount = 3\n"training.learning_rate" = { log_uniform = [0, 1] }\n', "one of"),
        ('[populations.sample]\ncount = 3\n"training.batch" = { integer = [1, 2.5] }\n', "one of"),
        ('[populations.sample]\ncount = 3\n"training.batch" = { normal = [1, 2] }\n', "one of"),
        ('[populations.sample]\ncount = 2000\n"training.batch" = { choice = [1] }\n', "at most"),
    ],
)
def test_what_cannot_be_written_out_is_named(tmp_path, text, said):
    with pytest.raises(UsageError) as error:
        campaign(tmp_path, text)
    assert said in str(error.value) and "\n" not in str(error.value)
