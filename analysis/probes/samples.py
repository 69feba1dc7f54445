"""A task for PyTorch: samples as tensors, the recipe's own loss, how many targets are met. All in float64.

Axes: B samples, T steps, J outputs, P parameters.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from analysis.weights.modules import ZooNetwork, network_module
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    inputs: torch.Tensor  # (B, T, features) or (B, 1, C, H, W) float64, as the network sees them
    targets: torch.Tensor  # (B, T') int64 classes, or (B, T', J) float64 pins or values

    def __len__(self) -> int:
        return len(self.inputs)


def held_out(recipe: Recipe, data: TaskData, most: int | None = None) -> Samples:
    """The first `most` held-out samples."""
    return samples(recipe, data.held_out_inputs[:most], data.held_out_targets[:most])


def training(recipe: Recipe, data: TaskData, most: int | None = None) -> Samples:
    """The first `most` training samples, poison and noise as they were trained on."""
    return samples(recipe, data.inputs[:most], data.targets[:most])


def samples(recipe: Recipe, inputs: np.ndarray, targets: np.ndarray) -> Samples:
    """Arrays as in TaskData."""
    x = torch.from_numpy(np.array(inputs, np.float64))
    if inputs.dtype == np.uint8:
        x = x * float(np.float32(recipe.task_shape.scale))
    kind = np.int64 if recipe.training.loss == "cross_entropy" else np.float64
    return Samples(inputs=x, targets=torch.from_numpy(np.array(targets, kind)))


def loss(recipe: Recipe, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The recipe's loss, a mean over samples, steps and outputs. Outputs (B, T', J)."""
    if recipe.training.loss == "cross_entropy":
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
    if recipe.training.loss == "bce":
        return nn.functional.binary_cross_entropy_with_logits(outputs, targets)
    return nn.functional.mse_loss(outputs, targets)


def score(recipe: Recipe, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Share of the targets that are met, as the exact engine counts; where targets are values, 1 - MSE / variance."""
    if recipe.task_shape.target == "values":
        return float(1 - nn.functional.mse_loss(outputs, targets) / targets.var(correction=0))
    if recipe.training.loss == "cross_entropy":
        return float((outputs.argmax(-1) == targets).double().mean())
    return float(((outputs > middle(recipe)) == (targets > 0.5)).double().mean())


def middle(recipe: Recipe) -> float:
    """Outputs above it say that a pin is on: they are log-odds, or fitted to 0 and 1."""
    return 0.0 if recipe.training.loss == "bce" else 0.5


def chance(recipe: Recipe, targets: torch.Tensor) -> float:
    """The best score of an answer that does not look at the input."""
    if recipe.task_shape.target == "values":
        return 0.0
    if recipe.training.loss == "cross_entropy":
        return float(torch.bincount(targets.flatten()).max() / targets.numel())
    share = (targets > 0.5).double().mean((0, 1))
    return float(torch.maximum(share, 1 - share).mean())


class Function:
    """A network as a function of its flat parameters, on fixed samples, in float64."""

    def __init__(self, recipe: Recipe, samples: Samples):
        self.recipe, self.samples = recipe, samples
        self.module: ZooNetwork = network_module(recipe, np.zeros(recipe.parameter_count, np.float32)).double()
        self.module.requires_grad_(False)

    def outputs(self, weights: torch.Tensor) -> torch.Tensor:
        """(B, T', J) of weights (P,)."""
        return functional_call(self.module, self.recipe.split(weights), (self.samples.inputs,))

    def loss(self, weights: torch.Tensor) -> torch.Tensor:
        return loss(self.recipe, self.outputs(weights), self.samples.targets)

    def gradient(self, weights: torch.Tensor) -> torch.Tensor:
        """(P,) of the loss."""
        at = weights.detach().requires_grad_(True)
        return torch.autograd.grad(self.loss(at), at)[0]

    def loss_graph(self, weights: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The loss, to be differentiated, and the score."""
        outputs, targets = self.outputs(weights), self.samples.targets
        return loss(self.recipe, outputs, targets), score(self.recipe, outputs.detach(), targets)

    def loss_and_score(self, weights: torch.Tensor) -> tuple[float, float]:
        with torch.no_grad():
            found, met = self.loss_graph(weights)
        return float(found), met
