"""Attention layers: each scores as it says, and its forward pass is softmax(scores) V, projected."""

from functools import partial

import pytest
import torch
from drawing import assert_close, randn, sizes
from hypothesis import given
from hypothesis import strategies as st
from layers import BILINEAR, CONTEXT, KINDS, D, H, layer
from processes import HERE, in_a_process
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import structattn_minimal as sa
from structattn_minimal import attention_bilinear
from structattn_minimal.matrices import clip_rms

each_kind = pytest.mark.parametrize("kind", KINDS)
each_bilinear_kind = pytest.mark.parametrize("kind", BILINEAR)
causal_or_not = pytest.mark.parametrize("causal", [True, False])
normed_or_not = pytest.mark.parametrize("qk_norm", [True, False])


def window_of(attention, seq_len):
    return getattr(attention, "window", seq_len)


# Scores, and what follows from them


@each_kind
@causal_or_not
@normed_or_not
@pytest.mark.parametrize("seq_len", [1, 7, 21])
def test_forward_is_softmax_of_the_scores_times_values(kind, causal, qk_norm, seq_len):
    attention, x = layer(kind, causal=causal, qk_norm=qk_norm), randn(2, seq_len, D)
    weights = attention.scores(x).softmax(-1)
    if kind.startswith("gswa"):  # two maps a head
        weights = weights[:, :H] + weights[:, H:]
    values = (x @ attention.value.weight.T).reshape(2, seq_len, H, D // H).transpose(1, 2)
    heads = (weights @ values).transpose(1, 2).reshape(2, seq_len, D)
    assert attention(x).shape == x.shape
    assert_close(attention(x), heads @ attention.out.weight.T)


@each_bilinear_kind
@causal_or_not
def test_without_norm_the_score_is_a_bilinear_form(kind, causal):
    attention, x = layer(kind, causal=causal, qk_norm=False), randn(2, 9, D)
    S = attention.scores(x)
    assert S.shape == (2, H, 9, 9)
    for h in range(H):
        M = attention.to_dense(h)
        assert M.shape == (D, D)
        form = attention.scale * x @ M @ x.mT
        assert_close(S[:, h], form.masked_fill(S[:, h].isinf(), float("-inf")))


@each_kind
@causal_or_not
def test_scores_are_minus_infinity_exactly_where_masked(kind, causal):
    T, attention = 12, layer(kind, causal=causal)
    S = attention.scores(randn(2, T, D))
    reach = [T] * H if kind.startswith("gswa") else []
    for m, reach_of_map in enumerate(reach + [window_of(attention, T)] * H):
        for i in range(T):
            for j in range(T):
                visible = i - reach_of_map <= j <= (i if causal else i + reach_of_map)
                assert (S[:, m, i, j] == float("-inf")).all() == (not visible)
    assert not S.isnan().any()
    assert not (float("inf") == S).any()


@each_kind
def test_the_future_changes_nothing(kind):
    attention, x = layer(kind), randn(2, 24, D)
    for t in (1, 8, 23):
        later = torch.cat([x[:, :t], randn(2, 24 - t, D)], 1)
        assert_close(attention(later)[:, :t], attention(x)[:, :t])


@each_kind
def test_without_causality_the_future_counts(kind):
    attention, x = layer(kind, causal=False), randn(1, 8, D)
    later = torch.cat([x[:, :7], randn(1, 1, D)], 1)
    assert (attention(later)[:, 5] - attention(x)[:, 5]).abs().max() > 1e-6


@each_kind
@normed_or_not
def test_every_parameter_gets_a_gradient(kind, qk_norm):
    attention = layer(kind, qk_norm=qk_norm)
    (attention(randn(2, 24, D)) * randn(2, 24, D)).sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@each_kind
def test_state_dict_round_trip(kind):
    first, second, x = layer(kind), layer(kind), randn(2, 9, D)
    assert (first(x) - second(x)).abs().max() > 1e-3
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


# Norms, clips and scales


@each_kind
def test_with_qk_norm_the_size_of_the_queries_does_not_matter(kind):
    attention, x = layer(kind).float(), torch.randn(1, 9, D)
    before = attention.scores(x)
    for name in ("query", "key"):
        weights = getattr(attention, name, None)
        for weight in [] if weights is None else weights.parameters():
            weight.data.mul_(50)
    if kind == "btt":
        attention.right.data.mul_(50)
    assert_close(attention.scores(x), before, 1e-2)


def test_standard_scores_are_normalised_products_over_the_root_of_the_head_dimension():
    attention, x = layer("standard", causal=False), randn(1, 5, D)
    S = attention.scores(x)
    for h in range(H):
        rows = slice(h * 4, h * 4 + 4)
        q, k = x[0] @ attention.query.weight[rows].T, x[0] @ attention.key.weight[rows].T
        q, k = (
            (t - t.mean(-1, keepdim=True)) / (t.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * norm.weight
            for t, norm in ((q, attention.q_norm), (k, attention.k_norm))
        )
        assert_close(S[0, h], q @ k.T / 2)


def test_bilinear_mlr_is_a_sum_of_block_diagonals():
    attention = layer("bilinear_mlr", qk_norm=False)
    for h in range(H):
        expected = torch.zeros(D, D, dtype=torch.float64)
        for p, r, query, key in zip((1, 2, 4), (2, 1, 1), attention.query, attention.key, strict=True):
            query, key = clip_rms(query, D // p, r)[h], clip_rms(key, D // p, r)[h]
            for block in range(p):
                chunk = slice(block * D // p, (block + 1) * D // p)
                expected[chunk, chunk] += query[block] @ key[block].T / (p * r) ** 0.5
        assert_close(attention.to_dense(h), expected)


@pytest.mark.parametrize("clip", [True, False])
def test_a_btt_head_is_the_transpose_of_a_btt_matrix(clip):
    attention = sa.BilinearBTTAttention(12, 2, btt_rank=2, qk_norm=False, clip=clip).double()
    attention.right.data.mul_(3)
    matrix = sa.BTT((4, 3), (3, 4), rank=2, dtype=torch.float64)
    for h in range(2):
        right, left = attention.right, attention.left
        if clip:
            right, left = clip_rms(right, 4, 3 * 2), clip_rms(left, 3 * 2, 4)
        matrix.right.data, matrix.left.data = right[h].detach(), left[h].detach()
        assert_close(attention.to_dense(h), matrix.to_dense().T)


@pytest.mark.parametrize("kind", ["btt", "bilinear_mlr"])
def test_the_clip_can_be_turned_off(kind):
    x = randn(1, 5, D)
    clipped, free = (layer(kind, clip=clip, qk_norm=False) for clip in (True, False))
    free.load_state_dict(clipped.state_dict())
    for attention in (clipped, free):
        for name, parameter in attention.named_parameters():
            if name.split(".")[0] in ("right", "left", "query", "key"):
                parameter.data.mul_(100)
    assert free.to_dense(0).abs().max() > 100 * clipped.to_dense(0).abs().max()
    assert (free(x) - clipped(x)).abs().max() > 1e-3


def normalised_variance(width, *terms):
    """Variance of sum_i w_i q_i k_i for two random vectors of `width` features, each normalised by LayerNorm.

    `terms`: how many features have which weight. LayerNorm leaves features of variance 1 and correlation
    -1 / (width - 1), so pairs i != j add w_i w_j / (width - 1)^2 to the sum of w_i^2.
    """
    squares, total = sum(n * w**2 for n, w in terms), sum(n * w for n, w in terms)
    return squares + (total**2 - squares) / (width - 1) ** 2


@pytest.mark.parametrize(
    ("attention", "variances"),
    [
        (lambda: sa.StandardAttention(64, 4, causal=False), [normalised_variance(16, (16, 1 / 4))]),  # near 1
        (lambda: sa.BilinearBTTAttention(64, 4, causal=False), [1]),
        (
            lambda: sa.BilinearMLRAttention(64, 4, ranks=(8, 4, 4), causal=False),  # near 1 a level
            [2 * normalised_variance(8, (8, 8**-0.5)) + normalised_variance(16, (16, 16**-0.5))],
        ),
        (
            lambda: sa.GlobalSlidingWindowAttention(64, 4, ranks=(8, 8), window=64, causal=False),
            [normalised_variance(16, (8, 8**-0.5))],
        ),
        (
            lambda: sa.MLRAttention(64, 4, ranks=(8, 4, 4), context=32, causal=False),  # near 1 / r_l a shared level
            [
                normalised_variance(16, (8, 1 / 8)),
                normalised_variance(16, (8, 1 / 8), (4, 1 / 4)),
                normalised_variance(16, (8, 1 / 8), (8, 1 / 4)),
            ],
        ),
    ],
    ids=["standard", "btt", "bilinear_mlr", "gswa", "mlr"],
)
def test_variance_of_the_scores_at_the_start(attention, variances):
    """Over draws of the layer and of tokens from N(0, I), for pairs of different tokens, by the levels they share."""
    levels = sa.shared_levels(32, (32, 16, 8)[: len(variances)])
    draws = torch.stack([attention().scores(torch.randn(4, 32, 64)).square().mean((0, 1)) for _ in range(60)]).detach()
    for level, expected in enumerate(variances, 1):
        measured = draws[:, (levels == level) & ~torch.eye(32, dtype=torch.bool)].mean(1)
        error = measured.std() / len(measured) ** 0.5
        assert abs(measured.mean() - expected) < 5 * error
        assert error < 0.02 * expected  # else the bound above says nothing


# Rank


def test_a_standard_head_has_rank_r_and_a_btt_head_full_rank():
    standard, btt = sa.StandardAttention(64, 8).double(), sa.BilinearBTTAttention(64, 8).double()
    for h in range(8):
        assert torch.linalg.matrix_rank(standard.to_dense(h)) == 8
        assert torch.linalg.matrix_rank(btt.to_dense(h)) == 64


def test_a_bilinear_mlr_head_has_the_rank_of_its_levels():
    for ranks, rank in (((8,), 8), ((4, 2, 2), 4 + 4 + 8), ((1, 1, 2, 4), 1 + 2 + 8 + 32)):
        attention = sa.BilinearMLRAttention(64, 8, ranks=ranks).double()
        assert torch.linalg.matrix_rank(attention.to_dense(3)) == rank


# Kin


@each_kind
def test_the_extra_options_change_something(kind):
    # Otherwise a constructor could forget them, and every test above would still pass on the default.
    assert layer(kind, causal=False).causal is False
    assert layer(kind, qk_norm=False).qk_norm is False
    names = [name for name, _ in layer(kind, qk_norm=False).named_parameters()]
    assert not any("norm" in name for name in names)


@causal_or_not
def test_the_two_maps_of_gswa_sum_to_rows_of_2(causal):
    S = layer("gswa", causal=causal).scores(randn(2, 11, D))
    assert S.shape == (2, 2 * H, 11, 11)
    P = S.softmax(-1)
    assert_close((P[:, :H] + P[:, H:]).sum(-1), torch.full((2, H, 11), 2.0, dtype=torch.float64))


@causal_or_not
def test_a_window_as_long_as_the_sequence_is_standard_attention(causal):
    standard = layer("standard", causal=causal)
    windowed = sa.SlidingWindowAttention(D, H, window=9, causal=causal).double()
    windowed.load_state_dict(standard.state_dict())
    x = randn(2, 10, D)
    assert_close(windowed(x), standard(x))
    assert_close(windowed.scores(x), standard.scores(x))


@causal_or_not
def test_mlr_with_one_level_is_standard_attention_but_for_the_scale(causal):
    standard = layer("standard", causal=causal)
    x = randn(2, 10, D)
    root, plain = (
        sa.MLRAttention(D, H, ranks=(4,), context=32, causal=causal, level_scales=scales).double()
        for scales in ([4**-0.5], None)
    )
    for attention in (root, plain):
        attention.load_state_dict(standard.state_dict())
    assert_close(root(x), standard(x))
    assert_close(plain.scores(x), standard.scores(x) / 2)  # 1 / r, not 1 / sqrt(r)


@causal_or_not
@pytest.mark.parametrize("kind", ["mlr", "mlr, normalised"])
@pytest.mark.parametrize("seq_len", [1, 5, 16, 23])
def test_a_shorter_sequence_is_the_corner_of_a_full_one(kind, causal, seq_len):
    attention, x = layer(kind, causal=causal), randn(1, CONTEXT, D)
    corner = attention.scores(x)[..., :seq_len, :seq_len]
    assert_close(attention.scores(x[:, :seq_len]), corner)
    if causal:
        assert_close(attention(x[:, :seq_len]), attention(x)[:, :seq_len])


@pytest.mark.parametrize("backend", ["auto", "dense", "blockwise"])
def test_mlr_attention_is_the_same_on_every_backend(backend):
    attention, x = layer("mlr"), randn(2, 23, D)
    other = layer("mlr", backend=backend)
    other.load_state_dict(attention.state_dict())
    assert_close(other(x), attention(x))


def test_what_is_changed_on_a_layer_of_mlr_attention_holds_for_all_that_it_does():
    attention, x = layer("mlr"), randn(2, 9, D)
    attention.normalize_levels, attention.level_scales = True, (0.5, 0.2, 0.9)
    expected = attention.merge_heads(attention.scores(x).softmax(-1) @ attention.split_heads(attention.value(x)))
    assert_close(attention(x), expected)


@each_kind
def test_layers_run_under_autocast(kind):
    attention, x = layer(kind).float(), torch.randn(2, 9, D)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(x)
    assert_close(out.float(), attention(x), 0.15)


@each_kind
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap over SDPA, on a CPU
def test_layers_can_be_stacked_and_run_as_one(kind):
    layers, x = [layer(kind) for _ in range(3)], randn(3, 2, 9, D)
    parameters, buffers = torch.func.stack_module_state(layers)

    def run(parameters, buffers, x):
        return torch.func.functional_call(layers[0], (parameters, buffers), (x,))

    expected = torch.stack([one(y) for one, y in zip(layers, x, strict=True)])
    assert_close(torch.vmap(run)(parameters, buffers, x), expected)


@each_kind
def test_layers_compile(kind, unchecked):
    torch.compiler.reset()
    attention, x = layer(kind), randn(2, 9, D)
    assert_close(torch.compile(attention, backend="eager")(x), attention(x))


def test_layers_compile_whole_when_lengths_vary():
    done = in_a_process(str(HERE / "compiled_layers.py"))
    assert done.returncode == 0, done.stderr[-3000:]


@each_kind
def test_layers_run_without_numbers(kind, unchecked):
    with torch.device("meta"):
        attention, x = layer(kind), randn(2, 9, D)
        assert attention(x).shape == (2, 9, D)
        assert attention.scores(x).shape[2:] == (9, 9)


@normed_or_not
@pytest.mark.parametrize("d_model", [8, 12, 24])  # grids of 2 x 4, 3 x 4 and 4 x 6
def test_structured_matrices_written_out_give_the_same(d_model, qk_norm, monkeypatch):
    """The way of a GPU, gradients of the factors included."""
    x = randn(2, 9, d_model)
    for attention in (
        sa.BilinearBTTAttention(d_model, 4, btt_rank=2, qk_norm=qk_norm).double(),
        sa.BilinearMLRAttention(d_model, 2, ranks=(d_model // 2 - 3, 2, 1), qk_norm=qk_norm).double(),
    ):
        found = []
        for written_out in (False, True):
            monkeypatch.setattr(attention_bilinear, "is_sooner_written_out", lambda x, way=written_out: way)
            out = attention(x)
            found.append([out, *torch.autograd.grad(out.sin().sum(), list(attention.parameters()))])
        for factored, plain in zip(*found, strict=True):
            assert_close(plain, factored)


@st.composite
def structured_layers(draw):
    """What makes a BTT or MLR layer without QK-norm."""
    heads, common = draw(sizes(3)), {"causal": draw(st.booleans()), "qk_norm": False, "clip": draw(st.booleans())}
    if draw(st.booleans()):
        return partial(sa.BilinearBTTAttention, heads * draw(sizes(8)), heads, btt_rank=draw(sizes(3)), **common)
    ranks = draw(st.lists(sizes(3), min_size=1, max_size=3))
    ranks[0] += -sum(ranks) % 2 ** (len(ranks) - 1)  # what the finest level cuts, it divides
    return partial(sa.BilinearMLRAttention, heads * sum(ranks), heads, ranks=ranks, **common)


@given(make=structured_layers(), seq_len=sizes(30), written_out=st.booleans())
def test_bilinear_attention_is_that_of_its_forms_gradients_included(make, seq_len, written_out):
    """Longer and shorter than wide, as it goes on a GPU and elsewhere."""
    attention = make().double()
    x = randn(2, seq_len, attention.d_model).requires_grad_()
    heads = range(attention.n_heads)
    S = torch.stack([attention.scale * x @ attention.to_dense(h) @ x.mT for h in heads], dim=1)
    if attention.causal:
        S = S.masked_fill(torch.ones(seq_len, seq_len).triu(1).bool(), float("-inf"))
    expected = attention.merge_heads(S.softmax(-1) @ attention.split_heads(attention.value(x)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_bilinear, "is_sooner_written_out", lambda x: written_out)
        out = attention(x)
    wanted, upstream = [x, *attention.parameters()], torch.randn_like(out)
    gradients = [torch.autograd.grad(y, wanted, upstream) for y in (out, expected)]
    for got, want in zip((out, *gradients[0]), (expected, *gradients[1]), strict=True):
        assert_close(got, want)


class Passes(TorchDispatchMode):
    """Names what is done, apart from views, to make tensors of `numel` or more."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.names = numel, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        is_view = func.is_view or name == "_unsafe_view"
        if isinstance(result, torch.Tensor) and result.numel() >= self.numel and not is_view:
            self.names.append(name)
        return result


def test_written_out_without_norm_the_features_of_all_levels_come_from_one_product(monkeypatch):
    """Nothing else passes over them: the levels' scales are in the weights."""
    monkeypatch.setattr(attention_bilinear, "is_sooner_written_out", lambda x: True)
    attention, x = layer("bilinear_mlr", qk_norm=False), randn(9, 20, D)
    with torch.no_grad(), Passes(9 * 20 * H * sum(attention.widths)) as passes:
        attention.queries_keys(x)
    assert passes.names == ["bmm", "bmm"]  # queries, keys


def test_the_gradient_of_keys_that_heads_share_comes_from_one_product():
    """It is not laid out for each head and added up."""
    attention, seq_len = layer("btt", qk_norm=False), D // 2
    q, k, v = (t.detach() for t in attention.queries_keys_values(randn(9, seq_len, D)))
    out = attention.attend(q, k.requires_grad_(), v)
    with Passes(9 * H * seq_len * D) as passes:
        torch.autograd.grad(out.sum(), k)
    assert passes.names == []


def test_factors_are_written_out_on_a_gpu_while_that_is_small_and_for_tokens_enough():
    x = torch.empty(2, 512, 1024)
    assert not attention_bilinear.is_sooner_written_out(x)
    with FakeTensorMode():
        small, large = (torch.empty(2, 2048, width, device="cuda") for width in (1024, 2048))
        enough, few, one = (torch.empty(2, seq, 1024, device="cuda") for seq in (512, 511, 1))
    assert attention_bilinear.is_sooner_written_out(small)
    assert not attention_bilinear.is_sooner_written_out(large)
    assert attention_bilinear.is_sooner_written_out(enough)
    assert not attention_bilinear.is_sooner_written_out(few)
    assert not attention_bilinear.is_sooner_written_out(one)
