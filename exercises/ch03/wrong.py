"""Chapter 3's planted wrong answers."""

import torch

from ..wrong import wrong
from .solutions import curriculum_prompt, gradient_step_head

# 3.1


def lay_out(x, y):
    tokens = torch.zeros(len(x), 2 * x.shape[1], x.shape[2])
    tokens[:, 0::2], tokens[:, 1::2, 0] = x, y
    return tokens, y


def draw(prompts, pairs, d, generator):
    x = torch.randn(prompts, pairs, d, generator=generator) / d**0.5
    return x, torch.randn(prompts, d, 1, generator=generator)


@wrong("3.1", "inputs of variance 1", says="divide by sqrt(d)")
def unit_inputs(prompts, pairs, d, generator):
    x, w = draw(prompts, pairs, d, generator)
    x = x * d**0.5
    return lay_out(x, (x @ w).squeeze(-1))


@wrong("3.1", "one task for all prompts", says="draw a fresh w for every prompt")
def one_task(prompts, pairs, d, generator):
    x, w = draw(prompts, pairs, d, generator)
    return lay_out(x, (x @ w[:1]).squeeze(-1))


@wrong("3.1", "noise on the targets", says="noise is added to y")
def noisy(prompts, pairs, d, generator):
    x, w = draw(prompts, pairs, d, generator)
    y = (x @ w).squeeze(-1)
    return lay_out(x, y + 0.1 * torch.randn(y.shape, generator=generator))


@wrong("3.1", "the target in the last place", says="y_i stands in the last place")
def last_place(prompts, pairs, d, generator):
    x, w = draw(prompts, pairs, d, generator)
    tokens, y = lay_out(x, (x @ w).squeeze(-1))
    tokens[:, 1::2] = tokens[:, 1::2].flip(-1)
    return tokens, y


@wrong("3.1", "the target in every place", says="y_i is repeated")
def every_place(prompts, pairs, d, generator):
    x, w = draw(prompts, pairs, d, generator)
    tokens, y = lay_out(x, (x @ w).squeeze(-1))
    tokens[:, 1::2] = y[..., None]
    return tokens, y


@wrong("3.1", "all inputs first", says="they should alternate")
def not_interleaved(prompts, pairs, d, generator):
    x, w = draw(prompts, pairs, d, generator)
    y = x @ w
    return torch.cat([x, torch.nn.functional.pad(y, (0, d - 1))], dim=1), y.squeeze(-1)


@wrong("3.1", "weights scaled as well", says="w is divided by sqrt(d) too")
def scaled_weights(prompts, pairs, d, generator):
    x, w = draw(prompts, pairs, d, generator)
    return lay_out(x, (x @ w).squeeze(-1) / d**0.5)


@wrong("3.1", "the global generator", says="`generator=generator` is missing")
def global_generator(prompts, pairs, d, generator):
    x = torch.randn(prompts, pairs, d) / d**0.5
    return lay_out(x, (x @ torch.randn(prompts, d, 1)).squeeze(-1))


@wrong("3.1", "uniform inputs", says="torch.rand")
def uniform(prompts, pairs, d, generator):
    x = torch.rand(prompts, pairs, d, generator=generator)
    return lay_out(x, (x @ torch.randn(prompts, d, 1, generator=generator)).squeeze(-1))


# 3.2


@wrong("3.2", "read where the target stands", says="has just been told it")
def leak(outputs, y):
    return (outputs[:, 1::2] - y).square().mean(0)


@wrong("3.2", "mean over the positions", says="should run over the prompts")
def over_positions(outputs, y):
    return (outputs[:, 0::2] - y).square().mean(1)


@wrong("3.2", "the first half of the tokens", says="the first half")
def first_half(outputs, y):
    return (outputs[:, : y.shape[1]] - y).square().mean(0)


@wrong("3.2", "one number", says="keep the positions apart")
def one_number(outputs, y):
    return (outputs[:, 0::2] - y).square().mean()


@wrong("3.2", "squared too late", says="square first")
def squared_late(outputs, y):
    return (outputs[:, 0::2] - y).mean(0).square()


@wrong("3.2", "sum in place of mean", says="take the mean")
def summed(outputs, y):
    return (outputs[:, 0::2] - y).square().sum(0)


# 3.3


def fit(x, y, used):
    answers = torch.zeros_like(y)
    for i in range(x.shape[1]):
        rows = used(i)
        if len(rows):
            answers[:, i] = (x[:, i, None] @ torch.linalg.pinv(x[:, rows]) @ y[:, rows, None]).flatten()
    return answers


@wrong("3.3", "the answer used to find the answer", says="the pair i itself is used")
def leaking(x, y):
    return fit(x, y, lambda i: list(range(i + 1)))


