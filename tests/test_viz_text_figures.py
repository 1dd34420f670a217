"""Figures of chapter 12: menus move all traces together, fits lie on their points, a control lies at zero."""

import pytest
from test_experiments_text_claims import records, run

from structattn_minimal.experiments import text_claims as claims
from structattn_minimal.experiments.presets import COMPARED
from structattn_minimal.viz import text_figures as figures

CURVE = {"steps": [25, 50, 100], "loss": [3.0, 2.0, 1.5]}


def with_curve(found):
    for model in found["by_seed"]:
        model["curve"] = CURVE
    return found


@pytest.fixture
def two_methods():
    losses = {256: 1.3, 384: 1.25, 512: 1.2}
    return records(
        *(with_curve(run("standard", D, (loss, loss + 0.01), macs=D**2)) for D, loss in losses.items()),
        *(
            with_curve(run("mlr", D, (loss - 0.1, loss), macs=D**2, seconds_a_step=2.0, seam=0.5))
            for D, loss in losses.items()
        ),
        more=(with_curve(run("standard", 256, (1.28, 1.29), steps=300)),),
    )


def test_every_reader_has_a_look_of_its_own():
    assert figures.STYLES.keys() == set(COMPARED)
    looks = [tuple(sorted(style.items())) for style in figures.STYLES.values()]
    assert len(set(looks)) == len(looks)


def test_a_currency_moves_points_and_fits(two_methods):
    fig = figures.loss_by_cost(two_methods)
    assert [trace.mode for trace in fig.data] == ["markers", "lines"] * 2
    for button in fig.layout.updatemenus[0].buttons:
        change, title = button["args"]
        key = next(key for key, words in figures.AXES.items() if words == title["xaxis.title.text"])
        assert change["x"][0] == [r[key] for r in claims.runs_of(two_methods, "standard")]
        assert change["y"][0] == [r["held_out_loss"] for r in claims.runs_of(two_methods, "standard")]
        for place, method in ((1, "standard"), (3, "mlr")):
            law = claims.scaling(two_methods, method, key)
            want = [law(cost) for cost in change["x"][place]] if law else []
            assert change["y"][place] == pytest.approx(want)
    shown = fig.layout.updatemenus[0].buttons[0]["args"][0]
    assert tuple(shown["x"][0]) == fig.data[0].x
    assert tuple(shown["y"][1]) == fig.data[1].y
    assert fig.data[0].error_y.array == pytest.approx([0.005] * 4)
    assert fig.layout.xaxis.tickvals == tuple(fig.layout.updatemenus[0].buttons[0]["args"][1]["xaxis.tickvals"])


@pytest.mark.parametrize(
    ("costs", "marks", "words"),
    [
        ([3e15, 1.1e16], [5e15, 1e16], ["5·10<sup>15</sup>", "10<sup>16</sup>"]),
        ([60, 75, 312.0], [100, 200], ["100", "200"]),
        ([131_072_000] * 3, [131_072_000], ["131 million"]),
        ([110, 138.0, 121], [110, 138], ["110", "138"]),
    ],
)
def test_an_axis_of_costs_has_marks_that_can_be_read(costs, marks, words):
    found = figures.ticks(costs)
    assert found == {"xaxis.tickvals": marks, "xaxis.ticktext": words}


def test_curves_end_where_the_training_ended(two_methods):
    fig = figures.training_curves(two_methods)
    assert [trace.visible for trace in fig.data] == [True, True, False, False, False, False]
    seconds = fig.layout.updatemenus[1].buttons[2]["args"][0]["x"]
    assert seconds[0] == pytest.approx([25.0, 50.0, 100.0])  # standard attention, a second a step
    assert seconds[1] == pytest.approx([50.0, 100.0, 200.0])


def test_by_position_standard_attention_is_the_line_at_zero(two_methods):
    fig = figures.loss_by_position(two_methods)
    assert set(fig.data[0].y) == {0.0}
    assert fig.data[1].y == pytest.approx([0, 0, 0, -0.055])
    assert len(fig.layout.updatemenus[0].buttons) == 3


def test_by_seam_shows_the_excess_of_the_first_place(two_methods):
    fig = figures.loss_by_seam(two_methods, 256)
    assert fig.data[0].y == pytest.approx([0, 0, 0])
    assert fig.data[1].y == pytest.approx([0.5, 0, 0])
    assert fig.layout.updatemenus[0].buttons[0].label == "4 characters"


def test_every_menu_has_a_name(two_methods):
    drawn = [getattr(figures, name)(two_methods) for name in ("loss_by_cost", "training_curves", "loss_by_position")]
    names = [[menu.name for menu in fig.layout.updatemenus] for fig in drawn]
    assert names == [["currency"], ["width", "currency"], ["width"]]
    assert figures.loss_by_seam(two_methods, 256).layout.updatemenus[0].name == "block"


@pytest.mark.parametrize("draw", ["loss_by_cost", "training_curves", "loss_by_position"])
def test_nothing_recorded_is_said(draw):
    fig = getattr(figures, draw)({})
    assert fig.layout.annotations[0].text == "not recorded yet"
    assert not fig.data
    assert figures.loss_by_seam({}, 256).layout.annotations[0].text == "not recorded yet"
