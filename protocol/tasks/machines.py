"""The five device machines of DS1, by name: small sequential circuits that a network learns to imitate.

The names and the outline (five machines; the eight-bit and the parity machine are the hardest) are those of MLDS DS1
(Clemens, "MLDS: A Dataset for Weight-Space Analysis of Neural Networks", 2021). Its transition tables were not at hand,
so these definitions are **ours**: do not compare networks of this zoo with MLDS's by value. A definition never changes;
a different one gets a different name.

Every machine reads the same nine-bit command, bit 0 first: data `d0`..`d7`, then the strobe `w` (1: write, 0: hold).
It keeps up to eight bits `q0`..`q7`, all 0 at reset, and shows 20 pins after each command.

A circuit is written in algebraic normal form: `+` is exclusive or, a space is and, `1` is true. So
`q0 + w q0 + w d0` is "q0, unless w, then d0". `pins` see the command and the state *after* it. The canonical JSON of a
`Machine` is its definition and `digest` the SHA-256 of that.
"""

from functools import cached_property

import msgspec
import numpy as np

from protocol.canonical import canonical_json, hexdigest
from protocol.tasks.fields import PIN_COUNT


class Machine(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A sequential circuit: next-state and pin formulas in algebraic normal form."""

    name: str
    next: tuple[str, ...]  # one formula a state bit, over d0..d7, w, q0.. (the state before the command)
    pins: tuple[str, ...]  # 20 formulas over d0..d7, w, q0.. (the state after the command)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the definition, 64 hex digits."""
        return hexdigest(canonical_json(self))

    def step(self, state: tuple[int, ...], command: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """One transition: (state bits, 9 command bits) -> (state bits, 20 pins)."""
        states, pins = self.step_all(np.array([state], np.uint8), np.array([command], np.uint8))
        return tuple(states[0].tolist()), tuple(pins[0].tolist())

    def step_all(self, states: np.ndarray, commands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One transition of N machines: (N, S), (N, 9) uint8 -> (N, S), (N, 20) uint8."""
        after = evaluate_formulas(self.next, states, commands)
        return after, evaluate_formulas(self.pins, after, commands)

    def run(self, commands: np.ndarray) -> np.ndarray:
        """Watch N machines from reset: (N, T, 9) uint8 commands -> (N, T, 20) uint8 pins."""
        sequences, length, _ = commands.shape
        states = np.zeros((sequences, len(self.next)), np.uint8)
        pins = np.empty((sequences, length, PIN_COUNT), np.uint8)
        for t in range(length):
            states, pins[:, t] = self.step_all(states, commands[:, t])
        return pins


def evaluate_formulas(formulas: tuple[str, ...], states: np.ndarray, commands: np.ndarray) -> np.ndarray:
    """Formulas in algebraic normal form over N states (N, S) and commands (N, 9) -> (N, formulas) uint8."""
    variables = {f"q{i}": states[:, i] for i in range(states.shape[1])}
    variables |= {f"d{i}": commands[:, i] for i in range(8)}
    variables |= {"w": commands[:, 8], "1": np.ones(len(commands), np.uint8)}
    values = np.zeros((len(commands), len(formulas)), np.uint8)
    for column, formula in enumerate(formulas):
        for term in formula.split(" + "):
            product = np.ones(len(commands), np.uint8)
            for name in term.split():
                product &= variables[name]
            values[:, column] ^= product
    return values


def latch(bit: int, data: str, strobe: tuple[str, ...] = ("w",)) -> str:
    """State bit `bit` takes `data` when the strobe (an exclusive or of products) is true, else keeps its value."""
    return " + ".join([f"q{bit}", *(f"{product} {value}" for product in strobe for value in (f"q{bit}", data))])


# A two-bit history: the bit last written (q0) and the one written before it (q1), shown as they are or inverted.
HISTORY = (latch(0, "d0"), latch(1, "q0"))

SINGLE_DIRECT = Machine(name="SingleDirectMachine", next=HISTORY, pins=("q0",) * 10 + ("q1",) * 10)
SINGLE_INVERT = Machine(name="SingleInvertMachine", next=HISTORY, pins=("1 + q0",) * 10 + ("1 + q1",) * 10)

# Two latches, d1 says which one is written; the pins show whether they differ.
SIMPLE_XOR = Machine(
    name="SimpleXORMachine",
    next=(latch(0, "d0", ("w", "w d1")), latch(1, "d0", ("w d1",))),
    pins=("q0 + q1",) * 20,
)

# Two running parities: of all d0 ever written, and of all d1.
PARITY = Machine(name="ParityMachine", next=("q0 + w d0", "q1 + w d1"), pins=("q0",) * 10 + ("q1",) * 10)

# A masked port: a write latches all eight bits, and the high four enable the low four. Pins 0-15 show the four lines,
# four times; 16 and 17 say that this command was a write, 18 and 19 that it was not.
EIGHT_BIT = Machine(
    name="EightBitMachine",
    next=tuple(latch(i, f"d{i}") for i in range(8)),
    pins=tuple(f"q{i} q{i + 4}" for i in range(4)) * 4 + ("w", "w", "1 + w", "1 + w"),
)

MACHINES: dict[str, Machine] = {m.name: m for m in (EIGHT_BIT, SINGLE_DIRECT, SINGLE_INVERT, SIMPLE_XOR, PARITY)}
