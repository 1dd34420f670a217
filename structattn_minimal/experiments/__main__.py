"""Run a named experiment and write its record: python -m structattn_minimal.experiments regression --preset NAME"""

import argparse
from dataclasses import replace

from . import regression, text
from .corpora import CORPORA, load
from .records import write_record

TASKS = {"regression": regression, "text": text}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m structattn_minimal.experiments", description=__doc__)
    parser.add_argument("task", choices=list(TASKS))
    known = "; ".join(f"{name}: {', '.join(task.PRESETS)}" for name, task in TASKS.items())
    parser.add_argument("--preset", required=True, help=known)
    parser.add_argument("--out", required=True, help="the record, a JSON file; weights are saved beside it")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--corpus", help=f"of text: {', '.join(CORPORA)}, or the path of a text file of your own")
    args = parser.parse_args(words)
    task = TASKS[args.task]
    if args.preset not in task.PRESETS:
        parser.error(f"--preset of {args.task} must be one of {', '.join(task.PRESETS)}, got {args.preset}")
    preset = task.PRESETS[args.preset]
    if args.corpus is not None:
        if task is not text:
            parser.error(f"--corpus goes with text, not with {args.task}")
        try:
            load(args.corpus)
        except (ValueError, OSError) as error:
            parser.error(str(error))
        preset = replace(preset, corpus=args.corpus)

    def report(step, losses):
        if step * 20 % preset.steps < 20:
            print(f"{step}/{preset.steps}", *(f"{name} {loss:.3f}" for name, loss in losses.items()), flush=True)

    beside = {"out": args.out} if task is text else {}
    results = task.run(preset, device=args.device, report=report, **beside)
    for name, method in results["methods"].items():
        print(name, summary(method))
    corpus = f" --corpus {args.corpus}" if args.corpus else ""
    command = f"{parser.prog} {args.task} --preset {args.preset}{corpus} --device {args.device} --out {args.out}"
    write_record(args.out, results, command=command, seeds=preset.seeds)


def summary(method: dict):
    """What a run ends with: the error of each rate, the last error, or the loss on held-out text."""
    if "rates" in method:
        return {rate: row["last"] for rate, row in method["rates"].items()}
    return method.get("last", method.get("held_out_loss"))


if __name__ == "__main__":
    main()
