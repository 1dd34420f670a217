"""Costs in closed form, against the parameters, a FLOP counter on the code that runs, and a decoder's bookkeeping."""

import pytest
from drawing import randn
from layers import CONTEXT, KINDS, D, H, layer
from torch.nn import Parameter
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import structattn_minimal as sa
from structattn_minimal import mlr

each_kind = pytest.mark.parametrize("kind", KINDS)


def counted_macs(module, seq_len):
    """Multiply-accumulates of one forward pass. SDPA's fused operation on a CPU has no FLOP formula: take its maths."""
    x = randn(1, seq_len, D)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() / 2


@each_kind
@pytest.mark.parametrize("qk_norm", [True, False])
def test_params_are_the_parameters(kind, qk_norm):
    attention = layer(kind, qk_norm=qk_norm)
    if kind == "mlr":  # whose scales may be learnt
        attention.level_scales = Parameter(randn(3))
    assert sa.attention_cost(attention, 8).params == sum(p.numel() for p in attention.parameters())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("mlr")])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("seq_len", [3, 16, 23])
def test_macs_are_what_a_flop_counter_counts(kind, causal, seq_len):
    attention = layer(kind, causal=causal)
    assert sa.attention_cost(attention, seq_len).macs == counted_macs(attention, seq_len)


@pytest.mark.parametrize("ranks", [(4,), (2, 2), (2, 1, 1), (1, 1, 2)])
@pytest.mark.parametrize("seq_len", [3, 16, 23, CONTEXT])
def test_mlr_macs_are_what_a_flop_counter_counts_on_the_blockwise_form(ranks, seq_len, monkeypatch):
    # A causal tile leaves out keys that the convention counts, so count without causality; and with tiles as fine as
    # the finest blocks, so that none computes products that a mask then hides.
    monkeypatch.setattr(mlr, "TILE_SIZE", CONTEXT >> (len(ranks) - 1))
    options = {"ranks": ranks, "context": CONTEXT}
    counted = counted_macs(sa.MLRAttention(D, H, **options, causal=False, backend="blockwise").double(), seq_len)
    for causal in (True, False):
        assert sa.attention_cost(sa.MLRAttention(D, H, **options, causal=causal), seq_len).macs == counted


@each_kind
def test_each_kind_of_macs_is_counted_where_it_is_done(kind):
    """The layer's parts, one at a time: maps of features, then scores and values from ready queries and keys."""
    attention, x = layer(kind, causal=False), randn(1, 16, D)
    cost = sa.attention_cost(attention, 16)
    with FlopCounterMode(display=False) as counter:
        attention.out(attention.value(x))
        attention.queries_keys(x)
    assert cost.projection_macs == counter.get_total_flops() / 2
    assert cost.macs == cost.projection_macs + cost.score_macs + cost.value_macs


@pytest.mark.parametrize(("kind", "score_macs", "value_macs"), [
    ("standard", 23**2 * D, 23**2 * D),
    ("btt", 23**2 * D * H, 23**2 * D),
    ("bilinear_mlr", 23**2 * H * (2 + 2 + 4), 23**2 * D),
    # 23 tokens under blocks of 32, 16 and 8: one block of 23; 16 + 7; 8 + 8 + 7
    ("mlr", H * (2 * 23**2 + (16**2 + 7**2) + (8**2 + 8**2 + 7**2)), 23**2 * D),
    # five chunks of 5 queries against 10 keys each
    ("swa", 5 * 5 * 10 * D, 5 * 5 * 10 * D),
    # the global part, and six chunks of 4 queries against 8 keys each
    ("gswa", H * (23**2 * 1 + 6 * 4 * 8 * 3), (23**2 + 6 * 4 * 8) * D),
])  # fmt: skip
def test_scores_and_values_by_hand(kind, score_macs, value_macs):
    cost = sa.attention_cost(layer(kind), 23)
    assert (cost.score_macs, cost.value_macs) == (score_macs, value_macs)


def test_score_macs_of_the_published_rank_list():
    """sum_l r_l 2^-(l-1) in place of r: 0.601 of standard attention (Kuang et al. 2025)."""
    ranks = (32, 8, 6, 4, 4, 4, 4, 2)
    mlr_cost = sa.attention_cost(sa.MLRAttention(256, 4, ranks=ranks, context=1024), 1024)
    standard_cost = sa.attention_cost(sa.StandardAttention(256, 4), 1024)
    assert mlr_cost.score_macs / standard_cost.score_macs == pytest.approx(0.601, abs=5e-4)
    assert mlr_cost.value_macs == standard_cost.value_macs
    keys = [cost.cached_elements - 1024 * 256 for cost in (mlr_cost, standard_cost)]
    assert keys[0] / keys[1] == pytest.approx(0.601, abs=5e-4)


def test_btt_saves_parameters_and_pays_in_scores():
    btt = sa.attention_cost(sa.BilinearBTTAttention(256, 8, qk_norm=False), 512)
    standard = sa.attention_cost(sa.StandardAttention(256, 8, qk_norm=False), 512)
    assert btt.params - 2 * 256**2 == 2 * 8 * 256**1.5
    assert standard.params - 2 * 256**2 == 2 * 256**2
    assert btt.score_macs == 8 * standard.score_macs


# What a decoder must hold


def slots(visible):
    """Of the latest tokens, how many a ring must hold to have served every query: as far back as any one looks."""
    return max(i - row.nonzero().min().item() + 1 for i, row in enumerate(visible))


@each_kind
@pytest.mark.parametrize("seq_len", [1, 4, 5, 6, 7, 8, 9, 16, 17, 23, 31, 32])
def test_cached_elements_are_what_a_decoder_holds(kind, seq_len):
    """A ring for each group of key features, as long as their maps need, and one for the values, as long as any."""
    attention = layer(kind)
    S, keys = attention.scores(randn(1, seq_len, D))[0], attention.queries_keys(randn(1, 1, D))[1]
    if kind.startswith("mlr"):  # S does not tell the levels apart
        shared = sa.shared_levels(seq_len, attention.block_sizes).tril()
        visible = [shared >= level for level in range(1, len(attention.ranks) + 1)]
        key_features = [H * r for r in attention.ranks]
    elif kind.startswith("gswa"):
        visible, key_features = S[[0, H]] > float("-inf"), [H * r for r in attention.ranks]
    elif kind == "btt":  # the key is the token itself, one for all heads
        visible, key_features = S[:1] > float("-inf"), [D]
    else:
        visible, key_features = S[:1] > float("-inf"), [H * keys.shape[-1]]
    rings = [slots(v) for v in visible]
    held = sum(features * ring for features, ring in zip(key_features, rings, strict=True)) + D * max(rings)
    assert sa.attention_cost(attention, seq_len).cached_elements == held
