# ruff: noqa: E501 (the JavaScript)
"""Explorables: the numbers that the pages compute, held against torch and the package; their faces in Python."""

import json
import math
import re

import pytest
import site_checks
import torch
from drawing import F64, assert_close, randn
from explorable_cases import CHANGED, WRONG
from explorable_page import picture
from traitlets import TraitError

import structattn_minimal as sa
from structattn_minimal.viz.explorables import FACES, MIME, BilinearForm, PromptReader, RankSphere, module_text

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# the faces


@pytest.mark.parametrize("face", FACES)
def test_a_cell_shows_both_a_widget_and_what_a_page_without_kernel_needs(face):
    widget = face()
    data, _ = widget._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == widget.model_id
    page = json.loads(json.dumps(data[MIME]))
    assert page == {"module": face.module, "state": widget.state, "alt": face.alt}
    assert face.alt.startswith("Explorable: ")
    assert widget._esm == module_text(face.module)


@pytest.mark.parametrize(("face", "changes"), CHANGED)
def test_state_round_trips(face, changes):
    widget = face(**changes)
    assert widget.state == {**face().state, **widget.state}
    assert all(widget.state[name] == value for name, value in changes.items())
    assert face(**widget.state).state == widget.state
    assert widget.get_state(list(widget.state)) == widget.state  # what the front end receives


def test_factors_make_the_form_and_a_new_form_ends_them():
    form = BilinearForm(factors=[[1.0, 2.0], [0.5, -1.0]])
    assert form.M == [[0.5, -1.0], [1.0, -2.0]]
    form.factors = [[1.0, 0.0], [3.0, 4.0]]
    assert form.M == [[3.0, 4.0], [0.0, 0.0]]
    form.M = [[1.0, 0.0], [0.0, 1.0]]
    assert form.factors == []


@pytest.mark.parametrize(("face", "wrong"), WRONG)
def test_values_that_do_not_fit_are_refused(face, wrong):
    name = "position" if "position" in wrong else next(iter(wrong))
    with pytest.raises(TraitError, match=rf"\b({name}|r|M)\b"):
        face(**wrong)


