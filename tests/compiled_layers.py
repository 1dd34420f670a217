"""Each kind of attention compiled whole, once for all lengths; without type checks, which no compiler sees through."""

from functools import partial

import torch
from layers import KINDS, D, layer
from torch._dynamo.testing import CompileCounter

import structattn_minimal as sa


def check_one_graph(name, function, lengths, *shape):
    """`function` of x (batch, seq, ...) is what it is without a compiler, and compiled once."""
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(function, backend=counter, fullgraph=True, dynamic=True)
    for seq_len in lengths:
        x = torch.randn(2, seq_len, *shape, dtype=torch.float64)
        torch.testing.assert_close(compiled(x), function(x), msg=lambda why: f"{name}: {why}")
    assert counter.frame_count == 1, f"{name}: {counter.frame_count} graphs"


for kind in KINDS:
    check_one_graph(kind, layer(kind), (13, 14, 15), D)
check_one_graph("scores", layer("mlr").scores, (13, 14, 15), D)
for backend in ("dense", "merge"):
    halved = partial(sa.mlr_attention, ranks=(3, 2, 1), backend=backend)
    check_one_graph(f"halved blocks, {backend}", lambda x, halved=halved: halved(x, x, x), (8, 12, 16), 6)
