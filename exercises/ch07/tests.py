# ruff: noqa: E501 (tables of near misses)
"""Chapter 7's tests. Each function tries one random case against a specification that is not the solution's way."""

from itertools import product

import torch
from torch import Tensor

from ..case import Case, Mistake, coarsest
from ..registry import exercise


def dense(right: Tensor, left: Tensor) -> Tensor:
    """One level, entry by entry."""
    p, c, d, b, s = right.shape
    a = left.shape[-1]
    m = torch.zeros(p * a * b, p * c * d, dtype=torch.float64)
    for k, alpha, beta, gamma, delta in product(*map(range, (p, a, b, c, d))):
        sent = sum(left[k, beta, gamma, i, alpha].double() * right[k, gamma, delta, beta, i].double() for i in range(s))
        m[(k * a + alpha) * b + beta, (k * c + gamma) * d + delta] = sent
    return m


@exercise("7.1", "kronecker_as_level", cases=8)
def kronecker_as_level(answer, case: Case) -> None:
    if case.turn(2):
        a, b, c, d = case.different(4, 2, 6)
    else:
        a = b = c = d = case.integer(2, 4)  # a reshape has the right shape here, and the wrong numbers
    A, B = case.normal(a, c), case.normal(b, d)
    got = answer(A, B)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Mistake("the answer should be a pair: right, left")
    right, left = (1, c, d, b, 1), (1, b, c, 1, a)
    shapes = tuple(tuple(one.shape) if isinstance(one, Tensor) else None for one in got)
    if shapes != (right, left) and shapes == (left, right):
        raise Mistake(f"right should have shape {right}, and has {left}", "right and left are exchanged")
    R, L = case.tensor(got[0], right, "right factor"), case.tensor(got[1], left, "left factor")
    dtype = coarsest(*got)
    if a == b and case.close(L[0, 0, :, 0].T, B.double(), dtype) and case.close(R[0, 0, :, :, 0].T, A.double(), dtype):
        raise Mistake("the product is B (x) A", "A and B are exchanged: A belongs to left, B to right")
    for one, what in ((R[0, ..., 0], "right"), (L[0, :, :, 0], "left")):
        if len(one) > 1 and float(one[1:].abs().max()) == 0:
            raise Mistake(
                f"only the first block of {what} holds numbers", "every chunk meets the same block: repeat it"
            )
    want = torch.stack([torch.cat([x * B.double() for x in row], dim=1) for row in A.double()]).flatten(0, 1)
    case.same(
        dense(R, L),
        want,
        {
            "B enters as it is: right holds it transposed, features first": lambda: dense(
                B.reshape(d, b).expand(c, d, b)[None, ..., None], L
            ),
            "A enters as it is: left holds it transposed, input chunk first": lambda: dense(
                R, A.reshape(c, a).expand(b, c, a)[None, :, :, None]
            ),
            "the copies are averaged: each entry of M uses one of them, so that nothing is divided": lambda: want / c,
        },
        what="product of your level",
        loose=5,
        dtype=dtype,
    )


