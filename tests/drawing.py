"""What the tests of the core draw from: shapes, structured matrices, block hierarchies, all in float64."""

import torch
from hypothesis import strategies as st

import structattn_minimal as sa

F64 = {"dtype": torch.float64}
FAMILIES = ("LowRank", "Kronecker", "Monarch", "Butterfly", "BTT", "MLR", "MLBTC")


def randn(*shape):
    return torch.randn(*shape, **F64)


def assert_close(actual, expected, tolerance=1e-12):
    """Equal up to `tolerance`, relative to the largest expected entry where that is above 1."""
    assert actual.shape == expected.shape
    finite = expected.isfinite()
    assert torch.equal(actual[~finite], expected[~finite])
    actual, expected = actual[finite].detach(), expected[finite].detach()
    if expected.numel():
        error = (actual - expected).abs().max().item()
        assert error <= tolerance * max(1, expected.abs().max().item()), f"differ by {error:.2e}"


def sizes(most=5, least=1):
    return st.integers(least, most)


def pairs(most=5, least=1):
    return st.tuples(sizes(most, least), sizes(most, least))


@st.composite
def levels_of(draw, d_out, d_in, least=1):
    """A `Level` that fits d_out x d_in, whose sums run over at least `least` terms."""

    def divisors(n):
        return [i for i in range(1, n + 1) if n % i == 0]

    blocks = draw(st.sampled_from([p for p in divisors(d_out) if d_in % p == 0 and p * least <= d_in]))
    inputs = draw(st.sampled_from([c for c in divisors(d_in // blocks) if blocks * c * least <= d_in]))
    outputs = draw(st.sampled_from(divisors(d_out // blocks)))
    return sa.Level(blocks=blocks, inputs=inputs, outputs=outputs, rank=draw(sizes(3, least)))


def matrix(draw, family, least=1):
    """A random member of `family`, its shape from Hypothesis's `draw`.

    Its sums run over at least `least` terms: a FLOP counter overlooks sums of one.
    """
    n, two = sizes(5, least), pairs(4, least)
    if family == "LowRank":
        return sa.LowRank(draw(n), draw(n), draw(n), **F64)
    if family == "Kronecker":
        return sa.Kronecker(draw(two), draw(two), **F64)
    if family == "BTT":
        return sa.BTT(draw(two), draw(two), rank=draw(sizes(3, least)), **F64)
    if family == "Monarch":
        blocks = draw(n)
        return sa.Monarch(blocks * draw(n), blocks, **F64)
    if family == "Butterfly":
        return sa.Butterfly(2 ** draw(n), **F64)
    if family == "MLR":
        ranks = tuple(draw(st.lists(n, min_size=1, max_size=4)))
        finest = 2 ** (len(ranks) - 1)
        return sa.MLR(draw(n) * finest, draw(n) * finest, ranks, **F64)
    d_out, d_in = draw(st.sampled_from([(4, 12), (6, 6), (8, 8), (12, 8), (12, 12)]))
    levels = draw(st.lists(levels_of(d_out, d_in, least), min_size=1, max_size=3))
    return sa.MLBTC(d_out, d_in, levels, **F64)


@st.composite
def block_hierarchies(draw, most_levels=4, most_finest=5, most_ratio=4):
    """(seq_len, block_sizes): nested, uneven, the sequence filling the first block or not."""
    block_sizes = [draw(sizes(most_finest))]
    for _ in range(draw(st.integers(0, most_levels - 1))):
        block_sizes.insert(0, block_sizes[0] * draw(sizes(most_ratio)))
    return draw(st.integers(1, block_sizes[0])), tuple(block_sizes)
