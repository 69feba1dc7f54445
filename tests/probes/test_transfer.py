"""The transfer unit: gates hold the discrete ways, budgets are equal, planted truths are found, nulls stay null."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from support.trained import recipe_of, trained, trained_zoo

from analysis import Zoo, open_zoo
from analysis.probes.contract import Inputs, Unit
from analysis.probes.run import probe
from analysis.probes.samples import held_out
from analysis.probes.transfer.fitting import Budget, fit
from analysis.probes.transfer.gates import Average, Gates, Join, Joined, blocks, frozen
from analysis.probes.transfer.methods import methods
from analysis.probes.transfer.pairs import Most, transfer_units
from analysis.probes.transfer.probe import Transfer, TransferSettings, drawn
from analysis.probes.transfer.summary import PairFound, Told, Transferred, by_pair, distance_tells
from analysis.report.page import section_of
from analysis.report.selection import Selection
from analysis.report.studies.probes.transfer import DRAWN_MAX, TransferGiven
from analysis.weights.modules import network_module
from protocol.engine.initial import initial_state
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe

FEW = TransferSettings(seeds=2, steps=20, samples=40, aside=20, tested=100)
SHAPES = ["digits-mlp.toml", "ds4-digits.toml", "ds1-simplexor.toml", "ffl-mlp.toml"]


def start(recipe: Recipe, seed: int) -> np.ndarray:
    return initial_state(recipe, seed).params


def joined(recipe: Recipe, kind: type[Join] = Gates, some: int = 7) -> tuple[Joined, torch.Tensor]:
    from protocol.engine.streams import task_data
    from protocol.tasks.datasets import NO_SHELF

    inputs = held_out(recipe, task_data(recipe, NO_SHELF), some).inputs
    source, target = (network_module(recipe, start(recipe, seed)).double() for seed in (1, 2))
    return Joined(source, target, kind, inputs), inputs


def put(network: Joined, **values: float) -> None:
    for join in network.joins:
        for name, value in values.items():
            getattr(join, name).data.fill_(value)


@pytest.mark.parametrize("file", SHAPES)
def test_blocks_are_the_network(file):
    recipe = recipe_of(file)
    network, inputs = joined(recipe)
    put(network, c_z=-1e9, c_r=-1e9)
    alone = network_module(recipe, start(recipe, 2)).double()
    assert torch.equal(network(inputs), alone(inputs))  # z = 0, r = 0: the target itself, so fine-tuning and scratch
    assert len(network.joins) == len(blocks(alone)) - 1


@pytest.mark.parametrize("file", SHAPES)
def test_an_open_gate_is_the_frozen_source(file):
    recipe = recipe_of(file)
    network, inputs = joined(recipe)
    put(network, c_z=1e9)
    mixed = start(recipe, 1)
    head = recipe.spans[-1].layer
    for span in recipe.spans:
        if span.layer == head:
            mixed[span.begin : span.end] = start(recipe, 2)[span.begin : span.end]
    assert torch.equal(network(inputs), network_module(recipe, mixed).double()(inputs))


def test_the_begin_is_near_the_target_and_gates_say_so():
    network, inputs = joined(recipe_of("digits-mlp.toml"))
    for r, z in network.opening(inputs):
        assert r == pytest.approx(0.5) and z == pytest.approx(1 / (1 + np.exp(2.0)))


def test_only_the_target_and_its_joins_learn():
    network, _ = joined(recipe_of("ds4-digits.toml"))
    assert not any(p.requires_grad for p in network.source.parameters())
    assert all(p.requires_grad for p in network.target.parameters())
    count = sum(p.numel() for p in network.joins.parameters())
    assert count == 9 * (6 + 16 + 32)  # 9 a channel
    kept = frozen(network_module(recipe_of("ds4-digits.toml"), start(recipe_of("ds4-digits.toml"), 1)), 2)
    learns = [any(p.requires_grad for p in block.parameters()) for block in blocks(kept)]
    assert learns == [False, False, True, True]


def test_an_average_is_one_half_of_each():
    recipe = recipe_of("ffl-mlp.toml")
    network, inputs = joined(recipe, Average)
    one, two = (network_module(recipe, start(recipe, 2)).double() for _ in range(2))
    other = Joined(one, two, Average, inputs)
    assert torch.allclose(other(inputs), network_module(recipe, start(recipe, 2)).double()(inputs))
    assert not torch.allclose(other(inputs), network(inputs))


def inputs_of(source: Recipe, target: Recipe, seed: int = 0, key: str = "d") -> Inputs:
    unit = Unit(networks=("a", "b"), digests=(key, key))
    weights = (trained(source, [seed])[0], trained(target, [seed])[0])
    return Inputs(unit=unit, recipes=(source, target), seeds=(seed, seed), weights=weights)


def test_all_methods_see_the_same_batches_and_their_best_step_is_kept():
    recipe = recipe_of("digits-mlp.toml", training={"max_steps": 100})
    inputs = inputs_of(recipe, recipe)
    train, aside = drawn(recipe, inputs, FEW)
    budget = Budget(steps=30, batch=8, learning_rate=0.01, look_every=10)
    make = methods(recipe, inputs.weights[0], start(recipe, 9), train.inputs[:1], ["scratch"])[0].make
    one, two = (fit(make(), recipe, train, aside, budget, inputs.rng("batches")) for _ in range(2))
    assert one.step == two.step and one.loss == two.loss
    worse = Budget(steps=30, batch=8, learning_rate=100.0, look_every=10)  # leaves everything behind
    left = fit(make(), recipe, train, aside, worse, inputs.rng("batches"))
    assert left.step == 0 and torch.equal(left.module.state_dict()["1.weight"], make().state_dict()["1.weight"])


def test_samples_to_learn_from_and_those_aside_are_disjoint():
    recipe = recipe_of("digits-mlp.toml", training={"max_steps": 100})
    train, aside = drawn(recipe, inputs_of(recipe, recipe), FEW)
    both = torch.cat([train.inputs, aside.inputs]).flatten(1)
    assert len(torch.unique(both, dim=0)) == 60 == len(both)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    """Two tasks of one shape: digits, and the same with a tenth poisoned; with the probe's rows."""
    recipes = [
        recipe_of("digits-mlp.toml", name=f"poison-{share}", training={"max_steps": 300}, poison=poison)
        for share, poison in POISONED
    ]
    path = trained_zoo(tmp_path_factory.mktemp("zoo") / "zoo", {recipe: range(3) for recipe in recipes})
    settings = TransferSettings(seeds=3, steps=60, samples=40, aside=20)
    zoo = open_zoo(path)
    probe(zoo, None, settings, processes=1, kept=path.parent / "kept")
    return zoo


