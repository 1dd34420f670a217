"""The figure of exercise 12.6, in Plotly: recorded losses of rank lists, and what a surrogate expects for a budget."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ..experiments import rank_surrogate as rs
from ..experiments.presets import STEEP
from ..experiments.text_task import METRIC
from .comparison_figures import finished, scatter
from .figures import BLUE, GREEN, GREY, ORANGE
from .text_figures import LOSS

COST = "score MACs (standard attention: 1)"
HOVER = "%{text}<br>loss %{y:.4g}, cost %{x:.3f}<extra></extra>"
LIST = STEEP[64]  # the one of the chapter


def loss_by_score_cost(
    record: dict, surrogate: rs.Surrogate, best: list[tuple[int, ...]], chosen: Sequence[int] | None = None
) -> go.Figure:
    """A point for each recorded list, a line through those that are `best` for a budget, and the chosen list if any."""
    fig = go.Figure()
    add_stairs(fig, surrogate, best)
    runs = [run | {"ranks": ranks, "cost": rs.score_cost(ranks)} for ranks, run in rs.whole_runs(record).items()]
    for name, colour, steep in (("recorded", GREY, False), (f"recorded, {rs.words(LIST)}", BLUE, True)):
        shown = [run for run in runs if (run["ranks"] == LIST) is steep]
        look = {"name": name, "mode": "markers", "marker": {"color": colour, "size": 8}, "hovertemplate": HOVER}
        fig.add_trace(scatter(shown, "cost", METRIC, lambda run: rs.words(run["ranks"]), **look))
    if chosen:
        look = {"mode": "markers", "marker": {"color": ORANGE, "size": 14, "symbol": "star"}, "hovertemplate": HOVER}
        name = f"your choice, {rs.words(chosen)}"
        fig.add_scatter(x=[rs.score_cost(chosen)], y=[surrogate(chosen)], text=[rs.words(chosen)], name=name, **look)
    fig.update_xaxes(title=COST)
    return finished(fig, ["all"] * len(fig.data), title=LOSS)


def add_stairs(fig: go.Figure, surrogate: rs.Surrogate, best: list[tuple[int, ...]]) -> None:
    """The lowest expected loss for each budget, within a band of the surrogate's error."""
    costs, expected = [rs.score_cost(ranks) for ranks in best], [surrogate(ranks) for ranks in best]
    stairs = {"x": costs, "mode": "lines"}
    edge = {"line": {"shape": "hv", "width": 0}, "hoverinfo": "skip", "showlegend": False}
    fig.add_scatter(y=[loss - surrogate.error for loss in expected], **stairs, **edge)
    fig.add_scatter(
        y=[loss + surrogate.error for loss in expected],
        **stairs,
        **edge,
        fill="tonexty",
        fillcolor="rgba(0, 158, 115, 0.15)",  # green, thinned
    )
    look = {"line": {"shape": "hv", "color": GREEN}, "hovertemplate": HOVER, "text": [rs.words(one) for one in best]}
    fig.add_scatter(y=expected, **stairs, **look, name="lowest expected for a budget")
