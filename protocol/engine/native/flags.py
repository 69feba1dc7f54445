"""How exact.c becomes a library: its sources, the flags for each instruction set, and what a wheel calls the result.

Standard library only, and nothing of this project: setup.py runs this file by its path before anything is installed.
"""

import hashlib
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
SOURCE = KERNELS / "exact.c"
SHIPPED = Path(__file__).resolve().parent / "shipped"  # in a wheel: one library an instruction set
# Only the fused multiply-adds that are written: to make more is the one licence that compilers take by default (gcc
# everywhere, clang on aarch64) and that changes bits. errno and floating-point traps are of no use here and would keep
# loops from becoming vectors.
STRICT = ("-std=gnu11", "-ffp-contract=off", "-fno-fast-math", "-fno-math-errno", "-fno-trapping-math")
OPTIMIZE = "-O3"
V3 = ("-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c", "-mlzcnt", "-mmovbe")  # compilers before 2021 know no x86-64-v3
V4 = tuple(f"-mavx512{part}" for part in ("f", "bw", "cd", "dq", "vl"))
ISA_FLAGS = {
    "baseline": (),
    "v3": V3,
    "v4": (*V3, *V4, "-mprefer-vector-width=512"),
    "native": ("-march=native",),  # never in a wheel: it means another thing on another processor
}
X86_64 = ("x86_64", "amd64")


def compile_flags(isa: str, optimize: str = OPTIMIZE) -> tuple[str, ...]:
    return (optimize, *STRICT, *ISA_FLAGS[isa], "-shared", "-fPIC")


def sources() -> bytes:
    return b"".join(path.read_bytes() for path in [SOURCE, *sorted(KERNELS.glob("*.h"))])


def shipped_isas(machine: str) -> tuple[str, ...]:
    """What a wheel for such a processor holds, as `platform.machine` names it."""
    return ("baseline", "v3", "v4") if machine.lower() in X86_64 else ("baseline",)


def shipped_name(isa: str) -> str:
    """A library of other sources or flags has another name, so none that is stale is ever taken."""
    what = "\0".join(compile_flags(isa)).encode()
    return f"exact-{isa}-{hashlib.sha256(sources() + what).hexdigest()[:32]}.so"
