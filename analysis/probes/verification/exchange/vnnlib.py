"""Questions as VNN-LIB text, the verification competitions' format (VNN-LIB 1.0 over SMT-LIB 2), and back.

A file declares X_0 .. and Y_0 .., bounds every X, and asserts that some row is 0 or below: "sat" then means that the
property fails. Numbers are written in full without an exponent, so that they are read back bit for bit. Only what
`written` writes is read; text of others is refused unless it is of the same small grammar:

    (declare-const X_0 Real) (assert (>= X_0 0.25)) (assert (<= X_0 0.75))
    (assert (or (and (<= Y_0 Y_1)) (and (<= (+ (* 2.0 Y_0) (* -1.0 Y_2)) 0.5))))
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.probes.verification.question import Question
from protocol.errors import UsageError

BYTES_MAX = 8 << 20  # 65,536 inputs with two bounds each
DEPTH_MAX = 8  # the grammar nests 6 deep
VALUES_MAX = 1 << 16  # inputs, and outputs
ROWS_MAX = 1 << 16
TABLE_MAX = 1 << 24  # rows times outputs
WORD_MAX = 400  # characters: the smallest float64 in full has 344
TOKEN = re.compile(r"[()]|[^\s()]+")
NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?\Z")
NAME = re.compile(r"([XY])_(0|[1-9][0-9]{0,5})\Z")


def written(question: Question, comment: str = "") -> str:
    """The question's negation, as VNN-LIB."""
    n, m = len(question.low_n), question.rows_Rm.shape[1]
    lines = [f"; {line}" for line in comment.splitlines()]
    lines += [f"(declare-const X_{i} Real)" for i in range(n)] + [f"(declare-const Y_{j} Real)" for j in range(m)]
    for i, (low, high) in enumerate(zip(question.low_n, question.high_n, strict=True)):
        lines += [f"(assert (>= X_{i} {_number(low)}))", f"(assert (<= X_{i} {_number(high)}))"]
    rows = [f"  (and {_row(row, offset)})" for row, offset in zip(question.rows_Rm, question.offsets_R, strict=True)]
    return "\n".join([*lines, "(assert (or", *rows, "))", ""])


def _number(value: float) -> str:
    """Raises UsageError: not finite."""
    if not np.isfinite(value):
        raise UsageError(f"VNN-LIB has no {value}")
    return np.format_float_positional(value, unique=True, trim="0")


def _row(row_m: np.ndarray, offset: float) -> str:
    """row y + offset <= 0."""
    places = np.nonzero(row_m)[0] if row_m.any() else np.array([0])
    if offset == 0 and sorted(row_m[places]) == [-1.0, 1.0]:
        less, more = places[row_m[places].argmax()], places[row_m[places].argmin()]
        return f"(<= Y_{less} Y_{more})"
    terms = " ".join(f"(* {_number(row_m[j])} Y_{j})" for j in places)
    return f"(<= (+ {terms}) {_number(-offset)})"


def read(text: str) -> Question:
    """Raises UsageError: too large, or not of the grammar above; one line that says where."""
    if len(text) > BYTES_MAX:
        raise UsageError(f"VNN-LIB: {len(text):,} characters; the limit is {BYTES_MAX:,}")
    names: dict[str, int] = {"X": 0, "Y": 0}
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    rows: list[tuple[dict[int, float], float]] | None = None
    for statement in _statements(text):
        match statement:
            case ["declare-const", str(name), "Real"]:
                _declare(name, names)
            case ["assert", ["or", *parts]] if rows is None:
                rows = [_read_row(part, names["Y"]) for part in parts]
            case ["assert", [">=" | "<=" as sign, str(name), str(value)]]:
                kind, place = _place(name, names)
                side = low if sign == ">=" else high
                if kind != "X" or place in side:
                    raise UsageError(f"VNN-LIB: a second bound, or one of an output: {name}")
                side[place] = _value(value)
            case _:
                raise UsageError(f"VNN-LIB: not understood: {_shown(statement)}")
    return _question(names, low, high, rows)


