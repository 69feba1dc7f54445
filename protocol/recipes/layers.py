"""Layers of a network: their fields, the shapes they accept and give, and the arrays of parameters they hold.

A value inside a network is a `Flow`: `length` time steps of `shape`, which is (features,) or (channels, height, width).
Array names and shapes are those of the torch module of the same name.
"""

import math
from typing import Annotated, NamedTuple

from msgspec import Meta

from protocol.tasks.fields import Decay, StrictStruct, Width

Kernel = Annotated[int, Meta(ge=1, le=31)]
Stride = Annotated[int, Meta(ge=0, le=31)]


class Gru(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="gru"):
    """PyTorch's GRU cell over the sequence; weights in nn.GRU's order (r, z, n)."""

    width: Width


class Lstm(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="lstm"):
    """PyTorch's LSTM cell over the sequence; weights in nn.LSTM's order (i, f, g, o)."""

    width: Width


class Rnn(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="rnn"):
    """PyTorch's plain recurrent cell with tanh."""

    width: Width


class Last(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="last"):
    """Keep the last time step only."""


class Linear(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="linear"):
    """Affine map applied at every time step."""

    width: Width


class Conv2d(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="conv2d"):
    channels: Annotated[int, Meta(ge=1, le=1024)]
    kernel: Kernel
    stride: Annotated[int, Meta(ge=1, le=31)] = 1
    padding: Annotated[int, Meta(ge=0, le=30)] = 0


class MaxPool2d(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="maxpool2d"):
    kernel: Kernel
    stride: Stride = 0  # 0: the kernel


class AvgPool2d(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="avgpool2d"):
    kernel: Kernel
    stride: Stride = 0  # 0: the kernel


class GlobalAvgPool(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="globalavgpool"):
    """The mean of each channel."""


class Flatten(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="flatten"):
    """An image as a row of features: channel, then row, then column."""


class Relu(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="relu"):
    """max(x, 0)."""


class LeakyRelu(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="leaky_relu"):
    slope: Annotated[float, Meta(gt=0, lt=1)] = 0.01


class Tanh(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="tanh"):
    pass


class Sigmoid(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="sigmoid"):
    pass


class Dropout(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="dropout"):
    """While training, each value is 0 with this probability and 1 / (1 - rate) times itself otherwise."""

    rate: Decay


class LayerNorm(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="layernorm"):
    """Over all features of a time step, or a whole image."""

    epsilon: Annotated[float, Meta(ge=1e-12, le=1)] = 1e-5


class GroupNorm(StrictStruct, frozen=True, kw_only=True, tag_field="kind", tag="groupnorm"):
    groups: Width
    epsilon: Annotated[float, Meta(ge=1e-12, le=1)] = 1e-5


Recurrent = Gru | Lstm | Rnn
Pool = MaxPool2d | AvgPool2d
Layer = (
    Gru
    | Lstm
    | Rnn
    | Last
    | Linear
    | Conv2d
    | MaxPool2d
    | AvgPool2d
    | GlobalAvgPool
    | Flatten
    | Relu
    | LeakyRelu
    | Tanh
    | Sigmoid
    | Dropout
    | LayerNorm
    | GroupNorm
)
NO_BATCHNORM = (
    "batchnorm is not offered: its running statistics are not part of a network's state, which is its parameters and "
    "moments; use groupnorm or layernorm"
)
GATES = {Gru: 3, Lstm: 4, Rnn: 1}

Arrays = tuple[tuple[str, tuple[int, ...]], ...]


class Flow(NamedTuple):
    shape: tuple[int, ...]
    length: int

    @property
    def features(self) -> int:
        return math.prod(self.shape)


def flow_after(layer: Layer, flow: Flow) -> Flow:
    """What `layer` gives for `flow`. Raises ValueError that says what does not fit."""
    kind = type(layer).__struct_config__.tag
    if isinstance(layer, Linear | Recurrent):
        if len(flow.shape) != 1:
            raise ValueError(f"{kind} reads features, not an image {flow.shape}; put a flatten before it")
        return flow._replace(shape=(layer.width,))
    if isinstance(layer, Conv2d | Pool | GlobalAvgPool):
        if len(flow.shape) != 3 or flow.length != 1:
            raise ValueError(f"{kind} reads one image (channels, height, width), not {flow.shape} x {flow.length}")
        if isinstance(layer, GlobalAvgPool):
            return flow._replace(shape=flow.shape[:1])
        return flow._replace(shape=_windows(layer, flow.shape))
    if isinstance(layer, Flatten):
        return flow._replace(shape=(flow.features,))
    if isinstance(layer, Last):
        return flow._replace(length=1)
    if isinstance(layer, GroupNorm):
        if flow.length != 1:
            raise ValueError("groupnorm reads an image or a vector, not a sequence; use layernorm")
        if flow.shape[0] % layer.groups:
            raise ValueError(f"groupnorm: {layer.groups} groups do not divide {flow.shape[0]} channels")
    return flow


def _windows(layer: Conv2d | Pool, shape: tuple[int, ...]) -> tuple[int, int, int]:
    padding = layer.padding if isinstance(layer, Conv2d) else 0
    if padding >= layer.kernel:
        raise ValueError(f"padding {padding} must be smaller than the kernel {layer.kernel}")
    height, width = (n + 2 * padding - layer.kernel for n in shape[1:])
    if height < 0 or width < 0:
        raise ValueError(f"a kernel of {layer.kernel} does not fit an image of {shape[1]} x {shape[2]}")
    stride = layer.stride or layer.kernel
    channels = layer.channels if isinstance(layer, Conv2d) else shape[0]
    return channels, height // stride + 1, width // stride + 1


def arrays_of(layer: Layer, flow: Flow) -> Arrays:
    """(name, shape) of the parameter arrays of `layer` after `flow`."""
    if isinstance(layer, Recurrent):
        rows = GATES[type(layer)] * layer.width
        return (
            ("weight_ih_l0", (rows, flow.features)),
            ("weight_hh_l0", (rows, layer.width)),
            ("bias_ih_l0", (rows,)),
            ("bias_hh_l0", (rows,)),
        )
    if isinstance(layer, Linear):
        return (("weight", (layer.width, flow.features)), ("bias", (layer.width,)))
    if isinstance(layer, Conv2d):
        return (
            ("weight", (layer.channels, flow.shape[0], layer.kernel, layer.kernel)),
            ("bias", (layer.channels,)),
        )
    if isinstance(layer, LayerNorm):
        return (("weight", flow.shape), ("bias", flow.shape))
    if isinstance(layer, GroupNorm):
        return (("weight", flow.shape[:1]), ("bias", flow.shape[:1]))
    return ()


def values_kept(layer: Layer, flow: Flow) -> int:
    """Values of one sample that training keeps for `layer`: its output, and gates, masks or the like."""
    after = flow_after(layer, flow)
    kept = after.features * after.length
    if isinstance(layer, Recurrent):
        return kept * 7
    if isinstance(layer, Conv2d):
        return kept + flow.shape[0] * (flow.shape[1] + 2 * layer.padding) * (flow.shape[2] + 2 * layer.padding)
    return kept * 2