@pytest.mark.parametrize("face", FACES)
def test_a_module_stands_alone(face):
    text = module_text(face.module)
    assert not re.search(r"^\s*import\b|\bimport\(|fetch\(|XMLHttpRequest", text, re.MULTILINE)
    assert set(re.findall(r"https?://[^\"'`\s]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert text.count("export default {") == text.count("export const compute = {") == 1


# their arithmetic, in the browser


def as_tensor(values):
    return torch.tensor(values, **F64)


def sphere(*shape):
    return torch.nn.functional.normalize(randn(*shape), dim=-1)


def test_scores_and_weights_are_those_of_attention(js):
    for _ in range(5):
        M, x, scale = randn(2, 2), randn(6, 2), 4 * torch.rand((), **F64).item()
        head = sa.StandardAttention(2, 1, causal=False, qk_norm=False).double()
        with torch.no_grad():
            head.query.weight.copy_(M.T)  # a Linear layer holds W_Q transposed
            head.key.weight.copy_(torch.eye(2))
        expected = head.scores(x[None])[0, 0] / head.scale
        rows = js("bilinear_form", "(c, [M, x]) => x.map((_, i) => c.scores(M, x, i))", [M.tolist(), x.tolist()])
        assert_close(as_tensor(rows), expected)
        weights = js("bilinear_form", "(c, [rows, scale]) => rows.map((row) => c.softmax(row, scale))", [rows, scale])
        assert_close(as_tensor(weights), (scale * expected).softmax(-1))
        points_along = js(
            "bilinear_form", "(c, [M, x]) => x.map((one) => c.direction(M, one))", [M.tolist(), x.tolist()]
        )
        assert_close(as_tensor(points_along), x @ M)  # rows (M^T x)^T


def test_softmax_of_huge_scores_is_finite(js):
    assert js("bilinear_form", "(c) => c.softmax([1e4, 0, -1e4], 4)") == [1, 0, 0]


def test_a_form_of_two_vectors_is_their_low_rank_matrix(js):
    q, k = randn(2), randn(2)
    low_rank = sa.LowRank(2, 2, 1, **F64)
    with torch.no_grad():
        low_rank.left.copy_(q[:, None])
        low_rank.right.copy_(k[:, None])
    M = js("bilinear_form", "(c, factors) => c.outer(factors)", [q.tolist(), k.tolist()])
    assert_close(as_tensor(M), low_rank.to_dense())
    assert js("bilinear_form", "(c, M) => c.kinds(M)", M) == ["rank one"]


@pytest.mark.parametrize(
    ("M", "kinds"),
    [
        ([[0, 0], [0, 0]], ["zero"]),
        ([[-2, 0], [0, -2]], ["symmetric", "scaled identity", "rotation"]),
        ([[0.6, 0.8], [-0.8, 0.6]], ["rotation"]),
        ([[0, 1], [-1, 0]], ["antisymmetric", "rotation"]),
        ([[1, 0.6], [0.6, -1]], ["symmetric"]),
        ([[1, 2], [2, 4]], ["rank one", "symmetric"]),
        ([[0.1, 0.2], [0.3, 0.6]], ["rank one"]),
        ([[1e-6, 0], [0, 2e-6]], ["symmetric"]),
        ([[1, 2], [3, 4]], []),
    ],
)
def test_the_kind_of_a_form(js, M, kinds):
    assert js("bilinear_form", "(c, M) => c.kinds(M)", M) == kinds


def mulberry32(seed: int, n: int) -> list[float]:
    """The generator's published definition (T. Ettinger), in whole numbers of 32 bits."""
    numbers, state, mask = [], seed, 2**32 - 1
    for _ in range(n):
        state = (state + 0x6D2B79F5) & mask
        t = ((state ^ (state >> 15)) * (state | 1)) & mask
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & mask)) & mask
        numbers.append((t ^ (t >> 14)) / 2**32)
    return numbers


def test_random_numbers_are_the_same_everywhere_and_normal(js):
    for seed in (0, 1, 2**31 - 1):
        drawn = js(
            "rank_sphere",
            "(c, seed) => { const g = c.generator(seed); return Array.from({ length: 50 }, g.uniform); }",
            seed,
        )
        assert drawn == mulberry32(seed, 50)
    normal = as_tensor(js("rank_sphere", "(c) => c.generator(5).normals(40000)"))
    cdf = torch.distributions.Normal(0.0, 1.0).cdf(normal.sort().values)
    assert (cdf - torch.linspace(0, 1, 40000)).abs().max() < 0.01  # Kolmogorov and Smirnov: 1 % level at 0.0081


@pytest.mark.parametrize("projection", ["random", "best"])
@pytest.mark.parametrize("d", [2, 3, 7, 16])
def test_low_rank_neighbours(js, projection, d):
    n, seed = 24, d
    points = as_tensor(js("rank_sphere", "(c, [n, d, seed]) => c.sphere(n, d, seed)", [n, d, seed]))
    assert_close(points.norm(dim=1), torch.ones(n, **F64))
    basis = as_tensor(
        js("rank_sphere", "(c, [x, kind, seed]) => c.directions(x, kind, seed)", [points.tolist(), projection, seed])
    )
    assert_close(basis @ basis.T, torch.eye(d, **F64))

    def nearest(scores):
        return scores.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf).argmax(-1)

    right = []
    for r in range(1, d + 1):
        M = sa.LowRank(d, d, r, **F64)
        with torch.no_grad():
            M.left.copy_(basis[:r].T)
            M.right.copy_(basis[:r].T)
        expected = (points @ M.to_dense() @ points.T).detach()
        scores = js(
            "rank_sphere", "(c, [x, basis, r]) => c.lowRankScores(x, basis, r)", [points.tolist(), basis.tolist(), r]
        )
        assert_close(as_tensor(scores), expected)
        assert js("rank_sphere", "(c, scores) => c.nearest(scores)", scores) == nearest(expected).tolist()
        right.append((nearest(expected) == nearest(points @ points.T)).double().mean().item())
    assert js(
        "rank_sphere", "(c, [x, basis]) => c.accuracies(x, basis)", [points.tolist(), basis.tolist()]
    ) == pytest.approx(right)
    assert right[-1] == 1


@pytest.mark.parametrize("d", [2, 5, 16])
def test_the_best_directions_leave_the_least_error(js, d):
    points = sphere(24, d)
    basis = as_tensor(js("rank_sphere", '(c, x) => c.directions(x, "best", 0)', points.tolist()))
    values = torch.linalg.svdvals(points)
    for r in range(1, d):
        seen = points @ basis[:r].T
        error = (points @ points.T - seen @ seen.T).norm()
        assert_close(error, values[r:].pow(4).sum().sqrt())  # Eckart and Young


def test_a_point_is_never_its_own_neighbour(js):
    assert js("rank_sphere", "(c) => c.nearest([[9, 1, 2], [3, 9, 1], [-5, -4, 9]])") == [2, 0, 1]


@pytest.mark.parametrize("d", [2, 4, 6])
def test_least_squares(js, d):
    for pairs in range(2 * d + 1):
        X, y = randn(pairs, d), randn(pairs)
        found = as_tensor(js("prompt_reader", "(c, [X, y, d]) => c.leastSquares(X, y, d)", [X.tolist(), y.tolist(), d]))
        expected = torch.linalg.lstsq(X, y[:, None], driver="gelsd").solution[:, 0] if pairs else torch.zeros(d, **F64)
        assert_close(found, expected, tolerance=1e-10)


@pytest.mark.parametrize(("pairs", "rank"), [(3, 1), (3, 2), (8, 2), (8, 4)])
def test_least_squares_of_dependent_pairs_is_the_shortest(js, pairs, rank):
    X, y = randn(pairs, rank) @ randn(rank, 5), randn(pairs)
    found = as_tensor(js("prompt_reader", "(c, [X, y]) => c.leastSquares(X, y, 5)", [X.tolist(), y.tolist()]))
    assert_close(found, torch.linalg.pinv(X, rtol=1e-10) @ y, tolerance=1e-9)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_errors_along_a_prompt(js, d):
    prompt = js("prompt_reader", "(c, [d, seed]) => c.prompt(d, seed, 0)", [d, 11])
    X, w, y = (as_tensor(prompt[name]) for name in ("X", "w", "y"))
    assert X.shape == (2 * d, d)
    assert_close(X @ w, y)
    expected = [
        (X[k] @ (torch.linalg.pinv(X[:k]) @ y[:k]) - y[k]).square() if k else y[0].square() for k in range(2 * d)
    ]
    errors = as_tensor(js("prompt_reader", "(c, [d, seed]) => c.errors(c.prompt(d, seed, 0))", [d, 11]))
    assert_close(errors, torch.stack(expected), tolerance=1e-9)
    assert errors[d:].max() < 1e-18  # zero at d pairs exactly
    assert errors[:d].min() > 1e-6  # and not before


def test_predicting_zero_has_mean_squared_error_one(js):
    answers = js("prompt_reader", "(c) => Array.from({ length: 2000 }, (_, seed) => c.prompt(4, seed, 0).answers[0])")
    assert as_tensor(answers).square().mean().item() == pytest.approx(1, abs=0.15)


def test_noise_is_in_what_is_read_and_not_in_the_answers(js):
    clean, noisy = (js("prompt_reader", "(c, noise) => c.prompt(3, 4, noise)", noise) for noise in (0, 0.5))
    assert noisy["answers"] == clean["answers"] == clean["y"]
    assert noisy["X"] == clean["X"]
    assert noisy["y"] != clean["y"]


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_expected_errors(js, noise):
    d, trials = 6, 20_000
    expected = js("prompt_reader", "(c, [d, noise]) => c.expectedErrors(d, noise)", [d, noise])
    w, X = randn(trials, d, 1), randn(trials, 2 * d, d) / d**0.5
    y = X @ w + noise * randn(trials, 2 * d, 1)
    for k in (0, 1, 2, 3, 9, 10, 11):  # near k = d the mean converges slowly, or is infinite
        estimate = torch.linalg.pinv(X[:, :k]) @ y[:, :k] if k else torch.zeros_like(w)
        error = (estimate - w).square().sum((1, 2)) / d  # the mean over a new x ~ N(0, I / d)
        assert expected[k] == pytest.approx(error.mean().item(), abs=5 * error.std().item() / trials**0.5 + 1e-12)
    if noise:
        assert expected[d - 1 : d + 2] == [math.inf] * 3
    else:
        assert expected == pytest.approx([max(0, 1 - k / d) for k in range(2 * d)])


# what they show


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_it_fits_every_width(shown, face, width):
    page = shown(face(), width=width)
    assert site_checks.overflow(page) == []
    assert page.locator(".explorable").evaluate("(e) => e.scrollWidth - e.clientWidth") == 0


@pytest.mark.parametrize("face", FACES)
def test_it_says_in_words_what_it_shows(shown, face):
    page = shown(face())
    spoken = page.locator(".sx-heard")
    first = page.locator(".sx-words").inner_text()
    page.wait_for_function("() => document.querySelector('.sx-heard').textContent")
    assert spoken.text_content() == first
    assert spoken.get_attribute("aria-live") == "polite"
    page.locator("input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(before) => document.querySelector('.sx-heard').textContent !== before", arg=first)
    assert spoken.text_content() == page.locator(".sx-words").inner_text()


@pytest.mark.parametrize("face", FACES)
def test_the_theme_of_the_page_changes_its_colours(shown, face):
    page = shown(face())
    colours = "() => { const s = getComputedStyle(document.querySelector('.sx-words')); return s.color; }"
    light = page.evaluate(colours)
    for change in (
        "document.documentElement.dataset.theme = 'dark'",
        "delete document.documentElement.dataset.theme; document.body.dataset.jpThemeLight = 'false'",
        "delete document.body.dataset.jpThemeLight; document.documentElement.setAttribute('theme', 'dark')",
    ):
        page.evaluate(f"() => {{ {change}; }}")
        assert page.evaluate(colours) != light
    page.evaluate("() => document.documentElement.removeAttribute('theme')")
    assert page.evaluate(colours) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colours) != light


