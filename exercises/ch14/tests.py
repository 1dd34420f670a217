"""Chapter 14's tests. Each function tries one random case."""

import torch
from torch import Tensor

from structattn_minimal.experiments import inspection

from ..case import Case
from ..registry import exercise


@exercise("14.1", "directions")
def directions(answer, case: Case) -> None:
    queries, keys = case.different(2, 6, 12)
    rank = case.integer(2, 4)
    scores = case.normal(queries, rank) @ case.normal(rank, keys) + 2 + 3 * case.normal(queries, 1)
    wide = scores.double()
    seen = wide - wide.mean(1, keepdim=True)

    def entropy(share: Tensor) -> Tensor:
        return torch.special.entr(share).sum()

    sigma = torch.linalg.svdvals(seen)
    share = sigma / sigma.sum()
    near = {
        "the mean of each row is still there; a softmax over the keys does not see it": inspection.effective_rank(wide),
        "one mean is taken off all scores; each row has its own": inspection.effective_rank(wide - wide.mean()),
        "these are the directions of the weights; the question is about the scores, before the softmax": (
            inspection.effective_rank(wide.softmax(1))
        ),
        "the mean is taken off each column; the softmax runs over the keys of a row": inspection.effective_rank(
            wide - wide.mean(0)
        ),
        "the shares are those of the squares of the singular values": entropy(
            sigma.square() / sigma.square().sum()
        ).exp(),
        "this is the entropy itself: its exponential is a number of directions": entropy(share),
        "this counts all directions alike, however small: it is the rank": torch.linalg.matrix_rank(
            seen, rtol=1e-4
        ).double(),
    }
    case.same(answer(scores), inspection.effective_rank(seen), near, what="effective rank", loose=5)


@exercise("14.2", "mass_by_distance")
def mass_by_distance(answer, case: Case) -> None:
    seq, first = case.integer(12, 20), case.integer(5, 9)
    edges = [0, 1, case.integer(2, 3), case.integer(4, 6), seq]
    weights = case.normal(seq, seq).masked_fill(torch.ones(seq, seq).triu(1).bool(), -torch.inf).softmax(-1)
    wide = weights.double()

    def mass(edges=edges, first=first, closed=False, back=1) -> Tensor:
        """One pair at a time."""
        sums = torch.zeros(len(edges) - 1, dtype=torch.float64)
        for i in range(first, seq):
            for j in range(seq):
                for n in range(len(sums)):
                    away = back * (i - j)
                    inside = edges[n] <= away <= edges[n + 1] if closed else edges[n] <= away < edges[n + 1]
                    sums[n] += float(wide[i, j]) * inside
        return sums / (seq - first)

    want = mass()
    near = {
        "the query `first` itself counts": mass(first=first + 1),
        "all queries are counted; those before `first` have no far keys to look at": mass(first=0),
        "the sum is divided by the number of all queries": want * (seq - first) / seq,
        "this is a sum over queries; the share is their mean": want * (seq - first),
        "a distance on an edge is counted twice: edges[n + 1] is not in bin n": mass(closed=True),
        "this counts keys after the query, i - j is the distance back": mass(back=-1),
    }
    case.same(answer(weights, edges, first), want, near, what="mass")


@exercise("14.3", "likeness")
def likeness(answer, case: Case) -> None:
    d = case.integer(3, 5)
    D = d + case.integer(2, 5)
    embed, form, copy = case.normal(D, d), case.normal(D, D), case.normal(D, D)
    E, M, C = embed.double(), form.double(), copy.double()

    def cosine(F: Tensor) -> Tensor:
        return inspection.identity_share(F)

    F = E.T @ M @ C @ E
    near = {
        "the copy is missing: the question meets what the copying head wrote": cosine(E.T @ M @ E),
        "form and copy are exchanged: the copy acts on the key, so it stands beside it": cosine(E.T @ C @ M @ E),
        "the form is transposed: the question is on its left": cosine(E.T @ M.T @ C @ E),
        "a cosine has the length of the identity below it, sqrt(d)": F.trace() / F.norm(),
        "the length of the identity is sqrt(d), not d": F.trace() / F.norm() / d,
        "a cosine has both lengths below it, that of the form too": F.trace() / d**0.5,
        "this is the mean of the diagonal; a cosine is divided by the lengths of both": F.trace() / d,
        "the length of a matrix is its Frobenius norm, not its largest singular value": F.trace()
        / torch.linalg.matrix_norm(F, 2)
        / d**0.5,
        "the sign tells a head that looks for the nearest from one that looks for the farthest": cosine(F).abs(),
    }
    case.same(answer(embed, form, copy), cosine(F), near, what="cosine", loose=5)


@exercise("14.4", "moved")
def moved(answer, case: Case) -> None:
    seq = case.integer(5, 9)
    scores, part = case.normal(seq, seq), 2 * case.normal(seq, seq)
    S, level = scores.double(), part.double()

    def distances(one: Tensor, other: Tensor, causal: bool = True) -> Tensor:
        """Of each query, the sum of what its weights change by."""
        before, after = (inspection.softmax_seen(some, causal) for some in (one, other))
        return (before - after).abs().sum(1)

    change = distances(S, S - level)
    before, after = (inspection.softmax_seen(some, True) for some in (S, S - level))
    largest = (before - after).abs().amax(1)
    near = {
        "each move is counted twice, where it leaves and where it arrives": change.mean(),
        "a query sees no later keys: mask the scores before both softmaxes": distances(S, S - level, False).mean() / 2,
        "this is the largest change of a single key; attention may go to several": largest.mean(),
        "this is a sum over queries; the answer is their mean": change.sum() / 2,
        "this keeps the part alone; the question is what happens without it": distances(S, level).mean() / 2,
        "the part is added once more; take it out": distances(S, S + level).mean() / 2,
        "this is a mean over all pairs; of a query's keys, changes add up": change.mean() / 2 / seq,
    }
    case.same(answer(scores, part), change.mean() / 2, near, what="share", loose=5)
