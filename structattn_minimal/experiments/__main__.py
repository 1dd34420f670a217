"""Run a named experiment and write its record: python -m structattn_minimal.experiments regression --preset NAME

A comparison (icl-16, lm-256 and their like) is many runs. Its folder, --out, holds the files of each; `record.json`
there is written anew after every call. It can be killed at any time, and goes on with --resume. Several processes share
the runs out: start the same command with --resume and --device cuda:0, cuda:1, ..., and each takes what is free.

What a language model writes: python -m structattn_minimal.experiments generate --from FILE --prompt "..." (and --help)
"""

import argparse
import sys
from dataclasses import replace
from math import inf
from pathlib import Path
from time import perf_counter

import torch

from . import comparison, distributed, generate, regression, reproduction, retiming, text
from .corpora import CORPORA, load
from .presets import COMPARISONS, TEXT_COMPARISONS, Comparison
from .records import write_record

TASKS = {"regression": regression, "text": text}
OF_COMPARISONS = ("steps", "rates", "methods", "against", "retime")
COMPARED = {"regression": COMPARISONS, "text": TEXT_COMPARISONS}


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m structattn_minimal.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--preset", required=True, help="; ".join(f"{t}: {', '.join(presets(t))}" for t in TASKS))
    parser.add_argument("--out", help="the record, a JSON file; of a comparison a folder, runs/PRESET by default")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; by default cpu, and for lm-256 and wider a GPU")
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of the preset's")
    parser.add_argument("--corpus", help=f"of text: {', '.join(CORPORA)}, or the path of a text file of your own")
    group = parser.add_argument_group("of a comparison")
    group.add_argument("--steps", type=int, help="of a training, in place of the preset's")
    group.add_argument(
        "--rates", type=float, nargs="+", help="to choose from, in place of the preset's; one is no choice"
    )
    group.add_argument("--methods", nargs="+", help="some of the preset's")
    group.add_argument("--resume", action="store_true", help="go on with what --out holds")
    group.add_argument("--minutes", type=float, default=inf, help="stop, with a checkpoint, after so many")
    group.add_argument("--only", default="", metavar="PART", help="runs whose name contains this, such as btt or D64")
    group.add_argument(
        "--no-compile", action="store_true", help="capture the step on a GPU as it is: slower, ready sooner"
    )
    group.add_argument("--collect", action="store_true", help="run nothing; add what --out holds to the record")
    group.add_argument(
        "--against", metavar="RECORD", help="run nothing; say whether what --out holds agrees with RECORD"
    )
    group.add_argument("--retime", metavar="RECORD", help="train nothing; time the steps of the runs in RECORD again")
    group.add_argument("--record", help="where the record goes, in place of OUT/record.json")
    args = parser.parse_args(words)
    if args.preset not in presets(args.task):
        known = ", ".join(presets(args.task))
        parser.error(f"--preset of {args.task} must be one of {known}, got {args.preset}")
    preset = presets(args.task)[args.preset]
    if not isinstance(preset, Comparison) and args.out is None:
        parser.error(f"--out must name the record of {args.preset}, a JSON file")
    if not isinstance(preset, Comparison) and any(getattr(args, name) for name in OF_COMPARISONS):
        words = ", ".join(f"--{name}" for name in OF_COMPARISONS)
        parser.error(f"{words} go with a comparison, not with {args.preset}")
    if args.steps is not None and args.steps < 1:
        parser.error(f"--steps must be positive, got {args.steps}")
    if args.rates and min(args.rates) <= 0:
        parser.error(f"--rates must be positive, got {min(args.rates):g}")
    if unknown := set(args.methods or ()) - set(getattr(preset, "methods", ())):
        parser.error(f"--methods of {args.preset} must be among {', '.join(preset.methods)}, got {sorted(unknown)[0]}")
    args.device = args.device or ("cuda" if getattr(preset, "on_a_gpu", False) else "cpu")
    if str(args.device).startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch {torch.__version__} sees no GPU here")
    if args.corpus is not None:
        if args.task != "text":
            parser.error(f"--corpus goes with text, not with {args.task}")
        try:
            load(args.corpus)
        except (ValueError, OSError) as error:
            parser.error(str(error))
    return args


def presets(task: str) -> dict:
    return TASKS[task].PRESETS | COMPARED[task]


def main(words: list[str] | None = None) -> None:
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["generate"]:
        return generate.main(words[1:])
    args = parse(words)
    preset = presets(args.task)[args.preset]
    preset = replace(preset, **changes(args))
    command = " ".join(["python -m structattn_minimal.experiments", *words])
    if isinstance(preset, Comparison):
        compare(args, preset, command)
    else:
        chapter(args, preset, command)


def changes(args: argparse.Namespace) -> dict:
    """The fields of the preset in whose place the command names others."""
    named = {name: getattr(args, name) for name in ("steps", "seeds", "rates", "methods", "corpus")}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in named.items() if value}


def compare(args: argparse.Namespace, preset, command: str) -> None:
    began = perf_counter()
    folder = Path(args.out or f"runs/{args.preset}")
    record = Path(args.record or folder / "record.json")
    device = torch.device(args.device)
    if args.against or args.retime:
        return revisit(preset, folder, device, args)
    try:
        complete = True
        if not args.collect:
            device = distributed.start(device)
            complete = comparison.run_all(
                preset,
                folder,
                device=device,
                resume=args.resume,
                until=began + 60 * args.minutes,
                compile=not args.no_compile,
                only=args.only,
                say=lambda line: print(line, flush=True),
            )
        if distributed.rank() == 0 and (args.collect or any(folder.glob("*_D*.json"))):
            comparison.collect(preset, args.preset, folder, record, command, grow=args.collect)
    except (OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    finally:
        distributed.stop()
    if not complete:
        sys.exit(f"not finished: the same command with --resume goes on. So far: {record}")


def revisit(preset: Comparison, folder: Path, device: torch.device, args: argparse.Namespace) -> None:
    """Time the steps of a record again, or say of each run whether it agrees with one: exit with 1 if one does not."""
    try:
        if args.retime:
            compile = not args.no_compile
            return retiming.retime(preset, args.retime, device=device, compile=compile, only=args.only)
        found = reproduction.repetitions(preset, folder, args.against, args.only)
    except (OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(*found, sep="\n")
    if not all(run.agrees for run in found):
        sys.exit(1)


def chapter(args: argparse.Namespace, preset, command: str) -> None:
    """A run of a chapter: seconds or minutes on a processor, from beginning to end."""
    task = TASKS[args.task]

    def report(step, losses):
        if step * 20 % preset.steps < 20:
            print(f"{step}/{preset.steps}", *(f"{name} {loss:.3f}" for name, loss in losses.items()), flush=True)

    beside = {"out": args.out} if task is text else {}
    results = task.run(preset, device=args.device, report=report, **beside)
    for name, method in results["methods"].items():
        print(name, summary(method))
    write_record(args.out, results, command=command, seeds=preset.seeds)


def summary(method: dict):
    """What a run ends with: the error of each rate, the last error, or the loss on held-out text."""
    if "rates" in method:
        return {rate: row["last"] for rate, row in method["rates"].items()}
    return method.get("last", method.get("held_out_loss"))


if __name__ == "__main__":
    main()
