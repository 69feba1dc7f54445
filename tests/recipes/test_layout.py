"""Flat parameters and named arrays: one layout for the engines, the zoo and the analysis."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines.engine_strategies import ANY, images, sequences

from protocol.engine.initial import initial_state


@given(st.one_of(sequences(), images()), st.sampled_from([(), (1,), (3,), (2, 3)]), st.integers(0, 2**32))
@settings(max_examples=60, **ANY)
def test_what_is_split_and_joined_is_as_it_was(made, lead, seed):
    recipe = made.recipe
    flat = np.random.default_rng(seed).normal(size=(*lead, recipe.parameter_count)).astype(np.float32)
    arrays = recipe.split(flat)
    assert [(name, array.shape) for name, array in arrays.items()] == [(n, (*lead, *s)) for n, s in recipe.shapes]
    assert recipe.join(arrays).tobytes() == flat.tobytes()
    assert all(np.shares_memory(array, flat) for array in arrays.values())
    other_order = dict(reversed(list(arrays.items())))
    assert recipe.join(other_order).tobytes() == flat.tobytes()
    for name, tensor in recipe.split(torch.from_numpy(flat)).items():
        assert np.array_equal(tensor.numpy(), arrays[name])


@given(st.one_of(sequences(), images()))
@settings(max_examples=30, **ANY)
def test_spans_follow_each_other_without_a_gap(made):
    spans = made.recipe.spans
    assert [span.begin for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert [span.layer for span in spans] == sorted(span.layer for span in spans)
    assert spans[-1].end == made.recipe.parameter_count == len(initial_state(made.recipe, 1).params)
