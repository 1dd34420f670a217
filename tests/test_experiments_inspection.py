"""What is measured inside trained layers, on planted cases with known answers."""

import pytest
import torch
from drawing import F64, assert_close, randn
from hypothesis import given
from hypothesis import strategies as st

import structattn_minimal as sa
from structattn_minimal.experiments import inspection, text
from structattn_minimal.experiments.records import read_record
from structattn_minimal.transformer import GPT, GPTConfig

RANKS = (4, 2, 2)
SCALES = (0.5, 1.0, 2.0)


def layer(normalize=False, scales=SCALES, ranks=RANKS, context=16, causal=True):
    torch.manual_seed(0)
    return sa.MLRAttention(
        16, 2, ranks=ranks, context=context, normalize_levels=normalize, level_scales=scales, causal=causal
    ).double()


@given(st.integers(1, 16), st.booleans(), st.booleans())
def test_the_parts_of_the_levels_add_up_to_the_scores(seq, normalize, causal):
    attention, x = layer(normalize, causal=causal), randn(2, seq, 16)
    parts = inspection.level_parts(attention, x)
    assert parts.shape == (3, 2, 2, seq, seq)
    scores = attention.scores(x).detach()
    seen = scores.isfinite()
    assert_close(parts.sum(0)[seen], scores[seen])


def test_a_level_adds_nothing_where_it_is_not_shared():
    parts = inspection.level_parts(layer(), randn(1, 16, 16))
    for level, size in enumerate((16, 8, 4)):
        position = torch.arange(16) // size
        apart = position[:, None] != position
        assert (parts[level][..., apart] == 0).all()
        assert (parts[level][..., ~apart] != 0).all()


def test_standard_attention_has_one_level_and_two_softmaxes_are_refused():
    attention, x = sa.StandardAttention(16, 2).double(), randn(1, 5, 16)
    assert inspection.level_parts(attention, x).shape == (1, 1, 2, 5, 5)
    assert_close(inspection.level_energy(attention, x), torch.ones(2, 1, **F64))
    two = sa.GlobalSlidingWindowAttention(16, 2, ranks=(4, 4), window=2).double()
    with pytest.raises(ValueError, match="attention must have one softmax"):
        inspection.level_parts(two, x)


@given(st.integers(1, 6), st.integers(6, 12), st.floats(0.1, 10))
def test_effective_rank_of_equal_singular_values_is_their_number(k, n, size):
    basis, _ = torch.linalg.qr(randn(n, n))
    other, _ = torch.linalg.qr(randn(n, n))
    matrix = size * basis[:, :k] @ other[:, :k].T
    assert_close(inspection.effective_rank(matrix), torch.tensor(float(k), **F64), tolerance=1e-6)
    assert inspection.effective_rank(torch.zeros(n, n, **F64)) == 0


def test_effective_rank_counts_small_directions_for_little():
    found = inspection.effective_rank(torch.diag(torch.tensor([0.75, 0.25], **F64)))
    assert_close(found, torch.tensor(0.75**-0.75 * 0.25**-0.25, **F64))


def test_the_rank_of_scores_leaves_out_what_no_softmax_sees():
    """Queries and keys that make S_ij = a_i + b_j: without a_i one direction is left."""
    attention = sa.StandardAttention(4, 1, qk_norm=False).double()
    with torch.no_grad():
        attention.query.weight.zero_()
        attention.key.weight.zero_()
        attention.query.weight[0, 0] = attention.key.weight[0, 2] = 1  # a_i times 1
        attention.query.weight[1, 2] = attention.key.weight[1, 1] = 1  # 1 times b_j
    x = randn(3, 9, 4)
    x[..., 2] = 1
    assert_close(inspection.score_rank(attention, x), torch.ones(1, **F64), tolerance=1e-6)
    uncentred = inspection.effective_rank(inspection.level_parts(attention, x).sum(0))
    assert (uncentred > 1.2).all()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scales", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_a_model_of_one_level_has_its_energy_there_and_nowhere_else(scales, normalize):
    attention, x = layer(normalize, scales), randn(2, 16, 16)
    expected = torch.tensor([scales, scales], **F64)
    assert_close(inspection.level_energy(attention, x), expected)
    use = inspection.level_use(attention, x)
    assert (use[expected == 1] > 0.05).all()
    assert (use[expected == 0] == 0).all()


def test_energy_is_of_squares_centred_in_each_row():
    """Level 1 adds to every key of a row alike: loud, and without any effect."""
    attention = sa.MLRAttention(4, 1, ranks=(2, 2), context=8, qk_norm=False, level_scales=(1.0, 1.0)).double()
    with torch.no_grad():
        attention.query.weight.copy_(torch.eye(4))
        attention.key.weight.copy_(torch.eye(4))
    x = randn(2, 8, 4)
    x[..., :2] = 5  # the features of level 1
    assert_close(inspection.level_energy(attention, x), torch.tensor([[0.0, 1.0]], **F64))
    assert_close(inspection.level_use(attention, x)[:, 0], torch.zeros(1, **F64))


