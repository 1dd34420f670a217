"""Prints, for each kernel and some lists of ranks, what Triton's compiler for Hopper made of it. No GPU is needed.
With an argument it writes a record there.

Of ptxas (CUDA 12.8) it is known here that it can let a loop overwrite registers which a tensor core instruction of the
next round still reads: on an H100 the sums were wrong then. So each loop is searched for such registers. And where it
cannot follow an accumulator, it lets each of these instructions wait for the one before (C7515), which it says only to
those who ask. A process of its own, since Triton cannot compile type-checked functions.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from structattn_minimal import mlr_kernel, mlr_kernel_triton
from structattn_minimal.experiments.records import write_record

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
CASES = [((32, 8, 6, 4, 4, 4, 4, 2), 1024), ((32, 16, 16), 16384), ((64,), 4096), ((32, 32, 64), 16384)]


def compiled(name, ranks, seq_len):
    """The kernel as the package launches it in bfloat16, default blocks, as many values as features."""
    full = mlr_kernel.columns(sum(ranks))
    function, sizes = getattr(mlr_kernel_triton, name), [seq_len >> l for l in range(len(ranks))]
    how = mlr_kernel.launch(name, torch.empty(0, dtype=torch.bfloat16), full, sizes)
    constants = mlr_kernel.constants(function, how, full, ranks, sizes, False)
    of_queries, of_keys = (how.step, how.tile) if name == "backward_columns" else (how.tile, how.step)

    def described(rows, width=full):
        return f"tensordesc<bf16[1, 1, {rows}, {width}]>"

    types = dict.fromkeys(("n_batch", "n_heads", "seq_len"), "i32") | dict.fromkeys(("LSE", "DELTA", "SCALES"), "*fp32")
    types |= dict.fromkeys(("OUT", "D_OUT", "DQ"), described(of_queries))
    types |= dict.fromkeys(("V", "DK", "DV"), described(of_keys))
    for level, width in enumerate(mlr_kernel.widths(ranks, mlr_kernel.n_coarse(sizes, how.tile), full), 1):
        types[f"Q{level}"] = described(of_queries, width)
        types[f"K{level}"] = described(of_keys, width)
    names = function.arg_names
    signature = {argument: types.get(argument, "constexpr") for argument in names}
    values = {(names.index(a),): constants.get(a) for a in names if signature[a] == "constexpr"}
    aligned = [at for at, a in enumerate(names) if a == "seq_len" or signature[a].startswith("*")]
    source = ASTSource(function, signature, values, {(at,): [["tt.divisibility", 16]] for at in aligned})
    options = {"num_warps": how.warps, "num_stages": how.stages, "maxnreg": how.registers}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def run(kernel, form, tool, *options):
    """What a tool of CUDA prints about the kernel in this form, "cubin" or "ptx"."""
    with tempfile.NamedTemporaryFile(suffix=f".{form}") as file:
        code = kernel.asm[form]
        file.write(code.encode() if isinstance(code, str) else code)
        file.flush()
        done = subprocess.run([TOOLS / tool, *options, file.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr


def waits(kernel):
    """Whether ptxas lets each tensor core instruction wait for the one before."""
    return "wgmma.mma_async instructions are serialized" in run(
        kernel, "ptx", "ptxas", "-arch=sm_90a", "--verbose", "--output-file=/dev/null"
    )


def written(instruction):
    """The registers that an instruction writes."""
    words = re.match(r"(?:@!?U?P\d+ )?([A-Z0-9_.]+) R(\d+)\b", instruction)
    if not words or words[1].startswith(("ST", "RED", "SYNCS", "U", "R2UR")):
        return set()
    n = 4 if ".128" in words[1] else 2 if re.search(r"\.64|WIDE|CS2R", words[1]) else 1
    if products := re.match(r"HGMMA\.64x(\d+)x16", words[1]):
        n = int(products[1]) // 2
    return set(range(int(words[2]), int(words[2]) + n))


def overwritten(disassembly):
    """For each loop with tensor core instructions: registers that they read from the round before and it overwrites."""
    lines = [re.sub(r"/\*[0-9a-f]+\*/", "", line).strip() for line in disassembly.splitlines()]
    places = {line[:-1]: at for at, line in enumerate(lines) if re.fullmatch(r"\.L_x_\d+:", line)}
    loops = []
    for end, line in enumerate(lines):
        target = re.search(r"BRA `\((\.L_x_\d+)\)", line)
        start = places.get(target[1], end) if target else end
        body = lines[start:end]
        if not any("HGMMA" in one for one in body) or any(one.startswith("EXIT") for one in body):
            continue  # no loop: a branch back from where waiting goes on, behind the kernel's end
        writes, bad = [written(one) for one in body], set()
        for at, one in enumerate(body):
            if read := re.search(r"HGMMA\S* R\d+, R(\d+), gdesc", one):
                first = int(read[1])
                from_before = set(range(first, first + 4)).difference(*writes[:at])
                bad |= from_before & set().union(*writes[at + 1 :])
        loops.append(sorted(bad))
    return loops


def report(name, ranks, seq_len):
    """Registers a thread, bytes that it spills, bytes of shared memory, and what `waits` and `overwritten` find."""
    kernel = compiled(name, ranks, seq_len)
    usage = run(kernel, "cubin", "cuobjdump", "--dump-resource-usage")
    registers, stack = (int(re.findall(rf"{word}:(\d+)", usage)[-1]) for word in ("REG", "STACK"))
    found = {"kernel": name, "ranks": ranks, "registers": registers, "stack": stack, "shared": kernel.metadata.shared}
    return found | {"waits": waits(kernel), "loops": overwritten(run(kernel, "cubin", "nvdisasm", "-c"))}


if __name__ == "__main__":
    rows = {}
    for ranks, seq_len in CASES:
        for name in ("forward", "backward_rows", "backward_columns"):
            rows["_".join(map(str, (name, *ranks)))] = row = report(name, ranks, seq_len)
            print(json.dumps(row), flush=True)
    if sys.argv[1:]:
        command = "python tests/kernel_machine_code.py RECORD.json"
        write_record(sys.argv[1], rows | {"triton": triton.__version__}, command=command, seeds=[0])
