// Chapter 7: one to three levels of MLBTC, 16 x 16, and the families that hold them.

const D = 16;
const MOST = 64; // numbers between the factors of a level
const grid = (sizes, act) => { // act(i, j, ...) for all places of a grid, last index fastest
  const places = sizes.reduce((all, size) => all.flatMap((place) => Array.from({ length: size }, (_, i) => [...place, i])), [[]]);
  return places.map((place) => act(...place));
};

const rooms = ([p, c, b]) => ({ a: D / (p * b), d: D / (p * c) });
const inner = ([p, c, b, s]) => p * c * b * s;
const legal = (level) => level.every((one) => Number.isInteger(one) && one >= 1 && one <= D)
  && D % (level[0] * level[1]) === 0 && D % (level[0] * level[2]) === 0 && inner(level) <= MOST;
const highest = (level, dial) => { // the largest value that a dial may take beside the other three
  let best = 1;
  for (let value = 1; value <= D; value = dial === 3 ? value + 1 : 2 * value) {
    if (legal(level.map((one, i) => (i === dial ? value : one)))) best = value;
  }
  return best;
};

// The factors: L in the order (p, b, c, s, a), R in the order (p, c, d, b, s), as in the package.
const numbers = (levels, seed, fill) => {
  const fanIn = levels.reduce((sum, [, c, , s]) => sum + c * s, 0);
  return levels.map((level, l) => {
    const [p, c, b, s] = level;
    const { a, d } = rooms(level);
    const { normals } = generator(seed + 7919 * l);
    const [shared, sharedR] = fill === "equal" ? [c * s * a, d * b * s] : [D * c * s, D * b * s];
    const left = normals(shared).map((one) => one / Math.sqrt(fanIn));
    const right = normals(sharedR).map((one) => one / Math.sqrt(d));
    const equal = fill === "equal";
    return {
      L: grid([p, b, c, s, a], (k, beta, gamma, sigma, alpha) => left[(((equal ? 0 : k * b + beta) * c + gamma) * s + sigma) * a + alpha]),
      R: grid([p, c, d, b, s], (k, gamma, delta, beta, sigma) => (fill === "identity" ? Number(delta === beta * s + sigma)
        : right[(((equal ? 0 : k * c + gamma) * d + delta) * b + beta) * s + sigma])),
    };
  });
};

// Both permutations as indices: y[i] = x[index[i]].
const permutations = (level) => {
  const [p, c, b, s] = level;
  const { a } = rooms(level);
  return {
    right: grid([p, b, c, s], (k, beta, gamma, sigma) => ((k * c + gamma) * b + beta) * s + sigma),
    left: grid([p, a, b], (k, alpha, beta) => (k * b + beta) * a + alpha),
  };
};

// The four matrices of a level, each { rows, columns, entries: [[row, column, value], ...] }.
const matrices = (level, { L, R }) => {
  const [p, c, b, s] = level;
  const { a, d } = rooms(level);
  const n = inner(level);
  const { left, right } = permutations(level);
  return {
    PL: { rows: D, columns: D, entries: left.map((j, i) => [i, j, 1]) },
    L: { rows: D, columns: n, entries: grid([p, b, c, s, a], (k, beta, gamma, sigma, alpha) => [(k * b + beta) * a + alpha, ((k * b + beta) * c + gamma) * s + sigma]).map((place, i) => [...place, L[i]]) },
    PR: { rows: n, columns: n, entries: right.map((j, i) => [i, j, 1]) },
    R: { rows: n, columns: D, entries: grid([p, c, d, b, s], (k, gamma, delta, beta, sigma) => [((k * c + gamma) * b + beta) * s + sigma, (k * c + gamma) * d + delta]).map((place, i) => [...place, R[i]]) },
  };
};

// M, entry by entry: M[(k, alpha, beta), (k, gamma, delta)] = sum over sigma of L[k, beta, gamma, sigma, alpha] R[k, gamma, delta, beta, sigma].
const dense = (levels, seed, fill) => {
  const M = Array.from({ length: D }, () => new Array(D).fill(0));
  numbers(levels, seed, fill).forEach(({ L, R }, l) => {
    const [p, c, b, s] = levels[l];
    const { a, d } = rooms(levels[l]);
    grid([p, a, b, c, d, s], (k, alpha, beta, gamma, delta, sigma) => {
      M[(k * a + alpha) * b + beta][(k * c + gamma) * d + delta]
        += L[(((k * b + beta) * c + gamma) * s + sigma) * a + alpha] * R[(((k * c + gamma) * d + delta) * b + beta) * s + sigma];
    });
  });
  return M;
};

