# ruff: noqa: E501 (the JavaScript)
"""Fixtures for the tests of explorables: their arithmetic in the browser, and a page that shows one as the book does."""

import pytest
import site_checks
from playwright.sync_api import sync_playwright
from structattn_book.explorable import explorable_html, module_html

from structattn_minimal.viz.explorables import module_text

ROOT = site_checks.Path(__file__).parents[1]
HOST = (ROOT / "book" / "_static" / "explorable-host.js").read_text(encoding="utf-8")
COST_PARTS = {  # of `macs_a_token`, as the explorables name them
    "attention_projections": "projections",
    "scores": "scores",
    "values": "values",
    "feed_forward": "feedForward",
    "ends": "ends",
}


@pytest.fixture(scope="module")
def browser():
    if not site_checks.CHROMIUM.exists():
        pytest.skip("Chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        instance = site_checks.launch(playwright)
        yield instance
        instance.close()


@pytest.fixture(scope="module")
def js(browser):
    """js(module, "(compute, arguments) => ...", arguments): what that module computes."""
    page = browser.new_page()

    def run(module, function, argument=None):
        program = f"""async ([text, argument]) => {{
            const url = URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }}));
            return ({function})((await import(url)).compute, argument);
        }}"""
        return page.evaluate(program, [module_text(module), argument])

    yield run
    page.close()


@pytest.fixture
def shown(browser, tmp_path):
    """shown(widget, ...): a page that shows it as the book does, and what the page complained about."""
    opened = []

    def show(widget, *, width=800, theme="light", reduced_motion="reduce"):
        path = tmp_path / "page.html"
        body = module_html(widget.module) + explorable_html(widget.module, widget.state, widget.alt)
        path.write_text(
            f'<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width"><title>page</title>{body}<script>{HOST}</script></html>'
        )
        context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion=reduced_motion)
        page = context.new_page()
        errors = []
        page.on(
            "console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: None if site_checks.LOCAL.match(request.url) else errors.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".explorable[data-ready=yes]")
        opened.append((context, errors))
        return page

    yield show
    for context, errors in opened:
        context.close()
        assert errors == []


def picture(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator(".explorable").evaluate(site_checks.PICTURE)
