"""The figures of chapter 11, in Plotly, from whatever records of in-context regression there are (by d)."""

from math import log10

import plotly.graph_objects as go

from ..experiments.presets import SCORERS, RegressionComparison
from ..experiments.regression import gradient_step_error
from ..experiments.regression_claims import CURRENCIES, in_use, learned_nothing, models_of, relative_curve, runs_of
from . import comparison_figures
from .comparison_figures import axis_menu, menu
from .figures import BLUE, GREEN, GREY, ORANGE, PURPLE

COLOURS = {"standard": ORANGE, "standard_1": PURPLE, "btt": BLUE, "mlr": GREEN}
AXES = {
    "training_macs_a_model": f"{CURRENCIES['training_macs_a_model']} of a model",
    "seconds_a_model": f"{CURRENCIES['seconds_a_model']}, a model's share of the machine",
    "params": "parameters",
    "width": "width D",
}


def error_by_width(records: dict[int, dict]) -> go.Figure:
    """Error against width, a menu for d: means and ranges over seeds, the line r = d, and what to compare with."""
    fig, owners = go.Figure(), []
    for d, record in records.items():
        widths = record["setting"]["widths"]
        for method in record["setting"]["methods"]:
            fig.add_trace(scatter(record, method, "width"))
        marks = [run["lowest"] for method in SCORERS for run in runs_of(record, method).values()]
        low, high = 0.6 * min([*marks, record["baselines"]["ridge"]]), 1.5
        grey = {"mode": "lines", "hoverinfo": "name"}
        fig.add_scatter(
            x=[8 * d] * 2, y=[low, high], name="8 heads: r = d", line={"color": GREY, "dash": "dot"}, **grey
        )
        n = record["setting"]["pairs"] - 1
        for name, error, dash in (
            ("answering zero", 1, "solid"),
            ("one gradient step", gradient_step_error(n, d), "dashdot"),
            ("ridge regression", record["baselines"]["ridge"], "dash"),
        ):
            ends = [min(widths) / 1.2, max(widths) * 1.2]
            fig.add_scatter(x=ends, y=[error] * 2, name=name, line={"color": GREY, "width": 1, "dash": dash}, **grey)
        owners += [d] * (len(fig.data) - len(owners))
    every = sorted({width for record in records.values() for width in record["setting"]["widths"]})
    fig.update_xaxes(type="log", title=AXES["width"], tickvals=every)
    return finished(fig, owners, menu("dimension", owners))


def error_by_cost(records: dict[int, dict]) -> go.Figure:
    """Error against what a model cost, a menu for d and one for the currency; a point a width, joined by method."""
    fig, owners = go.Figure(), []
    for d, record in records.items():
        for method in record["setting"]["methods"]:
            fig.add_trace(scatter(record, method, "training_macs_a_model"))
            owners.append(d)
    titles = {key: title for key, title in AXES.items() if key != "width"}
    currencies = axis_menu("currency", titles, lambda key: {"x": costs(records, key)}, 0.28)
    fig.update_xaxes(type="log", title=AXES["training_macs_a_model"], exponentformat="power", dtick="D2")
    return finished(fig, owners, menu("dimension", owners), currencies)


def costs(records: dict[int, dict], key: str) -> list[list]:
    """What each trace of `error_by_cost` has on its first axis."""
    return [
        [run[key] for run in runs_of(record, method).values()]
        for record in records.values()
        for method in record["setting"]["methods"]
    ]


def scatter(record: dict, method: str, key: str) -> go.Scatter:
    """Mean error of each width against `key`, with the range over seeds."""
    return comparison_figures.scatter(
        list(runs_of(record, method).values()),
        key,
        "last",
        lambda run: f"D = {run['width']}, head dimension {run['head_dimension']}",
        name=SCORERS[method].label,
        mode="lines+markers",
        line={"color": COLOURS[method]},
        hovertemplate="%{text}<br>error %{y:.3g}, cost %{x:,.4g}",
    )


