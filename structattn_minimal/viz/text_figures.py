"""The figures of chapter 12, in Plotly, from whatever records of language models there are (by name)."""

from math import ceil, floor, log10

import plotly.graph_objects as go

from ..experiments import text_claims as claims
from ..experiments.presets import READERS
from ..experiments.text_task import METRIC
from .comparison_figures import axis_menu, finished, menu, scatter
from .figures import BLUE, GREEN, GREY, ORANGE, PURPLE

STYLES = {
    "standard": {"color": ORANGE},
    "swa": {"color": GREY},
    "gswa": {"color": PURPLE},
    "sequential": {"color": PURPLE, "dash": "dash"},
    "mlr": {"color": GREEN},
    "mlr_gain": {"color": GREEN, "dash": "dash"},
    "mlr_steep": {"color": BLUE},
    "mlr_steep_sum": {"color": BLUE, "dash": "dash"},
    "mlr_coarse": {"color": BLUE, "dash": "dot"},
    "standard_rotary": {"color": ORANGE, "dash": "dash"},
    "mlr_steep_rotary": {"color": BLUE, "dash": "dashdot"},
}
AXES = {
    "characters_a_model": "characters of training text",
    "training_macs_a_model": "training MACs of a model",
    "seconds_a_model": "GPU-seconds, compilation apart",
}
LOSS = "held-out loss, nats a character"
# Ticks are left to Plotly, since a range may hold no power of ten.
LOG = {"type": "log", "exponentformat": "power"}


def loss_by_cost(records: dict[str, dict]) -> go.Figure:
    """Loss against what a model cost, a menu for the currency: a point a run, and a power law through the widths."""
    fig, methods, first = go.Figure(), claims.methods_of(records), "training_macs_a_model"
    for method in methods:
        look = {"name": READERS[method].label, "legendgroup": method, "mode": "markers"}
        look |= {"marker": {"color": STYLES[method]["color"], "size": 8, "symbol": symbol(method)}}
        look |= {"hovertemplate": "%{text}<br>loss %{y:.4g}, cost %{x:,.4g}"}
        fig.add_trace(scatter(claims.runs_of(records, method), first, METRIC, in_words, **look))
        x, y = law_line(records, method, first)
        look = {"legendgroup": method, "showlegend": False, "hoverinfo": "skip", "mode": "lines"}
        fig.add_scatter(x=x, y=y, line=STYLES[method] | {"width": 1.5}, **look)

    def change(key: str) -> dict:
        coordinates = []
        for method in methods:
            runs = claims.runs_of(records, method)
            coordinates += [([run[key] for run in runs], [run[METRIC] for run in runs]), law_line(records, method, key)]
        return {"x": [x for x, _ in coordinates], "y": [y for _, y in coordinates]}

    def marks(key: str) -> dict:
        return ticks([run[key] for method in methods for run in claims.runs_of(records, method)])

    titles = {first: AXES[first]} | AXES  # what is shown first stands first
    fig.update_xaxes(title=titles[first], type="log")
    fig.update_layout({name.replace(".", "_"): value for name, value in marks(first).items()})
    currencies = axis_menu("currency", titles, change, axis=marks)
    finished(fig, ["all"] * len(fig.data), currencies, title=LOSS, type="log")
    return fig.update_layout(height=560, legend={"y": -0.3, "tracegroupgap": 0})  # nine names, on a phone one a line


def ticks(costs: list[float]) -> dict:
    """Of a logarithmic axis: at 1, 2 and 5 times powers of ten; where fewer than two of these lie among the costs, at
    the least and the largest cost. Plotly's own are long and crowded if the costs span less than a power of ten.
    """
    if not costs:
        return {}
    low, high = min(costs), max(costs)
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    marks = [m * 10**k for k in powers for m in (1, 2, 5) if low / 1.1 <= m * 10**k <= high * 1.1]
    marks = marks if len(marks) > 1 else sorted({low, high})
    return {"xaxis.tickvals": marks, "xaxis.ticktext": [in_figures(mark) for mark in marks]}


