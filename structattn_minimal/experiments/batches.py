"""Batches of text: random stretches to train on, and windows side by side to validate on."""

from collections.abc import Iterator

import torch
from jaxtyping import Int, Integer
from torch import Tensor


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
    start = torch.randint(len(tokens) - context, (batch, 1), generator=generator, device=tokens.device)
    stretches = tokens[start + torch.arange(context + 1, device=tokens.device)].long()  # (batch, context + 1)
    return stretches[:, :-1], stretches[:, 1:]


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
