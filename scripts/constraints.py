"""Write constraints.txt, the versions that the tests passed with, from this environment; or check one against it.

    python scripts/constraints.py [--check]

--check fails when a package that constraints.txt names is installed in another version, or when one is installed that
it does not name. Left out are this project, pip and setuptools, and what PyTorch chooses for the machine's card.
"""

import sys
from importlib.metadata import distributions
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "constraints.txt"
LEFT_OUT = ("zooswarm", "pip", "setuptools", "wheel", "triton", "nvidia-", "cuda-")
HEAD = "# The versions that the tests passed with. Written by scripts/constraints.py; scripts/setup installs by it.\n"


def main() -> None:
    installed = dict(sorted((name, version) for name, version in versions() if not name.startswith(LEFT_OUT)))
    if "--check" not in sys.argv[1:]:
        PATH.write_text(HEAD + "".join(f"{name}=={version}\n" for name, version in installed.items()))
        return
    lines = [line for line in PATH.read_text().splitlines() if line and not line.startswith("#")]
    pinned = dict(line.split(";")[0].strip().split("==") for line in lines)
    problems = [
        f"{name} {version} is installed; constraints.txt says {pinned.get(name, 'nothing')}"
        for name, version in installed.items()
        if pinned.get(name) != version
    ]
    print("\n".join(problems) or f"{len(installed)} packages are installed as constraints.txt says")
    sys.exit(bool(problems))


def versions() -> list[tuple[str, str]]:
    """Name and version of every installed package; no local part: 2.13.0+cpu is 2.13.0."""
    return [
        (each.metadata["Name"].lower().replace("_", "-").replace(".", "-"), each.version.split("+")[0])
        for each in distributions()
    ]


if __name__ == "__main__":
    main()
