"""A measure of trained weights is worth what the same measure of the initial weights leaves of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True)
class Controlled(Generic[Measured]):
    """The same measure of trained networks and, as the control, of the same networks at step 0."""

    trained: Measured
    initial: Measured

    def __iter__(self) -> Iterator[Measured]:
        return iter((self.trained, self.initial))


def controlled(
    measure: Callable[[np.ndarray], Measured], trained: np.ndarray, initial: np.ndarray
) -> Controlled[Measured]:
    """Measure both; arrays with a row a network in one order: weights (N, P), or features of them (N, F)."""
    return Controlled(measure(trained), measure(initial))
