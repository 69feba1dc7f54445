"""A recipe as exact.c reads it: structs with the fields of program.h, network.h and exact.c, in their order."""

import ctypes
import math
from collections.abc import Callable

import numpy as np

from protocol.engine import State
from protocol.engine.native.orders import Epochs
from protocol.engine.streams import dropout_draw, dropout_key
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
    Rnn,
    Sigmoid,
    Tanh,
    values_kept,
)
from protocol.recipes.recipe import Recipe, Resistance

KINDS = {
    Gru: 1,
    Linear: 2,
    Relu: 3,
    Lstm: 4,
    Rnn: 5,
    Last: 6,
    Conv2d: 7,
    MaxPool2d: 8,
    AvgPool2d: 9,
    GlobalAvgPool: 9,
    LeakyRelu: 10,
    Tanh: 11,
    Sigmoid: 12,
    Dropout: 13,
    LayerNorm: 14,
    GroupNorm: 14,
}
LOSSES = {"mse": 1, "bce": 2, "cross_entropy": 3}
TARGETS = {"pins": 1, "values": 2, "classes": 3}
BYTES, FLOATS = 1, 2
RULES = {"adam": 1, "adamw": 2, "sgd": 3, "rmsprop": 4}

LANES, LANES_MAX = 16, 64
CACHE_BYTES = 1 << 20  # second-level cache: what a group works on should fit, unless its weights fill it anyway
WEIGHT_BYTES = 1 << 17


class CLayer(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                *("kind", "inputs", "outputs", "offset", "length", "length_out"),
                *("channels", "height", "width", "out_channels", "out_height", "out_width"),
                *("kernel_height", "kernel_width", "stride", "padding", "groups", "spatial"),
            )
        ),
        ("number", ctypes.c_float),
        ("threshold", ctypes.c_uint32),
    ]


class CProgram(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("layers", "parameters", "lanes", "resists")),
        *((name, ctypes.c_int32) for name in ("input_kind", "target_kind", "loss", "target_length", "target_width")),
        ("scale", ctypes.c_float),
        ("layer", ctypes.POINTER(CLayer)),
    ]


class CSamples(ctypes.Structure):
    _fields_ = [("inputs", ctypes.c_void_p), ("targets", ctypes.c_void_p)]


class COptimizer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("rule", "nesterov")),
        *(
            (name, ctypes.c_float)
            for name in (
                *("beta1", "rest1", "beta2", "rest2", "epsilon", "momentum", "decay", "clip"),
                *("share", "rest_share", "radius"),
            )
        ),
        ("begin", ctypes.c_int32),
    ]


class CNetwork(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("step", "ready")),
        *((name, ctypes.c_void_p) for name in ("sizes", "keys", "epochs", "kept", "params", "moments", "losses")),
    ]


MIRRORED = (CLayer, CProgram, CSamples, COptimizer, CNetwork)  # in the order of exact_struct_bytes


def check_sizes(struct_bytes: Callable[[int], int]) -> None:
    """Compare our structs with the compiled ones. Raises RuntimeError where they differ: a mistake in this program."""
    for index, struct in enumerate(MIRRORED):
        ours, compiled = ctypes.sizeof(struct), struct_bytes(index)
        if ours != compiled:
            raise RuntimeError(f"{struct.__name__}: {ours} bytes here, {compiled} in the kernels: mend the fields")


def program_of(recipe: Recipe, input_dtype: np.dtype, samples: int) -> CProgram:
    """`samples` is how many go through at once: a batch, or the held-out set."""
    layers = []
    for i, (layer, before, after) in enumerate(
        zip(recipe.network.layers, recipe.flows, recipe.flows[1:], strict=False)
    ):
        if not isinstance(layer, Flatten):  # features of an image are in order already
            offset = next((span.begin for span in recipe.spans if span.layer >= i), recipe.parameter_count)
            layers.append(_layer(layer, before, after, offset))
    shape = recipe.task_shape
    return CProgram(
        layers=len(layers),
        parameters=recipe.parameter_count,
        lanes=_lanes(recipe, samples),
        resists=recipe.training.resist is not None,
        input_kind=BYTES if input_dtype == np.uint8 else FLOATS,
        target_kind=TARGETS[shape.target],
        loss=LOSSES[recipe.training.loss],
        target_length=shape.target_length,
        target_width=shape.width,
        scale=shape.scale,
        layer=(CLayer * len(layers))(*layers),
    )


def _layer(layer: Layer, before: Flow, after: Flow, offset: int) -> CLayer:
    made = CLayer(
        kind=KINDS[type(layer)],
        inputs=before.features,
        outputs=after.features,
        offset=offset,
        length=before.length,
        length_out=after.length,
        groups=1,
        spatial=1,
    )
    if isinstance(layer, Conv2d | MaxPool2d | AvgPool2d | GlobalAvgPool):
        made.channels, made.height, made.width = before.shape
        made.stride = 1
    if isinstance(layer, Conv2d | MaxPool2d | AvgPool2d):
        made.out_channels, made.out_height, made.out_width = after.shape
        made.kernel_height = made.kernel_width = layer.kernel
        made.stride = layer.stride or layer.kernel
    if isinstance(layer, Conv2d):
        made.padding = layer.padding
    if isinstance(layer, GlobalAvgPool):
        made.out_channels, made.out_height, made.out_width = before.shape[0], 1, 1
        made.kernel_height, made.kernel_width = before.shape[1:]
    if isinstance(layer, LeakyRelu):
        made.number = layer.slope
    if isinstance(layer, Dropout):
        made.threshold, made.number = dropout_draw(layer)
    if isinstance(layer, LayerNorm | GroupNorm):
        made.number = layer.epsilon
    if isinstance(layer, GroupNorm):
        made.groups, made.spatial = layer.groups, math.prod(before.shape[1:])
    return made


