"""Chapter 11's planted wrong answers."""

import torch

from ..wrong import wrong
from .solutions import adam_rates, best_answers, curriculum, relative_budgets

# 11.1


def lay_out(x, y):
    tokens = torch.zeros(len(x), 2 * x.shape[1], x.shape[2])
    tokens[:, 0::2], tokens[:, 1::2, 0] = x, y
    return tokens, y


def numbers(prompts, pairs, d, generator):
    """Standard normal inputs, and weights."""
    x = torch.randn(prompts, pairs, d, generator=generator)
    return x, torch.randn(prompts, d, 1, generator=generator)


def batch(prompts, pairs, d, number, inputs=lambda x, d: x / d**0.5, weights=lambda w, d: w):
    x, w = numbers(prompts, pairs, d, torch.Generator().manual_seed(number))
    x = inputs(x, d)
    return lay_out(x, (x @ weights(w, d)).squeeze(-1))


def both(seed, step):
    return 1_000_000 * seed + step


@wrong("11.1", "seed and step added", says="made into one number")
def added(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, seed + step)


@wrong("11.1", "a stride that is too short", says="made into one number")
def short_stride(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, 1000 * seed + step)


@wrong("11.1", "seed and step multiplied", says="made into one number")
def multiplied(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, (seed + 1) * (step + 1))


@wrong("11.1", "the digits of seed and step written after each other", says="made into one number")
def digits(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, int(f"{seed}{step}"))


@wrong("11.1", "the seed in bits that are not heeded", says="heeds the lowest 32 bits")
def high_bits(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, (seed << 32) + step)


@wrong("11.1", "the same batch at every step", says="the step makes no difference")
def no_step(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, seed)


@wrong("11.1", "a number of its own for each prompt, and the next step begins at the next", says="in common")
def sliding(seed, step, prompts, pairs, d):
    tokens, y = zip(*(batch(1, pairs, d, both(seed, step + b)) for b in range(prompts)), strict=True)
    return torch.cat(tokens), torch.cat(y)


@wrong("11.1", "the global generator", says="outlives the call")
def unseeded(seed, step, prompts, pairs, d):
    x, w = numbers(prompts, pairs, d, None)
    return lay_out(x / d**0.5, (x / d**0.5 @ w).squeeze(-1))


@wrong("11.1", "one task for a whole training", says="a task of its own")
def one_training(seed, step, prompts, pairs, d):
    x, _ = numbers(prompts, pairs, d, torch.Generator().manual_seed(both(seed, step)))
    w = torch.randn(prompts, d, 1, generator=torch.Generator().manual_seed(seed))
    return lay_out(x / d**0.5, (x / d**0.5 @ w).squeeze(-1))


@wrong("11.1", "weights that are the first input", says="not independent of x")
def two_of_one_seed(seed, step, prompts, pairs, d):
    x = torch.randn(prompts, pairs * d, generator=torch.Generator().manual_seed(both(seed, step)))
    x = x.view(prompts, pairs, d)
    w = x[:, 0, :, None]
    return lay_out(x / d**0.5, (x / d**0.5 @ w).squeeze(-1))


@wrong("11.1", "inputs of variance 1", says="divide by sqrt(d)")
def unit_inputs(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, both(seed, step), inputs=lambda x, d: x)


@wrong("11.1", "inputs divided by d", says="x is divided by d")
def small_inputs(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, both(seed, step), inputs=lambda x, d: x / d)


@wrong("11.1", "weights scaled as well", says="w is divided by sqrt(d) too")
def scaled_weights(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, both(seed, step), weights=lambda w, d: w / d**0.5)


@wrong("11.1", "weights of two values", says="the numbers are not normal")
def signs(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, both(seed, step), weights=lambda w, d: w.sign())


@wrong("11.1", "uniform weights of variance 1", says="the numbers are not normal")
def uniform_weights(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, both(seed, step), weights=lambda w, d: 12**0.5 * (torch.special.ndtr(w) - 0.5))


@wrong("11.1", "one task for all prompts", says="draw a fresh w for every prompt")
def one_task(seed, step, prompts, pairs, d):
    return batch(prompts, pairs, d, both(seed, step), weights=lambda w, d: w[:1])


@wrong("11.1", "targets before inputs", says="x_i comes first")
def targets_first(seed, step, prompts, pairs, d):
    tokens, y = batch(prompts, pairs, d, both(seed, step))
    return tokens.unflatten(1, (pairs, 2)).flip(2).flatten(1, 2), y


# 11.2


