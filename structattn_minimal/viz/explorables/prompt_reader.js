// Chapter 3: a prompt x_1, y_1, x_2, y_2, ... read token by token; least squares guesses the next y from what was read.

const [W, H] = [380, 230];

// The prompt of a seed: w ~ N(0, I), x_i ~ N(0, I / d), y_i = w . x_i + noise * N(0, 1); answers carry no noise.
const prompt = (d, seed, noise = 0) => {
  const { normal, normals } = generator(seed);
  const w = normals(d);
  const X = Array.from({ length: 2 * d }, () => normals(d).map((entry) => entry / Math.sqrt(d)));
  const answers = X.map((x) => dot(w, x));
  return { w, X, answers, y: answers.map((answer) => answer + noise * normal()) };
};

// The shortest w with the least squared error |X w - y|^2. It lies in the span of the rows of X: in an orthonormal basis
// of that span the problem has independent columns, and an orthonormal basis of these solves it from the last row up.
const leastSquares = (X, y, d) => {
  const span = orthonormal(X);
  const columns = span.map((unit) => X.map((x) => dot(unit, x)));
  const Q = orthonormal(columns);
  const z = Q.map((unit) => dot(unit, y));
  for (let i = Q.length - 1; i >= 0; i--) {
    for (let j = i + 1; j < Q.length; j++) z[i] -= dot(Q[i], columns[j]) * z[j];
    z[i] /= dot(Q[i], columns[i]);
  }
  return Array.from({ length: d }, (_, a) => span.reduce((sum, unit, i) => sum + z[i] * unit[a], 0));
};

// What least squares makes of the first `pairs` pairs, and its squared error at the next x.
const guess = ({ X, y, answers, w }, pairs) => {
  const estimate = leastSquares(X.slice(0, pairs), y.slice(0, pairs), w.length);
  const answer = pairs < X.length ? dot(estimate, X[pairs]) : NaN;
  return { estimate, answer, error: (answer - answers[pairs]) ** 2 };
};

const errors = (one) => one.X.map((_, pairs) => guess(one, pairs).error);

// The mean of these errors over all prompts. Without noise 1 - k/d falls to zero at k = d pairs; noise adds the variance of
// the estimate (the mean of an inverse Wishart matrix), which is infinite from k = d - 1 to d + 1.
const expectedErrors = (d, noise) => Array.from({ length: 2 * d }, (_, k) => {
  const share = k < d ? k / (d - k - 1) : d / (k - d - 1);
  const variance = noise === 0 || k === 0 ? 0 : Math.abs(k - d) <= 1 ? Infinity : noise ** 2 * share;
  return Math.max(0, 1 - k / d) + variance;
});

export const compute = { generator, prompt, leastSquares, guess, errors, expectedErrors };

