// Chapter 6: a budget of ranks is divided among the levels of an MLR matrix, which is then fitted to a kernel.

const SIDE = 32; // D
const LEVELS = 5;
const MOST = 12; // of one rank, and of the budget
const SWEEPS = 8; // of block coordinate descent
const KINDS = { exponential: "exponential", distance: "1 / |i − j|", gaussian: "Gaussian", shuffled: "exponential, shuffled" };

const square = (n, entry) => Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => entry(i, j)));
const norm = (matrix) => Math.sqrt(matrix.reduce((sum, row) => sum + dot(row, row), 0));
const total = (ranks) => ranks.reduce((sum, r) => sum + r, 0);

// Which place each point takes when the order is shuffled.
const shuffle = (n, seed) => {
  const { uniform } = generator(seed);
  const keys = Array.from({ length: n }, uniform);
  return keys.map((_, i) => i).sort((i, j) => keys[i] - keys[j]);
};

// Kernels over points on a line.
const kernel = (kind, n = SIDE) => {
  const place = kind === "shuffled" ? shuffle(n, 6) : Array.from({ length: n }, (_, i) => i);
  return square(n, (i, j) => {
    const distance = Math.abs(place[i] - place[j]);
    if (kind === "distance") return 1 / Math.max(1, distance);
    if (kind === "gaussian") return Math.exp(-((8 * distance / n) ** 2) / 2);
    return Math.exp(-8 * distance / n);
  });
};

// Singular value decomposition by Jacobi's rotations of the columns: [{ sigma, left = sigma u, right = v }], largest first.
const svd = (matrix) => {
  const [m, n] = [matrix.length, matrix[0].length];
  const columns = Array.from({ length: n }, (_, j) => Float64Array.from(matrix, (row) => row[j]));
  const V = Array.from({ length: n }, (_, j) => { const e = new Float64Array(n); e[j] = 1; return e; });
  for (let sweep = 0; sweep < 40; sweep++) {
    let turned = false;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const [a, b] = [columns[p], columns[q]];
        let [aa, bb, ab] = [0, 0, 0];
        for (let i = 0; i < m; i++) { aa += a[i] * a[i]; bb += b[i] * b[i]; ab += a[i] * b[i]; }
        if (Math.abs(ab) <= 1e-15 * Math.sqrt(aa * bb) || ab === 0) continue;
        turned = true;
        const zeta = (bb - aa) / (2 * ab);
        const tan = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const cos = 1 / Math.hypot(1, tan);
        const sin = cos * tan;
        for (const [x, y] of [[a, b], [V[p], V[q]]]) {
          for (let i = 0; i < x.length; i++) {
            const old = x[i];
            x[i] = cos * old - sin * y[i];
            y[i] = sin * old + cos * y[i];
          }
        }
      }
    }
    if (!turned) break;
  }
  return columns.map((left, j) => ({ sigma: Math.sqrt(dot(left, left)), left, right: V[j] })).sort((x, y) => y.sigma - x.sigma);
};

const singularValues = (matrix) => svd(matrix).map(({ sigma }) => sigma);
const numericRank = (matrix) => { const s = singularValues(matrix); return s.filter((one) => one > 1e-10 * s[0]).length; };
const blockOf = (matrix, level, k) => {
  const size = matrix.length >> level;
  return matrix.slice(k * size, (k + 1) * size).map((row) => row.slice(k * size, (k + 1) * size));
};

// Block coordinate descent from zero, coarse to fine: every level takes the truncated SVDs of what the others leave.
const fit = (target, ranks, sweeps = SWEEPS) => {
  const n = target.length;
  const rest = target.map((row) => [...row]);
  const parts = ranks.map(() => square(n, () => 0));
  for (let sweep = 0; sweep < sweeps; sweep++) {
    ranks.forEach((rank, level) => {
      if (!rank) return;
      const size = n >> level;
      for (let k = 0; k < 2 ** level; k++) {
        const others = square(size, (i, j) => rest[k * size + i][k * size + j] + parts[level][k * size + i][k * size + j]);
        const kept = rank < size ? svd(others).slice(0, rank) : null;
        for (let i = 0; i < size; i++) {
          for (let j = 0; j < size; j++) {
            const entry = kept ? kept.reduce((sum, { left, right }) => sum + left[i] * right[j], 0) : others[i][j];
            parts[level][k * size + i][k * size + j] = entry;
            rest[k * size + i][k * size + j] = others[i][j] - entry;
          }
        }
      }
    });
  }
  return { parts, rest, fitted: square(n, (i, j) => target[i][j] - rest[i][j]), error: norm(rest) / norm(target) };
};

