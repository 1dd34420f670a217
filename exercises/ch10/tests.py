"""Chapter 10's tests. Each function tries one random case against a specification that is not the solution's way."""

import torch
from torch import Tensor

from ..case import Case
from ..ch08.tests import same_numbers
from ..registry import exercise


@exercise("10.1", "slot_of_key")
def slot_of_key(answer, case: Case) -> None:
    block = case.integer(3, 9)
    newest = block * case.integer(2, 5) + case.integer(1, block - 2)  # neither the first nor the last of its block
    start = newest - newest % block
    tokens = [newest, start, start - 1, newest - block, newest + 1, start + block, 0]
    ring: dict[int, int] = {}
    for token in range(newest + 1):  # write them one by one; a new block empties the ring
        if token % block == 0:
            ring = {}
        ring[token] = token % block
    want = [ring.get(token, -1) for token in tokens]
    near = {
        "a key of an earlier block is gone for this level, whatever the ring still holds": [
            token % block if token <= newest else -1 for token in tokens
        ],
        "this is a window: a block is over when the next begins, however near its tokens are": [
            token % block if 0 <= newest - token < block else -1 for token in tokens
        ],
        "a token after the newest has not come yet": [
            token % block if token // block == newest // block else -1 for token in tokens
        ],
        "the newest token can use its own key": [
            -1 if token == newest else slot for token, slot in zip(tokens, want, strict=True)
        ],
        "slots are counted from 0": [slot + 1 if slot >= 0 else -1 for slot in want],
        "this is the slot of the newest token; the question is where the other one lies": [
            newest % block if slot >= 0 else -1 for slot in want
        ],
        "this is the age of the key; a key stays in the slot where it was written": [
            newest - token if slot >= 0 else -1 for token, slot in zip(tokens, want, strict=True)
        ],
    }
    same_numbers(case, [answer(token, newest, block) for token in tokens], want, near, "slot")


