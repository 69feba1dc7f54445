"""Campaign and recipe files: exact bytes out of TOML, and one clear line for every malformed file."""

import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner

from protocol.cli.main import zooswarm
from protocol.errors import Refused, UsageError
from protocol.recipes.campaign import Campaign, campaign_from_bytes, check_engines, load_campaign
from protocol.recipes.recipe import Recipe, load_recipe, recipe_from_bytes

RECIPE = """
name = "tiny"
class = "xor"
[task]
machine = "SimpleXORMachine"
length = 4
sequences = 64
held_out = 16
[network]
layers = [{ kind = "gru", width = 3 }, { kind = "linear", width = 20 }]
[training]
learning_rate = 0.01
batch = 8
max_steps = 100
segment_steps = 20
"""
CAMPAIGN = """
name = "test"
[[populations]]
recipe = "tiny.toml"
seeds = "3:12"
bundle = 4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "campaign.toml").write_text(CAMPAIGN)
    return tmp_path


def edited(folder: Path, name: str, old: str, new: str) -> Path:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_recipe_names_its_parameters(folder):
    recipe = load_recipe(folder / "tiny.toml")
    assert recipe.parameter_count == 9 * 9 + 9 * 3 + 9 + 9 + 20 * 3 + 20
    assert [name for name, _ in recipe.shapes][:2] == ["0.weight_ih_l0", "0.weight_hh_l0"]


def test_comments_order_and_spelled_out_defaults_do_not_change_a_digest(folder):
    before = load_recipe(folder / "tiny.toml").digest
    edited(folder, "tiny.toml", "learning_rate = 0.01", "beta1 = 0.9  # the default\nlearning_rate = 1e-2")
    assert load_recipe(folder / "tiny.toml").digest == before
    edited(folder, "tiny.toml", "1e-2", "0.02")
    assert load_recipe(folder / "tiny.toml").digest != before


def test_the_published_shape_of_ds1():
    for path in Path("recipes").glob("ds1-*.toml"):
        assert load_recipe(path).parameter_count == 4364


def test_a_campaign_expands_into_the_same_assignments_everywhere(folder):
    campaign = load_campaign(folder / "campaign.toml")
    assert seeds_of(campaign) == [(3, 4, 5, 6), (7, 8, 9, 10), (11,)]
    again = campaign_from_bytes(campaign.exact)
    assert again.digest == campaign.digest
    assert seeds_of(again) == seeds_of(campaign)


def seeds_of(campaign: Campaign) -> list[tuple[int, ...]]:
    return [campaign.assignment(i).seeds for i in range(campaign.assignment_count)]


def test_assignments_are_found_by_arithmetic_over_all_populations(folder):
    second = RECIPE.replace("tiny", "other").replace("width = 3", "width = 4")
    (folder / "other.toml").write_text(second)
    more = [("other.toml", "0:3", 4), ("tiny.toml", "100:101", 1), ("other.toml", "7:19", 5)]
    tables = [f'[[populations]]\nrecipe = "{r}"\nseeds = "{s}"\nbundle = {b}\n' for r, s, b in more]
    edited(folder, "campaign.toml", CAMPAIGN, CAMPAIGN + "".join(tables))
    campaign = load_campaign(folder / "campaign.toml")
    listed = [
        (p.recipe.digest, tuple(range(first, min(p.first_seed + p.count, first + p.bundle))))
        for p in campaign.populations
        for first in range(p.first_seed, p.first_seed + p.count, p.bundle)
    ]
    found = [campaign.assignment(i) for i in range(campaign.assignment_count)]
    assert [(a.recipe.digest, a.seeds) for a in found] == listed
    assert [a.index for a in found] == list(range(8)) and {a.campaign for a in found} == {campaign.digest}


@pytest.mark.parametrize("index", [-1, 3])
def test_a_campaign_has_no_assignment_below_0_or_past_its_last(folder, index):
    with pytest.raises(IndexError, match="this campaign has 3"):
        load_campaign(folder / "campaign.toml").assignment(index)


def test_a_million_assignments_cost_nothing_until_one_is_asked_for(folder):
    edited(folder, "campaign.toml", 'seeds = "3:12"\nbundle = 4', 'seeds = "0:1000000"\nbundle = 1')
    campaign = load_campaign(folder / "campaign.toml")
    tracemalloc.start()
    last = campaign.assignment(campaign.assignment_count - 1)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.seeds == (999_999,) and used < 1_000_000


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("campaign.toml", 'name = "test"', 'name = "test"\ncolour = "red"', "colour: there is no such field"),
        ("campaign.toml", "bundle = 4", "bundle = 0", "populations[0].bundle: expected `int` >= 1"),
        ("campaign.toml", 'seeds = "3:12"', 'seeds = "12:3"', "populations[0].seeds"),
        ("campaign.toml", 'seeds = "3:12"', "", "populations[0].seeds"),
        ("campaign.toml", '"tiny.toml"', '"none.toml"', "cannot read the recipe"),
        ("campaign.toml", CAMPAIGN.strip(), 'name = "test"\npopulations = []', "populations: expected"),
        ("campaign.toml", CAMPAIGN.strip(), 'name = "test"\npopulations = 3', "populations: write one"),
        ("campaign.toml", CAMPAIGN.strip(), "name = [", "not valid TOML"),
        ("campaign.toml", "bundle = 4", "bundle = 4\ncount = 3", "count: there is no such field"),
        ("campaign.toml", "bundle = 4", "bundle = 4\n[policy]\nchekers = 3", "policy.chekers: there is no such field"),
        ("tiny.toml", "max_steps = 100", "max_steps = -100", "training.max_steps: expected `int` >= 1"),
        ("tiny.toml", "max_steps = 100", "max_steps = 1e9", "training.max_steps"),
        ("tiny.toml", "0.01", "nan", "training.learning_rate"),
        ("tiny.toml", "SimpleXORMachine", "Toaster", "task.machine: unknown machine 'Toaster'"),
        ("tiny.toml", "width = 20", "width = 19", "network.layers: the last width is 19"),
        ("tiny.toml", 'kind = "gru"', 'kind = "exec"', "network.layers[0].kind"),
        ("tiny.toml", "batch = 8", "batch = 65", "training.batch: larger than task.sequences"),
    ],
)
def test_a_malformed_campaign_is_one_clear_line(folder, name, old, new, said):
    edited(folder, name, old, new)
    with pytest.raises(UsageError) as caught:
        load_campaign(folder / "campaign.toml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ".toml" in str(caught.value)


@pytest.mark.parametrize("junk", [b"x" * 10_000_000, b"\xff\xfe\x00", b"[" * 20_000, b"a.b = 1\n" * 3], ids=len)
def test_junk_is_one_clear_line(tmp_path, junk):
    (tmp_path / "campaign.toml").write_bytes(junk)
    with pytest.raises(UsageError) as caught:
        load_campaign(tmp_path / "campaign.toml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_overlapping_seeds_are_refused(folder):
    (folder / "campaign.toml").write_text(CAMPAIGN + CAMPAIGN.replace('name = "test"', "").replace("3:12", "11:20"))
    with pytest.raises(UsageError, match="overlap"):
        load_campaign(folder / "campaign.toml")


def test_a_recipe_names_its_engine_and_a_recorded_one_that_does_not_is_of_the_first(folder):
    now: Recipe = load_recipe(folder / "tiny.toml")
    assert now.engine == "exact-2" and b'"engine":"exact-2"' in now.exact
    recorded = now.exact.replace(b'"engine":"exact-2",', b"")
    before = recipe_from_bytes(recorded)
    assert (before.engine, before.exact) == ("exact-1", recorded) and before.digest != now.digest
    told = recorded.replace(b"{", b'{"engine":"exact-1",', 1)
    with pytest.raises(Refused):  # it has one spelling
        recipe_from_bytes(told)
    edited(folder, "tiny.toml", 'name = "tiny"', 'name = "tiny"\nengine = "exact-1"')
    with pytest.raises(UsageError, match=r"tiny.toml: .* engine exact-1, which this version cannot compute"):
        load_recipe(folder / "tiny.toml")


def test_nobody_starts_a_campaign_of_an_older_engine(folder):
    campaign: Campaign = load_campaign(folder / "campaign.toml")
    check_engines(campaign)
    old = campaign_from_bytes(campaign.exact.replace(b'"engine":"exact-2",', b""))
    with pytest.raises(Refused, match="exact-1; this version has exact-2"):
        check_engines(old)


def test_bytes_from_others_must_be_canonical(folder):
    campaign: Campaign = load_campaign(folder / "campaign.toml")
    recipe: Recipe = load_recipe(folder / "tiny.toml")
    assert recipe_from_bytes(recipe.exact) == recipe
    for data in (campaign.exact + b" ", campaign.exact[:-1], b"{}", b"\x00", b"[" * 100_000, b"1" * 2_000_000):
        with pytest.raises(Refused):
            campaign_from_bytes(data)
    with pytest.raises(Refused, match="recipe-canonical"):
        recipe_from_bytes(recipe.exact.replace(b"{", b"{ ", 1))


def test_the_command_line_says_it_in_one_line_and_exits_with_2(folder):
    edited(folder, "tiny.toml", "max_steps = 100", "max_steps = -1")
    outcome = CliRunner().invoke(zooswarm, ["train", str(folder / "tiny.toml"), "--seeds", "0:1", "--out", str(folder)])
    assert isinstance(outcome.exception, UsageError)
    assert "training.max_steps" in str(outcome.exception)
