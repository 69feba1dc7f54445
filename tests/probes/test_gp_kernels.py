"""Surrogates: the objective, its gradient, what it costs; covariances; leave-one-out identities."""

import numpy as np
import pytest
import torch

from analysis.probes.gp import surrogate
from analysis.probes.gp.influence import influence, moved, moved_by_set, process, rescale
from analysis.probes.gp.kernels import STATIONARY, arc_cosine, kernel_named
from analysis.probes.gp.surrogate import Objective, choose, fit, log_likelihood, second_moment, seen
from protocol.errors import UsageError

NAMES = (*STATIONARY, "spectral-mixture-2", "arc-cosine-2")


def line(count: int) -> np.ndarray:
    return np.linspace(-1.0, 1.0, count)[:, None]


def rbf(x_ND: np.ndarray, z_MD: np.ndarray, length: float) -> np.ndarray:
    return np.exp(-0.5 * ((x_ND[:, None] - z_MD[None]) ** 2).sum(2) / length**2)


def drawn(covariance_NN: np.ndarray, count: int, seed: int) -> np.ndarray:
    factor = np.linalg.cholesky(covariance_NN + 1e-9 * np.eye(len(covariance_NN)))
    return np.random.default_rng(seed).standard_normal((count, len(covariance_NN))) @ factor.T


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inputs", [1, 3])
def test_the_gradient_is_that_of_differences(name, inputs):
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(12, inputs))
    now = [seen(x_ND, rng.normal(size=(20, 12)), centred=False), seen(x_ND[:7], rng.normal(size=(9, 7)), centred=True)]
    kernel = kernel_named(f"{name}-ard" if inputs > 1 and name in STATIONARY else name)
    parameters = kernel.parameters(x_ND, 1.0)
    objective = Objective(kernel, now, parameters)
    logs_P = np.array([np.log((p.start_low * p.start_high) ** 0.5) for p in parameters])
    logs_P[-1] = np.log(0.1)
    value, slope_P = objective(logs_P)
    steps = 1e-5 * np.eye(len(logs_P))
    wanted_P = [(objective(logs_P + step)[0] - objective(logs_P - step)[0]) / 2e-5 for step in steps]
    assert np.isfinite(value) and slope_P == pytest.approx(wanted_P, rel=1e-6, abs=1e-7)


def test_the_objective_is_the_mean_log_density_of_every_network():
    x_ND, rng = line(9), np.random.default_rng(1)
    functions_MN, noisy_NN = rng.normal(size=(14, 9)), rbf(line(9), line(9), 0.4) + 0.1 * np.eye(9)
    for centred in (False, True):
        now = seen(x_ND, functions_MN, centred)
        away_MN = functions_MN - now.mean_N
        square_M = (away_MN * np.linalg.solve(noisy_NN, away_MN.T).T).sum(1)
        each_M = -0.5 * (np.linalg.slogdet(2 * np.pi * noisy_NN)[1] + square_M)
        assert log_likelihood(noisy_NN, now.moment_NN) == pytest.approx(each_M.mean() / 9, rel=1e-13)


def test_a_fit_costs_the_same_for_any_number_of_networks(monkeypatch):
    x_ND, functions_MN = line(16), drawn(rbf(line(16), line(16), 0.3), 10, seed=2)
    counts, fits = [], []
    factor = surrogate.dpotrf
    for copies in (1, 200):
        sizes = []
        monkeypatch.setattr(
            surrogate, "dpotrf", lambda a, lower, sizes=sizes: (sizes.append(a.shape), factor(a, lower=lower))[1]
        )
        now = seen(x_ND, np.tile(functions_MN, (copies, 1)), centred=False)
        fits.append(fit(kernel_named("matern-5/2"), [now], restarts=3))
        counts.append(sizes)
    assert set(counts[0]) == set(counts[1]) == {(16, 16)}
    assert len(counts[1]) < 1.5 * len(counts[0])  # rounding in S may cost a search a few steps more or fewer
    assert fits[1].nats == pytest.approx(fits[0].nats, rel=1e-6)
    exact = seen(x_ND, functions_MN, centred=False)
    again = [fit(kernel_named("matern-5/2"), [exact], restarts=3) for _ in range(2)]
    assert again[0] == again[1]  # of one S, the very same fit


