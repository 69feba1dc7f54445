"""A network of the zoo as a PyTorch module, for everything that PyTorch people do with one."""

import numpy as np
import torch
from torch import nn

from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Flow,
    GlobalAvgPool,
    GroupNorm,
    Gru,
    Last,
    Layer,
    LayerNorm,
    LeakyRelu,
    Linear,
    Lstm,
    MaxPool2d,
    Recurrent,
    Relu,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe


class LastStep(nn.Module):
    """(B, T, F) -> (B, 1, F)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input[:, -1:]


class ZooNetwork(nn.Sequential):
    """A chain of layers over sequences, (B, T, features) -> (B, T', width), or over images, (B, 1, C, H, W).

    State names are the catalogue's.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        is_image = input.dim() == 5
        input = input[:, 0] if is_image else input
        for layer in self:
            of_features = isinstance(layer, nn.GroupNorm) and not is_image  # not of time steps
            output = layer(input[:, 0])[:, None] if of_features else layer(input)
            input = output[0] if isinstance(layer, nn.RNNBase) else output  # a GRU also hands out its last hidden state
        return input[:, None] if is_image else input


def network_module(recipe: Recipe, params: np.ndarray) -> ZooNetwork:
    """A recipe's module with flat parameters (P,); agrees with the exact engine to about 1e-6, not bit for bit."""
    module = ZooNetwork(
        *(torch_layer(layer, flow) for layer, flow in zip(recipe.network.layers, recipe.flows, strict=False))
    )
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in recipe.split(params).items()})
    return module.eval()


def torch_layer(layer: Layer, flow: Flow) -> nn.Module:
    """The torch module of the same name, for what flows into it."""
    if isinstance(layer, Recurrent):
        kind = nn.GRU if isinstance(layer, Gru) else nn.LSTM if isinstance(layer, Lstm) else nn.RNN
        return kind(flow.features, layer.width, batch_first=True)
    if isinstance(layer, Linear):
        return nn.Linear(flow.features, layer.width)
    if isinstance(layer, Conv2d):
        return nn.Conv2d(flow.shape[0], layer.channels, layer.kernel, layer.stride, layer.padding)
    if isinstance(layer, MaxPool2d | AvgPool2d):
        pool = nn.MaxPool2d if isinstance(layer, MaxPool2d) else nn.AvgPool2d
        return pool(layer.kernel, layer.stride or layer.kernel)
    if isinstance(layer, GlobalAvgPool):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if isinstance(layer, Flatten):
        return nn.Flatten() if len(flow.shape) == 3 else nn.Identity()
    if isinstance(layer, LayerNorm):
        return nn.LayerNorm(list(flow.shape), layer.epsilon)
    if isinstance(layer, GroupNorm):
        return nn.GroupNorm(layer.groups, flow.shape[0], layer.epsilon)
    if isinstance(layer, LeakyRelu):
        return nn.LeakyReLU(layer.slope)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.rate)
    if isinstance(layer, Last):
        return LastStep()
    return {Relu: nn.ReLU, Tanh: nn.Tanh, Sigmoid: nn.Sigmoid}[type(layer)]()
