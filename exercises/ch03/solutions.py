"""Chapter 3's solutions, and for each another right answer."""

import torch
from jaxtyping import Float
from torch import Tensor


def sample_prompts(
    prompts: int, pairs: int, d: int, generator: torch.Generator
) -> tuple[Float[Tensor, "prompts tokens d"], Float[Tensor, "prompts pairs"]]:
    """Tokens x_1, (y_1, 0, ..., 0), x_2, (y_2, 0, ..., 0), ... of random regression tasks, and the targets y."""
    x = torch.randn(prompts, pairs, d, generator=generator) / d**0.5
    w = torch.randn(prompts, d, 1, generator=generator)
    y = x @ w  # (prompts, pairs, 1)
    tokens = torch.stack([x, torch.nn.functional.pad(y, (0, d - 1))], dim=2)  # (prompts, pairs, 2, d)
    return tokens.flatten(1, 2), y.squeeze(-1)


def sample_prompts_another(prompts, pairs, d, generator):
    tokens, targets = torch.zeros(prompts, 2 * pairs, d), torch.zeros(prompts, pairs)
    for b in range(prompts):
        w = torch.randn(d, generator=generator)
        tokens[b, 0::2] = torch.randn(pairs, d, generator=generator).mul(d**-0.5)
        targets[b] = tokens[b, 0::2] @ w
        tokens[b, 1::2, 0] = targets[b]
    return tokens, targets


def error_by_position(
    outputs: Float[Tensor, "prompts 2*pairs"], y: Float[Tensor, "prompts pairs"]
) -> Float[Tensor, " pairs"]:
    """The mean squared error of the answer for each y_i, read where the model has seen x_i and not yet y_i."""
    return (outputs[:, 0::2] - y).square().mean(dim=0)


def error_by_position_another(outputs, y):
    prompts, pairs = y.shape
    answers = outputs.unflatten(1, (pairs, 2)).select(2, 0)
    return torch.stack([(answers[:, i] - y[:, i]).norm() ** 2 / prompts for i in range(pairs)])


def least_squares(
    x: Float[Tensor, "prompts pairs d"], y: Float[Tensor, "prompts pairs"]
) -> Float[Tensor, "prompts pairs"]:
    """Answer for y_i: x_i . w, with the shortest w that fits the pairs before i best; 0 for the first."""
    answers = torch.zeros_like(y)
    for i in range(1, x.shape[1]):
        w = torch.linalg.pinv(x[:, :i]) @ y[:, :i, None]  # (prompts, d, 1)
        answers[:, i] = (x[:, i, None] @ w).flatten()
    return answers


def least_squares_another(x, y):
    d = x.shape[-1]
    answers = torch.zeros_like(y)
    for b in range(len(x)):
        w, unknown = torch.zeros(d, dtype=x.dtype), torch.eye(d, dtype=x.dtype)
        gram, moment = torch.zeros(d, d, dtype=x.dtype), torch.zeros(d, dtype=x.dtype)
        for i in range(x.shape[1]):  # one pair after the other, as a reader of the prompt meets them
            answers[b, i] = x[b, i] @ w
            gram, moment = gram + torch.outer(x[b, i], x[b, i]), moment + y[b, i] * x[b, i]
            if i < d:  # a new direction: move along what is still unknown of it
                direction = unknown @ x[b, i]
                w = w + direction * (y[b, i] - x[b, i] @ w) / (direction @ direction)
                unknown = unknown - torch.outer(direction, direction) / (direction @ direction)
            else:
                w = torch.linalg.solve(gram, moment)
    return answers


def curriculum_prompt(
    x: Float[Tensor, "prompts pairs d"], w: Float[Tensor, "prompts d"], active: int, shown: int
) -> Float[Tensor, "prompts 2*shown d"]:
    """The tokens of an easier prompt: `active` coordinates, larger by sqrt(d / active), and `shown` pairs."""
    d = x.shape[-1]
    x = x[:, :shown] * (d / active) ** 0.5
    x[..., active:] = 0
    y = torch.einsum("bnd,bd->bn", x, w)  # what the easier inputs give, not what the full ones gave
    tokens = x.new_zeros(len(x), 2 * shown, d)
    tokens[:, 0::2], tokens[:, 1::2, 0] = x, y
    return tokens


def curriculum_prompt_another(x, w, active, shown):
    keep = (torch.arange(x.shape[-1]) < active).to(x.dtype)
    x = x.narrow(1, 0, shown) * keep / keep.mean().sqrt()
    y = torch.nn.functional.pad((x * w[:, None]).sum(-1, keepdim=True), (0, x.shape[-1] - 1))
    return torch.cat([x, y], dim=-1).reshape(len(x), -1, x.shape[-1])


def gradient_step_head(d: int, pairs: int, rate: float) -> tuple[Float[Tensor, "d+1 d+1"], Float[Tensor, "d+1 d+1"]]:
    """M and V of a linear attention head whose answer is that of one step of gradient descent from w = 0."""
    m, v = torch.zeros(d + 1, d + 1), torch.zeros(d + 1, d + 1)
    m[:d, :d] = torch.eye(d)  # the score of a pair is x . x_i, whatever stands in the last place
    v[d, d] = rate / pairs  # the value of a pair is its y_i, in the last place
    return m, v


def gradient_step_head_another(d, pairs, rate):
    m = torch.block_diag(torch.eye(d) * rate, torch.zeros(1, 1))
    return m, torch.block_diag(torch.zeros(d, d), torch.ones(1, 1)) / pairs