const lowRankError = (target, rank) => {
  const s = singularValues(target);
  return Math.sqrt(s.slice(rank).reduce((sum, one) => sum + one * one, 0) / s.reduce((sum, one) => sum + one * one, 0));
};

// The first exchange of one rank between two levels that lowers the error, the most promising tried first; or null.
const exchange = (target, ranks, sweeps = SWEEPS) => {
  const { parts, rest, error } = fit(target, ranks, sweeps);
  const changes = ranks.map((rank, level) => {
    const others = square(target.length, (i, j) => rest[i][j] + parts[level][i][j]);
    const energy = Array(MOST + 2).fill(0);
    for (let k = 0; k < 2 ** level; k++) {
      singularValues(blockOf(others, level, k)).forEach((s, i) => { if (i < energy.length) energy[i] += s * s; });
    }
    return { gain: energy[rank], loss: rank ? energy[rank - 1] : Infinity };
  });
  const pairs = ranks.flatMap((_, giver) => ranks.map((_, taker) => [giver, taker]))
    .filter(([giver, taker]) => giver !== taker && ranks[giver] > 0 && ranks[taker] < MOST)
    .sort(([g, t], [h, u]) => changes[g].loss - changes[t].gain - changes[h].loss + changes[u].gain);
  for (const [giver, taker] of pairs) {
    const tried = ranks.map((rank, level) => rank + Number(level === taker) - Number(level === giver));
    if (fit(target, tried, sweeps).error < error * (1 - 1e-9) - 1e-12) return tried;
  }
  return null;
};

// A member of the family: sum over the levels of blockdiag(U V^T) with normal entries.
const member = (ranks, seed, n = SIDE) => {
  const { normals } = generator(seed);
  const M = square(n, () => 0);
  ranks.forEach((rank, level) => {
    const [U, V] = [0, 1].map(() => Array.from({ length: n }, () => normals(rank)));
    const size = n >> level;
    M.forEach((row, i) => row.forEach((_, j) => { if (Math.floor(i / size) === Math.floor(j / size)) row[j] += dot(U[i], V[j]); }));
  });
  return M;
};

const maxRank = (ranks, n = SIDE) => Math.min(n, ranks.reduce((sum, r, level) => sum + 2 ** level * r, 0));
// How many features meet in the entry (i, j): the ranks of the levels that i and j share.
const features = (ranks, n = SIDE) => square(n, (i, j) =>
  ranks.reduce((sum, r, level) => sum + (Math.floor(i / (n >> level)) === Math.floor(j / (n >> level)) ? r : 0), 0));
const shares = (budget, weights) => {
  const all = total(weights);
  const ranks = weights.map((weight) => Math.floor(budget * weight / all));
  for (let level = 0; total(ranks) < budget; level++) ranks[level % weights.length] += 1;
  return ranks;
};
const local = (budget) => Math.floor(Math.log2(SIDE / budget)); // the finest level whose blocks are not smaller than the budget
const presets = (budget) => ({
  "all global": [budget, 0, 0, 0, 0],
  "all local": Array.from({ length: LEVELS }, (_, level) => (level === local(budget) ? budget : 0)),
  even: shares(budget, [1, 1, 1, 1, 1]),
  "like 16 | 8 | 4 | 4": [...shares(budget, [16, 8, 4, 4]), 0],
});

export const compute = { kernel, shuffle, svd, fit, lowRankError, exchange, member, maxRank, numericRank, features, presets };

const STYLE_HERE = `
.rb-bar { position: relative; display: flex; block-size: 1.6rem; background: var(--ground); border: 1px solid var(--border); border-radius: .3rem; overflow: hidden; }
.rb-bar span { background: color-mix(in srgb, var(--accent) var(--strength), var(--ground)); border-inline-end: 1px solid var(--ground); }
.rb-bar i { position: absolute; inset-block: 0; border-inline-start: 3px solid var(--accent-2); margin-inline-start: -3px; }
.rb-sum { margin: 0; font-variant-numeric: tabular-nums; }
.rb-ranks { display: grid; gap: 0 1rem; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.rb-buttons { display: flex; flex-wrap: wrap; gap: .35rem; }
.rb-buttons button { padding: .2rem .55rem; font-size: .88rem; }
.rb-errors { border-collapse: collapse; inline-size: 100%; margin: 0; font-size: .92rem; font-variant-numeric: tabular-nums; }
.rb-errors :is(th, td) { border: 0; background: none; padding: .15rem .3rem .15rem 0; text-align: start; font-weight: 400; }
.rb-errors td { white-space: nowrap; }
.rb-errors td:last-child { inline-size: 38%; padding-inline-end: 0; }
.rb-errors b { font-weight: 600; }
.rb-errors i { display: block; block-size: .8rem; border-radius: .2rem; background: var(--accent); min-inline-size: 1px; }
.rb-errors tr + tr i { background: var(--muted); }
`;

