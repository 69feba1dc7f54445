"""Weights with a label beside them, for those who train on networks: a PyTorch and a Hugging Face `Dataset`.

Axes: N networks, P parameters.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from protocol.errors import LibraryError, UsageError


class Labels(NamedTuple):
    """What is to be told from the weights."""

    values_N: np.ndarray  # int64 numbers of classes, or float32 values
    classes: tuple[str, ...]  # by number, sorted; none: values


class WeightsDataset(Dataset[tuple[Tensor, Tensor]]):
    """Item i is (weights (P,) float32, label) of row i: an int64 number of a class, or a float32 value.

    `ids` names the networks, `classes` the classes. The weights may be a mapped file: an item is a copy of its row.
    """

    def __init__(self, ids: Sequence[str], weights_NP: np.ndarray, labels: Labels):
        self.ids, self.weights_NP = tuple(ids), weights_NP
        self.classes, self.label_N = labels.classes, torch.from_numpy(labels.values_N)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.array(self.weights_NP[index])), self.label_N[index]


def labels_of(column: pa.ChunkedArray, name: str) -> Labels:
    """Texts as numbers of classes, numbers as they are. Raises UsageError: another kind, or rows without a value."""
    if column.null_count:
        raise UsageError(f'{column.null_count} of these networks have no {name}: add `"{name}" is not null` to `where`')
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind):
        classes, code_N = np.unique(np.array(column.to_pylist(), str), return_inverse=True)
        return Labels(code_N.astype(np.int64), tuple(classes.tolist()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return Labels(column.to_numpy().astype(np.float32), ())
    raise UsageError(f"{name} is no label: it holds {kind}, neither texts nor numbers")


def hugging_face_dataset(ids: Sequence[str], weights_NP: np.ndarray, labels: Labels, beside: pa.Table) -> Any:
    """A datasets.Dataset with the columns id, weights, label (a ClassLabel, or a value), and those of `beside`.

    Raises UsageError: `datasets` is not here.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise LibraryError("a Hugging Face view needs datasets: pip install 'zooswarm[huggingface]'") from None
    flat = pa.array(weights_NP.reshape(-1))
    weights = pa.FixedSizeListArray.from_arrays(flat, weights_NP.shape[1])
    columns = {"id": pa.array(ids, pa.string()), "weights": weights, "label": pa.array(labels.values_N)}
    table = pa.table(columns | {name: beside[name] for name in beside.column_names if name not in columns})
    features = datasets.Features.from_arrow_schema(table.schema)
    if labels.classes:
        features["label"] = datasets.ClassLabel(names=list(labels.classes))
    return datasets.Dataset(datasets.table.InMemoryTable(table), info=datasets.DatasetInfo(features=features))
