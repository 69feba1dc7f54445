"""A small data set of images, and a recipe that learns it."""

import numpy as np

from protocol.tasks.datasets import Dataset

RECIPE = """
name = "{name}"
class = "{name}"
[task]
kind = "dataset"
data = "{data}"
shape = [1, 6, 6]
labels = 3
train = 200
held_out = 60
{change}
[network]
layers = [
    {{ kind = "flatten" }},
    {{ kind = "linear", width = 8 }},
    {{ kind = "relu" }},
    {{ kind = "linear", width = 3 }},
]
[training]
loss = "cross_entropy"
learning_rate = 0.01
batch = 16
max_steps = 60
segment_steps = 20
"""


def blobs(examples: int = 300, side: int = 6) -> Dataset:
    """Three classes of noisy images: bright at the top, in the middle, at the bottom."""
    rng = np.random.default_rng(8)
    targets = rng.integers(0, 3, examples).astype(np.uint16)
    inputs = rng.integers(0, 120, (examples, 1, side, side), np.uint8)
    for image, label in zip(inputs, targets, strict=True):
        image[0, label * side // 3 : (label + 1) * side // 3] += 100
    return Dataset(inputs=inputs, targets=targets, classes=3)
