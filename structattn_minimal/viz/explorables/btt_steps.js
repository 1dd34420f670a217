// Chapter 5: sixteen numbers on their way through a block tensor train, as structattn_minimal.BTT takes them.

const WIDTH = 380;
const GRIDS = { "4x4": [4, 4, 4, 4], "2x8": [2, 8, 2, 8], "8x2": [8, 2, 8, 2], narrow: [8, 2, 2, 8] }; // a, b, c, d
const D = 16;

// x and both cores of a seed, stored as the package stores them: right (c, d, b, s), left (b, c, s, a), row by row.
const draw = (grid, s, seed) => {
  const [a, b, c, d] = GRIDS[grid];
  const { normals } = generator(seed);
  const x = normals(D);
  const right = normals(c * d * b * s).map((entry) => entry / Math.sqrt(d));
  const left = normals(b * c * s * a).map((entry) => entry / Math.sqrt(c * s));
  return { a, b, c, d, s, x, right, left };
};

const R = ({ d, b, s, right }, gamma, delta, beta, sigma) => right[((gamma * d + delta) * b + beta) * s + sigma];
const L = ({ a, c, s, left }, beta, gamma, sigma, alpha) => left[((beta * c + gamma) * s + sigma) * a + alpha];

// How the numbers stand after each step: as `rows` rows, each of `groups` groups of `size` neighbours.
const layout = ({ a, b, c, d, s }, step) => [
  { rows: 1, groups: 1, size: D }, { rows: c, groups: 1, size: d }, { rows: c, groups: b, size: s },
  { rows: b, groups: c, size: s }, { rows: b, groups: 1, size: a }, { rows: 1, groups: 1, size: D },
][step];
const count = (one, step) => { const { rows, groups, size } = layout(one, step); return rows * groups * size; };

// The matrix of a step, as its entries that may differ from zero: [row, column, value].
const entries = (one, step) => {
  const { a, b, c, d, s } = one;
  const found = [];
  const each = (n, act) => { for (let i = 0; i < n; i++) act(i); };
  if (step === 1) each(D, (i) => found.push([i, i, 1]));
  if (step === 2) each(c, (g) => each(b, (e) => each(s, (k) => each(d, (h) => found.push([(g * b + e) * s + k, g * d + h, R(one, g, h, e, k)])))));
  if (step === 3) each(c, (g) => each(b, (e) => each(s, (k) => found.push([(e * c + g) * s + k, (g * b + e) * s + k, 1]))));
  if (step === 4) each(b, (e) => each(a, (h) => each(c, (g) => each(s, (k) => found.push([e * a + h, (e * c + g) * s + k, L(one, e, g, k, h)])))));
  if (step === 5) each(b, (e) => each(a, (h) => found.push([h * b + e, e * a + h, 1])));
  return found;
};

const parents = (one, step, index) => entries(one, step).filter(([row]) => row === index).map(([, column]) => column);

// What stands there after steps 0 to 5.
const stages = (one) => {
  const all = [one.x];
  for (let step = 1; step <= 5; step++) {
    const next = Array(count(one, step)).fill(0);
    for (const [row, column, value] of entries(one, step)) next[row] += value * all[step - 1][column];
    all.push(next);
  }
  return all;
};

// M, entry by entry: M[alpha b + beta, gamma d + delta] = sum_s L[beta, gamma, s, alpha] R[gamma, delta, beta, s].
const dense = (one) => {
  const { b, d, s } = one;
  const entry = (i, j) => Array.from({ length: s }, (_, k) => L(one, i % b, Math.floor(j / d), k, Math.floor(i / b)) * R(one, Math.floor(j / d), j % d, i % b, k)).reduce((sum, term) => sum + term, 0);
  return Array.from({ length: D }, (_, i) => Array.from({ length: D }, (_, j) => entry(i, j)));
};

const costs = ({ a, b, c, d, s }) => ({ params: s * b * c * (a + d), macs: s * b * c * (a + d), inner: b * c * s, maxRank: Math.min(c * Math.min(d, b * s), b * Math.min(a, c * s)) });

export const compute = { draw, layout, entries, parents, stages, dense, costs };

const NAMES = ["the input", "reshape", "multiply by R", "shuffle", "multiply by L", "shuffle back"];

