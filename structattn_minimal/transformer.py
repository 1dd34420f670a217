"""One GPT for tokens and for vectors, with any kind of attention: pre-norm, no biases, learned positions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu

from .attention import StandardAttention, linear
from .attention_bilinear import BilinearBTTAttention, BilinearMLRAttention
from .attention_local import GlobalSlidingWindowAttention, MLRAttention, SlidingWindowAttention
from .cache import AttentionCache
from .checks import dtype_and_shape_of, positive_int, require
from .cuda_graph import captured

ATTENTION_KINDS = {
    "standard": StandardAttention,
    "swa": SlidingWindowAttention,
    "gswa": GlobalSlidingWindowAttention,
    "btt": BilinearBTTAttention,
    "bilinear_mlr": BilinearMLRAttention,
    "mlr": MLRAttention,
}


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.

    Args:
        n_layers, n_heads, d_model: depth, heads a layer, width.
        context: the longest sequence.
        vocab_size: tokens in, logits out; or else
        d_in, d_out: vectors in, vectors out.
        attention: a key of `ATTENTION_KINDS`, or one for each layer.
        attention_options: keyword arguments of that kind, such as `{"ranks": (32, 16, 16)}`, or those of each layer.
        expansion: width of the feed-forward layer over `d_model`.

    Raises `ValueError` for an unknown kind, for options that do not fit it, that are not causal or have a context
    shorter than `context`, for as many of either as there are no layers, and unless exactly one of `vocab_size` and
    (`d_in`, `d_out`) is given.
    """

    n_layers: int
    n_heads: int
    d_model: int
    context: int
    vocab_size: int | None = None
    d_in: int | None = None
    d_out: int | None = None
    attention: str | Sequence[str] = "standard"
    attention_options: dict | Sequence[dict] = field(default_factory=dict)
    expansion: int = 4

    def __post_init__(self):
        for name in ("n_layers", "n_heads", "d_model", "context", "expansion"):
            positive_int(name, getattr(self, name))
        ends = "vocab_size" if self.vocab_size is not None else "d_in and d_out"
        for name, wanted in (("vocab_size", "vocab_size"), ("d_in", "d_in and d_out"), ("d_out", "d_in and d_out")):
            value = getattr(self, name)
            require(
                (value is not None) == (ends == wanted),
                "give either vocab_size or both d_in and d_out, "
                f"got vocab_size={self.vocab_size}, d_in={self.d_in}, d_out={self.d_out}",
            )
            if value is not None:
                positive_int(name, value)
        self._check_attention()

    @property
    def layers(self) -> tuple[tuple[str, dict], ...]:
        """Of each layer the kind of attention and its keyword arguments: its options, and the context where it asks."""
        kinds, options = (
            (given,) * self.n_layers if isinstance(given, str | dict) else tuple(given)
            for given in (self.attention, self.attention_options)
        )
        with_context = ({"context": self.context} if kind == "mlr" else {} for kind in kinds)
        return tuple((kind, own | given) for kind, own, given in zip(kinds, with_context, options, strict=True))

    def _check_attention(self):
        self._check_one_or_each("attention", str, "a key of ATTENTION_KINDS")
        self._check_one_or_each("attention_options", dict, "a dict")
        known = tuple(ATTENTION_KINDS)
        for kind, _ in self.layers:
            require(kind in known, f"attention must be one of {known}, got {kind!r}")
        for i, (kind, options) in enumerate(self.layers):
            self._check_options(i, ATTENTION_KINDS[kind], options)

    def _check_one_or_each(self, name: str, type_: type, wanted: str):
        given, each = getattr(self, name), f"one for each of n_layers = {self.n_layers}"
        if isinstance(given, type_):
            return
        several = isinstance(given, Sequence) and all(isinstance(one, type_) for one in given)
        require(several, f"{name} must be {wanted}, or {each}, got {given!r}")
        require(len(given) == self.n_layers, f"{name} must be one for all or {each}, got {len(given)}")

    def _check_options(self, layer: int, kind: type[nn.Module], options: dict):
        try:
            with torch.device("meta"):  # a layer without numbers
                attention = kind(self.d_model, self.n_heads, **options)
        except TypeError as error:
            name, given = kind.__name__, self.attention_options
            if not (isinstance(self.attention, str) and isinstance(given, dict)):
                name, given = f"{name} in layer {layer}", given if isinstance(given, dict) else given[layer]
            raise ValueError(f"attention_options must fit {name}, got {given!r}: {error}") from None
        causal, context = attention.causal, getattr(attention, "context", self.context)
        require(causal, f"attention_options must leave layer {layer} causal, as a decoder is, got causal={causal}")
        longer = f"a context of at least the model's, {self.context}"
        require(context >= self.context, f"attention_options must give layer {layer} {longer}, got {context}")


