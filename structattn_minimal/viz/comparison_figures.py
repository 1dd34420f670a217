"""What the figures of recorded comparisons share, in Plotly: points with the range over seeds, menus, a frame."""

from collections.abc import Callable

import plotly.graph_objects as go

from .figures import GREY

PLACE = {"y": 1.0, "yanchor": "bottom", "xanchor": "left", "pad": {"b": 8}, "showactive": True}


def scatter(runs: list[dict], key: str, metric: str, hover: Callable[[dict], str], **look) -> go.Scatter:
    """The mean of each run's seeds against `key`, with the range over them; `hover` names a run."""
    return go.Scatter(
        x=[run[key] for run in runs],
        y=[run[metric] for run in runs],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [run["highest"] - run[metric] for run in runs],
            "arrayminus": [run[metric] - run["lowest"] for run in runs],
            "thickness": 1.2,
        },
        text=[hover(run) for run in runs],
        **look,
    )


def menu(name: str, owners: list) -> dict:
    """A menu of this name that shows the traces of one owner at a time; a number is a dimension d."""
    buttons = [
        {
            "label": f"d = {owner}" if isinstance(owner, int) else owner,
            "method": "restyle",
            "args": [{"visible": [one == owner for one in owners]}],
        }
        for owner in dict.fromkeys(owners)
    ]
    return {"buttons": buttons, "name": name, "x": 0, **PLACE}


def axis_menu(
    name: str,
    titles: dict[str, str],
    change: Callable[[str], dict],
    x: float = 0,
    axis: Callable[[str], dict] = lambda key: {},
) -> dict:
    """A menu for what the first axis shows: change(key) has the traces' new coordinates, titles[key] its words, and
    axis(key) what else of the axis is new.
    """
    buttons = [
        {
            "label": title.split(",")[0].removesuffix(" of a model"),
            "method": "update",
            "args": [change(key), {"xaxis.title.text": title} | axis(key)],
        }
        for key, title in titles.items()
    ]
    return {"buttons": buttons, "name": name, "x": x, **PLACE}


def finished(fig: go.Figure, owners: list, *menus: dict, **axis) -> go.Figure:
    """With the traces of the first owner shown, menus that can be read in light and dark, and a second axis as told."""
    if not owners:
        fig.add_annotation(text="not recorded yet", showarrow=False)
        menus = ()
    for trace, owner in zip(fig.data, owners, strict=True):
        trace.visible = owner == owners[0]
    look = {"bgcolor": "#F5F7F9", "bordercolor": GREY, "font": {"color": "#1C2733"}}
    fig.update_yaxes(**axis)
    fig.update_layout(
        updatemenus=[m | look for m in menus], height=460, legend={"orientation": "h", "y": -0.25}, margin={"t": 60}
    )
    return fig
