#!/usr/bin/env python3
"""What bounds the engine's kernels on a processor that is not at hand: their machine code, through LLVM's llvm-mca.

    python scripts/bench/bounds.py [--isa v4|v3] [--cpu sapphirerapids ...] [--only lstm]

Compiles exact.c as the engine does, takes the innermost loops with sums of products, and asks llvm-mca for the cycles
of one round. The model has every value in the first-level cache and no stalls for anything else: an upper bound. The
second table puts a step of each network together: sums of products at the rate of the loops, tiles that are not full,
gates, and Adam's arithmetic. Without llvm-mca (`apt install llvm-19`) it says so and ends.
"""

import argparse
import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from networks import NETWORKS, bytes_moved, operations, recipe_of
from rivals.peak import copied_bytes

from protocol.engine.native.build import ISA_FLAGS, SOURCE, STRICT, find_compiler
from protocol.recipes.layers import Gru, Linear, Lstm, Recurrent, Rnn
from protocol.recipes.recipe import Recipe

CPUS = {  # as llvm-mca names them
    "v4": ("skylake-avx512", "icelake-server", "sapphirerapids", "znver4"),
    "v3": ("haswell", "znver3"),
}
VW = {"v4": 16, "v3": 8}
ROUNDS = 300
SUMS_MIN = 8  # sums in a loop that is looked at
NO_MCA = "llvm-mca is not installed (`apt install llvm-19`): no bounds from the machine code"
# What is not a sum of products, a vector a round: each in a function of its own, whose only loop it is.
PROBES = """
#include "network.h"
void probe_adam(const Optimizer *o, const float *size, int64_t n, const float *g, float *w, float *m, float *v) {
  adam(o, size, n, g, w, m, v);
}
void probe_tanh(int64_t n, float *x) { EACH_VEC(k, n) AT(x, k) = tanh_exact(READ(x, k)); }
void probe_sigmoid(int64_t n, float *x) { EACH_VEC(k, n) AT(x, k) = sigmoid_exact(READ(x, k)); }
void probe_gru(int64_t n, float *x, const float *a, const float *b, const float *c, float *d) {
  gru_gates_back(n, x, a, b, c, d);
}
void probe_lstm(int64_t n, float *x, float *a, const float *b, const float *c) { lstm_gates_back(n, x, a, b, c); }
"""
GATES = {Gru: {"sigmoid": 2, "tanh": 1, "gru": 1}, Lstm: {"sigmoid": 3, "tanh": 2, "lstm": 1}, Rnn: {"tanh": 1}}


class Loop(NamedTuple):
    function: str
    body: list[str]

    @property
    def sums(self) -> int:
        return sum(bool(re.match(r"vfn?madd", line)) for line in self.body)

    def wide(self, isa: str) -> int:
        """Instructions with the widest vectors: the others are loops over what is left at the end."""
        return sum(("%zmm" if isa == "v4" else "%ymm") in line for line in self.body)

    @property
    def loads(self) -> int:
        return sum("(" in line and not line.startswith("lea") for line in self.body)

    @property
    def spilled(self) -> int:
        """Vectors that are read from the stack or written there: accumulators without a register."""
        return sum(bool(re.search(r"\(%r[sb]p", line) and re.search(r"%[yz]mm", line)) for line in self.body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=sorted(CPUS), default="v4")
    parser.add_argument("--cpu", nargs="+", help="as llvm-mca names them")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    options = parser.parse_args()
    if mca() is None:
        sys.exit(f"bench/bounds: {NO_MCA}")
    try:
        show(options)
    except NotModelled as error:
        sys.exit(f"bench/bounds: {error}")


def show(options: argparse.Namespace) -> None:
    """The loops, then the networks, for each processor."""
    cpus = options.cpu or list(CPUS[options.isa])
    loops = main_loops(options.isa)
    print(
        f"{mca()}, {' '.join(find_compiler())}, {options.isa}; share of the fused peak, all values in the first cache\n"
    )
    head = ["loop", "sums", "loads", "instructions", "vectors spilled", *cpus]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for loop in loops:
        shares = [f"{share_of(options.isa, cpu, loop):.0%}" for cpu in cpus]
        cells = [loop.function, loop.sums, loop.loads, len(loop.body), loop.spilled, *shares]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    names = [name for name in NETWORKS if options.only.lower() in name.lower()]
    print(f"\n| network | {' | '.join(cpus)} |\n|{' --- |' * (len(cpus) + 1)}")
    for name in names:
        recipe = recipe_of(name)[0]
        print(f"| {name} | {' | '.join(told(recipe, options.isa, cpu) for cpu in cpus)} |", flush=True)


def bound(name: str, recipe: Recipe, isa: str, seconds: float, share: float) -> str:
    """Why a step of `seconds` reaches only `share` of this core's peak, as far as that can be told here."""
    try:
        arithmetic = f"its arithmetic allows {told(recipe, isa, 'native')}" if mca() and isa in VW else NO_MCA
    except NotModelled as error:
        arithmetic = str(error)
    moved = bytes_moved(recipe)
    speed = copied_bytes(moved)
    return (
        f"{name}, {share:.0%} of the peak: {arithmetic}; {moved / 1e6:.1f} MB a step that is moved once takes "
        f"{moved / speed / seconds:.0%} of its time at this core's {speed / 1e9:.0f} GB/s for so much"
    )


def told(recipe: Recipe, isa: str, cpu: str) -> str:
    """The share that the arithmetic of a step allows, and what takes the rest."""
    parts = cycles(recipe, isa, cpu)
    whole = sum(parts.values())
    rest = [f"{name} {count / whole:.0%}" for name, count in parts.items() if name != "peak" and count / whole >= 0.01]
    return f"{parts['peak'] / whole:.0%}: {', '.join(rest)}"