def test_every_key_on_the_query_scores_as_the_package_says(shown):
    widget = BilinearForm(M=[[0.5, -1.0], [2.0, 0.3]], query=3, scale=1.7)
    x = as_tensor(widget.points)
    scores = x[3] @ as_tensor(widget.M) @ x.T
    rows = (
        shown(widget)
        .locator("tbody tr")
        .evaluate_all(
            "(rows) => rows.map((row) => [...row.querySelectorAll('b')].map((b) => b.textContent.replace('−', '-')))"
        )
    )
    assert_close(
        as_tensor([[float(entry) for entry in row] for row in rows]).T,
        torch.stack([scores, (1.7 * scores).softmax(0)]),
        tolerance=0.0051,
    )


def test_a_token_is_dragged_and_asks_when_clicked(shown):
    page = shown(BilinearForm())
    token = page.get_by_role("slider", name="token b")
    box = token.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(
        *page.locator(".sx-plot").first.evaluate(
            "(e) => { const b = e.getBoundingClientRect(); return [b.x + b.width / 4, b.y + b.height / 2]; }"
        ),
        steps=4,
    )
    page.mouse.up()
    picture(page)
    assert "at (−1.1, 0.0)" in token.get_attribute("aria-valuetext")
    assert page.locator(".sx-words").inner_text().startswith("Token a asks")
    token.press("Enter")
    picture(page)
    assert page.locator(".sx-words").inner_text().startswith("Token b asks")


