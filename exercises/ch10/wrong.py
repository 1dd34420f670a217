"""Chapter 10's planted wrong answers."""

import torch

from ..wrong import wrong
from .solutions import cache_bytes, longest_context, slot_of_key, write_chunk

# 10.1


@wrong("10.1", "old blocks too", says="a key of an earlier block is gone")
def never_gone(token, newest, block_size):
    return token % block_size if token <= newest else -1


@wrong("10.1", "a window", says="this is a window")
def as_a_window(token, newest, block_size):
    return token % block_size if 0 <= newest - token < block_size else -1


@wrong("10.1", "tokens to come", says="has not come yet")
def not_yet(token, newest, block_size):
    return token % block_size if token // block_size == newest // block_size else -1


@wrong("10.1", "not its own key", says="its own key")
def strictly_earlier(token, newest, block_size):
    return -1 if token == newest else slot_of_key(token, newest, block_size)


@wrong("10.1", "counted from 1", says="slots are counted from 0")
def from_one(token, newest, block_size):
    slot = slot_of_key(token, newest, block_size)
    return slot + (slot >= 0)


@wrong("10.1", "the slot of the newest", says="the slot of the newest token")
def of_the_newest(token, newest, block_size):
    return newest % block_size if slot_of_key(token, newest, block_size) >= 0 else -1


@wrong("10.1", "the age", says="this is the age of the key")
def age(token, newest, block_size):
    return newest - token if slot_of_key(token, newest, block_size) >= 0 else -1


# 10.2


def total(keys, values, n_heads, n_layers, bytes_a_number):
    return (keys + values) * n_heads * n_layers * bytes_a_number


@wrong("10.2", "all tokens at every level", says="its current block, not all tokens")
def all_tokens(ranks, context, *rest):
    return total(sum(ranks) * context, sum(ranks) * context, *rest)


