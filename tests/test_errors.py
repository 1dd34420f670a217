"""A wrong call is refused before any work, by a `ValueError` that names the argument, what it got and what it wants."""

import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import structattn_minimal as sa

Q, X = torch.randn(2, 8, 6), torch.randn(2, 8, 16)  # 8 tokens of 6 features; of 16
V, TOKENS, ONE = torch.randn(2, 8, 3), torch.randint(11, (2, 8)), torch.tensor(1.0)
SHORT_MLR = partial(sa.MLRAttention, 16, 4, ranks=(2, 2), context=8)
GSWA = sa.GlobalSlidingWindowAttention
STANDARD, SHORT = sa.StandardAttention(16, 4), sa.MLRAttention(16, 4, ranks=(2, 2), context=4)
LOW_RANK = sa.LowRank(4, 6, 2)
GPT_OF_TOKENS = sa.GPT(sa.GPTConfig(1, 4, 16, 8, vocab_size=11))
GPT_OF_VECTORS = sa.GPT(sa.GPTConfig(1, 4, 16, 8, d_in=3, d_out=2))


def attend(q=Q, k=Q, v=V, ranks=(3, 2, 1), **options):
    return partial(sa.mlr_attention, q, k, v, ranks, **options)


def config(**changes):
    return partial(
        sa.GPTConfig, **{"n_layers": 1, "n_heads": 4, "d_model": 16, "context": 8, "vocab_size": 11} | changes
    )


