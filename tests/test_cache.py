"""Decoding with caches: new tokens get the very rows that the full forward pass gives them, for every kind."""

import re
from functools import partial

import pytest
import torch
from drawing import assert_close, randn, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import CONTEXT, KINDS, D, H, layer
from recording import recorded
from test_transformer import OPTIONS, shaken

import structattn_minimal as sa
from structattn_minimal.cache import FUTURE, Ring
from structattn_minimal.cuda_graph import captured

each_kind = pytest.mark.parametrize("kind", KINDS)
each_gpt = pytest.mark.parametrize("kind", OPTIONS)
ROTARY = ("standard", "swa", "gswa", "mlr")  # the kinds that can be
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def in_chunks(cache, x, chunks):
    """The outputs for x, fed in chunks of the sizes given, the last one as long as it must be."""
    pieces, rest = [], x
    for size in chunks:
        if rest.shape[1] > size:
            pieces.append(rest[:, :size])
            rest = rest[:, size:]
    return torch.cat([cache.extend(piece) for piece in [*pieces, rest]], dim=1)


@st.composite
def attention_layers(draw):
    """(how to make a layer, capacity, sequence length): any kind, any ranks, windows, blocks and options."""
    heads, kind = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from(sorted(OPTIONS)))
    qk_norm, ranks = draw(st.booleans()), tuple(draw(st.lists(sizes(3), min_size=1, max_size=4)))
    longest, rotary = 24, kind in ROTARY and draw(st.booleans())
    if rotary:  # features in pairs
        ranks = tuple(2 * rank for rank in ranks)
    if kind == "mlr":
        n = len(ranks)
        longest = draw(sizes(6)) * 2 ** (n - 1)
        scales = draw(st.none() | st.lists(st.sampled_from([0.3, 0.8, 2.0]), min_size=n, max_size=n))
        options = {"ranks": ranks, "context": longest, "normalize_levels": draw(st.booleans()), "level_scales": scales}
        width = heads * sum(ranks)
    elif kind == "bilinear_mlr":
        width = heads * sum(ranks) * 2 ** (len(ranks) - 1)
        ranks = (ranks[0] + width // heads - sum(ranks), *ranks[1:])
        options = {"ranks": ranks, "clip": draw(st.booleans())}
    else:
        two = (draw(sizes(3)) * (1 + rotary), draw(sizes(3)) * (1 + rotary))
        width, window = heads * sum(two), draw(sizes(10))
        options = {
            "standard": {},
            "swa": {"window": window},
            "gswa": {"ranks": two, "window": window},
            "btt": {"btt_rank": draw(sizes(2))},
        }[kind]
    if rotary:
        options["rotary"] = True
    capacity = draw(sizes(longest))
    make = partial(sa.transformer.ATTENTION_KINDS[kind], width, heads, qk_norm=qk_norm, **options)
    return make, capacity, draw(sizes(capacity))


def shaken_layer(make):
    """In float64, no gain at 1, weights large enough for a clip to act."""
    made = make().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


# Decoding is the forward pass


@settings(max_examples=150)
@given(drawn=attention_layers(), batch=sizes(2), chunks=st.lists(sizes(9), max_size=24))
def test_any_chunks_give_the_rows_of_the_forward_pass(drawn, batch, chunks):
    make, capacity, seq_len = drawn
    attention = shaken_layer(make)
    x = randn(batch, seq_len, attention.d_model)
    cache = sa.AttentionCache(attention, batch, capacity)
    assert_close(in_chunks(cache, x, chunks), attention(x))
    assert cache.lengths.tolist() == [seq_len] * batch


@each_kind
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("capacity", [CONTEXT, 23])  # rings of whole blocks, and of ragged ones
@pytest.mark.parametrize("prompt", [0, 1, 7, 16, 21])
def test_one_token_a_step_gives_the_rows_of_the_forward_pass(kind, qk_norm, capacity, prompt):
    attention, x = layer(kind, qk_norm=qk_norm), randn(2, capacity, D)
    cache = sa.AttentionCache(attention, 2, capacity)
    pieces = ([x[:, :prompt]] if prompt else []) + list(x[:, prompt:].split(1, dim=1))
    assert_close(torch.cat([cache.extend(piece) for piece in pieces], dim=1), attention(x))


@each_kind
def test_chunks_leave_the_cache_that_one_pass_leaves(kind):
    attention, x = layer(kind), randn(2, 29, D)
    whole, cut = (sa.AttentionCache(attention, 2, CONTEXT) for _ in range(2))
    whole.extend(x)
    in_chunks(cut, x, [3, 1, 1, 9, 6, 2])
    for a, b in zip([*whole.keys, whole.values], [*cut.keys, cut.values], strict=True):
        assert_close(a.buffer, b.buffer)


@settings(max_examples=100)
@given(drawn=attention_layers(), data=st.data())
def test_rows_of_unequal_lengths_are_each_what_they_are_alone(drawn, data):
    make, capacity, _ = drawn
    attention = shaken_layer(make)
    rows = 3
    cache, x = sa.AttentionCache(attention, rows, capacity), randn(rows, capacity, attention.d_model)
    expected, done = attention(x), [0] * rows
    for _ in range(data.draw(sizes(4))):
        counts = [data.draw(st.integers(0, capacity - n)) for n in done]
        seq = max(1, *counts)
        new = torch.full((rows, seq, attention.d_model), 7.0, dtype=torch.float64)  # padding like no token
        for new_row, row, start, count in zip(new, x, done, counts, strict=True):
            new_row[:count] = row[start : start + count]
        out = cache.extend(new, counts)
        for row, (start, count) in enumerate(zip(done, counts, strict=True)):
            assert_close(out[row, :count], expected[row, start : start + count])
        done = [start + count for start, count in zip(done, counts, strict=True)]
    assert cache.lengths.tolist() == done


# What is held


@settings(max_examples=100)
@given(drawn=attention_layers(), batch=sizes(3))
def test_the_buffers_hold_what_the_closed_form_says(drawn, batch):
    make, capacity, _ = drawn
    attention = shaken_layer(make)
    cache = sa.AttentionCache(attention, batch, capacity)
    numbers = sum(ring.buffer.numel() for ring in [*cache.keys, cache.values])
    assert numbers == cache.elements == batch * sa.attention_cost(attention, capacity).cached_elements
    assert all(ring.buffer.untyped_storage().nbytes() == 8 * ring.buffer.numel() for ring in cache.keys)
    before = [ring.buffer.data_ptr() for ring in cache.keys]
    cache.extend(randn(batch, capacity, attention.d_model))
    assert [ring.buffer.data_ptr() for ring in cache.keys] == before  # fixed buffers, written in place


def test_an_mlr_level_holds_its_current_block_token_t_in_slot_t_mod_S():
    attention, x = layer("mlr"), randn(1, CONTEXT, D)
    keys = attention.queries_keys(x)[1]
    cache = sa.AttentionCache(attention, 1, CONTEXT)
    for t in range(CONTEXT):
        cache.extend(x[:, t : t + 1])
        for ring, features, level in zip(cache.keys, keys.split(attention.ranks, dim=-1), (1, 2, 3), strict=True):
            S = CONTEXT >> (level - 1)
            assert ring.slots == S
            for s in range((t % S) + 1):  # the valid slots
                assert_close(ring.buffer[:, :, s], features[:, :, t // S * S + s])


def test_the_published_ranks_hold_0_80_of_the_elements():
    """2 (E + d_v) against 2 (d + d_v) bytes a token and head, E = sum_l r_l 2^-(l-1) (Kuang et al. 2025)."""
    mlr = sa.MLRAttention(128, 2, ranks=(32, 8, 6, 4, 4, 4, 4, 2), context=1024)
    held = [sa.AttentionCache(layer, 1, 1024).elements for layer in (mlr, sa.StandardAttention(128, 2))]
    assert held[0] / held[1] == pytest.approx(0.80, abs=0.005)


@given(slots=sizes(6), chunks=st.lists(st.tuples(*[st.integers(0, 9)] * 2), max_size=6))
def test_a_ring_holds_the_latest_tokens_and_says_which(slots, chunks):
    """Against a list a row, from which a dictionary of slots is filled token by token."""
    ring, lengths, held = Ring(torch.zeros(2, 1, slots, 1)), torch.zeros(2, dtype=torch.long), [{}, {}]
    for counts in chunks:
        after = lengths + torch.tensor(counts)
        new = torch.full((2, 1, max(1, *counts), 1), -1.0)
        for row, count in enumerate(counts):
            for j in range(count):
                t = lengths[row].item() + j
                new[row, 0, j] = t
                held[row][t % slots] = t
        ring.store(new, lengths, after)
        lengths = after
        for row, positions in enumerate(ring.positions(lengths).tolist()):
            assert positions == [held[row].get(s, FUTURE) for s in range(slots)]
            assert ring.buffer[row, 0, :, 0].tolist() == [held[row].get(s, 0) for s in range(slots)]


# The whole model


def generate_without_cache(model, tokens, max_new_tokens, temperature, generator):
    for _ in range(max_new_tokens):
        logits = model(tokens)[:, -1]
        if temperature == 0:
            new = logits.argmax(-1, keepdim=True)
        else:
            new = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        tokens = torch.cat([tokens, new], dim=1)
    return tokens


@each_gpt
@pytest.mark.parametrize("temperature", [0, 0.7, 1.0])
@pytest.mark.parametrize("prompt", [1, 5, 12])
def test_generation_equals_generation_without_cache(kind, temperature, prompt):
    model, tokens = shaken(kind), torch.randint(11, (3, prompt))
    cached, plain = (
        run(tokens, 16 - prompt, temperature=temperature, generator=torch.Generator().manual_seed(5))
        for run in (model.generate, lambda *args, **options: generate_without_cache(model, *args, **options))
    )
    assert torch.equal(cached, plain)


@each_gpt
@pytest.mark.parametrize("ends", [{"vocab_size": 11}, {"vocab_size": None, "d_in": 3, "d_out": 5}])
def test_a_model_extends_rows_of_unequal_lengths(kind, ends):
    model = shaken(kind, **ends)
    inputs = torch.randint(11, (2, 16)) if ends["vocab_size"] else randn(2, 16, 3)
    caches, expected = model.new_caches(2), model(inputs)
    out = model.extend(inputs[:, :9], caches, counts=[9, 4])
    assert_close(out[0], expected[0, :9])
    assert_close(out[1, :4], expected[1, :4])
    second = torch.cat([inputs[:1, 9:], inputs[1:, 4:11]])
    out = model.extend(second, caches, counts=[7, 7])
    assert_close(out, torch.stack([expected[0, 9:], expected[1, 4:11]]))
    out = model.extend(inputs[:, 11:], caches, counts=[0, 5])  # the first row is full, its padding beyond the context
    assert_close(out[1], expected[1, 11:])


@each_kind
def test_decoding_runs_in_low_precision_and_under_autocast(kind):
    attention, x = layer(kind), randn(2, 9, D)
    expected = attention(x)
    low = attention.bfloat16()
    cache = sa.AttentionCache(low, 2, 9)
    assert cache.values.buffer.dtype == torch.bfloat16
    assert_close(in_chunks(cache, x.bfloat16(), [4, 1]).double(), expected, 0.2)
    attention.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(in_chunks(sa.AttentionCache(attention, 2, 9), x.float(), [4, 1]).double(), expected, 0.2)


@each_gpt
def test_rows_of_unequal_lengths_grow_a_token_at_a_time(kind):
    """Each row is in another block of each level, and at another place of its rings."""
    model, inputs, starts = shaken(kind), torch.randint(11, (4, 16)), [1, 3, 6, 8]
    caches, expected = model.new_caches(4), model(inputs)
    model.extend(inputs[:, :8], caches, counts=starts)
    for n in range(8):
        column = torch.tensor([start + n for start in starts])[:, None]
        out = model.extend(inputs.gather(1, column), caches)
        assert_close(out[:, 0], expected[torch.arange(4), column[:, 0]])


# A captured step


@each_gpt
def test_a_step_is_the_same_operations_on_the_same_tensors_whatever_came_before(kind):
    """What a CUDA graph needs, without a GPU: the operations of one step, run again, are the next steps."""
    model, inputs = shaken(kind), torch.randint(11, (2, 16))
    caches, token, expected = model.new_caches(2), inputs[:, :1].clone(), model(inputs)
    model.extend(inputs[:, :5], caches, counts=[2, 5])
    before = [cache.lengths.clone() for cache in caches]
    replay = recorded(lambda: model.extend(token, caches)[:, -1])
    for cache, lengths in zip(caches, before, strict=True):
        assert torch.equal(cache.lengths, lengths)  # recording it did not take it
    for n in range(11):
        column = torch.tensor([2 + n, 5 + n])[:, None]
        token.copy_(inputs.gather(1, column))
        assert_close(replay(), expected[torch.arange(2), column[:, 0]])


@each_gpt
@pytest.mark.parametrize("temperature", [0, 0.7])
@pytest.mark.parametrize("new", [1, 2, 3, 11])
def test_generation_from_a_recorded_step_draws_the_same_tokens(kind, temperature, new, monkeypatch):
    model, prompt = shaken(kind), torch.randint(11, (2, 5))
    plain = model.generate(prompt, new, temperature=temperature, generator=torch.Generator().manual_seed(5))
    recordings = []

    def record(step, device):
        recordings.append(device.type)
        return recorded(step)

    monkeypatch.setattr(sa.transformer, "captured", record)
    options = {"temperature": temperature, "generator": torch.Generator().manual_seed(5)}
    assert torch.equal(model.generate(prompt, new, **options), plain)
    assert recordings == ["cpu"] * (new > 2)
    model.generate(prompt, new, cuda_graph=False, **options)
    assert recordings == ["cpu"] * (new > 2)


def test_on_a_cpu_a_captured_step_is_the_step():
    step = torch.zeros(1).clone
    assert captured(step, torch.device("cpu")) is step


def test_a_recording_refuses_a_step_that_waits_for_a_number_and_replays_a_rebound_tensor_wrongly():
    """The stand-in has teeth: these are the two faults that a CUDA graph would punish."""
    count = torch.zeros(3)
    with pytest.raises(RuntimeError, match="waits for a number"):
        recorded(lambda: count * count.sum().item())

    class Rebound:
        total = torch.zeros(())

        def step(self):
            self.total = self.total + 1
            return self.total

    replay = recorded(Rebound().step)
    assert [replay().item() for _ in range(3)] == [1, 1, 1]  # and not 1, 2, 3


@needs_gpu
@each_gpt
def test_a_step_can_be_captured_in_a_cuda_graph(kind):
    model = shaken(kind).cuda()
    inputs = torch.randint(11, (2, 16), device="cuda")
    caches, token = model.new_caches(2), inputs[:, 3:4].clone()
    expected = model(inputs)

    def step():
        return model.extend(token, caches)[:, -1]

    model.extend(inputs[:, :3], caches)
    assert_close(step().cpu(), expected[:, 3].cpu(), 1e-10)  # warms it up
    lengths, held = caches[0].lengths.clone(), caches[0].values.buffer.clone()
    replay = captured(step, inputs.device)
    assert torch.equal(caches[0].lengths, lengths)
    assert torch.equal(caches[0].values.buffer, held)
    for t in range(4, 16):
        token.copy_(inputs[:, t : t + 1])
        assert_close(replay().cpu(), expected[:, t].cpu(), 1e-10)


@needs_gpu
@each_gpt
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0, 0.7])
@pytest.mark.parametrize("new", [2, 3, 11])
def test_on_a_gpu_generation_with_and_without_a_graph_draws_the_same_tokens(kind, dtype, temperature, new):
    model, prompt = shaken(kind).to("cuda", dtype), torch.randint(11, (3, 5), device="cuda")
    runs = [
        model.generate(
            prompt,
            new,
            temperature=temperature,
            generator=torch.Generator("cuda").manual_seed(5),
            cuda_graph=cuda_graph,
        )
        for cuda_graph in (True, True, False)
    ]
    assert torch.equal(runs[0], runs[2])
    assert torch.equal(runs[1], runs[2])
    if temperature == 0 and dtype == torch.float64:
        assert torch.equal(runs[0][:, 5:], model(runs[0])[:, 4:-1].argmax(-1))


# What is refused

MLR = sa.MLRAttention(D, H, ranks=(2, 2), context=8)
GPT, TOKEN = shaken("standard"), torch.zeros(1, 1, dtype=torch.long)


def held(attention=None, batch=2, capacity=8, tokens=0):
    cache = sa.AttentionCache(attention or sa.StandardAttention(D, H), batch, capacity)
    if tokens:
        cache.extend(torch.randn(batch, tokens, D))
    return cache


def x(batch, seq):
    return torch.randn(batch, seq, D)


WRONG = {
    "not a layer": (lambda: sa.AttentionCache(torch.nn.Linear(2, 2), 1, 8), "attention must be .* got Linear"),
    "not causal": (lambda: held(sa.StandardAttention(D, H, causal=False)), "attention must be causal.*causal=False"),
    "no rows": (lambda: held(batch=0), "batch_size must be a positive integer, got 0"),
    "no room": (lambda: held(capacity=0), "capacity must be a positive integer, got 0"),
    "MLR, past the context": (
        lambda: held(MLR, capacity=9),
        "capacity must be at most context = 8, got 9: keep only the latest tokens, or train with a longer context",
    ),
    "MLR, too long a chunk": (lambda: held(MLR).extend(x(2, 9)), "the length of x must be at most context = 8, got 9"),
    "MLR, one token more": (lambda: held(MLR, tokens=8).extend(x(2, 1)), "capacity = 8, got 9 tokens: start a new"),
    "one token more": (lambda: held(tokens=8).extend(x(2, 1)), "x must keep within capacity = 8, got 9 tokens: start"),
    "one row too long": (lambda: held(tokens=5).extend(x(2, 4), [3, 4]), "within capacity = 8, got 9 tokens"),
    "rows": (lambda: held().extend(x(3, 1)), "x must have batch_size = 2 rows, got 3"),
    "width": (lambda: held().extend(torch.randn(2, 1, D + 1)), "x must be .* of shape .batch, seq, d_model = 16"),
    "counts of too many": (lambda: held().extend(x(2, 4), [4, 5]), "counts must be 2 integers from 0 to 4"),
    "counts for too few": (lambda: held().extend(x(2, 4), [4]), "counts must be 2 integers from 0 to 4"),
    "negative counts": (lambda: held().extend(x(2, 4), [-1, 2]), "counts must be 2 integers from 0 to 4"),
    "learned positions": (lambda: shaken("standard").new_caches(1, 17), "capacity .* context = 16, got 17: keep only"),
    "too few caches": (
        lambda: GPT.extend(TOKEN, []),
        "caches must be 2, one a block, got 0",
    ),
    "another model's caches, as many": (
        lambda: GPT.extend(TOKEN, shaken("standard").new_caches(1)),
        r"caches must be new_caches of this model, got caches\[0\] of another",
    ),
    "rows to broadcast": (lambda: GPT.extend(TOKEN, GPT.new_caches(4)), "inputs must have batch_size = 4 rows.* got 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_refused_and_says_what_to_do(name, unchecked):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=re.compile(message)):
        call()


def test_a_refused_extension_changes_nothing():
    cache = held(tokens=5)
    before = cache.values.buffer.clone()
    with pytest.raises(ValueError, match="capacity"):
        cache.extend(x(2, 4))
    assert cache.lengths.tolist() == [5, 5]
    assert torch.equal(cache.values.buffer, before)
    cache.extend(x(2, 3))