def test_at_full_rank_every_neighbour_is_right(shown):
    page = shown(RankSphere(d=9, r=8, n=32))
    assert not page.locator(".rs-share").inner_text().startswith("32 of 32")
    page.get_by_role("slider", name="Rank of the form").press("End")
    picture(page)
    assert page.locator(".rs-share").inner_text().startswith("32 of 32")
    page.get_by_role("slider", name="Dimension").press("Home")  # the rank comes along
    picture(page)
    assert page.get_by_role("slider", name="Rank of the form").input_value() == "2"


def test_the_sphere_turns_by_itself_only_where_motion_is_welcome(shown):
    still = shown(RankSphere(), reduced_motion="reduce")
    before = picture(still)
    still.wait_for_timeout(300)
    assert picture(still) == before
    turning = shown(RankSphere(), reduced_motion="no-preference")
    before = picture(turning)
    turning.wait_for_timeout(300)
    assert picture(turning) != before
    turning.get_by_role("button", name="Rotate").click()
    before = picture(turning)
    turning.wait_for_timeout(300)
    assert picture(turning) == before


def test_reading_a_prompt(shown):
    page = shown(PromptReader(d=3, position=0))
    words = page.locator(".sx-words")
    for read in range(1, 13):
        page.get_by_role("button", name="Read a token").press("Enter")
        picture(page)
        assert words.inner_text().startswith(f"{read} of 12 tokens read.")
        answer = page.locator(".pr-answer").inner_text()
        assert ("?" in answer) == (read % 2 == 1)
        if read > 6 and read % 2 == 0:
            assert "squared error: 0.000" in answer
    page.get_by_role("button", name="Start again").click()
    picture(page)
    assert words.inner_text().startswith("0 of 12")


