"""Does the call that a section of the page shows give the numbers of its table?"""

import ast
import dataclasses

import numpy as np

from analysis.report.study import Section


def results_of(code: str, names: dict) -> list:
    """Run code and return the values of its bare expressions, which is what a notebook would show."""
    shown: list = []
    tree = ast.parse(code)
    for line in tree.body:
        if isinstance(line, ast.Expr):
            call = ast.Call(func=ast.Name("_shown", ast.Load()), args=[line.value], keywords=[])
            line.value = ast.copy_location(call, line.value)
    exec(compile(ast.fix_missing_locations(tree), "page", "exec"), names | {"_shown": shown.append} | {})
    return shown


def scalars(value) -> list[float]:
    """All numbers of a result, without long arrays: those could hold anything."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, int | float | np.integer | np.floating):
        return [float(value)]
    if dataclasses.is_dataclass(value):
        kind = type(value)
        members = [name for name in dir(kind) if isinstance(getattr(kind, name), property)]
        members += [field.name for field in dataclasses.fields(value)]
        return [x for name in members for x in scalars(getattr(value, name))]
    if isinstance(value, dict):
        return [x for one in value.values() for x in scalars(one)]
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.size <= 16 and value.dtype.kind in "if" else []
    if isinstance(value, tuple) and len(value) > 16:
        return []
    return [x for one in value for x in scalars(one)]


def not_reproduced(section: Section, found: list[float]) -> list[str]:
    """The entries of a section's table with a number that the call did not give."""
    known = np.array(found)
    return [
        f"{section.key}: {cell.text}"
        for row in section.rows
        for cell in row
        if not all(np.isclose(known, x, rtol=1e-9, atol=1e-12).any() for x in cell.numbers)
    ]
