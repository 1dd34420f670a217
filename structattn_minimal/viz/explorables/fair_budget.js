// Chapter 12: the pairs that a method scores, what a character costs, and how many characters a budget buys.

const METHODS = { standard: "standard", swa: "SWA", gswa: "GSWA", sequential: "sequential", mlr: "MLR" };
const STEEP = "32|16|8|8"; // the others halve their blocks from level to level
const RANKS = ["32|8|6|4|4|4|4|2", STEEP, "32|16|16", "16|16|16|16"];
const PARTS = { projections: "projections", scores: "scores", values: "values", feedForward: "feed-forward", ends: "read-out" };
const [T, R, LAYERS, ALPHABET] = [1024, 64, 6, 96];
const WINDOWED = 4 / 6; // of the sequential method's layers

const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);
// Of each level its features and the size of its blocks.
const levels = (ranks) => ranks.split("|").map((r, l) => ({ r: Number(r), size: ranks === STEEP ? T / [1, 8, 32, 128][l] : T >> l }));

// Pairs of one T x T product: those that are multiplied, or those of a query and a key that it may see.
const fullPairs = (counted) => (counted === "run" ? T * T : (T * (T + 1)) / 2);
const windowPairs = (w, counted) => (counted === "run" ? Math.ceil(T / w) * w * w * 2 : (w + 1) * T - (w * (w + 1)) / 2);
const blockPairs = (size, counted) => (counted === "run" ? T * size : (T * (size + 1)) / 2);

// Score and value MACs of a layer and a head feature, that is over the width, for one sequence.
const layerMacs = ({ method, window, ranks, counted }) => {
  const [full, near] = [fullPairs(counted), windowPairs(window, counted)];
  switch (method) {
    case "swa": return { scores: near, values: near };
    case "gswa": return { scores: (full + near) / 2, values: full + near };
    case "sequential": return { scores: full + (near - full) * WINDOWED, values: full + (near - full) * WINDOWED };
    case "mlr": return { scores: total(levels(ranks).map(({ r, size }) => r * blockPairs(size, counted))) / R, values: full };
    default: return { scores: full, values: full };
  }
};

// MACs of the forward pass, a character of a full context, all layers.
const macs = (setting) => {
  const { width: D } = setting;
  const { scores, values } = layerMacs(setting);
  const layers = (pairs) => Math.round((LAYERS * D * pairs) / T);
  return { projections: LAYERS * 4 * D * D, scores: layers(scores), values: layers(values), feedForward: LAYERS * 8 * D * D, ends: D * ALPHABET };
};

// With how many features query i is compared with key j; of the sequential method a mean over layers.
const features = ({ method, window, ranks, query: i }) => Array.from({ length: T }, (_, j) => {
  if (j > i) return 0;
  const near = i - j <= window;
  switch (method) {
    case "swa": return near ? R : 0;
    case "gswa": return near ? R : R / 2;
    case "sequential": return near ? R : R * (1 - WINDOWED);
    case "mlr": return total(levels(ranks).filter(({ size }) => Math.floor(i / size) === Math.floor(j / size)).map(({ r }) => r));
    default: return R;
  }
});

// A forward pass, and twice as much for the way back.
const characters = (setting) => 10 ** setting.budget / (3 * total(Object.values(macs(setting))));

export const compute = { macs, features, characters };