const bars = (ranks) => ranks.join(" | ");
const percent = (share) => (share < 5e-6 ? "0 %" : `${(100 * share).toPrecision(share < 0.1 ? 2 : 3)} %`);

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const CELL = 10;
    let best = {}; // within the budget, by target
    let stuck = ""; // ranks from which no exchange helps

    const kind = choices({ label: "Target", options: Object.entries(KINDS), act: (target) => set({ target }) });
    const view = choices({
      label: "Show", act: (value) => set({ view: value }),
      options: [["target", "target"], ["fit", "fit"], ["missing", "what it misses"], ["features", "features a pair"], ["member", "random member"]],
    });
    const again = button("Draw another", () => set({ seed: (get("seed") + 1) % 2 ** 31 }));
    const sliders = Array.from({ length: LEVELS }, (_, level) => slider({
      label: html("span", {}, "r", html("sub", {}, level + 1), ` · ${2 ** level} ${level ? "blocks" : "block"} of ${SIDE >> level}`),
      min: 0, max: MOST, step: 1, act: (r) => set({ ranks: get("ranks").map((one, l) => (l === level ? r : one)) }),
    }));
    const budgetSlider = slider({ label: "Budget of ranks", min: 4, max: MOST, step: 1, act: (budget) => set({ budget }) });
    const presetButtons = Object.keys(presets(8)).map((name) => ({ name, node: button(name, () => set({ ranks: presets(get("budget"))[name] })) }));
    const improve = button("Exchange one rank", () => {
      const ranks = get("ranks");
      const better = exchange(kernel(get("target")), ranks);
      if (better) set({ ranks: better });
      else { stuck = `${get("target")} ${bars(ranks)}`; draw(); }
    }, { class: "main" });

    const picture = svg("svg", { viewBox: `0 0 ${CELL * SIDE} ${CELL * SIDE}`, class: "sx-plot", role: "img" });
    const caption = html("p", { class: "sx-head" });
    const bar = html("div", { class: "rb-bar", "aria-hidden": "true" });
    const sum = html("p", { class: "rb-sum" });
    const rows = ["this MLR matrix", "low rank, same storage"].map((name) => {
      const [value, strip] = [html("b"), html("i")];
      return { value, strip, node: html("tr", {}, html("th", { scope: "row" }, name), html("td", {}, value), html("td", {}, strip)) };
    });
    const errors = html("table", { class: "rb-errors" }, html("caption", { class: "sx-head", style: "caption-side: top; text-align: start" }, "Missed of the target"), html("tbody", {}, ...rows.map((row) => row.node)));
    const record = html("p", { class: "sx-head" });
    const { node: spoken, say } = words();

    // Cells of like colour make one path.
    const drawMatrix = (matrix, limit, colours, ranks) => {
      const steps = new Map();
      matrix.forEach((row, i) => row.forEach((entry, j) => {
        const step = Math.round(12 * clamp(entry / limit, -1, 1));
        if (step) steps.set(step, `${steps.get(step) ?? ""}M${CELL * j} ${CELL * i}h${CELL}v${CELL}h${-CELL}z`);
      }));
      const cells = [...steps].map(([step, d]) => svg("path", {
        d, "shape-rendering": "crispEdges",
        style: `fill: color-mix(in srgb, var(--${step < 0 ? colours[0] : colours[1]}) ${Math.round(100 * Math.abs(step) / 12)}%, var(--ground))`,
      }));
      const outlines = ranks.flatMap((rank, level) => (rank && level ? Array.from({ length: 2 ** level }, (_, k) => {
        const size = CELL * (SIDE >> level);
        return `M${k * size} ${k * size}h${size}v${size}h${-size}z`;
      }) : [])).join("");
      picture.replaceChildren(...cells, svg("path", { d: outlines, style: "fill: none; stroke: var(--muted); stroke-width: 1; opacity: .8" }));
    };
    const drawFeatures = (ranks) => {
      const counts = features(ranks);
      drawMatrix(counts, 1.6 * Math.max(1, total(ranks)), ["accent", "accent"], ranks);
      for (let level = 0; level < 3; level++) { // one number in each of the larger off-diagonal blocks
        const size = CELL * (SIDE >> (level + 1));
        for (let k = 0; k < 2 ** (level + 1); k++) {
          picture.append(svg("text", { x: ((k ^ 1) + 0.5) * size, y: (k + 0.5) * size + 5, "text-anchor": "middle" }, total(ranks.slice(0, level + 1))));
        }
      }
    };

    const draw = () => {
      const [ranks, budget, name, shownAs, seed] = ["ranks", "budget", "target", "view", "seed"].map(get);
      const spent = total(ranks);
      const target = kernel(name);
      const { fitted, rest, error } = fit(target, ranks);
      const plain = lowRankError(target, spent);
      sliders.forEach((one, level) => one.show(ranks[level]));
      budgetSlider.show(budget);
      kind.show(name);
      view.show(shownAs);
      again.style.display = shownAs === "member" ? "" : "none";
      for (const { name: preset, node } of presetButtons) node.setAttribute("aria-pressed", bars(presets(budget)[preset]) === bars(ranks));

      const width = Math.max(spent, budget);
      bar.replaceChildren(
        ...ranks.map((r, level) => html("span", { style: `inline-size: ${100 * r / width}%; --strength: ${100 - 17 * level}%` })),
        html("i", { style: `inset-inline-start: ${100 * budget / width}%` }));
      const state = spent > budget ? `${spent - budget} over the budget` : spent < budget ? `${budget - spent} left` : "all spent";
      const parameters = 2 * SIDE * spent;
      sum.textContent = `${bars(ranks)}: ${spent} of ${budget}, ${state}. ${parameters} parameters and as many MACs; dense, ${SIDE * SIDE}.`;

      const strongest = (matrix) => Math.max(1e-12, ...matrix.flat().map(Math.abs));
      const drawn = shownAs === "member" || shownAs === "features" ? null : { target, fit: fitted, missing: rest }[shownAs];
      const found = member(ranks, seed);
      if (shownAs === "features") drawFeatures(ranks);
      else drawMatrix(drawn ?? found, strongest(drawn ?? found), ["low", "high"], ranks);
      const says = {
        target: "The target. Squares: the diagonal blocks of the levels in use.",
        fit: "The fit, by eight sweeps of block coordinate descent.",
        missing: `Target less fit; the strongest colour stands for ${strongest(rest).toPrecision(2)}.`,
        features: "How many features meet in an entry: the ranks of the levels that its row and column share.",
        member: `A draw of these ranks. Its rank, counted: ${spent ? numericRank(found) : 0}.`,
      };
      caption.textContent = says[shownAs];
      picture.setAttribute("aria-label", says[shownAs]);

      [error, plain].forEach((value, i) => {
        rows[i].value.textContent = percent(value);
        rows[i].strip.style.inlineSize = `${100 * value / Math.max(error, plain, 1e-12)}%`;
      });
      const place = `${name} ${budget}`;
      if (spent <= budget && (!best[place] || error < best[place].error)) best = { ...best, [place]: { error, ranks } };
      record.textContent = best[place] ? `Best so far within the budget: ${bars(best[place].ranks)}, ${percent(best[place].error)}.` : "Nothing within the budget so far.";
      const compare = error < 0.98 * plain ? "less than" : error > 1.02 * plain ? "more than" : "about as much as";
      const end = stuck === `${name} ${bars(ranks)}` ? " No exchange of one rank between two levels helps from here." : "";
      say(`Ranks ${bars(ranks)} spend ${spent} of ${budget}. Such a matrix has rank up to ${maxRank(ranks)} of ${SIDE}, where low rank with as many parameters has ${Math.min(SIDE, spent)}. `
        + `Fitted to the kernel (${KINDS[name]}), it misses ${percent(error)}, ${compare} low rank, which misses ${percent(plain)}.${end}`);
    };

    return stage({ model, el, names: ["ranks", "budget", "target", "view", "seed"], style: STYLE_HERE }, [
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, kind.node, picture, caption, view.node, again),
        html("div", { class: "sx-stack" },
          html("div", { class: "rb-ranks" }, ...sliders.map((one) => one.node), budgetSlider.node),
          bar, sum,
          html("div", { class: "rb-buttons", role: "group", "aria-label": "Ranks to start from" }, ...presetButtons.map(({ node }) => node), improve),
          errors, record)),
      spoken,
    ], draw);
  },
};
