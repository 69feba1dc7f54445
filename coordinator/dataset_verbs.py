"""`zooswarm data`: an organizer's own data sets, and their way to the coordinator."""

import json
from pathlib import Path

from coordinator.client import Organizer
from coordinator.datasets.importers import read_data
from protocol.canonical import DIGEST
from protocol.errors import DiskError, Refused, UsageError
from protocol.files import write_atomic
from protocol.recipes.campaign import Campaign
from protocol.tasks.dataset_names import BUILT_IN
from protocol.tasks.datasets import HEADER, Header, Shelf, own_folder, read_header

NAMES_MAX = 10_000


def data_folder(directory: Path | None) -> Path:
    return directory / "data" if directory else own_folder()


def add_data(folder: Path, files: list[Path], name: str, labels: Path | None, regression: bool) -> str:
    """Keep a data set in `folder`; what to tell the user. Raises UsageError."""
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise UsageError(f"--name {name[:80]!r}: 1 to 64 printable characters")
    dataset = read_data(files, labels, regression=regression)
    try:
        digest = Shelf(folder).put(dataset.to_bytes())
        names = read_names(folder) | {digest: name}
        write_atomic(folder / "names.json", json.dumps(names, indent=1).encode())
    except OSError as error:
        raise DiskError(f"{folder}: cannot keep the data set: {error.strerror or error}") from None
    return f"{digest}\n\n{recipe_lines(digest, name, dataset.header)}"


def recipe_lines(data: str, name: str, header: Header) -> str:
    """A `[task]` table that names it: a fifth is held out."""
    held_out = min(max(1, header.examples // 5), 65536)
    targets = f"labels = {header.classes}" if header.classes else f"values = {header.width}"
    return "\n".join(
        [
            f"[task]  # {name}",
            'kind = "dataset"',
            f'data = "{data}"',
            f"shape = {list(header.shape)}",
            targets,
            f"train = {header.examples - held_out}",
            f"held_out = {held_out}",
        ]
    )


def read_names(folder: Path) -> dict[str, str]:
    try:
        names = json.loads((folder / "names.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(list(names.items())[:NAMES_MAX]) if isinstance(names, dict) else {}


def data_lines(folder: Path) -> list[str]:
    """One line a data set: digest, name, what it holds. Built-in ones are named by their name."""
    shelf, names = Shelf(folder), read_names(folder)
    lines = [describe(name, "built in", shelf.load(name).header) for name in BUILT_IN]
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        if DIGEST.fullmatch(path.name) and path.name not in BUILT_IN.values():
            try:
                with path.open("rb") as f:
                    lines.append(describe(path.name, str(names.get(path.name, "")), read_header(f.read(HEADER.size))))
            except (OSError, Refused) as error:
                lines.append(f"{path.name}  damaged: {error}")
    return lines


def describe(data: str, name: str, header: Header) -> str:
    shape = "x".join(map(str, header.shape))
    targets = f"{header.classes} classes" if header.classes else f"{header.width} values"
    kind = "float32" if header.is_float else "uint8"
    return f"{data}  {name}  {header.examples:,} examples of {shape} {kind}, {targets}, {header.length:,} bytes"


def upload_all(organizer: Organizer, campaign: Campaign, directory: Path) -> None:
    """Give the coordinator what the campaign's recipes name. Raises UsageError: a data set is on neither side."""
    shelf = Shelf(own_folder(), directory / "data")
    for digest in campaign.data_sets:
        path = shelf.find(digest)
        if path is not None:
            organizer.upload_data(digest, path)
