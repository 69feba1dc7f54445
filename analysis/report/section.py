"""What a section of the page is, and how its numbers are written.

A method is a function from a Population to Findings, with a title and a question (`method`); the page shows each as
sentence, picture, numbers with intervals, control, and the call that gives the numbers again. A method that cannot be
used raises UsageError: the page then says why, in that sentence.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.report.population import Population


class Cell(NamedTuple):
    """One entry of a table: how it is written, and the numbers that it was written from."""

    text: str
    numbers: tuple[float, ...] = ()


@dataclass(slots=True, kw_only=True)
class Findings:
    """What a method says of a population."""

    verdict: list[str]  # sentences, a paragraph each
    head: list[str]
    rows: list[list[Cell]]
    figure: "Figure | None"
    caption: str = ""
    control: str  # what could have fooled the method, and where the table shows that it did not
    note: str = ""  # how it was done
    code: str  # gives every number again


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One question to the weights."""

    key: str
    title: str
    intro: str
    classes: int  # how many it needs, each with two seeds at least
    compares: bool  # does it tell classes apart, so that initial weights may give them away?
    find: "Callable[[Population], Findings]"


@dataclass(slots=True, kw_only=True)
class Section:
    """A method's findings as text; what is kept in the cache and shown by report.html. `missing` says why not."""

    key: str
    title: str
    intro: str
    missing: str = ""
    verdict: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)
    picture: str = ""  # SVG
    caption: str = ""
    control: str = ""
    note: str = ""
    code: str = ""

    def told(self) -> dict[str, Any]:
        """For JSON: all but the picture; each entry with the numbers that it was written from."""
        value = asdict(self)
        value.pop("picture")
        value["rows"] = [[{"text": cell.text, "numbers": list(cell.numbers)} for cell in row] for row in self.rows]
        return value

    def kept(self) -> dict[str, Any]:
        """For the cache."""
        return self.told() | {"picture": self.picture}


def section_from(value: Mapping[str, Any]) -> Section:
    """`Section.kept` back."""
    rows = [[Cell(cell["text"], tuple(cell["numbers"])) for cell in row] for row in value["rows"]]
    return Section(**{**value, "rows": rows})


def method(
    key: str, title: str, intro: str, classes: int = 1, compares: bool = False
) -> "Callable[[Callable[[Population], Findings]], Method]":
    """Make a Method of a function."""
    return lambda find: Method(key=key, title=title, intro=intro, classes=classes, compares=compares, find=find)


def words(text: str) -> Cell:
    return Cell(text)


def number(value: float, digits: int = 3) -> Cell:
    return Cell("–") if np.isnan(value) else Cell(f"{value:.{digits}f}", (float(value),))


def whole(value: int | None, otherwise: str = "–", unit: str = "") -> Cell:
    return Cell(otherwise) if value is None else Cell(f"{value:,}{unit}", (float(value),))


def share(value: float) -> Cell:
    return Cell("–") if np.isnan(value) else Cell(f"{value:.1%}", (float(value),))


def span(value: float, low: float, high: float, form: str = ".3f") -> Cell:
    """A number with its interval; without, where there is none."""
    if np.isnan(value):
        return Cell("–")
    if np.isnan([low, high]).any():
        return Cell(f"{value:{form}}", (float(value),))
    return Cell(f"{value:{form}} ({low:{form}} to {high:{form}})", (float(value), float(low), float(high)))


def middle(values: np.ndarray, form: str) -> Cell:
    """From the 5% to the 95% quantile."""
    if not len(values):
        return Cell("–")
    low, high = np.quantile(values, (0.05, 0.95))
    return Cell(f"{low:{form}} to {high:{form}}", (float(low), float(high)))


def small(p: float) -> Cell:
    """A p-value."""
    return Cell("–") if np.isnan(p) else Cell(f"{p:.2g}" if p >= 1e-99 else "< 1e-99", (float(p),))


def accuracy(one: Any) -> Cell:
    """Of anything with accuracy, low and high."""
    return span(one.accuracy, one.low, one.high, ".1%")


def mark(one: Any) -> Cell:
    """Of anything with value, low and high."""
    return span(one.value, one.low, one.high)


def listed(names: list[str], most: int = 6) -> str:
    """a, b and 3 more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
