"""Structured matrices: six families, one protocol. Each is a map y = M x with far fewer parameters than M has entries.

Every factor is drawn from N(0, 1 / fan_in), so that inputs of unit variance leave with unit variance (Kuang et al.
2025; Yang & Hu 2021). In the comments, a b = d_out and c d = d_in split the rows and columns, and s is a rank.
"""

from math import log2

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .checks import divides, dtype_and_shape_of, positive_int, positive_ints, require


class StructuredMatrix(nn.Module):
    """The protocol. `forward` multiplies by the factors alone; `to_dense` writes M itself, entry by entry, to compare
    with.

    Attributes: `d_out`, `d_in`; closed forms `num_params`, `macs` (multiply-accumulates for one vector), and `max_rank`
    (the rank of M for almost every choice of the factors).
    """

    def __init__(self, d_out: int, d_in: int):
        super().__init__()
        self.d_out, self.d_in = positive_int("d_out", d_out), positive_int("d_in", d_in)

    num_params: int
    max_rank: int

    @property
    def macs(self) -> int:
        """One multiply-accumulate a parameter, unless a family reuses its weights."""
        return self.num_params

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """y = M x for each vector along the last axis. Raises `ValueError` for another width than `d_in`."""
        is_inexact = isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())  # as the factors may be
        wanted = f"floating-point numbers with {self.d_in} features (d_in) along the last axis"
        require(is_inexact and x.shape[-1:] == (self.d_in,), f"x must be {wanted}, got {dtype_and_shape_of(x)}")
        return self.multiply(x)

    def multiply(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        raise NotImplementedError

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.d_out} x {self.d_in}, num_params={self.num_params}, macs={self.macs}, max_rank={self.max_rank}"


def gaussian(*shape: int, fan_in: int, dtype: torch.dtype | None = None, device=None) -> nn.Parameter:
    """A parameter of independent N(0, 1 / fan_in) entries."""
    return nn.Parameter(torch.randn(*shape, dtype=dtype, device=device) * fan_in**-0.5)


def clip_rms(weight: Float[Tensor, "..."], fan_in: int, fan_out: int) -> Float[Tensor, "..."]:
    """weight / max(1, RMS(weight) / sigma_0) with sigma_0 = sqrt(min(fan_in, fan_out)) / fan_in.

    Keeps a factor from growing beyond the size at which its spectral norm is of order sqrt(fan_out / fan_in); within
    that size it changes nothing. Source: Qiu et al. 2024; Kuang et al. 2025 apply it to each factor of BTT and MLR.
    """
    sigma_0 = min(fan_in, fan_out) ** 0.5 / fan_in
    return weight / (weight.square().mean().sqrt() / sigma_0).clamp(min=1)


class LowRank(StructuredMatrix):
    """M = U V^T with U (d_out, r) and V (d_in, r): the matrix that a standard attention head scores with."""

    def __init__(self, d_out: int, d_in: int, rank: int, *, dtype=None, device=None):
        super().__init__(d_out, d_in)
        self.rank = positive_int("rank", rank)
        self.left = gaussian(d_out, rank, fan_in=rank, dtype=dtype, device=device)  # U
        self.right = gaussian(d_in, rank, fan_in=d_in, dtype=dtype, device=device)  # V

    @property
    def num_params(self) -> int:
        return self.rank * (self.d_out + self.d_in)

    @property
    def max_rank(self) -> int:
        return min(self.rank, self.d_out, self.d_in)

    def multiply(self, x):
        return x @ self.right @ self.left.mT

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        return self.left @ self.right.mT


class Kronecker(StructuredMatrix):
    """M = A (x) B with A (a, c) and B (b, d): every block of M is the same B, scaled by an entry of A."""

    def __init__(self, out_factors: tuple[int, int], in_factors: tuple[int, int], *, dtype=None, device=None):
        a, b = positive_ints("out_factors", out_factors, 2)
        c, d = positive_ints("in_factors", in_factors, 2)
        super().__init__(a * b, c * d)
        self.left = gaussian(a, c, fan_in=c, dtype=dtype, device=device)  # A
        self.right = gaussian(b, d, fan_in=d, dtype=dtype, device=device)  # B

    @property
    def num_params(self) -> int:
        return self.left.numel() + self.right.numel()

    @property
    def macs(self) -> int:
        (_, c), (b, _) = self.left.shape, self.right.shape
        return c * self.right.numel() + b * self.left.numel()

    @property
    def max_rank(self) -> int:
        return min(self.left.shape) * min(self.right.shape)

    def multiply(self, x):
        c, d = self.left.shape[1], self.right.shape[1]
        grid = x.unflatten(-1, (c, d)) @ self.right.mT  # (..., c, b)
        return (self.left @ grid).flatten(-2)  # (..., a b)

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        return torch.kron(self.left, self.right)


def btt_multiply(
    x: Float[Tensor, "*batch d_in"], right: Float[Tensor, "heads c d b s"], left: Float[Tensor, "heads b c s a"]
) -> Float[Tensor, "*batch heads d_out"]:
    """Each vector through the two cores of each of `heads` BTT matrices: the equation of `BTT`, batched."""
    grid = x.unflatten(-1, right.shape[1:3])  # (..., c, d)
    inner = torch.einsum("...cd,hcdbs->...hbcs", grid, right)
    return torch.einsum("...hbcs,hbcsa->...hab", inner, left).flatten(-2)


