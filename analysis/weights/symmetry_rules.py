"""Which changes of a network's hidden units leave its function alone, layer by layer: the rules, and no arithmetic.

A *group* is a layer of hidden units (channels of a convolution, units of a recurrent layer) that are renumbered
together. A unit may besides be multiplied by a factor where every layer up to the next weights passes it on:

- ReLU, leaky ReLU and max-pooling pass positive factors; tanh passes signs; sigmoid neither; means, dropout, flatten
  and "last step" pass both, and so does a linear layer or a convolution without activation;
- a recurrent layer may flip signs. Plain tanh: every array. GRU: the rows of the candidate n (r and z do not flip), as
  h is a mean of candidates. LSTM: the rows of the candidate g (i, f, o do not flip), as c = f c + i g and h = o tanh(c)
  are odd in (c, g). The factor of h is undone in the columns of weight_hh and of whatever reads h;
- layernorm and groupnorm end the factors of the units before them, and their gain and bias begin new ones. Layernorm
  lets units be renumbered; groupnorm does within each of its groups (swapping whole groups is exact too and not used).

The network's inputs and outputs are fixed. Exact symmetries that are *not* used: sigma(-x) = 1 - sigma(x), shifts
between the two biases of a recurrent layer, a common shift before layernorm, factors between a norm of the inputs and
the first weights. The groups are textbook (weight_hh carries one group on both axes, which is why the helpers of Git
Re-Basin do not fit); the recurrent signs and the rule for norms are OURS.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from protocol.errors import UsageError
from protocol.recipes.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Flow,
    GlobalAvgPool,
    GroupNorm,
    Gru,
    Last,
    LayerNorm,
    LeakyRelu,
    Linear,
    Lstm,
    MaxPool2d,
    Recurrent,
    Relu,
    Rnn,
    Sigmoid,
    Tanh,
)
from protocol.recipes.recipe import Recipe

PASSES: dict[type, tuple[bool, bool]] = {  # layer: (positive factors, signs) go through
    Relu: (True, False),
    LeakyRelu: (True, False),
    MaxPool2d: (True, False),
    Tanh: (False, True),
    Sigmoid: (False, False),
    AvgPool2d: (True, True),
    GlobalAvgPool: (True, True),
    Flatten: (True, True),
    Last: (True, True),
    Dropout: (True, True),
}
SIGNED_GATES: dict[type, tuple[bool, ...]] = {
    Gru: (False, False, True),
    Lstm: (False, False, True, False),
    Rnn: (True,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One axis of one array that runs over a group's units: block by block (the gates of a recurrent layer), in a
    block unit by unit, for a unit `positions` entries in a row (of a flattened image)."""

    array: str
    axis: int  # 0: these units are produced here; 1: they are read here
    group: int
    carries: tuple[bool, ...]  # a block: does a unit's factor multiply it (axis 0) or divide it (axis 1)?
    positions: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hidden units that are renumbered together, in the order of the network."""

    size: int
    scale: bool  # positive factors allowed
    sign: bool  # factors of -1 allowed
    cells: int  # units change places only within each of so many equal runs; 1: all of them
    producers: tuple[str, ...]  # arrays whose rows get the factor: weights, then biases


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All symmetries of an architecture that this module knows."""

    recipe: Recipe
    groups: tuple[Group, ...]
    uses: tuple[Use, ...]

    def uses_of(self, group: int) -> list[Use]:
        """All places where a group's units are produced or read."""
        return [use for use in self.uses if use.group == group]

    def uses_in(self, array: str) -> list[Use]:
        """The groups on an array's axes."""
        return [use for use in self.uses if use.array == array]


@dataclass(slots=True, kw_only=True)
class _Open:
    """The units that flow towards the next weights; without any they are outputs, which are fixed, and no group."""

    size: int
    scale: bool
    sign: bool
    producers: tuple[str, ...]
    cells: int = 1
    made: list[tuple[str, int, tuple[bool, ...], int]] = field(default_factory=list)  # array, axis, carries, positions

    def normalize(self, i: int, layer: LayerNorm | GroupNorm, flow: Flow) -> None:
        """Pass through a norm, layer `i`: earlier factors end, those of its gain and bias begin."""
        positions = flow.shape[0] // self.size
        if isinstance(layer, GroupNorm) and layer.groups % self.size:  # else: whole units are normalized alone
            self.cells = finer(self.cells, layer.groups, self.size)
        self.made = [(array, axis, (False,) * len(carries), p) for array, axis, carries, p in self.made]
        self.scale = self.sign = True
        self.producers = (f"{i}.weight", f"{i}.bias")
        self.made += [(array, 0, (True,), positions) for array in self.producers]


def finer(cells: int, groups: int, size: int) -> int:
    """Runs that lie within the runs of both; if there are no equal ones, units may not change places at all."""
    fine, coarse = max(cells, groups), min(cells, groups)
    return fine if fine % coarse == 0 and size % fine == 0 else size


@lru_cache(maxsize=64)
def symmetry_spec(recipe: Recipe) -> Spec:
    """The symmetries of a recipe's network. Raises UsageError for a layer that this version does not know."""
    groups: list[Group] = []
    uses: list[Use] = []
    units: _Open | None = None  # None: what flows are the network's inputs
    for i, (layer, flow) in enumerate(zip(recipe.network.layers, recipe.flows, strict=False)):
        if isinstance(layer, Linear | Conv2d | Recurrent):
            if units is not None:
                positions = 1 if isinstance(layer, Conv2d) else flow.features // units.size
                weight = f"{i}.weight_ih_l0" if isinstance(layer, Recurrent) else f"{i}.weight"
                _close(units, groups, uses)
                uses.append(Use(array=weight, axis=1, group=len(groups) - 1, carries=(True,), positions=positions))
            units = _opened(i, layer)
        elif units is None:
            continue
        elif isinstance(layer, LayerNorm | GroupNorm):
            units.normalize(i, layer, flow)
        elif type(layer) in PASSES:
            scale, sign = PASSES[type(layer)]
            units.scale, units.sign = units.scale and scale, units.sign and sign
        else:
            raise UsageError(f"layer {i}: no symmetries are known for {type(layer).__name__}")
    return Spec(recipe=recipe, groups=tuple(groups), uses=tuple(uses))


def _opened(i: int, layer: Linear | Conv2d | Recurrent) -> _Open:
    if isinstance(layer, Recurrent):
        producers = (f"{i}.weight_ih_l0", f"{i}.bias_ih_l0", f"{i}.bias_hh_l0")
        units = _Open(size=layer.width, scale=False, sign=True, producers=producers)
        carries, recurrent = SIGNED_GATES[type(layer)], f"{i}.weight_hh_l0"
        units.made = [(name, 0, carries, 1) for name in producers]
        units.made += [(recurrent, 0, carries, 1), (recurrent, 1, (True,), 1)]
        return units
    width = layer.channels if isinstance(layer, Conv2d) else layer.width
    units = _Open(size=width, scale=True, sign=True, producers=(f"{i}.weight", f"{i}.bias"))
    units.made = [(name, 0, (True,), 1) for name in units.producers]
    return units


def _close(units: _Open, groups: list[Group], uses: list[Use]) -> None:
    uses += [
        Use(array=array, axis=axis, group=len(groups), carries=carries, positions=positions)
        for array, axis, carries, positions in units.made
    ]
    groups.append(
        Group(size=units.size, scale=units.scale, sign=units.sign, cells=units.cells, producers=units.producers)
    )
