"""Chapter 3's tests. Each function tries one random case against a specification that is not the solution's way."""

import torch
from torch import Tensor

from ..case import Case, Mistake
from ..registry import exercise


def pair_of(answer, names: str) -> tuple:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Mistake(f"the answer should be a pair: {names}", "two things, separated by a comma, after `return`")
    return tuple(answer)


@exercise("3.1", "sample_prompts", cases=4)
def sample_prompts(answer, case: Case) -> None:
    d, prompts = case.integer(3, 7), 800
    pairs = d + case.integer(2, 5)
    tokens, y = pair_of(answer(prompts, pairs, d, case.seeded()), "the tokens and the targets y")
    tokens, y = case.tensor(tokens, (prompts, 2 * pairs, d), "tokens"), case.tensor(y, (prompts, pairs), "targets y")
    layout(tokens, y)
    x = tokens[:, 0::2]
    w = linear_rule(x, y, d)
    moments(x, y, w, d)
    one, two = case.seeded(), case.seeded()
    first, again, other = (pair_of(answer(3, pairs, d, seeded), "tokens, y")[0] for seeded in (one, one, two))
    shape = (3, 2 * pairs, d)
    if torch.equal(case.tensor(first, shape, "tokens"), case.tensor(other, shape, "tokens")):
        raise Mistake("two different generators gave the same prompts", "a fixed seed inside the function")
    if not torch.equal(first, again):
        raise Mistake("two equal generators gave different prompts", "`generator=generator` is missing somewhere")


def layout(tokens: Tensor, y: Tensor) -> None:
    """Every second token is (y_i, 0, ..., 0)."""
    even, odd = tokens[:, 0::2], tokens[:, 1::2]
    if torch.equal(odd[..., 0], y) and not odd[..., 1:].any():
        return
    likely = None
    if torch.equal(even[..., 0], y):
        likely = "the order: x_i comes first, its y_i after it"
    elif torch.equal(odd[..., 0], y):
        likely = "y_i is repeated (or something is left) where zeros should be"
    elif torch.equal(odd[..., -1], y):
        likely = "y_i stands in the last place; it should stand in the first, and zeros after it"
    elif torch.equal(tokens[:, y.shape[1] :, 0], y):
        likely = "first all x, then all y; they should alternate"
    elif torch.equal(tokens[:, 2::2, 0], y[:, :-1]):
        likely = "the targets are one token late"
    raise Mistake("token 2i should be x_i and token 2i + 1 should be (y_i, 0, ..., 0), counting from 0", likely)


def linear_rule(x: Tensor, y: Tensor, d: int) -> Tensor:
    """The weights of each prompt, from its first pairs; the others must obey them."""
    w = torch.linalg.lstsq(x, y[..., None]).solution
    misses = (x @ w).squeeze(-1) - y
    well_posed = torch.linalg.svdvals(x)[:, -1] > 0.05
    if misses[well_posed].square().mean() > 1e-4 * y.square().mean():
        likely = "noise is added to y, or w changes inside a prompt: one w holds for all pairs of a prompt"
        raise Mistake("the pairs of a prompt should obey one linear rule, y_i = w . x_i", likely)
    return w.squeeze(-1)[well_posed]


