"""What stands between two affine maps, and the straight lines that bound it: bends, curves and products.

Each operation gives, for units known to lie in [low, high], an interval of its values and, for a lower bound of rows A
over its values, rows over its inputs that are never above (`pull`). Which line is taken is told by `fractions` in
[0, 1]: any of them is sound, so they may be optimised. Lines are moved outward by more than their own rounding
(`UNIT` is the unit roundoff of float64). Formulas: CROWN (Zhang et al. 2018) and DeepPoly (Singh et al. 2019) for bends
and curves, McCormick (1976) for products. Axes: B boxes, R rows, N values going in; U units that the operation acts on.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch

UNIT = 2.0**-53
BISECTIONS = 40  # of a tangent's point; where it lands only decides how tight the line is
FLAT = 1e-9  # an interval shorter than this gets the slope at its middle instead of a quotient


Lines = tuple[torch.Tensor, ...]  # slopes and intercepts (B, R or 1, U), in an order that is the operation's own


class Pulled(NamedTuple):
    """A lower bound of A y: rows over what went in, and what is left over."""

    rows_BRN: torch.Tensor
    constant_BR: torch.Tensor


class Operation(ABC):
    """Acts on `units` (U,), the places among its inputs; the others pass through."""

    piecewise_linear: bool
    outputs: int
    units: torch.Tensor  # whose bounds the lines depend on

    @abstractmethod
    def __call__(self, values_BN: torch.Tensor) -> torch.Tensor:
        """The values themselves."""

    @abstractmethod
    def interval(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values lie between these, whatever the rounding."""

    @abstractmethod
    def fractions(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        """Where to start, (2, B, U) in [0, 1]: for the lower line, and the upper."""

    @abstractmethod
    def lines(self, low_BN: torch.Tensor, high_BN: torch.Tensor, fractions: torch.Tensor) -> Lines:
        """The lines themselves, for any number of pulls; fractions (2, B, R or 1, U)."""

    @abstractmethod
    def pull(self, rows_BRM: torch.Tensor, lines: Lines) -> Pulled:
        """Rows over the values -> rows over the inputs and a constant, not above."""

    @abstractmethod
    def room(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        """(B, M) not below |slope| |input| + |intercept| of each value's lines: what rounding in `pull` scales with."""

    @abstractmethod
    def kept(self, after: torch.Tensor) -> "tuple[Operation | None, torch.Tensor, torch.Tensor]":
        """Of some values only (places after it, sorted): the operation on them, None where it does nothing to them;
        the places before it; and which of its lines."""

    @abstractmethod
    def rounding(self, error_BN: torch.Tensor, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        """(B, M): how far float64 values may be off when the inputs are off by `error`."""


class Bends(Operation):
    """max(z, slope z): a slope of 0 is a ReLU, one between a leaky ReLU, and 1 passes. slopes (N,) in [0, 1]."""

    piecewise_linear = True

    def __init__(self, slopes_N: torch.Tensor):
        self.slopes = slopes_N.to(torch.float64)
        self.units = torch.nonzero(self.slopes < 1)[:, 0]
        self.outputs = len(slopes_N)

    def __call__(self, values_BN: torch.Tensor) -> torch.Tensor:
        return torch.maximum(values_BN, self.slopes * values_BN)

    def interval(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = self(low_BN), self(high_BN)
        return low - 2 * UNIT * low.abs(), high + 2 * UNIT * high.abs()

    def fractions(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        first = (high_BN[:, self.units] >= -low_BN[:, self.units]).to(torch.float64)
        return torch.stack([first, torch.zeros_like(first)])

    def lines(
        self, low_BN: torch.Tensor, high_BN: torch.Tensor, fractions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Lower slope (B, R, U) through 0, upper slope and intercept (B, 1, U): the chord."""
        bend = self.slopes[self.units]
        low, high = low_BN[:, None, self.units], high_BN[:, None, self.units]
        over, under = low >= 0, high <= 0
        unsure = ~(over | under)
        lower = torch.minimum(torch.maximum(bend + fractions[0] * (1 - bend), bend), torch.ones(()).double())
        lower = torch.where(over, torch.ones_like(lower), torch.where(under, bend.expand_as(lower), lower))
        width = torch.where(unsure, high - low, torch.ones_like(low))
        upper = torch.where(over, torch.ones_like(low), torch.where(unsure, (high - bend * low) / width, bend))
        meets = torch.maximum(high - upper * high, bend * low - upper * low)
        intercept = torch.where(unsure, meets + 8 * UNIT * torch.maximum(-low, high), torch.zeros_like(low))
        return lower, upper, intercept

    def pull(self, rows_BRM: torch.Tensor, lines: Lines) -> Pulled:
        lower, upper, intercept = lines
        own = rows_BRM[..., self.units]
        up, down = own.clamp(min=0), own.clamp(max=0)
        rows = rows_BRM.index_copy(-1, self.units, up * lower + down * upper)
        return Pulled(rows, (down * intercept).sum(-1))

    def room(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        return 4 * torch.maximum(low_BN.abs(), high_BN.abs())

    def kept(self, after: torch.Tensor) -> tuple[Operation | None, torch.Tensor, torch.Tensor]:
        lines = torch.nonzero(torch.isin(self.units, after))[:, 0]
        return (Bends(self.slopes[after]) if len(lines) else None), after, lines

    def rounding(self, error_BN: torch.Tensor, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        return error_BN + 2 * UNIT * (torch.maximum(low_BN.abs(), high_BN.abs()) + error_BN)


class Curves(Operation):
    """tanh, or sigmoid(z) = (1 + tanh(z / 2)) / 2: both are shift + scale tanh(rate z), with powers of two."""

    piecewise_linear = False

    def __init__(self, width: int, units_U: torch.Tensor, is_sigmoid_U: torch.Tensor):
        self.units, self.outputs = units_U, width
        self.rate = torch.where(is_sigmoid_U, 0.5, 1.0).double()
        self.scale = self.rate
        self.shift = torch.where(is_sigmoid_U, 0.5, 0.0).double()

    def __call__(self, values_BN: torch.Tensor) -> torch.Tensor:
        return values_BN.index_copy(-1, self.units, self._value(values_BN[..., self.units]))

    def _value(self, z: torch.Tensor) -> torch.Tensor:
        return self.shift + self.scale * torch.tanh(self.rate * z)

    def interval(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        off = 16 * UNIT  # values are at most 1; a library's tanh is off by two units of it at most
        low, high = self._value(low_BN[..., self.units]) - off, self._value(high_BN[..., self.units]) + off
        return low_BN.index_copy(-1, self.units, low), high_BN.index_copy(-1, self.units, high)

    def fractions(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        low, high = self.rate * low_BN[:, self.units], self.rate * high_BN[:, self.units]
        least, most = _slopes(low, high)
        width = torch.where(most > least, most - least, torch.ones_like(most))
        return torch.stack([((slope - least) / width).clamp(0, 1) for slope in _tight_slopes(low, high)])

    def lines(self, low_BN: torch.Tensor, high_BN: torch.Tensor, fractions: torch.Tensor) -> Lines:
        low, high = self.rate * low_BN[:, None, self.units], self.rate * high_BN[:, None, self.units]
        least, most = _slopes(low, high)
        under, over = (least + fraction * (most - least) for fraction in fractions)
        lower, upper = (
            self.shift + self.scale * _intercept(low, high, under, False),
            self.shift + self.scale * _intercept(low, high, over, True),
        )
        turn = self.scale * self.rate  # powers of two: exact
        return under * turn, over * turn, lower, upper

    def pull(self, rows_BRM: torch.Tensor, lines: Lines) -> Pulled:
        under, over, lower, upper = lines
        own = rows_BRM[..., self.units]
        up, down = own.clamp(min=0), own.clamp(max=0)
        rows = rows_BRM.index_copy(-1, self.units, up * under + down * over)
        return Pulled(rows, (up * lower + down * upper).sum(-1))

    def room(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        return 4 * torch.maximum(low_BN.abs(), high_BN.abs()) + 2

    def kept(self, after: torch.Tensor) -> tuple[Operation | None, torch.Tensor, torch.Tensor]:
        lines = torch.nonzero(torch.isin(self.units, after))[:, 0]
        places = torch.searchsorted(after, self.units[lines])
        return (Curves(len(after), places, self.rate[lines] == 0.5) if len(lines) else None), after, lines

    def rounding(self, error_BN: torch.Tensor, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        own = error_BN[..., self.units]
        low, high = (self.rate * (bound[..., self.units] + side * own) for bound, side in ((low_BN, -1), (high_BN, 1)))
        most = self.scale * self.rate * (_slopes(low, high)[1] + 16 * UNIT)
        return error_BN.index_copy(-1, self.units, own * most) + 16 * UNIT * torch.ones_like(error_BN)


def _derivative(w: torch.Tensor) -> torch.Tensor:
    return 1 - torch.tanh(w) ** 2


def _slopes(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest slope of tanh on [low, high]."""
    at_low, at_high = _derivative(low), _derivative(high)
    crosses = (low < 0) & (high > 0)
    return torch.minimum(at_low, at_high), torch.where(crosses, torch.ones_like(low), torch.maximum(at_low, at_high))


def _tight_slopes(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes of the usual lines: secant below and tangent at the middle above where tanh is concave, mirrored where it
    is convex, tangents through the far end where it is both."""
    width = torch.where(high - low > FLAT, high - low, torch.ones_like(low))
    middle = _derivative((low + high) / 2)
    secant = torch.where(high - low > FLAT, (torch.tanh(high) - torch.tanh(low)) / width, middle)
    crosses = (low < 0) & (high > 0)
    lower = torch.where(low >= 0, secant, middle)
    upper = torch.where(low >= 0, middle, secant)
    lower = torch.where(crosses, _tangent_slope(-high, -low, secant), lower)
    return lower, torch.where(crosses, _tangent_slope(low, high, secant), upper)


def _tangent_slope(low: torch.Tensor, high: torch.Tensor, secant: torch.Tensor) -> torch.Tensor:
    """Of the line through (low, tanh low) that touches tanh at d in [0, high]; the secant when it would touch later."""
    near, far = torch.zeros_like(low), high.clone()
    for _ in range(BISECTIONS):
        d = (near + far) / 2
        too_near = _derivative(d) * (d - low) > torch.tanh(d) - torch.tanh(low)
        near, far = torch.where(too_near, d, near), torch.where(too_near, far, d)
    reaches = _derivative(high) * (high - low) < torch.tanh(high) - torch.tanh(low)
    return torch.where(reaches, _derivative(near), secant)


def _intercept(low: torch.Tensor, high: torch.Tensor, slope: torch.Tensor, over: bool) -> torch.Tensor:
    """The least t with slope w + t >= tanh w on [low, high] (`over`), or the greatest with <=, for any slope.

    tanh w - slope w is extreme at an end or where 1 - tanh^2 w = slope. An error d in that place moves the value by
    d^2 / 2 at most, so it is the rounding of the value that the line is moved outward for.
    """
    with torch.no_grad():
        steep = torch.atanh(torch.sqrt((1 - slope).clamp(0, 1)))
        ends = [low.expand_as(slope), high.expand_as(slope)]
        places = torch.stack([*ends, torch.clamp(steep, low, high), torch.clamp(-steep, low, high)])
        size = 1 + slope.abs() * torch.maximum(low.abs(), high.abs())
    gaps = torch.tanh(places) - slope * places
    return gaps.max(0).values + 16 * UNIT * size if over else gaps.min(0).values - 16 * UNIT * size


class Products(Operation):
    """(a, b, rest) -> (a b, rest), with `pairs` values each in a and b."""

    piecewise_linear = False

    def __init__(self, width: int, pairs: int):
        self.pairs, self.outputs = pairs, width - pairs
        self.units = torch.arange(2 * pairs)

    def _parts(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        n = self.pairs
        return values[..., :n], values[..., n : 2 * n], values[..., 2 * n :]

    def __call__(self, values_BN: torch.Tensor) -> torch.Tensor:
        a, b, rest = self._parts(values_BN)
        return torch.cat([a * b, rest], -1)

    def interval(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (la, lb, low), (ha, hb, high) = self._parts(low_BN), self._parts(high_BN)
        corners = torch.stack([la * lb, la * hb, ha * lb, ha * hb])
        off = 2 * UNIT * corners.abs().amax(0)
        return torch.cat([corners.amin(0) - off, low], -1), torch.cat([corners.amax(0) + off, high], -1)

    def fractions(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        return torch.full((2, len(low_BN), self.pairs), 0.5, dtype=torch.float64)

    def lines(self, low_BN: torch.Tensor, high_BN: torch.Tensor, fractions: torch.Tensor) -> Lines:
        """a b >= lb a + la b - la lb, and >= hb a + ha b - ha hb; <= hb a + la b - la hb, and <= lb a + ha b - ha lb;
        and so any mixture of the two."""
        (la, lb, _), (ha, hb, _) = self._parts(low_BN[:, None]), self._parts(high_BN[:, None])
        under, over = fractions[0][..., : self.pairs], fractions[1][..., : self.pairs]
        off = 40 * UNIT * torch.maximum(la.abs(), ha.abs()) * torch.maximum(lb.abs(), hb.abs())
        lower = -(la * lb + under * (ha * hb - la * lb)) - off
        upper = -(la * hb + over * (ha * lb - la * hb)) + off
        mixed = under * (hb - lb), over * (lb - hb), under * (ha - la), over * (ha - la)
        return lb + mixed[0], hb + mixed[1], la + mixed[2], la + mixed[3], lower, upper

    def pull(self, rows_BRM: torch.Tensor, lines: Lines) -> Pulled:
        under_a, over_a, under_b, over_b, lower, upper = lines
        own, rest = rows_BRM[..., : self.pairs], rows_BRM[..., self.pairs :]
        up, down = own.clamp(min=0), own.clamp(max=0)
        rows = torch.cat([up * under_a + down * over_a, up * under_b + down * over_b, rest], -1)
        return Pulled(rows, (up * lower + down * upper).sum(-1))

    def room(self, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        a, b, rest = self._parts(torch.maximum(low_BN.abs(), high_BN.abs()))
        return torch.cat([12 * a * b, rest], -1)

    def kept(self, after: torch.Tensor) -> tuple[Operation | None, torch.Tensor, torch.Tensor]:
        lines, rest = after[after < self.pairs], after[after >= self.pairs]
        before = torch.cat([lines, lines + self.pairs, rest + self.pairs])
        return (Products(len(before), len(lines)) if len(lines) else None), before, lines

    def rounding(self, error_BN: torch.Tensor, low_BN: torch.Tensor, high_BN: torch.Tensor) -> torch.Tensor:
        a, b, _ = self._parts(torch.maximum(low_BN.abs(), high_BN.abs()))
        ea, eb, rest = self._parts(error_BN)
        off = a * eb + b * ea + ea * eb
        return torch.cat([off + 4 * UNIT * (a * b + off), rest], -1)
