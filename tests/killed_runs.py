"""Run by tests of comparisons: a run is killed, as by kill -9, at several moments, and taken up again.

killed_runs.py FOLDER TASK, of regression or text. Prints, for each moment, whether the weights of all stages and the
results are those of a run left alone. Each attempt is a fork of this process, so that torch is imported once.
"""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from structattn_minimal.experiments import checkpoints, comparison, training
from structattn_minimal.experiments.presets import COMPARISONS, TEXT_COMPARISONS


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(n):
    """Before the n-th step that this process takes."""
    taken, step = [0], training.Training._one_step

    def counted(self):
        taken[0] += 1
        if taken[0] == n:
            die()
        step(self)

    training.Training._one_step = counted


def in_write(n):
    """With half of the n-th file written."""
    written, write = [0], checkpoints.write_whole

    def half(path, content, **options):
        written[0] += 1
        if written[0] == n:
            path.write_bytes(content[: len(content) // 2])
            die()
        write(path, content, **options)

    checkpoints.write_whole = half


def at_rename(n):
    """Before the n-th file takes its name."""
    renamed, replace = [0], Path.replace

    def counted(self, target):
        renamed[0] += 1
        if renamed[0] == n:
            die()
        return replace(self, target)

    Path.replace = counted


STORAGE = {
    "the first checkpoint, half written": lambda: in_write(1),
    "a later checkpoint, half written": lambda: in_write(3),
    "a checkpoint's first rename": lambda: at_rename(2),
    "between a checkpoint's renames": lambda: at_rename(3),
}
# By task: what is compared, the run, in how many populations it trains its models, and the moments.
CASES = {
    "regression": (
        COMPARISONS["icl-micro"],
        "btt_D8",
        2,
        {
            "the first step": lambda: at_step(1),
            "step 11 of the sweep": lambda: at_step(11),
            "the step after the sweep": lambda: at_step(21),
            "step 14 of the seeds": lambda: at_step(34),
        }
        | STORAGE,
    ),
    "text": (  # two rates of 10 steps, then two seeds of 30, one after the other
        replace(TEXT_COMPARISONS["lm-smoke"], corpus=str(Path(sys.argv[1]) / "own.txt")),
        "sequential_D16",
        4,
        {
            "step 7 of the second rate": lambda: at_step(17),
            "step 20 of the second seed": lambda: at_step(70),
            "between a checkpoint's renames": lambda: at_rename(3),
        },
    ),
}


def attempt(folder, preset, name, die_at=None):
    """Run or go on in `folder`, in a process of its own; whether it reached its end."""
    child = os.fork()
    if child == 0:
        try:
            summaries = comparison.summaries

            def keep_weights(run, stage, training, rates, seeds):
                torch.save(training.state, folder / f"{len(list(folder.glob('*.end')))}.end")
                return summaries(run, stage, training, rates, seeds)

            comparison.summaries = keep_weights
            if die_at:
                die_at()
            comparison.run_all(preset, folder, resume=True, every=0, only=name, say=lambda line: None)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert status == 0
    return True


def outcome(folder, name):
    results = json.loads((folder / f"{name}.json").read_text())
    kept = {part: results[part] for part in ("swept", "by_seed", "best_rate", "lowest", "highest")}
    last = {}
    for file in folder.glob("*.end"):  # of each stage, as whoever came to its end left it
        state = torch.load(file)
        last[tuple(state["seeds"].tolist() + state["rates"][:, 0].tolist())] = state
    return kept, last


def same(one, other):
    return one[0] == other[0] and one[1].keys() == other[1].keys() and all(
        torch.equal(a, b) or (a.is_floating_point() and torch.equal(a.nan_to_num(7), b.nan_to_num(7)))
        for stage in one[1]
        for a, b in ((one[1][stage][name], other[1][stage][name]) for name in one[1][stage])
    )  # fmt: skip


def main(root, task):
    torch.set_num_threads(1)  # a fork has none of its parent's
    preset, name, populations, moments = CASES[task]
    alone, warm = root / "alone", root / "warm"
    alone.mkdir()
    comparison.run_all(preset, warm, only=name, say=lambda line: None)  # imports what forks need
    assert attempt(alone, preset, name)
    expected, found = outcome(alone, name), {}
    assert len(expected[1]) == populations
    for moment, die_at in moments.items():
        folder = root / "killed"
        folder.mkdir()
        killed = not attempt(folder, preset, name, die_at)
        left = sorted(file.name for file in folder.iterdir())
        whole = attempt(folder, preset, name) and same(outcome(folder, name), expected)
        found[moment] = {"killed": killed, "same": whole, "left": left}
        shutil.rmtree(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
