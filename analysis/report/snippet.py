"""The page shows calls as text, and its numbers come from running that very text."""

import ast
from typing import Any

# What `selection.prelude` defines; a Selection has them as attributes, read when first asked for. `paths` is defined by
# the opening of the studies that use it.
NAMES = ("zoo", "table", "recipe", "weights_NP", "initial_NP", "classes", "seeds", "paths")


def run(code: str, start: object) -> Any:
    """The value of the last line of `code`, an expression, with NAMES taken from the attributes of `start`.

    `code` is our own text; what a zoo says may stand in it only as a literal, by repr (a test looks). Raises what the
    code raises; ValueError when its last line is no expression.
    """
    tree = ast.parse(code)
    if not tree.body or not isinstance(last := tree.body[-1], ast.Expr):
        raise ValueError("the last line of a snippet is an expression: its result")
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    needed = {node.id for node in names} - {node.id for node in names if isinstance(node.ctx, ast.Store)}
    scope: dict[str, Any] = {name: getattr(start, name) for name in NAMES if name in needed}
    exec(compile(ast.Module(tree.body[:-1], []), "<snippet>", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "<snippet>", "eval"), scope)
