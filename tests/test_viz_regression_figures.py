"""Figures of chapter 11: what a menu shows is of one d, one width or one scorer, and a currency moves every trace."""

import pytest

from structattn_minimal.experiments.presets import SCORERS
from structattn_minimal.viz import regression_figures as figures


def run(method, width, d):
    last = d / width / 10
    model = {"seed": 0, "last": last, "curve": {"steps": [10, 20], "last": [1.0, last]}}
    return {
        "method": method,
        "width": width,
        "head_dimension": width // SCORERS[method].heads,
        "last": last,
        "lowest": 0.5 * last,
        "highest": 2 * last,
        "training_macs_a_model": 1000 * width + d,
        "seconds_a_model": 3 * width + d,
        "params": width**2,
        "by_seed": [model, model],
        "swept": [{"rate": rate, "last": rate * d if rate < 3 else None} for rate in (1, 2, 3)],
    }


def record(d, widths):
    setting = {"d": d, "pairs": 2 * d, "widths": list(widths), "methods": list(SCORERS), "rates": [1, 2, 3]}
    runs = {f"{m}_D{D}": run(m, D, d) for D in widths for m in SCORERS}
    del runs[f"mlr_D{widths[-1]}"]  # not run yet
    return {"setting": setting, "runs": runs, "baselines": {"ridge": 0.001}}


@pytest.fixture
def records():
    return {16: record(16, (32, 64)), 32: record(32, (64, 128, 256))}


def visible(fig, button):
    shown = button["args"][0]["visible"]
    assert len(shown) == len(fig.data)
    return [trace for trace, one in zip(fig.data, shown, strict=True) if one]


def test_the_menu_shows_one_dimension_with_its_line_and_baselines(records):
    fig = figures.error_by_width(records)
    (menu,) = fig.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["d = 16", "d = 32"]
    first, second = (visible(fig, button) for button in menu.buttons)
    assert [trace.visible for trace in fig.data] == [True] * len(first) + [False] * len(second)
    for d, traces in ((16, first), (32, second)):
        by_name = {trace.name: trace for trace in traces}
        assert list(by_name["8 heads: r = d"].x) == [8 * d] * 2
        assert list(by_name["one gradient step"].y) == pytest.approx([(d + 1) / (3 * d)] * 2)
        assert list(by_name["ridge regression"].y) == [0.001] * 2
        widths = records[d]["setting"]["widths"]
        btt = by_name[SCORERS["btt"].label]
        assert list(btt.x) == widths
        assert list(btt.y) == pytest.approx([d / D / 10 for D in widths])
        assert list(btt.error_y.array) == pytest.approx([d / D / 10 for D in widths])
        assert list(btt.error_y.arrayminus) == pytest.approx([d / D / 20 for D in widths])
        assert list(by_name[SCORERS["mlr"].label].x) == widths[:-1]


def test_a_currency_moves_every_trace_and_no_other_thing(records):
    fig = figures.error_by_cost(records)
    dimensions, currencies = fig.layout.updatemenus
    assert [button.label for button in currencies.buttons] == ["training MACs", "seconds of training", "parameters"]
    for button, key in zip(currencies.buttons, ("training_macs_a_model", "seconds_a_model", "params"), strict=True):
        data, layout = button["args"]
        assert list(data) == ["x"]
        assert layout == {"xaxis.title.text": figures.AXES[key]}
        assert len(data["x"]) == len(fig.data)
        assert list(data["x"][2]) == [records[16]["runs"][f"btt_D{D}"][key] for D in (32, 64)]
        assert list(data["x"][7]) == [records[32]["runs"][f"mlr_D{D}"][key] for D in (64, 128)]
        assert [len(x) for x in data["x"]] == [len(trace.y) for trace in fig.data]
    assert [list(trace.x) for trace in fig.data] == [list(x) for x in currencies.buttons[0]["args"][0]["x"]]
    assert [len(visible(fig, button)) for button in dimensions.buttons] == [4, 4]