const STYLE_HERE = `
.bt-buttons { display: flex; flex-wrap: wrap; gap: .4rem; }
.bt-costs { margin: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; font-variant-numeric: tabular-nums; min-block-size: 2.9em; }
.bt-cell { cursor: pointer; }
.bt-maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; align-items: start; }
.bt-maps figure { margin: 0; display: grid; gap: .25rem; }
.bt-maps figcaption { font-size: .88rem; color: var(--muted); margin: 0; }
`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const now = () => draw(get("grid"), get("rank"), get("seed"));
    // A new step, grid or rank keeps the watched entry where it can.
    const change = (changes) => {
      const after = { grid: get("grid"), rank: get("rank"), step: get("step"), ...changes };
      const size = count(draw(after.grid, after.rank, 0), after.step);
      set({ ...changes, watch: Math.min(changes.watch ?? get("watch"), size - 1) });
    };
    // Along the way: the first entry that the watched one becomes, or is made from.
    const goTo = (step) => {
      const one = now();
      let watch = get("watch");
      for (let at = get("step"); at < step; at++) watch = entries(one, at + 1).find(([, column]) => column === watch)[0];
      for (let at = get("step"); at > step; at--) watch = parents(one, at, watch)[0];
      change({ step, watch });
    };

    const place = slider({ label: "Step", min: 0, max: 5, step: 1, format: (step) => `${step} of 5`, act: goTo });
    const watched = slider({ label: "Entry to watch", min: 0, max: 15, step: 1, act: (watch) => set({ watch }) });
    const rank = slider({ label: html("span", {}, "Rank ", html("i", {}, "s")), min: 1, max: 4, step: 1, act: (value) => change({ rank: value }) });
    const grid = choices({ label: "Grid: a × b rows, c × d columns", options: [["4x4", "4 × 4"], ["2x8", "2 × 8"], ["8x2", "8 × 2"], ["narrow", "8 × 2 by 2 × 8"]], act: (value) => change({ grid: value }) });
    const rows = choices({ label: "Rows of M", options: [["natural", "as they are"], ["blocks", "sorted by block"]], act: (value) => set({ rows: value }) });
    const back = button("Back", () => goTo(Math.max(0, get("step") - 1)));
    const next = button("Next step", () => goTo(get("step") === 5 ? 0 : get("step") + 1), { class: "main" });
    const again = button("New numbers", () => set({ seed: (get("seed") + 1) % 2 ** 31 }));

    const colour = (value, most = 2) => `color-mix(in srgb, var(--${value < 0 ? "low" : "high"}) ${Math.round(Math.min(100, 10 + 85 * Math.abs(value) / most))}%, var(--ground))`;

    // Where each number of a step stands: rows of groups, gaps between both
    const places = (one, step, top) => {
      const { rows: n, groups, size } = layout(one, step);
      const gap = groups > 1 && size > 1 ? 5 : 2;
      const unit = Math.min(30, (WIDTH - 24 - gap * (groups - 1)) / (groups * size), 170 / n);
      const left = (WIDTH - groups * size * unit - gap * (groups - 1)) / 2;
      return Array.from({ length: n * groups * size }, (_, i) => {
        const [row, group, inside] = [Math.floor(i / (groups * size)), Math.floor(i / size) % groups, i % size];
        return { x: left + (group * size + inside) * unit + group * gap, y: top + row * (unit + 3), unit };
      });
    };

    const cells = svg("svg", { viewBox: `0 0 ${WIDTH} 400`, class: "sx-plot", role: "img" });
    let shownStep = null; // what stood there last, to animate from
    let runs = [];
    const drawCells = (one, step, watch) => {
      const all = stages(one);
      const from = step ? places(one, step - 1, 30) : [];
      const bottom = step ? Math.max(...from.map((at) => at.y + at.unit)) : 4;
      const to = places(one, step, step ? bottom + 62 : 34);
      const height = Math.max(...to.map((at) => at.y + at.unit)) + 14;
      const lit = step ? parents(one, step, watch) : [];
      const moves = step && step !== 2 && step !== 4;
      const cell = (at, value, mark, attributes) => svg("rect", {
        x: at.x + 0.75, y: at.y, width: at.unit - 1.5, height: at.unit - 1.5, rx: Math.min(3, at.unit / 5),
        style: `fill: ${colour(value)}; stroke: ${mark ? "var(--accent-2)" : "var(--border)"}; stroke-width: ${mark ? 3 : 0.75}`, ...attributes,
      });
      const line = ([row, column]) => {
        const [p, q] = [from[column], to[row]];
        const on = row === watch;
        return svg("path", {
          d: `M${p.x + p.unit / 2} ${p.y + p.unit}C${p.x + p.unit / 2} ${bottom + 30} ${q.x + q.unit / 2} ${to[0].y - 34} ${q.x + q.unit / 2} ${q.y - 1}`,
          style: `fill: none; stroke: var(--${on ? "accent-2" : "muted"}); stroke-width: ${on ? 2.5 : 0.8}; opacity: ${on ? 1 : 0.35}`,
        });
      };
      const links = !step ? [] : entries(one, step).filter(([row]) => moves || row === watch).sort(([one_], [other]) => (one_ === watch) - (other === watch));
      const made = to.map((at, i) => cell(at, all[step][i], i === watch, {
        class: "bt-cell", onpointerenter: (event) => { if (event.pointerType === "mouse") set({ watch: i }); }, onclick: () => set({ watch: i }),
      }));
      const title = (text, y) => svg("text", { x: 12, y, class: "quiet" }, text);
      cells.setAttribute("viewBox", `0 0 ${WIDTH} ${Math.max(height, 120)}`);
      cells.replaceChildren(
        ...(step ? [title(step === 1 ? "input" : `after ${NAMES[step - 1]}`, 20), ...links.map(line), ...from.map((at, i) => cell(at, all[step - 1][i], lit.includes(i))), title(`${NAMES[step]}:`, to[0].y - 10)] : [title("the input x", 22)]),
        ...made);
      cells.setAttribute("aria-label", `${step ? `After step ${step}, ${NAMES[step]}` : "The input"}: ${all[step].map((value) => signed(value, 1)).join(", ")}.`);
      for (const run of runs) run.cancel();
      runs = [];
      if (shownStep !== null && shownStep !== step && step && !wantsLessMotion()) {
        const pace = { duration: 900, easing: "ease-in-out", fill: "backwards" };
        runs = made.map((node, i) => {
          const source = moves ? parents(one, step, i)[0] : null;
          return node.animate(moves
            ? [{ transform: `translate(${from[source].x - to[i].x}px, ${from[source].y - to[i].y}px)` }, { transform: "translate(0, 0)" }]
            : [{ opacity: 0 }, { opacity: 1 }], pace);
        });
      }
      shownStep = step;
    };

    // A matrix as cells; `marks` frames rectangles [row, column, rows, columns]
    const drawMap = (node, label, list, n, m, marks, lines = []) => {
      const unit = 160 / Math.max(n, m);
      node.setAttribute("viewBox", `${(m * unit - 166) / 2} ${(n * unit - 166) / 2} 166 166`);
      node.setAttribute("aria-label", label);
      node.replaceChildren(
        svg("rect", { width: m * unit, height: n * unit, style: "fill: var(--ground); stroke: var(--border)" }),
        ...list.map(([i, j, value]) => svg("rect", { x: j * unit, y: i * unit, width: unit, height: unit, style: `fill: ${colour(value, 1)}` })),
        ...lines.map(([x1, y1, x2, y2]) => svg("line", { x1: x1 * unit, y1: y1 * unit, x2: x2 * unit, y2: y2 * unit, style: "stroke: var(--text); stroke-width: .8; opacity: .55" })),
        ...marks.map(([i, j, high, wide]) => svg("rect", { x: j * unit, y: i * unit, width: wide * unit, height: high * unit, style: "fill: none; stroke: var(--accent-2); stroke-width: 2.5" })));
    };
    const figure = (node, caption) => html("figure", {}, node, caption);
    const stepMap = svg("svg", { role: "img" });
    const stepCaption = html("figcaption", {});
    const wholeMap = svg("svg", { role: "img" });
    const wholeCaption = html("figcaption", {});
    const drawMaps = (one, step, watch) => {
      const { a, b, c, d } = one;
      const [n, m] = step ? [count(one, step), count(one, step - 1)] : [D, D];
      const factor = ["nothing done yet", "I: reading is no work", `R: ${c} blocks`, "P, a permutation", `L: ${b} blocks`, "P, a permutation"][step];
      drawMap(stepMap, `The matrix of this step, ${n} by ${m}: ${factor}.`, step ? entries(one, step) : [], n, m, step ? [[watch, 0, 1, m]] : []);
      stepCaption.replaceChildren(`This step: ${factor}`);
      const sorted = get("rows") === "blocks";
      const M = dense(one);
      const order = Array.from({ length: D }, (_, i) => (sorted ? (i % a) * b + Math.floor(i / a) : i));
      const list = order.flatMap((i, at) => M[i].map((value, j) => [at, j, value]));
      const lines = [...Array.from({ length: c - 1 }, (_, g) => [(g + 1) * d, 0, (g + 1) * d, D]), ...(sorted ? Array.from({ length: b - 1 }, (_, e) => [0, (e + 1) * a, D, (e + 1) * a]) : [])];
      drawMap(wholeMap, sorted ? `M with its rows sorted into ${b * c} blocks of ${a} by ${d}, each of rank at most ${one.s}.` : "M, 16 by 16.", list, D, D, step === 5 ? [[order.indexOf(watch), 0, 1, D]] : [], lines);
      wholeCaption.replaceChildren(sorted ? `M, rows sorted: ${b * c} blocks ${a} × ${d}` : "M, all steps at once");
    };

    const costLine = html("p", { class: "bt-costs" });
    const { node: spoken, say } = words();

    const update = () => {
      const one = now();
      const { a, b, c, d, s } = one;
      const step = get("step");
      const size = count(one, step);
      const watch = Math.min(get("watch"), size - 1);
      place.show(step);
      watched.show(watch, { max: size - 1 });
      rank.show(s);
      grid.show(get("grid"));
      rows.show(get("rows"));
      back.disabled = step === 0;
      next.textContent = step === 5 ? "Start again" : "Next step";
      drawCells(one, step, watch);
      drawMaps(one, step, watch);
      const { params, macs, inner, maxRank } = costs(one);
      const fact = (text, value) => html("span", {}, `${text} `, html("b", {}, value));
      costLine.replaceChildren(fact("parameters", params), fact("MACs", macs), fact("of a dense M", D * D), fact("numbers between R and L", inner), fact("rank of M", maxRank));

      const values = stages(one);
      const lit = step ? parents(one, step, watch) : [];
      const did = [
        "Sixteen numbers come in.",
        `The input is read as ${c} rows of ${d}: nothing is computed.`,
        `Each of the ${c} rows is multiplied by its own block of R, ${d} numbers in and ${b * s} out: ${s} for each of ${b} output groups.`,
        `The groups change places: every one of the ${b} output groups now has ${s} number${s > 1 ? "s" : ""} from each of the ${c} rows. Nothing is computed.`,
        `Each of the ${b} groups is multiplied by its own block of L, ${c * s} numbers in and ${a} out.`,
        `The numbers are read column by column: entry α b + β of y was number α of group β.`,
      ][step];
      const made = step === 0 ? `Entry ${watch} is ${signed(values[0][watch])}.`
        : lit.length === 1 ? `Entry ${watch}, ${signed(values[step][watch])}, was entry ${lit[0]} before.`
          : `Entry ${watch}, ${signed(values[step][watch])}, is made from ${lit.length} of ${values[step - 1].length} numbers: entries ${lit[0]} to ${lit.at(-1)}.`;
      say(`Step ${step} of 5, ${NAMES[step]}. ${did} ${made}`);
    };

    const end = stage({ model, el, names: ["grid", "rank", "step", "watch", "rows", "seed"], style: STYLE_HERE }, [
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, html("div", { class: "bt-buttons", role: "group", "aria-label": "Steps" }, next, back, again), place.node, cells, watched.node),
        html("div", { class: "sx-stack" }, html("div", { class: "bt-maps" }, figure(stepMap, stepCaption), figure(wholeMap, wholeCaption)), costLine, rank.node, grid.node, rows.node)),
      spoken,
    ], update);
    return () => {
      for (const run of runs) run.cancel();
      end();
    };
  },
};
