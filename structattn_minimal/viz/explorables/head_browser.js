// Chapter 14: the heads of trained models, one at a time: what they look at, how far, and with which levels.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);

// The weights of query i, from the spelled triangle of a map: row i has i + 1 digits.
const row = (map, i) => Array.from(map.slice(i * (i + 1) / 2, (i + 1) * (i + 2) / 2), (digit) => (DIGITS.indexOf(digit) / 63) ** 2);

// "0", "1", "2–3", ... from the edges of the bins.
const binNames = (edges) => edges.slice(1).map((high, n) => (high - edges[n] === 1 ? `${edges[n]}` : `${edges[n]}–${high - 1}`));

// The places that a query looks at most, loudest first.
const favourites = (weights, most) => weights.map((weight, j) => [weight, j]).sort((a, b) => b[0] - a[0]).slice(0, most).map(([, j]) => j);

// Runs of pairs that are drawn in one shade: [shade, row, from, to), shades 1 ... SHADES, empty ones left out.
const SHADES = 15;
const runs = (map, n) => {
  const found = [];
  for (let i = 0; i < n; i++) {
    const shades = row(map, i).map((weight) => Math.round(SHADES * Math.sqrt(weight)));
    for (let from = 0; from <= i;) {
      let to = from + 1;
      while (to <= i && shades[to] === shades[from]) to++;
      if (shades[from]) found.push([shades[from], i, from, to]);
      from = to;
    }
  }
  return found;
};

export const compute = { row, binNames, favourites, runs };

