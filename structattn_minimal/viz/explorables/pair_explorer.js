// Chapter 8: a query i, a key j, and how many features their score may use under four kinds of attention.

const SIZE = 400;
const EDGE = 34; // room for the axes
const KINDS = { mlr: "MLR", standard: "standard", swa: "sliding window", gswa: "global + window" };

const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);
const blockSizes = (tokens, levels) => Array.from({ length: levels }, (_, l) => tokens / 2 ** l);

// Where the blocks of a level begin to count: level 1 is always one block, the others may begin earlier.
const offsetOf = (sizes, level, shift) => (shift && level > 0 ? sizes[sizes.length - 1] / 2 : 0);

const sharedLevels = ({ tokens, ranks, shift }, i, j) => {
  const sizes = blockSizes(tokens, ranks.length);
  return sizes.filter((size, l) => {
    const offset = offsetOf(sizes, l, shift);
    return Math.floor((i + offset) / size) === Math.floor((j + offset) / size);
  }).length;
};

// Features that the score of a pair with j <= i multiplies: its effective rank, and its MACs.
const effectiveRank = (setting, i, j) => {
  const { kind, ranks, window } = setting;
  const near = i - j <= window;
  if (kind === "mlr") return total(ranks.slice(0, sharedLevels(setting, i, j)));
  if (kind === "swa") return near ? total(ranks) : 0;
  if (kind === "gswa") return near ? total(ranks) : ranks[0];
  return total(ranks);
};

// Pairs that chunks of `window` queries multiply, where that saves any: each chunk meets itself and the one before.
const windowedPairs = (tokens, window) => Math.min(Math.ceil(tokens / window) * window * 2 * window, tokens ** 2);

// One head on the whole sequence, counted like sa.attention_cost: both halves of a causal product.
const costs = ({ kind, tokens, ranks, window, shift }) => {
  const r = total(ranks);
  const held = Math.min(tokens, window + 1);
  if (kind === "mlr") {
    const sizes = blockSizes(tokens, ranks.length);
    const pairs = sizes.map((size, l) => {
      const offset = offsetOf(sizes, l, shift);
      const lengths = new Map();
      for (let i = 0; i < tokens; i++) lengths.set(Math.floor((i + offset) / size), (lengths.get(Math.floor((i + offset) / size)) ?? 0) + 1);
      return total([...lengths.values()].map((length) => length ** 2));
    });
    return { scores: total(ranks.map((rank, l) => rank * pairs[l])), keys: total(ranks.map((rank, l) => rank * sizes[l])) };
  }
  if (kind === "swa") return { scores: windowedPairs(tokens, window) * r, keys: held * r };
  if (kind === "gswa") {
    return { scores: tokens ** 2 * ranks[0] + windowedPairs(tokens, window) * (r - ranks[0]), keys: tokens * ranks[0] + held * (r - ranks[0]) };
  }
  return { scores: tokens ** 2 * r, keys: tokens * r };
};

// The mean effective rank of all pairs at a distance.
const averageRank = (setting, distance) => {
  const pairs = Array.from({ length: setting.tokens - distance }, (_, j) => effectiveRank(setting, j + distance, j));
  return total(pairs) / pairs.length;
};

export const compute = { blockSizes, sharedLevels, effectiveRank, windowedPairs, costs, averageRank };

