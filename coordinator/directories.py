"""Where an organizer's directories are: the default one, and the one that was used last."""

import json
from pathlib import Path
from typing import Any

from protocol.errors import FileError
from protocol.files import home_directory, write_atomic


def default_directory() -> Path:
    return home_directory() / "host"


def remember_directory(path: Path) -> None:
    """So that `seed` and `status` find it; a home that cannot be written is no reason to stop."""
    try:
        write_atomic(home_directory() / "last-host", str(path.resolve()).encode())
    except OSError:
        return


def last_directory() -> Path:
    """The directory of the last `zooswarm host`. Raises UsageError when there was none."""
    try:
        return Path((home_directory() / "last-host").read_text().strip())
    except OSError:
        raise FileError(
            "no coordinator has run here; start one with `zooswarm host DIR`, or name it: --dir DIR"
        ) from None


def read_settings(path: Path) -> dict[str, Any]:
    """DIR/host.json: `address` for this machine, `join` for others, `page`, ports. Empty: missing or damaged."""
    try:
        settings = json.loads((path / "host.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    write_atomic(path / "host.json", json.dumps(settings, indent=1).encode())


def page_of(path: Path) -> str:
    """Where the status page of DIR's coordinator is, or was when it last ran; "" when it has none."""
    page = read_settings(path).get("page")
    return page if isinstance(page, str) else ""


def address_of(path: Path) -> str:
    """Where the coordinator of DIR answers on this machine. Raises UsageError."""
    address = read_settings(path).get("address")
    if not isinstance(address, str):
        raise FileError(f"{path}: no coordinator has run here; start it with `zooswarm host {path}`")
    return address
