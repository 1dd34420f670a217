# ruff: noqa: E501 (the JavaScript)
"""What a reader would complain about, as functions: each takes an open page and returns the complaints.

`test_site.py` runs them on the built book, and on small pages with one fault each, to see that they notice.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Browser, Error, Locator, Page, Playwright

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOCAL = re.compile(r"(file|data|blob|about):|https?://(127\.0\.0\.1|localhost|\[::1\])[:/]")
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


@dataclass
class Visit:
    """An open page, and what it has asked for and complained about since."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def look(self, theme: str = "light", viewport: dict = DESKTOP) -> Page:
        """The page in this theme and size, once it has settled."""
        self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        self.page.set_viewport_size(viewport)
        settle(self.page)
        return self.page


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))


@contextmanager
def visit(browser: Browser, url: str):
    """Open `url` with every other host out of reach."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    seen = Visit(page)

    def gate(route):
        if LOCAL.match(route.request.url):
            return route.continue_()
        seen.foreign.append(route.request.url)
        return route.abort()

    page.route("**/*", gate)
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(url)
    settle(page)
    yield seen
    context.close()


READY = """() => document.readyState === "complete"
    && [...document.querySelectorAll(".explorable")].every((e) => e.dataset.ready)
    && [...document.querySelectorAll(".plotly-figure")].every((e) => e.dataset.drawn)
    && [...document.querySelectorAll(".plotly-figure .main-svg")].every((e) => e.clientWidth <= e.closest(".plotly-figure").clientWidth + 1)
    && (!window.MathJax || (window.MathJax.startup?.promise && window.__typeset))"""


def settle(page: Page) -> None:
    """Wait for mathematics, figures and explorables, and for the layout to come to rest."""
    page.evaluate("() => { window.MathJax?.startup?.promise?.then(() => { window.__typeset = true; }); }")
    try:
        page.wait_for_function(READY, timeout=20_000)
    except Error:
        return  # what never comes is for the checks to name
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def mathematics(page: Page) -> list[str]:
    """Formulas that were not typeset, and TeX that shows as such."""
    return page.evaluate(r"""() => {
        const bad = [...document.querySelectorAll(".math")].filter((e) => !e.querySelector("mjx-container"))
            .map((e) => `not typeset: ${e.textContent.trim().slice(0, 60)}`);
        bad.push(...[...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) => `error: ${e.textContent}`));
        const main = (document.querySelector("article") ?? document.body).cloneNode(true);
        main.querySelectorAll("pre, code, script, style, mjx-container, .math").forEach((e) => e.remove());
        const raw = main.textContent.match(/(\\[a-zA-Z]{2,}|\\[([]|\$[^$\n]{1,80}\$|\{(eq|ref|cite:?[pt]?|doc|result)\}`).{0,40}/g);
        return bad.concat((raw ?? []).map((text) => `raw: ${text}`));
    }""")


def figures(page: Page) -> list[str]:
    """Pictures that are missing or have no words; figures that are not drawn; ids that two explorables share."""
    return page.evaluate("""() => {
        const bad = [];
        for (const img of document.querySelectorAll("article img, .bd-article img")) {
            if (!img.complete || img.naturalWidth === 0) bad.push(`broken picture: ${img.src.slice(0, 80)}`);
            if (!img.alt.trim()) bad.push(`no alt text: ${img.src.slice(0, 80)}`);
        }
        for (const figure of document.querySelectorAll(".plotly-figure")) {
            if (!figure.querySelector("svg.main-svg")) bad.push("a plotly figure is not drawn");
            const named = figure.closest("[aria-label]") ?? figure.querySelector("[aria-label]");
            if (!named?.getAttribute("aria-label").trim()) bad.push("a plotly figure has no accessible name");
        }
        for (const e of document.querySelectorAll(".explorable")) {
            const body = e.querySelector(".explorable-body") ?? e;
            if (!e.dataset.ready || !body.querySelector("svg, canvas")) bad.push(`explorable ${e.dataset.module} is not drawn`);
            if (!e.getAttribute("aria-label")?.trim()) bad.push(`explorable ${e.dataset.module} has no accessible name`);
        }
        const ids = [...document.querySelectorAll(".explorable [id]")].map((e) => e.id);
        const again = new Set(ids.filter((id, i) => ids.indexOf(id) !== i));
        bad.push(...[...again].map((id) => `the id ${id} stands twice, and what refers to it finds the first`));
        return bad;
    }""")


def overflow(page: Page) -> list[str]:
    """What sticks out of the window sideways, unless it lies in a box of its own that scrolls or clips; an equation has
    such a box, and should not need it.
    """
    return page.evaluate("""() => {
        const width = document.documentElement.clientWidth;
        const cut = [...document.querySelectorAll("mjx-container[display]")].filter((e) => e.scrollWidth > e.clientWidth + 2)
            .map((e) => `an equation is cut: ${e.closest("[id]")?.id}, ${e.scrollWidth - e.clientWidth} px`);
        if (document.scrollingElement.scrollWidth <= width) return cut;
        const contained = (e) => {
            for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) {
                if (getComputedStyle(p).overflowX !== "visible") return true;
            }
            return false;
        };
        const out = [...document.body.querySelectorAll("*")]
            .filter((e) => e.getBoundingClientRect().right > width + 1 && !contained(e))
            .map((e) => `${e.tagName.toLowerCase()}.${e.getAttribute("class")} reaches ${e.getBoundingClientRect().right}`);
        return [...cut, `the page is ${document.scrollingElement.scrollWidth} px wide in ${width}`, ...out.slice(0, 5)];
    }""")


def illegible(page: Page) -> list[str]:
    """Pictures of cells that are drawn so small that text of 10 points is less than 8.5 px high; folded cells too."""
    return page.evaluate("""() => {
        const folded = [...document.querySelectorAll("details:not([open])")];
        folded.forEach((e) => { e.open = true; });
        const found = [...document.querySelectorAll(".cell_output img")].map((img) => {
            const dots = /\\.png$|^data:image.png/.test(img.src) ? 160 : 96;  // of an inch, see figures.bundle
            return [img, 10 / 72 * dots * img.clientWidth / img.naturalWidth];
        });
        folded.forEach((e) => { e.open = false; });
        return found.filter(([, size]) => size < 8.5)
            .map(([img, size]) => `text of ${size.toFixed(1)} px: ${img.alt.slice(0, 60)}`);
    }""")


# Half of a page's elements are the words of its code, and contrast asks for their colours alone: mark the blocks in which
# there is none that an earlier block does not have.
MARK_CODE = """() => {
    const ground = (e) => {
        const own = getComputedStyle(e).backgroundColor;
        return own === "rgba(0, 0, 0, 0)" && e.parentElement ? ground(e.parentElement) : own;
    };
    const look = (word) => {
        const { color, fontSize, fontWeight } = getComputedStyle(word);
        return [color, ground(word), fontSize, fontWeight].join();
    };
    const seen = new Set();
    document.querySelectorAll(".highlight pre").forEach((block) => {
        const looks = [...block.querySelectorAll("span:not(:has(*))"), block].map(look);
        block.toggleAttribute("data-seen", looks.every((one) => seen.has(one)));
        looks.forEach((one) => seen.add(one));
    });
}"""


def accessibility(page: Page) -> list[str]:
    """Serious and critical findings of axe-core, without blocks of code that look like earlier ones."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(MARK_CODE)
    where = "{ include: document, exclude: ['pre[data-seen]'] }"
    found = page.evaluate(f"() => axe.run({where}, {{ resultTypes: ['violations'], preload: false }})")
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: " + " | ".join(node["html"][:120] for node in v["nodes"][:3])
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]


CONTROLS = (
    "input:not([type=hidden]), select, button, summary, [role=slider], [role=button], [role=spinbutton], [role=radio]"
)

# What an explorable shows, without its controls' own looks and what it says to screen readers a moment later.
PICTURE = """(e) => {
    const copy = e.cloneNode(true);
    copy.querySelectorAll("input, select, button, summary, script, style, [role=status]").forEach((c) => c.remove());
    const canvases = [...e.querySelectorAll("canvas")].map((c) => c.toDataURL());
    return copy.innerHTML + canvases.join();
}"""


def controls(explorable: Locator, most: int | None = None) -> list[str]:
    """Controls without a name or out of the keyboard's reach, and those that change nothing, by mouse or by keyboard.

    A control may have nothing to do where things stand (a preset that is chosen already): then the others are moved first.
    most: how many of them are examined; None for all.
    """
    page, bad = explorable.page, []
    count = explorable.locator(CONTROLS).count()
    if count == 0:
        return ["there is no control"]
    for index in range(count)[:most]:
        control = explorable.locator(CONTROLS).nth(index)
        name = accessible_name(control)
        if not name:
            bad.append(f"no accessible name: {control.evaluate('(e) => e.outerHTML')[:100]}")
        for act in (by_mouse, by_keyboard):
            neighbours = sorted((i for i in range(count) if i != index), key=lambda i: abs(i - index))
            others = [None, *neighbours]  # what frees a control (another preset, the next radio button) is mostly near
            if not any(moves(page, explorable, index, other, act) for other in others):
                bad.append(f"{name or index} does nothing {act.__name__.replace('_', ' ')}")
    return bad


def moves(page: Page, explorable: Locator, index: int, other: int | None, act) -> bool:
    """Whether control `index`, after a move of the `other` one, changes the picture."""
    if other is not None:
        by_keyboard(explorable.locator(CONTROLS).nth(other))
        at_rest(page, explorable, other)
    control = explorable.locator(CONTROLS).nth(index)
    if control.is_disabled() or not control.is_visible():
        return False
    before = explorable.evaluate(PICTURE)
    if act(control) is False:
        return False
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    changed = explorable.evaluate(PICTURE) != before
    at_rest(page, explorable, index)
    return changed


def at_rest(page: Page, explorable: Locator, index: int) -> None:
    """Pause what plays, and wait until the picture stands still; what moves on is stopped by the control that began it."""
    playing = explorable.get_by_role("button", name="Pause")  # between two of its steps it looks as if it stood still
    if playing.count():
        playing.click(timeout=2000)
    for attempt in range(2):
        for _ in range(20):
            before = explorable.evaluate(PICTURE)
            page.wait_for_timeout(60)
            if explorable.evaluate(PICTURE) == before:
                return
        if attempt == 0:
            explorable.locator(CONTROLS).nth(index).click(timeout=2000)
    raise AssertionError("the picture never stands still")


def kind_of(control: Locator) -> str:
    return control.evaluate("(e) => e.tagName === 'INPUT' ? e.type : e.getAttribute('role') ?? e.tagName.toLowerCase()")


def by_mouse(control: Locator) -> None:
    control.scroll_into_view_if_needed()
    kind = kind_of(control)
    if kind == "range":
        where = control.evaluate("(e) => (e.value - e.min) / (e.max - e.min) > 0.5 ? 0.2 : 0.8")
        box = control.bounding_box()
        control.page.mouse.click(box["x"] + where * box["width"], box["y"] + box["height"] / 2)
    elif kind == "slider":  # something to drag
        box = control.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        control.page.mouse.move(x, y)
        control.page.mouse.down()
        control.page.mouse.move(x + 14, y - 11, steps=4)
        control.page.mouse.up()
    elif kind in ("number", "text"):
        control.dblclick()
        control.page.keyboard.type("0.5" if control.input_value() != "0.5" else "1")
        control.page.keyboard.press("Enter")
    elif kind == "select":
        values = control.evaluate("(e) => [...e.options].map((o) => o.value)")
        control.select_option(next(v for v in values if v != control.input_value()))
    else:
        control.click()


KEYS = {
    "range": ("ArrowRight", "ArrowLeft"),
    "slider": ("ArrowRight", "ArrowUp", "ArrowLeft"),
    "number": ("ArrowUp", "ArrowDown"),
    "select": ("ArrowDown", "ArrowUp"),
    "radio": ("Space", "ArrowRight"),
    "checkbox": ("Space",),
}


def by_keyboard(control: Locator) -> bool:
    """Press keys until the control's own state has changed (or the one key that a button has). False: out of reach."""
    if control.is_disabled() or not control.is_visible():
        return False
    control.focus()
    if not control.evaluate("(e) => e === document.activeElement"):
        return False
    state = "(e) => [e.value, e.checked, e.getAttribute('aria-valuetext'), e.getAttribute('aria-valuenow'), e.outerHTML].join()"
    before = control.evaluate(state)
    for key in KEYS.get(kind_of(control), ("Enter",)):
        control.page.keyboard.press(key)
        if control.evaluate(state) != before:
            break
    return True


def accessible_name(control: Locator) -> str:
    """As assistive technology would read it."""
    return control.evaluate("""(e) => {
        const labelled = (e.getAttribute("aria-labelledby") ?? "").split(/\\s+/)
            .map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
        const labels = [...(e.labels ?? [])].map((l) => l.textContent.trim()).join(" ");
        return labelled || e.getAttribute("aria-label")?.trim() || labels || (e.matches("input, select") ? "" : e.textContent.trim());
    }""")
