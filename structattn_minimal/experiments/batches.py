"""Batches of text: random stretches to train on, and windows side by side to validate on."""

from collections.abc import Iterator

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from . import counter


def batches(
    tokens: Integer[Tensor, " tokens"], *, batch: int, context: int, generator: torch.Generator
) -> Iterator[tuple[Int[Tensor, "batch context"], Int[Tensor, "batch context"]]]:
    """Without end: what `sample` draws."""
    while True:
        yield sample(tokens, batch=batch, context=context, generator=generator)


def sample(
    tokens: Integer[Tensor, " tokens"], *, batch: int, context: int, generator: torch.Generator | None = None
) -> tuple[Int[Tensor, "batch context"], Int[Tensor, "batch context"]]:
    """Random stretches of the text, and the same stretches one character later.

    Drawn where the tokens are, which `generator` must be too. The host never waits for a GPU, so a CUDA graph may hold
    this, and only what is drawn becomes 8 bytes a token.

    Raises `ValueError` if the text is too short.
    """
    long_enough(tokens, context)
    starts = torch.randint(len(tokens) - context, (batch,), generator=generator, device=tokens.device)
    return stretches(tokens, starts, context)


def counted_sample(
    tokens: Integer[Tensor, " tokens"],
    seeds: Int[Tensor, " seeds"],
    step: Int[Tensor, "1"],
    *,
    batch: int,
    context: int,
    share: tuple[int, int] = (0, 1),
) -> tuple[Int[Tensor, "seeds batch context"], Int[Tensor, "seeds batch context"]]:
    """What `sample` draws, but for each seed and as a function of it and of the step (`counter`).

    share: (i, n), each n-th stretch of the batch from the i-th: what one of n processes takes.
    Raises `ValueError` if the text is too short.
    """
    long_enough(tokens, context)
    bits = counter.shifted(counter.words(seeds, step, batch), 1)  # not negative
    return stretches(tokens, bits[:, share[0] :: share[1]] % (len(tokens) - context), context)


def stretches(
    tokens: Integer[Tensor, " tokens"], starts: Int[Tensor, "*batch"], context: int
) -> tuple[Int[Tensor, "*batch context"], Int[Tensor, "*batch context"]]:
    """The stretches of `context` characters from `starts` on, and the same one character later."""
    found = tokens[starts[..., None] + torch.arange(context + 1, device=tokens.device)].long()  # (*batch, context + 1)
    return found[..., :-1], found[..., 1:]


def windows(
    tokens: Integer[Tensor, " tokens"], *, context: int, most: int | None = None
) -> tuple[Integer[Tensor, "windows context"], Integer[Tensor, "windows context"]]:
    """Stretches of the text side by side, and the same one character later: always the same ones.

    There are as many as fit, or at most `most` of them, spread evenly over the text. They are of the type of `tokens`:
    make what you feed to a model `long`.

    Raises `ValueError` if the text is too short for one.
    """
    long_enough(tokens, context)
    count = (len(tokens) - 1) // context
    inputs = tokens[: count * context].view(count, context)
    targets = tokens[1 : count * context + 1].view(count, context)
    if most is None or count <= most:
        return inputs, targets
    rows = torch.arange(most, device=tokens.device) * count // most
    return inputs[rows], targets[rows]


def long_enough(tokens: Integer[Tensor, " tokens"], context: int) -> None:
    if len(tokens) <= context:
        raise ValueError(f"tokens must be more than context = {context}, got {len(tokens)}")
