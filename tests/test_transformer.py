"""GPT: the same transformer around every kind of attention."""

import pytest
import torch
from drawing import assert_close, randn
from torch._dynamo.testing import CompileCounter
from torch.nn.functional import cross_entropy

import structattn_minimal as sa

OPTIONS = {
    "standard": {},
    "swa": {"window": 5},
    "gswa": {"ranks": (4, 4), "window": 3},
    "btt": {"btt_rank": 2},
    "bilinear_mlr": {"ranks": (4, 2, 2)},
    "mlr": {"ranks": (4, 4)},
}
each_kind = pytest.mark.parametrize("kind", OPTIONS)


def small(kind, **sizes):
    shape = {"n_layers": 2, "n_heads": 4, "d_model": 32, "context": 16, "vocab_size": 11} | sizes
    return sa.GPT(sa.GPTConfig(**shape, attention=kind, attention_options=OPTIONS[kind])).double()


def shaken(kind, **sizes):
    """A GPT as if trained: no weight is zero any more."""
    model = small(kind, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@each_kind
def test_each_kind_has_the_attention_it_names(kind):
    names = {
        "standard": sa.StandardAttention,
        "swa": sa.SlidingWindowAttention,
        "gswa": sa.GlobalSlidingWindowAttention,
        "btt": sa.BilinearBTTAttention,
        "bilinear_mlr": sa.BilinearMLRAttention,
        "mlr": sa.MLRAttention,
    }
    for block in small(kind).blocks:
        assert type(block.attention) is names[kind]
        for option, value in OPTIONS[kind].items():
            assert getattr(block.attention, option) == value


def test_mlr_takes_the_context_of_the_model_unless_told():
    assert small("mlr").blocks[0].attention.context == 16
    options = {"attention": "mlr", "attention_options": {"ranks": (8,), "context": 64}}
    assert sa.GPT(sa.GPTConfig(1, 4, 32, 12, d_in=3, d_out=2, **options)).blocks[0].attention.context == 64


# A kind for each layer: sequential GSWA, and stranger mixtures

SEQUENTIAL = {"attention": ("standard", "swa", "swa"), "attention_options": ({}, {"window": 3}, {"window": 6})}
MIXED = {"attention": tuple(OPTIONS), "attention_options": tuple(OPTIONS.values())}
each_mixture = pytest.mark.parametrize("mixture", [SEQUENTIAL, MIXED], ids=["sequential", "mixed"])


def mixed(mixture):
    shape = {"n_layers": len(mixture["attention"]), "n_heads": 4, "d_model": 32, "context": 16, "vocab_size": 11}
    model = sa.GPT(sa.GPTConfig(**shape, **mixture)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@each_mixture
def test_each_layer_has_its_own_kind_and_options(mixture):
    model = mixed(mixture)
    for block, kind, options in zip(model.blocks, *mixture.values(), strict=True):
        assert type(block.attention) is sa.transformer.ATTENTION_KINDS[kind]
        assert all(getattr(block.attention, name) == value for name, value in options.items())


def test_one_kind_or_one_dict_stands_for_all_layers():
    windows = ({"window": 2}, {"window": 7})
    model = sa.GPT(sa.GPTConfig(2, 4, 32, 16, vocab_size=11, attention="swa", attention_options=windows))
    assert [block.attention.window for block in model.blocks] == [2, 7]
    kinds = ("standard", "swa")
    options = {"attention": kinds, "attention_options": ({"qk_norm": False}, {"window": 2, "qk_norm": False})}
    assert [kind for kind, _ in sa.GPTConfig(2, 4, 32, 16, vocab_size=11, **options).layers] == list(kinds)
    config = sa.GPTConfig(
        2, 4, 32, 16, vocab_size=11, attention=("standard",) * 2, attention_options={"qk_norm": False}
    )
    assert config.layers == (("standard", {"qk_norm": False}),) * 2


@each_mixture
def test_mixed_layers_decode_and_generate_what_the_whole_sequence_says(mixture):
    model, tokens = mixed(mixture), torch.randint(11, (2, 16))
    caches = model.new_caches(2)
    pieces = [model.extend(piece, caches) for piece in tokens.split([5, 1, 1, 9], dim=1)]
    assert_close(torch.cat(pieces, dim=1), model(tokens))
    longer = model.generate(tokens[:, :5], 11, temperature=0)
    assert torch.equal(longer[:, 5:], model(longer)[:, 4:-1].argmax(-1))


# At the start


@each_kind
def test_at_the_start_every_block_is_the_identity(kind):
    model, x = small(kind), randn(2, 9, 32)
    for block in model.blocks:
        assert torch.equal(block(x), x)
    assert torch.equal(model(torch.randint(11, (2, 9))), torch.zeros(2, 9, 11, dtype=torch.float64))


@each_kind
def test_hidden_weights_start_at_1_over_fan_in(kind):
    options = {"attention": kind, "attention_options": OPTIONS[kind]}
    model = sa.GPT(sa.GPTConfig(1, 8, 64, 32, vocab_size=96, **options))
    block = model.blocks[0]
    assert block.feed_forward.expand.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert block.attention.value.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert model.embed.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.position.std().item() == pytest.approx(0.02, rel=0.1)


# What goes in and out


@each_kind
def test_it_is_pre_norm_residual_and_adds_positions(kind):
    model, tokens = shaken(kind), torch.randint(11, (2, 9))
    x = model.embed.weight[tokens] + model.position[:9]
    for block in model.blocks:
        x = x + block.attention(block.attention_norm(x))
        x = x + torch.nn.functional.gelu(block.feed_forward_norm(x) @ block.feed_forward.expand.weight.T) @ (
            block.feed_forward.contract.weight.T
        )
    assert_close(model(tokens), model.norm(x) @ model.head.weight.T)


@each_kind
@pytest.mark.parametrize("ends", [{"vocab_size": 11}, {"vocab_size": None, "d_in": 3, "d_out": 5}])
def test_the_future_changes_nothing(kind, ends):
    model = shaken(kind, **ends)

    def draw(length):
        return torch.randint(11, (2, length)) if ends["vocab_size"] else randn(2, length, 3)

    inputs = draw(16)
    out = model(inputs)
    assert out.shape == (2, 16, ends["vocab_size"] or 5)
    for t in (1, 8, 15):
        later = torch.cat([inputs[:, :t], draw(16 - t)], 1)
        assert_close(model(later)[:, :t], out[:, :t])
        assert_close(model(inputs[:, :t]), out[:, :t])


@each_kind
@pytest.mark.parametrize("expansion", [1, 4])
def test_the_number_of_parameters_in_closed_form(kind, expansion):
    model = small(kind, expansion=expansion)
    width, n_layers = 32, 2
    attention = sa.attention_cost(model.blocks[0].attention, 16).params
    layer = attention + 2 * expansion * width**2 + 2 * width
    ends = 11 * width + 16 * width + width + 11 * width  # tokens, positions, last norm, read-out
    assert sum(p.numel() for p in model.parameters()) == n_layers * layer + ends


@each_kind
def test_state_dict_round_trip(kind):
    first, second, tokens = shaken(kind), shaken(kind), torch.randint(11, (2, 9))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(tokens), second(tokens))


# Generation


@each_kind
def test_generation_is_reproducible_and_keeps_its_prompt(kind):
    model, prompt = shaken(kind), torch.randint(11, (2, 5))
    first, again, other = (
        model.generate(prompt, 11, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert first.shape == (2, 16)
    assert torch.equal(first[:, :5], prompt)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@each_kind
def test_at_temperature_0_each_token_is_the_likeliest(kind):
    model = shaken(kind)
    tokens = model.generate(torch.randint(11, (2, 5)), 6, temperature=0)
    assert torch.equal(tokens[:, 5:], model(tokens)[:, 4:-1].argmax(-1))


def test_in_half_precision_a_low_temperature_takes_the_likeliest():
    model, prompt = shaken("standard").half(), torch.randint(11, (2, 5))
    best = model.generate(prompt, 6, temperature=0)
    assert torch.equal(model.generate(prompt, 6, temperature=1e-6), best)


def test_samples_follow_softmax_of_logits_over_temperature():
    model = shaken("standard")
    prompt = torch.randint(11, (1, 5)).expand(20_000, 5)
    for temperature in (0.5, 2):
        expected = (model(prompt[:1])[0, -1] / temperature).softmax(-1)
        drawn = model.generate(prompt, 1, temperature=temperature)[:, -1].bincount(minlength=11) / 20_000
        assert (drawn - expected).abs().max() < 5 * (0.25 / 20_000) ** 0.5


# Training


@each_kind
def test_a_few_steps_learn_to_copy_the_token_before(kind):
    model = small(kind)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        tokens = torch.randint(11, (16, 12))
        loss = cross_entropy(model(tokens)[:, 1:].flatten(0, 1), tokens[:, :-1].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(11.0).log().item())  # nothing known: log of the vocabulary
    assert losses[-1] < 0.8 * losses[0]


def test_one_compiled_graph_serves_all_lengths(unchecked):  # of every kind of layer: compiled_layers.py
    torch.compiler.reset()
    model, counter = shaken("standard"), CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for seq_len in (5, 9, 12, 16):
        tokens = torch.randint(model.config.vocab_size, (2, seq_len))
        assert_close(compiled(tokens), model(tokens))
    assert counter.frame_count == 2  # the first length, and any other
