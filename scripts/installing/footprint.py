"""Measure what `scripts/setup [EXTRA]` costs on a fresh machine. Started by scripts/footprint; standard library only.

Everything is downloaded into an empty folder, past pip's cache, and installed from there. Two small libraries come as
sources: the tools that pip builds them with are counted, too.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("setuptools", "wheel")  # what pip takes to build what comes as sources
SWARM = "hivemind"  # installed without what its metadata asks for
DOWNLOAD_MAX = 400_000_000  # bytes: the goal for a volunteer
NOT_FOR_VOLUNTEERS = re.compile(r"(nvidia|cuda|cupy|triton|torch|tensorflow|jax)\b|nvidia_|cuda_")
LARGEST = 6


def main() -> None:
    extra = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory(prefix="zooswarm-footprint-") as place:
        down, environment = Path(place, "down"), Path(place, "venv")
        venv.create(environment, with_pip=True)
        bare = on_disk(environment)
        python = str(environment / "bin" / "python")
        fetch(python, f"{ROOT}[{extra}]" if extra else str(ROOT), down)
        install(python, down)
        files = {path.name: path.stat().st_size for path in down.iterdir()}
        whose = f"an environment with {extra}" if extra else "a volunteer's environment"
        print(f"{whose}, Python {sys.version.split()[0]}")
        print(f"  downloaded  {megabytes(sum(files.values()))} in {len(files)} files")
        print(f"  on disk     {megabytes(on_disk(environment))}; {megabytes(bare)} of it is an empty environment")
        for name in sorted(files, key=lambda name: -files[name])[:LARGEST]:
            print(f"    {megabytes(files[name]):>8}  {name}")
        problems = breaks_goal(files)
    print("\n".join(f"  {line}" for line in problems) or "  at most 400 MB, no CUDA libraries, no PyTorch: holds")
    sys.exit(bool(problems) and not extra)


def pip(python: str, *arguments: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-cache-dir")
    done = subprocess.run([python, "-m", "pip", *arguments, *quiet], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"footprint: pip {arguments[0]} failed:\n{done.stderr}")


def fetch(python: str, what: str, down: Path) -> None:
    """Download what `scripts/setup` installs, with what it takes to build it."""
    constraints = ("-c", str(ROOT / "constraints.txt"))
    pip(python, "download", *constraints, "--dest", str(down), what)
    pip(python, "download", *constraints, "--dest", str(down), "--no-deps", SWARM)
    pip(python, "download", "--dest", str(down), "--no-deps", *TOOLS)


def install(python: str, down: Path) -> None:
    libraries = [str(path) for path in down.iterdir() if not path.name.startswith(TOOLS)]
    pip(python, "install", "--no-deps", *libraries)


def on_disk(folder: Path) -> int:
    """Bytes of all files, each counted once, as the disk keeps them."""
    kept = {(s.st_dev, s.st_ino): s.st_blocks * 512 for path in folder.rglob("*") if (s := path.lstat())}
    return sum(kept.values())


def breaks_goal(files: dict[str, int]) -> list[str]:
    """What a volunteer should not have to take, one line each. `files`: bytes of each that was downloaded."""
    lines = [f"not for volunteers: {name}" for name in sorted(files) if NOT_FOR_VOLUNTEERS.match(name)]
    if (total := sum(files.values())) > DOWNLOAD_MAX:
        lines.append(f"{megabytes(total)} are more than {megabytes(DOWNLOAD_MAX)}")
    return lines


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main()
