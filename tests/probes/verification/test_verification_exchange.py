"""Questions as VNN-LIB come back bit for bit, hostile text is refused in one line, and ONNX computes the same."""

import contextlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from probes.verification.small_networks import EVERY, RECURRENT, one_row, random_box, random_params, recipe_of

from analysis.probes.verification.exchange.onnx_files import instance, model_bytes
from analysis.probes.verification.exchange.vnnlib import BYTES_MAX, read, written
from analysis.probes.verification.question import Question, forward_of, stays_class, stays_near, stays_sides
from protocol.errors import UsageError


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("low_n", "high_n", "rows_Rm", "offsets_R")
    )


@pytest.mark.parametrize(
    "rows",
    [
        stays_class(4, 2),
        stays_sides(np.array([True, False, True, True])),
        stays_near(np.array([0.1, -1e-7, 3.5e12, 0.0]), 0.05),
        (np.array([[0.5, 0.0, -1.25, 1e-17]]), np.array([-3e-300])),
        (np.zeros((1, 4)), np.array([1.0])),
    ],
)
def test_questions_come_back_bit_for_bit(rows):
    rng = np.random.default_rng(0)
    low = rng.normal(size=5) * 10.0 ** rng.integers(-12, 12, 5)
    question = Question(low_n=low, high_n=low + rng.random(5), rows_Rm=rows[0], offsets_R=rows[1])
    text = written(question, "a comment\n(assert over two lines)")
    assert same(read(text), question)
    assert "e" not in text.split("lines)")[1].replace("declare", "").replace("Real", "").replace("assert", "")


GOOD = written(one_row((np.zeros(2), np.ones(2)), 3, 0, 1))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("(declare-const X_1 Real)", "(declare-const X_7 Real)", "out of order"),
        ("(declare-const X_1 Real)", "(declare-const X_1 Int)", "not understood"),
        ("(assert (<= X_1 1.0))", "", "no upper bound"),
        ("(assert (<= X_1 1.0))", "(assert (<= X_1 -1.0))", "above its upper"),
        ("(assert (<= X_1 1.0))", "(assert (<= X_1 1e9))", "not a number"),
        ("(assert (<= X_1 1.0))", "(assert (<= X_1 nan))", "not a number"),
        ("(assert (<= X_1 1.0))", f"(assert (<= X_1 {'9' * 390}))", "not a number"),
        ("(assert (<= X_1 1.0))", "(assert (<= X_9 1.0))", "not declared"),
        ("(assert (<= X_1 1.0))", "(assert (<= X_1 1.0))(assert (<= X_1 0.5))", "a second bound"),
        ("(assert (<= X_1 1.0))", "(assert (<= Y_1 1.0))", "one of an output"),
        ("(<= Y_0 Y_1)", "(<= X_0 X_1)", "not declared"),
        ("(<= Y_0 Y_1)", "(<= Y_0 Y_0)", "twice in one row: Y_0"),
        ("(<= Y_0 Y_1)", "(<= (__import__ os) 1.0)", "not understood"),
        ("(<= Y_0 Y_1)", "(" * 100_000, "nested more than"),
        ("(assert (or", "(assert (or (and", "not closed"),
        ("(assert (or", ")(assert (or", "outside of brackets"),
        ("(declare-const X_1 Real)", "x" * 500, "not understood"),
    ],
)
def test_hostile_text_is_refused_in_one_line(before, after, told):
    assert before in GOOD
    with pytest.raises(UsageError, match=told) as caught:
        read(GOOD.replace(before, after, 1))
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_text_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(UsageError, match="the limit is"):
        read(" " * (BYTES_MAX + 1))


@given(st.text(alphabet="()<=>+*-.;0123456789XYReal_ assertndoclar\n", max_size=300))
@example("")
@example("(assert (or))")
@example("()")
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text):
    for whole in (text, GOOD + text):
        with contextlib.suppress(UsageError):
            assert isinstance(read(whole), Question)


@pytest.mark.parametrize("kind", sorted(EVERY.keys() - RECURRENT.keys()))
def test_an_onnx_model_computes_the_same(kind, tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    rng = np.random.default_rng(3)
    recipe = recipe_of(*EVERY[kind])
    params = random_params(recipe, rng)
    model_path, text_path = instance(tmp_path, kind, recipe, params, one_row(random_box(recipe, rng, 0.1), 3, 0, 1))
    onnx.checker.check_model(onnx.load(model_path), full_check=True)
    evaluator, forward = reference.ReferenceEvaluator(model_path.read_bytes()), forward_of(recipe, params)
    for point in rng.random((5, recipe.flows[0].features)).astype(np.float32):
        (found,) = evaluator.run(None, {"X": point.reshape(1, *recipe.task_shape.input)})
        np.testing.assert_allclose(found[0], forward(point[None])[0], rtol=0, atol=1e-5)
    assert read(text_path.read_text()).rows_Rm.shape == (1, 3)


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_networks_are_not_written_as_onnx(kind):
    pytest.importorskip("onnx")
    recipe = recipe_of(*EVERY[kind])
    with pytest.raises(UsageError, match="not of sequences"):
        model_bytes(recipe, random_params(recipe, np.random.default_rng(0)))


def test_without_the_package_one_line_names_the_mend(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    recipe = recipe_of(*EVERY["mlp"])
    with pytest.raises(UsageError, match=r"pip install 'zooswarm\[probes\]'"):
        model_bytes(recipe, random_params(recipe, np.random.default_rng(0)))
