"""What attention costs, in closed form: parameters, multiply-accumulates (MACs) and elements held for decoding."""

from dataclasses import dataclass

from torch import nn

from .checks import positive_int, require


@dataclass(frozen=True)
class Cost:
    """The cost of one attention layer on one sequence.

    A MAC is one multiplication and one addition. A structure is credited for the pairs and features it leaves out; a
    mask is not: like a FLOP counter, we count both halves of a causal T x T product, for every method alike.

    Attributes:
        params: all parameters of the layer.
        projection_macs: maps from features to features: queries, keys, values, output.
        score_macs: dot products of queries and keys.
        value_macs: the sums of values under the softmax weights.
        cached_elements: keys and values that a decoder holds after the last token. Each feature is held for the latest
            tokens alone, as many as the furthest-looking query so far needed, its own token included.
    """

    params: int
    projection_macs: int
    score_macs: int
    value_macs: int
    cached_elements: int

    @property
    def macs(self) -> int:
        """All multiply-accumulates."""
        return self.projection_macs + self.score_macs + self.value_macs


def attention_cost(module: nn.Module, seq_len: int) -> Cost:
    """The `Cost` of an attention module of this package on one sequence of `seq_len` tokens.

    Raises `ValueError` for any other module, for a length that is not positive, and for one beyond an MLR context.
    Source: Kuang et al. 2025, with the scores of every head counted.
    """
    from .attention import Attention  # which imports `Cost`

    kind = type(module).__name__
    require(isinstance(module, Attention), f"module must be an attention module of this package, got {kind}")
    return module.cost(positive_int("seq_len", seq_len))
