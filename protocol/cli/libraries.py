"""Libraries: what they are told before they are loaded, and what is said when they are absent.

`pip install zooswarm` brings what a volunteer needs; the organizer's and the analyst's libraries are extras
(pyproject.toml), and hivemind is installed apart from what its metadata asks for (docs/install.md).
"""

import os
import sys
from importlib.metadata import requires
from importlib.util import find_spec

from protocol.errors import LibraryError

OURS = ("protocol", "peer", "coordinator", "analysis")
EXTRAS = {"coordinator": "organizer", "analysis": "analysis"}  # what a package needs beyond a volunteer's libraries
NEEDED = {"organizer": ("sqlalchemy", "pyarrow"), "analysis": ("pyarrow", "duckdb", "scipy", "sklearn", "torch")}
SWARM = "hivemind"
NEWER_PYTHON = (3, 11)  # of organizers and analysts


def multiply_alone() -> None:
    """For programs that multiply no large matrices, before NumPy is imported; what they start inherits it.

    NumPy's BLAS starts a thread a core as it is loaded, and each waits busily for work: 0.1 s of CPU time a process.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def need_swarm() -> None:
    """Before anything is begun that ends in the DHT. Raises UsageError: hivemind is not installed."""
    if find_spec(SWARM) is None:
        raise LibraryError(absent(SWARM, "peer"))


def need_python(package: str) -> None:
    """Raises UsageError: this Python is new enough for volunteers, but not for the package's verbs."""
    if package in EXTRAS and sys.version_info < NEWER_PYTHON:
        here = ".".join(map(str, sys.version_info[:3]))
        raise LibraryError(f"Python {here} can join and train; this verb needs Python 3.11 or newer")


def absent(module: str, package: str) -> str:
    """One line on a library that a verb of one of our packages missed: what to type. `module`: as it was imported."""
    library = module.partition(".")[0]
    if library == SWARM:
        return f"hivemind is not installed; pip install --no-deps {swarm_release()}"
    if extra := EXTRAS.get(package):
        return f"{library} is not installed; pip install 'zooswarm[{extra}]'"
    return f"{library} is not installed; pip install zooswarm again"


def installation(platform: str = sys.platform) -> list[str]:
    """What this installation can do and what it misses, a line each, with what to type."""
    lines = [f"Python {sys.version.split()[0]} on {platform}"]
    if platform == "win32":
        lines.append("join: not on native Windows; use WSL2, `wsl --install` (docs/install.md)")
    else:
        lines.append("join: ready" if find_spec(SWARM) else f"join: {absent(SWARM, 'peer')}")
    for package, extra in EXTRAS.items():
        missing = [name for name in NEEDED[extra] if find_spec(name) is None]
        lines.append(f"{extra}: {absent(missing[0], package)}" if missing else f"{extra}: ready")
    return lines


def swarm_release() -> str:
    """The one release that the patches fit, as the extra `swarm` has it: `hivemind==...`."""
    named = (line.partition(";")[0].strip() for line in requires("zooswarm") or ())
    return next((line for line in named if line.startswith(SWARM)), SWARM)