def ridge(x, y, penalty, used=lambda i, n: range(i)):
    answers = torch.zeros_like(y)
    for i in range(x.shape[1]):
        rows = list(used(i, x.shape[1]))
        if rows:
            a, eye = x[:, rows], torch.eye(x.shape[-1], dtype=x.dtype)
            w = torch.linalg.solve(a.mT @ a + penalty(len(rows)) * eye, a.mT @ y[:, rows, None])
            answers[:, i] = (x[:, i, None] @ w).flatten()
    return answers


@wrong("11.2", "the deviation as penalty", says="should be the variance")
def deviation(x, y, noise):
    return ridge(x, y, lambda n: noise)


@wrong("11.2", "least squares", says="the penalty is missing")
def least_squares(x, y, noise):
    answers = torch.zeros_like(y)
    for i in range(1, x.shape[1]):
        answers[:, i] = (x[:, i, None] @ torch.linalg.pinv(x[:, :i]) @ y[:, :i, None]).flatten()
    return answers


@wrong("11.2", "the mean of the squared errors", says="grows with the number of pairs")
def mean_loss(x, y, noise):
    return ridge(x, y, lambda n: n * noise**2)


@wrong("11.2", "weights of variance 1/d", says="the weights have variance 1")
def small_weights(x, y, noise):
    return ridge(x, y, lambda n: noise**2 * x.shape[-1])


@wrong("11.2", "penalty over d", says="nothing is to be divided by d")
def over_d(x, y, noise):
    return ridge(x, y, lambda n: noise**2 / x.shape[-1])


@wrong("11.2", "penalty 1", says="the penalty is 1, whatever")
def penalty_one(x, y, noise):
    return ridge(x, y, lambda n: 1.0)


@wrong("11.2", "the answer used to find the answer", says="the pair i itself is used")
def leaking(x, y, noise):
    return ridge(x, y, lambda n: noise**2, lambda i, n: range(i + 1))


@wrong("11.2", "the whole prompt", says="later ones too")
def whole_prompt(x, y, noise):
    return ridge(x, y, lambda n: noise**2, lambda i, n: range(n))


@wrong("11.2", "all pairs but one", says="all other pairs are used")
def all_others(x, y, noise):
    return ridge(x, y, lambda n: noise**2, lambda i, n: [j for j in range(n) if j != i])


@wrong("11.2", "one pair too few", says="left out")
def one_too_few(x, y, noise):
    return ridge(x, y, lambda n: noise**2, lambda i, n: range(max(i - 1, 0)))


@wrong("11.2", "waiting for d pairs", says="until there are d pairs")
def waiting(x, y, noise):
    answers = best_answers(x, y, noise)
    answers[:, : x.shape[-1]] = 0
    return answers


# 11.3


def masked(x, w, active, divisor=None):
    keep = torch.arange(x.shape[-1]) < active[:, None, None]
    x = x * keep / (active if divisor is None else divisor).to(x.dtype).sqrt().view(-1, 1, 1)
    return x, (x * w[:, None]).sum(-1)


def grown(x, step, steps, share):
    return 1 + (step * x.shape[-1] / (share * steps)).long()


@wrong("11.3", "no dimension at first", says="not none")
def from_zero(x, w, step, steps, share):
    return masked(x, w, (grown(x, step, steps, share) - 1).clamp(max=x.shape[-1]))


@wrong("11.3", "more dimensions than there are", says="no more than d dimensions")
def unclamped(x, w, step, steps, share):
    return masked(x, w, grown(x, step, steps, share))


@wrong("11.3", "the whole training to grow", says="not only at the end")
def share_ignored(x, w, step, steps, share):
    return curriculum(x, w, step, steps, 1.0)


@wrong("11.3", "rounded to the nearest", says="rounded to the nearest")
def rounded(x, w, step, steps, share):
    d = x.shape[-1]
    return masked(x, w, (1 + (step * d / (share * steps)).round().long()).clamp(max=d))


@wrong("11.3", "not rescaled", says="not by sqrt(a)")
def not_rescaled(x, w, step, steps, share):
    d = x.shape[-1]
    return masked(x, w, grown(x, step, steps, share).clamp(max=d), torch.full_like(step, d))


@wrong("11.3", "divided by a", says="the root of it keeps")
def no_root(x, w, step, steps, share):
    active = grown(x, step, steps, share).clamp(max=x.shape[-1])
    return masked(x, w, active, active**2)


@wrong("11.3", "rescaled as if x were N(0, I / d)", says="not yet N(0, I / d)")
def scaled_already(x, w, step, steps, share):
    d, active = x.shape[-1], grown(x, step, steps, share).clamp(max=x.shape[-1])
    return masked(x, w, active, active / d)


