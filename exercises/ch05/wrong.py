"""Chapter 5's planted wrong answers."""

import math

import torch

from ..wrong import wrong
from .solutions import apply_btt, nearest_btt
from .solutions import cheapest_grid as cheapest
from .solutions import scoring_bill as bill
from .solutions import shuffle_order as order

# 5.1


@wrong("5.1", "not shuffled back", says="the last shuffle is missing")
def not_back(x, right, left):
    z = torch.einsum("ncd,cdbs->nbcs", x.unflatten(-1, right.shape[:2]), right)
    return torch.einsum("nbcs,bcsa->nba", z, left).flatten(-2)


@wrong("5.1", "no shuffle in the middle", says="the shuffle between the two products is missing")
def no_shuffle(x, right, left):
    c, d, b, s = right.shape
    z = x.reshape(-1, c, 1, d) @ right.reshape(c, d, b * s)
    return torch.einsum("nbk,bka->nab", z.reshape(-1, b, c * s), left.flatten(1, 2)).flatten(-2)


@wrong("5.1", "input read by columns", says="x is read by columns")
def by_columns(x, right, left):
    c, d = right.shape[:2]
    return apply_btt(x.reshape(-1, d, c).mT.reshape(-1, c * d), right, left)


@wrong("5.1", "b and s exchanged", says="b and s of the right core are exchanged")
def b_and_s(x, right, left):
    c, d, b, s = right.shape
    return apply_btt(x, right.reshape(c, d, s, b).transpose(2, 3), left)


@wrong("5.1", "first term alone", says="only the first of the s terms")
def first_term(x, right, left):
    return apply_btt(x, right[..., :1], left[:, :, :1])


# 5.2


@wrong("5.2", "inverse", says="where each number goes")
def inverse(b, c, s):
    return torch.tensor(order(b, c, s)).argsort().tolist()


@wrong("5.2", "groups torn apart", says="the s numbers of a group stay together")
def torn(b, c, s):
    return torch.arange(b * c * s).reshape(c, b * s).T.flatten().tolist()


@wrong("5.2", "counted from 1", says="the counting starts at 1")
def from_one(b, c, s):
    return [place + 1 for place in order(b, c, s)]


@wrong("5.2", "groups alone", says="this orders the groups")
def groups(b, c, s):
    return order(b, c, 1)


@wrong("5.2", "identity", says="nothing changes place")
def identity(b, c, s):
    return list(range(b * c * s))


@wrong("5.2", "permutation matrix", says="should be a list of whole numbers")
def permutation_matrix(b, c, s):
    return torch.eye(b * c * s)[order(b, c, s)]


# 5.3


def divisors(n):
    return [i for i in range(1, n + 1) if n % i == 0]


@wrong("5.3", "first divisor strictly above the root", says="strictly greater than the root is one too far")
def strictly_above(width):
    c = min(i for i in divisors(width) if i > width**0.5)
    return width // c, c, width * (c + width // c)


@wrong("5.3", "the root, rounded", says="rounded, need not divide it")
def rounded_root(width):
    root = math.isqrt(width)
    return cheapest(width) if width % root == 0 else (root, root, 2 * width * root)


@wrong("5.3", "b = c without regard to rank", says="full rank at s = 1 needs b c >= D")
def without_rank(width):
    b = max(i for i in divisors(width) if i * i <= width)
    return b, b, 2 * width * b


@wrong("5.3", "low rank", says="full rank at s = 1 needs b c >= D")
def low_rank(width):
    return 1, 1, 2 * width


@wrong("5.3", "dense", says="one core is a dense matrix")
def dense(width):
    return 1, width, width * (1 + width)


@wrong("5.3", "2 D^1.5 for every D", says="right only where D is a square")
def rounded(width):
    b, c, _ = cheapest(width)
    return b, c, round(2 * width**1.5)


@wrong("5.3", "larger first", says="in the wrong order")
def larger_first(width):
    b, c, parameters = cheapest(width)
    return c, b, parameters


@wrong("5.3", "product in place of sum", says="D b c")
def product(width):
    b, c, _ = cheapest(width)
    return b, c, width * b * c


# 5.4


def block_ranks(m, out_factors, in_factors):
    (a, b), (c, d) = out_factors, in_factors
    return torch.linalg.matrix_rank(m.reshape(a, b, c, d).permute(1, 2, 0, 3))


@wrong("5.4", "neighbouring rows", says="the rows of a block are b apart")
def neighbouring_rows(m, out_factors, in_factors):
    (a, b), (c, d) = out_factors, in_factors
    return int(torch.linalg.matrix_rank(m.reshape(b, a, c, d).transpose(1, 2)).max())


@wrong("5.4", "a block for each alpha", says="a block belongs to beta and gamma")
def blocks_of_alpha(m, out_factors, in_factors):
    (a, b), (c, d) = out_factors, in_factors
    return int(torch.linalg.matrix_rank(m.reshape(a, b, c, d).transpose(1, 2)).max())


