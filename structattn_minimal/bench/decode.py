"""How fast caches decode: tokens a second and cached bytes of MLR against standard attention, when T tokens are held.

Two costs, each the median of several measurements after a warm-up. "Model": a GPT takes a token, and the likeliest
next one is what it takes next. "Layer": one attention layer alone, projections included, where the cache is most of
the work. On a GPU each is measured three times: torch's operations launched one by one ("eager") and as one CUDA graph
("graph"), and such a graph with the kernels of `decode_kernel` ("fused"), which is what a GPU gets unasked.

`standard_sdpa` is a standard layer whose attention is torch's own function over a full cache, which needs no mask: an
anchor that shows what the step of this package leaves on the table.
"""

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch.nn.functional import scaled_dot_product_attention

from ..cache import AttentionCache
from ..costs import attention_cost
from ..cuda_graph import captured
from ..transformer import GPT, GPTConfig
from .clock import in_a_row

RANKS = {
    "standard": None,
    "standard_sdpa": None,
    "mlr_32_16_16": (32, 16, 16),
    "mlr_16x4": (16, 16, 16, 16),
    "mlr_authors": (32, 8, 6, 4, 4, 4, 4, 2),
}
LABELS = {
    "standard": "standard",
    "standard_sdpa": "standard, torch's function",
    "mlr_32_16_16": "MLR 32|16|16",
    "mlr_16x4": "MLR 16|16|16|16",
    "mlr_authors": "MLR 32|8|6|4|4|4|4|2",
}
SEQ_LENS = (1024, 4096, 16384)
BATCHES, STEPS = {"cuda": (1, 32), "cpu": (1, 8)}, {"cuda": 20, "cpu": 4}  # a CPU is slower, and done in minutes too
LAYERS, HEADS, HEAD_DIM, VOCAB = 6, 8, 64, 96


def measure_all(
    seq_lens: Sequence[int] = SEQ_LENS,
    batches: Sequence[int] | None = None,
    *,
    layers: int = LAYERS,
    heads: int = HEADS,
    repeats: int = 7,
    steps: int | None = None,
    device: str | None = None,
) -> dict:
    """The record: `setting`, and in `cases` under "T1024_B1" and so on a `measure` for each kind of attention.

    `repeats` measurements of `steps` steps each. `device`: the GPU in bfloat16 if there is one, else the CPU in
    float32. Defaults of `batches` and `steps`: BATCHES and STEPS of the device.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    batches, steps = batches or BATCHES[device], steps or STEPS[device]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    setting = {"layers": layers, "heads": heads, "head_dim": HEAD_DIM, "dtype": str(dtype).removeprefix("torch.")}
    cases = {}
    for seq_len in seq_lens:
        for batch in batches:
            size = {"seq_len": seq_len, "batch": batch}
            rows = {
                kind: measure(kind, **size, **setting | {"dtype": dtype}, repeats=repeats, steps=steps, device=device)
                for kind in RANKS
            }
            cases[f"T{seq_len}_B{batch}"] = size | {"attention": rows}
    return {"setting": setting | {"device": device, "repeats": repeats, "steps": steps}, "cases": cases}


@torch.no_grad()
def measure(kind, *, seq_len, batch, layers, heads, head_dim, dtype, repeats, steps, device) -> dict:
    """`label`, `cached_bytes` of the whole model, `tokens_per_second` of the model, `layer_us` of one layer.

    The last two under "eager", and on a GPU "graph" and "fused".
    """
    ranks, width = RANKS[kind], heads * head_dim
    options = {"attention": "mlr", "attention_options": {"ranks": ranks}} if ranks else {}
    model = GPT(GPTConfig(layers, heads, width, seq_len, vocab_size=VOCAB, **options)).to(device, dtype)
    caches = model.new_caches(batch)
    for cache in caches:
        fill(cache)
    cached_bytes = sum(cache.elements for cache in caches) * dtype.itemsize
    closed_form = layers * batch * attention_cost(model.blocks[0].attention, seq_len).cached_elements * dtype.itemsize
    if cached_bytes != closed_form:
        raise AssertionError(f"{kind}: the buffers hold {cached_bytes} bytes, the closed form says {closed_form}")
    token = torch.zeros(batch, 1, dtype=torch.long, device=device)
    x = torch.randn(batch, 1, width, device=device, dtype=dtype)

    def model_step():
        rewind(caches)
        return token.copy_(model.extend(token, caches)[:, -1].argmax(-1, keepdim=True))

    def layer_step():
        rewind(caches[:1])
        return sdpa_step(caches[0], x) if kind == "standard_sdpa" else caches[0].extend(x)

    ways = ["eager"] + ["graph"] * (device == "cuda") + ["fused"] * (caches[0].fused and kind != "standard_sdpa")

    def timed(step):
        def time_of(way):
            for cache in caches:
                cache.fused = way == "fused"
            step()  # as a capture needs it
            return seconds(step if way == "eager" else captured(step, token.device), repeats, steps, device)

        return {way: time_of(way) for way in ways}

    row = {"label": LABELS[kind], "cached_bytes": cached_bytes}
    if kind != "standard_sdpa":
        row["tokens_per_second"] = {way: round(batch / s, 1) for way, s in timed(model_step).items()}
    row["layer_us"] = {way: round(1e6 * s, 2) for way, s in timed(layer_step).items()}
    return row


def fill(cache: AttentionCache) -> None:
    """As if all but the last token had come, whatever they were."""
    for ring in [*cache.keys, cache.values]:
        ring.buffer.normal_()
    cache.lengths.fill_(cache.capacity - 1)


def rewind(caches: Sequence[AttentionCache]) -> None:
    """Go on at the end of full rows, which only the check on the host minds: kernels take the last token again and
    again, and what torch's operations cost depends on shapes alone."""
    for cache in caches:
        cache._lengths = [cache.capacity - 1] * len(cache._lengths)