@exercise("10.2", "cache_bytes")
def cache_bytes(answer, case: Case) -> None:
    lists = [case.different(n, 1, 12) for n in (2, 3, 5)]
    context = 16 * case.integer(3, 9)
    (n_heads, n_layers), size = case.different(2, 5, 9), case.choice(2, 4)

    def over(keys, values=lambda ranks: sum(ranks) * context, times=n_heads * n_layers * size) -> list[float]:
        return [(keys(ranks) + values(ranks)) * times for ranks in lists]

    def rings(ranks):
        """One slot of one feature at a time, by the tokens that fall into it."""
        return sum(r * len({t % (context >> level) for t in range(context)}) for level, r in enumerate(ranks))

    def halved(ranks):
        return sum(r * context // 2 ** (level + 1) for level, r in enumerate(ranks))

    near = {
        "every level holds its current block, not all tokens": over(lambda ranks: sum(ranks) * context),
        "the values do not fall with the levels: each is needed by every later token": over(rings, rings),
        "these are the keys alone; values are held as well": over(rings, lambda ranks: 0),
        "level 1 is one block of all tokens: its ring has T slots, not T / 2": over(halved),
        "these are numbers; how many bytes has each?": over(rings, times=n_heads * n_layers),
        "every layer has a cache of its own": over(rings, times=n_heads * size),
        "every head has keys and values of its own": over(rings, times=n_layers * size),
    }
    got = [answer(ranks, context, n_heads, n_layers, size) for ranks in lists]
    same_numbers(case, got, over(rings), near, "number of bytes")


@exercise("10.3", "longest_context")
def longest_context(answer, case: Case) -> None:
    (n_heads, n_layers), size = case.different(2, 5, 9), case.choice(2, 4)
    lists = [case.different(n, 1, 12) for n in (2, 3, 5)]
    contexts = [2 ** (len(ranks) - 1) * case.integer(20, 60) for ranks in lists]

    def room(ranks, context, values=1.0):
        keys = sum(r * context / 2**level for level, r in enumerate(ranks))
        return round((keys + values * sum(ranks) * context) * n_heads * n_layers * size)

    # a budget that is just enough, and one that is a byte short
    budgets = [(room(ranks, context), room(ranks, context) - 1) for ranks, context in zip(lists, contexts, strict=True)]

    def over(find) -> list[float]:
        return [find(ranks, b) for ranks, pair in zip(lists, budgets, strict=True) for b in pair]

    def search(ranks, budget, values=1.0, step=None):
        step, context = step or 2 ** (len(ranks) - 1), 0
        while room(ranks, context + step, values) <= budget:
            context += step
        return context

    def standard(ranks, budget):
        step = 2 ** (len(ranks) - 1)
        return budget // (2 * sum(ranks) * n_heads * n_layers * size) // step * step

    want = [
        n for ranks, context in zip(lists, contexts, strict=True) for n in (context, context - 2 ** (len(ranks) - 1))
    ]
    near = {
        "this context does not divide into the blocks of the finest level": over(lambda r, b: search(r, b, step=1)),
        "this is rounded up, and does not fit": over(lambda r, b: search(r, b) + 2 ** (len(r) - 1)),
        "the values take room too": over(lambda r, b: search(r, b, values=0.0)),
        "this is what standard attention could hold": over(standard),
        "the values take r numbers a token, not E": over(
            lambda r, b: search(r, b, values=room(r, 1024, 0) / (sum(r) * 1024 * n_heads * n_layers * size))
        ),
        "these are numbers; how many bytes has each?": over(lambda r, b: search(r, size * b)),
        "every layer has a cache of its own": over(lambda r, b: search(r, n_layers * b)),
        "every head has keys and values of its own": over(lambda r, b: search(r, n_heads * b)),
        "the context need not be a power of two": over(lambda r, b: 2 ** (search(r, b).bit_length() - 1)),
    }
    got = [answer(b, ranks, n_heads, n_layers, size) for ranks, pair in zip(lists, budgets, strict=True) for b in pair]
    same_numbers(case, got, want, near, "longest context")


@exercise("10.4", "write_chunk")
def write_chunk(answer, case: Case) -> None:
    slots, features = case.integer(5, 8), case.integer(2, 3)
    # in turn: it fits, it wraps around the end, it is longer than the ring
    before = slots * case.integer(1, 3) + [1, slots - 2, 2][case.turn(3)]
    new = [2, 3, slots + case.choice(1, slots + 1)][case.turn(3)]
    ring, chunk = case.normal(slots, features), case.normal(new, features)

    def write(tokens, rows, start=None, strict=True) -> Tensor:
        after = (ring if start is None else start).double().clone()
        for token, row in zip(tokens, rows, strict=strict):
            after[token % slots] = chunk[row].double()
        return after

    everything, latest = range(new), range(max(0, new - slots), new)
    n = len(latest)
    near = {
        "of a chunk longer than the ring the last tokens are held, not the first": write(
            range(before, before + n), range(n)
        ),
        "token t goes to slot t mod slots, where t counts from the beginning of the text": write(latest, latest),
        "the last tokens of a long chunk are held, but each in its own slot: the first of them is token before + new - "
        "slots": write(range(before, before + n), latest),
        "a ring is no queue: nothing moves, the new overwrite the old": torch.cat([ring, chunk])[-slots:].double(),
        "what the chunk does not overwrite stays as it was": write(
            range(before, before + new), everything, torch.zeros_like(ring)
        ),
        "after the last slot comes slot 0: what does not fit at the end of the ring goes on at its beginning": write(
            (token for token in range(before + new - n, before + new) if token // slots == (before + new - n) // slots),
            latest,
            strict=False,
        ),
        "the first new token is number `before`: so many have come already, counted from 0": write(
            range(before + 1, before + 1 + new), everything
        ),
    }
    want = write(range(before, before + new), everything)
    case.same(answer(ring.clone(), chunk.clone(), before), want, near, what="ring")


@exercise("10.5", "decode_step")
def decode_step(answer, case: Case) -> None:
    ranks = case.different(3, 2, 5)
    context, d = 4 * case.integer(3, 6), sum(ranks)
    sizes = [context >> level for level in range(3)]
    # inside the second finest block of the second half: each level began elsewhere
    newest = context // 2 + sizes[2] + case.integer(0, sizes[2] - 2)
    q, keys, values = case.normal(d), case.normal(newest + 1, d), case.normal(newest + 1, d)
    wide_q, wide_k, wide_v = q.double(), keys.double(), values.double()
    rings = [case.normal(size, rank) for size, rank in zip(sizes, ranks, strict=True)]
    for ring, part in zip(rings, keys.split(ranks, dim=1), strict=True):  # later tokens overwrite earlier ones
        for token in range(newest + 1):
            ring[token % len(ring)] = part[token]
    room = case.normal(context, d)
    room[: newest + 1] = values
    firsts = [0, ranks[0], ranks[0] + ranks[1]]

    def out(scale=lambda r: 1 / r, key=None, shares=None, weights=None) -> Tensor:
        """From all the keys there ever were: one pair, one level at a time."""
        shares = shares or (lambda j, level: j // sizes[level] == newest // sizes[level])
        key = key or (lambda j, level: wide_k[j, firsts[level] : firsts[level] + ranks[level]])
        S = torch.zeros(newest + 1, dtype=torch.float64)
        for j in range(newest + 1):
            for level, rank in enumerate(ranks):
                if shares(j, level):
                    features = slice(firsts[level], firsts[level] + rank)
                    S[j] += scale(rank) * (wide_q[features] @ key(j, level))
        return (weights or (lambda S: S.softmax(0)))(S) @ wide_v

    def in_ring(j, level):
        return rings[level][j % sizes[level]].double()

    def shifted(j, level):
        """The ring laid along the beginning of the text."""
        return rings[level][j].double()

    position = torch.arange(newest + 1)
    shared = sum((position // size == newest // size).double() for size in sizes)  # levels of each key

    def with_future(S):
        return torch.cat([S, torch.zeros(context - newest - 1, dtype=torch.float64)]).softmax(0)[: newest + 1]

    near = {
        "the scales 1 / r_l are missing": lambda: out(scale=lambda r: 1.0),
        "the scale is 1 / sqrt(r_l), and should be 1 / r_l": lambda: out(scale=lambda r: r**-0.5),
        "the scale is 1 / r for all levels; each level has its own, 1 / r_l": lambda: out(scale=lambda r: 1 / d),
        "a ring serves its current block alone; here every token meets what lies in its slot": lambda: out(
            key=in_ring, shares=lambda j, level: True
        ),
        "slot 0 is the first token of the current block, not of the text": lambda: out(
            key=shifted, shares=lambda j, level: j <= newest % sizes[level]
        ),
        "only keys of the block so far are valid, (newest mod slots) + 1 of them; the rest are of the block before": (
            lambda: out(key=in_ring, shares=lambda j, level: newest - sizes[level] < j)
        ),
        "the newest token meets itself too: its own key lies in slot newest mod slots": lambda: out(
            shares=lambda j, level: j < newest and j // sizes[level] == newest // sizes[level]
        ),
        "the scores are divided by the number of shared levels, which was not asked here": lambda: out(
            weights=lambda S: (S / shared).softmax(0)
        ),
        "only level 1 is here; the finer levels add to the scores of their block": lambda: out(
            shares=lambda j, level: level == 0
        ),
        "tokens that have not come yet take part in the softmax": lambda: out(weights=with_future),
    }
    got = answer(q.clone(), [ring.clone() for ring in rings], room.clone(), newest)
    case.same(got, out(), near, what="output", loose=5)
