"""The menus of a plotly figure are selects on the page: they work by keyboard, and show what they say."""

import shutil
from importlib import resources

import pytest
from explorable_page import ROOT
from structattn_book.plotly_figure import MENUS_HEIGHT, figure_html

from structattn_minimal.viz import regression_figures

CURVES = {"x": [1, 2], "y": [1, 2], "type": "scatter"}


def figure():
    fig = regression_figures.go.Figure([{**CURVES, "name": name} for name in "abcd"])
    menu = regression_figures.menu("dimension", [16, 16, 32, 32])
    axis = {"name": "currency", "buttons": [
        {"label": "seconds", "method": "update", "args": [{"x": [[3, 4]] * 4}, {"xaxis.title.text": "seconds"}]},
        {"label": "steps", "method": "update", "args": [{"x": [[5, 6]] * 4}, {"xaxis.title.text": "steps"}]},
    ]}  # fmt: skip
    fig = regression_figures.finished(fig, [16, 16, 32, 32], menu, axis)
    return fig.update_layout(meta={"alt": "four lines"}).to_plotly_json()


@pytest.fixture
def page(browser, tmp_path):
    (tmp_path / "vendor").mkdir()
    shutil.copy(ROOT / "book/_static/plotly-figures.js", tmp_path)
    with resources.as_file(resources.files("plotly") / "package_data" / "plotly.min.js") as source:
        shutil.copy(source, tmp_path / "vendor")
    body = f'{figure_html(figure())}<script src="plotly-figures.js"></script>'
    (tmp_path / "page.html").write_text(f'<!doctype html><html lang="en"><meta charset="utf-8">{body}</html>')
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector(".plotly-figure[data-drawn=yes]")
    yield page
    page.close()


def shown(page):
    return page.locator(".plotly-canvas").evaluate(
        "(canvas) => [canvas.data.map((trace) => trace.visible !== false), canvas.data.map((trace) => trace.x[0]),"
        " canvas.layout.xaxis.title?.text]"
    )


def test_a_menu_works_by_keyboard_alone(page):
    assert shown(page)[0] == [True, True, False, False]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('label').textContent").startswith("dimension")
    page.keyboard.press("ArrowDown")
    assert shown(page)[0] == [False, False, True, True]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    visible, x, title = shown(page)
    assert visible == [False, False, True, True]  # one menu leaves the other's choice
    assert x == [5] * 4
    assert title == "steps"


def test_the_pages_menus_stand_in_for_plotlys_own(page):
    assert page.locator(".updatemenu-container").count() == 0
    assert page.locator(".plotly-menus select").count() == 2
    assert page.locator(".plotly-menus option").all_text_contents() == ["d = 16", "d = 32", "seconds", "steps"]


def test_the_height_counts_the_menus():
    with_menus = figure()
    without = {**with_menus, "layout": {k: v for k, v in with_menus["layout"].items() if k != "updatemenus"}}
    height = with_menus["layout"]["height"]
    assert f"height:{height + MENUS_HEIGHT}px" in figure_html(with_menus)
    assert f"height:{height}px" in figure_html(without)