def sdpa_step(cache: AttentionCache, x):
    """The step of a full cache of standard attention, by torch's own function."""
    attention = cache.attention
    q, k, v = attention.queries_keys_values(x)
    for ring, new in ((cache.keys[0], k), (cache.values, v)):
        ring.put(new, cache.lengths % ring.slots)
    cache.lengths += 1
    heads = scaled_dot_product_attention(q, cache.keys[0].buffer, cache.values.buffer, scale=attention.scale)
    return attention.merge_heads(heads)


def seconds(step: Callable, repeats: int, steps: int, device: str) -> float:
    """The time of one step: the median of `repeats` measurements of `steps` steps in a row."""
    in_a_row(step, steps, device)
    return median(in_a_row(step, steps, device) for _ in range(repeats))


def print_table(results: dict) -> None:
    """What `measure_all` found, each number with its ratio to standard attention."""
    setting = results["setting"]
    print(f"{setting['layers']} layers, {setting['heads']} heads of {setting['head_dim']}, {setting['dtype']}")
    line = "{:>10} {:>26} {:>18} {:>50} {:>42}"
    first, *_ = results["cases"].values()
    ways = " / ".join(first["attention"]["standard"]["layer_us"])
    print(line.format("case", "attention", "cached MiB", f"model, tokens/s, {ways}", f"layer, us a step, {ways}"))
    for name, case in results["cases"].items():
        base = case["attention"]["standard"]
        for row in case["attention"].values():
            cached = f"{row['cached_bytes'] / 2**20:.1f} ({row['cached_bytes'] / base['cached_bytes']:.2f}x)"
            speed = [
                f"{tokens:.0f} ({tokens / base['tokens_per_second'][way]:.2f}x)"
                for way, tokens in row.get("tokens_per_second", {}).items()
            ]
            layer = [f"{us:.0f} ({us / base['layer_us'][way]:.2f}x)" for way, us in row["layer_us"].items()]
            print(line.format(name, row["label"], cached, " / ".join(speed), " / ".join(layer)))
