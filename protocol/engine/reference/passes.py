"""Forward and backward passes of the layers over vectors, with `passes_image` the specification of `exact-2`.

Values are (T, features, C, L): see `arithmetic`. `step` is the training step, which dropout draws by; None while
measuring. A backward pass gives the derivative by its inputs, and by its parameter arrays in their order.
"""

from dataclasses import dataclass

import numpy as np

from protocol.engine.reference.arithmetic import (
    LANES,
    F,
    chain,
    column,
    fma,
    outer,
    over_lanes,
    over_samples,
    over_time,
    sigmoid,
    slope_of_sigmoid,
    slope_of_tanh,
    tanh,
)
from protocol.tasks.philox import StreamKey, philox

Gradients = list[np.ndarray]


@dataclass
class LinearPass:
    """Affine map at every time step: a chain from the bias."""

    weight: np.ndarray  # (J, I)
    bias: np.ndarray  # (J,)

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        self.inputs = inputs
        return chain(column(self.bias), self.weight, inputs)

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        below = chain(F(0), self.weight.T, delta)
        weight = outer(delta, self.inputs) if len(delta) > 1 else over_samples(delta[0], self.inputs[0])
        return below, [weight, over_time(delta)]


@dataclass
class ReluPass:
    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        self.output = np.where(inputs > 0, inputs, F(0))
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        return np.where(self.output > 0, delta, F(0)), []


@dataclass
class LeakyReluPass:
    slope: np.float32

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        self.output = np.where(inputs > 0, inputs, inputs * self.slope)
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        return np.where(self.output > 0, delta, delta * self.slope), []


@dataclass
class TanhPass:
    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        self.output = tanh(inputs)
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        return delta * slope_of_tanh(self.output), []


@dataclass
class SigmoidPass:
    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        self.output = sigmoid(inputs)
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        return delta * slope_of_sigmoid(self.output), []


@dataclass
class LastPass:
    """Keep the last time step."""

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        self.length = len(inputs)
        return inputs[-1:]

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        below = np.zeros((self.length, *delta.shape[1:]), F)
        below[-1:] = delta
        return below, []


