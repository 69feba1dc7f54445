"""Build the static site into build/site: documents, tours, gallery, and a reference from docstrings. Works offline.

python scripts/build_site.py

Its pages are the repository's own Markdown, at their own paths, so that every link is checked twice: on the repository
(scripts/check_links.py) and here, where a link that leads nowhere fails the build, and so does a page that would ask
another server for anything.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from check_links import FENCE, LINK

ROOT = Path(__file__).resolve().parents[1]
PAGES, SITE = ROOT / "build" / "pages", ROOT / "build" / "site"
OUTSIDE = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^\s>]*")
DIRECT = re.compile(r"(\]\([^)#\s]+)\.ipynb")
REFERENCE = {  # page -> title, modules or packages, whose modules follow one another
    "analysis": ("A zoo", ("analysis/zoo.py", "analysis/report/picture.py", "analysis/report/page.py")),
    "weights": ("Numbers about weights", ("analysis/weights",)),
    "methods": ("One question a module", ("analysis/methods",)),
    "statistics": ("Honest comparisons", ("analysis/statistics",)),
    "plots": ("Pictures of tables", ("analysis/plots",)),
    "recipes": ("Recipes and campaigns", ("protocol/recipes",)),
}


def main() -> None:
    shutil.rmtree(ROOT / "build" / "pages", ignore_errors=True)
    for name in tracked("*.md"):
        if not name.startswith(("tests/", "scripts/")):
            put(name, DIRECT.sub(r"\1.md", (ROOT / name).read_text()))
    for name in tracked("notebooks/*.ipynb"):
        tour(ROOT / name)
    for page, (title, places) in REFERENCE.items():
        names = [name for place in places for name in modules(ROOT / place)]
        put(f"api/{page}.md", f"# {title}\n\n" + "".join(f"::: {name}\n\n" for name in names))
    for name in sorted(linked_files()):
        target = PAGES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet", "--clean", "-f", "mkdocs.yml"]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    if asked := list(requests(SITE)):
        sys.exit("pages that ask other servers:\n" + "\n".join(asked))
    pages = sum(1 for _ in SITE.rglob("*.html"))
    print(f"{SITE / 'index.html'}: {pages} pages, {sum(p.stat().st_size for p in SITE.rglob('*')) / 1e6:.1f} MB")


def tracked(pattern: str) -> list[str]:
    """Files of the repository, new ones too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern]
    return sorted(set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()))


def put(name: str, text: str) -> None:
    path = PAGES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tour(notebook: Path) -> None:
    """A notebook with its stored outputs as a page, its pictures beside it."""
    from nbconvert import MarkdownExporter

    logging.getLogger("traitlets").setLevel(logging.ERROR)
    text, resources = MarkdownExporter().from_filename(str(notebook))
    for name, data in resources["outputs"].items():
        path = PAGES / "notebooks" / notebook.stem / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        text = text.replace(f"]({name})", f"]({notebook.stem}/{name})")
    put(f"notebooks/{notebook.stem}.md", DIRECT.sub(r"\1.md", text))


def modules(place: Path) -> list[str]:
    """Dotted names of a module, or of all modules of a package."""
    files = [place] if place.suffix else sorted(place.glob("[!_]*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]


def linked_files() -> set[str]:
    """Pictures, recipes and other files that the pages link to."""
    found = set()
    for page in PAGES.rglob("*.md"):
        for target in LINK.findall(FENCE.sub("", page.read_text())):
            name = (page.parent / target.partition("#")[0]).resolve()
            if not re.match(r"[a-z]+:", target) and name.is_relative_to(PAGES) and not name.exists():
                source = ROOT / name.relative_to(PAGES)
                if source.is_file():
                    found.add(source.relative_to(ROOT).as_posix())
    return found


def requests(site: Path) -> Iterator[str]:
    """What a browser would fetch from elsewhere, page by page."""
    for page in sorted(site.rglob("*.html")):
        for found in OUTSIDE.findall(page.read_text()):
            yield f"{page.relative_to(site)}: {found}"


if __name__ == "__main__":
    main()
