"""The decoding kernels give the definition's rows and leave the cache that torch's step leaves: here in Triton's
interpreter, on a GPU by its owner."""

import json
import re
from math import gcd

import pytest
import torch
from drawing import sizes
from hypothesis import given
from hypothesis import strategies as st
from layers import CONTEXT, KINDS, D, layer
from processes import HERE, in_a_process
from test_mlr_kernel import needs_gpu, needs_interpreter, needs_triton

import structattn_minimal as sa
from structattn_minimal import decode_kernel, mlr_kernel

AUTHORS = (32, 8, 6, 4, 4, 4, 4, 2)
TAKEN = tuple(kind for kind in KINDS if kind.split(",")[0] in ("standard", "mlr"))


def assert_near_the_definition(tolerance, device, dtype, **environment):
    done = in_a_process(str(HERE / "decode_cases.py"), device, dtype, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) >= 36
    for case, (from_definition, from_torch, stored) in rows:
        assert from_definition < tolerance, case
        assert from_torch < 3 * tolerance, case  # which rounds its weights as well
        assert stored == 0, case


@needs_triton
@needs_interpreter
def test_steps_in_the_interpreter():
    assert_near_the_definition(3e-6, "cpu", "float32", TRITON_INTERPRET="1")


@needs_triton
@needs_gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2), ("float16", 3e-3)])
def test_steps_on_the_gpu(dtype, tolerance):
    assert_near_the_definition(tolerance, "cuda", dtype)


MODEL = """
import sys, torch, structattn_minimal as sa
from structattn_minimal.cuda_graph import captured
torch.manual_seed(0)
device = torch.device(sys.argv[1])
ranks, turned = {"ranks": (5, 2, 1), "normalize_levels": True}, {"rotary": True}
steep, even = ranks | {"block_sizes": (16, 4, 1)}, turned | {"ranks": (4, 2, 2)}
for kind, options in ("standard", {}), ("standard", turned), ("mlr", ranks), ("mlr", steep), ("mlr", even):
    config = sa.GPTConfig(2, 2, 16, 16, vocab_size=11, attention=kind, attention_options=options)
    model = sa.GPT(config).to(device)
    with torch.no_grad():
        for parameter in model.parameters(): parameter += 0.2 * torch.randn_like(parameter)
        tokens = torch.randint(11, (3, 16), device=device)
        caches, expected = model.new_caches(3), model(tokens)
    assert all(cache.fused for cache in caches)
    model.extend(tokens[:, :7], caches, counts=[1, 4, 7])
    token, step = tokens[:, :1].clone(), lambda: model.extend(token, caches)[:, -1]
    for n in range(9):
        if n == 1: step = captured(step, device)
        at = torch.tensor([1, 4, 7], device=device)[:, None] + n
        token.copy_(tokens.gather(1, at))
        torch.testing.assert_close(step(), expected[range(3), at[:, 0]], rtol=1e-4, atol=1e-4)
        assert all(torch.equal(cache.lengths, at[:, 0] + 1) for cache in caches)
    cache, x, outs = caches[0], torch.randn(3, 1, 16, device=device), []
    for length in (15, 19) * (not options.get("rotary")):  # a graph replayed beyond the capacity, where nothing turns
        cache.lengths.fill_(length)
        rewound, cache._lengths = cache.lengths.clone(), [0] * 3
        outs.append(cache.extend(x))
        assert torch.equal(cache.lengths, rewound + 1)
    assert all(torch.equal(out, outs[0]) for out in outs)
print("decoded")
"""


@needs_triton
@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=needs_interpreter), pytest.param("cuda", marks=needs_gpu)]
)
def test_a_model_decodes_what_its_forward_pass_gives(device):
    """Rows of unequal lengths; on a GPU from a captured graph. And beyond the capacity the last token comes again."""
    done = in_a_process("-c", MODEL, device, **({"TRITON_INTERPRET": "1"} if device == "cpu" else {}))
    assert done.stdout == "decoded\n", done.stderr[-3000:]


# Compiled, in this process: here the package's functions are type-checked, and Triton must not see that