@wrong("11.3", "one step for all", says="that of the first")
def one_step(x, w, step, steps, share):
    return curriculum(x, w, step[:1].expand_as(step), steps, share)


@wrong("11.3", "no mask", says="set those from a on to 0")
def no_mask(x, w, step, steps, share):
    active = grown(x, step, steps, share).clamp(max=x.shape[-1]).to(x.dtype)
    x = x / active.sqrt()[:, None, None]
    return x, (x * w[:, None]).sum(-1)


@wrong("11.3", "a mask on the pairs", says="belongs on the coordinates")
def mask_on_pairs(x, w, step, steps, share):
    active = grown(x, step, steps, share).clamp(max=x.shape[-1])
    x = x * (torch.arange(x.shape[1]) < active[:, None])[..., None] / active.to(x.dtype).sqrt()[:, None, None]
    return x, (x * w[:, None]).sum(-1)


@wrong("11.3", "targets of the full inputs", says="y comes from the full inputs")
def full_targets(x, w, step, steps, share):
    return curriculum(x, w, step, steps, share)[0], (x * w[:, None]).sum(-1) / x.shape[-1] ** 0.5


@wrong("11.3", "targets before the scaling", says="before they were scaled")
def targets_too_early(x, w, step, steps, share):
    active = grown(x, step, steps, share).clamp(max=x.shape[-1])
    easier, y = curriculum(x, w, step, steps, share)
    return easier, y * active.to(x.dtype).sqrt()[:, None]


# 11.4


def with_fan_ins(shapes, rate, base_width, right, left):
    rates = adam_rates(shapes, rate, base_width)
    for name, shape in shapes.items():
        if name.endswith("right"):
            rates[name] = rate * base_width / right(*shape)
        if name.endswith("left"):
            rates[name] = rate * base_width / left(*shape)
    return rates


@wrong("11.4", "factors like dense weights", says="the fan_in of a dense matrix")
def dense(shapes, rate, base_width):
    return with_fan_ins(shapes, rate, base_width, lambda h, c, d, b, s: c * d, lambda h, b, c, s, a: a * b)


@wrong("11.4", "s forgotten", says="its fan_in is c s")
def no_rank(shapes, rate, base_width):
    return with_fan_ins(shapes, rate, base_width, lambda h, c, d, b, s: d, lambda h, b, c, s, a: c)


@wrong("11.4", "blocks counted in the left factor", says="b only numbers its blocks")
def all_of_left(shapes, rate, base_width):
    return with_fan_ins(shapes, rate, base_width, lambda h, c, d, b, s: d, lambda h, b, c, s, a: b * c * s)


@wrong("11.4", "fan_outs", says="these are the fan_outs")
def fan_outs(shapes, rate, base_width):
    return with_fan_ins(shapes, rate, base_width, lambda h, c, d, b, s: b * s, lambda h, b, c, s, a: a)


@wrong("11.4", "the last axis as everywhere else", says="the last axis as fan_in")
def last_axis(shapes, rate, base_width):
    return with_fan_ins(shapes, rate, base_width, lambda h, c, d, b, s: s, lambda h, b, c, s, a: a)


@wrong("11.4", "axis 1 as everywhere else", says="axis 1 as fan_in")
def axis_one(shapes, rate, base_width):
    return with_fan_ins(shapes, rate, base_width, lambda h, c, d, b, s: c, lambda h, b, c, s, a: b)


def changed(shapes, rate, base_width, change):
    rates = adam_rates(shapes, rate, base_width)
    return {name: change(name, shape, rates[name]) for name, shape in shapes.items()}


@wrong("11.4", "outputs of a dense weight", says="shape[1]")
def dense_transposed(shapes, rate, base_width):
    def change(name, shape, right):
        hidden = len(shape) == 2 and name not in ("embed.weight", "position")
        return rate * base_width / shape[0] if hidden else right

    return changed(shapes, rate, base_width, change)


@wrong("11.4", "embeddings scaled", says="embedding and positions keep")
def embeddings_too(shapes, rate, base_width):
    def change(name, shape, right):
        return rate * base_width / shape[1] if name in ("embed.weight", "position") else right

    return changed(shapes, rate, base_width, change)


@wrong("11.4", "norms scaled", says="norms keep the base rate")
def norms_too(shapes, rate, base_width):
    return changed(shapes, rate, base_width, lambda n, s, right: rate * base_width / s[0] if len(s) == 1 else right)


