"""Two networks of one shape over the same inputs, and what joins them after each block of layers.

A block is a layer with weights and all up to the next; the last one, the head, is not joined. The source stream s runs
on by itself and stays as it is; the target's block gets what was joined before it. Of a channel (or unit), after it:

    r = sigmoid(a_r s + b_r t + c_r),  z = sigmoid(a_z s + b_z t + c_z)
    h = phi(a_h (r s) + b_h t + c_h),  u = z s + (1 - z) h,    phi: max(., 0) where the block has a relu, else itself

Ours, after the abstract's "two gates, each an artificial neuron" (research/weight_space.md 2.2): gates are diagonal, 9
numbers a channel; z mixes s with h; recurrent states are left alone, only what goes up is joined. At the start a = 0,
b_h = 1, c_z = -2, so u is nearly t. With other gates it is each of the discrete ways (`tests/probes/test_transfer.py`):
z = 1 frozen, z = 0 and r = 0 the target itself.

Axes: B samples, T steps, C channels or units.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from analysis.weights.modules import ZooNetwork

WEIGHTED = (nn.Linear, nn.Conv2d, nn.RNNBase)
BEFORE_A_BLOCK = (nn.Flatten, nn.Identity)  # what reshapes belongs to the block that reads it
BEGIN_Z = -2.0


def blocks(network: ZooNetwork) -> list[nn.ModuleList]:
    """The network's layers, a block each; what stands before the first weights is part of the first block."""
    found: list[list[nn.Module]] = [[]]
    for layer in network:
        full = any(isinstance(one, WEIGHTED) for one in found[-1])
        if full and isinstance(layer, WEIGHTED + BEFORE_A_BLOCK):
            found.append([])
        found[-1].append(layer)
    return [nn.ModuleList(block) for block in found]


def through(block: nn.ModuleList, signal: torch.Tensor) -> torch.Tensor:
    """(B, T, C) -> (B, T', C'), or of images (B, C, Y, X) until they are flat."""
    for layer in block:
        if isinstance(layer, nn.GroupNorm) and signal.dim() == 3:  # features, not time steps
            signal = layer(signal[:, 0])[:, None]
        else:
            signal = layer(signal)
        signal = signal[0] if isinstance(layer, nn.RNNBase) else signal
    return signal


class Join(nn.Module):
    """What joins s and t; `relu`: the block ends in one."""

    def __init__(self, channels: int, relu: bool):
        super().__init__()
        self.channels, self.relu = channels, relu

    def wide(self, name: str, signal: torch.Tensor) -> torch.Tensor:
        """A parameter (C,) beside a signal: channels come second in an image, last elsewhere."""
        value = getattr(self, name)
        return value[:, None, None] if signal.dim() == 4 else value


class Gates(Join):
    """The Parameter Transfer Unit."""

    def __init__(self, channels: int, relu: bool):
        super().__init__(channels, relu)
        begin = {"b_h": 1.0, "c_z": BEGIN_Z}
        for name in ("a_r", "b_r", "c_r", "a_z", "b_z", "c_z", "a_h", "b_h", "c_h"):
            value = torch.full((channels,), begin.get(name, 0.0), dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(value))

    def open(self, s: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(r, z), each of s's shape."""
        r = self.wide("a_r", s) * s + self.wide("b_r", s) * t + self.wide("c_r", s)
        z = self.wide("a_z", s) * s + self.wide("b_z", s) * t + self.wide("c_z", s)
        return torch.sigmoid(r), torch.sigmoid(z)

    def forward(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        r, z = self.open(s, t)
        h = self.wide("a_h", s) * (r * s) + self.wide("b_h", s) * t + self.wide("c_h", s)
        h = torch.relu(h) if self.relu else h
        return z * s + (1 - z) * h


class CrossStitch(Join):
    """u = alpha s + beta t, two numbers a channel (Misra et al., CVPR 2016, one way)."""

    def __init__(self, channels: int, relu: bool):
        super().__init__(channels, relu)
        self.alpha = nn.Parameter(torch.full((channels,), 0.1, dtype=torch.float64))
        self.beta = nn.Parameter(torch.full((channels,), 0.9, dtype=torch.float64))

    def forward(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.wide("alpha", s) * s + self.wide("beta", s) * t


class Average(Join):
    """u = (s + t) / 2."""

    def forward(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (s + t) / 2


class Joined(nn.Module):
    """A frozen source and a target that learns, joined after every block but the head."""

    def __init__(self, source: ZooNetwork, target: ZooNetwork, kind: type[Join], example: torch.Tensor):
        super().__init__()
        self.source = nn.ModuleList(blocks(copy.deepcopy(source).requires_grad_(False)))
        self.target = nn.ModuleList(blocks(target))
        self.joins = nn.ModuleList()
        with torch.no_grad():
            signal = entered(example)
            for block in list(self.source)[:-1]:
                signal = through(as_block(block), signal)
                channels = signal.shape[1] if signal.dim() == 4 else signal.shape[-1]
                ends_in_relu = any(isinstance(layer, nn.ReLU) for layer in as_block(block))
                self.joins.append(kind(channels, ends_in_relu))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T, features) or (B, 1, C, Y, X) -> (B, T', outputs)."""
        return self._run(inputs)[0]

    def opening(self, inputs: torch.Tensor) -> list[tuple[float, float]]:
        """Mean (r, z) of each joined block, over samples, channels and places. Of `Gates` only."""
        with torch.no_grad():
            signals = self._run(inputs)[1]
            pairs = [as_gates(join).open(s, t) for join, (s, t) in zip(self.joins, signals, strict=True)]
        return [(float(r.mean()), float(z.mean())) for r, z in pairs]

    def _run(self, inputs: torch.Tensor) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        s = u = entered(inputs)
        signals = []
        for source, target, join in zip(self.source, self.target, self.joins, strict=False):
            s, t = through(as_block(source), s), through(as_block(target), u)
            u = join(s, t)
            signals.append((s, t))
        return left(through(as_block(self.target[-1]), u)), signals


def entered(inputs: torch.Tensor) -> torch.Tensor:
    """Images without their single time step."""
    return inputs[:, 0] if inputs.dim() == 5 else inputs


def left(outputs: torch.Tensor) -> torch.Tensor:
    """With a time step again."""
    return outputs[:, None] if outputs.dim() == 2 else outputs


def as_block(module: nn.Module) -> nn.ModuleList:
    assert isinstance(module, nn.ModuleList)
    return module


def as_gates(module: nn.Module) -> Gates:
    assert isinstance(module, Gates)
    return module


def frozen(network: ZooNetwork, kept: int) -> ZooNetwork:
    """The same network, its first `kept` blocks not to be trained."""
    parts: Sequence[nn.ModuleList] = blocks(network)
    for i, block in enumerate(parts):
        block.requires_grad_(i >= kept)
    return network
