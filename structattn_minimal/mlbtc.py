"""MLBTC, multi-level block tensor contraction: the one family that holds the others (Kuang et al. 2025).

    M = sum_l P_L,l blockdiag(L_l,1 ...) P_R,l blockdiag(R_l,1 ...)                                                  (2)

A `Level` fixes the shapes of its blocks, and with them both permutations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .checks import divides, positive_int, require
from .matrices import BTT, MLR, Butterfly, Kronecker, LowRank, StructuredMatrix, gaussian


@dataclass(frozen=True)
class Level:
    """One term of equation (2): `blocks` diagonal blocks, each of which reads its features in `inputs` chunks, writes
    them in `outputs` chunks, and carries `rank` numbers from every input chunk to every output chunk.

    `Level(rank=r)` is low rank; `Level(blocks=p, rank=r)` is a level of MLR; `Level(inputs=c, outputs=b, rank=s)` is
    BTT.
    """

    blocks: int = 1
    inputs: int = 1
    outputs: int = 1
    rank: int = 1

    def __post_init__(self):
        for name in ("blocks", "inputs", "outputs", "rank"):
            positive_int(f"Level.{name}", getattr(self, name))


class MLBTC(StructuredMatrix):
    """The matrix of equation (2), (d_out, d_in), with one or more `Level`s.

    Shapes of a level's factors, with p, c, b, s its blocks, inputs, outputs, rank, and a = d_out / (p b), d = d_in /
    (p c): `right[l]` (p, c, d, b, s) and `left[l]` (p, b, c, s, a). Raises `ValueError` where a level does not divide
    d_out or d_in.
    """

    def __init__(self, d_out: int, d_in: int, levels: Sequence[Level], *, dtype=None, device=None):
        super().__init__(d_out, d_in)
        is_sequence = isinstance(levels, Sequence) and len(levels) > 0
        of_levels = is_sequence and all(isinstance(level, Level) for level in levels)
        require(of_levels, f"levels must be a non-empty sequence of Level, got {levels!r}")
        for level in levels:
            divides("Level.blocks * Level.outputs", level.blocks * level.outputs, "d_out", d_out)
            divides("Level.blocks * Level.inputs", level.blocks * level.inputs, "d_in", d_in)
        self.levels = tuple(levels)
        fan_in = sum(level.inputs * level.rank for level in levels)  # of an output, over all levels, whose outputs add
        self.right, self.left = nn.ParameterList(), nn.ParameterList()
        for level in levels:
            p, c, b, s = level.blocks, level.inputs, level.outputs, level.rank
            a, d = d_out // (p * b), d_in // (p * c)
            self.right.append(gaussian(p, c, d, b, s, fan_in=d, dtype=dtype, device=device))
            self.left.append(gaussian(p, b, c, s, a, fan_in=fan_in, dtype=dtype, device=device))

    @property
    def num_params(self) -> int:
        return sum(l.rank * (l.outputs * self.d_in + l.inputs * self.d_out) for l in self.levels)

    @property
    def max_rank(self) -> int:
        return min(self.d_out, self.d_in, sum(self._level_rank(level) for level in self.levels))

    def _level_rank(self, level: Level) -> int:
        p, c, b, s = level.blocks, level.inputs, level.outputs, level.rank
        a, d = self.d_out // (p * b), self.d_in // (p * c)
        return p * min(c * min(d, b * s), b * min(a, c * s))

    def multiply(self, x):
        def contract(right, left):
            grid = x.unflatten(-1, right.shape[:3])  # (..., p, c, d)
            inner = torch.einsum("...pcd,pcdbs->...pbcs", grid, right)
            return torch.einsum("...pbcs,pbcsa->...pab", inner, left).flatten(-3)

        return sum(contract(right, left) for right, left in zip(self.right, self.left, strict=True))

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        """Equation (2) to the letter: permutation matrices between block-diagonal ones."""
        return sum(_dense_level(right, left) for right, left in zip(self.right, self.left, strict=True))


def _dense_level(right, left):
    p, c, d, b, s = right.shape
    a = left.shape[-1]
    blockdiag_r = torch.block_diag(*right.reshape(p * c, d, b * s).mT)  # (p c b s, p c d)
    blockdiag_l = torch.block_diag(*left.reshape(p * b, c * s, a).mT)  # (p b a, p b c s)
    shuffle_r = _permutation((p, c, b, s), (0, 2, 1, 3), like=right)  # hands each output chunk its numbers
    shuffle_l = _permutation((p, b, a), (0, 2, 1), like=right)  # interleaves the output chunks
    return shuffle_l @ blockdiag_l @ shuffle_r @ blockdiag_r


def _permutation(shape: tuple[int, ...], order: tuple[int, ...], like: Tensor):
    """The matrix that reads a vector as a grid of `shape` and writes its axes in `order`."""
    index = torch.arange(torch.Size(shape).numel(), device=like.device).reshape(shape).permute(order).flatten()
    return torch.eye(len(index), dtype=like.dtype, device=like.device)[index]


def _with_factors(d_out: int, d_in: int, levels: Sequence[Level], rights, lefts) -> MLBTC:
    family = MLBTC(d_out, d_in, levels, dtype=rights[0].dtype, device=rights[0].device)
    with torch.no_grad():
        for mine, given in zip([*family.right, *family.left], [*rights, *lefts], strict=True):
            mine.copy_(given.reshape(mine.shape))
    return family


@singledispatch
def as_mlbtc(matrix: StructuredMatrix) -> MLBTC:
    """The same matrix as a member of the family, with the same numbers. For a `Butterfly`: `butterfly_factors`."""
    raise ValueError(f"matrix must be LowRank, Kronecker, BTT, Monarch or MLR, got {type(matrix).__name__}")


@as_mlbtc.register
def _(matrix: LowRank) -> MLBTC:
    return _with_factors(matrix.d_out, matrix.d_in, [Level(rank=matrix.rank)], [matrix.right], [matrix.left.mT])


@as_mlbtc.register
def _(matrix: Kronecker) -> MLBTC:
    (a, c), (b, d) = matrix.left.shape, matrix.right.shape
    right = matrix.right.mT.expand(c, d, b)  # every chunk meets the same B
    left = matrix.left.mT.expand(b, c, a)  # and every output the same A
    return _with_factors(matrix.d_out, matrix.d_in, [Level(inputs=c, outputs=b)], [right], [left])


@as_mlbtc.register
def _(matrix: BTT) -> MLBTC:
    level = Level(inputs=matrix.c, outputs=matrix.b, rank=matrix.rank)
    return _with_factors(matrix.d_out, matrix.d_in, [level], [matrix.right], [matrix.left])


@as_mlbtc.register
def _(matrix: MLR) -> MLBTC:
    levels = [Level(blocks=p, rank=r) for p, r in zip(matrix.blocks, matrix.ranks, strict=True)]
    return _with_factors(matrix.d_out, matrix.d_in, levels, matrix.right, [left.mT for left in matrix.left])


def butterfly_factors(matrix: Butterfly) -> list[MLBTC]:
    """B_1, ..., B_log2(d), one member of the family each; their product, last factor leftmost, is the butterfly."""
    require(isinstance(matrix, Butterfly), f"matrix must be a Butterfly, got {type(matrix).__name__}")
    d = matrix.d_in

    def factor(k: int) -> MLBTC:
        stride, blocks = 2**k, d >> (k + 1)
        right = torch.eye(stride).to(matrix.twiddle).expand(blocks, 2, stride, stride)  # hand each entry over as it is
        left = matrix.twiddle[k].unflatten(0, (blocks, stride)).mT  # (blocks, stride, 2 in, 2 out)
        return _with_factors(d, d, [Level(blocks=blocks, inputs=2, outputs=stride)], [right], [left])

    return [factor(k) for k in range(len(matrix.twiddle))]
