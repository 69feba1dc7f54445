"""The compiled engine: the wheel's, or exact.c compiled on this machine, once.

The library's name is the digest of everything that determines it. A wheel holds one for each instruction set that is
chosen at run time, so that nobody needs a compiler; $CC, where it is set, compiles here all the same.
"""

import contextlib
import functools
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from protocol.canonical import hexdigest
from protocol.engine.native.flags import (
    ISA_FLAGS,
    OPTIMIZE,
    SHIPPED,
    SOURCE,
    STRICT,
    X86_64,
    compile_flags,
    shipped_name,
    sources,
)
from protocol.errors import LibraryError, UsageError
from protocol.files import cache_directory, make_once

__all__ = ["ISA_FLAGS", "SOURCE", "STRICT", "compiled", "find_compiler", "library", "shipped", "supported_isas"]

V3_FLAGS = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
V4_FLAGS = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
COMPILE_SECONDS_MAX = 300


class CompilerError(UsageError):
    """The compiler runs, but does not accept the engine or a flag."""


def library(isa: str = "auto", optimize: str = OPTIMIZE) -> tuple[Path, str]:
    """The compiled engine for an instruction set: (path, the set's name). Compiles what is neither shipped nor cached.

    `auto` is the best that the processor knows, and the wheel or the compiler. Raises UsageError: unknown `isa`, no C
    compiler, compiler fails, cache not writable.
    """
    isas = supported_isas()
    if isa != "auto":
        if isa not in isas:
            raise UsageError(f"--isa {isa}: this processor offers {', '.join(isas)}")
        return shipped(isa, optimize) or compiled(isa, optimize), isa
    for better in reversed(isas[:-1]):
        if path := shipped(better, optimize):
            return path, better
    for better in reversed(isas[1:-1]):
        with contextlib.suppress(CompilerError):  # a compiler older than the processor
            return compiled(better, optimize), better
    return compiled("baseline", optimize), "baseline"


def shipped(isa: str, optimize: str = OPTIMIZE) -> Path | None:
    """The wheel's library of these very sources and flags; None without one, or where $CC wants another."""
    if optimize != OPTIMIZE or os.environ.get("CC") or not SHIPPED.is_dir():
        return None
    path = SHIPPED / shipped_name(isa)
    return path if path.is_file() else None


def compiled(isa: str, optimize: str) -> Path:
    compiler = find_compiler()
    flags = compile_flags(isa, optimize)
    what = "\0".join([*flags, *compiler, compiler_version(tuple(compiler)), platform.machine(), cpu_model(isa)])
    path = cache_folder() / f"exact-{hexdigest(sources() + what.encode())[:32]}.so"
    compile_once(path, [*compiler, *flags, "-o", "{output}", str(SOURCE), "-lm"])
    return path


def supported_isas() -> list[str]:
    """Instruction sets that this machine can run: baseline, what is better, then native."""
    flags = cpu_flags()
    isas = ["baseline"]
    if flags >= V3_FLAGS:
        isas.append("v3")
    if flags >= V3_FLAGS | V4_FLAGS:
        isas.append("v4")
    return [*isas, "native"]


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Linux's processor flags on x86-64; empty elsewhere, where the compiler's default is the only choice."""
    if platform.machine().lower() not in X86_64:
        return frozenset()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def cpu_model(isa: str) -> str:
    """`native` means another thing on another processor, also when both share a home folder."""
    return " ".join(sorted(cpu_flags())) + platform.processor() if isa == "native" else ""


def find_compiler() -> list[str]:
    """$CC, else cc, gcc or clang. Raises UsageError."""
    if os.environ.get("CC"):
        command = shlex.split(os.environ["CC"])
        if command and shutil.which(command[0]):
            return command
        raise LibraryError(f"$CC names {os.environ['CC']!r}, which is not a program; unset it or name a C compiler")
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise LibraryError(
        "no C compiler found; install one (`apt install gcc`, `dnf install gcc`, `xcode-select --install`), "
        "or use --backend numpy, which is some hundred times slower"
    )


@functools.cache
def compiler_version(compiler: tuple[str, ...]) -> str:
    try:
        done = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LibraryError(f"{compiler[0]}: this C compiler does not run: {error}") from None
    return done.stdout


def cache_folder() -> Path:
    """The user's own cache folder for compiled engines. Raises UsageError if it cannot be made."""
    path = cache_directory() / "engine"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise LibraryError(
            f"{path}: cannot keep the compiled engine here ({error.strerror}); "
            "set ZOOSWARM_HOME or XDG_CACHE_HOME to a folder that you can write"
        ) from None
    return path


def compile_once(path: Path, command: list[str]) -> None:
    """Run the compiler unless `path` is there; of several processes that start together one does, the others wait.

    `{output}` in the command is the file to write. Raises UsageError: the compiler fails, or no place to write.
    """

    def run(partial: Path) -> None:
        arguments = [str(partial) if a == "{output}" else a for a in command]
        failed = f"{command[0]} cannot compile the engine"
        try:
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=COMPILE_SECONDS_MAX, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LibraryError(f"{failed}: {error}; set CC to another C compiler") from None
        if done.returncode:
            first = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
            raise CompilerError(f"{failed}: {first}; set CC to another C compiler")

    try:
        make_once(path, run, seconds=2 * COMPILE_SECONDS_MAX)
    except OSError as error:
        raise LibraryError(
            f"{path.parent}: cannot write the compiled engine ({error.strerror or error}); "
            "free some space, or set ZOOSWARM_HOME or XDG_CACHE_HOME to another folder"
        ) from None