def moments(x: Tensor, y: Tensor, w: Tensor, d: int) -> None:
    """x ~ N(0, I / d), w ~ N(0, I), and so E y^2 = 1."""
    if w.std(dim=0).mean() < 0.05 * w.abs().mean():
        raise Mistake("all prompts have the same w", "draw a fresh w for every prompt: shape (prompts, d)")
    if x.std(dim=0).mean() < 0.5 * x.std():
        raise Mistake("all prompts have the same x", "draw fresh inputs for every prompt: shape (prompts, pairs, d)")
    if x.std(dim=1).mean() < 0.2 * x.std():
        raise Mistake("all pairs of a prompt have the same x", "draw fresh inputs for every pair")
    variance = float(x.var()) * d
    if not 0.9 < variance < 1.1:
        likely = {
            "x has variance 1 a coordinate: divide by sqrt(d)": d,
            "x is divided by d; its variance should be 1/d, so divide by sqrt(d)": 1 / d,
            "x lies on the unit interval (torch.rand); it should be normal (torch.randn)": d / 12,
        }
        hints = (hint for hint, value in likely.items() if 0.9 < variance / value < 1.1)
        raise Mistake(f"each coordinate of x should have variance 1/d = {1 / d:.4g}, and has {float(x.var()):.4g}",
                      next(hints, None))  # fmt: skip
    if abs(float(x.mean())) > 0.1 / d**0.5:
        raise Mistake(f"x should have mean 0, and has {float(x.mean()):.4g}", "torch.rand in place of torch.randn")
    size = float(w.square().mean())
    if not 0.85 < size < 1.15:
        hint = "w is divided by sqrt(d) too: then y has variance 1/d" if 0.8 < size * d < 1.2 else None
        raise Mistake(f"each coordinate of w should have variance 1, and has {size:.4g}", hint)
    for v, name in ((x, "x"), (w, "w")):
        kurtosis = float(v.pow(4).mean() / v.square().mean() ** 2)
        if not 2.5 < kurtosis < 3.5:
            raise Mistake(f"{name} should be normally distributed, and its fourth moment says that it is not")
    if not 0.6 < float(y.square().mean()) < 1.5:
        raise Mistake(f"always answering 0 should cost 1 on average, and costs {float(y.square().mean()):.4g}")


@exercise("3.2", "error_by_position")
def error_by_position(answer, case: Case) -> None:
    prompts, pairs = case.different(2, 3, 8)
    outputs, y = case.normal(prompts, 2 * pairs), case.normal(prompts, pairs)
    want = torch.zeros(pairs, dtype=torch.float64)
    for i in range(pairs):
        for b in range(prompts):
            want[i] += (outputs[b, 2 * i].double() - y[b, i].double()) ** 2 / prompts
    gaps = outputs[:, 0::2] - y
    case.same(
        answer(outputs, y),
        want,
        {
            "this reads the answer at the token y_i, where the model has just been told it: read at x_i, token 2i": (
                (outputs[:, 1::2] - y).square().mean(0)
            ),
            "the first half of the outputs is read; every second one should be": (outputs[:, :pairs] - y)
            .square()
            .mean(0),
            "the second half of the outputs is read; every second one should be": (outputs[:, pairs:] - y)
            .square()
            .mean(0),
            "the mean runs over the positions; it should run over the prompts": gaps.square().mean(1),
            "this is one number for all positions; keep the positions apart": gaps.square().mean(),
            "the errors are summed over the prompts; take the mean": gaps.square().sum(0),
            "the mean is squared; square first, then take the mean": gaps.mean(0).square(),
            "these are absolute errors; square them": gaps.abs().mean(0),
            "this is the root of the mean squared error": gaps.square().mean(0).sqrt(),
            "the answers are compared with the target before: answer i belongs to y_i": (
                (outputs[:, 0::2] - y.roll(1, 1)).square().mean(0)
            ),
        },
        what="error",
    )


