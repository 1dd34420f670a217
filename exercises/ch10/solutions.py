"""Chapter 10's solutions, and for each another right answer."""

import torch
from jaxtyping import Float
from torch import Tensor


def slot_of_key(token: int, newest: int, block_size: int) -> int:
    """The slot that holds the key of a token at a level, or -1 if the newest token cannot use it there."""
    if token // block_size != newest // block_size or token > newest:
        return -1
    return token % block_size


def slot_of_key_another(token, newest, block_size):
    start = newest - newest % block_size
    return token - start if start <= token <= newest else -1


def cache_bytes(ranks: list[int], context: int, n_heads: int, n_layers: int, bytes_a_number: int) -> int:
    """What the caches of a whole model hold for one sequence, keys and values."""
    keys = sum(rank * (context // 2**level) for level, rank in enumerate(ranks))
    values = sum(ranks) * context
    return (keys + values) * n_heads * n_layers * bytes_a_number


def cache_bytes_another(ranks, context, n_heads, n_layers, bytes_a_number):
    total = 0
    for level, rank in enumerate(ranks):
        total += rank * context + rank * (context >> level)
    return total * n_heads * n_layers * bytes_a_number


def longest_context(budget: int, ranks: list[int], n_heads: int, n_layers: int, bytes_a_number: int) -> int:
    """The longest context whose cache fits into `budget` bytes, among the multiples of 2^(levels - 1)."""
    finest = 2 ** (len(ranks) - 1)
    # the bytes of `finest` tokens: a whole number
    keys = sum(rank * finest // 2**level for level, rank in enumerate(ranks))
    piece = (keys + sum(ranks) * finest) * n_heads * n_layers * bytes_a_number
    return budget // piece * finest


def longest_context_another(budget, ranks, n_heads, n_layers, bytes_a_number):
    finest = 2 ** (len(ranks) - 1)
    low, high = 0, budget
    while low < high:  # pieces of `finest` tokens, by bisection
        middle = (low + high + 1) // 2
        if cache_bytes(ranks, middle * finest, n_heads, n_layers, bytes_a_number) <= budget:
            low = middle
        else:
            high = middle - 1
    return low * finest


def write_chunk(
    ring: Float[Tensor, "slots features"], chunk: Float[Tensor, "new features"], before: int
) -> Float[Tensor, "slots features"]:
    """The ring after tokens before, before + 1, ... have been written, each to its slot."""
    slots, new = len(ring), len(chunk)
    kept = min(slots, new)  # earlier tokens of the chunk would be overwritten by later ones
    token = before + torch.arange(new - kept, new)
    after = ring.clone()
    after[token % slots] = chunk[new - kept :]
    return after


def write_chunk_another(ring, chunk, before):
    after = ring.clone()
    for i, key in enumerate(chunk):
        after[(before + i) % len(ring)] = key
    return after


def decode_step(
    query: Float[Tensor, " d"],
    rings: list[Float[Tensor, "slots rank"]],
    values: Float[Tensor, "context d"],
    newest: int,
) -> Float[Tensor, " d"]:
    """The output of the newest token, whose key and value the rings hold already; scale 1 / r_l, no division."""
    scores = query.new_zeros(newest + 1)
    parts = query.split([ring.shape[1] for ring in rings])
    for part, ring in zip(parts, rings, strict=True):
        slots, rank = ring.shape
        valid = newest % slots + 1
        scores[newest + 1 - valid :] += ring[:valid] @ part / rank
    return scores.softmax(0) @ values[: newest + 1]


def decode_step_another(query, rings, values, newest):
    scores = []
    for j in range(newest + 1):
        score, first = 0, 0
        for ring in rings:
            slots, rank = ring.shape
            if j // slots == newest // slots:
                score = score + ring[j % slots] @ query[first : first + rank] / rank
            first += rank
        scores.append(score)
    return torch.stack(scores).softmax(0) @ values[: newest + 1]