const params = (levels) => levels.reduce((sum, [, c, b, s]) => sum + s * (b + c) * D, 0);
const free = (levels, fill) => levels.reduce((sum, level) => { // numbers that can be chosen
  const [, c, b, s] = level;
  const { a, d } = rooms(level);
  return sum + { free: s * (b + c) * D, equal: c * s * a + d * b * s, identity: c * s * D }[fill];
}, 0);
const maxRank = (levels) => Math.min(D, levels.reduce((sum, level) => {
  const [p, c, b, s] = level;
  const { a, d } = rooms(level);
  return sum + p * Math.min(c * Math.min(d, b * s), b * Math.min(a, c * s));
}, 0));
const universal = (levels) => levels.some((level) => level[0] === 1 && level[3] >= Math.min(...Object.values(rooms(level))));

// The families that hold a setting, the narrowest first.
const families = (levels, fill) => {
  if (levels.length > 1) {
    if (levels.every(([, c, b]) => c === 1 && b === 1)) {
      const ranks = levels.map((level) => level[3]).join(" | ");
      return levels.every(([p], l) => p === 2 ** l) ? [`MLR with ranks ${ranks}`, "MLBTC"] : ["a sum of block-diagonal matrices", "MLBTC"];
    }
    return levels.every(([p]) => p === 1) ? [`a sum of ${levels.length} BTT matrices`, "MLBTC"] : [`MLBTC of ${levels.length} levels`];
  }
  const [p, c, b, s] = levels[0];
  const { a, d } = rooms(levels[0]);
  const one = "one level of MLBTC";
  if (c === 1 && b === 1) {
    return p === 1 ? [`a matrix of rank ${s} at most`, "MLR of one level", one] : [`block diagonal, ${p} blocks of rank ${s} at most`, "a level of MLR", one];
  }
  const chain = [];
  if (fill === "identity" && s === 1 && c === 2 && b === d) chain.push(`butterfly factor B${Math.log2(b) + 1}`);
  if (p > 1) return [...chain, `${p} BTT matrices of rank ${s} along the diagonal`, one];
  if (fill === "equal") chain.push(s === 1 ? `a Kronecker product, (${a} × ${c}) ⊗ (${b} × ${d})` : `a sum of ${s} Kronecker products`);
  if (s === 1 && a === c) chain.push(`a Monarch matrix of ${c} blocks`);
  return [...chain, `BTT of rank ${s}, (${a}, ${b}) × (${c}, ${d})`, one];
};

// From one setting to another, one dial or one level a step, every step legal: down first, then up.
const path = (from, to) => {
  const steps = [];
  let now = from.map((level) => [...level]);
  const put = (next) => { now = next; steps.push(next); };
  const turn = (l, dial, value) => { if (now[l][dial] !== value) put(now.map((level, i) => level.map((one, j) => (i === l && j === dial ? value : one)))); };
  while (now.length > to.length) put(now.slice(0, -1));
  now.forEach((_, l) => [3, 1, 2, 0].forEach((dial) => turn(l, dial, Math.min(now[l][dial], to[l][dial]))));
  while (now.length < to.length) put([...now, [1, 1, 1, 1]]);
  to.forEach((level, l) => [0, 1, 2, 3].forEach((dial) => turn(l, dial, level[dial])));
  return steps;
};

export const compute = { legal, highest, numbers, permutations, matrices, dense, params, free, maxRank, universal, families, path };

const PRESETS = {
  "low rank": [[[1, 1, 1, 4]], "free"],
  "block diagonal": [[[4, 1, 1, 4]], "free"],
  "a level of MLR": [[[4, 1, 1, 1]], "free"],
  MLR: [[[1, 1, 1, 2], [2, 1, 1, 2], [4, 1, 1, 2]], "free"],
  Kronecker: [[[1, 4, 4, 1]], "equal"],
  Monarch: [[[1, 4, 4, 1]], "free"],
  BTT: [[[1, 4, 4, 2]], "free"],
  "butterfly factor": [[[4, 2, 2, 1]], "identity"],
};
const DIALS = [["Blocks", "p"], ["Input chunks", "c"], ["Output chunks", "b"], ["Rank", "s"]];
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const [WIDTH, ABOVE, GAP] = [640, 26, 14];