const STYLE_HERE = `
.pr-tokens { display: flex; flex-wrap: wrap; gap: .5rem .6rem; margin: 0; padding: 0; list-style: none; }
.pr-tokens li { display: flex; gap: 3px; margin: 0; padding: 3px; border-radius: .35rem; border: 1px solid transparent; }
.pr-tokens li.now { border-color: var(--accent-2); }
.pr-token { display: grid; justify-items: center; gap: 2px; font-size: .8rem; color: var(--muted); min-inline-size: 1.9rem; cursor: pointer; }
.pr-token svg { inline-size: 1.5rem !important; border-radius: 3px; }
.pr-token.ahead svg { opacity: .25; }
.pr-token.fresh { color: var(--accent-2); font-weight: 700; }
.pr-token.fresh svg { outline: 2px solid var(--accent-2); outline-offset: 1px; }
.pr-token sub { font-size: .7em; }
.pr-answer { margin: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-variant-numeric: tabular-nums; min-block-size: 2.9em; }
.pr-answer b { font-size: 1.15rem; }
.pr-buttons { display: flex; flex-wrap: wrap; gap: .4rem; }
`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const last = () => 4 * get("d");
    const sub = (letter, index) => html("span", {}, html("i", {}, letter), html("sub", {}, index));

    // Reading
    const goTo = (position) => set({ position: clamp(position, 0, last()) });
    const place = slider({ label: "Tokens read", min: 0, max: 24, step: 1, act: (position) => { pause(); goTo(position); } });
    const dimension = slider({ label: html("span", {}, "Dimension ", html("i", {}, "d")), min: 2, max: 6, step: 1, act: (d) => { pause(); set({ d, position: Math.min(get("position"), 4 * d) }); } });
    const noise = slider({ label: "Noise in y", min: 0, max: 0.5, step: 0.05, format: (value) => value.toFixed(2), act: (value) => set({ noise: value }) });
    const back = button("Back", () => { pause(); goTo(get("position") - 1); });
    const next = button("Read a token", () => { pause(); goTo(get("position") === last() ? 0 : get("position") + 1); }, { class: "main" });
    const again = button("New prompt", () => { pause(); set({ seed: (get("seed") + 1) % 2 ** 31, position: 1 }); });

    let timer = null;
    const pause = () => {
      clearInterval(timer);
      timer = null;
      play.replaceChildren("Play");
    };
    const play = button("Play", () => {
      if (timer) return pause();
      if (get("position") === last()) goTo(0);
      const step = () => (get("position") < last() ? goTo(get("position") + 1) : pause());
      timer = setInterval(step, 900);
      step();
      return play.replaceChildren("Pause");
    });

    // A token: a column of d cells, coloured by sign and size; a y has one cell
    const cell = (value, y, height) => svg("rect", {
      y, width: 24, height, style: `fill: color-mix(in srgb, var(--${value < 0 ? "low" : "high"}) ${Math.min(100, 12 + 75 * Math.abs(value))}%, var(--ground))`,
    });
    const token = (label, values, d, index, position) => {
      const state = index >= position ? "ahead" : index === position - 1 ? "fresh" : "read";
      const size = 60 / d;
      const cells = state === "ahead" ? [svg("rect", { width: 24, height: values.length === 1 ? 60 / 2 : 60, y: values.length === 1 ? 15 : 0, style: "fill: var(--muted)" })]
        : values.length === 1 ? [cell(values[0], 15, 30)] : values.map((value, i) => cell(value, i * size, size - 1));
      const act = () => { pause(); goTo(index + 1); }; // for the mouse; the slider does the same by keyboard
      return html("span", { class: `pr-token ${state}`, onclick: act }, svg("svg", { viewBox: "0 0 24 60", "aria-hidden": "true" }, ...cells), label);
    };
    const tokens = html("ol", { class: "pr-tokens", "aria-hidden": "true" });
    const drawTokens = ({ X, y }, d, position) => {
      tokens.replaceChildren(...X.map((x, i) => html("li", { class: Math.floor((position - 1) / 2) === i && position ? "now" : "" },
        token(sub("x", i + 1), x, d, 2 * i, position), token(sub("y", i + 1), [y[i]], d, 2 * i + 1, position))));
    };

    const plot = (label) => svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "sx-plot", role: "img", "aria-label": label });
    const weights = plot("weights");
    const drawWeights = (w, estimate) => {
      const d = w.length;
      const most = Math.max(2, ...w.map(Math.abs), ...estimate.map((entry) => Math.min(4, Math.abs(entry))));
      const down = (value) => H / 2 + 2 - (H / 2 - 34) * clamp(value / most, -1.05, 1.05);
      const step = (W - 60) / d;
      const mid = (a) => 44 + step * (a + 0.5);
      weights.replaceChildren(
        ...[-Math.floor(most), 0, Math.floor(most)].flatMap((value) => [
          svg("line", { x1: 44, x2: W - 16, y1: down(value), y2: down(value), style: `stroke: var(--${value ? "grid" : "muted"})` }),
          svg("text", { x: 38, y: down(value) + 4, "text-anchor": "end", class: "quiet" }, signed(value, 0))]),
        ...estimate.flatMap((entry, a) => [
          svg("rect", { x: mid(a) - step * 0.27, width: step * 0.54, y: Math.min(down(0), down(entry)), height: Math.abs(down(entry) - down(0)), style: "fill: var(--accent); opacity: .8" }),
          svg("line", { x1: mid(a) - step * 0.38, x2: mid(a) + step * 0.38, y1: down(w[a]), y2: down(w[a]), style: "stroke: var(--accent-2); stroke-width: 3.5" }),
          svg("text", { x: mid(a), y: H - 8, "text-anchor": "middle" }, "w", svg("tspan", { dy: 3, "font-size": 10 }, a + 1))]),
        svg("rect", { x: 50, y: 7, width: 12, height: 12, style: "fill: var(--accent); opacity: .8" }), svg("text", { x: 67, y: 18 }, "least squares"),
        svg("line", { x1: 170, x2: 188, y1: 13, y2: 13, style: "stroke: var(--accent-2); stroke-width: 3.5" }), svg("text", { x: 194, y: 18 }, "true w"));
      weights.setAttribute("aria-label", `Weights. True: ${w.map((entry) => signed(entry)).join(", ")}. Least squares: ${estimate.map((entry) => signed(entry)).join(", ")}.`);
    };

    const curve = plot("error");
    const drawCurve = (row, mean, d, pairs) => {
      const top = 2;
      const across = (position) => 44 + (W - 60) * position / (2 * d - 1);
      const down = (error) => H - 40 - (H - 72) * Math.min(error, top * 1.04) / top;
      const every = d > 4 ? 2 : 1;
      curve.replaceChildren(
        ...[0, 1, 2].flatMap((value) => [
          svg("line", { x1: 44, x2: W - 16, y1: down(value), y2: down(value), style: "stroke: var(--grid)" }),
          svg("text", { x: 38, y: down(value) + 4, "text-anchor": "end", class: "quiet" }, value === top ? `≥ ${top}` : value)]),
        svg("line", { x1: across(d), x2: across(d), y1: 28, y2: down(0), style: "stroke: var(--right); stroke-width: 1.5; stroke-dasharray: 4 4" }),
        svg("text", { x: across(d) + 5, y: 40, style: "fill: var(--right)" }, `d = ${d} pairs`),
        ...row.map((_, i) => i).filter((i) => i % every === 0).map((i) => svg("text", { x: across(i), y: H - 23, "text-anchor": "middle", class: "quiet" }, i)),
        svg("text", { x: W / 2 + 14, y: H - 7, "text-anchor": "middle" }, "pairs read before the guess"),
        svg("path", { d: `M${mean.map((error, i) => `${across(i)} ${down(error)}`).join("L")}`, style: "fill: none; stroke: var(--muted); stroke-width: 2; stroke-dasharray: 2 4" }),
        ...row.slice(0, pairs).flatMap((error, i) => [
          svg("line", { x1: across(i), x2: across(i), y1: down(0), y2: down(error), style: "stroke: var(--accent); stroke-width: 2.5" }),
          svg("circle", { cx: across(i), cy: down(error), r: i === pairs - 1 ? 7 : 5, style: `fill: var(--accent${i === pairs - 1 ? "-2" : ""}); stroke: var(--ground); stroke-width: 1.5` })]),
        svg("circle", { cx: 56, cy: 13, r: 5, style: "fill: var(--accent)" }), svg("text", { x: 67, y: 18 }, "squared error, here"),
        svg("line", { x1: 206, x2: 230, y1: 13, y2: 13, style: "stroke: var(--muted); stroke-width: 2; stroke-dasharray: 2 4" }), svg("text", { x: 236, y: 18 }, "mean of all prompts"));
      curve.setAttribute("aria-label", `Squared error of each guess so far: ${row.slice(0, pairs).map((error) => error.toFixed(3)).join(", ") || "none yet"}. Mean over all prompts: ${mean.map((error) => error.toFixed(2)).join(", ")}.`);
    };

    const answerLine = html("p", { class: "pr-answer" });
    const { node: spoken, say } = words();

    const draw = () => {
      const [d, seed, sigma] = ["d", "seed", "noise"].map(get);
      const position = Math.min(get("position"), 4 * d);
      const one = prompt(d, seed, sigma);
      const pairs = Math.floor(position / 2); // wholly read
      const asked = position % 2 === 1; // an x waits for its y
      const latest = asked || position === 0 ? pairs : pairs - 1; // whose y is, or was, guessed
      const now = guess(one, pairs);
      place.show(position, { max: 4 * d });
      dimension.show(d);
      noise.show(sigma);
      back.disabled = position === 0;
      next.textContent = position === 4 * d ? "Start again" : "Read a token";
      drawTokens(one, d, position);
      drawWeights(one.w, now.estimate);
      drawCurve(errors(one), expectedErrors(d, sigma), d, pairs);

      const name = (letter) => sub(letter, latest + 1);
      const guessed = guess(one, latest);
      answerLine.replaceChildren(...(position === 0 ? [html("span", {}, "Nothing read yet: read a token.")] : [
        html("span", {}, "guess for ", name("y"), ": ", html("b", {}, signed(guessed.answer))),
        html("span", {}, asked ? "true " : "it is ", name("y"), ": ", html("b", {}, asked ? "?" : signed(one.y[latest]))),
        ...(asked ? [] : [html("span", {}, sigma ? "squared error against w · x: " : "squared error: ", html("b", {}, guessed.error.toFixed(3)))])]));
      const knows = pairs === 0 ? "No pair is complete, so the estimate is zero."
        : pairs < d ? `${pairs} of ${d} directions are known: of all weights that fit these pairs exactly, the estimate is the shortest.`
          : sigma ? `${pairs} pairs determine all ${d} weights; noise keeps them from being exact${pairs < d + 2 ? ", worst when they are just enough" : ""}.`
            : `${pairs} pairs determine all ${d} weights: the estimate is w itself, and every further guess is right.`;
      const small = (letter) => letter + String(latest + 1).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
      const said = position === 0 ? "" : asked ? `${small("x")} asks; least squares guesses ${signed(guessed.answer)}.`
        : `${small("y")} is ${signed(one.y[latest])}; the guess was ${signed(guessed.answer)}.`;
      say(`${position} of ${4 * d} tokens read. ${said} ${knows}`);
    };

    const end = stage({ model, el, names: ["d", "seed", "position", "noise"], style: STYLE_HERE }, [
      html("div", { class: "sx-stack" },
        html("div", { class: "pr-buttons", role: "group", "aria-label": "Reading" }, next, back, play, again),
        place.node, tokens, answerLine),
      html("div", { class: "sx-panels" }, html("div", { class: "sx-stack" }, weights, dimension.node), html("div", { class: "sx-stack" }, curve, noise.node)),
      spoken,
    ], draw);
    return () => { end(); pause(); };
  },
};
