"""Block hierarchies: a sequence cut into blocks, level by level, each level's blocks inside the blocks of the one
before.

Level 1 is one block that holds all tokens. Two positions *share* a level if they lie in the same block of it, and since
blocks nest, a pair that shares level l shares every coarser level too: how many levels it shares says all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from .checks import positive_int, positive_ints, require


def halving_block_sizes(seq_len: int, n_levels: int, name: str = "seq_len") -> tuple[int, ...]:
    """The paper's hierarchy: 2^(l-1) blocks of `seq_len` / 2^(l-1) tokens at level l (Kuang et al. 2025).

    `name` is what an error calls the length.
    """
    positive_int(name, seq_len)
    finest = 2 ** (positive_int("n_levels", n_levels) - 1)
    if seq_len % finest:
        raise ValueError(f"{name} must be a multiple of 2^(levels-1) = {finest}, got {seq_len}")
    return tuple(seq_len >> level for level in range(n_levels))


def check_block_sizes(block_sizes: Sequence[int], seq_len: int, n_levels: int | None = None) -> tuple[int, ...]:
    """`block_sizes` if they nest, coarse to fine, and the first covers the sequence; the last block may be ragged."""
    sizes = positive_ints("block_sizes", block_sizes, n_levels)
    if sizes[0] < seq_len:
        raise ValueError(f"block_sizes[0] must be at least the sequence length {seq_len}, got {sizes[0]}")
    for coarse, fine in pairwise(sizes):
        require(coarse % fine == 0, f"block_sizes must nest: each must divide the one before, got {sizes}")
    return sizes


def same_block(
    q_pos: Int[Tensor, "*batch queries"], k_pos: Int[Tensor, "*batch keys"], block_size: int
) -> Bool[Tensor, "*batch queries keys"]:
    """Whether each query shares its block of `block_size` tokens with each key."""
    return (q_pos // block_size)[..., :, None] == (k_pos // block_size)[..., None, :]


def shared_levels(seq_len: int, block_sizes: Sequence[int]) -> Int[Tensor, "seq seq"]:
    """How many levels each pair of positions shares: 1 for far pairs, all levels for near ones.

    block_sizes: tokens in a block of each level, coarse to fine. Raises `ValueError` unless they nest and the first
    covers the sequence.
    """
    sizes = check_block_sizes(block_sizes, positive_int("seq_len", seq_len))
    position = torch.arange(seq_len)
    return torch.stack([same_block(position, position, size) for size in sizes]).sum(0)


@dataclass(frozen=True)
class Segment:
    """Keys `start:stop` as a tile of queries meets them.

    Every pair shares the first `shared` levels and none beyond `deepest`; in between, sharing differs from pair to
    pair.
    """

    start: int
    stop: int
    shared: int
    deepest: int


@dataclass(frozen=True)
class Tile:
    """Queries `start:stop`, and the segments that make up the keys they see, from left to right without a gap."""

    start: int
    stop: int
    segments: tuple[Segment, ...]

    @property
    def keys(self) -> slice:
        return slice(self.segments[0].start, self.segments[-1].stop)


def tiles(seq_len: int, block_sizes: tuple[int, ...], causal: bool, tile_size: int) -> list[Tile]:
    """Cut the queries into tiles of at most `tile_size`, each within one block of its `home` level.

    Home is the coarsest level whose blocks fit into a tile (else the finest): levels finer than that would make
    slivers, so they are left to a mask inside the home block. Around it, the pairs that share exactly l levels form
    rectangles.
    """
    home = next((level for level, size in enumerate(block_sizes, 1) if size <= tile_size), len(block_sizes))
    home_size = block_sizes[home - 1]
    return [
        Tile(start, stop, tuple(_segments(start, stop, seq_len, block_sizes, home, causal)))
        for block in range(0, seq_len, home_size)
        for start in range(block, min(block + home_size, seq_len), tile_size)
        for stop in [min(start + tile_size, block + home_size, seq_len)]
    ]


def _segments(start: int, stop: int, seq_len: int, block_sizes: tuple[int, ...], home: int, causal: bool):
    starts = [start // size * size for size in block_sizes[:home]]
    stops = [min(begin + size, seq_len) for begin, size in zip(starts, block_sizes, strict=False)]
    around = range(1, home)  # levels with something outside the next finer block of this tile
    left = [Segment(starts[l - 1], starts[l], l, l) for l in around]
    local = [Segment(starts[-1], stop if causal else stops[-1], home, len(block_sizes))]
    right = [] if causal else [Segment(stops[l], stops[l - 1], l, l) for l in reversed(around)]
    return [s for s in left + local + right if s.start < s.stop]
