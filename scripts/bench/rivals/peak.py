"""What the machine itself can do: multiply and add in registers, and copy. The rival that nothing beats."""

import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from protocol.engine.native.build import ISA_FLAGS, STRICT, find_compiler

SOURCES = Path(__file__).parents[3] / "protocol" / "engine" / "kernels"
CHAINS = 12  # sums that do not wait for each other: enough to hide the latency of two operations
ROUNDS = 4_000_000
PEAK = """
#include "lanes.h"
long lanes(void) { return VW; }
float peak(long rounds, float start) {
  vec sum[CHAINS], factor = start - (vec){0}, more = start - (vec){0};
  UNROLL for (int k = 0; k < CHAINS; k++) sum[k] = (vec){0} + (float)k;
  for (long r = 0; r < rounds; r++)
    UNROLL for (int k = 0; k < CHAINS; k++)
      if (FUSED) sum[k] = fused(sum[k], factor, more);
      else sum[k] = sum[k] * factor + more;
  float total = 0;
  for (int k = 0; k < CHAINS; k++) for (int l = 0; l < VW; l++) total += sum[k][l];
  return total;
}
"""


def compiled_peak(isa: str, fused: bool = True) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        path, library = Path(folder) / "peak.c", Path(folder) / "peak.so"
        path.write_text(PEAK)
        flags = [*STRICT, *ISA_FLAGS[isa], f"-DCHAINS={CHAINS}", f"-DFUSED={int(fused)}", "-Wno-unused-function"]
        command = [*find_compiler(), "-O3", *flags, "-I", str(SOURCES), "-shared", "-fPIC", "-o", str(library)]
        subprocess.run([*command, str(path)], check=True)
        c = ctypes.CDLL(str(library))
    c.peak.restype, c.lanes.restype = ctypes.c_float, ctypes.c_long
    return c


def peak_flops(isa: str, fused: bool = True, tries: int = 40) -> float:
    """Multiplications and additions a second of one core, with the engine's own vector width for `isa`: fused, as the
    engine does them, or each by itself.
    """
    c, best = compiled_peak(isa, fused), 0.0
    for _ in range(tries):  # the best of two seconds: a busy neighbour slows most of them
        start = time.process_time()
        c.peak(ctypes.c_long(ROUNDS), ctypes.c_float(1e-3))
        best = max(best, 2 * CHAINS * c.lanes() * ROUNDS / (time.process_time() - start))
    return best


def copied_bytes(size: int, tries: int = 40) -> float:
    """Bytes a second that one core reads and writes when it copies half of `size` to the other half."""
    there, here = np.ones(size // 2, np.uint8), np.ones(size // 2, np.uint8)
    best = 0.0
    for _ in range(tries):
        start = time.perf_counter()
        np.copyto(there, here)
        best = max(best, 2 * here.nbytes / (time.perf_counter() - start))
    return best
