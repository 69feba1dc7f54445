"""The five device machines: their definitions are fixed for ever, and each remembers what it should."""

import numpy as np
import pytest

from protocol.tasks.machines import MACHINES

DIGESTS = {
    "EightBitMachine": "d1849efd866bfdc1be944329e1976e3226f42294c17e26a023a1e8a155bd9d8f",
    "SingleDirectMachine": "809c65ce5f18bbd53011b3a60dcd3c8cfd53af67f1596fb44777d3ca0d7e6fff",
    "SingleInvertMachine": "c1b3f5ea34d8c84fe67d8d61823ce31895def500e8353b3283aeb0eacea91bbf",
    "SimpleXORMachine": "25fc637fa17d98f16d954dd47a1a67918c82c77abf1af3afc7177820f8a4aaab",
    "ParityMachine": "5ab08e00a7600d7cf6b9b5297de22fef2ab0b209c9a17c39ccf40cb859ea5317",
}


def command(data: int, write: int) -> tuple[int, ...]:
    return (*((data >> i & 1) for i in range(8)), write)


def watch(name: str, *commands: tuple[int, ...]) -> list[list[int]]:
    return MACHINES[name].run(np.array([commands], np.uint8))[0].tolist()


def random_commands(sequences: int, length: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 2, (sequences, length, 9), np.uint8)


@pytest.mark.parametrize("name", MACHINES)
def test_a_definition_never_changes(name):
    assert MACHINES[name].digest == DIGESTS[name]


@pytest.mark.parametrize("name", MACHINES)
def test_run_is_step_by_step_from_reset(name):
    machine = MACHINES[name]
    commands = random_commands(3, 10)
    pins = machine.run(commands)
    assert pins.shape == (3, 10, 20) and pins.dtype == np.uint8 and pins.max() == 1
    for sequence, seen in zip(commands, pins, strict=True):
        state = (0,) * len(machine.next)
        for given, expected in zip(sequence, seen, strict=True):
            state, shown = machine.step(state, tuple(given.tolist()))
            assert shown == tuple(expected.tolist())


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_has_a_memory_and_no_constant_pin(name):
    commands = random_commands(500, 12)
    pins = MACHINES[name].run(commands)
    mean = pins.reshape(-1, 20).mean(0)
    assert ((mean > 0.05) & (mean < 0.95)).all()
    forgetful = commands.copy()
    forgetful[:, :6] = 0  # another past, the same present
    assert (MACHINES[name].run(forgetful)[:, 6:] != pins[:, 6:]).any()


def test_single_direct_shows_the_last_two_bits_and_single_invert_their_inverse():
    given = [command(1, 1), command(0, 0), command(0, 1), command(1, 0)]
    direct = watch("SingleDirectMachine", *given)
    assert [(pins[0], pins[10]) for pins in direct] == [(1, 0), (1, 0), (0, 1), (0, 1)]
    inverted = watch("SingleInvertMachine", *given)
    assert [[1 - pin for pin in pins] for pins in inverted] == direct


def test_simple_xor_compares_two_addressed_latches():
    first, second = 0b00, 0b10  # d1 is the address
    given = [command(1 | first, 1), command(1 | second, 1), command(0 | first, 1), command(1 | first, 0)]
    assert [pins[0] for pins in watch("SimpleXORMachine", *given)] == [1, 0, 1, 1]


def test_parity_counts_the_ones_written():
    given = [command(0b01, 1), command(0b11, 1), command(0b11, 0), command(0b01, 1)]
    assert [(pins[0], pins[19]) for pins in watch("ParityMachine", *given)] == [(1, 0), (0, 1), (0, 1), (1, 1)]


def test_eight_bit_shows_the_enabled_lines():
    pins = watch("EightBitMachine", command(0b0011_0101, 1), command(0xFF, 0))
    assert pins[0] == [1, 0, 0, 0] * 4 + [1, 1, 0, 0]
    assert pins[1] == [1, 0, 0, 0] * 4 + [0, 0, 1, 1]