class BTT(StructuredMatrix):
    """Block tensor-train: M = P_L blockdiag(L_1^T ... L_b^T) P_R blockdiag(R_1^T ... R_c^T).

    Entry by entry, M[(alpha, beta), (gamma, delta)] = sum_s L[beta, gamma, s, alpha] R[gamma, delta, beta, s]. The
    input is read as a (c, d) grid; R mixes within each row; a shuffle hands every output block s numbers from every
    row; L mixes those. The rank of M is at most b c s; where (a, b) = (c, d), s = 1 is enough for full rank.
    Source: Qiu et al. 2024; Kuang et al. 2025.
    """

    def __init__(
        self, out_factors: tuple[int, int], in_factors: tuple[int, int], rank: int = 1, *, dtype=None, device=None
    ):
        a, b = positive_ints("out_factors", out_factors, 2)
        c, d = positive_ints("in_factors", in_factors, 2)
        super().__init__(a * b, c * d)
        self.a, self.b, self.c, self.d = a, b, c, d
        self.rank = s = positive_int("rank", rank)
        self.right = gaussian(c, d, b, s, fan_in=d, dtype=dtype, device=device)
        self.left = gaussian(b, c, s, a, fan_in=c * s, dtype=dtype, device=device)

    @property
    def num_params(self) -> int:
        return self.rank * self.b * self.c * (self.a + self.d)

    @property
    def max_rank(self) -> int:
        a, b, c, d, s = self.a, self.b, self.c, self.d, self.rank
        return min(c * min(d, b * s), b * min(a, c * s))

    def multiply(self, x):
        return btt_multiply(x, self.right[None], self.left[None]).squeeze(-2)

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        return torch.einsum("bcsa,cdbs->abcd", self.left, self.right).reshape(self.d_out, self.d_in)


class Monarch(BTT):
    """M = P^T L P R with `blocks` dense blocks in R and d / `blocks` in L: BTT of rank 1 (Dao et al. 2022)."""

    def __init__(self, d: int, blocks: int, *, dtype=None, device=None):
        grid = (blocks, divides("blocks", blocks, "d", positive_int("d", d)))
        super().__init__(grid, grid, rank=1, dtype=dtype, device=device)


class Butterfly(StructuredMatrix):
    """M = B_log2(d) ... B_1: factor k mixes the pairs of entries 2^(k-1) apart, as the fast Fourier transform does."""

    def __init__(self, d: int, *, dtype=None, device=None):
        is_power = positive_int("d", d) >= 2 and d & (d - 1) == 0
        require(is_power, f"d must be a power of two and at least 2, got {d}")
        super().__init__(d, d)
        self.twiddle = gaussian(int(log2(d)), d // 2, 2, 2, fan_in=2, dtype=dtype, device=device)

    @property
    def num_params(self) -> int:
        return 2 * self.d_in * int(log2(self.d_in))

    @property
    def max_rank(self) -> int:
        return self.d_in

    def multiply(self, x):
        for k, mixers in enumerate(self.twiddle):
            pairs = x.unflatten(-1, (-1, 2, 2**k))  # (..., n, 2, stride)
            x = torch.einsum("nhij,...njh->...nih", mixers.unflatten(0, (-1, 2**k)), pairs).flatten(-3)
        return x

    def factor(self, k: int) -> Float[Tensor, "d d"]:
        """B_(k+1) as a dense matrix: its (n, h)-th 2 x 2 mixer joins the entries n 2^(k+1) + h and 2^k beyond it."""
        dense = self.twiddle.new_zeros(self.d_in, self.d_in)
        first = torch.arange(self.d_in, device=dense.device).unflatten(0, (-1, 2, 2**k))[:, 0].flatten()
        for i in range(2):
            for j in range(2):
                dense[first + i * 2**k, first + j * 2**k] = self.twiddle[k, :, i, j]
        return dense

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        product = self.factor(0)
        for k in range(1, len(self.twiddle)):
            product = self.factor(k) @ product
        return product


class MLR(StructuredMatrix):
    """Multi-level low rank: M = sum_l blockdiag_k(U_lk V_lk^T), with 2^(l-1) diagonal blocks of rank r_l at level l.

    Coarse levels reach everywhere at low rank; fine ones add rank near the diagonal. Source: Parshakova et al. 2023.
    """

    def __init__(self, d_out: int, d_in: int, ranks: tuple[int, ...], *, dtype=None, device=None):
        super().__init__(d_out, d_in)
        self.ranks = positive_ints("ranks", ranks)
        self.blocks = [2**level for level in range(len(self.ranks))]
        for name, size in (("d_out", d_out), ("d_in", d_in)):
            divides("2^(levels-1)", self.blocks[-1], name, size)
        self.left, self.right = nn.ParameterList(), nn.ParameterList()
        fan_in = sum(self.ranks)  # of an output, over all levels, whose outputs add
        for p, r in zip(self.blocks, self.ranks, strict=True):
            rows, columns = d_out // p, d_in // p
            self.left.append(gaussian(p, rows, r, fan_in=fan_in, dtype=dtype, device=device))
            self.right.append(gaussian(p, columns, r, fan_in=columns, dtype=dtype, device=device))

    @property
    def num_params(self) -> int:
        return sum(self.ranks) * (self.d_out + self.d_in)

    @property
    def max_rank(self) -> int:
        return min(self.d_out, self.d_in, sum(p * r for p, r in zip(self.blocks, self.ranks, strict=True)))

    def multiply(self, x):
        def level(left, right):
            inner = torch.einsum("...pd,pdr->...pr", x.unflatten(-1, right.shape[:2]), right)
            return torch.einsum("...pr,pdr->...pd", inner, left).flatten(-2)

        return sum(level(left, right) for left, right in zip(self.left, self.right, strict=True))

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        levels = ((left @ right.mT).unbind() for left, right in zip(self.left, self.right, strict=True))
        return sum(torch.block_diag(*blocks) for blocks in levels)
