"""Forward and backward passes of conv2d and the pools. Values are (1, channels * height * width, C, L)."""

from dataclasses import dataclass

import numpy as np

from protocol.engine.reference.arithmetic import F, fma, over_lanes, over_samples
from protocol.engine.reference.passes import Gradients


@dataclass
class ConvPass:
    """Each output is a chain from the bias over channel, row, column of the window; outside the image is +0."""

    weight: np.ndarray  # (J, channels, kernel, kernel)
    bias: np.ndarray  # (J,)
    image: tuple[int, ...]  # channels, height, width
    stride: int
    padding: int

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        channels, height, width = self.image
        block, p, k = inputs.shape[2:], self.padding, self.weight.shape[2]
        self.padded = np.zeros((channels, height + 2 * p, width + 2 * p, *block), F)
        self.padded[:, p : p + height, p : p + width] = inputs.reshape(channels, height, width, *block)
        self.rows, self.columns = (height + 2 * p - k) // self.stride + 1, (width + 2 * p - k) // self.stride + 1
        total = self.bias[:, None, None, None, None]
        for c in range(channels):
            for v in range(k):
                for u in range(k):
                    window = self.padded[c, v : v + self._span(self.rows) : self.stride][
                        :, u : u + self._span(self.columns) : self.stride
                    ]
                    total = fma(self.weight[:, c, v, u, None, None, None, None], window[None], total)
        return total.reshape(1, -1, *block)

    def _span(self, places: int) -> int:
        return (places - 1) * self.stride + 1

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        outputs, (_, height, width), block = len(self.bias), self.image, delta.shape[2:]
        delta = delta.reshape(outputs, self.rows, self.columns, *block)
        below = np.zeros_like(self.padded)
        weight = np.zeros((*self.weight.shape, *block), F)
        bias = np.zeros((outputs, *block), F)
        k, p = self.weight.shape[2], self.padding
        for y in range(self.rows):
            for x in range(self.columns):
                d = delta[:, y, x]
                window = np.s_[:, y * self.stride : y * self.stride + k, x * self.stride : x * self.stride + k]
                for j in range(outputs):  # below_i + W_ji * d_j, j rising
                    below[window] = fma(self.weight[j, ..., None, None], d[j], below[window])
                weight = fma(d[:, None, None, None], self.padded[window][None], weight)
                bias = bias + d
        below = below[:, p : p + height, p : p + width].reshape(1, -1, *block)
        if self.rows * self.columns == 1:  # a linear layer
            window = self.padded[:, :k, :k].reshape(-1, *block)
            return below, [over_samples(delta[:, 0, 0], window), over_lanes(bias)]
        return below, [over_lanes(weight), over_lanes(bias)]


@dataclass
class PoolPass:
    """The largest value of each window (the first of equals, row by row), or the mean."""

    largest: bool
    image: tuple[int, ...]
    kernel: tuple[int, int]
    stride: int

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        (_, height, width), (v, u) = self.image, self.kernel
        image = inputs.reshape(*self.image, *inputs.shape[2:])
        self.rows, self.columns = (height - v) // self.stride + 1, (width - u) // self.stride + 1
        windows = [image[place] for place in self._places()]
        if not self.largest:
            total = np.zeros_like(windows[0])
            for window in windows:
                total = total + window
            return (total / F(len(windows))).reshape(1, -1, *inputs.shape[2:])
        best, self.chosen = windows[0], np.zeros(windows[0].shape, np.int32)
        for place, window in enumerate(windows):
            self.chosen = np.where(window > best, place, self.chosen)
            best = np.where(window > best, window, best)
        return best.reshape(1, -1, *inputs.shape[2:])

    def _places(self) -> list[tuple[slice, slice, slice]]:
        down, across = (self.rows - 1) * self.stride + 1, (self.columns - 1) * self.stride + 1
        return [
            np.s_[:, v : v + down : self.stride, u : u + across : self.stride]
            for v in range(self.kernel[0])
            for u in range(self.kernel[1])
        ]

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        block, (rows, columns) = delta.shape[2:], self.kernel
        delta = delta.reshape(self.image[0], self.rows, self.columns, *block)
        below = np.zeros((*self.image, *block), F)
        for y in range(self.rows):  # overlapping windows add in their order
            for x in range(self.columns):
                for place in range(rows * columns):
                    v, u = divmod(place, columns)
                    at = np.s_[:, y * self.stride + v, x * self.stride + u]
                    d = delta[:, y, x]
                    if self.largest:
                        below[at] = below[at] + np.where(self.chosen[:, y, x] == place, d, F(0))
                    else:
                        below[at] = below[at] + d / F(rows * columns)
        return below.reshape(1, -1, *block), []
