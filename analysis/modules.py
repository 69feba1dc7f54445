"""A network of the zoo as a PyTorch module, for everything that PyTorch people do with one."""

import numpy as np
import torch
from torch import nn

from protocol.layers import Gru, Linear
from protocol.recipe import Recipe


class ZooNetwork(nn.Sequential):
    """A chain of layers over sequences: (B, T, 9) float -> (B, T, 20) float. State names are the catalogue's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        for layer in self:
            output = layer(input)
            input = output[0] if isinstance(layer, nn.GRU) else output  # a GRU also hands out its last hidden state
        return input


def network_module(recipe: Recipe, params: np.ndarray) -> ZooNetwork:
    """A recipe's module with flat parameters (P,); agrees with the exact engine to about 1e-6, not bit for bit."""
    width, layers = recipe.shapes[0][1][1], []
    for layer in recipe.network.layers:
        if isinstance(layer, Gru):
            layers.append(nn.GRU(width, layer.width, batch_first=True))
        elif isinstance(layer, Linear):
            layers.append(nn.Linear(width, layer.width))
        else:
            layers.append(nn.ReLU())
        width = getattr(layer, "width", width)
    module = ZooNetwork(*layers)
    state, offset = {}, 0
    for name, shape in recipe.shapes:
        size = int(np.prod(shape))
        state[name] = torch.from_numpy(params[offset : offset + size].reshape(shape).copy())
        offset += size
    module.load_state_dict(state)
    return module.eval()