@pytest.mark.parametrize("length", [0.15, 0.5])
def test_a_planted_length_scale_is_recovered_and_its_kernel_chosen(length):
    x_ND = line(24)
    functions_MN = drawn(rbf(x_ND, x_ND, length), 64, seed=3)
    kernels = [kernel_named(name) for name in ("rbf", "matern-1/2", "matern-3/2")]
    chosen = choose(kernels, x_ND, functions_MN, centred=False, restarts=5)
    assert chosen.fit.kernel.name == "rbf" and chosen.fit.length == pytest.approx(length, rel=0.1)
    rough = np.exp(-np.abs(x_ND - x_ND.T) / length)
    chosen = choose(kernels, x_ND, drawn(rough, 64, seed=4), centred=False, restarts=5)
    assert chosen.fit.kernel.name == "matern-1/2" and chosen.fit.length == pytest.approx(length, rel=0.5)


def test_a_planted_frequency_is_found_by_the_mixture_alone():
    x_ND = line(32)
    lag = x_ND - x_ND.T
    wave = np.exp(-2 * np.pi**2 * lag**2 * 0.05) * np.cos(2 * np.pi * 3.0 * lag)
    found = fit(kernel_named("spectral-mixture-1"), [seen(x_ND, drawn(wave, 64, seed=5), False)], restarts=20)
    assert found.values["mean.0.0"] == pytest.approx(3.0, rel=0.05)


def test_each_input_can_have_a_length_scale_of_its_own():
    rng = np.random.default_rng(6)
    x_ND = rng.uniform(-1, 1, (40, 2))
    functions_MN = drawn(rbf(x_ND[:, :1], x_ND[:, :1], 0.4), 64, seed=7)  # the second input does nothing
    found = fit(kernel_named("rbf-ard"), [seen(x_ND, functions_MN, False)], restarts=5)
    assert found.values["length.0"] == pytest.approx(0.4, rel=0.15) and found.values["length.1"] > 5


