"""A card that is none: exact.cu compiled for this processor, its threads as fibers, its memory ours."""

import ctypes
import threading
from pathlib import Path

import numpy as np

from protocol.canonical import hexdigest
from protocol.engine.cuda.card_queue import CardError, CJob
from protocol.engine.native.build import SOURCE, STRICT, cache_folder, compile_once, find_compiler

RUNNING = threading.Lock()  # the emulator has one block at a time
EMULATOR = Path(__file__).with_name("emulated_gpu.c")


class EmulatedCard:
    """`threads` a block. Fresh memory is full of NaN, and what is allocated and freed is counted."""

    def __init__(self, threads: int = 16, blocks: int = 2, memory_bytes: int = 1 << 28):
        self.name, self.blocks, self.memory_bytes, self.threads = "emulated", blocks, memory_bytes, threads
        self.memory: dict[int, np.ndarray] = {}
        self.barriers, self.launches = 0, 0
        self._c = ctypes.CDLL(str(compiled()))
        self._c.emulated_launch.restype = ctypes.c_int64

    def allocate(self, size: int) -> int:
        if size + self.in_use > self.memory_bytes + (1 << 20):
            raise CardError("emulated: out of memory")
        array = np.full(max(size, 1) + 64, 0xFF, np.uint8)
        self.memory[array.ctypes.data] = array
        return array.ctypes.data

    def free(self, address: int) -> None:
        del self.memory[address]

    @property
    def in_use(self) -> int:
        return sum(array.nbytes for array in self.memory.values())

    def upload(self, address: int, array: np.ndarray) -> None:
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, address: int, array: np.ndarray) -> None:
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def launch(self, kernel: str, job: CJob, blocks: int) -> None:
        with RUNNING:
            met = self._c.emulated_launch(kernel.encode(), ctypes.byref(job), blocks, self.threads)
        if met < 0:
            raise AssertionError(f"{kernel}: the threads of a block wait at different barriers")
        self.barriers += met
        self.launches += 1


def compiled() -> Path:
    folder = SOURCE.parent
    compiler, flags = find_compiler(), ("-O1", *STRICT, f"-I{folder}", f"-I{folder / 'blocks'}", "-shared", "-fPIC")
    source = b"".join(
        path.read_bytes() for path in [EMULATOR, folder / "blocks/exact.cu", *sorted(folder.rglob("*.h"))]
    )
    path = cache_folder() / f"emulated-{hexdigest(source + repr((compiler, flags)).encode())[:32]}.so"
    compile_once(path, [*compiler, *flags, "-o", "{output}", str(EMULATOR), "-lm"])
    return path
