"""structattn_minimal: structured attention, compact and exact.

The file list tells the story, lower rooms first: `partition` (who shares a block), `matrices` and `mlbtc` (structured
matrices and the family that holds them), `mlr` (attention whose rank falls with distance), `window`, `costs`,
`attention` and its kinds, `cache` (what a decoder holds), `cuda_graph` (a step in one launch), `transformer`.
Reference: Kuang, Amsel, Lotfi, Qiu, Potapczynski, Wilson, "Customizing the Inductive Biases of Softmax Attention using
Structured Matrices", ICML 2025.
"""

from .attention import Attention, StandardAttention
from .attention_bilinear import BilinearBTTAttention, BilinearMLRAttention
from .attention_local import GlobalSlidingWindowAttention, MLRAttention, SlidingWindowAttention
from .cache import AttentionCache
from .costs import Cost, attention_cost
from .matrices import BTT, MLR, Butterfly, Kronecker, LowRank, Monarch, StructuredMatrix
from .mlbtc import MLBTC, Level, as_mlbtc, butterfly_factors
from .mlr import mlr_attention, mlr_scores
from .partition import shared_levels
from .transformer import GPT, GPTConfig

__version__ = "0.1.0"

__all__ = [
    "BTT",
    "GPT",
    "MLBTC",
    "MLR",
    "Attention",
    "AttentionCache",
    "BilinearBTTAttention",
    "BilinearMLRAttention",
    "Butterfly",
    "Cost",
    "GPTConfig",
    "GlobalSlidingWindowAttention",
    "Kronecker",
    "Level",
    "LowRank",
    "MLRAttention",
    "Monarch",
    "SlidingWindowAttention",
    "StandardAttention",
    "StructuredMatrix",
    "as_mlbtc",
    "attention_cost",
    "butterfly_factors",
    "mlr_attention",
    "mlr_scores",
    "shared_levels",
]