def compiled(name, ranks, dtype, normalize_levels=False):
    """The kernel for Hopper as the package launches it, pointers aligned as those of whole tensors."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from structattn_minimal import decode_kernel_triton

    kernel, n, full = getattr(decode_kernel_triton, name), len(ranks), decode_kernel.columns(sum(ranks))
    names, held = kernel.arg_names, {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}[dtype]
    types = dict.fromkeys(("Q", "NEW_K", "NEW_V", "VALUES", "HEADS"), held) | {"KEYS": (held,) * n, "n_heads": "i32"}
    types |= dict.fromkeys(("LENGTHS", "SLOTS"), "*i64") | dict.fromkeys(("TOP", "TOTAL", "OUT"), "*fp32")
    types |= {"SCALES": ("fp32",) * n}
    tile, stretches = decode_kernel.cut(1, 131072, full)
    constants = decode_kernel.constants(ranks, normalize_levels, getattr(torch, dtype), tile) | {"SPLITS": stretches}
    options = {"num_warps": decode_kernel.warps(getattr(torch, dtype))} if name == "attend" else {}
    signature = {argument: types.get(argument, "constexpr") for argument in names}
    values = {(names.index(a),): value for a, value in constants.items() if a in names}
    aligned = [(at,) for at, a in enumerate(names) if signature[a][0] == "*"]
    aligned += [(names.index("KEYS"), l) for l in range(n) if "KEYS" in names]
    source = ASTSource(kernel, signature, values, {path: [["tt.divisibility", 16]] for path in aligned})
    return compile(source, target=GPUTarget("cuda", 90, 32), options=options)


@needs_triton
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("ranks", [(64,), (128,), (16, 16, 16, 16), AUTHORS, (64, 16, 16, 16, 16), (33, 20), (5, 3)])
def test_what_is_compiled_spills_nothing_and_reads_in_wide_pieces(ranks, dtype):
    from kernel_machine_code import run

    for name, normalize_levels in (("attend", False), ("attend", True), ("merge", False)):
        kernel = compiled(name, ranks, dtype, normalize_levels)
        usage = run(kernel, "cubin", "cuobjdump", "--dump-resource-usage")
        assert re.findall(r"STACK:(\d+)", usage)[-1] == "0"
        assert kernel.metadata.shared <= 227 * 1024  # what a program of Hopper has
        if name == "attend" and sum(ranks) % 16 == 0:
            copies = re.findall(r"cp\.async\.\w+\.shared\.global .*, 0x(\w+), ", kernel.asm["ptx"])  # bytes, in hex
            of_keys = min(16, gcd(*ranks) * getattr(torch, dtype).itemsize)  # features of one level lie side by side
            assert {int(copy, 16) for copy in copies} == {16, of_keys}


# Who takes a step


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_cpu_torch_takes_the_step(kind, monkeypatch):
    cache = sa.AttentionCache(layer(kind).float(), 2, CONTEXT)
    assert not cache.fused
    for has_triton, advice in ((True, "needs a GPU"), (False, "needs the package triton")):
        monkeypatch.setattr(mlr_kernel, "HAS_TRITON", has_triton)
        reason = decode_kernel.obstacle(cache)
        assert (advice if kind in TAKEN else "takes StandardAttention and MLRAttention") in reason


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_take_standard_and_mlr_attention_alone(kind, monkeypatch):
    monkeypatch.setattr(mlr_kernel, "HAS_TRITON", True)
    monkeypatch.setattr(mlr_kernel, "INTERPRETED", True)
    cache = sa.AttentionCache(layer(kind).float(), 2, CONTEXT)
    assert cache.fused == (kind in TAKEN)
    assert not sa.AttentionCache(layer(kind), 2, CONTEXT).fused  # float64
    assert not sa.AttentionCache(sa.StandardAttention(258, 2), 2, CONTEXT).fused  # 129 features
    taken = []
    monkeypatch.setattr(decode_kernel, "step", lambda cache, q, k, v: taken.append(cache) or v)
    for x in (torch.randn(2, 3, D), torch.randn(2, 1, D)):  # a chunk is not a step
        cache.extend(x)
    cache.extend(torch.randn(2, 1, D), counts=[0, 1])
    cache.fused = False
    cache.extend(torch.randn(2, 1, D))
    assert taken == [cache] * (kind in TAKEN)


@given(rows=sizes(3000), capacity=sizes(131072), full=st.sampled_from([16, 32, 64, 128]))
def test_a_step_is_cut_into_a_power_of_two_of_stretches(rows, capacity, full):
    tile, stretches = decode_kernel.cut(rows, capacity, full)
    assert tile * full == decode_kernel.TILE_NUMBERS
    assert stretches.bit_count() == 1
    assert stretches <= decode_kernel.MOST_STRETCHES
    assert stretches == 1 or (
        stretches < 2 * -(-capacity // tile) and stretches * rows < 2 * (decode_kernel.PROGRAMS + rows)
    )
