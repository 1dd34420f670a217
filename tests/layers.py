"""Every kind of attention, small and in float64, for the tests that hold for all of them."""

import torch

import structattn_minimal as sa

D, H, CONTEXT = 16, 4, 32

KINDS = {
    "standard": lambda **kw: sa.StandardAttention(D, H, **kw),
    "swa": lambda **kw: sa.SlidingWindowAttention(D, H, window=5, **kw),
    "gswa": lambda **kw: sa.GlobalSlidingWindowAttention(D, H, ranks=(1, 3), window=4, **kw),
    "btt": lambda **kw: sa.BilinearBTTAttention(D, H, btt_rank=2, **kw),
    "bilinear_mlr": lambda **kw: sa.BilinearMLRAttention(D, H, ranks=(2, 1, 1), **kw),
    "mlr": lambda **kw: sa.MLRAttention(D, H, ranks=(2, 1, 1), context=CONTEXT, **kw),
    "mlr, normalised": lambda **kw: sa.MLRAttention(
        D, H, ranks=(1, 3), context=CONTEXT, normalize_levels=True, level_scales=[0.3, 0.8], **kw
    ),
    "mlr, steep": lambda **kw: sa.MLRAttention(
        D, H, ranks=(1, 2, 1), context=CONTEXT, block_sizes=(CONTEXT, 8, 4), normalize_levels=True, **kw
    ),
    "standard, rotary": lambda **kw: sa.StandardAttention(D, H, rotary=True, **kw),
    "swa, rotary": lambda **kw: sa.SlidingWindowAttention(D, H, window=5, rotary=True, **kw),
    "gswa, rotary": lambda **kw: sa.GlobalSlidingWindowAttention(D, H, ranks=(2, 2), window=4, rotary=True, **kw),
    "mlr, rotary": lambda **kw: sa.MLRAttention(D, H, ranks=(2, 2), context=CONTEXT, rotary=True, **kw),
}
BILINEAR = ("standard", "swa", "btt", "bilinear_mlr")  # S is a form x_i^T M x_j of the two tokens


def layer(kind, **options):
    """One layer, its norms' gains moved away from 1, its weights large enough for the clip to act."""
    made = KINDS[kind](**options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made