const STYLE_HERE = `
.fb-table :is(th, td) { padding-inline: .2rem; }
.fb-table tr.now :is(th, td) { color: inherit; }
`;
const count = (number) => Math.round(number).toLocaleString("en");
const percent = (ratio) => `${ratio >= 1 ? "+" : "−"}${Math.abs(100 * (ratio - 1)).toFixed(1)} %`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const NAMES = ["method", "width", "window", "ranks", "query", "budget", "counted"];
    const numbers = (list) => list.map((n) => [n, count(n)]);
    const method = choices({ label: "Method", options: Object.entries(METHODS), act: (name) => set({ method: name }) });
    const width = choices({ label: "Width D", options: numbers([256, 384, 512, 768]), act: (n) => set({ width: Number(n) }) });
    const window_ = choices({ label: "Window w", options: numbers([128, 256, 512]), act: (n) => set({ window: Number(n) }) });
    const ranks = choices({ label: "Ranks of MLR", options: RANKS.map((list) => [list, list === STEEP ? `${list}, steep` : list]), act: (list) => set({ ranks: list }) });
    const query = slider({ label: "Query, the character at", min: 0, max: T - 1, step: 1, act: (i) => set({ query: i }) });
    const budget = choices({ label: "Budget, training MACs", options: [[15, "10¹⁵"], [16, "10¹⁶"], [17, "10¹⁷"]], act: (n) => set({ budget: Number(n) }) });
    const counted = choices({ label: "Count", options: [["run", "what is multiplied"], ["pairs", "causal pairs"]], act: (name) => set({ counted: name }) });

    // One row of the score matrix: features against the place of the key
    const drawing = svg("svg", { class: "sx-plot", role: "img", viewBox: "0 0 400 196" });
    const x = (j) => 34 + (352 * j) / T;
    const y = (f) => 150 - (126 * f) / R;
    const drawRow = (setting) => {
      const row = features(setting);
      const label = (text, at, anchor = "middle") => svg("text", { x: at[0], y: at[1], class: "quiet", "text-anchor": anchor }, text);
      const parts = [0, 32, 64].flatMap((f) => [
        svg("path", { d: `M${x(0)} ${y(f)}H${x(T)}`, style: "stroke: var(--grid)" }), label(f, [x(0) - 6, y(f) + 4], "end")]);
      let path = `M${x(0)} ${y(0)}`;
      row.forEach((f, j) => { if (j === 0 || f !== row[j - 1]) path += `V${y(f)}`; path += `H${x(j + 1)}`; });
      parts.push(svg("path", { d: `${path}V${y(0)}Z`, style: "fill: var(--accent); opacity: .8" }));
      for (const seam of [256, 512, 768]) parts.push(svg("path", { d: `M${x(seam)} ${y(0)}v5`, style: "stroke: var(--muted)" }));
      for (const j of [0, 256, 512, 768]) parts.push(label(j, [x(j), 168]));
      parts.push(label(T, [x(T) + 10, 168], "end"));
      parts.push(svg("path", { d: `M${x(setting.query + 0.5)} ${y(R) - 10}V${y(0)}`, style: "stroke: var(--accent-2); stroke-width: 2" }));
      parts.push(label("features compared", [6, 12], "start"), label("place of the key", [x(T / 2), 187]));
      drawing.replaceChildren(...parts);
      return row;
    };

    const caption = html("caption", {});
    const body = html("tbody", {});
    const table = html("table", { class: "sx-table fb-table" }, caption, html("thead", {}, html("tr", {},
      ...["", "kMACs a character", "million characters", "against standard"].map((name) => html("th", { scope: "col" }, name)))), body);
    const key = costKey(PARTS);
    const { node: spoken, say } = words();

    const update = () => {
      const setting = Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));
      for (const [name, control] of Object.entries({ method, width, window: window_, ranks, query, budget, counted })) control.show(setting[name]);
      const row = drawRow(setting);
      const all = Object.keys(METHODS).map((name) => ({ ...setting, method: name }));
      const most = Math.max(...all.map((one) => total(Object.values(macs(one)))));
      const standard = characters({ ...setting, method: "standard" });
      caption.textContent = `Width ${setting.width}, ${setting.width / R} heads, ${LAYERS} layers`;
      body.replaceChildren(...all.flatMap((one) => {
        const parts = macs(one);
        const bought = characters(one);
        return [
          html("tr", { class: one.method === setting.method ? "now" : "" }, html("th", { scope: "row" }, METHODS[one.method]),
            html("td", {}, count(total(Object.values(parts)) / 1e3)), html("td", {}, count(bought / 1e6)),
            html("td", {}, one.method === "standard" ? "" : percent(bought / standard))),
          html("tr", { "aria-hidden": "true" }, html("td", { class: "bar", colspan: 4 }, costBar(parts, most))),
        ];
      }));
      const name = METHODS[setting.method];
      const seen = row.filter((f) => f > 0).length;
      const whole = row.filter((f) => f === R).length;
      const share = (100 * total(row)) / (R * (setting.query + 1));
      const parts = macs(setting);
      say(`${name}: the query at ${setting.query} compares itself with ${seen} of ${setting.query + 1} characters, with ${whole} of them in all ${R} features; that is ${share.toFixed(0)} % of what standard attention compares. `
        + `Scores are ${((100 * parts.scores) / total(Object.values(parts))).toFixed(0)} % of a character's MACs. The budget buys ${count(characters(setting) / 1e6)} million characters, against ${count(standard / 1e6)} million.`);
      drawing.setAttribute("aria-label", `Features compared by the query at ${setting.query}, ${name}: ${seen} characters seen, ${whole} in all features.`);
    };

    return stage({ model, el, names: NAMES, style: STYLE_HERE }, [
      html("div", { class: "sx-row", style: "margin-block-end: .75rem" }, method.node, width.node, budget.node, counted.node),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, drawing, query.node, window_.node, ranks.node),
        html("div", { class: "sx-stack" }, table, key)),
      spoken,
    ], update);
  },
};
