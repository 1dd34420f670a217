"""Run a named experiment and write its record: python -m structattn_minimal.experiments regression --preset NAME"""

import argparse

from .records import write_record
from .regression import PRESETS, run


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m structattn_minimal.experiments", description=__doc__)
    parser.add_argument("task", choices=["regression"])
    parser.add_argument("--preset", choices=list(PRESETS), required=True)
    parser.add_argument("--out", required=True, help="the record, a JSON file")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    args = parser.parse_args(words)
    preset = PRESETS[args.preset]

    def report(step, losses):
        if step * 20 % preset.steps < 20:
            print(f"{step}/{preset.steps}", *(f"{name} {loss:.3f}" for name, loss in losses.items()), flush=True)

    results = run(preset, device=args.device, report=report)
    for name, method in results["methods"].items():
        print(
            name, {rate: row["last"] for rate, row in method["rates"].items()} if "rates" in method else method["last"]
        )
    command = f"{parser.prog} {args.task} --preset {args.preset} --device {args.device} --out {args.out}"
    write_record(args.out, results, command=command, seeds=preset.seeds)


if __name__ == "__main__":
    main()