const STYLE_HERE = `
.pe-levels { display: flex; flex-wrap: wrap; gap: .35rem; margin: 0; padding: 0; list-style: none; }
.pe-levels li { border: 1px solid var(--border); border-radius: .3rem; padding: .15rem .5rem; color: var(--muted); background: var(--ground); margin: 0; }
.pe-levels li.on { border-color: var(--accent); color: var(--text); box-shadow: inset 0 -3px 0 var(--accent); }
.pe-ranks { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .25rem 1rem; }
`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const NAMES = ["tokens", "kind", "ranks", "window", "i", "j", "shift"];
    const choose = (i, j) => {
      const row = clamp(i, 0, get("tokens") - 1);
      set({ i: row, j: clamp(j, 0, row) });
    };

    const query = slider({ label: html("span", {}, "Query ", html("i", {}, "i")), min: 0, max: 63, step: 1, act: (i) => choose(i, get("j")) });
    const key = slider({ label: html("span", {}, "Key ", html("i", {}, "j")), min: 0, max: 63, step: 1, act: (j) => choose(get("i"), j) });
    const kind = choices({ label: "Kind of attention", options: Object.entries(KINDS), act: (value) => set({ kind: value }) });
    const tokens = choices({ label: "Tokens", options: [16, 32, 64].map((n) => [n, n]), act: (n) => set({ tokens: n, i: n / 2, j: n / 2 - 1 }) });
    const ranks = [0, 1, 2, 3].map((l) => slider({
      label: html("span", {}, "Rank ", html("i", {}, "r"), html("sub", {}, l + 1)), min: 1, max: 16, step: 1,
      act: (rank) => set({ ranks: get("ranks").map((one, m) => (m === l ? rank : one)) }),
    }));
    const window_ = slider({ label: "Window", min: 1, max: 63, step: 1, act: (w) => set({ window: w }) });
    const shift = button("Shift the blocks", () => set({ shift: !get("shift") }));
    const seam = button("Go to the seam", () => choose(get("tokens") / 2, get("tokens") / 2 - 1));

    // The map
    const cells = svg("g", { "aria-hidden": "true" });
    const lines = svg("g", { "aria-hidden": "true" });
    const mark = svg("rect", { style: "fill: none; stroke: var(--accent-2); stroke-width: 3" });
    const cross = svg("path", { style: "fill: none; stroke: var(--accent-2); stroke-width: 1; opacity: .8" });
    const area = svg("rect", { x: EDGE, y: 4, width: SIZE - EDGE - 4, height: SIZE - EDGE - 4, fill: "transparent" });
    const handle = svg("g", { class: "handle", role: "slider", "aria-label": "the pair on the map", "aria-valuemin": 0 },
      area, svg("rect", { x: EDGE, y: 4, width: SIZE - EDGE - 4, height: SIZE - EDGE - 4, class: "ring" }));
    const map = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "sx-plot", role: "group", "aria-label": "Effective rank of each pair" }, cells, lines, cross, mark, handle);
    const unit = () => (SIZE - EDGE - 4) / get("tokens");
    const at = (event) => {
      const [x, y] = pointerIn(map, event);
      choose(Math.floor((y - 4) / unit()), Math.floor((x - EDGE) / unit()));
    };
    movable(handle, { act: (dx, dy) => choose(get("i") - dy, get("j") + dx), to: at });
    handle.addEventListener("pointerdown", at);
    handle.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" && event.buttons === 0) at(event); });

    const drawMap = (setting) => {
      const { tokens: n, i, j } = setting;
      const [u, r] = [unit(), total(setting.ranks)];
      const paths = new Map();
      for (let row = 0; row < n; row++) {
        for (let from = 0; from <= row;) {
          const rank = effectiveRank(setting, row, from);
          let to = from + 1;
          while (to <= row && effectiveRank(setting, row, to) === rank) to++;
          paths.set(rank, `${paths.get(rank) ?? ""}M${EDGE + from * u} ${4 + row * u}h${(to - from) * u}v${u}h${(from - to) * u}z`);
          from = to;
        }
      }
      cells.replaceChildren(...[...paths].map(([rank, d]) => svg("path", { d, style: `fill: var(--accent); opacity: ${(0.92 * rank / r).toFixed(3)}` })));
      const middle = n / 2 - (setting.shift ? n / 16 : 0);
      const [x, y] = [EDGE + middle * u, 4 + middle * u];
      const label = (text, attributes) => svg("text", { class: "quiet", ...attributes }, text);
      const ends = [0, n / 2, n - 1];
      lines.replaceChildren(
        svg("path", { d: `M${EDGE} 4v${n * u}h${n * u}`, style: "fill: none; stroke: var(--muted)" }),
        ...(setting.kind === "mlr" ? [svg("path", { d: `M${EDGE} ${y}H${x}V${4 + n * u}`, style: "fill: none; stroke: var(--wrong); stroke-width: 2; stroke-dasharray: 6 4" }),
          svg("text", { x: x + 8, y: y - 6, style: "fill: var(--wrong)" }, "seam")] : []),
        ...ends.map((p) => label(p, { x: EDGE + (p + 0.5) * u, y: SIZE - 17, "text-anchor": "middle" })),
        ...ends.map((p) => label(p, { x: EDGE - 5, y: 8 + (p + 0.5) * u, "text-anchor": "end" })),
        label("key j", { x: SIZE / 2 + 60, y: SIZE - 4, "text-anchor": "middle" }),
        label("query i", { transform: `translate(11 ${SIZE / 4}) rotate(-90)`, "text-anchor": "middle" }));
      fill(mark, { x: EDGE + j * u, y: 4 + i * u, width: u, height: u }, []);
      fill(cross, { d: `M${EDGE} ${4 + (i + 0.5) * u}H${EDGE + j * u}M${EDGE + (j + 0.5) * u} ${4 + (i + 1) * u}V${4 + n * u}` }, []);
    };

    // Rank by distance
    const [W, H] = [400, 190];
    const profile = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "sx-plot", role: "img" });
    const drawProfile = (setting) => {
      const { tokens: n, i, j } = setting;
      const r = total(setting.ranks);
      const across = (distance) => 44 + (W - 58) * distance / n;
      const down = (rank) => H - 38 - (H - 52) * rank / r;
      const row = Array.from({ length: i + 1 }, (_, distance) => effectiveRank(setting, i, i - distance));
      const stairs = row.map((rank, distance) => `${distance ? "L" : "M"}${across(distance)} ${down(rank)}H${across(distance + 1)}`).join("");
      const mean = Array.from({ length: n }, (_, distance) => `${across(distance + 0.5)} ${down(averageRank(setting, distance))}`).join("L");
      profile.replaceChildren(
        ...[0, r / 2, r].flatMap((rank) => [svg("line", { x1: 44, x2: W - 14, y1: down(rank), y2: down(rank), style: "stroke: var(--grid)" }),
          svg("text", { x: 38, y: down(rank) + 4, "text-anchor": "end", class: "quiet" }, rank)]),
        ...[0, n / 4, n / 2, n - 1].map((distance) => svg("text", { x: across(distance + 0.5), y: H - 22, "text-anchor": "middle", class: "quiet" }, distance)),
        svg("text", { x: W / 2, y: H - 6, "text-anchor": "middle" }, "distance i − j"),
        svg("path", { d: `M${mean}`, style: "fill: none; stroke: var(--muted); stroke-width: 2; stroke-dasharray: 3 3" }),
        svg("path", { d: stairs, style: "fill: none; stroke: var(--accent); stroke-width: 2.5" }),
        svg("circle", { cx: across(i - j + 0.5), cy: down(row[i - j]), r: 6, style: "fill: var(--accent-2); stroke: var(--ground); stroke-width: 2" }));
      profile.setAttribute("aria-label", `Effective rank of query ${i} by distance, from 0 to ${i}: ${row.join(", ")}`);
    };

    const levels = html("ul", { class: "pe-levels", "aria-label": "Levels that the pair shares" });
    const body = html("tbody");
    const table = html("table", { class: "sx-table" },
      html("thead", {}, html("tr", {}, ...["one head", "score MACs", "cached keys"].map((name) => html("th", { scope: "col" }, name)))), body);
    const { node: spoken, say } = words();

    const draw = () => {
      const setting = Object.fromEntries(NAMES.map((name) => [name, get(name)]));
      const n = setting.tokens;
      setting.i = clamp(setting.i, 0, n - 1);
      setting.j = clamp(setting.j, 0, setting.i);
      const { i, j } = setting;
      const r = total(setting.ranks);
      const isMlr = setting.kind === "mlr";
      const shared = sharedLevels(setting, i, j);
      const rank = effectiveRank(setting, i, j);
      query.show(i, { max: n - 1 });
      key.show(j, { max: n - 1 });
      kind.show(setting.kind);
      tokens.show(n);
      ranks.forEach((one, l) => one.show(setting.ranks[l]));
      window_.show(Math.min(setting.window, n - 1), { max: n - 1 });
      window_.node.style.display = setting.kind.endsWith("swa") ? "" : "none";
      shift.style.display = isMlr ? "" : "none";
      shift.setAttribute("aria-pressed", setting.shift);
      levels.style.display = isMlr ? "" : "none";
      levels.replaceChildren(...setting.ranks.map((one, l) => html("li", { class: l < shared ? "on" : "" }, `level ${l + 1}: ${l < shared ? `shared, ${one}` : "not shared"}`)));
      drawMap(setting);
      drawProfile(setting);
      handle.setAttribute("aria-valuemax", n - 1);
      handle.setAttribute("aria-valuenow", j);
      handle.setAttribute("aria-valuetext", `query ${i}, key ${j}, effective rank ${rank}`);
      body.replaceChildren(...Object.entries(KINDS).map(([name, label]) => {
        const { scores, keys } = costs({ ...setting, kind: name });
        const share = html("span", {}, `(${Math.round(100 * scores / (n * n * r))} %)`);
        return html("tr", { class: name === setting.kind ? "now" : "" }, html("th", { scope: "row" }, label),
          html("td", {}, scores.toLocaleString("en"), " ", share), html("td", {}, keys.toLocaleString("en")));
      }));
      const which = shared === 1 ? "level 1 alone" : `levels 1 to ${shared}`;
      const why = {
        mlr: `they share ${which}, and their score uses ${rank} of ${r} features: ${rank} MACs.${i - j === 1 && shared === 1 ? " Neighbours, treated like the farthest pair: this is the seam." : ""}`,
        standard: `like every pair, they are scored with all ${r} features: ${rank} MACs.`,
        swa: i - j <= setting.window ? `inside the window, all ${r} features: ${rank} MACs.` : "outside the window, no score at all: the query cannot see this key.",
        gswa: i - j <= setting.window ? `${setting.ranks[0]} global features and ${r - setting.ranks[0]} of the window, in two softmaxes: ${rank} MACs.` : `outside the window, the ${setting.ranks[0]} global features alone: ${rank} MACs.`,
      }[setting.kind];
      say(`Query ${i} and key ${j}, distance ${i - j}: ${why} Dashed: the mean over all pairs at a distance.`);
    };

    return stage({ model, el, names: NAMES, style: STYLE_HERE }, [
      html("div", { class: "sx-row", style: "margin-block-end: .75rem" }, kind.node, tokens.node),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, map, html("div", { class: "sx-row" }, query.node, key.node), html("div", { class: "sx-row" }, seam, shift)),
        html("div", { class: "sx-stack" }, levels, profile, html("div", { class: "pe-ranks" }, ...ranks.map((one) => one.node)), window_.node, table)),
      spoken,
    ], draw);
  },
};
