"""NVIDIA's run-time compiler: exact.cu and its headers -> machine code for one architecture, kept on disk.

The library comes with NVIDIA's own Python package `nvidia-cuda-nvrtc`, which torch's CUDA builds bring along; neither a
card nor a toolkit is needed to compile.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
import re
from pathlib import Path

from protocol.canonical import hexdigest
from protocol.engine.cuda.card_queue import CardError
from protocol.engine.native.build import COMPILE_SECONDS_MAX, cache_folder
from protocol.files import make_once

SOURCE = Path(__file__).parents[1] / "kernels" / "blocks" / "exact.cu"
# No fused multiply-add; the rest is the default, spelled out: correctly rounded division and root, subnormals kept.
STRICT = ("--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false")
OPTIONS = (*STRICT, "--device-as-default-execution-space", "--std=c++17")


def kernels(architecture: int, driver_major: int = 99) -> bytes:
    """Machine code for an architecture (90 is sm_90), from the cache or compiled now, which takes some ten seconds.

    An architecture that is newer than the compiler gets portable code, which the driver translates. Raises CardError.
    """
    compiler = find_compiler(driver_major)
    known = compiler.architectures()
    if architecture < known[0]:
        raise CardError(f"sm_{architecture} is older than this NVRTC ({compiler.version}) compiles for")
    target = f"sm_{architecture}" if architecture in known else f"compute_{max(a for a in known if a < architecture)}"
    what = "\0".join([target, compiler.version, *OPTIONS]).encode()
    sources = b"".join(text for _, text in [("", SOURCE.read_bytes()), *headers()])
    path = cache_folder() / f"exact-{hexdigest(sources + what)[:32]}.cubin"

    def compile_to(partial: Path) -> None:
        partial.write_bytes(compiler.compile(target, portable=target.startswith("compute")))

    make_once(path, compile_to, COMPILE_SECONDS_MAX)
    return path.read_bytes()


def headers() -> list[tuple[str, bytes]]:
    folders = (SOURCE.parent, SOURCE.parent.parent)
    return [(path.name, path.read_bytes()) for folder in folders for path in sorted(folder.glob("*.h"))]


class Compiler:
    """One NVRTC library."""

    def __init__(self, path: str):
        self._c = ctypes.CDLL(path)
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._c.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = f"{major.value}.{minor.value}"

    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        self._check(self._c.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._c.nvrtcGetSupportedArchs(found))
        return sorted(found)

    def compile(self, target: str, portable: bool = False) -> bytes:
        """Machine code, or PTX if `portable`. Raises CardError with the compiler's first error."""
        program, names = ctypes.c_void_p(), headers()
        texts = (ctypes.c_char_p * len(names))(*(text for _, text in names))
        files = (ctypes.c_char_p * len(names))(*(name.encode() for name, _ in names))
        source = SOURCE.read_bytes()
        self._check(
            self._c.nvrtcCreateProgram(ctypes.byref(program), source, SOURCE.name.encode(), len(names), texts, files)
        )
        try:
            options = [option.encode() for option in (f"--gpu-architecture={target}", *OPTIONS)]
            failed = self._c.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
            if failed:
                log = self._bytes(program, "ProgramLog").decode(errors="replace")
                first = next((line for line in log.splitlines() if "error" in line), f"NVRTC error {failed}")
                raise CardError(f"NVRTC {self.version} cannot compile the kernels for {target}: {first}")
            return self._bytes(program, "PTX" if portable else "CUBIN")
        finally:
            self._c.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._c, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        text = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._c, f"nvrtcGet{what}")(program, text))
        return text.raw

    def _check(self, code: int) -> None:
        if code:
            raise CardError(f"NVRTC fails with error {code}")


@functools.cache
def find_compiler(driver_major: int = 99) -> Compiler:
    """The newest NVRTC whose machine code a driver for CUDA `driver_major` loads; else the newest. Raises CardError."""
    found = libraries()
    if not found:
        raise CardError("no NVRTC library to build the kernels with; pip install nvidia-cuda-nvrtc")
    fitting = [item for item in found if item[0] <= driver_major] or found
    try:
        return Compiler(max(fitting)[1])
    except OSError as error:
        raise CardError(f"cannot load NVRTC: {error}") from None


def libraries() -> list[tuple[int, str]]:
    """(major version, path) of the libraries in Python's packages, or of the system's own."""
    spec = importlib.util.find_spec("nvidia")
    pattern = "*/lib/libnvrtc.so.*"
    found = []
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in Path(folder).glob(pattern):
            version = re.search(r"(?:so\.|nvrtc64_)(\d\d)", path.name)
            if version and "builtins" not in path.name and ".alt." not in path.name:
                found.append((int(version[1]), str(path)))
    system = ctypes.util.find_library("nvrtc")
    return found or ([(0, system)] if system else [])
