"""The GPU kernel gives the definition's output and gradients: here in Triton's interpreter, on a GPU by its owner."""

import json
import os
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from drawing import block_hierarchies
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from processes import HERE, in_a_process

import structattn_minimal as sa
from structattn_minimal import mlr_kernel

needs_triton = pytest.mark.skipif(not mlr_kernel.HAS_TRITON, reason="needs the package triton, 3.4 or later")
# Triton 3.6 and before cannot interpret with a later numpy.
old = (
    find_spec("triton") and Version(version("triton")) < Version("3.7") and Version(version("numpy")) >= Version("2.3")
)
needs_interpreter = pytest.mark.skipif(bool(old), reason="this triton's interpreter needs numpy < 2.3")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def assert_near_the_definition(tolerance, device, dtype, first, step, **environment):
    done = in_a_process(str(HERE / "kernel_cases.py"), device, dtype, str(first), str(step), **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) >= 17 // step
    assert not [row for row in rows if not max(row[1]) < tolerance]


@needs_triton
@needs_interpreter
def test_output_and_gradients_in_the_interpreter():
    assert_near_the_definition(2e-5, "cpu", "float32", 0, 1, TRITON_INTERPRET="1")


@needs_triton
@needs_gpu
@pytest.mark.parametrize("first", range(5))  # compiling takes the time: pytest -n 15 does all at once
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 4e-2), ("float16", 7e-3)])
def test_output_and_gradients_on_the_gpu(dtype, tolerance, first):
    assert_near_the_definition(tolerance, "cuda", dtype, first, 5)


@needs_triton
def test_no_loop_overwrites_what_its_tensor_cores_still_read():
    done = in_a_process(str(HERE / "kernel_machine_code.py"))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 12
    assert all(row["loops"] and not any(row["loops"]) for row in rows)
    # Only the forward kernel for wide heads does: it is quickest so, with registers for two programs at a time.
    assert [(row["kernel"], row["ranks"]) for row in rows if row["waits"]] == [("forward", [32, 32, 64])]
    assert max(row["shared"] for row in rows) <= 227 * 1024  # what a program of Hopper has


LOOP = """
.L_x_7:
  /*0010*/  HGMMA.64x64x16.F32.BF16 R24, R92, gdesc[UR8], RZ, !UPT ;
  /*0020*/  {} ;
  /*0030*/  HGMMA.64x64x16.F32.BF16 R56, R88, gdesc[UR8].tnspB, R56, gsb0 ;
  /*0040*/  @!P0 BRA `(.L_x_7) ;
"""


@needs_triton
@pytest.mark.parametrize(
    ("between", "found"),
    [
        ("FADD R10, R24, R25", []),
        ("MUFU.EX2 R93, R24", [93]),
        ("FADD R88, R24, R25", []),
        ("LDS.128 R92, [R3]", [92, 93, 94, 95]),
    ],
)
def test_registers_that_a_loop_overwrites_are_found(between, found):
    code = f"import kernel_machine_code as k; print(k.overwritten({LOOP.format(between)!r}))"
    done = in_a_process("-c", code, PYTHONPATH=os.pathsep.join([str(HERE), str(HERE.parent)]))
    assert done.stdout.strip() == f"[{found}]", done.stderr[-2000:]


COMPILED = """
import sys, torch, structattn_minimal as sa
from torch import library
from structattn_minimal.mlr_kernel import mlr_op
device, dtype, engine = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3]
q, k, v = (torch.randn(2, 64, 3, n, device=device, dtype=dtype).transpose(1, 2).requires_grad_() for n in (32, 32, 20))
scales = torch.full((32,), 0.25, device=device)
library.opcheck(mlr_op, (q, k, v, scales, [16, 8, 8], [64, 32, 16], True),
    test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))
attend = lambda q, k, v: sa.mlr_attention(q, k, v, (16, 8, 8), backend="triton")
compiled = torch.compile(attend, fullgraph=True, backend=engine)
ours, theirs = (torch.autograd.grad(f(q, k, v).float().square().sum(), (q, k, v)) for f in (compiled, attend))
for a, b in zip(ours, theirs): torch.testing.assert_close(a, b, rtol=3e-2, atol=3e-2)
print("compiled")
"""