def rate_transfer(records: dict) -> go.Figure:
    """Error against base learning rate, a line a width, a menu for d and the scorer."""
    fig, owners = go.Figure(), []
    for record in records.values():
        for method in record["setting"]["methods"]:
            for run, colour in zip(swept_runs(record, method), (BLUE, ORANGE, GREEN, PURPLE, GREY), strict=False):
                x = [model["rate"] for model in run["swept"]]
                y = [model["last"] for model in run["swept"]]  # None where it diverged
                fig.add_scatter(x=x, y=y, name=f"D = {run['width']}", mode="lines+markers", line={"color": colour})
                owners.append(f"{swept_as(record)}, {SCORERS[method].label}")
    rates = sorted({rate for record in records.values() for rate in record["setting"]["rates"]})
    fig.update_xaxes(
        type="log",
        title=f"peak rate in thousandths; muP: at D = {RegressionComparison.base_width}",
        tickvals=rates,
        ticktext=[f"{1000 * rate:g}" for rate in rates],  # short enough for a phone
    )
    return finished(fig, owners, menu("dimension and scorer", owners))


def swept_as(record: dict) -> str:
    """What sets a sweep apart from others: its dimension, and whether rates are scaled (`mup`)."""
    return f"d = {record['setting']['d']}{'' if record['setting'].get('mup', True) else ', without muP'}"


def swept_runs(record: dict, method: str) -> list[dict]:
    runs = [run for run in record["runs"].values() if run["method"] == method and run.get("swept")]
    return sorted(runs, key=lambda run: run["width"])


def training_curves(records: dict[int, dict]) -> go.Figure:
    """Error at the last point while training, every seed a line, a menu for d and the width."""
    fig, owners = go.Figure(), []
    for d, record in records.items():
        for run in record["runs"].values():
            for i, model in enumerate(run.get("by_seed", [])):
                fig.add_scatter(
                    x=model["curve"]["steps"],
                    y=model["curve"]["last"],
                    name=SCORERS[run["method"]].label,
                    legendgroup=run["method"],
                    showlegend=i == 0,
                    line={"color": COLOURS[run["method"]], "width": 1.2},
                )
                owners.append(f"d = {d}, D = {run['width']}")
    fig.update_xaxes(title="training step")
    return finished(fig, owners, menu("dimension and width", owners))


def beginnings(record: dict, zero: float) -> go.Figure:
    """Every model's error over that of answering zero, while training; those that learned nothing are faint.

    Steps on a logarithmic axis, each tick with the dimensions that are in use there.
    """
    fig, setting = go.Figure(), record["setting"]
    everyone = sorted(models_of(record), key=lambda pair: not learned_nothing(pair[1], zero))  # the others on top
    for run, model in everyone:
        method, idle, curve = run["method"], learned_nothing(model, zero), relative_curve(record, model, zero)
        fig.add_scatter(
            x=curve["steps"],
            y=curve["last"],
            name=SCORERS[method].label,
            legendgroup=method,
            showlegend=False,
            mode="lines",
            opacity=0.35 if idle else 1,
            line={"color": COLOURS[method], "width": 1 if idle else 1.6},
            text=f"D = {run['width']}, rate {model['rate']:g}, seed {model['seed']}",
            hovertemplate="%{text}<br>step %{x}: %{y:.3g}",
        )
    for method in setting["methods"]:  # the names once, and not as faint as some lines
        learned = [not learned_nothing(model, zero) for run, model in everyone if run["method"] == method]
        fig.add_scatter(
            x=[None],
            y=[None],
            name=f"{SCORERS[method].label} ({sum(learned)} of {len(learned)} learn)",
            legendgroup=method,
            mode="lines",
            line={"color": COLOURS[method]},
        )
    steps, d = setting["steps"], setting["d"]
    grown = round(setting["curriculum"] * steps)
    fig.add_scatter(
        x=[grown] * 2,
        y=[0.04, 1.2],
        name=f"all {d} in use",
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
    )
    ticks = [*(grown >> i for i in range(4, -1, -1)), steps]  # a sixteenth, an eighth, ... of the curriculum
    texts = [f"{t}<br>{in_use(setting, t)}" for t in ticks]
    fig.update_xaxes(type="log", title="training step, and dimensions in use", tickvals=ticks, ticktext=texts)
    fig.update_xaxes(range=[log10(0.75 * ticks[0]), log10(1.1 * steps)])
    error = {"type": "log", "title": "error, answering zero = 1", "tickvals": [1, 0.5, 0.2, 0.1, 0.05]}
    comparison_figures.finished(fig, [d] * len(fig.data), **error)
    return fig.update_layout(height=400, margin={"t": 20}, legend={"y": -0.35})


def finished(fig: go.Figure, owners: list, *menus: dict) -> go.Figure:
    """As all comparisons are, with the error on a log axis."""
    error = {"type": "log", "title": "squared error, last point", "exponentformat": "power", "dtick": "D2"}
    return comparison_figures.finished(fig, owners, *menus, **error)
