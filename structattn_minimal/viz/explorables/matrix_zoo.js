// Chapter 4: six families of structured matrices at one width. Each point is a member; open one and see what it is.

const FAMILIES = ["low rank", "Kronecker", "Monarch", "butterfly", "BTT", "MLR"];
const LEVELS = { 16: 3, 64: 4 };
const TOTAL = { 16: 4, 64: 8 }; // of the MLR ranks, over all levels
const COLOURS = { "low rank": "var(--accent)", Kronecker: "var(--wrong)", Monarch: "var(--right)", butterfly: "var(--high)", BTT: "var(--low)", MLR: "var(--muted)" };
const range = (n, entry = (i) => i) => Array.from({ length: n }, (_, i) => entry(i));
const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

// What the size dial of each family can be set to, smallest first.
const sizesOf = (family, d) => {
  const powers = (low, high) => range(Math.log2(high / low) + 1, (k) => low * 2 ** k);
  const side = Math.sqrt(d);
  if (family === "low rank") return powers(1, d);
  if (family === "Kronecker") return powers(side, d / 2);
  if (family === "Monarch") return powers(2, d / 2);
  if (family === "butterfly") return [Math.log2(d)];
  if (family === "BTT") return powers(1, side);
  return range(LEVELS[d], (k) => k + 1);
};

const mlrRanks = (d, levels) => range(levels, (l) => Math.floor(TOTAL[d] / levels) + (l < TOTAL[d] % levels ? 1 : 0));

// a b = c e = d and the rank s of a block tensor train; Monarch is one of rank 1
const grid = (family, d, size) => {
  if (family === "Monarch") return { a: size, b: d / size, c: size, e: d / size, s: 1 };
  const side = Math.sqrt(d);
  return { a: side, b: side, c: side, e: side, s: size };
};

// Closed forms: parameters, multiply-accumulates for one vector, rank of almost every member.
const facts = (family, d, size) => {
  if (family === "low rank") return { params: 2 * d * size, macs: 2 * d * size, rank: Math.min(d, size) };
  if (family === "Kronecker") {
    const [n, m] = [size, d / size];
    return { params: n * n + m * m, macs: n * m * m + m * n * n, rank: d };
  }
  if (family === "butterfly") return { params: 2 * d * size, macs: 2 * d * size, rank: d };
  if (family === "MLR") {
    const ranks = mlrRanks(d, size);
    const params = 2 * d * TOTAL[d];
    return { params, macs: params, rank: Math.min(d, ranks.reduce((sum, r, l) => sum + r * 2 ** l, 0)) };
  }
  const { a, b, c, e, s } = grid(family, d, size);
  const params = s * b * c * (a + e);
  return { params, macs: params, rank: Math.min(c * Math.min(e, b * s), b * Math.min(a, c * s)) };
};

// The factors of a random member, as flat lists in the package's order, entries N(0, 1 / fan-in).
const draw = (family, d, size, seed) => {
  const { normals } = generator(seed);
  const factor = (n, fanIn) => normals(n).map((entry) => entry / Math.sqrt(fanIn));
  if (family === "low rank") return [factor(d * size, size), factor(d * size, d)];
  if (family === "Kronecker") return [factor(size * size, size), factor((d / size) ** 2, d / size)];
  if (family === "butterfly") return [factor(2 * d * size, 2)];
  if (family === "MLR") {
    const ranks = mlrRanks(d, size);
    return [...ranks.map((r) => factor(d * r, TOTAL[d])), ...ranks.map((r, l) => factor(d * r, d / 2 ** l))];
  }
  const { a, b, c, e, s } = grid(family, d, size);
  return [factor(c * e * b * s, e), factor(b * c * s * a, c * s)];
};

