"""Write constraints.txt, the versions that the tests passed with, from this environment; or check one against it.

    python scripts/constraints.py [--check]

Python 3.10, which new releases of some libraries have left, has lines of its own: run this there, too, to write them.
--check fails when a package that constraints.txt names is installed in another version, or when one is installed that
it does not name. Left out are this project, pip and setuptools, and what PyTorch chooses for the machine's card.
"""

import sys
from importlib.metadata import distributions
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "constraints.txt"
LEFT_OUT = ("zooswarm", "pip", "setuptools", "wheel", "triton", "nvidia-", "cuda-")
HEAD = "# The versions that the tests passed with. Written by scripts/constraints.py; scripts/setup installs by it.\n"
NEW, OLD = ' ; python_version >= "3.11"', ' ; python_version < "3.11"'


def main() -> None:
    installed = {name: version for name, version in versions() if not name.startswith(LEFT_OUT)}
    new, old = pinned(PATH.read_text())
    is_old = sys.version_info < (3, 11)
    if "--check" not in sys.argv[1:]:
        PATH.write_text(HEAD + (text(new, installed) if is_old else text(installed, old)))
        return
    expected = new | old if is_old else new
    problems = [
        f"{name} {version} is installed; constraints.txt says {expected.get(name, 'nothing')}"
        for name, version in sorted(installed.items())
        if expected.get(name) != version
    ]
    print("\n".join(problems) or f"{len(installed)} packages are installed as constraints.txt says")
    sys.exit(bool(problems))


def pinned(lines: str) -> tuple[dict[str, str], dict[str, str]]:
    """Name -> version for Python 3.11 and newer, and what 3.10 has otherwise."""
    new: dict[str, str] = {}
    old: dict[str, str] = {}
    for line in lines.splitlines():
        if line and not line.startswith("#"):
            name, version = line.partition(";")[0].strip().split("==")
            (old if line.endswith(OLD) else new)[name] = version
    return new, old


def text(new: dict[str, str], old: dict[str, str]) -> str:
    """A line a package, and two where Python 3.10 has another version. `old` may hold versions that do not differ."""
    lines = []
    for name in sorted(new.keys() | old.keys()):
        differs = name in old and old[name] != new.get(name)
        if name in new:
            lines.append(f"{name}=={new[name]}{NEW if differs else ''}")
        if differs:
            lines.append(f"{name}=={old[name]}{OLD}")
    return "".join(line + "\n" for line in lines)


def versions() -> list[tuple[str, str]]:
    """Name and version of every installed package; no local part: 2.13.0+cpu is 2.13.0."""
    return [
        (each.metadata["Name"].lower().replace("_", "-").replace(".", "-"), each.version.split("+")[0])
        for each in distributions()
    ]


if __name__ == "__main__":
    main()