def test_energy_does_not_look_at_the_future():
    attention, x = layer(), randn(1, 16, 16)
    parts = inspection.level_parts(attention, x)
    expected = torch.zeros(2, 3, **F64)
    for level in range(3):
        for head in range(2):
            for i in range(16):
                row = parts[level, 0, head, i, : i + 1]
                expected[head, level] += (row - row.mean()).square().sum()
    assert_close(inspection.level_energy(attention, x), expected / expected.sum(1, keepdim=True))


def test_use_is_the_distance_of_two_softmaxes():
    attention, x = layer(), randn(2, 16, 16)
    use = inspection.level_use(attention, x)
    before = inspection.attention_map(attention, x)
    for level in range(3):
        scales = [0.0 if n == level else scale for n, scale in enumerate(SCALES)]
        after = inspection.attention_map(layer(scales=scales), x)
        assert_close(use[:, level], 0.5 * (after - before).abs().sum(-1).mean((0, 2)))


@given(st.integers(1, 12), st.data())
def test_distances_of_heads_that_look_at_one_place(seq, data):
    back = data.draw(st.integers(0, seq - 1))
    weights = torch.zeros(2, 3, seq, seq, **F64)
    query = torch.arange(seq)
    weights[..., query, (query - back).clamp(min=0)] = 1
    assert_close(inspection.mean_distance(weights, back), torch.full((3,), float(back), **F64))
    mass = inspection.distance_mass(weights, (0, back, back + 1, seq + 1), back)
    assert_close(mass, torch.tensor([[0.0, 1.0, 0.0]] * 3, **F64))


@given(st.integers(1, 12), st.data())
def test_distances_of_uniform_attention(seq, data):
    first = data.draw(st.integers(0, seq - 1))
    weights = torch.ones(1, 1, seq, seq, **F64).tril()
    weights = weights / weights.sum(-1, keepdim=True)
    mean = sum(i / 2 for i in range(first, seq)) / (seq - first)
    assert_close(inspection.mean_distance(weights, first), torch.tensor([mean], **F64))
    mass = inspection.distance_mass(weights, (0, 1, seq), first)
    self_ = sum(1 / (i + 1) for i in range(first, seq)) / (seq - first)
    assert_close(mass, torch.tensor([[self_, 1 - self_]], **F64))


@given(st.integers(1, 5), st.sampled_from([2, 4, 8]), st.floats(0, 0.4), st.floats(0.5, 1))
def test_seams_part_some_pairs_at_a_distance(distance, size, across, within):
    if distance >= size:
        with pytest.raises(ValueError, match="block_size must part some"):
            inspection.across_and_within(torch.zeros(1, 1, 16, 16), distance, size)
        return
    weights = torch.zeros(2, 1, 16, 16, **F64)
    for i in range(distance, 16):
        weights[..., i, i - distance] = within if i // size == (i - distance) // size else across
    found = torch.cat(inspection.across_and_within(weights, distance, size))
    assert_close(found, torch.tensor([across, within], **F64))


@pytest.mark.parametrize("kind", [sa.StandardAttention, sa.BilinearBTTAttention, sa.BilinearMLRAttention])
def test_forms_are_those_of_the_layer_with_its_scale(kind):
    options = {"ranks": RANKS} if kind is sa.BilinearMLRAttention else {}
    attention = kind(16, 2, qk_norm=False, **options).double()
    expected = torch.stack([attention.scale * attention.to_dense(head) for head in range(2)])
    assert_close(inspection.forms(attention), expected.detach())
    assert_close(inspection.spectrum(attention), torch.linalg.svdvals(expected).detach())