@dataclass
class DropoutPass:
    """Word f mod 4 of block floor(f / 4) in the row of (sample, time step) decides about feature f."""

    threshold: int  # of the word's 24 high bits
    scale: np.float32
    key: StreamKey

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        if step is None:
            return inputs
        length, features, blocks, _ = inputs.shape
        row = -(-features // 4)
        counter = np.zeros((blocks * LANES * length * row, 4), np.uint64)
        counter[:, 0], counter[:, 2] = np.arange(len(counter)), step
        draws = philox(counter, self.key).reshape(blocks, LANES, length, 4 * row)[..., :features]
        kept = (draws >> np.uint32(8)) >= self.threshold
        self.factor = np.where(kept, self.scale, F(0)).transpose(2, 3, 0, 1)
        return inputs * self.factor

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        return delta * self.factor, []


@dataclass
class NormPass:
    """Layernorm and groupnorm: each of `groups` runs of features is centred and scaled, then weight and bias.

    `spatial` features that follow each other share a weight.
    """

    weight: np.ndarray
    bias: np.ndarray
    groups: int
    spatial: int
    epsilon: np.float32

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        length, _, *block = inputs.shape
        grouped = inputs.reshape(length, self.groups, -1, *block)
        size = F(grouped.shape[2])
        mean = self._sum(grouped) / size
        centred = grouped - mean
        spread = self._sum(centred, centred) / size + self.epsilon
        self.inverse = F(1) / np.sqrt(spread)
        self.scaled = (centred * self.inverse).reshape(inputs.shape)
        return fma(self.scaled, self._spread(self.weight), self._spread(self.bias))

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        length, _, *block = delta.shape
        through = (delta * self._spread(self.weight)).reshape(length, self.groups, -1, *block)
        scaled = self.scaled.reshape(through.shape)
        size = F(through.shape[2])
        mean, slope = self._sum(through) / size, self._sum(through, scaled) / size
        below = fma(-scaled, slope, through - mean) * self.inverse
        weight, bias = (self._over_positions(delta, factor) for factor in (self.scaled, np.ones_like(delta)))
        return below.reshape(delta.shape), [weight, bias]

    def _sum(self, grouped: np.ndarray, factor: np.ndarray | None = None) -> np.ndarray:
        """Over the features of each group, rising; of products where there is a factor."""
        total = np.zeros_like(grouped[:, :, :1])
        for f in range(grouped.shape[2]):
            one = np.s_[:, :, f : f + 1]
            total = total + grouped[one] if factor is None else fma(grouped[one], factor[one], total)
        return total

    def _spread(self, values: np.ndarray) -> np.ndarray:
        return column(np.repeat(values.reshape(-1), self.spatial))

    def _over_positions(self, delta: np.ndarray, factor: np.ndarray) -> np.ndarray:
        """A lane adds time steps (outer) and the features that share a weight (inner), then `over_lanes`."""
        length, features, *block = delta.shape
        delta, factor = (values.reshape(length, -1, self.spatial, *block) for values in (delta, factor))
        total = np.zeros((features // self.spatial, *block), F)
        for t in range(length):
            for p in range(self.spatial):
                total = fma(delta[t, :, p], factor[t, :, p], total)
        return over_lanes(total)


@dataclass
class GruPass:
    """PyTorch's GRU cell, gates in the order r, z, n. The hidden state starts at zero."""

    weight_ih: np.ndarray  # (3H, I)
    weight_hh: np.ndarray  # (3H, H)
    bias_ih: np.ndarray  # (3H,)
    bias_hh: np.ndarray  # (3H,)

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        length, _, *block = inputs.shape
        h = self.weight_hh.shape[1]
        both = column(self.bias_ih + self.bias_hh)[: 2 * h]
        hidden = np.zeros((length + 1, h, *block), F)
        self.gates = np.empty((4, length, h, *block), F)  # r, z, n, and g: what the hidden state says to n
        for t in range(length):
            x, before = inputs[t], hidden[t]
            rz = chain(chain(both, self.weight_ih[: 2 * h], x), self.weight_hh[: 2 * h], before)
            r, z = sigmoid(rz[:h]), sigmoid(rz[h:])
            g = chain(column(self.bias_hh[2 * h :]), self.weight_hh[2 * h :], before)
            n = tanh(fma(r, g, chain(column(self.bias_ih[2 * h :]), self.weight_ih[2 * h :], x)))
            hidden[t + 1] = fma(z, before - n, n)
            self.gates[:, t] = r, z, n, g
        self.inputs, self.hidden = inputs, hidden[:-1]
        return hidden[1:]

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        deltas_x, deltas_h = [], []
        carried = np.zeros_like(delta[0])
        for t in reversed(range(len(delta))):
            r, z, n, g = self.gates[:, t]
            d = carried + delta[t]
            dn = (d * (F(1) - z)) * slope_of_tanh(n)
            dz = (d * (self.hidden[t] - n)) * slope_of_sigmoid(z)
            dr = (dn * g) * slope_of_sigmoid(r)
            deltas_x.append(np.concatenate([dr, dz, dn]))
            deltas_h.append(np.concatenate([dr, dz, dn * r]))
            carried = chain(d * z, self.weight_hh.T, deltas_h[-1])
        dx, dh = np.stack(deltas_x[::-1]), np.stack(deltas_h[::-1])
        below = chain(F(0), self.weight_ih.T, dx)
        return below, [outer(dx, self.inputs), outer(dh, self.hidden), over_time(dx), over_time(dh)]


@dataclass
class LstmPass:
    """PyTorch's LSTM cell, gates in the order i, f, g, o. Hidden and cell state start at zero."""

    weight_ih: np.ndarray  # (4H, I)
    weight_hh: np.ndarray  # (4H, H)
    bias_ih: np.ndarray  # (4H,)
    bias_hh: np.ndarray  # (4H,)

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        length, _, *block = inputs.shape
        h = self.weight_hh.shape[1]
        both = column(self.bias_ih + self.bias_hh)
        hidden, cell = np.zeros((2, length + 1, h, *block), F)
        self.gates = np.empty((5, length, h, *block), F)  # i, f, g, o, and the squashed cell
        for t in range(length):
            gates = chain(chain(both, self.weight_ih, inputs[t]), self.weight_hh, hidden[t])
            i, f, g, o = gates[:h], gates[h : 2 * h], gates[2 * h : 3 * h], gates[3 * h :]
            i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
            cell[t + 1] = fma(i, g, f * cell[t])
            squashed = tanh(cell[t + 1])
            hidden[t + 1] = o * squashed
            self.gates[:, t] = i, f, g, o, squashed
        self.inputs, self.hidden, self.cell = inputs, hidden[:-1], cell[:-1]
        return hidden[1:]

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        deltas = []
        carried, carried_cell = np.zeros_like(delta[0]), np.zeros_like(delta[0])
        for t in reversed(range(len(delta))):
            i, f, g, o, squashed = self.gates[:, t]
            d = carried + delta[t]
            dc = fma(d * o, slope_of_tanh(squashed), carried_cell)
            di = (dc * g) * slope_of_sigmoid(i)
            df = (dc * self.cell[t]) * slope_of_sigmoid(f)
            dg = (dc * i) * slope_of_tanh(g)
            do = (d * squashed) * slope_of_sigmoid(o)
            carried_cell = dc * f
            deltas.append(np.concatenate([di, df, dg, do]))
            carried = chain(F(0), self.weight_hh.T, deltas[-1])
        return _recurrent_gradients(self.weight_ih, np.stack(deltas[::-1]), self.inputs, self.hidden)


@dataclass
class RnnPass:
    """PyTorch's plain recurrent cell: tanh of inputs and the state before."""

    weight_ih: np.ndarray  # (H, I)
    weight_hh: np.ndarray  # (H, H)
    bias_ih: np.ndarray  # (H,)
    bias_hh: np.ndarray  # (H,)

    def forward(self, inputs: np.ndarray, step: int | None) -> np.ndarray:
        length, _, *block = inputs.shape
        both = column(self.bias_ih + self.bias_hh)
        hidden = np.zeros((length + 1, len(both), *block), F)
        for t in range(length):
            hidden[t + 1] = tanh(chain(chain(both, self.weight_ih, inputs[t]), self.weight_hh, hidden[t]))
        self.inputs, self.hidden, self.output = inputs, hidden[:-1], hidden[1:]
        return self.output

    def backward(self, delta: np.ndarray) -> tuple[np.ndarray, Gradients]:
        deltas = []
        carried = np.zeros_like(delta[0])
        for t in reversed(range(len(delta))):
            deltas.append((carried + delta[t]) * slope_of_tanh(self.output[t]))
            carried = chain(F(0), self.weight_hh.T, deltas[-1])
        return _recurrent_gradients(self.weight_ih, np.stack(deltas[::-1]), self.inputs, self.hidden)


def _recurrent_gradients(
    weight_ih: np.ndarray, deltas: np.ndarray, inputs: np.ndarray, hidden: np.ndarray
) -> tuple[np.ndarray, Gradients]:
    bias = over_time(deltas)
    return chain(F(0), weight_ih.T, deltas), [outer(deltas, inputs), outer(deltas, hidden), bias, bias]
