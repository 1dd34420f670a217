"""Figures: one look, words for each, one finished picture of a training run."""

import math
import re

import matplotlib.pyplot as plt
import nbformat
import plotly.graph_objects as go
import pytest
import torch
from nbclient import NotebookClient

from structattn_minimal.viz import figures, live

# show


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", lambda *what, **how: shown.append((what, how)))
    return shown


def a_plot():
    fig, ax = plt.subplots()
    ax.plot([1, 2], [3, 4])
    return fig


def test_a_matplotlib_figure_travels_as_svg_with_its_words(displayed):
    fig = a_plot()
    figures.show(fig, alt='A line\n  that rises, "steeply" & < all')
    [((data,), how)] = displayed
    assert how == {"raw": True, "metadata": {"image/svg+xml": {"alt": 'A line that rises, "steeply" & < all'}}}
    assert re.search(
        r"<svg role=\"img\" aria-label='A line that rises, \"steeply\" &amp; &lt; all'", data["image/svg+xml"]
    )
    assert not plt.fignum_exists(fig.number)  # else the notebook shows it twice


def test_the_same_figure_gives_the_same_bytes():
    first, second = (figures.bundle(a_plot(), "x") for _ in range(2))
    assert first == second


def test_a_large_figure_travels_as_pixels(displayed):
    fig, ax = plt.subplots()
    ax.scatter(torch.rand(4000).numpy(), torch.rand(4000).numpy())
    figures.show(fig, alt="Four thousand points.")
    [((data,), how)] = displayed
    assert data["image/png"].startswith(b"\x89PNG")
    assert len(data["image/png"]) < figures.LARGEST_SVG
    assert how["metadata"]["image/png"]["alt"] == "Four thousand points."


def test_a_plotly_figure_keeps_its_words(displayed):
    fig = go.Figure(go.Scatter(y=[1, 2]))
    figures.show(fig, alt="A line.")
    assert displayed == [((fig,), {})]
    assert fig.layout.meta == {"alt": "A line."}
    assert fig.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("alt", ["", "  \n", None, 3])
@pytest.mark.parametrize("make", [a_plot, go.Figure])
def test_a_figure_without_words_is_refused(displayed, unchecked, make, alt):
    with pytest.raises(ValueError, match="alt must say"):
        figures.show(make(), alt=alt)
    assert displayed == []
    plt.close("all")


def test_something_else_is_refused(unchecked):
    with pytest.raises(ValueError, match="got list"):
        figures.show([1, 2], alt="a list")


# panels


def test_panels_come_in_rows_in_reading_order():
    fig, panels = figures.panels(5, height=1.5)
    assert panels.shape == (5,)
    assert fig.get_size_inches().tolist() == [figures.WIDTH, 3.0]
    fig.draw_without_rendering()
    corners = [panel.get_position().bounds[:2] for panel in panels]
    assert sorted(corners, key=lambda corner: (-corner[1], corner[0])) == corners
    assert len({round(y, 6) for _, y in corners}) == 2
    assert fig.axes == list(panels)  # no empty frame is left
    plt.close(fig)


def test_stacked_panels_keep_what_belongs_together():
    fig, panels = figures.panels(4, a_row=3, height=3, stacked=2)
    assert panels.shape == (4, 2)
    assert fig.get_figheight() == 6
    fig.draw_without_rendering()
    for above, below in panels:
        assert above.get_position().x0 == pytest.approx(below.get_position().x0)
        assert above.get_position().y0 > below.get_position().y1
    assert panels[0, 1].get_position().y0 > panels[3, 0].get_position().y1
    plt.close(fig)


def test_few_panels_fill_the_row():
    fig, panels = figures.panels(2, sharey=True, figsize=(4, 3))
    assert panels.shape == (2,)
    assert panels[0].get_shared_y_axes().joined(*panels)
    assert fig.get_size_inches().tolist() == [4, 3]
    plt.close(fig)
    with pytest.raises(ValueError, match="got 0, 3 and 1"):
        figures.panels(0)


# heatmap


