"""Lines and forces that make a lower bound as high as they can: alpha-CROWN (Xu et al. 2021), beta (Wang et al. 2021).

Every iterate is sound, because any fractions in [0, 1] and any forces >= 0 along known signs are; the best is kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from analysis.probes.verification.bounds import Bounds, Lower, lower_bounds
from analysis.probes.verification.network.chain import Chain

RATE = 0.25  # Adam's, on fractions of [0, 1]
FORCE_RATE = 0.1
DECAY = 0.98  # of both, a step
Tensors = tuple[torch.Tensor | None, ...]


class Tightened(NamedTuple):
    """The best bound of each box and row, and what gave it."""

    lower: Lower  # of the last iterate, but for its values: the best of all
    fractions: Tensors
    forces: Tensors


def tightened(
    chain: Chain,
    bounds: Bounds,
    rows_BRm: torch.Tensor,
    offsets_BR: torch.Tensor,
    *,
    steps: int,
    signs: Sequence[torch.Tensor | None] | None = None,
    enough: float | torch.Tensor = float("inf"),
) -> Tightened:
    """Adam on the sum of the bounds, `steps` times or until all exceed `enough`.

    `signs`: (B, M) a block, 1 where a branch says that the value before the operation is not negative, -1 not positive.
    """
    rows = rows_BRm.shape[1]
    start = [None if f is None else f.expand(-1, -1, rows, -1).clone().requires_grad_() for f in bounds.fractions]
    pushes = [_pushes(sign, rows) for sign in signs or [None] * len(chain.blocks)]
    ascents = [_Adam(f, RATE) for f in start if f is not None] + [_Adam(p, FORCE_RATE) for p in pushes if p is not None]
    best: torch.Tensor | None = None
    kept_fractions, kept_forces, lower = [], [], None
    for step in range(steps + 1):
        forces = [
            None if p is None or s is None else p * s[:, None] for p, s in zip(pushes, signs or pushes, strict=True)
        ]
        lower = lower_bounds(chain, bounds, rows_BRm, offsets_BR, start, forces)
        values = lower.values_BR.detach()
        better = torch.ones_like(values, dtype=torch.bool) if best is None else values > best
        best = values if best is None else torch.maximum(best, values)
        kept_fractions = _kept(better[None], kept_fractions, start)
        kept_forces = _kept(better, kept_forces, forces)
        if step == steps or not ascents or bool((best > enough).all()):
            break
        gradients = torch.autograd.grad(lower.values_BR.sum(), [one.value for one in ascents], allow_unused=True)
        with torch.no_grad():
            for one, gradient in zip(ascents, gradients, strict=True):
                if gradient is not None:
                    one.rise(gradient, step)
            for value in start:
                if value is not None:
                    value.clamp_(0, 1)
            for value in pushes:
                if value is not None:
                    value.clamp_(min=0)
    assert lower is not None and best is not None
    with torch.no_grad():
        last = lower_bounds(chain, bounds, rows_BRm, offsets_BR, kept_fractions, kept_forces)
    return Tightened(
        last._replace(values_BR=torch.maximum(best, last.values_BR)), tuple(kept_fractions), tuple(kept_forces)
    )


def _pushes(sign_BM: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    """Forces to start from, (B, R, M), where there are signs at all."""
    if sign_BM is None or not sign_BM.any():
        return None
    return torch.zeros(len(sign_BM), rows, sign_BM.shape[1], dtype=torch.float64).requires_grad_()


class _Adam:
    """Kingma and Ba's step, upward, with a rate that decays; torch.optim takes seconds to import."""

    def __init__(self, value: torch.Tensor, rate: float):
        self.value, self.rate = value, rate
        self.mean, self.square = torch.zeros_like(value), torch.zeros_like(value)

    def rise(self, gradient: torch.Tensor, step: int) -> None:
        self.mean.mul_(0.9).add_(gradient, alpha=0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        mean, square = self.mean / (1 - 0.9 ** (step + 1)), self.square / (1 - 0.999 ** (step + 1))
        self.value += self.rate * DECAY**step * mean / (square.sqrt() + 1e-12)


def _kept(better: torch.Tensor, kept: list, now: Sequence[torch.Tensor | None]) -> list:
    if not kept:
        return [None if value is None else value.detach().clone() for value in now]
    return [
        None if old is None or new is None else torch.where(better[..., None], new.detach(), old)
        for old, new in zip(kept, now, strict=True)
    ]
