"""Measure how the code is cut: the rooms of each package, the arrows between them, circles, and crowded folders.

    python scripts/rooms.py             print the picture that stands in docs/architecture.md
    python scripts/rooms.py --write     put it there

A room is a module or a folder directly inside a package; an arrow is "some module of this room imports some module of
that one", late imports included. Limits are in tests/system/test_architecture.py.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("protocol", "peer", "coordinator", "analysis")
BEGIN, END = "<!-- rooms: written by scripts/rooms.py -->\n", "<!-- end of rooms -->\n"


class Floorplan(NamedTuple):
    """One package: its rooms from the top floor down, and which of the others each imports."""

    package: str
    arrows: dict[str, tuple[str, ...]]

    @property
    def arrow_count(self) -> int:
        return sum(map(len, self.arrows.values()))

    @property
    def circle(self) -> tuple[str, ...]:
        """Rooms that take part in, or stand above, a circle that nothing resolves; empty where there is none."""
        left = dict(self.arrows)
        while free := [room for room, targets in left.items() if not any(target in left for target in targets)]:
            for room in free:
                del left[room]
        return tuple(sorted(left))


def floorplans() -> list[Floorplan]:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return [floorplan(graph, package) for package in PACKAGES]


def floorplan(graph: grimp.ImportGraph, package: str) -> Floorplan:
    rooms = sorted(graph.find_children(package))
    arrows = {room: {other for other in rooms if other != room and arrow(graph, room, other)} for room in rooms}
    height = {room: len(reached(arrows, room)) for room in rooms}
    short = {room: room.rpartition(".")[2] for room in rooms}
    order = sorted(rooms, key=lambda room: (-height[room], room))
    return Floorplan(package, {short[room]: tuple(short[o] for o in order if o in arrows[room]) for room in order})


def arrow(graph: grimp.ImportGraph, importer: str, imported: str) -> bool:
    """Whether a module of one room imports one of the other, directly."""
    targets = {imported} | graph.find_descendants(imported)
    sources = {importer} | graph.find_descendants(importer)
    return any(targets & graph.find_modules_directly_imported_by(module) for module in sources)


def reached(arrows: dict[str, set[str]], room: str) -> set[str]:
    found, todo = set(), [room]
    while todo:
        new = arrows[todo.pop()] - found
        found |= new
        todo += new
    return found


def crowds(root: Path = ROOT) -> dict[str, int]:
    """Modules (Python, C, CUDA) in each folder of ours, maps (`__init__`) and generated code left out."""
    counts: dict[str, int] = {}
    for package in (*PACKAGES, "tests", "scripts"):
        for path in (root / package).rglob("*"):
            if path.suffix in (".py", ".c", ".cu", ".h") and path.name != "__init__.py" and "_pb2" not in path.name:
                folder = path.parent.relative_to(root).as_posix()
                counts[folder] = counts.get(folder, 0) + 1
    return counts


def picture() -> str:
    plans = floorplans()
    lines = ["| package | rooms | arrows | circles |", "| --- | --- | --- | --- |"]
    lines += [f"| `{p.package}/` | {len(p.arrows)} | {p.arrow_count} | {len(p.circle)} |" for p in plans]
    for plan in plans:
        width = max(map(len, plan.arrows))
        lines += ["", "```", plan.package]
        lines += [
            f"  {room:{width}}  -> {' '.join(targets)}" if targets else f"  {room}"
            for room, targets in plan.arrows.items()
        ]
        lines += ["```"]
    folder, most = max(crowds().items(), key=lambda item: (item[1], item[0]))
    lines += ["", f"The fullest folder is `{folder}/` with {most} modules."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the picture into docs/architecture.md")
    drawn = picture()
    if not parser.parse_args().write:
        sys.stdout.write(drawn)
        return
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + drawn + END + after)


if __name__ == "__main__":
    main()