@wrong("11.4", "only the factors scaled", says="the dense ones too")
def factors_alone(shapes, rate, base_width):
    return changed(shapes, rate, base_width, lambda n, s, right: right if len(s) == 5 else rate)


@wrong("11.4", "upside down", says="they should fall")
def upside_down(shapes, rate, base_width):
    return changed(shapes, rate, base_width, lambda n, s, right: rate**2 / right)


@wrong("11.4", "the root", says="the root belongs to the initial weights")
def roots(shapes, rate, base_width):
    return changed(shapes, rate, base_width, lambda n, s, right: (rate * right) ** 0.5)


@wrong("11.4", "the rate left out", says="multiply them by the base rate")
def factors_of_the_rate(shapes, rate, base_width):
    return adam_rates(shapes, 1.0, base_width)


# 11.5


def budgets(record, threshold, reference, error, cost=lambda run: run["training_macs_a_model"], pick=min):
    fewest = {}
    for method in record["setting"]["methods"]:
        good = [
            run
            for run in record["runs"].values()
            if run["method"] == method and run["status"] == "finished" and (error(run) or 1e9) < threshold
        ]
        fewest[method] = pick(map(cost, good), default=None)
    return {method: macs and macs / fewest[reference] for method, macs in fewest.items()}


def mean(models):
    errors = [model["last"] for model in models]
    return None if None in errors or not errors else sum(errors) / len(errors)


@wrong("11.5", "the best seed", says="the best seed")
def best_seed(record, threshold, reference):
    return budgets(record, threshold, reference, lambda run: run["lowest"])


@wrong("11.5", "the median seed", says="the median seed")
def median_seed(record, threshold, reference):
    def error(run):
        errors = sorted(1e9 if m["last"] is None else m["last"] for m in run["by_seed"])
        return errors[1] if errors else None

    return budgets(record, threshold, reference, error)


@wrong("11.5", "every seed below", says="their mean is enough")
def every_seed(record, threshold, reference):
    return budgets(record, threshold, reference, lambda run: mean(run["by_seed"]) and run["highest"])


@wrong("11.5", "the mean of those that did not diverge", says="flatters")
def survivors(record, threshold, reference):
    return budgets(record, threshold, reference, lambda run: run["last"])


@wrong("11.5", "a diverged model as error 0", says="counts as an error of 0")
def diverged_as_zero(record, threshold, reference):
    def error(run):
        return sum(m["last"] or 0.0 for m in run["by_seed"]) / 3

    return budgets(record, threshold, reference, error)


@wrong("11.5", "the sweep's models", says="chosen for its error")
def the_sweep(record, threshold, reference):
    def error(run):
        return min((m["last"] for m in run["swept"] if m["last"] is not None), default=None)

    return budgets(record, threshold, reference, error)


@wrong("11.5", "sweep and seeds mixed", says="mixed with the reported seeds")
def mixed(record, threshold, reference):
    return budgets(record, threshold, reference, lambda run: mean(run["by_seed"] + run["swept"]))


@wrong("11.5", "MACs of attention", says="the whole model")
def attention_alone(record, threshold, reference):
    def cost(run):
        return sum(run["macs_a_token"][part] for part in ("attention_projections", "scores", "values"))

    return budgets(record, threshold, reference, lambda run: mean(run["by_seed"]), cost)


@wrong("11.5", "widths", says="ratios of widths")
def widths(record, threshold, reference):
    return budgets(record, threshold, reference, lambda run: mean(run["by_seed"]), lambda run: run["width"])


@wrong("11.5", "the most that was spent", says="not the least that was enough")
def the_most(record, threshold, reference):
    return budgets(record, threshold, reference, lambda run: mean(run["by_seed"]), pick=max)


@wrong("11.5", "upside down", says="upside down")
def reference_above(record, threshold, reference):
    return {m: ratio and 1 / ratio for m, ratio in relative_budgets(record, threshold, reference).items()}


@wrong("11.5", "no entry for a method that fails", says="as None")
def left_out(record, threshold, reference):
    return {m: ratio for m, ratio in relative_budgets(record, threshold, reference).items() if ratio is not None}


@wrong("11.5", "runs found by how their names begin", says="may be one of standard_1")
def by_name(record, threshold, reference):
    fewest = {}
    for method in record["setting"]["methods"]:
        good = [
            run["training_macs_a_model"]
            for name, run in record["runs"].items()
            if name.startswith(method) and run["status"] == "finished" and (mean(run["by_seed"]) or 1e9) < threshold
        ]
        fewest[method] = min(good, default=None)
    return {method: macs and macs / fewest[reference] for method, macs in fewest.items()}
