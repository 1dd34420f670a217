"""Losses drawn while a model trains: a curve that grows in a notebook, a few lines of text in a terminal.

    with LiveCurve(steps, alt="Loss against step: ...") as live:
        for step in range(1, steps + 1):
            ...
            live.update(step, {"standard": loss_a, "BTT": loss_b})

What stays in the notebook, and on the page made from it, is one finished picture.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import SupportsFloat

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import DisplayHandle, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import BLUE, WIDTH, bundle, require_alt

SHARE_OF_TIME = 0.1  # drawing takes at most about this share of the training's time
SHORTEST_PAUSE = 0.5  # seconds between two drawings
MOST_POINTS = 200  # a curve; each point is the mean of equally many losses


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this, so that what a cell shows can be replaced."""
    return getattr(get_ipython(), "kernel", None) is not None


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def thinned(values: list[float], most: int = MOST_POINTS) -> np.ndarray:
    """At most `most` means of neighbours, equally many each but for the last, so that a noisy loss reads as a line."""
    size = -(-len(values) // most)
    return np.array([np.mean(values[i : i + size]) for i in range(0, len(values), size)])


class LiveCurve:
    """A progress bar, and a curve for each name.

    total: the last step.  alt: the finished picture in words.  finish(ax): last touches to that picture, such as a
    line to compare with.  In a terminal: a line of text at each tenth of the way.
    Raises `ValueError` for a total below 1, for missing alt text, and for steps that do not increase up to `total`.
    """

    def __init__(
        self,
        total: int,
        *,
        alt: str,
        title: str = "",
        xlabel: str = "step",
        ylabel: str = "loss",
        log: bool = False,
        finish: Callable[[Axes], object] | None = None,
    ):
        if total < 1:
            raise ValueError(f"total must be at least 1, got {total}")
        self.total, self.alt, self.log, self.finish = total, require_alt(alt), log, finish
        self.labels = {"title": title, "xlabel": xlabel, "ylabel": ylabel}
        self.steps: list[int] = []
        self.losses: dict[str, list[float]] = {}
        self.handle: DisplayHandle | None = None
        self.next_drawing = 0.0
        self.tenths = 0

    def __enter__(self) -> "LiveCurve":
        self.start = monotonic()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        """Leave the finished picture, or after an interruption the last state."""
        if self.steps and in_notebook():
            self.draw(finished=kind is None)

    def update(self, step: int, losses: Mapping[str, SupportsFloat]) -> None:
        """Record the losses (numbers or tensors of one element) after `step` steps; draw when it is time."""
        last = self.steps[-1] if self.steps else 0
        if not last < step <= self.total:
            raise ValueError(f"step must lie in {last + 1} ... {self.total}, got {step}")
        self.steps.append(step)
        for name, loss in losses.items():
            self.losses.setdefault(name, []).append(float(loss))
        if in_notebook():
            before = monotonic()
            if before >= self.next_drawing:
                self.draw()
                now = monotonic()
                self.next_drawing = now + max(SHORTEST_PAUSE, (now - before) / SHARE_OF_TIME)
        elif step * 10 // self.total > self.tenths:
            self.tenths = step * 10 // self.total
            print(self.status(), flush=True)

    def status(self) -> str:
        """Steps, time so far, time left, the latest losses."""
        step, spent = self.steps[-1], monotonic() - self.start
        latest = "  ".join(f"{name} {losses[-1]:.3g}" for name, losses in self.losses.items())
        return f"{step}/{self.total}  {clock(spent)} spent, {clock(spent / step * (self.total - step))} left  {latest}"

    def draw(self, finished: bool = False) -> None:
        fig = self.figure(finished)
        data, metadata = bundle(fig, self.alt)
        plt.close(fig)
        if self.handle is None:
            self.handle = display(data, raw=True, metadata=metadata, display_id=True)
        else:
            self.handle.update(data, raw=True, metadata=metadata)

    def figure(self, finished: bool = True) -> Figure:
        """The curves so far; above them, until all is done, how far it is."""
        heights = {"height_ratios": (1, 20)}
        fig, (bar, ax) = plt.subplots(2, 1, figsize=(WIDTH, 3.2), gridspec_kw=heights, layout="constrained")
        for name, losses in self.losses.items():
            ax.plot(thinned(self.steps[-len(losses) :]), thinned(losses), label=name)
        ax.set(**self.labels, xlim=(0, self.total), yscale="log" if self.log else "linear")
        if finished and self.finish:
            self.finish(ax)
        if len(ax.lines) > 1 and ax.get_legend() is None:
            ax.legend()
        if finished:
            bar.remove()
            return fig
        bar.barh(0, self.steps[-1], color=BLUE)
        bar.set(xlim=(0, self.total), xticks=[], yticks=[])
        bar.set_title(self.status(), loc="left", fontsize="small", family="monospace")
        return fig