@exercise("3.3", "least_squares")
def least_squares(answer, case: Case) -> None:
    d, prompts = case.integer(2, 4), case.integer(1, 3)
    pairs = d + case.integer(2, 4)
    x = torch.stack([solvable(case, pairs, d) for _ in range(prompts)])
    w = case.normal(prompts, d, 1)
    y = (x @ w).squeeze(-1)
    y = y + 0.5 * case.normal(prompts, pairs)  # with noise, no two mistakes look alike
    got, want = answer(x, y), answers(x, y, lambda i: range(i))
    few = isinstance(got, Tensor) and got.shape == want.shape and case.close(got[:, d:], want[:, d:], got.dtype, 20)
    case.same(
        got,
        want,
        {
            "the pair i itself is used to answer for y_i: use the pairs before it only": answers(
                x, y, lambda i: range(i + 1)
            ),
            "the pair i itself is used to answer for y_i, the first apart: use the pairs before it only": answers(
                x, y, lambda i: range(i + 1 if i else 0)
            ),
            "all pairs of the prompt are used, later ones too": answers(x, y, lambda i: range(pairs)),
            "the last pair before i is left out": answers(x, y, lambda i: range(max(i - 1, 0))),
            "the answer is 0 until there are d pairs; with fewer, the shortest w that fits is a better guess": answers(
                x, y, lambda i: range(i if i >= d else 0)
            ),
            "only the last d pairs are used; use all that came before": answers(
                x, y, lambda i: range(max(0, i - d), i)
            ),
            "only the first d pairs are used; use all that came before": answers(x, y, lambda i: range(min(i, d))),
            "this is ridge regression with penalty 1: the fit should be exact where it can be": answers(
                x, y, lambda i: range(i), ridge=1.0
            ),
            "this is one step of gradient descent, not the least-squares fit": answers(
                x, y, lambda i: range(i), step=True
            ),
            "these are the targets themselves": y,
            "this is the answer for x_(i-1); answer for x_i": shifted(x, y),
        },
        what="answer",
        loose=20,
        otherwise="with fewer than d pairs many w fit, and X^T X is singular; the pseudoinverse gives the shortest"
        if few
        else None,
    )


def solvable(case: Case, pairs: int, d: int) -> Tensor:
    """Inputs of one prompt, drawn until no prefix of them is close to singular."""
    while True:
        x = case.normal(pairs, d)
        if all(torch.linalg.svdvals(x[:i].double())[-1] > 0.3 for i in range(1, pairs + 1)):
            return x / d**0.5


def answers(x: Tensor, y: Tensor, used, ridge: float = 0.0, step: bool = False) -> Tensor:
    """x_i . w for each i, where w fits the pairs in `used(i)`: by the normal equations, or those of the dual."""
    x, y = x.double(), y.double()
    out = torch.zeros_like(y)
    for b in range(len(x)):
        for i in range(x.shape[1]):
            rows = list(used(i))
            if rows:
                a, t = x[b, rows], y[b, rows]
                if step:
                    w = a.mT @ t
                elif ridge or len(rows) >= a.shape[1]:
                    w = torch.linalg.solve(a.mT @ a + ridge * torch.eye(a.shape[1]), a.mT @ t)
                else:
                    w = a.mT @ torch.linalg.solve(a @ a.mT, t)
                out[b, i] = x[b, i] @ w
    return out


def shifted(x: Tensor, y: Tensor) -> Tensor:
    return answers(torch.cat([x[:, :1], x[:, :-1]], 1), torch.cat([y[:, :1], y[:, :-1]], 1), lambda i: range(1, i + 1))


@exercise("3.4", "curriculum_prompt")
def curriculum_prompt(answer, case: Case) -> None:
    prompts, pairs, d = case.different(3, 3, 7)
    active, shown = case.integer(1, d - 1), case.integer(1, pairs - 1)
    x, w = case.normal(prompts, pairs, d), case.normal(prompts, d)
    growth = (d / active) ** 0.5
    want = torch.zeros(prompts, 2 * shown, d, dtype=torch.float64)
    for b in range(prompts):
        for i in range(shown):
            for k in range(active):
                want[b, 2 * i, k] = growth * x[b, i, k].double()
                want[b, 2 * i + 1, 0] += w[b, k].double() * growth * x[b, i, k].double()

    def laid_out(x: Tensor, rule_of: Tensor | None = None) -> Tensor:
        tokens = torch.zeros(prompts, 2 * x.shape[1], d, dtype=torch.float64)
        tokens[:, 0::2] = x
        tokens[:, 1::2, 0] = torch.einsum("bnd,bd->bn", x if rule_of is None else rule_of, w.double())
        return tokens

    in_use = torch.arange(d) < active
    wide = x.double()
    full = wide[:, :shown]
    easy = growth * full * in_use
    swapped = want.unflatten(1, (shown, 2)).flip(2).flatten(1, 2)
    case.same(
        answer(x, w, active, shown),
        want,
        {
            "y comes from the full inputs: it depends on coordinates that the prompt does not show": laid_out(
                easy, full
            ),
            "y comes from the full inputs, enlarged: it depends on what the prompt does not show": laid_out(
                easy, growth * full
            ),
            "the coordinates in use do not grow by sqrt(d / a), so that the targets shrink": laid_out(full * in_use),
            "x grows after y was computed from it: w . x is not y any more": laid_out(easy, full * in_use),
            "the coordinates grow by d / a; the root keeps the variance": laid_out(growth * easy),
            "nothing is set to 0 in x": laid_out(full),
            "nothing is set to 0 in x; all of it grows": laid_out(growth * full),
            "y is right, and x still has all its coordinates": laid_out(growth * full, easy),
            "y is right, and x is what it was": laid_out(full, easy),
            "the last coordinates are kept; keep the first": laid_out(growth * full * in_use.flip(0)),
            "all pairs are there; show the first m": laid_out(growth * wide * in_use),
            "the coordinates are cut off; set them to 0, the model's width does not change": want[..., :active],
            "y_i stands before x_i": swapped,
        },
        what="entry",
    )