def test_the_form_of_mlr_attention_is_that_of_pairs_that_share_all_levels():
    attention, x = layer(), randn(2, 16, 16)
    attention.q_norm = attention.k_norm = torch.nn.Identity()
    together = (torch.arange(16)[:, None] // 4 == torch.arange(16) // 4).tril()
    found = torch.einsum("bid,hde,bje->bhij", x, inspection.forms(attention), x)
    assert_close(found[..., together], attention.scores(x).detach()[..., together])


def test_a_form_has_all_of_qk_norm_but_its_division():
    attention, x = sa.StandardAttention(16, 2, causal=False).double(), randn(2, 5, 16)
    for norm in (attention.q_norm, attention.k_norm):
        torch.nn.init.normal_(norm.weight)
    parts = [attention.split_heads(part(x)) for part in (attention.query, attention.key)]
    lengths = [(part.var(-1, correction=0) + 1e-5).sqrt() for part in parts]
    found = torch.einsum("bid,hde,bje->bhij", x, inspection.forms(attention), x)
    expected = attention.scores(x) * lengths[0][..., :, None] * lengths[1][..., None, :]
    assert_close(found, expected.detach())
    assert isinstance(attention.q_norm, torch.nn.LayerNorm)


def test_spectra_stop_where_the_norm_leaves_no_rank():
    for attention in (layer(), sa.StandardAttention(16, 2).double()):
        spectrum = inspection.spectrum(attention)
        assert spectrum.shape == (2, 16)
        assert (spectrum.diff(dim=1) <= 1e-12).all()
        assert (spectrum[:, :7] > 1e-6).all()
        assert (spectrum[:, 7:] < 1e-10).all()  # a head has 8 features, and their mean is taken off
    two = sa.GlobalSlidingWindowAttention(16, 2, ranks=(4, 4), window=2).double()
    with pytest.raises(ValueError, match="attention must have one softmax"):
        inspection.spectrum(two)


def test_an_undivided_norm_is_a_norm_times_the_deviation():
    norm, x = torch.nn.LayerNorm(7, bias=False).double(), randn(3, 7)
    torch.nn.init.normal_(norm.weight)
    deviation = (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    assert_close(inspection.undivided(norm)(x).detach(), (deviation * norm(x)).detach())


@given(st.integers(1, 8), st.integers(8, 12))
def test_a_form_of_low_rank_can_only_be_so_much_like_the_identity(r, n):
    basis, _ = torch.linalg.qr(randn(n, r))
    best = torch.tensor((r / n) ** 0.5, **F64)
    assert_close(inspection.identity_share(3 * basis @ basis.T), best)
    assert_close(inspection.identity_share(-basis @ basis.T), -best)
    assert inspection.identity_share(randn(n, r) @ randn(r, n)).abs() <= best + 1e-12
    assert inspection.identity_share(torch.zeros(2, n, n, **F64)).tolist() == [0, 0]


def test_heads_that_are_taken_out_write_nothing_and_the_others_go_on():
    model, tokens = small(), torch.randint(5, (2, 16))
    before = model(tokens)
    cut = inspection.without_heads(model, 1, [1])
    x = text.layer_inputs(model, tokens)[1]
    first, second = model.blocks[1].attention, cut.blocks[1].attention
    heads = torch.softmax(first.scores(x), -1) @ first.split_heads(first.value(x))
    heads[:, 1] = 0
    assert_close(second(x), first.merge_heads(heads))
    assert_close(inspection.without_heads(model, 0, [])(tokens), before)
    assert_close(model(tokens), before)


def small(levels=3):
    options = {"ranks": RANKS if levels == 3 else (8,), "level_scales": SCALES[:levels]}
    model = GPT(GPTConfig(2, 2, 16, 16, vocab_size=5, attention="mlr", attention_options=options)).double()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


@pytest.mark.parametrize("level", [1, 2, 3])
def test_without_a_level_its_features_do_not_matter_and_the_model_is_left_as_it_was(level):
    model, tokens = small(), torch.randint(5, (2, 16))
    before = model(tokens)
    cut = inspection.without_level(model, level)
    features = torch.arange(16).view(2, 8)[:, sum(RANKS[: level - 1]) : sum(RANKS[:level])].flatten()
    after = cut(tokens)
    assert not torch.allclose(before, after)
    for block, x in zip(cut.blocks, text.layer_inputs(cut, tokens), strict=True):
        assert (inspection.level_energy(block.attention, x)[:, level - 1] == 0).all()
        with torch.no_grad():
            block.attention.q_norm.weight[features % 8] = 7.0
    assert_close(cut(tokens), after)
    assert_close(model(tokens), before)


def test_a_level_that_is_not_there_is_refused():
    for level in (0, 4):
        with pytest.raises(ValueError, match="level must be one of the 3 levels"):
            inspection.without_level(small(), level)
    standard = GPT(GPTConfig(1, 2, 16, 16, vocab_size=5))
    with pytest.raises(ValueError, match="level must be one of the 0 levels"):
        inspection.without_level(standard, 1)


def test_text_models_come_with_what_they_were_not_trained_on():
    models, held_out = inspection.text_models(), inspection.held_out()
    assert list(models) == ["standard", "mlr"]
    assert held_out.dtype == torch.int64
    recorded = read_record(inspection.TEXT)["methods"]
    for name, model in models.items():
        assert text.evaluate(model, held_out, most=16) < 1.2 * recorded[name]["held_out_loss"]
    assert inspection.text_models("no_such_record") == {}
    with pytest.raises(FileNotFoundError, match="no_such_record"):
        inspection.held_out("no_such_record")
