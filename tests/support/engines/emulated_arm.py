"""exact.c compiled for arm64 and run by an emulator, behind the engine's own Python."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from protocol.engine import State
from protocol.engine.native.build import SOURCE, STRICT
from protocol.engine.native.engine import NativeEngine
from protocol.engine.native.structs import TARGETS, CLayer, CNetwork
from protocol.recipes.recipe import Recipe
from protocol.tasks.data import TaskData

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
MISSING = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
MAIN = Path(__file__).with_name("emulated_arm.c")


def program(folder: Path, optimize: str = "-O3") -> Path:
    """The program that trains one network, for arm64."""
    path = folder / f"arm{optimize}"
    flags = [optimize, *STRICT, "-static", f"-I{SOURCE.parent}", "-o", str(path), str(MAIN), "-lm"]
    subprocess.run([COMPILER, *flags], check=True)
    return path


class ArmEngine(NativeEngine):
    """What C trains is trained by the emulated program instead; all else stays this processor's."""

    def __init__(self, path: Path):
        super().__init__(1, "baseline")
        self._emulated = Emulated(self._c, path)
        self._c: Any = self._emulated

    def train(
        self, recipe: Recipe, data: TaskData, seeds: list[int], states: list[State], steps: int
    ) -> tuple[list[State], np.ndarray]:
        self._emulated.input_bytes, self._emulated.samples = data.inputs.nbytes, len(data.targets)
        return super().train(recipe, data, seeds, states, steps)


class Emulated:
    """The compiled engine, but for `exact_train`."""

    def __init__(self, real: ctypes.CDLL, path: Path):
        self.real, self.path, self.input_bytes, self.samples = real, path, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def exact_train(self, *given: Any) -> None:
        p, s, optimizer = (given[k]._obj for k in (0, 1, 5))
        count, batch, steps = (number.value for number in given[2:5])
        networks, number = given[6:8]
        values = p.target_length * (1 if p.target_kind == TARGETS["classes"] else p.target_width)
        target_bytes = self.samples * values * (1 if p.target_kind == TARGETS["pins"] else 4)
        for k in range(number.value):
            one: CNetwork = networks[k]
            first = one.step * batch
            epochs = (first + steps * batch - 1) // count - first // count + 1
            sections = [
                bytes((ctypes.c_int32 * 3)(count, batch, steps)),
                bytes(p),
                ctypes.string_at(p.layer, ctypes.sizeof(CLayer) * p.layers),
                ctypes.string_at(s.inputs, self.input_bytes),
                ctypes.string_at(s.targets, target_bytes),
                bytes(optimizer),
                bytes(one),
                ctypes.string_at(one.sizes, 12 * steps),
                ctypes.string_at(one.keys, 8 * p.layers),
                ctypes.string_at(one.epochs, 8 * epochs),
                ctypes.string_at(one.params, 4 * p.parameters),
                ctypes.string_at(one.moments, 8 * p.parameters),
            ]
            found = self._run(b"".join(len(part).to_bytes(8, "little") + part for part in sections))
            ctypes.memmove(one.params, found[: 4 * p.parameters], 4 * p.parameters)
            ctypes.memmove(one.moments, found[4 * p.parameters :], 8 * p.parameters)
            ctypes.memmove(one.losses, found[12 * p.parameters :], 4 * steps)

    def _run(self, written: bytes) -> bytes:
        into, out = self.path.with_suffix(".in"), self.path.with_suffix(".out")
        into.write_bytes(written)
        subprocess.run([EMULATOR, self.path, into, out], check=True)
        return out.read_bytes()