@wrong("3.3", "the answer used, but for the first", says="the first apart")
def leaking_later(x, y):
    return fit(x, y, lambda i: list(range(i + 1 if i else 0)))


@wrong("3.3", "the whole prompt fitted at once", says="later ones too")
def whole_prompt(x, y):
    w = torch.linalg.pinv(x) @ y[..., None]
    return (x @ w).squeeze(-1)


@wrong("3.3", "waiting for d pairs", says="until there are d pairs")
def waiting(x, y):
    return fit(x, y, lambda i: list(range(i if i >= x.shape[-1] else 0)))


@wrong("3.3", "ridge regression", says="ridge regression")
def ridge(x, y):
    answers = torch.zeros_like(y)
    for i in range(1, x.shape[1]):
        a = x[:, :i]
        w = torch.linalg.solve(a.mT @ a + torch.eye(x.shape[-1], dtype=x.dtype), a.mT @ y[:, :i, None])
        answers[:, i] = (x[:, i, None] @ w).flatten()
    return answers


@wrong("3.3", "one pair too few", says="left out")
def one_too_few(x, y):
    return fit(x, y, lambda i: list(range(max(i - 1, 0))))


@wrong("3.3", "some fit, and not the shortest", says="gives the shortest")
def some_fit(x, y):
    answers = torch.zeros_like(y)
    for i in range(1, x.shape[1]):
        used = min(i, x.shape[-1])  # as many coordinates as there are pairs, the others stay 0
        w = torch.linalg.pinv(x[:, :i, :used]) @ y[:, :i, None]
        answers[:, i] = (x[:, i, None, :used] @ w).flatten()
    return answers


# 3.4


def grown(x, active):
    return x * (x.shape[-1] / active) ** 0.5


@wrong("3.4", "targets of the full inputs", says="coordinates that the prompt does not show")
def full_targets(x, w, active, shown):
    tokens = curriculum_prompt(x, w, active, shown)
    tokens[:, 1::2, 0] = torch.einsum("bnd,bd->bn", x, w)[:, :shown]
    return tokens


@wrong("3.4", "inputs that do not grow", says="do not grow by sqrt(d / a)")
def not_grown(x, w, active, shown):
    return curriculum_prompt(x, w, active, shown) / grown(torch.ones(x.shape[-1], dtype=x.dtype), active)[0]


@wrong("3.4", "growth without the root", says="the root keeps the variance")
def no_root(x, w, active, shown):
    return grown(curriculum_prompt(x, w, active, shown), active)


@wrong("3.4", "coordinates cut off", says="cut off")
def cut_off(x, w, active, shown):
    return curriculum_prompt(x, w, active, shown)[..., :active]


@wrong("3.4", "the last coordinates kept", says="keep the first")
def last_kept(x, w, active, shown):
    d = x.shape[-1]
    return curriculum_prompt(grown(x, active) * (torch.arange(d) >= d - active), w, d, shown)


@wrong("3.4", "inputs left as they were", says="x is what it was")
def inputs_left(x, w, active, shown):
    tokens = curriculum_prompt(x, w, active, shown)
    tokens[:, 0::2] = x[:, :shown]
    return tokens


@wrong("3.4", "all pairs shown", says="all pairs are there")
def all_pairs(x, w, active, shown):
    return curriculum_prompt(x, w, active, x.shape[1])


@wrong("3.4", "no curriculum", says="nothing is set to 0")
def no_curriculum(x, w, active, shown):
    return curriculum_prompt(x, w, x.shape[-1], shown)


# 3.5


@wrong("3.5", "a sum in place of a mean", says="1/n is missing")
def no_mean(d, pairs, rate):
    m, v = gradient_step_head(d, pairs, rate)
    return m, v * pairs


@wrong("3.5", "along the gradient", says="against the gradient")
def uphill(d, pairs, rate):
    m, v = gradient_step_head(d, pairs, rate)
    return m, -v


@wrong("3.5", "the whole identity as form", says="the last row of M should be 0")
def whole_identity(d, pairs, rate):
    _, v = gradient_step_head(d, pairs, rate)
    m = torch.zeros(d + 1, d + 1)
    return m + torch.eye(d + 1), v


@wrong("3.5", "the values are the inputs", says="nothing reaches the last place")
def input_values(d, pairs, rate):
    m, _ = gradient_step_head(d, pairs, rate)
    return m, torch.block_diag(torch.eye(d), torch.zeros(1, 1)) * rate / pairs


@wrong("3.5", "twice the gradient", says="half the mean squared error")
def twice(d, pairs, rate):
    m, v = gradient_step_head(d, pairs, rate)
    return 2 * m, v


@wrong("3.5", "inputs among the values", says="parts of x_i are in it")
def mixed_values(d, pairs, rate):
    m, v = gradient_step_head(d, pairs, rate)
    v = v.clone()
    v[-1, :] = rate / pairs
    return m, v
