"""muP: learning rates that carry over from one width to another (Yang & Hu 2021), factor by factor.

Adam moves every entry of a weight by about its learning rate, and an output sums over fan_in entries: so the rate of
a hidden weight falls as 1 / fan_in. A structured matrix has a fan_in for each of its factors (Qiu et al. 2024; Kuang
et al. 2025, appendix). The initial weights, N(0, 1 / fan_in) or zero, are set where the modules are defined.
"""

from torch import nn

from ..attention_bilinear import BilinearBTTAttention, BilinearMLRAttention


def rate_factors(model: nn.Module, base_width: int | None) -> dict[str, float]:
    """For each parameter by name, its learning rate over the base rate: base_width / fan_in for each hidden factor.

    Embeddings, positions and norms of a `GPT` keep the base rate. At fan_in = base_width the two agree. Without a
    base_width, every parameter keeps the base rate: no muP.
    Raises `ValueError` for a parameter that this rule does not know.
    """
    fan_ins = dict.fromkeys(("embed.weight", "position"))
    for prefix, module in model.named_modules():
        for name, fan_in in module_fan_ins(module).items():
            fan_ins.setdefault(f"{prefix}.{name}" if prefix else name, fan_in)
    names = [name for name, _ in model.named_parameters()]
    if unknown := [name for name in names if name not in fan_ins]:
        raise ValueError(f"no fan_in is known for {unknown}")
    return {name: base_width / fan_ins[name] if base_width and fan_ins[name] else 1.0 for name in names}


def module_fan_ins(module: nn.Module) -> dict[str, int | None]:
    """fan_in of each weight that a module holds itself; None where the rate does not scale."""
    match module:
        case nn.Linear():
            return {"weight": module.in_features}
        case nn.LayerNorm():
            return {"weight": None}
        case BilinearBTTAttention():
            _, c, d, _, s = module.right.shape
            return {"right": d, "left": c * s}
        case BilinearMLRAttention():  # at each level (heads, chunks, D / chunks, rank)
            weights = {"query": module.query, "key": module.key}
            return {f"{kind}.{l}": w.shape[2] for kind, levels in weights.items() for l, w in enumerate(levels)}
    return {}