@wrong("5.4", "strided columns", says="the columns of a block are neighbours")
def strided_columns(m, out_factors, in_factors):
    (a, b), (c, d) = out_factors, in_factors
    return int(torch.linalg.matrix_rank(m.reshape(a, b, d, c).permute(1, 3, 0, 2)).max())


@wrong("5.4", "rank of M", says="the rank of M itself")
def of_m(m, out_factors, in_factors):
    return int(torch.linalg.matrix_rank(m))


@wrong("5.4", "smallest block rank", says="smallest rank of a block")
def smallest(m, out_factors, in_factors):
    return int(block_ranks(m, out_factors, in_factors).min())


@wrong("5.4", "first block", says="rank of the first block")
def first_block(m, out_factors, in_factors):
    return int(block_ranks(m, out_factors, in_factors)[0, 0])


@wrong("5.4", "plain tensor train", says="plain tensor train")
def tensor_train(m, out_factors, in_factors):
    (a, b), (c, d) = out_factors, in_factors
    return int(torch.linalg.matrix_rank(m.reshape(a, b, c, d).transpose(1, 2).reshape(a * c, b * d)))


# 5.5


def cut(blocks, rank):
    u, sigma, vh = torch.linalg.svd(blocks, full_matrices=False)
    return u[..., :rank] * sigma[..., None, :rank] @ vh[..., :rank, :]


def blocks_of(m, out_factors, in_factors):
    return m.reshape(*out_factors, *in_factors).permute(1, 2, 0, 3)


@wrong("5.5", "neighbouring rows", says="the rows of a block are b apart")
def rows_together(m, out_factors, in_factors, rank):
    (a, b), (c, d) = out_factors, in_factors
    return cut(m.reshape(b, a, c, d).transpose(1, 2), rank).transpose(1, 2).reshape(m.shape)


@wrong("5.5", "whole matrix cut", says="the whole matrix is cut")
def whole(m, out_factors, in_factors, rank):
    return cut(m, rank)


@wrong("5.5", "blocks left in a row", says="not put back where they came from")
def not_put_back(m, out_factors, in_factors, rank):
    return cut(blocks_of(m, out_factors, in_factors), rank).reshape(m.shape)


@wrong("5.5", "rows left sorted", says="the rows are left sorted by block")
def sorted_rows(m, out_factors, in_factors, rank):
    return cut(blocks_of(m, out_factors, in_factors), rank).transpose(1, 2).reshape(m.shape)


@wrong("5.5", "smallest kept", says="the smallest singular values are kept")
def smallest_kept(m, out_factors, in_factors, rank):
    u, sigma, vh = torch.linalg.svd(blocks_of(m, out_factors, in_factors), full_matrices=False)
    blocks = u[..., -rank:] * sigma[..., None, -rank:] @ vh[..., -rank:, :]
    return blocks.permute(2, 0, 1, 3).reshape(m.shape)


@wrong("5.5", "one too many", says="one singular value too many")
def one_more(m, out_factors, in_factors, rank):
    return nearest_btt(m, out_factors, in_factors, rank + 1)


# 5.6


def changed(given, kind, place, value):
    numbers = list(bill(*given)[kind])
    numbers[place] = value
    return bill(*given) | {kind: tuple(numbers)}


@wrong("5.6", "scores of BTT as cheap as standard ones", says="over all D features")
def cheap_scores(*given):
    width, _, seq_len, _ = given
    return changed(given, "btt", 1, seq_len**2 * width)


@wrong("5.6", "a key for each head", says="the key is x itself, one for all heads")
def key_for_each_head(*given):
    width, heads, seq_len, _ = given
    return changed(given, "btt", 2, seq_len * heads * width)


@wrong("5.6", "one BTT", says="this is one head; count them all")
def one_head(*given):
    width, _, _, rank = given
    return changed(given, "btt", 0, 2 * rank * width * math.isqrt(width))


@wrong("5.6", "standard heads as wide as the model", says="runs over r = D / H features")
def wide_heads(*given):
    width, heads, seq_len, _ = given
    return changed(given, "standard", 1, heads * seq_len**2 * width)


@wrong("5.6", "half of the scores", says="both halves of the T x T scores")
def causal_half(*given):
    width, heads, seq_len, _ = given
    return changed(given, "btt", 1, heads * width * seq_len * (seq_len + 1) // 2)


@wrong("5.6", "s counted twice", says="the rank s counts once in either core")
def rank_twice(*given):
    width, heads, _, rank = given
    return changed(given, "btt", 0, heads * 2 * rank**2 * width * math.isqrt(width))


@wrong("5.6", "values cached too", says="values are not asked for")
def with_values(*given):
    width, _, seq_len, _ = given
    return changed(given, "standard", 2, 2 * seq_len * width)