@exercise("7.2", "settings")
def settings(answer, case: Case) -> None:
    a, b, c, d = case.different(4, 2, 9)
    rank, blocks = case.integer(3, 6), case.choice(2, 4)
    ranks = [case.integer(1, 9) for _ in range(case.integer(3, 5))]
    wide = blocks * case.choice(5, 6, 7)
    cases = [
        ("low rank", {"d_out": 24, "d_in": 30, "rank": rank}, [(1, 1, 1, rank)],
         {"the rank is the fourth dial: it is no number of chunks": [[(1, rank, 1, 1)], [(1, 1, rank, 1)], [(1, rank, rank, 1)], [(rank, 1, 1, 1)]]}),
        ("mlr", {"d_out": 64, "d_in": 64, "ranks": ranks}, [(2**n, 1, 1, r) for n, r in enumerate(ranks)],
         {"level l has 2^(l-1) blocks, not l": [[(n + 1, 1, 1, r) for n, r in enumerate(ranks)]],
          "the first level has one block, 2^0": [[(2 ** (n + 1), 1, 1, r) for n, r in enumerate(ranks)]],
          "the first rank belongs to the coarsest level": [[(2**n, 1, 1, r) for n, r in enumerate(ranks)][::-1], [(2**n, 1, 1, r) for n, r in enumerate(ranks[::-1])]]}),
        ("monarch", {"d": wide, "blocks": blocks}, [(1, blocks, wide // blocks, 1)],
         {"the outputs come in d / blocks chunks": [[(1, blocks, blocks, 1)]],
          "Monarch has one diagonal block; its blocks are those of the factor R, the input chunks": [[(blocks, 1, 1, 1)], [(blocks, 1, 1, wide // blocks)]],
          "inputs and outputs are exchanged": [[(1, wide // blocks, blocks, 1)]]}),
        ("btt", {"out_factors": (a, b), "in_factors": (c, d), "rank": rank}, [(1, c, b, rank)],
         {"inputs and outputs are exchanged": [[(1, b, c, rank)]],
          "the chunks are c of the inputs and b of the outputs; a and d are their sizes": [[(1, d, a, rank)], [(1, c, a, rank)], [(1, d, b, rank)]]}),
        ("kronecker", {"out_factors": (a, b), "in_factors": (c, d)}, [(1, c, b, 1)],
         {"inputs and outputs are exchanged": [[(1, b, c, 1)]],
          "the chunks are c of the inputs and b of the outputs; a and d are their sizes": [[(1, d, a, 1)], [(1, c, a, 1)], [(1, d, b, 1)]]}),
    ]  # fmt: skip
    for family, sizes, want, near in cases:
        got = answer(family, sizes)
        levels = isinstance(got, list | tuple) and all(
            isinstance(level, list | tuple) and len(level) == 4 for level in got
        )
        if not levels or not got:
            raise Mistake(
                f"the answer for {family} {sizes} should be a list of levels of four whole numbers, and is {got!r:.60}",
                "one level is a list too: [(...)]" if isinstance(got, tuple) and len(got) == 4 else None,
            )
        found = [tuple(level) for level in got]
        if found != want:
            likely = next((hint for hint, wrongs in near.items() if found in wrongs), None)
            raise Mistake(f"the levels of {family} {sizes} are {want}, and yours {found}", likely)


@exercise("7.3", "level_dense", cases=8)
def level_dense(answer, case: Case) -> None:
    p, s = case.integer(2, 3), case.integer(2, 3)
    a, b, c, d = case.different(4, 2, 5)
    right, left = case.normal(p, c, d, b, s), case.normal(p, b, c, s, a)
    blocks = torch.einsum("kbgsa,kgdbs->kabgd", left, right)
    want = dense(right, left)
    case.same(
        answer(right, left),
        want,
        {
            "P_L is missing: the rows of an output chunk are interleaved, every b-th row": lambda: torch.block_diag(
                *blocks.transpose(1, 2).flatten(3, 4).flatten(1, 2)
            ),
            "the columns are interleaved; an input chunk is contiguous": lambda: torch.block_diag(
                *blocks.transpose(3, 4).flatten(3, 4).flatten(1, 2)
            ),
            "only the first of the s numbers is used": lambda: dense(right[..., :1], left[..., :1, :]),
            "nothing passes between the diagonal blocks: the entries off them are zero": lambda: torch.einsum(
                "kbgsa,jgdbs->kabjgd", left, right
            ).reshape(p * a * b, p * c * d),
            "the p blocks are added up; they stand along the diagonal": lambda: (
                blocks.sum(0).flatten(2, 3).flatten(0, 1)
            ),
        },
        loose=5,
    )


def rank_of(m: Tensor) -> int:
    return int(torch.linalg.matrix_rank(m.double(), atol=1e-3))


def ranks_say(m, p, c, b, s, *, strided=True, contiguous=True, off=True, first=False, strict=False) -> bool:
    """The test by ranks, or one of its mistaken relatives."""
    rows, columns = m.shape[0] // p, m.shape[1] // p
    found = True
    for k in range(p):
        mine = m[k * rows : (k + 1) * rows]
        block = mine[:, k * columns : (k + 1) * columns]
        found &= not off or float(mine.norm() ** 2 - block.norm() ** 2) < 1e-3
        outputs = [block[beta::b] for beta in range(b)] if strided else block.chunk(b)
        every = [
            part
            for out in outputs
            for part in ([out[:, i::c] for i in range(c)] if not contiguous else out.chunk(c, 1))
        ]
        found &= all(rank_of(part) <= s - strict for part in (every[:1] if first else every))
    return found


@exercise("7.4", "is_level", cases=6)
def is_level(answer, case: Case) -> None:
    p, c, b, s, a, d = 2, 3, 2, case.integer(1, 2), 4, 5
    member = dense(case.normal(p, c, d, b, s), case.normal(p, b, c, s, a))
    more = dense(case.normal(p, c, d, b, s + 1), case.normal(p, b, c, s + 1, a))
    one = member.clone()
    rows, columns = slice(p * a * b - a * b + 1, None, b), slice(-d, None)  # the last sub-block
    one[rows, columns] = more[rows, columns]
    outside = member.clone()
    outside[0, -1] = 1.0
    stacked = member.reshape(p, a, b, -1).transpose(1, 2).reshape(member.shape)
    dealt = member.reshape(-1, p, c, d).transpose(2, 3).reshape(member.shape)
    low = dense(case.normal(1, 1, p * c * d, 1, s), case.normal(1, 1, 1, s, p * a * b))
    battery = [
        (member, "a level"), (one, "a level but for its last sub-block, of rank s + 1"),
        (outside, "a level but for one entry off the diagonal blocks"), (stacked, "a level with the rows of each output chunk together"),
        (dealt, "a level with interleaved columns"), (low, "a matrix of rank s, not block-diagonal"), (more, "a level of rank s + 1"),
    ]  # fmt: skip
    want = [ranks_say(m, p, c, b, s) for m, _ in battery]
    got = []
    for m, _ in battery:
        value = answer(m.to(case.dtype), p, c, b, s)
        value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if not isinstance(value, bool):
            raise Mistake(f"the answer should be True or False, and is {value!r:.40}")
        got.append(value)
    relatives = {
        "the rows of an output chunk are interleaved, every b-th row": {"strided": False},
        "the columns of an input chunk stand together": {"contiguous": False},
        "what lies off the diagonal blocks should be zero": {"off": False},
        "only the first sub-block is looked at": {"first": True},
        "a rank of s itself is allowed": {"strict": True},
    }
    if got == [rank_of(m) <= s for m, _ in battery]:
        raise Mistake("a level is refused", "the rank of the whole matrix says little: ask each sub-block")
    for (_, what), mine, right in zip(battery, got, want, strict=True):
        if mine != right:
            near = (
                hint for hint, change in relatives.items()
                if got == [ranks_say(m, p, c, b, s, **change) for m, _ in battery]
            )  # fmt: skip
            raise Mistake(
                f"with p, c, b, s = {p, c, b, s}, the answer for {what} is {mine}, and should be {right}",
                next(near, None),
            )


@exercise("7.5", "shuffle")
def shuffle(answer, case: Case) -> None:
    c, b, s = case.different(3, 2, 6)
    p = case.integer(2, 3)
    got = answer(p, c, b, s)
    if isinstance(got, Tensor):
        got = got.tolist()
    n = p * c * b * s
    if not isinstance(got, list | tuple) or len(got) != n:
        raise Mistake(f"the answer should be {n} indices, p c b s of them, and is {got!r:.40}")
    before = {place: i for i, place in enumerate(product(range(p), range(c), range(b), range(s)))}
    want = [before[k, gamma, beta, sigma] for k, beta, gamma, sigma in product(*map(range, (p, b, c, s)))]
    inverse = sorted(range(n), key=want.__getitem__)
    near = {
        "this is the inverse: index[i] should say where number i comes from": inverse,
        "nothing is dealt out: this is the identity": list(range(n)),
        "numbers pass between the diagonal blocks: k stays the first axis": [
            before[k, gamma, beta, sigma] for beta, gamma, k, sigma in product(*map(range, (b, c, p, s)))
        ],
        "the s numbers for one output chunk stay together": [
            before[k, gamma, beta, sigma] for k, beta, sigma, gamma in product(*map(range, (p, b, s, c)))
        ],
    }
    if list(got) != want:
        at = next(i for i in range(n) if got[i] != want[i])
        likely = next((hint for hint, wrong in near.items() if list(got) == wrong), None)
        raise Mistake(f"your index[{at}] is {got[at]}, and should be {want[at]}, for p, c, b, s = {p, c, b, s}", likely)
