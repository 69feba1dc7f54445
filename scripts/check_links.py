"""Check every link of the project's Markdown: the file is there, and the heading too. Web addresses are not visited.

python scripts/check_links.py
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def main() -> None:
    names = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    problems = [problem for name in names for problem in broken_links(ROOT / name)]
    print("\n".join(problems) or f"{len(names)} documents: every link leads somewhere")
    sys.exit(bool(problems))


def broken_links(document: Path) -> list[str]:
    """One line for each link of `document` that leads nowhere."""
    found = []
    for target in LINK.findall(FENCE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        path = document.parent / name if name else document
        if not path.exists():
            found.append(f"{document.relative_to(ROOT)}: no file {name}")
        elif heading and heading not in headings(path):
            found.append(f"{document.relative_to(ROOT)}: no heading #{heading} in {path.name}")
    return found


def headings(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


if __name__ == "__main__":
    main()