@needs_triton
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("cpu", "float32", "aot_eager"), marks=needs_interpreter),
        pytest.param(("cuda", "bfloat16", "inductor"), marks=needs_gpu),
    ],
)
def test_it_is_a_sound_operation_and_compiles_without_a_break(words):
    done = in_a_process("-c", COMPILED, *words, **({"TRITON_INTERPRET": "1"} if words[0] == "cpu" else {}))
    assert done.stdout.endswith("compiled\n"), done.stderr[-3000:]


@given(case=block_hierarchies(most_finest=8), tile=st.sampled_from([4, 8, 16]), step=st.sampled_from([2, 4]))
def test_the_pairs_of_a_phase_share_exactly_its_levels(case, tile, step):
    seq_len, block_sizes = case
    shared = sa.shared_levels(seq_len, block_sizes)
    coarse = mlr_kernel.n_coarse(block_sizes, tile)
    for start in range(0, seq_len, tile):
        phases = mlr_kernel.row_phases(start, tile, step, block_sizes)
        seen = [key for _, first, last in phases for key in range(first, last)]
        assert seen == list(range(start + tile))  # every key that a row of the tile sees, once
        rows = slice(start, min(start + tile, seq_len))
        for level, first, last in phases:
            pairs = shared[rows, first : min(last, seq_len)]
            assert (pairs == level).all() if level else (pairs >= coarse).all()


@given(st.integers(1, 128))
def test_columns_are_the_least_power_of_two_that_holds_the_features(n):
    width = mlr_kernel.columns(n)
    assert width in (16, 32, 64, 128)
    assert n <= width
    assert width == 16 or width // 2 < n


def test_scales_first_needed_in_inference_serve_training_too():
    ranks, scales = (3, 2), (0.75, 0.3)
    with torch.inference_mode():
        kept = mlr_kernel._feature_scales(ranks, scales, torch.device("cpu"))
    assert not kept.is_inference()
    assert kept is mlr_kernel._feature_scales(ranks, scales, torch.device("cpu"))
    assert kept.tolist() == torch.tensor([0.75] * 3 + [0.3] * 2).tolist()
    assert kept.dtype == torch.float32


@pytest.mark.parametrize(("block_sizes", "registers"), [((1024, 512, 256), 168), ((64, 32), None)])
def test_registers_are_capped_only_where_one_level_meets_the_diagonal(block_sizes, registers):
    q = torch.empty(0, dtype=torch.bfloat16)
    assert mlr_kernel.launch("backward_columns", q, 64, block_sizes).registers == registers


def test_a_triton_before_tensor_descriptors_is_none(monkeypatch, tmp_path):
    """That of torch 2.6 and 2.7: "auto" goes another way, and nothing is imported in vain."""
    old = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(mlr_kernel, "find_spec", lambda name: old)
    assert not mlr_kernel._has_triton()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "tensor_descriptor.py").touch()
    assert mlr_kernel._has_triton()


def test_a_torch_that_reads_no_annotations_imports_the_package():
    """As torch 2.6 does, of sequences of numbers."""
    refuse = "def refuse(*args, **options): raise ValueError('unsupported type')"
    code = f"from torch import library\n{refuse}\nlibrary.infer_schema = refuse\nimport structattn_minimal"
    done = in_a_process("-c", code)
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_the_kernel_does_not_take_is_said():
    q = torch.randn(2, 8, 4)
    with pytest.raises(ValueError, match='backend="triton" needs '):
        sa.mlr_attention(q, q, q, (2, 2), backend="triton")