@exercise("3.5", "gradient_step_head")
def gradient_step_head(answer, case: Case) -> None:
    d, pairs = case.different(2, 3, 8)
    rate = case.integer(101, 3989) / 1000
    m, v = pair_of(answer(d, pairs, rate), "the matrices M and V")
    m, v = (case.tensor(matrix, (d + 1, d + 1), name) for matrix, name in ((m, "M"), (v, "V")))
    x, y, query = case.normal(pairs, d).double(), case.normal(pairs).double(), case.normal(d).double()
    for garbage in (0.0, 3.0):
        got = head_answer(m, v, x, y, query, garbage)
        want = 0.0
        for i in range(pairs):
            want += rate / pairs * float(y[i]) * sum(float(x[i, k] * query[k]) for k in range(d))
        if abs(got - want) <= 1e-4 * max(1, abs(want)):
            continue
        failed = f"the head answers {got:.6g}, and gradient descent {want:.6g}"
        if garbage:
            raise Mistake(
                f"with {garbage:g} in the last place of the query's token, {failed}",
                "the score looks at the query's last place, where no y is known yet: the last row of M should be 0",
            )
        raise Mistake(failed, why_no_gradient_step(m, v, x, y, query, got, want, rate, pairs))


def head_answer(m: Tensor, v: Tensor, x: Tensor, y: Tensor, query: Tensor, last: float) -> float:
    """The last coordinate of sum_i (z^T M z_i) V z_i, over the pairs z_i = (x_i, y_i), for the query z = (x, last)."""
    z = torch.cat([query, torch.tensor([last], dtype=torch.float64)])
    out = torch.zeros_like(z)
    for x_i, y_i in zip(x, y, strict=True):
        z_i = torch.cat([x_i, y_i[None]])
        out += (z @ m @ z_i) * (v @ z_i)
    return float(out[-1])


def why_no_gradient_step(m, v, x, y, query, got: float, want: float, rate: float, pairs: int) -> str | None:
    """The mistake in a head whose answer is `got`."""
    for hint, factor in {
        "the factor 1/n is missing: the loss is a mean over the pairs": pairs,
        "the sign: a step goes against the gradient": -1,
        "the learning rate is missing": 1 / rate,
        "a factor 2 too many: the loss is half the mean squared error": 2,
        "a factor 1/2 too many: the 1/2 of the loss cancels against the 2 of the square": 0.5,
        "the learning rate counts twice (in M and in V)": rate,
        "1/n counts twice (in M and in V)": 1 / pairs,
        "learning rate and 1/n are both missing": pairs / rate,
    }.items():
        if abs(got - factor * want) <= 1e-4 * max(1, abs(factor * want)):
            return hint
    if not v[-1].any():
        return "the last row of V is 0, so that nothing reaches the last place, where the answer is read"
    if m[:-1, -1].any():
        return "the score looks at y_i: the last column of M should be 0, and y_i enter through V"
    if v[-1, :-1].any():
        return "the value that reaches the last place should be y_i alone, and parts of x_i are in it"
    return None
