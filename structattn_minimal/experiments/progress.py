"""How far a training is: a bar on a terminal, a line now and then elsewhere, with loss, rate and time left."""

import sys
from collections.abc import Callable
from time import perf_counter

from . import distributed
from .training import Training


class Progress:
    """Hand `report` to `fit`. say: where lines go when there is no terminal; at most one in `every` seconds."""

    def __init__(self, say: Callable[[str], None] = print, every: float = 10.0):
        self.say = say if distributed.rank() == 0 else lambda line: None
        self.every, self.bar, self.last = every, None, -every

    def begin(self, name: str, training: Training) -> None:
        self.end()
        self.name, self.from_step, self.started = name, training.done, perf_counter()
        if sys.stderr.isatty() and distributed.rank() == 0:
            from tqdm import tqdm

            self.bar = tqdm(total=len(training.schedule), initial=training.done, desc=name, unit="step", leave=False)

    def report(self, training: Training) -> None:
        done, total, now = training.done, len(training.schedule), perf_counter()
        if self.bar is not None:
            self.bar.set_postfix_str(losses(training), refresh=False)
            self.bar.update(done - self.bar.n)
        elif now - self.last >= self.every or done == total:
            self.last = now
            rate = (done - self.from_step) / (now - self.started)
            left = f"{(total - done) / rate:.0f} s left"
            self.say(f"{self.name}: step {done}/{total}, loss {losses(training)}, {rate:.1f} steps/s, {left}")

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def losses(training: Training) -> str:
    """The latest loss of each model."""
    return " ".join(f"{loss:.3f}" for loss in training.curves[training.done - 1, 0].tolist())