def _lanes(recipe: Recipe, samples: int) -> int:
    """Samples that go through together: as many as fit the cache, or where weights are large, as share their loads."""
    kept = sum(values_kept(layer, flow) for layer, flow in zip(recipe.network.layers, recipe.flows, strict=False))
    lanes, most = LANES, LANES_MAX
    large = 4 * recipe.parameter_count > WEIGHT_BYTES
    if any(isinstance(layer, Conv2d) or (large and isinstance(layer, Recurrent)) for layer in recipe.network.layers):
        most = LANES_MAX // 2  # images, and what a time step leaves, are larger than the weights that read them
    while lanes < min(samples, most) and (4 * kept * 2 * lanes <= CACHE_BYTES or large):
        lanes *= 2
    return lanes


def networks_of(
    recipe: Recipe,
    seeds: list[int],
    before: list[State],
    after: list[State],
    sizes: dict[int, np.ndarray],
    epochs: list[Epochs],
    losses: np.ndarray,
) -> tuple[ctypes.Array[CNetwork], object]:
    """What C trains in one call, and what to keep alive meanwhile. It works in `after`, `epochs` and `losses`.

    One network's row costs a few microseconds; some train for a hundred in a call.
    """
    count, steps = recipe.parameter_count, losses.shape[1]
    size_at = {step: address(array, np.float32, (steps, 3)) for step, array in sizes.items()}
    dropped = [dropout_keys(recipe, seed) for seed in (seeds if recipe_drops(recipe) else [0])]
    drop_at = [address(keys, np.uint32, keys.shape) for keys in dropped]
    loss_at, loss_bytes = address(losses, np.float32, (len(seeds), steps)), 4 * steps
    keys = np.frombuffer(b"".join(one.keys for one in epochs), np.uint32)
    key_at = address(keys, np.uint32, keys.shape)
    rows = []
    for k, one in enumerate(epochs):
        rows.append(
            (
                before[k].step,
                one.ready,
                size_at[before[k].step],
                drop_at[k if len(drop_at) > 1 else 0],
                key_at,
                one.place,
                address(after[k].params, np.float32, (count,)),
                address(after[k].moments, np.float32, (2, count)),
                loss_at + k * loss_bytes,
            )
        )
        key_at += len(one.keys)
    return (CNetwork * len(rows))(*rows), (size_at, dropped, keys, sizes)


def address(array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> int:
    """Where the array is, once it is certain that C will read what Python meant; the caller keeps it alive."""
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(f"expected contiguous {dtype.__name__} {shape}, got {array.dtype} {array.shape}")
    return array.ctypes.data


def recipe_drops(recipe: Recipe) -> bool:
    return any(isinstance(layer, Dropout) for layer in recipe.network.layers)


def dropout_keys(recipe: Recipe, seed: int) -> np.ndarray:
    """(layers, 2) uint32: the key of each dropout layer's stream."""
    places = [i for i, layer in enumerate(recipe.network.layers) if not isinstance(layer, Flatten)]
    keys = np.zeros((len(places), 2), np.uint32)
    for row, i in enumerate(places):
        if isinstance(recipe.network.layers[i], Dropout):
            keys[row] = dropout_key(recipe, seed, i)
    return keys


def optimizer_of(recipe: Recipe) -> COptimizer:
    t = recipe.training
    beta2 = t.alpha if t.optimizer == "rmsprop" else t.beta2
    resist = t.resist or Resistance(share=0.0)  # no step of it
    return COptimizer(
        rule=RULES[t.optimizer],
        nesterov=t.nesterov,
        beta1=t.beta1,
        rest1=1.0 - t.beta1,
        beta2=beta2,
        rest2=1.0 - beta2,
        epsilon=t.epsilon,
        momentum=t.momentum,
        decay=t.weight_decay,
        clip=t.clip_norm,
        share=resist.share,
        rest_share=1.0 - resist.share,
        radius=resist.radius,
        begin=resist.begin,
    )


def networks_that_draw(at: list[int], epochs: list[Epochs]) -> tuple[ctypes.Array[CNetwork], object]:
    """What C draws batches for from step `at[k]` on, with no network behind it, and what to keep alive meanwhile."""
    keys = np.frombuffer(b"".join(one.keys for one in epochs), np.uint32)
    key_at, rows = address(keys, np.uint32, keys.shape), []
    for step, one in zip(at, epochs, strict=True):
        rows.append(CNetwork(step=step, ready=one.ready, epochs=key_at, kept=one.place))
        key_at += len(one.keys)
    return (CNetwork * len(rows))(*rows), keys
