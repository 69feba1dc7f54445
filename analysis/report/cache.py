"""Sections of the page that were made before, by what they were made of. Kept as JSON in the user's cache directory.

A name is the digest of all that a section depends on: the zoo's content, the expression, the section, its settings, our
code, and the libraries' versions. So nothing goes stale, and deleting all of it is harmless.
"""

import contextlib
import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protocol.canonical import canonical_json, hexdigest
from protocol.files import write_atomic
from protocol.zoo.manifests import ZooManifest

FILES_MAX = 500  # of about 100 kB; the oldest go first
LIBRARIES = ("numpy", "scipy", "scikit-learn", "matplotlib")


class Cache:
    """Values by key, for one zoo. Without a folder nothing is kept; a folder that cannot be written is no error."""

    def __init__(self, folder: Path | None, manifest: ZooManifest):
        self.folder, self.zoo = folder, content(manifest)

    def value(self, key: list[Any], make: Callable[[], Any]) -> Any:
        """The kept value of `key` (plain values), or that of `make`, which is then kept; both went through JSON."""
        name = hexdigest(json.dumps([self.zoo, code_digest(), *key]).encode())
        path = self.folder / f"report-{name}.json" if self.folder else None
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                return json.loads(path.read_bytes())
        data = json.dumps(make()).encode()
        if path is not None:
            with contextlib.suppress(OSError):
                write_atomic(path, data)
                self._thin(path.parent)
        return json.loads(data)

    def _thin(self, folder: Path) -> None:
        kept = sorted(folder.glob("report-*.json"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-FILES_MAX]:
            path.unlink(missing_ok=True)


def content(manifest: ZooManifest) -> str:
    """Digest of what a zoo holds, whenever and in however many steps it was published."""
    parts = [sorted(part.digest for part in refs) for refs in (manifest.catalogue, manifest.shards, manifest.data)]
    return hexdigest(canonical_json([*parts, sorted(manifest.recipes), sorted(manifest.campaigns)]))


@cache
def code_digest() -> str:
    """Digest of this package's modules and of the versions of the libraries that compute and draw."""
    modules = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return hexdigest(b"\0".join([*modules, *(f"{name} {version(name)}".encode() for name in LIBRARIES)]))