const dense = (family, d, size, factors) => {
  const M = range(d, () => new Array(d).fill(0));
  if (family === "low rank" || family === "MLR") {
    const ranks = family === "MLR" ? mlrRanks(d, size) : [size];
    ranks.forEach((r, l) => {
      const [U, V] = [factors[l], factors[l + ranks.length]];
      const width = d / 2 ** l;
      for (let i = 0; i < d; i++) {
        const first = i - (i % width);
        for (let j = first; j < first + width; j++) for (let k = 0; k < r; k++) M[i][j] += U[i * r + k] * V[j * r + k];
      }
    });
  } else if (family === "Kronecker") {
    const [A, B] = factors;
    const m = d / size;
    for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) M[i][j] = A[Math.floor(i / m) * size + Math.floor(j / m)] * B[(i % m) * m + (j % m)];
  } else if (family === "butterfly") {
    for (let i = 0; i < d; i++) M[i][i] = 1;
    range(size).forEach((k) => {
      const stride = 2 ** k;
      let n = 0;
      for (let i = 0; i < d; i++) {
        if (i & stride) continue;
        const [p, q, r, s] = factors[0].slice((k * d / 2 + n) * 4, (k * d / 2 + n) * 4 + 4);
        [M[i], M[i + stride]] = [M[i].map((x, j) => p * x + q * M[i + stride][j]), M[i].map((x, j) => r * x + s * M[i + stride][j])];
        n++;
      }
    });
  } else {
    const { a, b, c, e, s } = grid(family, d, size);
    const [R, L] = factors;
    for (let al = 0; al < a; al++) for (let be = 0; be < b; be++) for (let ga = 0; ga < c; ga++) for (let de = 0; de < e; de++) {
      let sum = 0;
      for (let k = 0; k < s; k++) sum += L[((be * c + ga) * s + k) * a + al] * R[((ga * e + de) * b + be) * s + k];
      M[al * b + be][ga * e + de] = sum;
    }
  }
  return M;
};

// One-sided Jacobi: turn pairs of rows until all are orthogonal; their lengths are the singular values.
const singularValues = (M) => {
  const A = M.map((row) => Float64Array.from(row));
  const n = A.length;
  const inner = (u, v) => { let sum = 0; for (let i = 0; i < n; i++) sum += u[i] * v[i]; return sum; };
  const floor = 1e-32 * Math.max(...A.map((row) => inner(row, row))); // a row this short counts as zero
  for (let sweep = 0; sweep < 40; sweep++) {
    let turned = false;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const [alpha, beta, gamma] = [inner(A[p], A[p]), inner(A[q], A[q]), inner(A[p], A[q])];
        if (Math.min(alpha, beta) <= floor || Math.abs(gamma) <= 1e-14 * Math.sqrt(alpha * beta)) continue;
        turned = true;
        const zeta = (beta - alpha) / (2 * gamma);
        const tan = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const cos = 1 / Math.hypot(1, tan);
        const sin = cos * tan;
        for (let i = 0; i < n; i++) [A[p][i], A[q][i]] = [cos * A[p][i] - sin * A[q][i], sin * A[p][i] + cos * A[q][i]];
      }
    }
    if (!turned) break;
  }
  return A.map((row) => Math.sqrt(inner(row, row))).sort((x, y) => y - x);
};

const numericalRank = (values) => values.filter((value) => value > 1e-11 * values[0]).length;

const members = (d) => FAMILIES.flatMap((family) => sizesOf(family, d).map((size, dial) => ({ family, dial, size, ...facts(family, d, size) })));

export const compute = { FAMILIES, sizesOf, mlrRanks, grid, facts, draw, dense, singularValues, numericalRank, members };

const STYLE_HERE = `
.mz-top { margin-block-end: .75rem; }
.mz-pattern { inline-size: 100%; aspect-ratio: 1; image-rendering: pixelated; border: 1px solid var(--border); border-radius: .4rem; background: var(--ground); display: block; }
.mz-facts { display: grid; grid-template-columns: repeat(4, auto); gap: .1rem .75rem; margin: 0; justify-content: space-between; }
.mz-facts :is(dt, dd) { white-space: nowrap; }
.mz-facts dt { font-size: .85rem; color: var(--muted); font-weight: 400; grid-row: 1; }
.sx dl.mz-facts div > dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; font-size: 1.15rem; }
.mz-key { display: flex; flex-wrap: wrap; gap: .2rem .9rem; margin: 0; padding: 0; list-style: none; font-size: .88rem; }
.mz-key svg { inline-size: 14px !important; display: inline-block !important; vertical-align: -2px; margin-inline-end: .3rem; }
`;