def test_a_matrix_that_is_nearly_singular_is_rejected():
    x_ND = line(30)
    flat = seen(x_ND, np.ones((20, 30)), centred=False)
    found = fit(kernel_named("rbf"), [flat], restarts=2)
    assert found.condition == pytest.approx(np.linalg.cond(found.noisy(x_ND)))
    kernel = kernel_named("rbf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "CONDITION_MAX", 10.0)
        assert not found.sound
        with pytest.raises(UsageError, match="no kernel"):
            choose([kernel], x_ND, np.ones((20, 30)), centred=False, restarts=2)
    with pytest.raises(UsageError, match="at least 5"):
        choose([kernel], x_ND, np.ones((4, 30)), centred=False)
    for name in ("cubic", "rbf-2", "arc-cosine-ard", "spectral-mixture-0"):
        with pytest.raises(UsageError, match="no kernel is called"):
            kernel_named(name)
    with pytest.raises(UsageError, match="at most 3"):
        kernel_named("spectral-mixture-1").parameters(np.ones((3, 4)), 1.0)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_arc_cosine_kernel_is_that_of_wide_relu_networks(depth):
    rng, width = np.random.default_rng(8), 400
    x_ND = rng.normal(size=(5, 3))
    total_NN = np.zeros((5, 5))
    for _ in range(300):
        signal = x_ND
        for _ in range(depth):
            fan = signal.shape[1]
            weight = rng.normal(size=(fan, width)) * np.sqrt(2 / fan)
            signal = np.maximum(signal @ weight + np.sqrt(0.1) * rng.normal(size=width), 0)
        total_NN += 2 / width * signal @ signal.T + 0.1  # the last layer's mean over its own weights is known
    x = torch.from_numpy(x_ND)
    wanted = arc_cosine(x, x, [(torch.tensor(2.0).double(), torch.tensor(0.1).double())] * (depth + 1)).numpy()
    assert total_NN / 300 == pytest.approx(wanted, rel=0.05)


def test_leaving_out_is_what_refitting_gives():
    rng = np.random.default_rng(9)
    x_ND, z_MD = rng.uniform(-1, 1, (25, 2)), rng.uniform(-1, 1, (15, 2))
    target_N, noise = np.sin(3 * x_ND[:, 0]) + 0.1 * rng.normal(size=25), 0.02
    kernel_NN, cross_MN = rbf(x_ND, x_ND, 0.5), rbf(z_MD, x_ND, 0.5)
    whole = process(kernel_NN, noise, target_N)
    move_MN, nats = moved(whole, cross_MN), []
    for i in range(25):
        rest = np.delete(np.arange(25), i)
        less = process(kernel_NN[np.ix_(rest, rest)], noise, target_N[rest])
        mean = kernel_NN[i, rest] @ less.weights_N
        variance = kernel_NN[i, i] + noise - kernel_NN[i, rest] @ less.inverse_NN @ kernel_NN[rest, i]
        assert whole.left_out_mean_N[i] == pytest.approx(mean, abs=1e-12)
        assert whole.left_out_variance_N[i] == pytest.approx(variance, abs=1e-12)
        assert cross_MN @ whole.weights_N - move_MN[:, i] == pytest.approx(
            cross_MN[:, rest] @ less.weights_N, abs=1e-12
        )
        nats.append(-0.5 * (np.log(2 * np.pi * variance) + (target_N[i] - mean) ** 2 / variance))
    assert whole.left_out_nats == pytest.approx(np.mean(nats), abs=1e-12)
    assert influence(whole, cross_MN) == pytest.approx((move_MN**2).mean(0), abs=1e-15)
    some = np.array([3, 8, 20])
    rest = np.setdiff1d(np.arange(25), some)
    less = process(kernel_NN[np.ix_(rest, rest)], noise, target_N[rest])
    apart_M = cross_MN @ whole.weights_N - cross_MN[:, rest] @ less.weights_N
    assert moved_by_set(whole, cross_MN, some) == pytest.approx(apart_M, abs=1e-12)


def test_scale_and_noise_are_the_likeliest():
    from scipy.optimize import minimize
    from scipy.stats import multivariate_normal

    x_ND, rng = line(30), np.random.default_rng(10)
    kernel_NN = rbf(x_ND, x_ND, 0.3)
    target_N = 3 * drawn(kernel_NN, 1, seed=11)[0] + 0.2 * rng.normal(size=30)
    found = rescale(kernel_NN, target_N)

    def minus(logs):
        covariance_NN = np.exp(logs[0]) * kernel_NN + np.exp(logs[1]) * np.eye(30)
        return -multivariate_normal.logpdf(target_N, np.zeros(30), covariance_NN, allow_singular=True)

    best = minimize(minus, [np.log(found.scale), np.log(found.noise)], method="Nelder-Mead")
    assert found.nats == pytest.approx(-minus([np.log(found.scale), np.log(found.noise)]), abs=1e-8)
    assert found.nats == pytest.approx(-best.fun, abs=1e-6)


def test_the_moment_is_the_networks_own():
    functions_MN = np.random.default_rng(12).normal(2.0, 1.0, (30, 4))
    about = seen(line(4), functions_MN, centred=True)
    assert about.moment_NN == pytest.approx(np.cov(functions_MN.T, bias=True))
    assert seen(line(4), functions_MN, centred=False).moment_NN == pytest.approx(
        second_moment(functions_MN, np.zeros(4))
    )
