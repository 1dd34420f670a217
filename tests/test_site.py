"""The built book as a reader meets it: in Chromium, opened from the disk, with the network cut."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import site_checks
import yaml
from playwright.sync_api import sync_playwright
from site_checks import (
    CHROMIUM,
    PHONE,
    QUIET,
    accessibility,
    controls,
    figures,
    illegible,
    launch,
    mathematics,
    overflow,
    visit,
)

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
CI = os.environ.get("CI") == "true"

pytestmark = [pytest.mark.site]


def pages() -> list[str]:
    """Every page that the contents name, such as 'chapters/01_bilinear_form'."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    return [contents["root"], *listed]


def need(condition: bool, reason: str) -> None:
    if not condition and CI:
        pytest.fail(reason)
    if not condition:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def site() -> Path:
    need((SITE / "index.html").exists(), "the book is not built: run `make book` first")
    return SITE


@pytest.fixture(scope="session")
def browser():
    need(CHROMIUM.exists(), "Chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        instance = launch(playwright)
        yield instance
        instance.close()


@pytest.fixture(scope="module", params=pages())
def visited(request, browser, site):
    """One page, opened once for all the tests below."""
    with visit(browser, (site / f"{request.param}.html").as_uri()) as seen:
        yield seen


def test_mathematics_is_typeset(visited):
    assert mathematics(visited.look()) == []


def test_figures_and_explorables_are_drawn_and_have_words(visited):
    assert figures(visited.look()) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visited, theme):
    page = visited.look(theme)
    assert page.evaluate("() => document.documentElement.dataset.theme") == theme
    assert accessibility(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_overflows_a_phone(visited, theme):
    assert overflow(visited.look(theme, PHONE)) == []


def test_figures_are_legible_on_a_phone(visited):
    assert illegible(visited.look(viewport=PHONE)) == []


def test_every_control_works_by_mouse_and_by_keyboard(visited):
    """Of an explorable that a page shows again, the first one: does it move its own picture?"""
    seen, complaints = set(), []
    for explorable in visited.look().locator(".explorable").all():
        module = explorable.get_attribute("data-module")
        complaints += [f"{module}: {one}" for one in controls(explorable, most=1 if module in seen else None)]
        seen.add(module)
    assert complaints == []


def test_nobody_else_is_asked_and_nothing_fails(visited):
    visited.look("dark")
    visited.look("light")
    assert visited.foreign == []
    assert visited.errors == []


# the site as files


def explorables_of(page: str) -> list[str]:
    """The explorables that a page's source shows, by the names of their modules."""
    from structattn_minimal.viz import explorables

    source = (ROOT / f"{page}.md").read_text()
    shown = re.findall(r"^(\w+)\(.*\)$|^```\{explorable\} (\w+)", source, re.MULTILINE)
    names = [a or b for a, b in shown]
    return [getattr(explorables, name).module for name in names if hasattr(explorables, name)]


@pytest.mark.parametrize("page", pages())
def test_every_explorable_of_the_source_is_on_the_page(page, site):
    html = (site / f"{page}.html").read_text()
    assert re.findall(r'class="explorable"[^>]*data-module="(\w+)"', html) == explorables_of(page)
    if page.startswith("chapters/"):
        assert explorables_of(page), "each chapter opens with something to touch"


class Links(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.hrefs, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.hrefs.append(attrs["href"])


def broken_links(site: Path) -> list[str]:
    """Links inside the site to a page, or an anchor, that is not there."""
    read = {path: Links(path.read_text()) for path in site.rglob("*.html")}
    broken = []
    for path, links in read.items():
        for href in links.hrefs:
            parts = urlsplit(href)
            if parts.scheme or href in ("#", ""):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = read[target].anchors if target in read else set()
            if not target.exists() or (parts.fragment and target in read and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.relative_to(site)} -> {href}")
    return broken


def test_links_inside_the_book_lead_somewhere(site):
    assert broken_links(site.resolve()) == []


@pytest.mark.parametrize("page", [page for page in pages() if page.startswith(("chapters/", "exercises/"))])
def test_the_colab_button_opens_the_notebook(page, site):
    hrefs = [h for h in Links((site / f"{page}.html").read_text()).hrefs if "colab.research.google.com" in h]
    assert hrefs
    assert all(href.endswith(f"/{page}.ipynb") for href in hrefs), hrefs
    assert (ROOT / f"{page}.ipynb").exists()


@pytest.fixture
def served(site):
    """The address of the site on a server of this machine."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_search_finds_a_word(browser, served):
    with visit(browser, f"{served}/search.html?q=bilinear") as seen:
        seen.page.wait_for_selector("#search-results li a")
        assert "bilinear" in seen.page.locator("#search-results").inner_text().lower()
        assert seen.foreign + seen.errors == []


def test_the_search_finds_a_word_from_the_disk(browser, site):
    """Titles only: a page may not read another page's text from the disk for a summary."""
    with visit(browser, (site / "search.html").as_uri() + "?q=bilinear") as seen:
        seen.page.wait_for_selector("#search-results li a")
        assert seen.foreign == []


def test_a_chapter_works_over_http_too(browser, served):
    with visit(browser, f"{served}/chapters/01_bilinear_form.html") as seen:
        assert mathematics(seen.page) + figures(seen.page) + seen.foreign + seen.errors == []


def test_a_chapter_works_where_there_is_no_network_at_all(site, tmp_path):
    need(CHROMIUM.exists(), "Chromium is not installed: apt install chromium")
    cut = next((c for c in (["unshare", "-n"], ["unshare", "-rn"]) if can(c)), None)
    if cut is None:
        pytest.skip("this user may not make a network namespace")
    url = (site / "chapters" / "01_bilinear_form.html").as_uri()
    flags = ["--headless", *QUIET, f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom"]
    dom = subprocess.run([*cut, str(CHROMIUM), *flags, url], capture_output=True, text=True, timeout=120).stdout
    assert 'data-ready="yes"' in dom
    assert "<mjx-container" in dom


def can(command: list[str]) -> bool:
    return (
        shutil.which(command[0]) is not None and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    )


# the checks themselves, on pages with one fault each

GOOD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>page</title></head>
<body><main><h1>A page</h1>{}</main></body></html>"""
EXPLORABLE = """<div class="explorable" data-module="x" data-ready="yes" role="group" aria-label="x">
<div class="explorable-body"><label>rank <input type="range" min="0" max="9" value="3"></label>
<svg><text>3</text></svg></div><script>{}</script></div>"""
LIVE = """const input = document.querySelector("input");
input.oninput = () => { document.querySelector("text").textContent = input.value; };"""
MOUSE_ONLY, KEYS_ONLY = LIVE.replace("oninput", "onclick"), LIVE.replace("oninput", "onkeyup")
PLAYER = """const player = document.createElement("button"), shown = document.querySelector("text");
player.textContent = "Play";
document.querySelector(".explorable-body").append(player);
const step = () => { shown.textContent = +shown.textContent + 1; };
let clock;
player.onclick = () => {
    clock = clock ? clearInterval(clock) : setInterval(step, 450);
    player.textContent = clock ? "Pause" : "Play";
    if (clock) ANSWER;
};"""
PLAYS, PLAYS_LATE = LIVE + PLAYER.replace("ANSWER", "step()"), LIVE + PLAYER.replace("if (clock) ANSWER;", "")
CUT_EQUATION = """<div id="equation-x"><mjx-container display="true" style="display: block; overflow-x: auto">
<div style="width: 600px">a long formula</div></mjx-container></div>"""
WIDE_PICTURE = """<div class="cell_output"><img style="width: 358px" alt="seven inches" src='data:image/svg+xml,
<svg xmlns="http://www.w3.org/2000/svg" width="504pt" height="200pt"/>'></div>"""
CODE = 2 * """<div class="highlight"><pre style="background: #fff; color: #000"><span>import</span></pre></div>"""
CODE += """<div class="highlight"><pre style="background: #fff; color: #000"><span>def</span>
<span style="{}">pale</span></pre></div>"""
UNNAMED = EXPLORABLE.format(LIVE).replace("<label>rank", "<div>").replace("</label>", "</div>")


@pytest.fixture
def complaints(browser, tmp_path):
    """Open a page with the given body, apply a check of `site_checks` to it (or read what was seen)."""

    def apply(check: str, body: str, viewport: dict = site_checks.DESKTOP):
        (tmp_path / "page.html").write_text(GOOD.format(body))
        with site_checks.visit(browser, (tmp_path / "page.html").as_uri()) as seen:
            page = seen.look(viewport=viewport)
            if check in ("foreign", "errors"):
                return getattr(seen, check)
            return getattr(site_checks, check)(page.locator(".explorable") if check == "controls" else page)

    return apply


@pytest.mark.parametrize(
    ("check", "body", "expected"),
    [
        ("mathematics", r"<article><p>see \frac{1}{2} here</p></article>", "raw"),
        ("mathematics", "<article><p>as in $x^2$ above</p></article>", "raw"),
        ("mathematics", "<article><p>by {eq}`eq-score`</p></article>", "raw"),
        ("mathematics", r'<article><p class="math">\(x\)</p></article>', "not typeset"),
        ("figures", '<article><img src="nowhere.png" alt="x"></article>', "broken"),
        ("figures", '<article><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt=""></article>', "no alt"),
        ("figures", '<div class="plotly-figure" data-drawn="yes" aria-label="x"></div>', "not drawn"),
        ("figures", '<div class="explorable" data-module="x" data-ready="yes" aria-label="x"></div>', "not drawn"),
        ("figures", 2 * '<div class="explorable" data-ready="yes"><i id="a"></i></div>', "twice"),
        ("overflow", '<div style="width: 600px">wide</div>', "608"),
        ("illegible", WIDE_PICTURE, "text of 7.1 px: seven inches"),
        ("illegible", f"<details>{WIDE_PICTURE}</details>", "text of 7.1 px: seven inches"),
        ("overflow", CUT_EQUATION, "an equation is cut"),
        ("accessibility", '<p style="color: #bbb; background: #fff">pale</p>', "contrast"),
        ("accessibility", CODE.format("color: #bbb"), "contrast"),
        ("accessibility", CODE.format("background: #222"), "contrast"),
        ("accessibility", "<input type='text'>", "label"),
        ("controls", EXPLORABLE.format(""), "nothing by mouse"),
        ("controls", EXPLORABLE.format(MOUSE_ONLY), "nothing by keyboard"),
        ("controls", EXPLORABLE.format(KEYS_ONLY), "nothing by mouse"),
        ("controls", EXPLORABLE.format(PLAYS_LATE), "Play does nothing by mouse"),
        ("controls", UNNAMED, "no accessible name"),
        ("foreign", '<img src="https://example.org/x.png" alt="x">', "example.org"),
        ("errors", "<script>console.error('broken')</script>", "broken"),
        ("errors", "<script>undefined.x</script>", "undefined"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_noticed(complaints, check, body, expected):
    found = complaints(check, body, PHONE) if check in ("overflow", "illegible") else complaints(check, body)
    assert any(expected in complaint for complaint in found), found


@pytest.mark.parametrize("script", [LIVE, PLAYS])
@pytest.mark.parametrize(
    "check", ["mathematics", "figures", "overflow", "illegible", "accessibility", "foreign", "errors", "controls"]
)
def test_a_page_without_fault_passes(complaints, check, script):
    assert complaints(check, "<p>good</p>" + EXPLORABLE.format(script)) == []


def test_a_broken_link_is_noticed(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a><a href="b.html#gone">b</a><a href="c.html">c</a>')
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    assert broken_links(tmp_path) == ["a.html -> b.html#gone", "a.html -> c.html"]
