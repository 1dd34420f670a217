"""One look for all figures, and no figure without words: `show(fig, alt=...)` for matplotlib and plotly alike."""

import io
from xml.sax.saxutils import quoteattr

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from plotly.graph_objects import Figure as PlotlyFigure

# Okabe & Ito's palette, a little darker: told apart by colour-blind eyes, 3:1 on a white card and on the dark page.
BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#0072B2", "#D55E00", "#009E73", "#B8629B", "#C0392B", "#6F7B87"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
LARGEST_SVG = 300_000  # bytes; a larger picture travels as PNG
WIDTH = 5.2  # inches; a phone draws 358 px of these 499, and text of 10 points is then 9 px high

STYLE = {
    "axes.prop_cycle": plt.cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.axisbelow": True,
    "axes.edgecolor": "#4D5A66",
    "grid.color": "#E5E5E5",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.figsize": (WIDTH, 3.2),
    "font.size": 10,
    "image.cmap": SEQUENTIAL,
    "svg.fonttype": "path",
    "svg.hashsalt": "structattn",  # the same figure gives the same bytes
}

# On the transparent ground of a notebook, grey reads in light and in dark; the book's pages set their own colours.
TEMPLATE = go.layout.Template(
    layout={
        "colorway": PALETTE,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": GREY},
        "margin": {"t": 40, "r": 10, "b": 50, "l": 60},
        "xaxis": {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.4)"},
        "yaxis": {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.4)"},
        "colorscale": {"sequential": "Viridis", "diverging": "RdBu_r"},
    }
)


def use_style() -> None:
    """Make the book's look the default of matplotlib and plotly in this session; importing this module does it."""
    plt.rcParams.update(STYLE)
    pio.templates["structattn"] = TEMPLATE
    pio.templates.default = "structattn"


def require_alt(alt: str) -> str:
    """`alt` without the space around it. Raises `ValueError` when it says nothing."""
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt must say in words what the figure shows, got {alt!r}")
    return " ".join(alt.split())


def bundle(fig: Figure, alt: str) -> tuple[dict, dict]:
    """What a notebook needs to show `fig`: its data (SVG, or PNG when the SVG is large) and its metadata."""
    picture = io.StringIO()
    fig.savefig(picture, format="svg", metadata={"Date": None})
    if len(picture.getvalue()) <= LARGEST_SVG:
        named = f'<svg role="img" aria-label={quoteattr(alt)} '  # Colab puts the picture itself into the page
        return {"image/svg+xml": picture.getvalue().replace("<svg ", named, 1)}, {"image/svg+xml": {"alt": alt}}
    pixels = io.BytesIO()
    fig.savefig(pixels, format="png", dpi=160)
    return {"image/png": pixels.getvalue()}, {"image/png": {"alt": alt, "width": round(100 * fig.get_figwidth())}}


def show(fig: Figure | PlotlyFigure, *, alt: str) -> None:
    """Display `fig` once, with `alt` as its text alternative: what it shows and what to see in it.

    A matplotlib figure travels as a picture on a white ground and is closed; a plotly one keeps `alt` in `layout.meta`.
    Raises `ValueError` without alt text, and for anything that is neither kind of figure.
    """
    alt = require_alt(alt)
    if isinstance(fig, PlotlyFigure):
        fig.update_layout(meta={"alt": alt})
        display(fig)
    elif isinstance(fig, Figure):
        data, metadata = bundle(fig, alt)
        plt.close(fig)  # else the notebook shows it a second time
        display(data, raw=True, metadata=metadata)
    else:
        raise ValueError(f"fig must be a matplotlib or plotly figure, got {type(fig).__name__}")


def panels(
    count: int, *, a_row: int = 3, height: float = 2.0, stacked: int = 1, **options
) -> tuple[Figure, np.ndarray]:
    """A figure with room for `count` panels, in rows of at most `a_row`, no wider than a phone can show legibly.

    height: of a row, in inches.  stacked: how many axes a panel has, one above the other.  options: as for
    `matplotlib.pyplot.subplots`.  Returns the figure and the axes in reading order, (count,) or (count, stacked).
    """
    if min(count, a_row, stacked) < 1:
        raise ValueError(f"count, a_row and stacked must be at least 1, got {count}, {a_row} and {stacked}")
    columns = min(count, a_row)
    rows = -(-count // columns)
    size = {"figsize": (WIDTH, rows * height), "layout": "constrained", "squeeze": False}
    fig, grid = plt.subplots(rows * stacked, columns, **(size | options))
    axes = grid.reshape(rows, stacked, columns).swapaxes(1, 2).reshape(-1, stacked)
    for surplus in axes[count:].flat:
        surplus.remove()
    return fig, axes[:count] if stacked > 1 else axes[:count, 0]


def heatmap(
    ax: Axes, matrix, *, title: str = "", signed: bool = False, limit: float | None = None, digits: int | None = None
) -> AxesImage:
    """Draw `matrix` (rows, columns), a tensor or an array, on `ax`; entries that are not finite (a mask) are grey.

    signed: colours diverge from zero.  limit: the entry of the strongest colour, by default the largest magnitude.
    digits: write the entries into the cells.  Returns the image, for a colour bar.
    """
    values = np.asarray(matrix.detach().cpu() if hasattr(matrix, "detach") else matrix, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"matrix must have 2 dimensions, got shape {values.shape}")
    finite = np.isfinite(values)
    limit = limit or float(np.abs(values[finite]).max(initial=0)) or 1.0
    cmap = plt.get_cmap(DIVERGING if signed else SEQUENTIAL).with_extremes(bad="0.85")
    image = ax.imshow(np.where(finite, values, np.nan), cmap=cmap, vmin=-limit if signed else 0, vmax=limit)
    ax.set_title(title)
    ax.grid(False)
    if digits is not None:
        for (i, j), value in np.ndenumerate(values):
            if finite[i, j]:
                red, green, blue, _ = image.to_rgba(value)
                dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
                ax.text(j, i, f"{value:.{digits}f}", ha="center", va="center", color="white" if dark else "black")
    return image


use_style()