@pytest.mark.parametrize("signed", [False, True])
def test_a_heatmap_shows_every_entry_and_greys_the_mask(signed):
    matrix = torch.tensor([[1.0, -2.0], [0.5, -math.inf]], requires_grad=True)
    fig, ax = plt.subplots()
    image = figures.heatmap(ax, matrix, title="scores", signed=signed, digits=1)
    assert [text.get_text() for text in ax.texts] == ["1.0", "-2.0", "0.5"]
    assert image.get_clim() == ((-2, 2) if signed else (0, 2))
    assert image.get_array().mask.tolist() == [[False, False], [False, True]]
    with pytest.raises(ValueError, match="2 dimensions"):
        figures.heatmap(ax, torch.zeros(3))
    plt.close(fig)


def luminance(colour: str) -> float:
    """Relative luminance as in the accessibility guidelines (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["#ffffff", "#14191f"])  # the white card, the dark page
@pytest.mark.parametrize("colour", figures.PALETTE)
def test_every_colour_stands_out(colour, ground):
    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


# a training run

TRAINING = """
import matplotlib.pyplot as plt
from structattn_minimal.viz import live
live.SHORTEST_PAUSE, live.SHARE_OF_TIME = 0, 1e9  # draw at every update
with live.LiveCurve(5, alt="Two losses fall.", title="A run", log=True, finish=lambda ax: ax.axhline(0.1)) as curve:
    for step in range(1, 6):
        curve.update(step, {"a": 1 / step, "b": 2 / step})
assert not plt.get_fignums()
"""


def test_a_notebook_keeps_one_finished_picture():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TRAINING)])
    client = NotebookClient(notebook, kernel_name="python3", timeout=120)
    updates = []
    process = client.process_message
    client.process_message = lambda message, *rest: (updates.append(message["msg_type"]), process(message, *rest))[1]
    client.execute()
    [output] = notebook.cells[0].outputs  # nothing on stderr, nothing printed
    assert output.output_type == "display_data"
    assert output.metadata["image/svg+xml"]["alt"] == "Two losses fall."
    assert updates.count("update_display_data") == 5  # it grew: 4 times, and the finished one


def run(**options):
    curve = live.LiveCurve(100, alt="A loss.", **options)
    with curve:
        for step in range(10, 101, 10):
            curve.update(step, {"a": torch.tensor(1.0 / step)})
    return curve


def test_a_terminal_gets_lines(capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("10/100 ")
    assert lines[-1].endswith("a 0.01")


def test_the_picture_shows_the_losses_and_while_it_grows_the_progress():
    curve = run(finish=lambda ax: ax.axhline(0.5, label="zero"))
    growing, finished = curve.figure(finished=False), curve.figure()
    assert len(growing.axes) == 2
    assert "100/100" in growing.axes[0].get_title(loc="left")
    [ax] = finished.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "zero"]
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([1 / s for s in range(10, 101, 10)])
    plt.close("all")


def test_many_losses_become_means_of_equally_many():
    thin = live.thinned([float(i) for i in range(1000)])
    assert thin.tolist() == [2.0 + 5 * i for i in range(200)]
    assert live.thinned([1.0, 2.0, 6.0], most=2).tolist() == [1.5, 6.0]


def test_an_interrupted_run_still_raises(capsys):
    def interrupted():
        with live.LiveCurve(10, alt="x") as curve:
            curve.update(1, {"a": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


@pytest.mark.parametrize(
    ("options", "steps", "message"),
    [
        ({"total": 0, "alt": "x"}, [], "total must be at least 1, got 0"),
        ({"total": 5, "alt": " "}, [], "alt must say"),
        ({"total": 5, "alt": "x"}, [6], "1 ... 5, got 6"),
        ({"total": 5, "alt": "x"}, [2, 2], "3 ... 5, got 2"),
    ],
)
def test_wrong_calls(options, steps, message):
    def train():
        with live.LiveCurve(**options) as curve:
            for step in steps:
                curve.update(step, {"a": 1.0})

    with pytest.raises(ValueError, match=re.escape(message)):
        train()