const STYLE_HERE = `
.fm-presets { display: flex; flex-wrap: wrap; gap: .35rem; }
.fm-presets button, .fm-levels button { padding: .2rem .55rem; font-size: .88rem; }
.fm-levels { display: flex; flex-wrap: wrap; gap: .5rem; align-items: end; }
.fm-dials { display: grid; grid-template-columns: 1fr 1fr; gap: .25rem 1rem; }
.fm-facts { display: grid; grid-template-columns: 1fr auto; gap: .15rem .75rem; margin: 0; font-variant-numeric: tabular-nums; }
.fm-facts dt { color: var(--muted); font-weight: 400; }
.fm-facts dd { margin: 0; text-align: end; font-weight: 600; }
.fm-form { max-inline-size: 22rem; }
.sx .fm-words .sx-words { min-block-size: 7em; }
`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const chosen = () => Math.min(get("level"), get("levels").length - 1);

    // Moving from one setting to the next
    let timer;
    const stop = () => { clearTimeout(timer); timer = undefined; };
    const go = ([levels, fill]) => {
      stop();
      const steps = path(get("levels"), levels);
      if (wantsLessMotion() || steps.length < 2) return set({ levels, fill, level: 0 });
      const step = () => {
        const next = steps.shift();
        set({ levels: next, fill: steps.length ? "free" : fill, level: clamp(get("level"), 0, next.length - 1) });
        timer = steps.length ? setTimeout(step, 450) : undefined;
      };
      step();
    };
    const presets = Object.entries(PRESETS).map(([name, setting]) => ({ setting, node: button(name, () => go(structuredClone(setting))) }));

    const change = (levels, more = {}) => { stop(); set({ levels, ...more }); };
    const dials = DIALS.map(([name, letter], dial) => slider({
      label: html("span", {}, `${name} `, html("i", {}, letter)),
      min: dial === 3 ? 1 : 0, max: 4, step: 1, format: (value) => String(dial === 3 ? value : 2 ** value),
      act: (value) => change(get("levels").map((level, l) => level.map((one, j) => (l === chosen() && j === dial ? (dial === 3 ? value : 2 ** value) : one))),
        get("fill") === "identity" ? { fill: "free" } : {}),
    }));
    const which = choices({ label: "Level on the dials", options: [[0, "1"], [1, "2"], [2, "3"]], act: (level) => { stop(); set({ level }); } });
    const options = [...which.node.querySelectorAll("label")];
    const add = button("Add a level", () => change([...get("levels"), [1, 1, 1, 1]], { level: get("levels").length }));
    const remove = button("Remove it", () => {
      const levels = get("levels").filter((_, l) => l !== chosen());
      change(levels, { level: Math.min(chosen(), levels.length - 1) });
    });
    const ties = choices({
      label: "The blocks", options: [["free", "free"], ["equal", "all equal"], ["identity", "R = identity"]],
      act: (fill) => { stop(); set({ fill }); },
    });
    const again = button("New numbers", () => set({ seed: (get("seed") + 1) % 2 ** 31 }));

    // The drawings
    const picture = (label) => svg("svg", { class: "sx-plot", role: "img", "aria-label": label });
    const product = picture("The four matrices of this level, left to right in the order of the equation");
    const form = picture("The matrix M");
    const cells = ({ entries }, size, [x, y], strongest) => {
      const group = svg("g", { transform: `translate(${x} ${y}) scale(${size})` });
      for (const [row, column, value] of entries) {
        if (value === 0) continue;
        const strength = clamp(0.15 + 0.85 * Math.abs(value) / strongest, 0, 1);
        group.append(svg("rect", { x: column + 0.04, y: row + 0.04, width: 0.92, height: 0.92, style: `fill: var(--${strongest === 0 ? "text" : value < 0 ? "low" : "high"}); opacity: ${strongest === 0 ? 0.85 : strength.toFixed(3)}` }));
      }
      return group;
    };
    const frame = (rows, columns, size, [x, y]) => svg("rect", { x, y, width: columns * size, height: rows * size, style: "fill: none; stroke: var(--muted); stroke-width: 1" });

    const drawProduct = (level, factors) => {
      const four = matrices(level, factors);
      const n = inner(level);
      const size = Math.min((WIDTH - 5 * GAP) / (2 * D + 2 * n), 9);
      const tall = Math.max(D, n) * size;
      let x = (WIDTH - 3 * GAP - size * (2 * D + 2 * n)) / 2;
      product.setAttribute("viewBox", `0 0 ${WIDTH} ${ABOVE + tall + GAP}`);
      const names = { PL: ["P", "L"], L: ["blocks L", ""], PR: ["P", "R"], R: ["blocks Rᵀ", ""] };
      product.replaceChildren(...Object.entries(four).flatMap(([key, matrix]) => {
        const corner = [x, ABOVE + (tall - matrix.rows * size) / 2];
        const strongest = key.startsWith("P") ? 0 : Math.max(1e-9, ...matrix.entries.map((entry) => Math.abs(entry[2])));
        const title = svg("text", { x: x + matrix.columns * size / 2, y: corner[1] - 7, "text-anchor": "middle", style: "font-size: 16px" },
          names[key][0], svg("tspan", { dy: 4, "font-size": 11 }, names[key][1]));
        x += matrix.columns * size + GAP;
        return [title, frame(matrix.rows, matrix.columns, size, corner), cells(matrix, size, corner, strongest)];
      }));
    };

    const drawForm = (levels, l, M) => {
      const size = 20;
      form.setAttribute("viewBox", `0 0 ${D * size + 16} ${D * size + 16}`);
      const strongest = Math.max(1e-9, ...M.flat().map(Math.abs));
      const entries = M.flatMap((row, i) => row.map((value, j) => [i, j, value]));
      const [p, , b] = levels[l];
      const { a, d } = rooms(levels[l]);
      const outline = Array.from({ length: a }, (_, alpha) => svg("rect", {
        x: 8, y: 8 + alpha * b * size, width: d * size, height: size, style: "fill: none; stroke: var(--accent-2); stroke-width: 3",
      }));
      const blocks = Array.from({ length: p }, (_, k) => svg("rect", {
        x: 8 + k * D * size / p, y: 8 + k * D * size / p, width: D * size / p, height: D * size / p, style: "fill: none; stroke: var(--text); stroke-width: 1.5",
      }));
      form.replaceChildren(frame(D, D, size, [8, 8]), cells({ entries }, size, [8, 8], strongest), ...blocks, ...outline);
    };

    const facts = ["Parameters", "of them free", "MACs for one vector", "Highest rank"].map((name) => ({ term: html("dt", {}, name), value: html("dd") }));
    const table = html("dl", { class: "fm-facts" }, ...facts.flatMap(({ term, value }) => [term, value]));
    const { node: spoken, say } = words();

    const draw = () => {
      const [levels, fill, seed] = ["levels", "fill", "seed"].map(get);
      const l = chosen();
      const level = levels[l];
      const [p, c, b, s] = level;
      const { a, d } = rooms(level);
      const all = numbers(levels, seed, fill);
      drawProduct(level, all[l]);
      drawForm(levels, l, dense(levels, seed, fill));
      dials.forEach((dial, i) => {
        const most = highest(level, i);
        dial.show(i === 3 ? level[i] : Math.log2(level[i]), { max: i === 3 ? most : Math.log2(most), disabled: most === 1 });
      });
      which.show(l);
      const row = which.node.querySelector("div");
      if (row.childElementCount !== levels.length) row.replaceChildren(...options.slice(0, levels.length));
      add.disabled = levels.length === 3;
      remove.disabled = levels.length === 1;
      ties.show(fill);
      for (const { node, setting } of presets) node.setAttribute("aria-pressed", same([levels, fill], setting));
      [params(levels), free(levels, fill), params(levels), maxRank(levels)].forEach((value, i) => { facts[i].value.textContent = String(value); });
      const chain = families(levels, fill);
      const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
      say(`M is ${chain.join(", hence ")}. ${levels.length > 1 ? `Level ${l + 1} of ${levels.length}` : "Its level"} has ${many(p, "block")}; `
        + `${p === 1 ? "it" : "each"} reads ${many(c, "chunk")} of ${d}, writes ${many(b, "chunk")} of ${a}, and carries ${many(s, "number")} from chunk to chunk. `
        + `${params(levels)} parameters, highest rank ${maxRank(levels)}.${universal(levels) && fill === "free" ? " With free blocks this setting holds every 16 × 16 matrix." : ""}`);
    };

    const head = html("p", { class: "sx-head" }, "M: red positive, blue negative. Framed: the diagonal blocks. Orange: one sub-block, from the first input chunk to the first output chunk; its rank is at most s in this level.");
    const close = stage({ model, el, names: ["levels", "level", "fill", "seed"], style: STYLE_HERE }, [
      html("div", { class: "sx-stack" },
        html("div", { class: "fm-presets", role: "group", "aria-label": "Families to start from" }, ...presets.map((preset) => preset.node)),
        product,
        html("div", { class: "sx-panels" },
          html("div", { class: "sx-stack fm-form" }, form, head),
          html("div", { class: "sx-stack" },
            html("div", { class: "fm-dials" }, ...dials.map((dial) => dial.node)),
            html("div", { class: "fm-levels" }, which.node, add, remove),
            html("div", { class: "fm-levels" }, ties.node, again), table,
            html("div", { class: "fm-words" }, spoken)))),
    ], draw);
    return () => { stop(); close(); };
  },
};
