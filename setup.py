"""The compiled engine goes into the wheel: everything else that is to say to setuptools stands in pyproject.toml.

The engine is called through ctypes, so one wheel a platform fits every Python (`py3-none-...`). Without a C compiler
the wheel is pure, and the engine is compiled at first use. Settings: CC (which compiler), ARCHFLAGS (macOS), and
ZOOSWARM_WHEEL_ENGINE=required, which refuses to make a wheel without it.
"""

import os
import platform
import runpy
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path("protocol") / "engine" / "native"
FLAGS = runpy.run_path(str(Path(__file__).resolve().parent / NATIVE / "flags.py"))
COMPILE_SECONDS_MAX = 300


def find_compiler() -> list[str]:
    """$CC, else cc, gcc or clang; empty without one."""
    for command in (shlex.split(os.environ.get("CC", "")), ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    return []


COMPILER = find_compiler()
if not COMPILER and os.environ.get("ZOOSWARM_WHEEL_ENGINE") == "required":
    sys.exit("setup.py: no C compiler found, and ZOOSWARM_WHEEL_ENGINE=required")


def compile_engine(isa: str, output: Path) -> str:
    """Compile exact.c for an instruction set; returns the compiler's words, empty where it is made."""
    flags = [*shlex.split(os.environ.get("ARCHFLAGS", "")), *FLAGS["compile_flags"](isa)]
    command = [*COMPILER, *flags, "-o", str(output), str(FLAGS["SOURCE"]), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS_MAX, check=False)
    return "" if done.returncode == 0 else done.stderr or f"{COMPILER[0]} failed with {done.returncode}"


class BuildWithEngine(build_py):
    """Python's files, and beside them the engine for every instruction set that is chosen at run time."""

    def run(self) -> None:
        super().run()
        if self.editable_mode or not COMPILER:
            return
        folder = Path(self.build_lib) / NATIVE / FLAGS["SHIPPED"].name
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        folder.mkdir(parents=True)
        isas = FLAGS["shipped_isas"](platform.machine())
        with ThreadPoolExecutor() as pool:
            failures = list(pool.map(lambda isa: compile_engine(isa, folder / FLAGS["shipped_name"](isa)), isas))
        for isa, words in zip(isas, failures, strict=True):
            if words and (isa == "baseline" or os.environ.get("ZOOSWARM_WHEEL_ENGINE") == "required"):
                sys.exit(f"setup.py: cannot compile the engine ({isa}):\n{words}")


class WithEngine(Distribution):
    def has_ext_modules(self) -> bool:
        return bool(COMPILER)


class WheelOfAnyPython(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


setup(distclass=WithEngine, cmdclass={"build_py": BuildWithEngine, "bdist_wheel": WheelOfAnyPython})
