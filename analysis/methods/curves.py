"""How networks of each class learnt: loss curves and steps to the stop. Axes: N networks, S points of a step grid."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from analysis.statistics.intervals import median_interval

GRID_POINTS_MAX = 400  # a picture is a thousand pixels wide
CURVE_NETWORKS_MAX = 2000  # a class; quantiles do not need more
BAND = (0.1, 0.5, 0.9)
COLUMNS = [
    "class",
    "steps",
    "held_out_loss",
    "training_losses",
    "training.segment_steps",
    "training.stop_held_out_loss",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """One class: what its networks' training looked like."""

    name: str
    networks: int
    steps_S: np.ndarray
    low_S: np.ndarray  # 10% of the networks have a smaller training loss
    median_S: np.ndarray
    high_S: np.ndarray  # 90%
    steps_N: np.ndarray  # optimizer steps at the end
    held_out_N: np.ndarray  # held-out loss at the end
    first_N: np.ndarray  # training loss of the first segment; of networks that trained at all
    stopped: int | None  # networks that met the stop rule; None: no recipe of the class has one

    @property
    def held_out(self) -> tuple[float, float, float]:
        """Median held-out loss at the end, with its 95% interval."""
        return median_interval(self.held_out_N)

    @property
    def held_out_middle(self) -> tuple[float, float]:
        """5% and 95% quantile of the held-out loss at the end."""
        return middle(self.held_out_N)

    @property
    def first(self) -> tuple[float, float, float]:
        """Median training loss of the first segment, with its 95% interval; NaN if none trained."""
        return median_interval(self.first_N)

    @property
    def steps(self) -> tuple[float, float, float]:
        """Median steps at the end, with its 95% interval."""
        return median_interval(self.steps_N)

    @property
    def steps_middle(self) -> tuple[float, float]:
        """5% and 95% quantile of the steps at the end."""
        return middle(self.steps_N)


def middle(values: np.ndarray) -> tuple[float, float]:
    """5% and 95% quantile; NaN without values."""
    low, high = np.quantile(values, (0.05, 0.95)) if len(values) else (np.nan, np.nan)
    return float(low), float(high)


def learning_by_class(table: pa.Table) -> list[Learning]:
    """Learning curves of every class in a catalogue table with COLUMNS. A network that stopped keeps its last loss."""
    found = []
    names = np.array(table["class"].to_pylist(), object)
    for name in sorted(set(names)):
        rows = table.filter(pa.array(names == name))
        steps_N, held_out_N = rows["steps"].to_numpy(), rows["held_out_loss"].to_numpy()
        rule_N = rows["training.stop_held_out_loss"].to_numpy()
        part = rows.slice(0, CURVE_NETWORKS_MAX)
        steps_S, losses_NS = loss_curves(part["training_losses"].to_pylist(), part["training.segment_steps"].to_numpy())
        low_S, median_S, high_S = np.quantile(losses_NS, BAND, axis=0) if len(steps_S) else np.zeros((3, 0))
        found.append(
            Learning(
                name=name,
                networks=len(steps_N),
                steps_S=steps_S,
                low_S=low_S,
                median_S=median_S,
                high_S=high_S,
                steps_N=steps_N,
                held_out_N=held_out_N,
                first_N=np.array([losses[0] for losses in rows["training_losses"].to_pylist() if losses]),
                stopped=int(((rule_N > 0) & (held_out_N <= rule_N)).sum()) if (rule_N > 0).any() else None,
            )
        )
    return found


def loss_curves(losses: list[list[float]], segment_steps_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segment losses of different lengths and segment sizes on one step grid: (S,), (N, S)."""
    kept = [(row, int(size)) for row, size in zip(losses, segment_steps_N, strict=True) if row]
    if not kept:
        return np.zeros(0, int), np.zeros((0, 0))
    finest = min(size for _, size in kept)
    last = max(len(row) * size for row, size in kept)
    stride = finest * max(1, -(-last // (finest * GRID_POINTS_MAX)))
    steps_S = np.arange(stride, last + stride, stride)
    losses_NS = np.empty((len(kept), len(steps_S)))
    for i, (row, size) in enumerate(kept):
        losses_NS[i] = np.asarray(row)[np.clip(-(-steps_S // size) - 1, 0, len(row) - 1)]
    return steps_S, losses_NS