def _poisoned():
    import msgspec

    poison = recipe_of("digits-mlp.toml").task.poison
    return [
        (share, msgspec.structs.replace(poison, fraction=share))  # pyright: ignore
        for share in (0.0, 0.1)
    ]


POISONED = _poisoned()


def test_a_planted_truth_is_found(zoo):
    """Nearly the same task: a trained source helps a lot, an untrained one does not."""
    found = by_pair(zoo.probe("transfer"))
    assert [(p.source, p.target) for p in found.pairs] == [("poison-0.0", "poison-0.1"), ("poison-0.1", "poison-0.0")]
    for pair in found.pairs:
        assert pair.sources == 3 and len(pair.gates) == 2 == len(pair.kept)
        assert pair.fine_tune[0] > pair.scratch[0] + 0.15 and pair.ptu[0] > pair.scratch[0] + 0.15
        assert abs(pair.untrained[0] - pair.scratch[0]) < 0.15
        assert pair.keeps_up == (pair.behind <= pair.error)


def test_every_number_of_the_section_comes_from_the_call_beside_it(zoo):
    everyone = Selection(zoo=zoo, where="", table=zoo.table(), permutations=20)
    study = TransferGiven()
    section = section_of(study, everyone)
    assert not section.missing and section.verdict and "<svg" in section.picture and section.control
    names = {"zoo": zoo, "table": zoo.table()}
    *lines, last = section.code.splitlines()
    exec("\n".join(lines), names)  # as a notebook would
    assert study.table(eval(last, names)) == (section.head, section.rows)
    assert all(len(row) == len(section.head) for row in section.rows)


def test_a_source_with_random_labels_gives_nothing():
    """The null: what it learnt is nothing about the target."""
    noise = recipe_of("digits-mlp.toml", name="noise", training={"max_steps": 300}, label_noise=0.9)
    clean = recipe_of("digits-mlp.toml", name="clean", training={"max_steps": 300})
    settings = TransferSettings(steps=60, samples=40, aside=20)
    found = [
        {(r["source"], r["method"]): r["score"] for r in Transfer().rows(inputs_of(noise, clean, seed), settings)}
        for seed in range(2)
    ]
    mean = {key: np.mean([one[key] for one in found]) for key in found[0]}
    assert mean["trained", "fine-tune"] < mean["trained", "scratch"] + 0.1
    assert mean["trained", "freeze-2"] < mean["trained", "scratch"]