# (call, the argument it must name, what it got, what is wanted)
WRONG = [
    # sizes of matrices
    (partial(sa.LowRank, 0, 4, 2), "d_out", "0", "positive integer"),
    (partial(sa.LowRank, 4, -1, 2), "d_in", "-1", "positive integer"),
    (partial(sa.LowRank, 4.0, 4, 2), "d_out", "4.0", "positive integer"),
    (partial(sa.LowRank, 4, 4, None), "rank", "None", "positive integer"),
    (partial(sa.LowRank, 4, 4, True), "rank", "True", "positive integer"),
    (partial(sa.LowRank, 4, "4", 2), "d_in", "'4'", "positive integer"),
    (partial(sa.Kronecker, (2, 3, 4), (2, 2)), "out_factors", "(2, 3, 4)", "2 entries"),
    (partial(sa.Kronecker, (2, 3), (2, 0)), "in_factors[1]", "0", "positive integer"),
    (partial(sa.Kronecker, 6, (2, 2)), "out_factors", "6", "sequence of positive integers"),
    (partial(sa.Kronecker, (2, 3), "22"), "in_factors", "'22'", "sequence of positive integers"),
    (partial(sa.BTT, (2, 2), (2,)), "in_factors", "(2,)", "2 entries"),
    (partial(sa.BTT, (2, 2), (2, 2), rank=0), "rank", "0", "positive integer"),
    (partial(sa.BTT, (2, 2), None), "in_factors", "None", "sequence of positive integers"),
    (partial(sa.Monarch, 12, 5), "blocks", "5", "divide d = 12"),
    (partial(sa.Monarch, 12, 0), "blocks", "0", "positive integer"),
    (partial(sa.Monarch, 12.5, 2), "d ", "12.5", "positive integer"),
    (partial(sa.Butterfly, 12), "d ", "12", "power of two"),
    (partial(sa.Butterfly, 1), "d ", "1", "at least 2"),
    (partial(sa.Butterfly, None), "d ", "None", "positive integer"),
    (partial(sa.MLR, 6, 8, (1, 1, 1)), "d_out", "6", "4"),
    (partial(sa.MLR, 8, 6, (1, 1, 1)), "d_in", "6", "4"),
    (partial(sa.MLR, 8, 8, ()), "ranks", "()", "sequence of positive integers"),
    (partial(sa.MLR, 8, 8, (2, -1)), "ranks[1]", "-1", "positive integer"),
    (partial(sa.MLR, 8, 8, 3), "ranks", "3", "sequence of positive integers"),
    (partial(sa.Level, blocks=0), "Level.blocks", "0", "positive integer"),
    (partial(sa.Level, rank=1.5), "Level.rank", "1.5", "positive integer"),
    (partial(sa.MLBTC, 8, 8, []), "levels", "[]", "non-empty sequence of Level"),
    (partial(sa.MLBTC, 8, 8, [2, 1]), "levels", "[2, 1]", "sequence of Level"),
    (partial(sa.MLBTC, 8, 8, sa.Level()), "levels", "Level(", "sequence of Level"),
    (partial(sa.MLBTC, 8, 9, [sa.Level(), sa.Level(blocks=3)]), "Level.blocks", "3", "d_out = 8"),
    (partial(sa.MLBTC, 9, 8, [sa.Level(), sa.Level(inputs=3)]), "Level.inputs", "3", "d_in = 8"),
    (partial(sa.as_mlbtc, sa.Butterfly), "matrix", "type", "LowRank, Kronecker, BTT, Monarch or MLR"),
    (partial(sa.butterfly_factors, STANDARD), "matrix", "StandardAttention", "Butterfly"),
    # positions
    (partial(sa.shared_levels, 8, (8, 3)), "block_sizes", "(8, 3)", "nest"),
    (partial(sa.shared_levels, 9, (8, 4)), "block_sizes[0]", "8", "at least the sequence length 9"),
    (partial(sa.shared_levels, 0, (8, 4)), "seq_len", "0", "positive integer"),
    (partial(sa.shared_levels, 8, ()), "block_sizes", "()", "sequence of positive integers"),
    (partial(sa.shared_levels, 8, 8), "block_sizes", "8", "sequence of positive integers"),
    # MLR attention
    (attend(ranks=(3, 2)), "ranks", "(3, 2)", "sum to the feature dimension d = 6"),
    (attend(ranks=()), "ranks", "()", "sequence of positive integers"),
    (attend(ranks=(6, 0)), "ranks[1]", "0", "positive integer"),
    (attend(ranks=6), "ranks", "6", "sequence of positive integers"),
    (attend(ranks=(3.0, 3.0)), "ranks[0]", "3.0", "positive integer"),
    (attend(ranks=(1,) * 6), "block_sizes", "8", "multiple of 2^(levels-1) = 32"),
    (attend(block_sizes=(8, 4)), "block_sizes", "(8, 4)", "3 entries"),
    (attend(block_sizes=(8, 4, 3)), "block_sizes", "(8, 4, 3)", "nest"),
    (attend(block_sizes=(4, 2, 1)), "block_sizes[0]", "4", "at least the sequence length 8"),
    (attend(block_sizes=(8, 4, 0)), "block_sizes[2]", "0", "positive integer"),
    (attend(block_sizes="842"), "block_sizes", "'842'", "sequence of positive integers"),
    (attend(level_scales=[1.0, 2.0]), "level_scales", "[1.0, 2.0]", "3"),
    (attend(level_scales=1.0), "level_scales", "1.0", "3"),
    (attend(level_scales=torch.ones(2)), "level_scales", "(2,)", "3"),
    (attend(level_scales=[1.0, None, 2.0]), "level_scales", "None", "number"),
    (attend(level_scales="abc"), "level_scales", "'abc'", "number"),
    (attend(level_scales=np.ones(3)), "level_scales", "ndarray (3,)", "a list, tuple or tensor of 3 numbers"),
    (attend(backend="cudnn"), "backend", "'cudnn'", "('auto', 'dense', 'blockwise', 'merge', 'triton')"),
    (attend(backend=None), "backend", "None", "('auto', 'dense', 'blockwise', 'merge', 'triton')"),
    (attend(k=Q[:, :7]), "k ", "(2, 7, 6)", "(2, 8, 6)"),
    (attend(v=V[:, :7]), "v ", "(2, 7, 3)", "(2, 8, 6)"),
    (attend(q=Q[0], k=Q[0], v=V[0]), "q ", "(8, 6)", "(..., heads, seq, d)"),
    (attend(q=[1.0]), "q ", "[1.0]", "tensor"),
    (attend(v=None), "v ", "None", "tensor"),
    (attend(q=Q[:, :0], k=Q[:, :0], v=V[:, :0]), "q ", "0", "at least one token"),
    (attend(v=V.double()), "v ", "torch.float64", "share dtype"),
    (attend(k=Q.to("meta")), "k ", "torch.float32 on meta", "share dtype and device"),
    (attend(q=Q.long(), k=Q.long(), v=V.long()), "q", "torch.int64", "floating"),
    (partial(sa.mlr_scores, Q, Q, (3, 4)), "ranks", "(3, 4)", "sum to the feature dimension d = 6"),
    (partial(sa.mlr_scores, Q, Q[:1], (3, 3)), "k ", "(1, 8, 6)", "(2, 8, 6)"),
    # attention layers
    (partial(sa.StandardAttention, 16, 3), "n_heads", "3", "divide d_model = 16"),
    (partial(sa.StandardAttention, 16, 0), "n_heads", "0", "positive integer"),
    (partial(sa.StandardAttention, -16, 4), "d_model", "-16", "positive integer"),
    (partial(sa.StandardAttention, None, 4), "d_model", "None", "positive integer"),
    (partial(sa.StandardAttention, 9, 3, rotary=True), "the head dimension", "3", "even to be rotary"),
    (partial(GSWA, 16, 4, ranks=(1, 3), window=2, rotary=True), "ranks", "1, 3", "even to be rotary"),
    (partial(sa.MLRAttention, 12, 2, ranks=(3, 2, 1), context=8, rotary=True), "ranks", "3, 1", "even to be rotary"),
    (partial(sa.SlidingWindowAttention, 16, 4, window=0), "window", "0", "positive integer"),
    (partial(sa.SlidingWindowAttention, 16, 4, window=2.5), "window", "2.5", "positive integer"),
    (partial(GSWA, 16, 4, ranks=(2, 1), window=4), "ranks", "(2, 1)", "head dimension 4"),
    (partial(GSWA, 16, 4, ranks=(4,), window=4), "ranks", "(4,)", "2 entries"),
    (partial(GSWA, 16, 4, ranks=(2, 2), window=-1), "window", "-1", "positive integer"),
    (partial(sa.BilinearBTTAttention, 16, 4, btt_rank=0), "btt_rank", "0", "positive integer"),
    (partial(sa.BilinearMLRAttention, 16, 4, ranks=(2, 3)), "ranks", "(2, 3)", "head dimension 4"),
    (partial(sa.BilinearMLRAttention, 18, 2, ranks=(3, 3, 3)), "2^(levels-1)", "4", "d_model = 18"),
    (partial(sa.MLRAttention, 16, 4, ranks=(2, 1), context=8), "ranks", "(2, 1)", "head dimension 4"),
    (partial(sa.MLRAttention, 16, 4, ranks=(2, 1, 1), context=10), "context", "10", "multiple of 2^(levels-1) = 4"),
    (partial(SHORT_MLR, backend="fast"), "backend", "'fast'", "('auto', "),
    (partial(SHORT_MLR, block_sizes=(8, 3)), "block_sizes", "(8, 3)", "must nest"),
    (partial(SHORT_MLR, block_sizes=(8, 4, 2)), "block_sizes", "(8, 4, 2)", "2"),
    (partial(SHORT_MLR, block_sizes=(16, 4)), "block_sizes[0]", "16", "context = 8"),
    (partial(SHORT_MLR, block_sizes=(4, 2)), "block_sizes[0]", "4", "at least"),
    (partial(SHORT_MLR, level_scales=[1]), "level_scales", "[1]", "2"),
    (partial(STANDARD, None), "x ", "None", "(batch, seq, d_model = 16)"),
    (partial(STANDARD, X[0]), "x ", "(8, 16)", "(batch, seq, d_model = 16)"),
    (partial(STANDARD, X[..., :15]), "x ", "(2, 8, 15)", "(batch, seq, d_model = 16)"),
    (partial(STANDARD, X.long()), "x ", "torch.int64", "floating-point numbers of shape (batch, seq, d_model = 16)"),
    (partial(STANDARD.scores, X[:, :0]), "x ", "(2, 0, 16)", "(batch, seq, d_model = 16)"),
    (partial(STANDARD.to_dense, 4), "head", "4", "[0, 4)"),
    (partial(STANDARD.to_dense, -1), "head", "-1", "[0, 4)"),
    (partial(SHORT, X), "x", "8", "at most context = 4"),
    (partial(SHORT.scores, X), "x", "8", "at most context = 4"),
    (partial(SHORT.to_dense, 0), "MLRAttention", "", "no single matrix M"),
    (partial(LOW_RANK, X), "x ", "(2, 8, 16)", "6 features"),
    (partial(LOW_RANK, None), "x ", "None", "6 features"),
    (partial(LOW_RANK, Q.long()), "x ", "torch.int64", "floating-point numbers with 6 features"),
    (partial(LOW_RANK, torch.tensor(1.0)), "x ", "()", "6 features"),
    # costs
    (partial(sa.attention_cost, STANDARD, 0), "seq_len", "0", "positive integer"),
    (partial(sa.attention_cost, STANDARD, 8.0), "seq_len", "8.0", "positive integer"),
    (partial(sa.attention_cost, SHORT, 5), "seq_len", "5", "at most context = 4"),
    (partial(sa.attention_cost, torch.nn.Linear(4, 4), 8), "module", "Linear", "attention module"),
    (partial(sa.attention_cost, SimpleNamespace(cost=id), 8), "module", "SimpleNamespace", "attention module"),
    # the transformer
    (config(n_layers=0), "n_layers", "0", "positive integer"),
    (config(context=None), "context", "None", "positive integer"),
    (config(vocab_size=None), "vocab_size", "None", "either vocab_size or both d_in and d_out"),
    (config(d_in=3, d_out=2), "d_in", "3", "either vocab_size or both d_in and d_out"),
    (config(vocab_size=None, d_in=3), "d_out", "None", "both d_in and d_out"),
    (config(vocab_size=-5), "vocab_size", "-5", "positive integer"),
    (config(attention="linear"), "attention", "'linear'", "'standard'"),
    (config(n_heads=3), "n_heads", "3", "divide d_model = 16"),
    (config(attention="swa"), "attention_options", "{}", "window"),
    (config(attention_options={"window": 4}), "attention_options", "{'window': 4}", "StandardAttention"),
    (config(attention_options=None), "attention_options", "None", "dict"),
    (config(attention=None), "attention", "None", "a key of ATTENTION_KINDS"),
    (config(n_layers=2, attention=("swa", 3)), "attention", "3", "one for each of n_layers = 2"),
    (config(n_layers=3, attention=("standard", "swa")), "attention", "2", "one for each of n_layers = 3"),
    (config(n_layers=2, attention=("standard", "linear")), "attention", "'linear'", "'standard'"),
    (config(n_layers=2, attention_options=({},)), "attention_options", "1", "one for each of n_layers = 2"),
    (config(n_layers=2, attention_options=({}, None)), "attention_options", "None", "a dict"),
    (config(n_layers=2, attention=("standard", "swa")), "attention_options", "{}", "SlidingWindowAttention in layer 1"),
    (config(attention="mlr", attention_options={"ranks": (3,)}), "ranks", "(3,)", "head dimension 4"),
    (config(attention="mlr", attention_options={"ranks": (4,), "context": 4}), "attention_options", "4", "model's, 8"),
    (config(attention_options={"causal": False}), "attention_options", "causal=False", "leave layer 0 causal"),
    (partial(GPT_OF_TOKENS, TOKENS.float()), "inputs", "torch.float32", "integers"),
    (partial(GPT_OF_TOKENS, TOKENS.to(torch.uint8)), "inputs", "torch.uint8", "int64 or int32"),
    (partial(GPT_OF_TOKENS, None), "inputs", "None", "integers"),
    (partial(GPT_OF_TOKENS, TOKENS[0]), "inputs", "(8,)", "(batch, seq)"),
    (partial(GPT_OF_TOKENS, torch.zeros(1, 9, dtype=torch.long)), "inputs", "9", "context = 8"),
    (partial(GPT_OF_VECTORS, TOKENS), "inputs", "torch.int64", "d_in = 3"),
    (partial(GPT_OF_TOKENS.generate, TOKENS, 1), "max_new_tokens", "9", "context = 8"),
    (partial(GPT_OF_TOKENS.generate, TOKENS[:, :2], 0), "max_new_tokens", "0", "positive integer"),
    (partial(GPT_OF_TOKENS.generate, TOKENS[:, :2], 2, temperature=-1.0), "temperature", "-1.0", "at least 0"),
    (partial(GPT_OF_TOKENS.generate, TOKENS[:, :2], 2, temperature=None), "temperature", "None", "at least 0"),
    (partial(GPT_OF_TOKENS.generate, TOKENS[:, :2], 2, temperature=ONE), "temperature", "tensor(1.)", "plain number"),
    (partial(GPT_OF_TOKENS.generate, TOKENS[0], 2), "tokens", "(8,)", "(batch, seq)"),
    (partial(GPT_OF_VECTORS.generate, TOKENS, 2), "generate", "", "vocab_size"),
]  # fmt: skip


class NoWork(TorchDispatchMode):
    """Fails on any operation that writes numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        assert result.is_meta, f"work was done before the refusal: {func}"
        return result


@pytest.mark.parametrize(
    ("call", "argument", "got", "wanted"),
    WRONG,
    ids=[f"{i}-{argument.strip()}" for i, (_, argument, *_) in enumerate(WRONG)],
)
def test_a_wrong_call_gets_a_value_error_that_names_it(call, argument, got, wanted, unchecked):
    with NoWork(), pytest.raises(ValueError, match=re.escape(argument)) as error:
        call()
    message = str(error.value)
    assert got in message.replace(wanted, "", 1)
    assert wanted in message
    assert len(message) < 250
