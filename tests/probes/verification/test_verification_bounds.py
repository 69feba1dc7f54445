"""A chain computes what the network does, and its bounds hold for whatever is sampled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from probes.verification.small_networks import (
    EVERY,
    RECURRENT,
    RELU,
    layer,
    linear,
    random_box,
    random_params,
    recipe_of,
)

from analysis.probes.verification.alpha import tightened
from analysis.probes.verification.bounds import crown, evaluation_error, intervals, lower_bounds
from analysis.probes.verification.network.build import chain_of
from analysis.probes.verification.network.chain import Block, Chain
from analysis.probes.verification.network.operations import Bends, Curves, Operation, Products
from analysis.probes.verification.question import forward_of
from protocol.errors import UsageError

SEED = 20261126


@pytest.mark.parametrize("kind", EVERY)
def test_a_chain_computes_what_the_network_does(kind):
    rng = np.random.default_rng(SEED)
    recipe = recipe_of(*EVERY[kind])
    params = random_params(recipe, rng)
    chain = chain_of(recipe, params)
    points = rng.normal(size=(50, chain.inputs)) * 2
    found, expected = chain(torch.from_numpy(points)).numpy(), forward_of(recipe, params)(points)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    bounds = intervals(chain, torch.from_numpy(points), torch.from_numpy(points))
    allowed = 2 * evaluation_error(chain, bounds).numpy()  # both are rounded
    assert (np.abs(found - expected) <= allowed).all() and allowed.max() < 1e-9


def test_sequences_keep_every_output_unless_only_the_last_is_read():
    layers = [layer("gru", width=3), layer("lstm", width=2), layer("rnn", width=2), layer("last"), linear(3)]
    recipe = recipe_of(layers, [4, 2])
    params = random_params(recipe, np.random.default_rng(SEED))
    points = np.random.default_rng(1).normal(size=(20, 8))
    chain = chain_of(recipe, params)
    np.testing.assert_allclose(
        chain(torch.from_numpy(points)).numpy(), forward_of(recipe, params)(points), rtol=0, atol=1e-12
    )


def test_a_layer_without_bounds_is_refused_by_name():
    recipe = recipe_of([linear(4), layer("layernorm"), RELU, linear(3)], [5])
    with pytest.raises(UsageError, match="layer 1: LayerNorm has no bounds"):
        chain_of(recipe, np.ones(recipe.parameter_count, np.float32))


def every_bound(chain, low, high, alpha_steps=8):
    """(B, m) lower and upper bounds of the outputs, by each method."""
    count, outputs = len(low), chain.outputs
    by_intervals, by_lines = intervals(chain, low, high), crown(chain, low, high)
    rows = torch.cat([torch.eye(outputs), -torch.eye(outputs)]).double()[None].expand(count, -1, -1)
    offsets = torch.zeros(count, 2 * outputs, dtype=torch.float64)
    lines = lower_bounds(chain, by_lines, rows, offsets).values_BR
    best = tightened(chain, by_lines, rows, offsets, steps=alpha_steps).lower.values_BR
    return {
        "intervals": by_intervals.outputs,
        "crown": (lines[:, :outputs], -lines[:, outputs:]),
        "alpha": (best[:, :outputs], -best[:, outputs:]),
    }


def sampled_range(chain, low, high, samples, rng):
    """Least and greatest outputs of points of each box, half of them its corners."""
    shares = rng.random((len(low), samples, low.shape[1]))
    shares[:, ::2] = shares[:, ::2] > 0.5
    points = low[:, None] + torch.from_numpy(shares) * (high - low)[:, None]
    points = torch.minimum(torch.maximum(points, low[:, None]), high[:, None])
    values = chain(points.flatten(0, 1)).reshape(len(low), samples, -1)
    return values.amin(1), values.amax(1)


def check_containment(kind, networks, samples, seed):
    """Bounds of boxes of three sizes contain sampled outputs; how many were sampled."""
    rng = np.random.default_rng(seed)
    recipe = recipe_of(*EVERY[kind])
    for network in range(networks):
        chain = chain_of(recipe, random_params(recipe, rng, gain=rng.choice([0.7, 1.5, 3.0])))
        boxes = [random_box(recipe, rng, radius) for radius in (0.001, 0.03, 0.3)]
        low, high = (torch.from_numpy(np.stack(side)) for side in zip(*boxes, strict=True))
        least, most = sampled_range(chain, low, high, samples, rng)
        for method, (below, above) in every_bound(chain, low, high).items():
            assert (below <= least).all() and (most <= above).all(), (seed, network, method)
    return 3 * networks * samples


@pytest.mark.parametrize("kind", EVERY)
def test_bounds_contain_sampled_outputs(kind):
    assert check_containment(kind, networks=2, samples=500, seed=SEED) == 3000


@pytest.mark.parametrize("kind", RECURRENT)
def test_leaving_out_what_does_not_reach_a_unit_loses_nothing(kind):
    """The bounds of every unit against rows pulled through the whole chain."""
    rng = np.random.default_rng(SEED)
    recipe = recipe_of(*RECURRENT[kind])
    chain = chain_of(recipe, random_params(recipe, rng))
    low, high = (torch.from_numpy(side)[None] for side in random_box(recipe, rng, 0.03))
    found = crown(chain, low, high)
    for k in range(1, len(chain.blocks)):
        last = chain.blocks[k]
        begun = Chain([*chain.blocks[:k], Block(last.weight, last.bias)])
        known = replace(
            found,
            low=found.low[: k + 1],
            high=found.high[: k + 1],
            sizes=found.sizes[: k + 1],
            rooms=(*found.rooms[:k], None),
            fractions=(*found.fractions[:k], None),
        )
        rows = torch.eye(last.weight.shape[0]).double()[None]
        offsets = torch.zeros(1, rows.shape[1]).double()
        units = last.op.units if last.op else torch.arange(0)
        whole = lower_bounds(begun, known, rows, offsets).values_BR[0, units]
        assert (found.low[k][0, units] >= whole - 1e-12).all()
        whole = -lower_bounds(begun, known, -rows, offsets).values_BR[0, units]
        assert (found.high[k][0, units] <= whole + 1e-12).all()
    assert (
        any(part.block is None for part in chain.reduced.values()) or kind != "lstm"
    )  # blocks without effect are left out


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_bounds_contain_a_million_sampled_outputs():
    sampled = sum(check_containment(kind, networks=8, samples=3800, seed=SEED + i) for i, kind in enumerate(EVERY))
    assert sampled >= 1_000_000


def mean_widths(hidden, networks, radius, steps):
    """Mean width of the outputs' bounds of plain ReLU networks with 32 inputs and 10 outputs, by method."""
    rng = np.random.default_rng(SEED)
    layers = [part for width in hidden for part in (linear(width), RELU)]
    recipe = recipe_of([*layers, linear(10)], [32], 10)
    widths: dict[str, list[float]] = {}
    for _ in range(networks):
        chain = chain_of(recipe, random_params(recipe, rng, gain=1.0))
        boxes = [random_box(recipe, rng, radius) for _ in range(4)]
        low, high = (torch.from_numpy(np.stack(side)) for side in zip(*boxes, strict=True))
        for method, (below, above) in every_bound(chain, low, high, steps).items():
            widths.setdefault(method, []).append(float((above - below).mean()))
    return {method: float(np.mean(found)) for method, found in widths.items()}


