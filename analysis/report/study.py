"""What a study is, and how its numbers are written.

A study asks one question: `compute` runs the call that the page shows and gives a result that is never changed again;
`words`, `table` and `figure` each make one thing of that result. A study that cannot be made of some networks raises
UsageError: the page then says why, in that sentence.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from analysis.report.snippet import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.report.selection import Selection

Result = TypeVar("Result")


class Cell(NamedTuple):
    """One entry of a table: how it is written, and the numbers that it was written from."""

    text: str
    numbers: tuple[float, ...] = ()


class Table(NamedTuple):
    """Names of the columns, and a row of as many cells each."""

    head: list[str]
    rows: list[list[Cell]]


class Notes(NamedTuple):
    """What stands around a table."""

    control: str  # what could have fooled the method, and where the table shows that it did not
    caption: str = ""  # of the figure
    method: str = ""  # how it was done


class Study(ABC, Generic[Result]):
    """One question to the weights."""

    key: ClassVar[str]
    title: ClassVar[str]
    intro: ClassVar[str]
    classes: ClassVar[int] = 1  # how many it needs, each with two seeds at least
    compares: ClassVar[bool] = False  # does it tell classes apart, so that initial weights may give them away?

    @abstractmethod
    def snippet(self, selection: "Selection") -> str:
        """The call, as text: Python over the names of `selection.prelude`, its last line being the result.

        Raises UsageError: this cannot be asked of these networks, for the reason given.
        """

    def opening(self, selection: "Selection") -> str:
        """Text before the snippet that defines a name which is dear, and which the selection therefore keeps."""
        return ""

    def stamp(self, selection: "Selection") -> str:
        """What its numbers depend on besides the zoo's content, the expression and our code: the cache's business."""
        return ""

    def compute(self, selection: "Selection") -> Result:
        """Run the snippet. Raises UsageError: too few networks of a kind, or layers that a method does not know."""
        return run(self.snippet(selection), selection)

    @abstractmethod
    def words(self, result: Result) -> list[str]:
        """The answer in sentences, a paragraph each; they may not claim more than the intervals carry."""

    @abstractmethod
    def table(self, result: Result) -> Table:
        """Every number with its interval, beside those of the control."""

    @abstractmethod
    def figure(self, result: Result) -> "Figure":
        """The same as a picture."""

    def dots(self, result: Result) -> "list[np.ndarray]":
        """Where the picture has a dot for each network of the selection: (N, 2) places an axes, in their order."""
        return []

    @abstractmethod
    def notes(self, result: Result, selection: "Selection") -> Notes:
        """Control, caption, and how it was done."""


@dataclass(slots=True, kw_only=True)
class Section:
    """A study as text; what is kept in the cache and shown by report.html. `missing` says why not."""

    key: str
    title: str
    intro: str
    missing: str = ""
    verdict: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)
    picture: str = ""  # SVG
    hover: dict[str, Any] = field(default_factory=dict)  # see `hover.rings`
    caption: str = ""
    control: str = ""
    note: str = ""
    code: str = ""

    def told(self) -> dict[str, Any]:
        """For JSON: all but the picture; each entry with the numbers that it was written from."""
        value = asdict(self)
        del value["picture"], value["hover"]
        value["rows"] = [[{"text": cell.text, "numbers": list(cell.numbers)} for cell in row] for row in self.rows]
        return value

    def kept(self) -> dict[str, Any]:
        """For the cache."""
        return self.told() | {"picture": self.picture, "hover": self.hover}


def section_from(value: Mapping[str, Any]) -> Section:
    """`Section.kept` back."""
    rows = [[Cell(cell["text"], tuple(cell["numbers"])) for cell in row] for row in value["rows"]]
    return Section(**{**value, "rows": rows})


def text(value: str) -> Cell:
    return Cell(value)


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


def reach(low: float, high: float, form: str) -> Cell:
    """From one number to another."""
    return Cell("–") if np.isnan([low, high]).any() else Cell(f"{low:{form}} to {high:{form}}", (low, high))


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