const DEFINITIONS = {
  "low rank": (d, r) => `U V^T with ${r} ${r === 1 ? "column" : "columns"} in each factor`,
  Kronecker: (d, n) => `A ⊗ B: every block is the same ${d / n} × ${d / n} matrix B, times an entry of a ${n} × ${n} matrix A`,
  Monarch: (d, n) => `two block-diagonal factors around a stride permutation, ${n} blocks of ${d / n} × ${d / n} on the right and ${d / n} of ${n} × ${n} on the left`,
  butterfly: (d, n) => `${n} sparse factors with two entries a row, mixing entries 1, 2, 4, … apart`,
  BTT: (d, s) => `two block-diagonal factors and ${s} ${s === 1 ? "number" : "numbers"} handed from each block on the right to each block on the left${s === 1 ? "; this is Monarch" : s === Math.sqrt(d) ? "; this can be any matrix, with more parameters than it has entries" : ""}`,
  MLR: (d, levels) => `${levels === 1 ? "one level, which is low rank" : `${levels} levels of diagonal blocks, twice as many from level to level`}, ranks ${mlrRanks(d, levels).join(" | ")}`,
};
const DIALS = { "low rank": "rank r", Kronecker: "size of A", Monarch: "blocks", butterfly: "factors (fixed)", BTT: "rank s", MLR: "levels" };

