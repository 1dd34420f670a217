"""Chapter 1's planted wrong answers."""

import torch

from ..wrong import wrong

# 1.1


@wrong("1.1", "the bilinear form is forgotten", says="M is left out")
def no_matrix(x, m):
    return x @ x.mT


@wrong("1.1", "keys on the left", says="query and key are exchanged")
def exchanged(x, m):
    return x @ m.T @ x.mT


@wrong("1.1", "scaled as in attention", says="divided by the root of the width")
def scaled(x, m):
    return x @ m @ x.mT / x.shape[-1] ** 0.5


@wrong("1.1", "each token with itself", says="scored with itself alone")
def only_diagonal(x, m):
    return (x @ m * x).sum(-1)


@wrong("1.1", "sequences flattened together", says="scores of different sequences are mixed")
def all_sequences(x, m):
    flat = x.reshape(-1, x.shape[-1])
    return flat @ m @ flat.T


@wrong("1.1", "both sides projected", says="M appears twice")
def projected_twice(x, m):
    return (x @ m) @ (x @ m).mT


@wrong("1.1", "nothing returned", says="without `return`")
def no_return(x, m):
    x @ m @ x.mT


# 1.2


def hidden(scores, offset=1):
    return torch.ones_like(scores).triu(offset).bool()


@wrong("1.2", "mask forgotten", says="there is no mask")
def no_mask(scores):
    return scores.softmax(-1)


@wrong("1.2", "softmax over the queries", says="down the columns")
def over_queries(scores):
    return scores.masked_fill(hidden(scores), -torch.inf).softmax(0)


@wrong("1.2", "mask after the softmax", says="the rows no longer sum to 1")
def mask_after(scores):
    return scores.softmax(-1).tril()


@wrong("1.2", "zeros in place of -inf", says="exp(0) = 1")
def zero_fill(scores):
    return scores.tril().softmax(-1)


@wrong("1.2", "the token itself hidden", says="hides the token itself")
def strict_mask(scores):
    return scores.masked_fill(hidden(scores, 0), -torch.inf).softmax(-1)


@wrong("1.2", "exponential of large scores", says="exp overflows")
def unstable(scores):
    powers = scores.exp().tril()
    return powers / powers.sum(-1, keepdim=True)


@wrong("1.2", "one maximum for all rows", says="one maximum for the whole matrix")
def global_maximum(scores):
    powers = (scores - scores.max()).exp().tril()
    return powers / powers.sum(-1, keepdim=True)


@wrong("1.2", "the maximum before the mask", says="over hidden scores too")
def maximum_first(scores):
    powers = (scores - scores.amax(-1, keepdim=True)).exp().tril()
    return powers / powers.sum(-1, keepdim=True)


@wrong("1.2", "a finite number for hidden scores", says="exactly 0")
def finite_fill(scores):
    return scores.masked_fill(hidden(scores), -30).softmax(-1)


@wrong("1.2", "a bound on the exponent", says="cut off (clamp)")
def bounded(scores):
    powers = scores.clamp(-50, 50).exp().tril()
    return powers / powers.sum(-1, keepdim=True)


@wrong("1.2", "the softmax forgotten", says="the mask is there, the softmax is missing")
def no_softmax(scores):
    return scores.masked_fill(hidden(scores), -torch.inf)


@wrong("1.2", "a mask that multiplies by -inf", says="0 * inf")
def times_infinity(scores):
    return (scores + hidden(scores) * -torch.inf).softmax(-1)


@wrong("1.2", "sums that lose their axis", says="divided by the sum of row j")
def no_keepdim(scores):
    powers = scores.exp().tril()
    return powers / powers.sum(-1)


@wrong("1.2", "sums that lose their axis, of stable powers", says="divided by the sum of row j, taken after")
def stable_no_keepdim(scores):
    visible = scores.masked_fill(hidden(scores), -torch.inf)
    powers = (visible - visible.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1)


@wrong("1.2", "maxima that lose their axis", says="loses the largest score of row j")
def maximum_no_keepdim(scores):
    visible = scores.masked_fill(hidden(scores), -torch.inf)
    powers = (visible - visible.amax(-1)).exp()
    return powers / powers.sum(-1, keepdim=True)


@wrong("1.2", "maxima and sums that lose their axis", says="gets what belongs to row j")
def neither_keepdim(scores):
    visible = scores.masked_fill(hidden(scores), -torch.inf)
    powers = (visible - visible.amax(-1)).exp()
    return powers / powers.sum(-1)


# 1.3


@wrong("1.3", "columns dealt out in turn", says="dealt out in turn")
def interleaved(w_q, w_k, heads):
    return torch.stack([w_q[:, h::heads] @ w_k[:, h::heads].T for h in range(heads)])


