"""Ask networks questions: learnt inputs (probes) go through each network, and a small net reads the answers.

ProbeGen (Kahana et al., ICLR 2025; the authors' code read, not the tables): probes come from latent codes by a deep
generator that is linear inside, so that they share structure, and generator and reader are learnt together. OURS: dense
linear layers for every kind of input instead of transposed convolutions for images, a sigmoid at the end because the
zoo's inputs lie in 0 to 1, sizes for a CPU, answers compressed by their logarithm, and a fixed number of epochs.
What is learnt sees what a network computes and nothing else: every symmetric copy gives the same answers, exactly.

    group_N = splits.groups(recipes)
    found = properties.predict(weights_NP, accuracy_N, group_N, probing.reader(recipe))
    told = probing.class_accuracy(recipe, weights_NP, labels, group_N)

Axes: N networks, P parameters, M probes, K classes, A numbers in a network's answers.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, vmap

from analysis.methods.properties import Predictor
from analysis.statistics import classify
from analysis.statistics.classify import Accuracy
from analysis.weights.modules import network_module
from protocol.engine.streams import task_data
from protocol.recipes.layers import Recurrent
from protocol.recipes.recipe import Recipe
from protocol.tasks.datasets import NO_SHELF, Shelf


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Fixed before anything is measured; nothing is chosen on test networks."""

    probes: int = 16
    latent: int = 32  # ProbeGen's
    hidden: int = 64
    epochs: int = 20
    batch: int = 32  # ProbeGen's
    learning_rate: float = 3e-3
    seed: int = 0


class Prober(nn.Module):
    """Probes and reader: weights (B, P) of any networks of one architecture -> (B, outputs)."""

    def __init__(self, recipe: Recipe, input_shape: tuple[int, ...], outputs: int, settings: Settings):
        super().__init__()
        self.recipe, self.input_shape = recipe, input_shape
        numbers, width = int(np.prod(input_shape)), settings.hidden
        self.codes = nn.Parameter(torch.randn(settings.probes, settings.latent))
        self.generator = nn.Sequential(  # linear all the way: ProbeGen's regularizer
            nn.Linear(settings.latent, width), nn.Linear(width, width), nn.Linear(width, numbers), nn.Sigmoid()
        )
        self.network = network_module(recipe, np.zeros(recipe.parameter_count, np.float32))
        self.network.requires_grad_(False)
        with torch.no_grad():
            answers = self.network(self.probes()).numel()
        self.reader = nn.Sequential(
            nn.Linear(answers, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
        )

    def probes(self) -> torch.Tensor:
        """(M, *input_shape) in 0 to 1."""
        return self.generator(self.codes).reshape(-1, *self.input_shape)

    def answers(self, weights_BP: torch.Tensor) -> torch.Tensor:
        """(B, A) what each network makes of all probes, on a logarithmic scale: a diverged network is not deafening."""
        state = self.recipe.split(weights_BP)
        probes = self.probes()

        def answer(one: dict[str, torch.Tensor]) -> torch.Tensor:
            return functional_call(self.network, one, (probes,)).flatten()

        if any(isinstance(layer, Recurrent) for layer in self.recipe.network.layers):  # torch cannot vmap these
            found = torch.stack(
                [answer({name: array[i] for name, array in state.items()}) for i in range(len(weights_BP))]
            )
        else:
            found = vmap(answer)(state)
        return found.sign() * found.abs().log1p()

    def forward(self, weights_BP: torch.Tensor) -> torch.Tensor:
        """(B, outputs) read from the answers."""
        return self.reader(self.answers(weights_BP))


@functools.lru_cache(maxsize=8)
def input_shape_of(recipe: Recipe, shelf: Shelf = NO_SHELF) -> tuple[int, ...]:
    """Shape of one example, as the recipe's task shows it to a network."""
    return tuple(task_data(recipe, shelf).held_out_inputs.shape[1:])


def fitted(
    recipe: Recipe, train_MP: np.ndarray, loss: Callable[..., torch.Tensor], outputs: int, settings: Settings
) -> Prober:
    """A prober after `settings.epochs` epochs; `loss(output, rows)` is told which training rows the output is for.

    The same bits for the same seed on the same computer; torch's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        prober = Prober(recipe, input_shape_of(recipe), outputs, settings)
        weights = torch.tensor(np.asarray(train_MP, np.float32))
        optimizer = torch.optim.Adam([p for p in prober.parameters() if p.requires_grad], settings.learning_rate)
        for _ in range(settings.epochs):
            for rows in torch.randperm(len(weights)).split(settings.batch):
                optimizer.zero_grad()
                loss(prober(weights[rows]), rows).backward()
                optimizer.step()
    return prober.eval()


def asked(prober: Prober, weights_NP: np.ndarray, block: int = 128) -> np.ndarray:
    """(N, outputs) float64."""
    with torch.no_grad():
        parts = torch.tensor(np.asarray(weights_NP, np.float32)).split(block)
        return torch.cat([prober(part) for part in parts]).numpy().astype(np.float64)


def reader(recipe: Recipe, settings: Settings | None = None) -> Predictor:
    """A predictor of numbers for `properties.predict` and `transfer`; its features are the weights, unchanged."""
    chosen = settings or Settings()

    def predict(train_MP: np.ndarray, target_M: np.ndarray, test_TP: np.ndarray) -> np.ndarray:
        centre, scale = float(target_M.mean()), float(target_M.std()) or 1.0
        aim = torch.tensor((target_M - centre) / scale, dtype=torch.float32)
        prober = fitted(
            recipe, train_MP, lambda output, rows: nn.functional.mse_loss(output[:, 0], aim[rows]), 1, chosen
        )
        return asked(prober, test_TP)[:, 0] * scale + centre

    return predict


def class_accuracy(
    recipe: Recipe,
    weights_NP: np.ndarray,
    labels: list[str],
    groups: np.ndarray,
    settings: Settings | None = None,
    shuffles: int = 1,
    folds_seed: int = 0,
) -> Accuracy:
    """Classes of networks whose group was not trained on; the control is the same with labels shuffled in each fold.

    Raises UsageError when there are fewer than two classes, or a class has networks of fewer than two groups.
    """
    chosen = settings or Settings()

    def guess(train_MP: np.ndarray, codes_RM: np.ndarray, test_TP: np.ndarray, classes: int) -> np.ndarray:
        return np.stack([_guessed(recipe, train_MP, code_M, test_TP, classes, chosen) for code_M in codes_RM])

    return classify.class_accuracy(weights_NP, labels, groups, shuffles, folds_seed, guess)


def _guessed(
    recipe: Recipe, train_MP: np.ndarray, code_M: np.ndarray, test_TP: np.ndarray, classes: int, settings: Settings
) -> np.ndarray:
    """(T,) classes of unseen networks by a prober that was fitted on others."""
    aim = torch.tensor(code_M)

    def loss(output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output, aim[rows])

    return asked(fitted(recipe, train_MP, loss, classes, settings), test_TP).argmax(1)
