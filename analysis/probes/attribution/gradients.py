"""Integrated gradients (Sundararajan, Taly, Yan 2017), by Captum.

    IG_i(x) = (x_i - x'_i) mean_s dF_c/dx_i at x' + a_s (x - x'),    a_s = (s - 1/2) / S,   s = 1 .. S
    completeness: sum_i IG_i = F_c(x) - F_c(x')

Midpoints instead of the trapezoids of the authors' code, which take S + 1 gradients for S steps. S doubles, for the
inputs that need it, until the sum is met. Axes: B inputs, F numbers of an input, S steps, K classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from protocol.errors import LibraryError

STEPS_MAX = 800
TOLERANCE = 0.01  # of |F(x) - F(x')|
ROWS_AT_ONCE = 20_000  # inputs times steps that go through a network together


class Answer(nn.Module):
    """A network's answer to a sample that has one: (B, ...) -> (B, K) probabilities, or logits."""

    def __init__(self, network: nn.Module, of: str):
        super().__init__()
        self.network, self.of = network, of

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        logits = self.network(input)[:, -1]
        return logits.softmax(-1) if self.of == "probability" else logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributions:
    values_BF: torch.Tensor
    error_B: torch.Tensor  # |sum - difference| over |difference|; 0 where both are 0
    steps_B: torch.Tensor  # that were taken


def integrated_gradients(
    answer: Answer, inputs: torch.Tensor, baseline: torch.Tensor, classes_B: torch.Tensor, steps: int
) -> Attributions:
    """Attributions of the answer for these classes. `baseline` has an input's shape, or is of shape (1, ...).

    Raises UsageError: Captum is not installed.
    """
    attributor = integrator(answer)
    start = baseline.expand_as(inputs).contiguous()
    with torch.no_grad():
        one = torch.arange(len(inputs))
        rise_B = (answer(inputs) - answer(start))[one, classes_B]
    values, error_B, steps_B = torch.zeros_like(inputs), torch.full_like(rise_B, torch.inf), torch.zeros_like(classes_B)
    todo = torch.arange(len(inputs))
    while len(todo) and steps <= STEPS_MAX:
        for some in todo.split(max(1, ROWS_AT_ONCE // steps)):
            values[some] = attributor.attribute(
                inputs[some], start[some], target=classes_B[some], n_steps=steps, method="riemann_middle"
            ).detach()
        off_B = (values[todo].flatten(1).sum(1) - rise_B[todo]).abs()
        error_B[todo] = torch.where(off_B == 0, 0.0, off_B / rise_B[todo].abs())
        steps_B[todo] = steps
        todo, steps = todo[error_B[todo] > TOLERANCE], 2 * steps
    return Attributions(values_BF=values.flatten(1), error_B=error_B, steps_B=steps_B)


def integrator(answer: Answer) -> Any:
    """Raises UsageError."""
    try:
        from captum.attr import IntegratedGradients  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise LibraryError("integrated gradients need Captum: pip install 'zooswarm[probes]'") from None
    attributor = IntegratedGradients(answer)
    attributor.gradient_func = gradients
    return attributor


def gradients(forward_fn: Any, inputs: Any, target_ind: Any = None, additional_forward_args: Any = None) -> Any:
    """What Captum asks for, of all rows in one pass: no row's answer depends on another row."""
    with torch.enable_grad():
        outputs = forward_fn(*inputs)
        chosen = outputs[torch.arange(len(outputs)), target_ind]
        return torch.autograd.grad(chosen.sum(), inputs)