@wrong("1.3", "key before query", says="W_K W_Q^T")
def key_first(w_q, w_k, heads):
    return torch.stack([k @ q.T for q, k in zip(w_q.chunk(heads, 1), w_k.chunk(heads, 1), strict=True)])


@wrong("1.3", "heads cut from the rows", says="cut from the rows")
def by_rows(w_q, w_k, heads):
    return torch.stack([q.T @ k for q, k in zip(w_q.chunk(heads, 0), w_k.chunk(heads, 0), strict=True)])


@wrong("1.3", "all heads in one", says="the heads are summed")
def summed(w_q, w_k, heads):
    return w_q @ w_k.T


@wrong("1.3", "the scale inside M", says="belongs to the scores")
def with_scale(w_q, w_k, heads):
    pairs = zip(w_q.chunk(heads, 1), w_k.chunk(heads, 1), strict=True)
    return torch.stack([q @ k.T for q, k in pairs]) / (w_q.shape[1] // heads) ** 0.5


@wrong("1.3", "a view in place of a cut", says="as it lies in memory")
def viewed(w_q, w_k, heads):
    q, k = (w.view(heads, w.shape[0], -1) for w in (w_q, w_k))
    return q @ k.mT


@wrong("1.3", "heads left in the middle", says="move it to the front")
def not_moved(w_q, w_k, heads):
    q, k = (w.unflatten(1, (heads, -1)) for w in (w_q, w_k))
    return q @ k.mT


# 1.4


@wrong("1.4", "from the other head to the first", says="leads back")
def backwards(w_q, w_k, other_q, other_k):
    return torch.linalg.pinv(other_q) @ w_q


@wrong("1.4", "read off the keys as if they were queries", says="what the keys are turned by")
def from_keys(w_q, w_k, other_q, other_k):
    return torch.linalg.pinv(w_k) @ other_k


@wrong("1.4", "a transpose taken for an inverse", says="W_Q^T is no inverse")
def transpose(w_q, w_k, other_q, other_k):
    return w_q.T @ other_q


@wrong("1.4", "transposed", says="G is transposed")
def turned(w_q, w_k, other_q, other_k):
    return (torch.linalg.pinv(w_q) @ other_q).T


@wrong("1.4", "factors of one form taken for equal", says="different factors")
def identity(w_q, w_k, other_q, other_k):
    return torch.eye(w_q.shape[1])


@wrong("1.4", "divided number by number", says="G mixes the columns")
def ratio(w_q, w_k, other_q, other_k):
    return (other_q / w_q)[: w_q.shape[1]]


@wrong("1.4", "all that lstsq gives", says="it is `.solution`")
def whole_tuple(w_q, w_k, other_q, other_k):
    return torch.linalg.lstsq(w_q, other_q)


# 1.5


@wrong("1.5", "each vector with itself", says="symmetric part")
def quadratic(score, width):
    e = torch.eye(width, dtype=torch.float64)
    own = [score(x, x) for x in e]
    pairs = {(i, j): score(e[i] + e[j], e[i] + e[j]) for i in range(width) for j in range(i)}
    rows = [[own[i] if i == j else (pairs[max(i, j), min(i, j)] - own[i] - own[j]) / 2 for j in range(width)]
            for i in range(width)]  # fmt: skip
    return torch.tensor(rows)


@wrong("1.5", "each vector with itself, too often", says="sees the symmetric part of M alone")
def polarised(score, width):
    e = torch.eye(width, dtype=torch.float64)
    rows = [[(score(x + y, x + y) - score(x - y, x - y)) / 4 for y in e] for x in e]
    return torch.tensor(rows)


@wrong("1.5", "arguments exchanged", says="has the query first")
def arguments(score, width):
    e = torch.eye(width, dtype=torch.float64)
    return torch.tensor([[score(e[j], e[i]) for j in range(width)] for i in range(width)])


@wrong("1.5", "asked again and again", says="more than D^2")
def wasteful(score, width):
    e = torch.eye(width, dtype=torch.float64)
    rows = [[(score(e[i] + e[j], e[j]) - score(e[j], e[j])) for j in range(width)] for i in range(width)]
    return torch.tensor(rows)


@wrong("1.5", "one triangle mirrored", says="need not be symmetric")
def mirrored(score, width):
    e = torch.eye(width, dtype=torch.float64)
    upper = torch.tensor([[float(score(e[i], e[j])) if i <= j else 0.0 for j in range(width)] for i in range(width)])
    return upper + upper.triu(1).T


@wrong("1.5", "the diagonal alone", says="only the diagonal")
def diagonal(score, width):
    return torch.diag(torch.tensor([float(score(e, e)) for e in torch.eye(width, dtype=torch.float64)]))
