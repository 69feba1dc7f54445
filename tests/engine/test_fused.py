"""One rounding: a * b + c in NumPy and in C, by the instruction and without it, is the exact number rounded."""

import ctypes
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocol.engine.native.build import ISA_FLAGS, SOURCE, STRICT, find_compiler, supported_isas
from protocol.engine.reference.arithmetic import fma

BATCH = """
#include "vectors.h"
void each(int n, const float *a, const float *b, const float *c, float *out) {
  for (int i = 0; i < n; i++) out[i] = fused_one(a[i], b[i], c[i]);
}
void together(int n, const float *a, const float *b, const float *c, float *out) { /* n is a multiple of 16 */
  for (int i = 0; i < n; i += VW)
    *(loose_vec *)(out + i) = fused(*(loose_vec *)(a + i), *(loose_vec *)(b + i), *(loose_vec *)(c + i));
}
"""
Triple = tuple[int, int, int]  # a, b and c as binary32 bits


def nearest(exact: Fraction) -> Fraction | float:
    """To binary32, ties to even, in integers; infinite where it does not fit."""
    size, places = abs(exact), -149
    while size >= Fraction(2) ** (places + 24):
        places += 1
    whole, rest = divmod(size / Fraction(2) ** places, 1)
    whole += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    found = whole * Fraction(2) ** places
    if found >= Fraction(2) ** 128:
        return float("inf") if exact > 0 else -float("inf")
    return found if exact > 0 else -found


def expected(triple: Triple) -> int:
    """The bits of a * b + c, rounded once; -1 for any NaN."""
    a, b, c = np.array(triple, np.uint32).view(np.float32).tolist()
    if not all(map(np.isfinite, (a, b, c))):
        with np.errstate(all="ignore"):
            value = np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    else:
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        negative = np.signbit(a) != np.signbit(b) and np.signbit(c)  # the sign of a zero sum of zeros
        rounded = nearest(exact) if exact else (-0.0 if negative and not Fraction(a) * Fraction(b) else 0.0)
        value = np.float32(float(rounded))
        if exact and value == 0:
            value = np.copysign(value, -1.0 if exact < 0 else 1.0, dtype=np.float32)
    return -1 if np.isnan(value) else int(value.view(np.uint32))


def bits_of(values: np.ndarray) -> list[int]:
    return [-1 if np.isnan(value) else int(value.view(np.uint32)) for value in np.asarray(values, np.float32)]


@pytest.fixture(scope="module", params=[*supported_isas(), "without"])
def c(request, tmp_path_factory) -> ctypes.CDLL:
    """`without` is the slow path even where the processor fuses."""
    folder = tmp_path_factory.mktemp("fused")
    (folder / "fused.c").write_text(BATCH)
    flags = ["-mno-fma"] if request.param == "without" and "v3" in supported_isas() else []
    command = [*find_compiler(), "-O2", *STRICT, *ISA_FLAGS.get(request.param, ()), *flags, f"-I{SOURCE.parent}"]
    subprocess.run([*command, "-shared", "-fPIC", "-o", "fused.so", "fused.c", "-lm"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "fused.so"))


anything = st.integers(0, 2**32 - 1)
near_one = st.builds(lambda sign, low: sign << 31 | 0x3F000000 + low, st.booleans(), st.integers(0, 2**25))
short = st.builds(  # few bits, so that exact ties come often
    lambda sign, exponent, top: sign << 31 | exponent << 23 | top << 18,
    st.booleans(),
    st.one_of(st.integers(100, 155), st.integers(0, 30), st.integers(55, 70), st.integers(185, 254)),
    st.integers(0, 31),
)
small = st.builds(lambda sign, low: sign << 31 | low, st.booleans(), st.integers(0, 2**24))
special = st.sampled_from([0, 0x80000000, 1, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x3F800000])
number = st.one_of(anything, near_one, short, small, special)
MANY = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=300, **MANY)
@given(st.lists(st.tuples(number, number, number), min_size=1, max_size=16))
@example([(0x3F800001, 0x3F800001, 0xBF800002)])  # 1 + 2^-22 + 2^-46 less its rounding: exact
@example([(0x3F800001, 0x337FFFFE, 0x3F800001)])  # a hair below a tie, to which binary64 rounds it
@example([(0x00800000, 0x3F000000, 0x00000001), (0x00000001, 0x3F000000, 0), (0x80000001, 0x3F000000, 0)])
@example([(0x7F7FFFFF, 0x3F800000, 0x73000000), (0x7F7FFFFF, 0x3F800000, 0x72FFFFFF)])  # half a unit below infinity
@example([(0x7F7FFFFF, 0x7F7FFFFF, 0xFF800000), (0x7F800000, 0, 0x3F800000)])
@example([(0x3F800000, 0x3F800000, 0xBF800000), (0x80000000, 0x3F800000, 0x80000000)])  # +0, -0
def test_every_fused_operation_is_the_exact_number_rounded_once(c, triples):
    bits = np.zeros((16, 3), np.uint32)
    bits[: len(triples)] = triples
    a, b, d = (np.ascontiguousarray(column).view(np.float32) for column in bits.T)
    wanted = [expected(triple) for triple in triples]
    with np.errstate(all="ignore"):
        assert bits_of(fma(a, b, d))[: len(triples)] == wanted
    for function in (c.each, c.together):
        out = np.zeros(16, np.float32)
        function(16, *(array.ctypes.data_as(ctypes.c_void_p) for array in (a, b, d, out)))
        assert bits_of(out)[: len(triples)] == wanted


def test_rounding_twice_would_be_wrong():
    """A hair below a tie, which binary64 rounds to the tie, and ties to even then go up."""
    a, b, c = np.array([0x3F800001, 0x337FFFFE, 0x3F800001], np.uint32).view(np.float32)
    twice = np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    assert (float(fma(a, b, c)), float(twice)) == (1 + 2**-23, 1 + 2**-22)


@pytest.mark.parametrize("isa", [isa for isa in supported_isas() if isa in ("v3", "v4")])
def test_sums_of_products_are_one_instruction_each(isa, tmp_path):
    """Explicit, and never added by the compiler: with `fused` left out there is none."""
    flags = [*find_compiler(), "-O3", *STRICT, *ISA_FLAGS[isa], "-S", "-o", "-", f"-I{SOURCE.parent}"]
    (tmp_path / "peak.c").write_text(
        '#include "vectors.h"\n'
        "vec once(vec a, vec b, vec c) { return fused(a, b, c); }\n"
        "vec twice(vec a, vec b, vec c) { return a * b + c; }\n"
    )
    text = subprocess.run([*flags, "peak.c"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    once, _, twice = text.partition("twice:")
    assert once.count("vfmadd") == 1 and "call" not in once
    assert "vfmadd" not in twice and "vmulps" in twice and "vaddps" in twice
