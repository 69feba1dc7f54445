"""Ways of using a source network for a target task. All get the same samples, steps and batches."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from analysis.probes.transfer.gates import Average, CrossStitch, Gates, Join, Joined, blocks, frozen
from analysis.probes.transfer.summary import FINE_TUNE, PTU, PTU_SCRATCH, SCRATCH
from analysis.weights.modules import ZooNetwork, network_module
from protocol.recipes.recipe import Recipe


class Method(NamedTuple):
    name: str
    make: Callable[[], nn.Module]


def methods(
    recipe: Recipe, source: np.ndarray, begin: np.ndarray, example: torch.Tensor, only: Sequence[str] = ()
) -> list[Method]:
    """Of a source's parameters (P,) and the target's own beginning (P,); `only`: of these names.

    freeze-k keeps the first k blocks of the source and goes on training the others from where the source has them;
    the largest k trains the head alone (a linear probe).
    """

    def network(flat: np.ndarray) -> ZooNetwork:
        return network_module(recipe, flat).double()

    def joined(kind: type[Join], target: np.ndarray) -> Callable[[], nn.Module]:
        return lambda: Joined(network(source), network(target), kind, example)

    def kept(k: int) -> Callable[[], nn.Module]:
        return lambda: frozen(network(source), k)

    found = [Method(SCRATCH, lambda: network(begin)), Method(FINE_TUNE, lambda: network(source))]
    found += [Method(f"freeze-{k}", kept(k)) for k in range(1, len(blocks(network(begin))))]
    found += [
        Method("average", joined(Average, source)),
        Method("cross-stitch", joined(CrossStitch, source)),
        Method(PTU, joined(Gates, source)),
        Method(PTU_SCRATCH, joined(Gates, begin)),
    ]
    return [method for method in found if not only or method.name in only]