class FeedForward(nn.Module):
    """Expand, GELU, contract. (B, T, D) -> (B, T, D)"""

    def __init__(self, d_model: int, expansion: int):
        super().__init__()
        self.expand, self.contract = linear(d_model, expansion * d_model), linear(expansion * d_model, d_model)

    def forward(self, x):
        return self.contract(gelu(self.expand(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)). (B, T, D) -> (B, T, D)"""

    def __init__(self, config: GPTConfig, layer: int = 0):
        super().__init__()
        kind, options = config.layers[layer]
        self.attention_norm = nn.LayerNorm(config.d_model, bias=False)
        self.attention = ATTENTION_KINDS[kind](config.d_model, config.n_heads, **options)
        self.feed_forward_norm = nn.LayerNorm(config.d_model, bias=False)
        self.feed_forward = FeedForward(config.d_model, config.expansion)

    def forward(self, x, attend: Callable[[Tensor], Tensor] | None = None):
        """`attend` takes the place of `attention` while decoding: the same layer, with a cache."""
        return self.after_attention(x, (attend or self.attention)(self.attention_norm(x)))

    def after_attention(self, x, attended):
        """What the block makes of x and of what `attention` gave for it."""
        x = x + attended
        return x + self.feed_forward(self.feed_forward_norm(x))


class GPT(nn.Module):
    """A decoder-only transformer.

    Hidden weights start from N(0, 1 / fan_in), embeddings from N(0, 0.02^2), and what writes to the residual stream or
    reads it out from zero, so that at first every block is the identity (Yang & Hu 2021; Kuang et al. 2025).
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        tokens, width = config.vocab_size is not None, config.d_model
        self.embed = nn.Embedding(config.vocab_size, width) if tokens else nn.Linear(config.d_in, width, bias=False)
        self.position = nn.Parameter(torch.empty(config.context, width))
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, config.vocab_size if tokens else config.d_out, bias=False)
        for weight in (self.embed.weight, self.position):
            nn.init.normal_(weight, std=0.02)
        for block in self.blocks:
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.feed_forward.contract.weight)
        nn.init.zeros_(self.head.weight)

    def forward(
        self, inputs: Int[Tensor, "batch seq"] | Float[Tensor, "batch seq d_in"]
    ) -> Float[Tensor, "batch seq d_out"]:
        """Logits over the vocabulary, or vectors of width `d_out`, at each position from what came up to it.

        Raises `ValueError` if `inputs` is longer than `context` or not what `GPTConfig` says.
        """
        self._check(inputs)
        return self._run(inputs, self.position[: inputs.shape[1]], [block.attention for block in self.blocks])

    def _run(self, inputs, position, attends):
        x = self.embed(inputs) + position
        for block, attend in zip(self.blocks, attends, strict=True):
            x = block(x, attend)
        return self.head(self.norm(x))

    def new_caches(self, batch_size: int, capacity: int | None = None) -> list[AttentionCache]:
        """An empty cache for each block, for `batch_size` rows of at most `capacity` (default: `context`) tokens.

        Raises `ValueError` for a capacity beyond `context`: there is no learned position for such a token.
        """
        context = self.config.context
        capacity = context if capacity is None else positive_int("capacity", capacity)
        advice = "keep only the latest tokens, or train with a longer context"
        require(capacity <= context, f"capacity must be at most context = {context}, got {capacity}: {advice}")
        return [AttentionCache(block.attention, batch_size, capacity) for block in self.blocks]

    @torch.no_grad()
    def extend(
        self,
        inputs: Int[Tensor, "batch seq"] | Float[Tensor, "batch seq d_in"],
        caches: list[AttentionCache],
        counts: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch seq d_out"]:
        """The rows of `self(everything so far)` that belong to the new `inputs`, which `caches` then hold too.

        `counts`: how many of them each row has, as in `AttentionCache.extend`. Raises `ValueError` if a row would
        outgrow the capacity of the caches, if they have another number of rows, and if they are another model's.
        """
        self._check(inputs)
        self._check_caches(caches, inputs.shape[0])
        position = caches[0].lengths[:, None] + torch.arange(inputs.shape[1], device=inputs.device)  # (B, n)
        learned = self.position[position.clamp(max=self.config.context - 1)]  # only padding lies beyond
        return self._run(inputs, learned, [partial(cache.extend, counts=counts) for cache in caches])

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "batch seq"],
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        cuda_graph: bool = True,
    ) -> Int[Tensor, "batch longer"]:
        """`tokens` continued by `max_new_tokens` samples from softmax(logits / temperature).

        Temperature 0 takes the likeliest token each time. One pass over the prompt, then one token a step, with caches.
        On a CUDA device the step is captured as a graph once and replayed for each token, unless `cuda_graph` is False;
        hooks on the model then see the first steps alone. Samples are drawn outside the graph, so that the tokens are
        the same. Raises `ValueError` if the result would exceed `context`: nothing slides, for there is no learned
        position beyond it.
        """
        require(self.config.vocab_size is not None, "generate needs a GPT of tokens (vocab_size), this one has d_in")
        self._check(tokens, "tokens")
        total = tokens.shape[1] + positive_int("max_new_tokens", max_new_tokens)
        context = self.config.context
        advice = "shorten the prompt, or train with a longer context"
        excess = f"max_new_tokens must keep within context = {context}, got {total} tokens in all: {advice}"
        require(total <= context, excess)
        fits = isinstance(temperature, Real) and temperature >= 0
        require(fits, f"temperature must be at least 0, and a plain number, got {temperature!r}")
        caches = self.new_caches(tokens.shape[0], total - 1)  # the last token is never looked at
        logits, token = self.extend(tokens, caches)[:, -1], tokens.new_empty(tokens.shape[0], 1)
        drawn = []

        def step():
            return self.extend(token, caches)[:, -1]

        for n in range(1, max_new_tokens + 1):
            token.copy_(_draw(logits, temperature, generator))
            drawn.append(token.clone())
            if n == max_new_tokens:
                break
            if n == 2 and cuda_graph:  # the first step was an ordinary one, and warmed it up
                step = captured(step, tokens.device)
            logits = step()
        return torch.cat([tokens, *drawn], dim=1)

    def _check(self, inputs, name: str = "inputs"):
        context, d_in = self.config.context, self.config.d_in
        if d_in is None:
            ends, wanted = (), "integers (int64 or int32) of shape (batch, seq)"
        else:
            ends, wanted = (d_in,), f"vectors of shape (batch, seq, d_in = {d_in})"
        require(isinstance(inputs, Tensor), f"{name} must be {wanted}, got {dtype_and_shape_of(inputs)}")
        kind = inputs.is_floating_point() if ends else inputs.dtype in (torch.int64, torch.int32)
        fit = kind and inputs.ndim == 2 + len(ends) and inputs.shape[2:] == ends
        require(fit, f"{name} must be {wanted}, got {dtype_and_shape_of(inputs)}")
        length = inputs.shape[1]
        if not 1 <= length <= context:  # no message before: torch.compile would compile for each length that one names
            raise ValueError(f"{name} must hold 1 to context = {context} positions, got {length}")

    def _check_caches(self, caches, batch: int):
        """Refuse what would leave some caches longer than others, or look right and be another model's."""
        require(len(caches) == len(self.blocks), f"caches must be {len(self.blocks)}, one a block, got {len(caches)}")
        for i, (block, cache) in enumerate(zip(self.blocks, caches, strict=True)):
            if cache.attention is not block.attention:
                raise ValueError(f"caches must be new_caches of this model, got caches[{i}] of another attention layer")
            rows = len(cache.lengths)
            if batch != rows:
                raise ValueError(f"inputs must have batch_size = {rows} rows, as caches[{i}] has, got {batch}")


def _draw(logits: Float[Tensor, "batch vocab"], temperature: float, generator) -> Int[Tensor, "batch one"]:
    """The best token of each row, or a sample."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    below_best = exact - exact.amax(-1, keepdim=True)  # at most 0, so that no temperature is too small to divide by
    return torch.multinomial((below_best / temperature).softmax(-1), 1, generator=generator)
