"""Block hierarchies: which levels two positions share, and the tiles that cover every pair once."""

import torch
from drawing import block_hierarchies, sizes
from hypothesis import given
from hypothesis import strategies as st

import structattn_minimal as sa
from structattn_minimal.partition import halving_block_sizes, tiles


def shared_by_definition(seq_len, block_sizes):
    count = torch.zeros(seq_len, seq_len, dtype=torch.int64)
    for i in range(seq_len):
        for j in range(seq_len):
            count[i, j] = sum(i // size == j // size for size in block_sizes)
    return count


@given(n_levels=sizes(8), finest=sizes(6))
def test_default_blocks_halve_from_level_to_level(n_levels, finest):
    seq_len = finest * 2 ** (n_levels - 1)
    assert halving_block_sizes(seq_len, n_levels) == tuple(seq_len // 2**l for l in range(n_levels))


@given(case=block_hierarchies())
def test_shared_levels_counts_common_blocks(case):
    shared = sa.shared_levels(*case)
    assert torch.equal(shared, shared_by_definition(*case))


@given(case=block_hierarchies())
def test_every_pair_shares_level_1_and_a_token_shares_all_levels_with_itself(case):
    seq_len, block_sizes = case
    shared = sa.shared_levels(seq_len, block_sizes)
    assert (shared >= 1).all()
    assert (shared.diagonal() == len(block_sizes)).all()
    assert torch.equal(shared, shared.T)


def test_neighbours_across_the_middle_share_level_1_alone():
    shared = sa.shared_levels(1024, (1024, 512, 256, 128))
    assert shared[511, 512] == 1
    assert shared[511, 510] == 4


@given(case=block_hierarchies(), causal=st.booleans(), tile_size=sizes(12))
def test_tiles_cover_every_visible_pair_once_with_its_level(case, causal, tile_size):
    seq_len, block_sizes = case
    shared = shared_by_definition(seq_len, block_sizes)
    visits = torch.zeros(seq_len, seq_len, dtype=torch.int64)
    for tile in tiles(seq_len, block_sizes, causal, tile_size):
        assert 1 <= tile.stop - tile.start <= tile_size
        bounds = [s.start for s in tile.segments] + [tile.segments[-1].stop]
        assert [s.stop for s in tile.segments] == bounds[1:]  # without a gap
        assert tile.keys == slice(bounds[0], bounds[-1])
        for s in tile.segments:
            piece = shared[tile.start : tile.stop, s.start : s.stop]
            assert (piece >= s.shared).all()
            assert (piece <= s.deepest).all()
            visits[tile.start : tile.stop, s.start : s.stop] += 1
    visible = torch.ones(seq_len, seq_len, dtype=torch.bool)
    assert (visits <= 1).all()
    assert (visits[visible.tril() if causal else visible] == 1).all()


@given(case=block_hierarchies(), tile_size=sizes(12))
def test_a_causal_tile_reads_no_key_after_its_last_query(case, tile_size):
    for tile in tiles(*case, causal=True, tile_size=tile_size):
        assert tile.keys == slice(0, tile.stop)


def test_only_blocks_finer_than_a_tile_are_left_to_a_mask():
    for tile in tiles(64, (64, 32, 16, 8, 4), causal=False, tile_size=16):
        exact = [s for s in tile.segments if s.shared == s.deepest]
        (local,) = [s for s in tile.segments if s.shared < s.deepest]
        assert sorted(s.shared for s in exact) == [1, 2]
        assert (local.start, local.stop, local.shared, local.deepest) == (tile.start, tile.stop, 3, 5)