const STYLE_HERE = `
.hb-text { margin: 0; padding: .5rem .6rem; background: var(--ground); border: 1px solid var(--border); border-radius: .4rem; color: var(--text);
  font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; cursor: pointer; min-block-size: 9rem; }
.hb-text .later { color: var(--muted); }
.hb-text .query { outline: 2px solid var(--accent-2); outline-offset: -1px; font-weight: 700; }
`;
const shown = (token) => ({ "\n": "line break", " ": "space" })[token] ?? `“${token}”`;
const written = (token) => (token === "\n" ? "⏎\n" : token.length > 1 ? `${token} ` : token);
const percent = (share) => `${(100 * share).toFixed(0)}\u00a0%`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const NAMES = ["inside", "model", "layer", "head", "query"];
    const { tokens, models, edges, labels } = get("inside");
    const n = tokens.length;
    const called = Object.fromEntries(labels);
    const numbered = (list) => list.map((_, i) => [i + 1, i + 1]);
    const most = (lists) => lists.reduce((longest, one) => (one.length > longest.length ? one : longest));
    const within = ({ model: name, layer, head }) => {
      const layers = models[name];
      const at = clamp(layer, 1, layers.length);
      return { model: name, layer: at, head: clamp(head, 1, layers[at - 1].length) };
    };
    const choose = (changes) => set(within({ model: get("model"), layer: get("layer"), head: get("head"), ...changes }));

    const kind = choices({ label: "Model", options: labels, act: (name) => choose({ model: name }) });
    const layer = choices({ label: "Layer", options: numbered(most(Object.values(models))), act: (value) => choose({ layer: Number(value) }) });
    const head = choices({ label: "Head", options: numbered(most(Object.values(models).flat())), act: (value) => choose({ head: Number(value) }) });
    const query = slider({ label: html("span", {}, "Query ", html("i", {}, "i")), min: 0, max: n - 1, step: 1, act: (i) => set({ query: i }) });

    // The map
    const [SIZE, EDGE] = [360, 34];
    const u = (SIZE - EDGE - 4) / n;
    const cells = svg("g", { "aria-hidden": "true" });
    const mark = svg("path", { style: "fill: none; stroke: var(--accent-2); stroke-width: 1.5" });
    const area = svg("rect", { x: EDGE, y: 4, width: u * n, height: u * n, fill: "transparent" });
    const handle = svg("g", { class: "handle", role: "slider", "aria-label": "the query on the map", "aria-valuemin": 0, "aria-valuemax": n - 1 },
      area, svg("rect", { x: EDGE, y: 4, width: u * n, height: u * n, class: "ring" }));
    const quiet = (words_, attributes) => svg("text", { class: "quiet", ...attributes }, words_);
    const ends = [0, n >> 1, n - 1];
    const map = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "sx-plot", role: "group", "aria-label": "Attention map of the head" },
      svg("path", { d: `M${EDGE} 4v${n * u}h${n * u}`, style: "fill: none; stroke: var(--muted)" }), cells, mark,
      ...ends.map((p) => quiet(p, { x: Math.min(EDGE + (p + 0.5) * u, SIZE - 14), y: SIZE - 17, "text-anchor": "middle" })),
      ...ends.map((p) => quiet(p, { x: EDGE - 5, y: 8 + (p + 0.5) * u, "text-anchor": "end" })),
      quiet("key j", { x: SIZE / 2 + 60, y: SIZE - 4, "text-anchor": "middle" }),
      quiet("query i", { transform: `translate(11 ${SIZE / 4}) rotate(-90)`, "text-anchor": "middle" }), handle);
    const at = (event) => set({ query: clamp(Math.floor((pointerIn(map, event)[1] - 4) / u), 0, n - 1) });
    movable(handle, { act: (dx, dy) => set({ query: clamp(get("query") + dx - dy, 0, n - 1) }), to: at });
    handle.addEventListener("pointerdown", at);

    // The prompt
    const letters = tokens.map((token, i) => html("span", { onclick: () => set({ query: i }) }, written(token)));
    const text = html("div", { class: "hb-text", role: "img", "aria-label": `The prompt: ${tokens.map(written).join("")}` }, ...letters);

    // Bars, one kind or two: [name, [[share, colour], ...]]
    const [W, LEFT, ROW] = [340, 74, 18];
    const bars = () => svg("svg", { class: "sx-plot", role: "img" });
    const drawBars = (node, title, rows) => {
      const height = 30 + total(rows.map(([, shares]) => ROW * shares.length + 6));
      node.setAttribute("viewBox", `0 0 ${W} ${height}`);
      let y = 28;
      const parts = [svg("text", { x: 10, y: 18 }, title)];
      for (const [name, shares] of rows) {
        parts.push(quiet(name, { x: LEFT - 8, y: y + 13, "text-anchor": "end" }));
        for (const [share, colour] of shares) {
          const width = (W - LEFT - 52) * share;
          parts.push(svg("rect", { x: LEFT, y: y + 2, width: Math.max(0.5, width), height: ROW - 4, style: `fill: ${colour}` }),
            quiet(percent(share), { x: LEFT + width + 5, y: y + 13 }));
          y += ROW;
        }
        y += 6;
      }
      node.replaceChildren(...parts);
      node.setAttribute("aria-label", `${title}: ${rows.map(([name, shares]) => `${name} ${shares.map(([share]) => percent(share)).join(", ")}`).join("; ")}`);
    };
    const [mass, levels, spectrum] = [bars(), bars(), bars()];
    const drawSpectrum = (values, rank) => {
      const [top, height] = [30, 64];
      const width = (W - 20) / values.length;
      spectrum.setAttribute("viewBox", `0 0 ${W} ${top + height + 20}`);
      spectrum.replaceChildren(svg("text", { x: 10, y: 18 }, "Singular values of M, largest = 1"),
        ...values.map((value, k) => svg("rect", { x: 10 + k * width, y: top + height * (1 - value), width: width * 0.8, height: height * value, style: "fill: var(--accent)" })),
        quiet("1", { x: 10 + width * 0.4, y: top + height + 13, "text-anchor": "middle" }),
        quiet(values.length, { x: W - 10 - width * 0.6, y: top + height + 13, "text-anchor": "middle" }));
      spectrum.setAttribute("aria-label", `${values.length} singular values of M, an effective rank of ${rank.toFixed(1)}: ${values.map((value) => value.toFixed(2)).join(", ")}`);
    };
    const { node: spoken, say } = words();
    let drawn = null;

    const draw = () => {
      const chosen = within({ model: get("model"), layer: get("layer"), head: get("head") });
      const one = models[chosen.model][chosen.layer - 1][chosen.head - 1];
      const i = clamp(get("query"), 0, n - 1);
      kind.show(chosen.model);
      layer.show(chosen.layer);
      head.show(chosen.head);
      query.show(i);
      if (drawn !== one) {
        drawn = one;
        const paths = Array(SHADES + 1).fill("");
        for (const [shade, at_, from, to] of runs(one.map, n)) paths[shade] += `M${EDGE + from * u} ${4 + at_ * u}h${(to - from) * u}v${u}h${(from - to) * u}z`;
        cells.replaceChildren(...paths.map((d, shade) => svg("path", { d: d || null, style: `fill: var(--accent); opacity: ${(shade / SHADES).toFixed(2)}` })));
        drawBars(mass, "Attention by distance", binNames(edges).map((name, b) => [name, [[one.mass[b], "var(--accent)"]]]));
        drawSpectrum(one.spectrum, one.form_rank);
        levels.style.display = one.energy.length > 1 ? "" : "none";
        drawBars(levels, "Energy (blue); moved without it (orange)", one.energy.map((share, l) => [`level ${l + 1}`, [[share, "var(--accent)"], [one.use[l], "var(--accent-2)"]]]));
      }
      const weights = row(one.map, i);
      fill(mark, { d: `M${EDGE} ${4 + i * u}h${(i + 1) * u}v${u}H${EDGE}z` }, []);
      letters.forEach((letter, j) => {
        letter.className = j === i ? "query" : j > i ? "later" : "";
        letter.style.background = j <= i ? `color-mix(in srgb, var(--accent) ${(45 * Math.sqrt(weights[j])).toFixed(1)}%, var(--ground))` : "";
      });
      handle.setAttribute("aria-valuenow", i);
      handle.setAttribute("aria-valuetext", `query ${i}, ${shown(tokens[i])}`);
      const liked = favourites(weights, 3).map((j) => `${shown(tokens[j])} at ${j} (${percent(weights[j])})`).join(", ");
      const uses = one.energy.length > 1 ? ` Its loudest level is ${1 + one.energy.indexOf(Math.max(...one.energy))}; taking out level ${1 + one.use.indexOf(Math.max(...one.use))} would move the most attention.` : "";
      const ranks = ` The effective rank of its scores is ${one.rank.toFixed(1)}, that of M ${one.form_rank.toFixed(1)}.`;
      say(`${called[chosen.model]}, layer ${chosen.layer}, head ${chosen.head}: on average it looks ${one.distance.toFixed(1)} tokens back.${ranks}${uses} Here the query at ${i}, ${shown(tokens[i])}, looks most at ${liked}.`);
    };

    return stage({ model, el, names: NAMES, style: STYLE_HERE }, [
      html("div", { class: "sx-row", style: "margin-block-end: .75rem" }, kind.node, layer.node, head.node),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, map, query.node),
        html("div", { class: "sx-stack" }, text, mass, spectrum, levels)),
      spoken,
    ], draw);
  },
};
