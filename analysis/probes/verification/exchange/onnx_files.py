"""A network as an ONNX model, for other verifiers: `instance` writes it with its question, as VNN-COMP wants them.

Feed-forward networks only: recurrent ones have bounds here but no other tool's common form. Weights and inputs are
float32, the catalogue's own. The `onnx` package is optional: `pip install 'zooswarm[probes]'`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from analysis.probes.verification.exchange.vnnlib import written
from analysis.probes.verification.question import Question
from protocol.errors import LibraryError, UsageError
from protocol.files import write_atomic
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LeakyRelu,
    Linear,
    MaxPool2d,
    Relu,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe

OPSET, IR_VERSION = 13, 8  # old enough for every verifier
SIMPLE = {Relu: "Relu", Tanh: "Tanh", Sigmoid: "Sigmoid"}


def instance(folder: Path, name: str, recipe: Recipe, params_P: np.ndarray, question: Question) -> tuple[Path, Path]:
    """Write NAME.onnx and NAME.vnnlib. Raises UsageError: a layer that ONNX has not, or no `onnx` package."""
    model, text = folder / f"{name}.onnx", folder / f"{name}.vnnlib"
    write_atomic(model, model_bytes(recipe, params_P))
    write_atomic(text, written(question, f"{recipe.name}, {recipe.digest}").encode())
    return model, text


def model_bytes(recipe: Recipe, params_P: np.ndarray) -> bytes:
    """The model X -> Y, checked. X is (1, features) or (1, channels, height, width), Y (1, outputs)."""
    onnx = _onnx()
    shape = recipe.task_shape
    if shape.length != 1:
        raise UsageError("only networks of vectors and images become ONNX, not of sequences")
    arrays = recipe.split(np.asarray(params_P, np.float32))
    nodes: list[Any] = []
    value = "X"
    for i, layer in enumerate(recipe.network.layers):
        if isinstance(layer, Dropout) or (isinstance(layer, Flatten) and len(recipe.flows[i].shape) == 1):
            continue
        for kind, extra, settings in _nodes(i, layer):
            out = f"value_{len(nodes)}"
            nodes.append(onnx.helper.make_node(kind, [value, *extra], [out], **settings))
            value = out
    nodes.append(onnx.helper.make_node("Identity", [value], ["Y"]))
    floats, outputs = onnx.TensorProto.FLOAT, recipe.flows[-1].features
    graph = onnx.helper.make_graph(
        nodes,
        recipe.name,
        [onnx.helper.make_tensor_value_info("X", floats, [1, *shape.input])],
        [onnx.helper.make_tensor_value_info("Y", floats, [1, outputs])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="zooswarm")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _nodes(i: int, layer: Layer) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Operator, its arrays, its settings."""
    arrays = [f"{i}.weight", f"{i}.bias"]
    if isinstance(layer, Linear):
        return [("Gemm", arrays, {"transB": 1})]
    if isinstance(layer, Conv2d):
        sides = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2, "pads": [layer.padding] * 4}
        return [("Conv", arrays, sides)]
    if isinstance(layer, MaxPool2d | AvgPool2d):
        sides = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride or layer.kernel] * 2}
        return [("MaxPool" if isinstance(layer, MaxPool2d) else "AveragePool", [], sides)]
    if isinstance(layer, GlobalAvgPool):
        return [("GlobalAveragePool", [], {}), ("Flatten", [], {"axis": 1})]
    if isinstance(layer, Flatten):
        return [("Flatten", [], {"axis": 1})]
    if isinstance(layer, LeakyRelu):
        return [("LeakyRelu", [], {"alpha": layer.slope})]
    if type(layer) in SIMPLE:
        return [(SIMPLE[type(layer)], [], {})]
    raise UsageError(f"layer {i}: {type(layer).__name__} is not written as ONNX")


def _onnx() -> Any:
    try:
        import onnx  # pyright: ignore[reportMissingImports]
        import onnx.checker  # pyright: ignore[reportMissingImports]
        import onnx.helper  # pyright: ignore[reportMissingImports]
        import onnx.numpy_helper  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise LibraryError("writing ONNX needs the onnx package: pip install 'zooswarm[probes]'") from None
    return onnx