@wrong("10.2", "values in rings", says="values do not fall")
def values_too(ranks, context, *rest):
    keys = sum(r * context // 2**l for l, r in enumerate(ranks))
    return total(keys, keys, *rest)


@wrong("10.2", "keys alone", says="the keys alone")
def keys_alone(ranks, context, *rest):
    return total(sum(r * context // 2**l for l, r in enumerate(ranks)), 0, *rest)


@wrong("10.2", "one level too far", says="not T / 2")
def one_too_far(ranks, context, *rest):
    return total(sum(r * context // 2 ** (l + 1) for l, r in enumerate(ranks)), sum(ranks) * context, *rest)


@wrong("10.2", "numbers, not bytes", says="how many bytes")
def numbers(ranks, context, n_heads, n_layers, bytes_a_number):
    return cache_bytes(ranks, context, n_heads, n_layers, 1)


@wrong("10.2", "one layer", says="every layer has a cache")
def one_layer(ranks, context, n_heads, n_layers, bytes_a_number):
    return cache_bytes(ranks, context, n_heads, 1, bytes_a_number)


@wrong("10.2", "one head", says="every head has keys")
def one_head(ranks, context, n_heads, n_layers, bytes_a_number):
    return cache_bytes(ranks, context, 1, n_layers, bytes_a_number)


# 10.3


def tokens(budget, numbers_a_token, n_heads, n_layers, bytes_a_number):
    return int(budget / (numbers_a_token * n_heads * n_layers * bytes_a_number) + 1e-9)


def per_token(ranks):
    return sum(r / 2**l for l, r in enumerate(ranks))


@wrong("10.3", "not a multiple", says="does not divide into the blocks")
def any_length(budget, ranks, *rest):
    return tokens(budget, per_token(ranks) + sum(ranks), *rest)


@wrong("10.3", "one layer", says="every layer has a cache")
def room_for_one_layer(budget, ranks, n_heads, n_layers, bytes_a_number):
    return longest_context(budget, ranks, n_heads, 1, bytes_a_number)


@wrong("10.3", "rounded up", says="rounded up")
def rounded_up(budget, ranks, *rest):
    return longest_context(budget, ranks, *rest) + 2 ** (len(ranks) - 1)


@wrong("10.3", "no values", says="the values take room too")
def no_values(budget, ranks, *rest):
    finest = 2 ** (len(ranks) - 1)
    return tokens(budget, per_token(ranks), *rest) // finest * finest


@wrong("10.3", "standard attention", says="what standard attention could hold")
def as_standard(budget, ranks, *rest):
    finest = 2 ** (len(ranks) - 1)
    return tokens(budget, 2 * sum(ranks), *rest) // finest * finest


@wrong("10.3", "values fall too", says="r numbers a token, not E")
def values_fall(budget, ranks, *rest):
    finest = 2 ** (len(ranks) - 1)
    return tokens(budget, 2 * per_token(ranks), *rest) // finest * finest


@wrong("10.3", "a power of two", says="need not be a power of two")
def power_of_two(budget, ranks, *rest):
    return 2 ** (longest_context(budget, ranks, *rest).bit_length() - 1)


# 10.4


def put(ring, at, rows):
    after = ring.clone()
    for token, row in zip(at, rows, strict=False):
        after[token % len(ring)] = row
    return after


@wrong("10.4", "the first tokens kept", says="the last tokens are held, not the first")
def first_tokens(ring, chunk, before):
    return put(ring, range(before, before + len(ring)), chunk)


@wrong("10.4", "from slot 0", says="counts from the beginning of the text")
def from_slot_0(ring, chunk, before):
    return put(ring, range(len(chunk)), chunk)


@wrong("10.4", "the last tokens in the slots of the first", says="each in its own slot")
def misplaced(ring, chunk, before):
    last = chunk[-len(ring) :]
    return put(ring, range(before, before + len(last)), last)


@wrong("10.4", "a queue", says="a ring is no queue")
def queue(ring, chunk, before):
    return torch.cat([ring, chunk])[-len(ring) :]


@wrong("10.4", "the rest erased", says="stays as it was")
def erased(ring, chunk, before):
    return write_chunk(torch.zeros_like(ring), chunk, before)


@wrong("10.4", "no turn at the end", says="after the last slot comes slot 0")
def no_turn(ring, chunk, before):
    kept = chunk[-len(ring) :]
    first = before + len(chunk) - len(kept)
    return put(ring, range(first, (first // len(ring) + 1) * len(ring)), kept)


@wrong("10.4", "one too far", says="counted from 0")
def one_slot_on(ring, chunk, before):
    return write_chunk(ring, chunk, before + 1)


# 10.5


def step(query, rings, values, newest, *, scale=lambda r, d: 1 / r, place=None):
    scores, first = query.new_zeros(newest + 1), 0
    place = place or (lambda ring, n: (slice(n - n % len(ring), n + 1), ring[: n % len(ring) + 1]))
    for ring in rings:
        rank = ring.shape[1]
        columns, held = place(ring, newest)
        scores[columns] += scale(rank, len(query)) * (held @ query[first : first + rank])
        first += rank
    return scores.softmax(0) @ values[: newest + 1]


@wrong("10.5", "no scales", says="1 / r_l are missing")
def no_scales(query, rings, values, newest):
    return step(query, rings, values, newest, scale=lambda r, d: 1.0)


@wrong("10.5", "root of the rank", says="should be 1 / r_l")
def root_scale(query, rings, values, newest):
    return step(query, rings, values, newest, scale=lambda r, d: r**-0.5)


@wrong("10.5", "one scale", says="the scale is 1 / r for all levels")
def one_scale(query, rings, values, newest):
    return step(query, rings, values, newest, scale=lambda r, d: 1 / d)


@wrong("10.5", "a ring for every token", says="every token meets what lies in its slot")
def repeated(query, rings, values, newest):
    def everywhere(ring, n):
        return slice(0, n + 1), ring[torch.arange(n + 1) % len(ring)]

    return step(query, rings, values, newest, place=everywhere)


@wrong("10.5", "the ring laid at the beginning", says="not of the text")
def at_the_beginning(query, rings, values, newest):
    return step(
        query, rings, values, newest, place=lambda ring, n: (slice(0, n % len(ring) + 1), ring[: n % len(ring) + 1])
    )


@wrong("10.5", "the old block too", says="the rest are of the block before")
def whole_ring(query, rings, values, newest):
    def latest(ring, n):
        token = torch.arange(max(0, n + 1 - len(ring)), n + 1)
        return token, ring[token % len(ring)]

    return step(query, rings, values, newest, place=latest)


@wrong("10.5", "without itself", says="meets itself too")
def without_itself(query, rings, values, newest):
    return step(
        query, rings, values, newest, place=lambda ring, n: (slice(n - n % len(ring), n), ring[: n % len(ring)])
    )


@wrong("10.5", "level 1 alone", says="only level 1 is here")
def level_1(query, rings, values, newest):
    return step(query, rings[:1], values, newest)


@wrong("10.5", "tokens to come", says="not come yet take part")
def with_future(query, rings, values, newest):
    scores, first = query.new_zeros(len(values)), 0
    for ring in rings:
        slots, rank = ring.shape
        valid = newest % slots + 1
        scores[newest + 1 - valid : newest + 1] += ring[:valid] @ query[first : first + rank] / rank
        first += rank
    return scores.softmax(0)[: newest + 1] @ values[: newest + 1]
