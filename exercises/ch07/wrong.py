"""Chapter 7's planted wrong answers."""

import torch

from ..wrong import wrong
from . import solutions
from .tests import rank_of, ranks_say

# 7.1


@wrong("7.1", "right and left exchanged", says="right and left are exchanged")
def exchanged(a, b):
    return solutions.kronecker_as_level(a, b)[::-1]


@wrong("7.1", "B not transposed", says="B enters as it is")
def b_as_it_is(a, b):
    c, d = a.shape[1], b.shape[1]
    return b.reshape(d, -1).expand(c, d, len(b))[None, ..., None], solutions.kronecker_as_level(a, b)[1]


@wrong("7.1", "A not transposed", says="A enters as it is")
def a_as_it_is(a, b):
    c = a.shape[1]
    return solutions.kronecker_as_level(a, b)[0], a.reshape(c, -1).expand(len(b), c, len(a))[None, :, :, None]


@wrong("7.1", "one block filled", says="repeat it")
def one_block(a, b):
    right, left = (x.clone() for x in solutions.kronecker_as_level(a, b))
    right[:, 1:] = 0
    return right, left


@wrong("7.1", "copies averaged", says="the copies are averaged")
def averaged(a, b):
    right, left = solutions.kronecker_as_level(a, b)
    return right / a.shape[1], left


# 7.2


def but(family, change):
    return lambda name, sizes: change(sizes) if name == family else solutions.settings(name, sizes)


wrong("7.2", "rank as chunks", says="it is no number of chunks")(but("low rank", lambda z: [(1, z["rank"], 1, 1)]))
wrong("7.2", "l blocks at level l", says="level l has 2^(l-1) blocks, not l")(
    but("mlr", lambda z: [(n + 1, 1, 1, r) for n, r in enumerate(z["ranks"])])
)
wrong("7.2", "two blocks at the first level", says="one block, 2^0")(
    but("mlr", lambda z: [(2 ** (n + 1), 1, 1, r) for n, r in enumerate(z["ranks"])])
)
wrong("7.2", "as many outputs as inputs", says="d / blocks chunks")(
    but("monarch", lambda z: [(1, z["blocks"], z["blocks"], 1)])
)
wrong("7.2", "Monarch as block-diagonal", says="Monarch has one diagonal block")(
    but("monarch", lambda z: [(z["blocks"], 1, 1, 1)])
)
wrong("7.2", "sizes of chunks", says="a and d are their sizes")(
    but("btt", lambda z: [(1, z["in_factors"][1], z["out_factors"][0], z["rank"])])
)
wrong("7.2", "a level that is no list", says="one level is a list too")(but("low rank", lambda z: (1, 1, 1, z["rank"])))


# 7.3


def blocks(right, left):
    return torch.einsum("kbgsa,kgdbs->kabgd", left, right)


@wrong("7.3", "rows not interleaved", says="P_L is missing")
def no_p_left(right, left):
    return torch.block_diag(*blocks(right, left).transpose(1, 2).flatten(3, 4).flatten(1, 2))


@wrong("7.3", "columns interleaved", says="an input chunk is contiguous")
def columns(right, left):
    return torch.block_diag(*blocks(right, left).transpose(3, 4).flatten(3, 4).flatten(1, 2))


@wrong("7.3", "first number alone", says="only the first of the s numbers")
def first(right, left):
    return solutions.level_dense(right[..., :1], left[..., :1, :])


@wrong("7.3", "blocks mixed", says="the entries off them are zero")
def mixed(right, left):
    return torch.einsum("kbgsa,jgdbs->kabjgd", left, right).flatten(3, 5).flatten(0, 2)


@wrong("7.3", "blocks added", says="the p blocks are added up")
def added(right, left):
    return blocks(right, left).sum(0).flatten(2, 3).flatten(0, 1)


# 7.4


@wrong("7.4", "rank of the whole", says="ask each sub-block")
def whole(m, p, c, b, s):
    return rank_of(m) <= s


@wrong("7.4", "contiguous rows", says="every b-th row")
def stacked(m, p, c, b, s):
    return ranks_say(m, p, c, b, s, strided=False)


@wrong("7.4", "off the blocks ignored", says="off the diagonal blocks should be zero")
def ignored(m, p, c, b, s):
    return ranks_say(m, p, c, b, s, off=False)


@wrong("7.4", "first sub-block alone", says="only the first sub-block")
def first_only(m, p, c, b, s):
    return ranks_say(m, p, c, b, s, first=True)


@wrong("7.4", "rank below s", says="a rank of s itself is allowed")
def strict(m, p, c, b, s):
    return ranks_say(m, p, c, b, s, strict=True)


# 7.5


@wrong("7.5", "the inverse", says="this is the inverse")
def inverse(p, c, b, s):
    return torch.argsort(torch.tensor(solutions.shuffle(p, c, b, s)))


@wrong("7.5", "the identity", says="nothing is dealt out")
def identity(p, c, b, s):
    return list(range(p * c * b * s))


@wrong("7.5", "blocks mixed", says="k stays the first axis")
def across(p, c, b, s):
    return torch.arange(p * c * b * s).reshape(p, c, b, s).permute(2, 1, 0, 3).flatten()


@wrong("7.5", "numbers torn apart", says="stay together")
def torn(p, c, b, s):
    return torch.arange(p * c * b * s).reshape(p, c, b, s).permute(0, 2, 3, 1).flatten()


@wrong("7.5", "one block", says="indices, p c b s of them")
def one(p, c, b, s):
    return solutions.shuffle(1, c, b, s)
