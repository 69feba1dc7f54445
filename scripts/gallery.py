"""Make the pictures of docs/gallery.md by running the code beside each.

python scripts/gallery.py ZOO
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gallery.md"
ENTRY = re.compile(r"```python\n(.*?)```\n!\[[^\]]*\]\((\S+)\)", re.DOTALL)


class Picture(NamedTuple):
    code: str
    path: str  # beside the page

    def figure(self, zoo: Path) -> Any:
        """What the code draws of this zoo; `open_zoo("zoo")` opens it."""
        names: dict[str, Any] = {}
        exec(self.code.replace('open_zoo("zoo")', f"open_zoo({str(zoo)!r})"), names)
        return names["figure"]


def pictures() -> Iterator[Picture]:
    return (Picture(*found) for found in ENTRY.findall(PAGE.read_text()))


def main() -> None:
    zoo = Path(sys.argv[1])
    for picture in pictures():
        target = PAGE.parent / picture.path
        target.parent.mkdir(exist_ok=True)
        picture.figure(zoo).savefig(target, dpi=110)
        print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