def test_a_token_that_is_clicked_is_read(shown):
    page = shown(PromptReader(position=0))
    page.locator(".pr-token").nth(6).click()
    picture(page)
    assert page.locator(".sx-words").inner_text().startswith("7 of 16")


CONTRAST = """(e) => {
    const channel = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const luminance = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => channel(part / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const { color, backgroundColor } = getComputedStyle(e);
    const [low, high] = [luminance(color), luminance(backgroundColor)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("face", FACES)
def test_text_on_buttons_stands_out_under_the_pointer(shown, face, theme):
    page = shown(face(), theme=theme)
    for control in page.locator(".sx button:visible, .sx-choices span").all():
        control.hover(force=True)  # a radio button lies over its text
        assert control.evaluate(CONTRAST) >= 4.5, control.inner_text()


def test_playing_reads_on_until_it_is_paused(shown):
    page = shown(PromptReader(position=0))
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => /^[23] of/.test(document.querySelector('.sx-words').textContent)")
    page.get_by_role("button", name="Pause").click()
    before = picture(page)
    page.wait_for_timeout(1200)
    assert picture(page) == before


@pytest.mark.parametrize("face", FACES)
def test_it_follows_the_model_and_lets_go_of_it(browser, face):
    """As a notebook's front end uses it: changes from Python are drawn, and a closed view listens no more."""
    page = browser.new_page()
    program = """async ([text, state, change]) => {
        const listeners = new Map();
        const model = {
            get: (name) => state[name],
            set: (name, value) => { state[name] = value; (listeners.get(`change:${name}`) ?? new Set()).forEach((act) => act()); },
            on: (name, act) => listeners.set(name, (listeners.get(name) ?? new Set()).add(act)),
            off: (name, act) => listeners.get(name)?.delete(act),
            save_changes: () => {},
        };
        const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
        const close = await (await import(url)).default.render({ model, el: document.body });
        const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const first = document.body.innerHTML;
        for (const [name, value] of Object.entries(change)) model.set(name, value);
        await frame();
        const second = document.body.innerHTML;
        close();
        return [first !== second, [...listeners.values()].reduce((sum, set) => sum + set.size, 0)];
    }"""
    change = next(changes for known, changes in CHANGED if known is face)
    change = {name: value for name, value in change.items() if name not in ("points", "query")}
    assert page.evaluate(program, [module_text(face.module), face().state, change]) == [True, 0]
    page.close()
