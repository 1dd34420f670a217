"""Measure this machine: python -m structattn_minimal.bench {attention,decode,step} [--out RECORD.json]"""

import argparse

import torch

from ..experiments.records import write_record
from . import attention, decode, step


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m structattn_minimal.bench", description=__doc__)
    parser.add_argument("what", choices=["attention", "decode", "step"])
    parser.add_argument("--out", help="write a record there")
    args = parser.parse_args(words)
    if args.what == "attention" and not torch.cuda.is_available():
        parser.error("attention needs a CUDA GPU; tests/benchmarks has a script for a CPU")
    torch.manual_seed(0)
    if args.what == "attention":
        results = attention.measure_all()  # prints as it goes
    else:
        bench = {"decode": decode, "step": step}[args.what]
        results = bench.measure_all()
        bench.print_table(results)
    if args.out:
        write_record(args.out, results, command=f"{parser.prog} {args.what}", seeds=[0])


if __name__ == "__main__":
    main()