def test_alpha_crown_is_five_times_tighter_than_intervals_on_plain_networks():
    widths = mean_widths((64, 128, 64), networks=3, radius=0.02, steps=8)
    assert widths["alpha"] <= widths["crown"] <= widths["intervals"]
    assert widths["intervals"] > 5 * widths["alpha"], widths


def operations(rng):
    """One of each operation over 6 values, and whether its lines are at 0 or more of its units' bounds."""
    yield Bends(torch.tensor([0.0, 0.0, 0.3, 0.9, 1.0, 0.0]))
    yield Curves(6, torch.arange(5), torch.tensor([True, False, True, False, False]))
    yield Products(6, 2)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_lines_hold_for_every_fraction_and_interval(which):
    """Also where an interval is a point, huge, or far out where curves are flat."""
    rng = np.random.default_rng(SEED)
    op: Operation = list(operations(rng))[which]
    for size in (0.0, 1e-12, 1e-3, 1.0, 30.0):
        for centre in (0.0, 1.0, 25.0):
            middle = rng.normal(size=(64, 6)) * centre
            low = torch.from_numpy(middle - size * rng.random((64, 6)))
            high = torch.from_numpy(middle + size * rng.random((64, 6)))
            starts = op.fractions(low, high)[:, :, None]
            points = low[:, None] + torch.from_numpy(rng.random((64, 40, 6))) * (high - low)[:, None]
            points = torch.minimum(torch.maximum(points, low[:, None]), high[:, None])
            points = torch.cat([points, low[:, None], high[:, None]], 1)
            values = op(points)
            rows = torch.from_numpy(rng.normal(size=(64, 3, op.outputs)))
            for fractions in (starts, torch.rand(2, 64, 3, starts.shape[-1]).double(), 0 * starts, 0 * starts + 1):
                pulled = op.pull(rows, op.lines(low, high, fractions))
                below = points @ pulled.rows_BRN.transpose(1, 2) + pulled.constant_BR[:, None]
                exact = values @ rows.transpose(1, 2)
                room = (rows.abs() @ op.room(low, high)[..., None])[..., 0][:, None]
                assert (below <= exact + 1e-15 * room).all(), (size, centre)
            inside = op.interval(low, high)
            assert (inside[0][:, None] <= values).all() and (values <= inside[1][:, None]).all()


def test_bounds_meet_at_a_point_and_widen_with_the_box():
    recipe = recipe_of(*EVERY["maxpool"])
    chain = chain_of(recipe, random_params(recipe, np.random.default_rng(SEED)))
    point = torch.from_numpy(np.random.default_rng(2).random((1, chain.inputs)))
    value, before = chain(point), 0.0
    for radius in (0.0, 0.001, 0.01, 0.1):
        below, above = every_bound(chain, point - radius, point + radius)["crown"]
        assert (below <= value).all() and (value <= above).all()
        width = float((above - below).max())
        assert width > before and (radius > 0 or width < 1e-11)
        before = width