// A mark for each family, told apart without colour
const mark = (family, x, y, size, attributes) => {
  const k = size;
  const paths = {
    "low rank": `M${x - k} ${y}a${k} ${k} 0 1 0 ${2 * k} 0a${k} ${k} 0 1 0 ${-2 * k} 0z`,
    Kronecker: `M${x - k} ${y - k}h${2 * k}v${2 * k}h${-2 * k}z`,
    Monarch: `M${x} ${y - 1.3 * k}l${1.3 * k} ${1.3 * k}l${-1.3 * k} ${1.3 * k}l${-1.3 * k} ${-1.3 * k}z`,
    butterfly: `M${x - 1.2 * k} ${y - k}l${2.4 * k} ${2 * k}v${-2 * k}l${-2.4 * k} ${2 * k}z`,
    BTT: `M${x} ${y - 1.3 * k}l${1.3 * k} ${2.3 * k}h${-2.6 * k}z`,
    MLR: `M${x - 0.4 * k} ${y - 1.3 * k}h${0.8 * k}v${0.9 * k}h${0.9 * k}v${0.8 * k}h${-0.9 * k}v${0.9 * k}h${-0.8 * k}v${-0.9 * k}h${-0.9 * k}v${-0.8 * k}h${0.9 * k}z`,
  };
  return svg("path", { d: paths[family], style: `fill: ${COLOURS[family]}; stroke: var(--ground); stroke-width: 1`, ...attributes });
};

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const open = ({ family, dial }) => set({ family, dial });

    const families = choices({ label: "Family", options: FAMILIES.map((name) => [name, name]), act: (family) => set({ family, dial: Math.min(get("dial"), sizesOf(family, get("d")).length - 1) }) });
    const dialName = html("span");
    const dial = slider({ label: dialName, min: 0, max: 6, step: 1, act: (value) => set({ dial: value }) });
    const widths = choices({ label: "Width D", options: [[16, "16"], [64, "64"]], act: (d) => set({ d, dial: Math.min(get("dial"), sizesOf(get("family"), d).length - 1) }) });
    const again = button("Another member", () => set({ seed: (get("seed") + 1) % 2 ** 31 }));

    const pattern = html("canvas", { class: "mz-pattern", role: "img" });
    const paint = (M, d) => {
      pattern.width = d;
      pattern.height = d;
      const pen = pattern.getContext("2d");
      const image = pen.createImageData(d, d);
      const sorted = M.flat().map(Math.abs).sort((x, y) => x - y);
      const most = sorted[Math.floor(0.99 * (sorted.length - 1))] || 1;
      const dark = getComputedStyle(pattern.closest(".sx")).colorScheme === "dark";
      const [low, high] = dark ? [[20, 25, 31], [243, 185, 80]] : [[255, 255, 255], [20, 70, 120]];
      M.forEach((row, i) => row.forEach((entry, j) => {
        const share = Math.min(1, Math.abs(entry) / most) ** 0.7;
        image.data.set([...low.map((from, k) => from + share * (high[k] - from)), 255], 4 * (i * d + j));
      }));
      pen.putImageData(image, 0, 0);
    };

    // singular values on a logarithmic axis
    const [W, H] = [380, 210];
    const spectrum = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "sx-plot", role: "img" });
    const drawSpectrum = (values, rank, d) => {
      const across = (i) => 52 + (W - 68) * i / (d - 1);
      const down = (share) => 14 + (H - 58) * Math.min(4, -Math.log10(Math.max(share, 1e-30))) / 4;
      spectrum.replaceChildren(
        ...[0, 1, 2, 3, 4].flatMap((power) => [
          svg("line", { x1: 46, x2: W - 10, y1: down(10 ** -power), y2: down(10 ** -power), style: "stroke: var(--grid)" }),
          svg("text", { x: 42, y: down(10 ** -power) + 4, "text-anchor": "end", class: "quiet" }, power === 0 ? "1" : power === 4 ? "≤ 10⁻⁴" : (10 ** -power).toFixed(power))]),
        ...[1, d / 4, d / 2, 3 * d / 4, d].map((n) => svg("text", { x: across(n - 1), y: H - 26, "text-anchor": "middle", class: "quiet" }, n)),
        svg("text", { x: W / 2, y: H - 8, "text-anchor": "middle" }, "singular values σₙ / σ₁, against n"),
        ...values.map((value, i) => svg("circle", { cx: across(i), cy: down(value / values[0]), r: d > 16 ? 2.6 : 4, style: i < rank ? "fill: var(--accent)" : "fill: none; stroke: var(--muted)" })));
      spectrum.setAttribute("aria-label", `Singular values: ${rank} of ${d} are not zero; the middle one of these is ${(values[Math.floor(rank / 2)] / values[0]).toPrecision(2)} of the largest`);
    };

    // every member as a point: parameters across, rank up, both logarithmic
    const [SW, SH] = [380, 250];
    const points = svg("g");
    const ring = svg("g", { class: "handle", role: "slider", "aria-label": "member of the zoo", "aria-valuemin": 1 }, svg("circle", { r: 13, style: "fill: transparent; stroke: var(--accent-2); stroke-width: 2.5" }), svg("circle", { r: 17, class: "ring" }));
    const map = svg("svg", { viewBox: `0 0 ${SW} ${SH}`, class: "sx-plot", role: "group", style: "cursor: pointer" }, points, ring);
    const place = (d, { params, rank }) => {
      const [few, many] = [Math.log2(1.4 * d), Math.log2(2.4 * d * d)];
      return [48 + (SW - 64) * (Math.log2(params) - few) / (many - few), SH - 52 - (SH - 84) * Math.log2(rank) / Math.log2(d)];
    };
    const zoo = () => members(get("d"));
    const current = (all) => all.findIndex((one) => one.family === get("family") && one.dial === get("dial"));
    // the nearest point; where several lie together, the one after the one that is open
    const openAt = (x, y) => {
      const all = zoo();
      const far = all.map((one) => { const [px, py] = place(get("d"), one); return Math.hypot(px - x, py - y); });
      const least = Math.min(...far);
      const near = all.filter((_, i) => far[i] < least + 0.5);
      const now = near.findIndex((one) => one.family === get("family") && one.dial === get("dial"));
      open(near[(now + 1) % near.length]);
    };
    const pick = (event) => openAt(...pointerIn(map, event));
    map.addEventListener("click", (event) => { if (!ring.contains(event.target)) pick(event); });
    movable(ring, {
      act: (dx, dy) => {
        const family = (FAMILIES.indexOf(get("family")) - dy + FAMILIES.length) % FAMILIES.length;
        const sizes = sizesOf(FAMILIES[family], get("d")).length;
        open({ family: FAMILIES[family], dial: clamp(get("dial") + dx, 0, sizes - 1) });
      },
      to: pick,
      click: () => { const all = zoo(); openAt(...place(get("d"), all[current(all)])); },
    });
    const drawMap = (all, d) => {
      const shown = get("family");
      const ticks = d === 16 ? [32, 128, 512] : [128, 1024, 8192];
      const ranks = d === 16 ? [1, 4, 16] : [1, 8, 64];
      const full = place(d, { params: d * d, rank: d });
      points.replaceChildren(
        ...ticks.map((params) => svg("text", { x: place(d, { params, rank: 1 })[0], y: SH - 26, "text-anchor": "middle", class: "quiet" }, thousands(params))),
        ...ranks.flatMap((rank) => {
          const y = place(d, { params: d, rank })[1];
          return [svg("line", { x1: 42, x2: SW - 8, y1: y, y2: y, style: "stroke: var(--grid)" }), svg("text", { x: 38, y: y + 4, "text-anchor": "end", class: "quiet" }, rank)];
        }),
        svg("line", { x1: full[0], x2: full[0], y1: 26, y2: SH - 44, style: "stroke: var(--muted); stroke-dasharray: 3 4" }),
        svg("text", { x: full[0] - 4, y: SH - 56, "text-anchor": "end", class: "quiet" }, "dense"),
        svg("text", { x: SW / 2, y: SH - 8, "text-anchor": "middle" }, "parameters"),
        svg("text", { x: 8, y: 15 }, "rank"),
        ...FAMILIES.map((family) => svg("path", { d: `M${all.filter((one) => one.family === family).map((one) => place(d, one).join(" ")).join("L")}`, style: `fill: none; stroke: ${COLOURS[family]}; stroke-width: 1.3; opacity: ${family === shown ? 0.9 : 0.25}` })),
        ...all.map((one) => mark(one.family, ...place(d, one), one.family === shown ? 6 : 5, {})));
      const at = current(all);
      const [x, y] = place(d, all[at]);
      points.append(mark(shown, x, y, 7.5, {}));
      ring.setAttribute("transform", `translate(${x} ${y})`);
      ring.setAttribute("aria-valuemax", all.length);
      ring.setAttribute("aria-valuenow", at + 1);
      ring.setAttribute("aria-valuetext", `${shown}, ${DIALS[shown]} ${all[at].size}: ${all[at].params} parameters, rank ${all[at].rank}`);
      map.setAttribute("aria-label", `All ${all.length} members by parameters and rank; arrow keys on the open one go to its neighbours`);
    };

    const values = ["parameters", "of dense", "MACs", "rank"].map((name) => [name, html("dd")]);
    const table = html("dl", { class: "mz-facts" }, ...values.map(([name, value]) => html("div", {}, html("dt", {}, name), value)));
    const key = html("ul", { class: "mz-key" }, ...FAMILIES.map((family) => html("li", {}, svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, mark(family, 8, 8, 5, {})), family)));
    const { node: spoken, say } = words();

    let last = null; // the member whose numbers are shown
    const drawAll = () => {
      const [family, d, seed] = ["family", "d", "seed"].map(get);
      const sizes = sizesOf(family, d);
      const at = clamp(get("dial"), 0, sizes.length - 1);
      if (at !== get("dial")) { set({ dial: at }); return; }
      const size = sizes[at];
      const { params, macs, rank } = facts(family, d, size);
      const M = dense(family, d, size, draw(family, d, size, seed));
      last = { M, d };
      const sigma = singularValues(M);
      families.show(family);
      widths.show(d);
      dialName.textContent = `Size: ${DIALS[family]}`;
      dial.show(at, { max: Math.max(1, sizes.length - 1), disabled: sizes.length === 1 });
      const shown = family === "MLR" ? `${size} (${mlrRanks(d, size).join(" | ")})` : String(size);
      dial.node.querySelector("output").textContent = shown;
      dial.input.setAttribute("aria-valuetext", shown);
      paint(M, d);
      pattern.setAttribute("aria-label", `Sizes of the ${d} × ${d} entries of a random member: ${DEFINITIONS[family](d, size)}`);
      drawSpectrum(sigma, numericalRank(sigma), d);
      drawMap(zoo(), d);
      [thousands(params), `${Math.round(100 * params / d ** 2)} %`, thousands(macs), rank].forEach((text, i) => { values[i][1].textContent = text; });
      const against = params > d * d ? "more than a dense matrix" : `${Math.round(100 * params / d ** 2)} % of a dense matrix`;
      say(`${family[0].toUpperCase()}${family.slice(1)} at D = ${d}: ${DEFINITIONS[family](d, size)}. ${thousands(params)} parameters, ${against}; ${thousands(macs)} MACs for a vector; rank ${rank} of ${d}. The darker, or on a dark page the brighter, an entry of the picture, the larger it is.`);
    };

    const repaint = () => { if (last) paint(last.M, last.d); };
    const end = stage({ model, el, names: ["family", "dial", "d", "seed"], style: STYLE_HERE }, [
      html("div", { class: "sx-stack mz-top" }, families.node, html("div", { class: "sx-row" }, dial.node, widths.node, again)),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, pattern, table),
        html("div", { class: "sx-stack" }, spectrum, map, key)),
      spoken,
    ], drawAll);
    const watch = new MutationObserver(repaint); // the picture has the theme's colours
    for (const node of [document.documentElement, document.body]) watch.observe(node, { attributes: true });
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", repaint);
    return () => { end(); watch.disconnect(); scheme.removeEventListener("change", repaint); };
  },
};