def cycles(recipe: Recipe, isa: str, cpu: str) -> dict[str, float]:
    """Cycles of one step by what takes them: `peak` are the sums of products if nothing else took time."""
    width, batch = VW[isa], recipe.training.batch
    peak = operations(recipe) / 2 / width / per_cycle(isa, cpu)
    main_loop = max(main_loops(isa), key=lambda loop: loop.sums)
    parts = {"peak": peak, "loads and jumps of loops": peak * (1 / share_of(isa, cpu, main_loop) - 1)}
    parts["vectors that are not full"] = (unfilled(recipe, width) - 1) * peak
    gates = 0.0
    for layer, flow in zip(recipe.network.layers, recipe.flows, strict=False):
        if isinstance(layer, Recurrent):
            vectors = flow.length * layer.width * batch / width
            gates += vectors * sum(n * probed(isa, cpu)[name] for name, n in GATES[type(layer)].items())
    parts["gates"] = gates
    parts["Adam's arithmetic"] = recipe.parameter_count / width * probed(isa, cpu)["adam"]
    return parts


def unfilled(recipe: Recipe, width: int) -> float:
    """How many times the operations are computed that are counted: a weight's gradient, a third of them, is computed in
    vectors over inputs where these are many, or one time step is all.
    """
    counted = computed = 0.0
    for layer, flow in zip(recipe.network.layers, recipe.flows, strict=False):
        if isinstance(layer, Linear | Recurrent):
            sides = [flow.features] + [layer.width] * isinstance(layer, Recurrent)
            for side in sides:
                counted += 3 * side
                computed += 2 * side + (-(-side // width) * width if side > 64 or flow.length == 1 else side)
    return computed / counted if counted else 1.0


# ---- machine code ----


@functools.cache
def main_loops(isa: str) -> list[Loop]:
    """Of each function of exact.c with sums of products, the innermost loop that holds most of them."""
    found: dict[str, Loop] = {}
    for loop in innermost(assembly(SOURCE.read_text(), isa)):
        name = loop.function.partition(".")[0]
        if re.match(r"chains|outer|sweep", name) and loop.sums >= SUMS_MIN:
            loop = Loop(name, loop.body)
            if name not in found or (loop.sums, -len(loop.body)) > (found[name].sums, -len(found[name].body)):
                found[name] = loop
    return list(found.values())


@functools.cache
def probed(isa: str, cpu: str) -> dict[str, float]:
    """Cycles of one vector of each probe."""
    loops = {}
    for loop in innermost(assembly(PROBES, isa)):
        if loop.function.startswith("probe_"):
            name = loop.function.removeprefix("probe_")
            if name not in loops or loop.wide(isa) > loops[name].wide(isa):
                loops[name] = loop
    return {name: rounds(isa, cpu, tuple(loop.body)) for name, loop in loops.items()}


def assembly(source: str, isa: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.c"
        path.write_text(source)
        flags = ["-O3", *STRICT, *ISA_FLAGS[isa], "-fPIC", "-Wno-unused-function", f"-I{SOURCE.parent}"]
        done = subprocess.run(
            [*find_compiler(), *flags, "-S", "-o", "-", path], check=True, capture_output=True, text=True
        )
    return done.stdout.splitlines()


def innermost(lines: Sequence[str]) -> list[Loop]:
    """Loops without another loop in them: from a label to a jump back to it, in one function."""
    function, at, found = "", {}, []
    for i, line in enumerate(lines):
        if label := re.match(r"([\w.$]+):", line):
            if not label[1].startswith(".L"):
                function, at = label[1], {}
            at[label[1]] = i
        elif (jump := re.match(r"\s+j\w+\s+(\.L\w+)", line)) and jump[1] in at:
            found.append((at[jump[1]], i, function))
    inner = [a for a in found if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in found)]
    return [
        Loop(name, [t for line in lines[first : last + 1] if (t := line.strip()) and line[0] == "\t" and t[0] != "."])
        for first, last, name in inner
    ]


# ---- llvm-mca ----


class NotModelled(Exception):
    """llvm-mca refuses the machine code or the processor: older ones lack newer processors."""


@functools.cache
def mca() -> str | None:
    """The newest llvm-mca."""
    names = [*(f"llvm-mca-{version}" for version in range(30, 13, -1)), "llvm-mca"]
    return next((name for name in names if shutil.which(name)), None)


def share_of(isa: str, cpu: str, loop: Loop) -> float:
    return loop.sums / per_cycle(isa, cpu) / rounds(isa, cpu, tuple(loop.body))


@functools.cache
def per_cycle(isa: str, cpu: str) -> float:
    """Vectors of fused multiply-adds a cycle, in registers, as the model has it."""
    letter = "z" if isa == "v4" else "y"
    body = [f"vfmadd231ps %{letter}mm0, %{letter}mm1, %{letter}mm{k}" for k in range(2, 16)]
    return round(len(body) / rounds(isa, cpu, tuple(body)))


@functools.cache
def rounds(isa: str, cpu: str, body: tuple[str, ...]) -> float:
    """Cycles of one round of a loop that goes on."""
    text = "\n".join(line for line in body if not line.startswith("j")) + "\n"
    command = [mca() or "", "-mtriple=x86_64", f"-mcpu={cpu}", f"-iterations={ROUNDS}", "-json"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()[0].removeprefix("error: ")
        raise NotModelled(f"{mca()} does not model this (-mcpu={cpu}: {why}); a newer one may (`apt install llvm-19`)")
    summary = json.loads(done.stdout)["CodeRegions"][0]["SummaryView"]
    return summary["TotalCycles"] / summary["Iterations"]


if __name__ == "__main__":
    main()