def pair(distance: float, gain: float) -> PairFound:
    nothing = (0.0, 0.0, 0.0)
    return PairFound(
        source="a",
        target="b",
        sources=5,
        scratch=nothing,
        fine_tune=(gain, gain, gain),
        freeze=nothing,
        ptu=nothing,
        ptu_scratch=nothing,
        untrained=nothing,
        best="scratch",
        behind=0.0,
        error=0.0,
        gates=(0.5,),
        kept=(0.0,),
        distance=distance,
    )


def test_the_rank_correlation_with_distance_is_right_under_the_null_and_finds_a_planted_one(monkeypatch):
    from scipy.stats import kstest

    monkeypatch.setattr("analysis.probes.transfer.summary.SHUFFLES", 200)
    rng = np.random.default_rng(0)
    ps = [distance_tells([pair(*rng.normal(size=2)) for _ in range(12)], seed).p for seed in range(200)]
    assert kstest(ps, "uniform").pvalue > 0.01
    planted = distance_tells([pair(x, -x + 0.1 * rng.normal()) for x in rng.normal(size=12)])
    assert planted.p < 0.02 and planted.high < -0.5


def test_only_tasks_that_differ_and_fit_are_paired():
    recipes = [recipe_of("digits-mlp.toml"), recipe_of("digits-mlp.toml", name="again"), recipe_of("ffl-mlp.toml")]
    table = pa.table(
        {
            "recipe": [r.digest for r in recipes for _ in range(2)],
            "seed": [0, 1] * 3,
            "id": list("abcdef"),
            "weights_digest": list("abcdef"),
        }
    )
    by_digest = {r.digest: r for r in recipes}
    assert transfer_units(table, by_digest, 2, Most(9, 9)) == []  # one task twice, and another shape
    with pytest.raises(UsageError, match="no two recipes here have one shape"):
        Transfer().units(table, by_digest, FEW)


def test_of_deep_recurrent_networks_a_task_and_its_change_come_first():
    """Four machines have twelve ordered pairs; four of them are original and modified."""
    machines = [f"ds{kind}-{machine}.toml" for machine in ("singledirect", "simplexor") for kind in (1, 2)]
    recipes = [recipe_of(file, name=file) for file in machines]
    table = pa.table(
        {
            "recipe": [r.digest for r in recipes],
            "seed": [0] * 4,
            "id": machines,
            "weights_digest": machines,
        }
    )
    by_digest = {r.digest: r for r in recipes}
    few, more = (transfer_units(table, by_digest, 1, Most(0, deep)) for deep in (4, 9))
    changed = {unit.networks for unit in few}
    assert changed == {tuple(machines[i] for i in pair) for pair in ((0, 1), (1, 0), (2, 3), (3, 2))}
    assert len(more) == 9 and changed < {unit.networks for unit in more}


def found_pair(source: str, target: str, score: float) -> PairFound:
    mark = (score, score - 0.1, score + 0.1)
    methods = dict.fromkeys(("fine_tune", "freeze", "ptu", "ptu_scratch", "untrained"), mark)
    numbers = {"behind": 0.0, "error": 0.1, "gates": (0.5,), "kept": (0.0,), "distance": 1.0}
    names = {"source": source, "target": target, "sources": 5, "best": "scratch"}
    return PairFound(**names, **numbers, scratch=(0.5, 0.4, 0.6), **methods)


def test_the_picture_names_each_pair_shortly_and_stays_on_a_page():
    words = ["clean", "a-very-long-name-of-one-change", "a-very-long-name-of-one-other-change", "x"]
    names = [f"{kind}-{word}" for kind in ("digits-mlp", "gru-automaton", "odd") for word in words]
    pairs = [
        found_pair(source, target, 0.5 + 0.01 * (i + j))
        for i, source in enumerate(names)
        for j, target in enumerate(names)
        if source != target and source.split("-")[0] == target.split("-")[0]
    ]
    study = TransferGiven()
    many = [*pairs, *(found_pair(f"lone-{i}", f"lone-{i + 1}", 0.9) for i in range(100))]
    for some, titles in ((pairs, {"digits-mlp", "gru-automaton", "odd"}), (many, {"lone"})):
        result = Transferred(pairs=some, told=Told(rank=0.0, low=-1.0, high=1.0, p=1.0, pairs=3), profile=0.0)
        figure, rows = study.figure(result), study.table(result).rows
        labels = [tick.get_text() for axes in figure.axes for tick in axes.get_yticklabels()]
        assert len(set(labels)) == len(labels) == min(len(some), DRAWN_MAX) and max(map(len, labels)) <= 40
        assert {axes.get_title(loc="left") for axes in figure.axes} == titles and figure.get_size_inches()[1] <= 12
        for label in labels:
            number = label.split(":")[0]
            assert sum(row[0].text.startswith(f"{number}: ") for row in rows) == 1
