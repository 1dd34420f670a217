"""Each kind of attention compiled whole, for lengths that vary; without type checks, which no compiler sees through."""

import torch
from layers import KINDS, D, layer

for kind in KINDS:
    torch.compiler.reset()
    attention = layer(kind)
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    for seq_len in (9, 12):
        x = torch.randn(2, seq_len, D, dtype=torch.float64)
        torch.testing.assert_close(compiled(x), attention(x), msg=lambda why, kind=kind: f"{kind}: {why}")