def in_figures(cost: float) -> str:
    """10^15, 5·10^15, and what is smaller as in the text."""
    if cost < 1e12:
        return claims.amount(cost)
    digits, power = f"{cost:.1e}".split("e")
    times = "" if float(digits) == 1 else f"{float(digits):g}·"
    return f"{times}10<sup>{int(power)}</sup>"


def symbol(method: str) -> str:
    """Of its points: as its lines are whole, dashed or dotted."""
    return {"dash": "diamond-open", "dot": "x"}.get(STYLES[method].get("dash"), "circle")


def law_line(records: dict[str, dict], method: str, key: str) -> tuple[list[float], list[float]]:
    """The ends of the fitted power law over the costs it was fitted to; none where there is no fit."""
    law = claims.scaling(records, method, key)
    costs = [run[key] for run in claims.runs_of(records, method)]
    ends = [min(costs), max(costs)] if law else []
    return ends, [law(cost) for cost in ends]


def in_words(run: dict) -> str:
    return f"D = {run['width']}, {run['characters_a_model'] / 1e6:,.4g} million characters"


def training_curves(records: dict[str, dict]) -> go.Figure:
    """Training loss of the first seed on the way, menus for the width and for the currency."""
    fig, owners, shown, first = go.Figure(), [], [], "characters_a_model"
    for width in claims.widths_of(records):
        for method in claims.methods_of(records):
            for run in claims.at_width(records, method, width)[:1]:
                curve = claims.whole(run)[0]["curve"]
                fig.add_scatter(
                    x=along(run, curve, first), y=curve["loss"], name=READERS[method].label, line=STYLES[method]
                )
                owners.append(f"D = {width}")
                shown.append((run, curve))
    currencies = axis_menu("currency", AXES, lambda key: {"x": [along(run, curve, key) for run, curve in shown]}, 0.28)
    fig.update_xaxes(title=AXES[first], **LOG)
    return finished(fig, owners, menu("width", owners), currencies, title="training loss, nats a character")


def along(run: dict, curve: dict, key: str) -> list[float]:
    """What the training had cost at each step of its curve."""
    steps = run["characters_a_model"] / run["characters_a_step"]
    return [run[key] * step / steps for step in curve["steps"]]


def loss_by_position(records: dict[str, dict], against: str = "standard") -> go.Figure:
    """Loss against the place in the context, less that of the method `against` there; a menu for the width."""
    fig, owners = go.Figure(), []
    for width in claims.widths_of(records):
        control = claims.at_width(records, against, width)
        for method in claims.methods_of(records) if control else ():
            for run in claims.at_width(records, method, width)[:1]:
                names, loss = claims.by_position(run)
                less = claims.by_position(control[0])[1]
                add_places(fig, method, names, [a - b for a, b in zip(loss, less, strict=True)])
                owners.append(f"D = {width}")
    title = "loss less that of standard attention, nats" if against == "standard" else "loss less that of the control"
    return places(fig, owners, menu("width", owners), "place in the context", title)


def loss_by_seam(records: dict[str, dict], width: int) -> go.Figure:
    """How much more a character costs near the beginning of a block than in its latter half; a menu for the block."""
    fig, owners = go.Figure(), []
    runs = {m: claims.at_width(records, m, width)[0] for m in READERS if claims.at_width(records, m, width)}
    for block in claims.blocks_of(next(iter(runs.values()))) if runs else ():
        for method, run in runs.items():
            names, loss = claims.by_seam(run, block)
            add_places(fig, method, names, [one - loss[-1] for one in loss])
            owners.append(f"{block} characters")
    return places(fig, owners, menu("block", owners), "place in the block", "loss less that of the latter half, nats")


def add_places(fig: go.Figure, method: str, names: list[str], values: list[float]) -> None:
    fig.add_scatter(x=names, y=values, name=READERS[method].label, mode="lines+markers", line=STYLES[method])


def places(fig: go.Figure, owners: list, chosen: dict, title: str, loss: str) -> go.Figure:
    """With room for names of places below the axis, which stand upright on a phone."""
    fig.update_xaxes(title=title, type="category")
    return finished(fig, owners, chosen, title=loss).update_layout(height=540, legend_y=-0.5, margin_r=40)
