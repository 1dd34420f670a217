"""Batches of text: targets one character later, every place reachable, the same ones for a seed, on any device."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structattn_minimal.experiments.batches import batches, sample, windows

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))
TOKENS = (torch.arange(1000) % 96).to(torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_targets_are_the_inputs_one_character_later():
    for inputs, targets in islice(batches(TOKENS, batch=4, context=16, generator=seeded()), 3):
        assert inputs.shape == targets.shape == (4, 16)
        assert inputs.dtype == targets.dtype == torch.long
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        assert torch.equal(targets, (inputs + 1) % 96 * (inputs < 96))


def test_batches_are_those_of_their_seed_and_differ_from_each_other():
    def drawn(seed):
        return torch.cat([x for x, _ in islice(batches(TOKENS, batch=4, context=16, generator=seeded(seed)), 2)])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(*drawn(1).split(4))


def test_every_stretch_is_drawn_the_first_and_the_last_too():
    inputs, targets = sample(TOKENS[:12], batch=400, context=8, generator=seeded())
    assert inputs[:, 0].unique().tolist() == [0, 1, 2, 3]
    assert targets[:, -1].unique().tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("draw", [sample, windows])
def test_a_text_that_is_too_short_is_refused(draw):
    options = {"batch": 4} if draw is sample else {}
    inputs, targets = draw(TOKENS[:17], context=16, **options)
    assert (inputs.shape[1], targets.max()) == (16, 16)
    with pytest.raises(ValueError, match="tokens must be more than context = 16, got 16"):
        draw(TOKENS[:16], context=16, **options)


@given(length=st.integers(6, 200), context=st.integers(1, 5), most=st.integers(1, 50) | st.none())
def test_windows_lie_side_by_side_and_are_spread_over_the_text(length, context, most):
    tokens = torch.arange(length)
    inputs, targets = windows(tokens, context=context, most=most)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs - inputs[:, :1], torch.arange(context).expand_as(inputs))
    starts, fit = inputs[:, 0], (length - 1) // context
    assert (starts % context == 0).all()
    assert len(starts) == min(fit, most or fit)
    gaps = starts.diff() // context
    assert starts[0] == 0
    assert ((gaps == fit // len(starts)) | (gaps == -(-fit // len(starts)))).all()


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_tokens_stay_where_they_are_and_are_a_byte_each(device):
    tokens = TOKENS.to(device)
    inputs, targets = sample(tokens, batch=4, context=16, generator=torch.Generator(device).manual_seed(0))
    assert inputs.device == targets.device == tokens.device
    seen, _ = windows(tokens, context=16)
    assert (seen.device, seen.dtype) == (tokens.device, torch.uint8)
    assert seen.data_ptr() == tokens.data_ptr()  # no copy


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_host_waits_for_no_draw_and_a_graph_draws_anew_each_time():
    tokens, generator = TOKENS.cuda(), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sample(tokens, batch=4, context=16, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        inputs, targets = sample(tokens, batch=4, context=16, generator=generator)
    draws = []
    for _ in range(2):
        graph.replay()
        draws.append(inputs.clone())
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert not torch.equal(*draws)