def test_rates_by_dimension_and_scorer(records):
    fig = figures.rate_transfer(records)
    (menu,) = fig.layout.updatemenus
    labels = [scorer.label for scorer in SCORERS.values()]
    assert [button.label for button in menu.buttons] == [f"d = {d}, {label}" for d in (16, 32) for label in labels]
    assert [len(visible(fig, button)) for button in menu.buttons] == [2, 2, 2, 1, 3, 3, 3, 2]
    assert list(fig.data[0].y) == [16, 32, None]  # a gap where it diverged
    assert [trace.name for trace in visible(fig, menu.buttons[4])] == ["D = 64", "D = 128", "D = 256"]
    assert fig.layout.xaxis.title.text == "peak rate in thousandths; muP: at D = 64"  # whatever the widths
    plain = record(16, (32, 64))
    plain["setting"]["mup"] = False
    buttons = figures.rate_transfer({"rates": records[16], "rates_plain": plain}).layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == [
        f"d = 16{how}, {label}" for how in ("", ", without muP") for label in labels
    ]
    five = figures.rate_transfer({16: record(16, (32, 64, 128, 256, 512))})
    assert [len(visible(five, button)) for button in five.layout.updatemenus[0].buttons] == [5, 5, 5, 4]
    assert len({trace.line.color for trace in five.data[:5]}) == 5


def test_curves_by_dimension_and_width(records):
    fig = figures.training_curves(records)
    (menu,) = fig.layout.updatemenus
    widths = ((16, 32), (16, 64), (32, 64), (32, 128), (32, 256))
    assert [button.label for button in menu.buttons] == [f"d = {d}, D = {D}" for d, D in widths]
    assert [len(visible(fig, button)) for button in menu.buttons] == [8, 6, 8, 8, 6]
    for button in menu.buttons:
        shown = visible(fig, button)
        assert sum(trace.showlegend for trace in shown) == len({trace.name for trace in shown})


def begun(last, *errors):
    return {"seed": 0, "rate": 1, "last": last, "curve": {"steps": [100, 200], "last": list(errors)}}


def test_beginnings_are_beside_those_that_learned_nothing():
    """Each model a line, those that learned on top and not faint; a method is named once; ticks say what is in use."""
    runs = {
        "btt": {"method": "btt", "width": 32, "swept": [begun(0.2, 0.9, 0.4)], "by_seed": [begun(1.0, 0.9, 0.8)]},
        "mlr": {"method": "mlr", "width": 32, "swept": [begun(1.01, 0.9, 0.8)], "by_seed": []},
    }
    setting = {"d": 8, "steps": 4000, "curriculum": 0.4, "methods": ["btt", "mlr"]}
    fig = figures.beginnings({"setting": setting, "runs": runs}, 1.0)
    lines = [trace for trace in fig.data if len(trace.x) == 2 and trace.x[0] == 100]
    assert [list(trace.y) for trace in lines] == [[1, 1], [1, 1], [1, 0.5]]
    assert [trace.line.color for trace in lines] == [figures.COLOURS[method] for method in ("btt", "mlr", "btt")]
    assert lines[0].opacity == lines[1].opacity < lines[2].opacity == 1
    named = [trace for trace in fig.data if trace.showlegend is not False]
    learned = (f"{SCORERS['btt'].label} (1 of 2 learn)", f"{SCORERS['mlr'].label} (0 of 1 learn)")
    assert tuple(trace.name for trace in named) == (*learned, "all 8 in use")
    assert list(named[2].x) == [1600, 1600]
    assert list(fig.layout.xaxis.ticktext) == ["100<br>1", "200<br>2", "400<br>3", "800<br>5", "1600<br>8", "4000<br>8"]
    slow = figures.beginnings({"setting": setting | {"power": 2.0}, "runs": runs}, 1.0)
    assert list(slow.layout.xaxis.ticktext)[2:4] == ["400<br>1", "800<br>3"]
    assert fig.layout.updatemenus == ()


def test_without_a_record_a_figure_says_so():
    for draw in (figures.error_by_width, figures.error_by_cost):
        fig = draw({})
        assert fig.layout.annotations[0].text == "not recorded yet"
        assert fig.layout.updatemenus == ()
