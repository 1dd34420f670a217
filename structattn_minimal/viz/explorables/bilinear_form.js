// Chapter 1: tokens in the plane, one asks. A form M makes a score for each key, the softmax makes weights.

const SIZE = 380; // of the drawing, in its own units
const EXTENT = 2.2; // the plane shown: -EXTENT ... EXTENT
const LETTERS = "abcdefgh";
const STRONGEST = 4; // the score of the strongest colour

const direction = (M, x) => [M[0][0] * x[0] + M[1][0] * x[1], M[0][1] * x[0] + M[1][1] * x[1]]; // M^T x
const scores = (M, points, query) => points.map((key) => dot(direction(M, points[query]), key));
const softmax = (row, scale) => {
  const highest = Math.max(...row.map((score) => scale * score));
  const raised = row.map((score) => Math.exp(scale * score - highest));
  const total = raised.reduce((sum, one) => sum + one, 0);
  return raised.map((one) => one / total);
};
const outer = ([q, k]) => q.map((a) => k.map((b) => a * b)); // w_Q w_K^T

// What kind of form M is: any of zero, rank one, symmetric, antisymmetric, scaled identity, rotation.
const kinds = ([[a, b], [c, d]]) => {
  const size = Math.max(...[a, b, c, d].map(Math.abs));
  if (size === 0) return ["zero"];
  const small = (value) => Math.abs(value) <= 1e-9 * size;
  const holds = {
    "rank one": small((a * d - b * c) / size),
    symmetric: small(b - c),
    antisymmetric: small(a) && small(d) && small(b + c),
    "scaled identity": small(b) && small(c) && small(a - d),
    rotation: small(a - d) && small(b + c),
  };
  return Object.keys(holds).filter((kind) => holds[kind]);
};

export const compute = { direction, scores, softmax, outer, kinds };

const PRESETS = {
  identity: [[1, 0], [0, 1]],
  rotation: [[0.5, 0.9], [-0.9, 0.5]],
  "rank one": [[0.5, 1], [0.5, 1]],
  symmetric: [[1, 0.6], [0.6, -1]],
  antisymmetric: [[0, 1], [-1, 0]],
};
const FACTORS = [[0.4, 1], [-1.1, 0.9]];

const across = (x) => (SIZE / 2) * (1 + x / EXTENT);
const down = (y) => (SIZE / 2) * (1 - y / EXTENT);
const pair = ([x, y], digits = 1) => `(${signed(x, digits)}, ${signed(y, digits)})`;
const tidy = (value) => Math.round(clamp(value, -2, 2) * 100) / 100;