def _question(names: dict[str, int], low: dict[int, float], high: dict[int, float], rows: Any) -> Question:
    n, m = names["X"], names["Y"]
    if not n or not m or not rows:
        raise UsageError("VNN-LIB: it needs inputs, outputs, and one (assert (or ...)) over the outputs")
    if len(rows) > ROWS_MAX or len(rows) * m > TABLE_MAX:
        raise UsageError(f"VNN-LIB: {len(rows):,} rows of {m:,} outputs are too many")
    if len(low) < n or len(high) < n:
        raise UsageError("VNN-LIB: an input has no lower or no upper bound")
    table = np.zeros((len(rows), m))
    for r, (terms, _) in enumerate(rows):
        table[r, list(terms)] = list(terms.values())
    question = Question(
        low_n=np.array([low[i] for i in range(n)]),
        high_n=np.array([high[i] for i in range(n)]),
        rows_Rm=table,
        offsets_R=np.array([offset for _, offset in rows]),
    )
    if (question.low_n > question.high_n).any():
        raise UsageError("VNN-LIB: an input's lower bound is above its upper bound")
    return question


def _statements(text: str) -> Iterator[Any]:
    """Nested lists of words, one statement at a time; no recursion, so that depth cannot hurt."""
    stack: list[list[Any]] = []
    for line in text.splitlines():
        code = line.partition(";")[0]
        for token in TOKEN.findall(code):
            if len(token) > WORD_MAX:
                raise UsageError(f"VNN-LIB: not understood: {token[:60]!r}")
            if token == "(":
                stack.append([])
                if len(stack) > DEPTH_MAX:
                    raise UsageError(f"VNN-LIB: nested more than {DEPTH_MAX} deep")
            elif not stack:
                raise UsageError(f"VNN-LIB: {token[:60]!r} stands outside of brackets")
            elif token == ")":
                done = stack.pop()
                if stack:
                    stack[-1].append(done)
                else:
                    yield done
            else:
                stack[-1].append(token)
    if stack:
        raise UsageError("VNN-LIB: a bracket is not closed")


def _declare(name: str, names: dict[str, int]) -> None:
    """In order: X_0, X_1, ..."""
    found = NAME.match(name)
    if not found or int(found[2]) != names[found[1]]:
        raise UsageError(f"VNN-LIB: declared out of order: {name[:60]!r}")
    names[found[1]] += 1
    if names[found[1]] > VALUES_MAX:
        raise UsageError(f"VNN-LIB: more than {VALUES_MAX:,} values")


def _place(name: str, names: dict[str, int]) -> tuple[str, int]:
    found = NAME.match(name)
    if not found or int(found[2]) >= names[found[1]]:
        raise UsageError(f"VNN-LIB: not declared: {name[:60]!r}")
    return found[1], int(found[2])


def _value(text: Any) -> float:
    if not isinstance(text, str) or not NUMBER.match(text) or not np.isfinite(value := float(text)):
        raise UsageError(f"VNN-LIB: not a number: {_shown(text)}")
    return value


def _read_row(part: Any, outputs: int) -> tuple[dict[int, float], float]:
    """(and (<= Y_a Y_b)), or (and (<= (+ (* number Y_a) ...) number))."""
    match part:
        case ["and", ["<=", str(less), str(more)]]:
            terms = [["*", "1.0", less], ["*", "-1.0", more]]
            offset = 0.0
        case ["and", ["<=", ["+", *terms], str(most)]]:
            offset = -_value(most)
        case _:
            raise UsageError(f"VNN-LIB: not understood: {_shown(part)}")
    found: dict[int, float] = {}
    for term in terms:
        match term:
            case ["*", str(factor), str(name)]:
                kind, place = _place(name, {"X": 0, "Y": outputs})
                if kind != "Y" or place in found:
                    raise UsageError(f"VNN-LIB: an output twice in one row: {name}")
                found[place] = _value(factor)
            case _:
                raise UsageError(f"VNN-LIB: not understood: {_shown(term)}")
    return found, offset


def _shown(value: Any) -> str:
    return repr(value)[:80]
