"""One look for all figures, and no figure without words: `show(fig, alt=...)` for matplotlib and plotly alike."""

import io

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure
from plotly.graph_objects import Figure as PlotlyFigure

# Okabe & Ito's palette: told apart by colour-blind eyes, and dark enough for a white ground.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#B2182B", "#AA4499", "#666666"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)

STYLE = {
    "axes.prop_cycle": plt.cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "font.size": 10,
    "image.cmap": "viridis",
    "svg.fonttype": "path",
    "svg.hashsalt": "structattn",
}


def use_style() -> None:
    """Make the book's look matplotlib's default in this session."""
    plt.rcParams.update(STYLE)


def show(fig: Figure | PlotlyFigure, *, alt: str) -> None:
    """Display `fig` once, with `alt` as its text alternative: what it shows and what to see in it.

    A matplotlib figure travels as SVG on a white ground and is closed; a plotly one keeps `alt` in `layout.meta`.
    Raises `ValueError` without alt text, and for anything that is neither kind of figure.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt must say in words what the figure shows, got {alt!r}")
    if isinstance(fig, PlotlyFigure):
        fig.update_layout(meta={"alt": alt}, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)")
        fig.update_layout(colorway=PALETTE, margin={"t": 40, "r": 10, "b": 50, "l": 60})
        display(fig)
    elif isinstance(fig, Figure):
        svg = io.StringIO()
        fig.savefig(svg, format="svg", facecolor="white", metadata={"Date": None})
        plt.close(fig)
        display({"image/svg+xml": svg.getvalue()}, raw=True, metadata={"image/svg+xml": {"alt": alt}})
    else:
        raise ValueError(f"fig must be a matplotlib or plotly figure, got {type(fig).__name__}")


use_style()