const STYLE_HERE = `
.bf-form { display: grid; grid-template-columns: auto 1fr; gap: .5rem; align-items: center; }
.bf-matrix { display: grid; grid-template-columns: 1fr 1fr; gap: .35rem; padding: .35rem .5rem; position: relative; min-width: 0; }
.bf-matrix::before, .bf-matrix::after { content: ""; position: absolute; inset-block: 0; inline-size: .5rem; border: 2px solid var(--text); pointer-events: none; }
.bf-matrix::before { inset-inline-start: 0; border-inline-end: 0; }
.bf-matrix::after { inset-inline-end: 0; border-inline-start: 0; }
.bf-matrix .sx-slider { padding: .3rem .5rem; border-radius: .3rem; background: var(--tint); }
.bf-matrix .sx-slider label { color: var(--text); }
.bf-presets { display: flex; flex-wrap: wrap; gap: .35rem; margin-top: .25rem; }
.bf-presets button { padding: .2rem .55rem; font-size: .88rem; }
.bf-table { font-size: .9rem; table-layout: fixed; }
.bf-table :is(th, td) { padding: .15rem .25rem; text-align: start; vertical-align: middle; }
.bf-table :is(th, td):first-child { inline-size: 2.2rem; }
.bf-table tbody th { font-weight: 600; }
.bf-table tr.asks th { color: var(--accent); }
.bf-bar { display: flex; align-items: center; gap: .4rem; }
.bf-bar > b { font-weight: 400; inline-size: 2.9rem; text-align: end; flex: none; }
.bf-bar > span { position: relative; flex: 1; block-size: .8rem; background: var(--grid); border-radius: .2rem; overflow: hidden; }
.bf-bar > span > span { position: absolute; inset-block: 0; }
.bf-bar .middle { inset-inline-start: 50%; border-inline-start: 1px solid var(--muted); }
`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);

    // The form
    const entries = [0, 1].flatMap((row) => [0, 1].map((column) => slider({
      label: html("span", {}, html("i", {}, "M"), html("sub", {}, `${row + 1}${column + 1}`)),
      min: -2, max: 2, step: 0.1, format: (value) => signed(value, Math.abs(value * 10 % 1) < 1e-6 ? 1 : 2),
      act: (value) => set({ factors: [], M: get("M").map((line, i) => line.map((one, j) => (i === row && j === column ? value : one))) }),
    })));
    const product = html("span", {}, "w", html("sub", {}, "Q"), " w", html("sub", {}, "K"), "ᵀ");
    const presets = [
      ...Object.entries(PRESETS).map(([name, M]) => [name, { M, factors: [] }]),
      [product, { M: outer(FACTORS), factors: FACTORS }],
    ].map(([name, change]) => ({ change, node: button(name, () => set(structuredClone(change))) }));
    const matrix = html("fieldset", { class: "sx-stack" }, html("legend", {}, "The form M"),
      html("div", { class: "bf-matrix" }, ...entries.map((entry) => entry.node)),
      html("div", { class: "bf-presets", role: "group", "aria-label": "Forms to start from" }, ...presets.map((preset) => preset.node)));

    // The query
    const points = get("points");
    const asking = choices({
      label: "Query", options: points.map((_, i) => [i, LETTERS[i]]), act: (query) => set({ query }),
    });
    const movePoint = (i, [x, y]) => set({ points: get("points").map((one, j) => (i === j ? [tidy(x), tidy(y)] : one)) });
    const turn = slider({
      label: "Turn the query", min: -180, max: 180, step: 5, format: (degrees) => `${signed(degrees, 0)}°`,
      act: (degrees) => {
        const [x, y] = get("points")[get("query")];
        const length = Math.hypot(x, y) || 1;
        const angle = degrees * Math.PI / 180;
        set({ points: get("points").map((one, j) => (j === get("query") ? [length * Math.cos(angle), length * Math.sin(angle)] : one)) });
      },
    });
    const scale = slider({ label: html("span", {}, "Scale τ"), min: 0, max: 4, step: 0.1, format: (value) => value.toFixed(1), act: (value) => set({ scale: value }) });

    // The plane
    const own = freshId();
    const id = (name) => `${own}-${name}`;
    const gradient = svg("linearGradient", { id: id("score"), gradientUnits: "userSpaceOnUse" },
      svg("stop", { offset: 0, style: "stop-color: var(--low); stop-opacity: .75" }),
      svg("stop", { offset: 0.5, style: "stop-color: var(--ground); stop-opacity: 0" }),
      svg("stop", { offset: 1, style: "stop-color: var(--high); stop-opacity: .75" }));
    const head = (name, colour) => svg("marker", { id: id(name), viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 4.5, markerHeight: 4.5, orient: "auto" },
      svg("path", { d: "M0 0 L8 4 L0 8 z", style: `fill: var(${colour})` }));
    const ground = svg("rect", { width: SIZE, height: SIZE, fill: `url(#${id("score")})` });
    const lines = svg("g", { "aria-hidden": "true" });
    const arrows = svg("g", { "aria-hidden": "true" });
    const links = svg("g", { "aria-hidden": "true" });
    const plane = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "sx-plot", role: "group", "aria-label": "The plane of tokens" },
      svg("defs", {}, gradient, head("to", "--accent"), head("plain", "--text")), ground, lines, links, arrows);

    const tokens = points.map((_, i) => {
      const halo = svg("circle", { style: "fill: var(--accent); opacity: .28" });
      const core = svg("circle", { r: 10 });
      const letter = svg("text", { "text-anchor": "middle", dy: "0.35em", style: "font-weight: 600" }, LETTERS[i]);
      const node = svg("g", { class: "handle", role: "slider", "aria-roledescription": "movable token", "aria-valuemin": -2, "aria-valuemax": 2 },
        halo, svg("circle", { r: 22, fill: "transparent" }), core, letter, svg("circle", { r: 14, class: "ring" }));
      movable(node, {
        act: (dx, dy) => movePoint(i, [get("points")[i][0] + 0.1 * dx, get("points")[i][1] + 0.1 * dy]),
        to: (event) => movePoint(i, inPlane(event)),
        click: () => set({ query: i }),
      });
      plane.append(node);
      return { node, halo, core, letter };
    });
    const inPlane = (event) => pointerIn(plane, event).map((place, axis) => (axis ? 1 - 2 * place / SIZE : 2 * place / SIZE - 1) * EXTENT);
    const moveFactor = (which, [x, y]) => {
      const factors = get("factors").map((one, j) => (which === j ? [tidy(x), tidy(y)] : one));
      set({ factors, M: outer(factors) });
    };
    const factorHandles = ["w_Q", "w_K"].map((name, which) => {
      const node = svg("g", { class: "handle", role: "slider", "aria-roledescription": "movable vector", "aria-valuemin": -2, "aria-valuemax": 2 },
        svg("circle", { r: 20, fill: "transparent" }),
        svg("rect", { x: -7, y: -7, width: 14, height: 14, transform: "rotate(45)", style: "fill: var(--accent-2); stroke: var(--ground); stroke-width: 2" }),
        svg("text", { x: 13, dy: "0.35em", style: "font-weight: 600" }, name[0], svg("tspan", { dy: 4, "font-size": 10 }, name[2])),
        svg("circle", { r: 14, class: "ring" }));
      movable(node, {
        act: (dx, dy) => moveFactor(which, [get("factors")[which][0] + 0.1 * dx, get("factors")[which][1] + 0.1 * dy]),
        to: (event) => moveFactor(which, inPlane(event)),
      });
      plane.append(node);
      return { node, name };
    });

    // The row
    const rows = points.map((_, i) => {
      const bar = (...inside) => { const b = html("b"); return { b, node: html("div", { class: "bf-bar" }, b, html("span", {}, ...inside)) }; };
      const score = html("span");
      const weight = html("span", { style: "background: var(--accent); inset-inline-start: 0" });
      const [left, right] = [bar(html("span", { class: "middle" }), score), bar(weight)];
      const node = html("tr", {}, html("th", { scope: "row" }, LETTERS[i]), html("td", {}, left.node), html("td", {}, right.node));
      return { node, score, weight, scoreText: left.b, weightText: right.b };
    });
    const table = html("table", { class: "sx-table bf-table" },
      html("thead", {}, html("tr", {}, ...["key", "score", "weight"].map((name) => html("th", { scope: "col" }, name)))),
      html("tbody", {}, ...rows.map((row) => row.node)));

    const { node: spoken, say } = words();
    const line = ([x1, y1], [x2, y2], attributes) => svg("line", { x1: across(x1), y1: down(y1), x2: across(x2), y2: down(y2), ...attributes });

    const drawPlane = (to, weights) => {
      const [M, tokensAt, query, factors] = ["M", "points", "query", "factors"].map(get);
      const x = tokensAt[query];
      const length = Math.hypot(...to);
      const unit = to.map((entry) => entry / (length || 1));
      const reach = length ? Math.min(STRONGEST / length, 1e4) : 1e4;
      const ends = [[-reach * unit[0], -reach * unit[1]], [reach * unit[0], reach * unit[1]]];
      fill(gradient, { x1: across(ends[0][0]), y1: down(ends[0][1]), x2: across(ends[1][0]), y2: down(ends[1][1]) }, []);
      ground.style.display = length > 1e-9 ? "" : "none";

      const axes = [line([-EXTENT, 0], [EXTENT, 0], { style: "stroke: var(--muted); opacity: .6" }), line([0, -EXTENT], [0, EXTENT], { style: "stroke: var(--muted); opacity: .6" })];
      const ticks = [-2, -1, 1, 2].flatMap((tick) => [
        svg("text", { x: across(tick), y: down(0) + 15, "text-anchor": "middle", class: "quiet" }, signed(tick, 0)),
        svg("text", { x: across(0) - 6, y: down(tick) + 4, "text-anchor": "end", class: "quiet" }, signed(tick, 0))]);
      const most = Math.min(12, Math.floor(length * EXTENT * Math.SQRT2)); // contours at whole scores
      const contours = length > 1e-9 ? Array.from({ length: 2 * most + 1 }, (_, n) => n - most).map((level) => {
        const foot = unit.map((entry) => entry * level / length);
        const along = [-unit[1] * 4, unit[0] * 4];
        return line([foot[0] - along[0], foot[1] - along[1]], [foot[0] + along[0], foot[1] + along[1]],
          { style: `stroke: var(--text); opacity: ${level ? 0.22 : 0.75}`, "stroke-dasharray": level ? null : "5 4" });
      }) : [];
      const only = kinds(M).includes("rank one") && length > 1e-9
        ? [line(unit.map((e) => -4 * e), unit.map((e) => 4 * e), { style: "stroke: var(--accent); stroke-width: 1.5; opacity: .55" })] : [];
      lines.replaceChildren(...axes, ...ticks, ...contours, ...only);

      links.replaceChildren(...tokensAt.map((key, i) => line(x, key, { style: `stroke: var(--accent); stroke-width: ${12 * weights[i]}; opacity: .55`, "stroke-linecap": "round" })));
      const shown = Math.min(1, 2.05 / Math.max(1e-9, ...to.map(Math.abs)));
      const tip = to.map((entry) => entry * shown);
      const parts = [line([0, 0], x, { style: "stroke: var(--text); stroke-width: 1.5", "stroke-dasharray": "2 4", "marker-end": `url(#${id("plain")})` })];
      if (length > 0.02) {
        parts.push(line([0, 0], tip, { style: "stroke: var(--accent); stroke-width: 4", "marker-end": `url(#${id("to")})` }));
        const beside = [across(tip[0]) + (tip[0] > 1.5 ? -12 : 12), clamp(down(tip[1]) + (tip[1] > 0 ? -10 : 20), 16, SIZE - 8)];
        parts.push(svg("text", { x: beside[0], y: beside[1], "text-anchor": tip[0] > 1.5 ? "end" : "start", style: "font-weight: 700; fill: var(--accent); paint-order: stroke; stroke: var(--ground); stroke-width: 3px" }, shown < 1 ? "Mᵀx →" : "Mᵀx"));
      }
      for (const vector of factors) parts.push(line([0, 0], vector, { style: "stroke: var(--accent-2); stroke-width: 2.5" }));
      arrows.replaceChildren(...parts);

      tokens.forEach(({ node, halo, core, letter }, i) => {
        const [px, py] = tokensAt[i];
        const asks = i === query;
        node.setAttribute("transform", `translate(${across(px)} ${down(py)})`);
        halo.setAttribute("r", 10 + 24 * Math.sqrt(weights[i]));
        core.setAttribute("style", asks ? "fill: var(--accent); stroke: var(--ground); stroke-width: 2" : "fill: var(--ground); stroke: var(--text); stroke-width: 1.5");
        letter.style.fill = asks ? "var(--ground)" : "var(--text)";
        node.setAttribute("aria-label", `token ${LETTERS[i]}${asks ? ", the query" : ""}`);
        node.setAttribute("aria-valuenow", px.toFixed(2));
        node.setAttribute("aria-valuetext", `at ${pair([px, py])}, weight ${(100 * weights[i]).toFixed(0)} %`);
      });
      factorHandles.forEach(({ node, name }, which) => {
        node.style.display = factors.length ? "" : "none";
        if (!factors.length) return;
        const [px, py] = factors[which];
        node.setAttribute("transform", `translate(${across(px)} ${down(py)})`);
        node.setAttribute("aria-label", `vector ${name}`);
        node.setAttribute("aria-valuenow", px.toFixed(2));
        node.setAttribute("aria-valuetext", `at ${pair([px, py])}`);
      });
    };

    const SAYS = {
      zero: () => "M is zero: every key scores 0 and the attention is even.",
      "rank one": () => "M has rank one: every query points along one and the same line, so the keys have only two orders.",
      "scaled identity": ([[a]]) => (a > 0 ? "The query points along itself: long keys in its own direction win." : "The query points away from itself."),
      rotation: ([[a, b]]) => `M turns: the query points ${Math.round(Math.abs(Math.atan2(b, a)) * 180 / Math.PI)}° away from itself.`,
      antisymmetric: () => "M is antisymmetric: a token scores 0 with itself, and asking is the opposite of being asked.",
      symmetric: () => "M is symmetric: two tokens score each other alike.",
    };

    const draw = () => {
      const [M, tokensAt, query, tau] = ["M", "points", "query", "scale"].map(get);
      const x = tokensAt[query];
      const to = direction(M, x);
      const row = scores(M, tokensAt, query);
      const weights = softmax(row, tau);
      const strongest = Math.max(STRONGEST, ...row.map(Math.abs));
      M.flat().forEach((entry, i) => {
        entries[i].show(entry);
        entries[i].node.style.setProperty("--tint", `color-mix(in srgb, var(--${entry < 0 ? "low" : "high"}) ${Math.min(45, 22 * Math.abs(entry))}%, var(--ground))`);
      });
      for (const { node, change } of presets) {
        node.setAttribute("aria-pressed", JSON.stringify([M, get("factors")]) === JSON.stringify([change.M, change.factors]));
      }
      asking.show(query);
      turn.show(Math.round(Math.atan2(x[1], x[0]) * 180 / Math.PI));
      scale.show(tau);
      drawPlane(to, weights);
      rows.forEach(({ node, score, weight, scoreText, weightText }, i) => {
        node.className = i === query ? "asks" : "";
        const share = 50 * Math.abs(row[i]) / strongest;
        score.style.cssText = `background: var(--${row[i] < 0 ? "low" : "high"}); inline-size: ${share}%; inset-inline-start: ${row[i] < 0 ? 50 - share : 50}%`;
        weight.style.inlineSize = `${100 * weights[i]}%`;
        scoreText.textContent = signed(row[i]);
        weightText.textContent = weights[i].toFixed(2);
      });
      const order = row.map((_, i) => i).sort((i, j) => row[j] - row[i]);
      const found = kinds(M);
      const told = ["zero", "rank one", "scaled identity", "antisymmetric", "rotation", "symmetric"].find((kind) => found.includes(kind));
      say(`Token ${LETTERS[query]} asks and points along Mᵀx = ${pair(to)}. The keys, best first: ${order.map((i) => LETTERS[i]).join(", ")}; `
        + `${LETTERS[order[0]]} gets ${(100 * weights[order[0]]).toFixed(0)} % of the attention. ${told ? SAYS[told](M) : ""}`);
    };

    const legend = html("p", { class: "sx-head" }, "Drag the tokens; click one to let it ask. Red: keys there score high; blue: low; dashed: zero.");
    return stage({ model, el, names: ["M", "points", "query", "scale", "factors"], style: STYLE_HERE }, [
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, plane, legend, spoken),
        html("div", { class: "sx-stack" }, matrix, html("div", { class: "sx-row" }, asking.node, turn.node), scale.node, table)),
    ], draw);
  },
};
