// Chapter 2: points on the sphere in R^d look for their nearest neighbour with a score of rank r, x^T P_r x'.

const SIZE = 380;
const RADIUS = 158;
const MOST = 16; // dimensions

const sphere = (n, d, seed) => {
  const { normals } = generator(seed);
  return Array.from({ length: n }, () => {
    const point = normals(d);
    const length = Math.sqrt(dot(point, point));
    return point.map((entry) => entry / length);
  });
};

// Eigenvectors of a symmetric matrix, largest eigenvalue first: Jacobi's rotations.
const eigenvectors = (symmetric) => {
  const A = symmetric.map((row) => [...row]);
  const n = A.length;
  const V = A.map((_, i) => A.map((_, j) => Number(i === j))); // rows become the eigenvectors
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        off += A[p][q] ** 2;
        if (Math.abs(A[p][q]) < 1e-300) continue;
        const theta = (A[q][q] - A[p][p]) / (2 * A[p][q]);
        const tan = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const cos = 1 / Math.hypot(tan, 1);
        const sin = tan * cos;
        for (const row of A) [row[p], row[q]] = [cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]];
        for (const M of [A, V]) {
          for (let j = 0; j < n; j++) [M[p][j], M[q][j]] = [cos * M[p][j] - sin * M[q][j], sin * M[p][j] + cos * M[q][j]];
        }
      }
    }
    if (off < 1e-28) break;
  }
  return A.map((_, i) => i).sort((i, j) => A[j][j] - A[i][i]).map((i) => V[i]);
};

// An orthonormal basis of R^d whose first r vectors span what a form of rank r sees.
const directions = (points, projection, seed) => {
  const d = points[0].length;
  if (projection === "best") {
    const spread = Array.from({ length: d }, (_, a) => Array.from({ length: d }, (_, b) => points.reduce((sum, x) => sum + x[a] * x[b], 0)));
    return eigenvectors(spread);
  }
  const { normals } = generator(seed ^ 0x5bd1e995);
  return orthonormal(Array.from({ length: d }, () => normals(d)));
};

const lowRankScores = (points, basis, r) => {
  const seen = points.map((x) => basis.slice(0, r).map((unit) => dot(unit, x)));
  return seen.map((q) => seen.map((k) => dot(q, k)));
};

const nearest = (table) => table.map((row, i) => row.reduce((best, score, j) => (j !== i && (best < 0 || score > row[best]) ? j : best), -1));

const accuracies = (points, basis) => {
  const truth = nearest(points.map((q) => points.map((k) => dot(q, k))));
  return basis.map((_, i) => nearest(lowRankScores(points, basis, i + 1)).filter((found, q) => found === truth[q]).length / points.length);
};

export const compute = { generator, sphere, orthonormal, eigenvectors, directions, lowRankScores, nearest, accuracies };

const STYLE_HERE = `
.rs-top { margin-block-end: .75rem; column-gap: 1.5rem; }
.rs-share { margin: 0; font-size: 1.05rem; }
.rs-share b { font-size: 1.9rem; line-height: 1; font-variant-numeric: tabular-nums; }
.rs-units { display: flex; flex-wrap: wrap; gap: 3px; }
.rs-units span { inline-size: 12px; block-size: 12px; border-radius: 50%; background: var(--right); }
.rs-units span.wrong { background: none; border: 3px solid var(--wrong); border-radius: 2px; }
.rs-key { display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
.rs-key span::before { content: ""; display: inline-block; inline-size: 1.4rem; border-block-start: 3px solid var(--right); margin-inline-end: .4rem; vertical-align: middle; }
.rs-key span.wrong::before { border-block-start: 3px dashed var(--wrong); }
.rs-key.marks span::before { content: "●"; color: var(--right); inline-size: auto; border: 0; vertical-align: baseline; }
.rs-key.marks span.wrong::before { content: "✕"; color: var(--wrong); font-weight: 700; }
`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    let yaw = 0.5;
    let pitch = 0.35;
    let spinning = !wantsLessMotion();
    let shown; // points, basis, scores, neighbours: what the drawings need

    const dimension = slider({ label: html("span", {}, "Dimension ", html("i", {}, "d")), min: 2, max: MOST, step: 1, act: (d) => set({ d, r: Math.min(get("r"), d) }) });
    const rank = slider({ label: html("span", {}, "Rank of the form ", html("i", {}, "r")), min: 1, max: MOST, step: 1, act: (r) => set({ r }) });
    const count = slider({ label: "Points", min: 8, max: 64, step: 4, act: (n) => set({ n }) });
    const projection = choices({ label: "The r directions it sees", options: [["random", "random"], ["best", "widest spread"]], act: (value) => set({ projection: value }) });
    const view = choices({ label: "Show", options: [["sphere", "sphere, d ≤ 3"], ["scores", "scores"]], act: (value) => set(value === "sphere" && get("d") > 3 ? { view: value, d: 3, r: Math.min(get("r"), 3) } : { view: value }) });
    const again = button("New points", () => set({ seed: (get("seed") + 1) % 2 ** 31 }));
    const spin = button("Rotate", () => { spinning = !spinning; spin.setAttribute("aria-pressed", spinning); tick(); });

    const picture = svg("g");
    const turnable = svg("g", { class: "handle", role: "slider", "aria-label": "turn the sphere", "aria-valuemin": -180, "aria-valuemax": 180 },
      svg("circle", { cx: SIZE / 2, cy: SIZE / 2, r: RADIUS + 8, fill: "transparent" }), svg("circle", { cx: SIZE / 2, cy: SIZE / 2, r: RADIUS + 8, class: "ring" }));
    const canvas = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "sx-plot", role: "group" }, picture, turnable);
    let from = null;
    const stop = () => { spinning = false; spin.setAttribute("aria-pressed", false); };
    movable(turnable, {
      act: (dx, dy) => { stop(); yaw += 0.15 * dx; pitch = clamp(pitch + 0.15 * dy, -1.5, 1.5); drawPicture(); },
      to: (event) => {
        stop();
        if (from) { yaw += (event.clientX - from.x) / 120; pitch = clamp(pitch + (event.clientY - from.y) / 120, -1.5, 1.5); }
        from = { x: event.clientX, y: event.clientY };
        drawPicture();
      },
    });
    turnable.addEventListener("pointerup", () => { from = null; });

    // x to the right, y up, z towards the eye
    const seenFrom = ([x, y, z = 0]) => {
      const [a, c] = [x * Math.cos(yaw) + z * Math.sin(yaw), z * Math.cos(yaw) - x * Math.sin(yaw)];
      return [SIZE / 2 + RADIUS * a, SIZE / 2 - RADIUS * (y * Math.cos(pitch) - c * Math.sin(pitch)), c * Math.cos(pitch) + y * Math.sin(pitch)];
    };
    const circleThrough = (u, v) => {
      const steps = Array.from({ length: 73 }, (_, i) => i * Math.PI / 36);
      return `M${steps.map((t) => seenFrom(u.map((entry, i) => entry * Math.cos(t) + v[i] * Math.sin(t))).slice(0, 2).map((place) => place.toFixed(1)).join(" ")).join("L")}`;
    };
    const dash = (right) => (right ? {} : { "stroke-dasharray": "5 4" });
    const colour = (right) => `var(--${right ? "right" : "wrong"})`;

    const drawSphere = ({ points, basis, truth, found, r }) => {
      const d = points[0].length;
      const e = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
      const outline = d === 3 ? [svg("circle", { cx: SIZE / 2, cy: SIZE / 2, r: RADIUS, style: "fill: var(--surface); stroke: var(--border)" })] : [];
      const rims = (d === 3 ? [[0, 1], [0, 2], [1, 2]] : [[0, 1]]).map(([a, b]) => svg("path", { d: circleThrough(e[a], e[b]), style: "fill: none; stroke: var(--grid); stroke-width: 1.5" }));
      const axis = (unit, label, attributes) => {
        const [x1, y1] = seenFrom(unit.map((entry) => -1.12 * entry));
        const [x2, y2] = seenFrom(unit.map((entry) => 1.12 * entry));
        const edge = x2 > SIZE / 2 ? "end" : "start";
        return [svg("line", { x1, y1, x2, y2, style: "stroke: var(--accent); stroke-width: 2; opacity: .7", ...attributes }),
          svg("text", { x: clamp(x2, 4, SIZE - 4), y: clamp(y2 - 6, 14, SIZE - 6), "text-anchor": edge, style: "fill: var(--accent)" }, label)];
      };
      const axes = r === d ? [] : r === 1 ? axis(basis[0], "seen") : axis(basis[2], "not seen", { "stroke-dasharray": "2 5" });
      const places = points.map(seenFrom);
      const depth = (i) => 0.5 + 0.5 * places[i][2];
      const links = places.map(([x1, y1], i) => {
        const [x2, y2] = places[found[i]];
        const right = found[i] === truth[i];
        return svg("line", { x1, y1, x2, y2, style: `stroke: ${colour(right)}; stroke-width: 2.2; opacity: ${0.3 + 0.35 * (depth(i) + depth(found[i]))}`, ...dash(right) });
      });
      const order = places.map((_, i) => i).sort((i, j) => places[i][2] - places[j][2]);
      const dots = order.map((i) => svg("circle", { cx: places[i][0], cy: places[i][1], r: 3 + 2.5 * depth(i), style: `fill: ${colour(found[i] === truth[i])}; opacity: ${0.35 + 0.65 * depth(i)}; stroke: var(--ground)` }));
      return [...outline, ...rims, ...axes, ...links, ...dots];
    };

    const drawScores = ({ truthScores, lowScores, truth, found }) => {
      const [low, high] = [48, SIZE - 14];
      const across = (s) => low + (high - low) * (s + 1) / 2;
      const down = (s) => SIZE - 44 - (SIZE - 60) * (s + 1) / 2;
      const spot = (i, j) => [across(truthScores[i][j]), down(lowScores[i][j])];
      const line = (x1, y1, x2, y2, style) => svg("line", { x1: across(x1), y1: down(y1), x2: across(x2), y2: down(y2), style });
      const ticks = [-1, 0, 1].flatMap((s) => [
        line(s, -1, s, 1, "stroke: var(--grid)"), line(-1, s, 1, s, "stroke: var(--grid)"),
        svg("text", { x: across(s), y: SIZE - 27, "text-anchor": "middle", class: "quiet" }, signed(s, 0)),
        svg("text", { x: low - 6, y: down(s) + 4, "text-anchor": "end", class: "quiet" }, signed(s, 0))]);
      const cloud = truth.flatMap((_, i) => truth.slice(0, i).map((_, j) => `M${spot(i, j).map((place) => place.toFixed(1)).join(" ")}h0`)).join("");
      const marks = found.map((j, i) => {
        const [x, y] = spot(i, j);
        return j === truth[i]
          ? svg("circle", { cx: x, cy: y, r: 5, style: "fill: var(--right); stroke: var(--ground)" })
          : svg("path", { d: `M${x - 4.5} ${y - 4.5}l9 9m0 -9l-9 9`, style: "stroke: var(--wrong); stroke-width: 3; fill: none" });
      });
      return [...ticks, line(-1, -1, 1, 1, "stroke: var(--muted); stroke-dasharray: 4 4"),
        svg("path", { d: cloud, style: "stroke: var(--muted); stroke-width: 3.2; stroke-linecap: round; opacity: .45" }), ...marks,
        svg("text", { x: (low + high) / 2, y: SIZE - 8, "text-anchor": "middle" }, "true score x · x′"),
        svg("text", { transform: `translate(15 ${SIZE / 2 - 14}) rotate(-90)`, "text-anchor": "middle" }, "score of rank r")];
    };

    const drawPicture = () => {
      const isSphere = shown.view === "sphere";
      picture.replaceChildren(...(isSphere ? drawSphere(shown) : drawScores(shown)));
      key.className = `sx-head rs-key ${isSphere ? "" : "marks"}`;
      turnable.style.display = isSphere ? "" : "none";
      spin.style.display = isSphere ? "" : "none";
      const degrees = Math.round(yaw * 180 / Math.PI);
      turnable.setAttribute("aria-valuenow", ((degrees + 180) % 360 + 360) % 360 - 180);
      turnable.setAttribute("aria-valuetext", `turned by ${degrees} degrees, tilted by ${Math.round(pitch * 180 / Math.PI)}`);
      canvas.setAttribute("aria-label", isSphere ? "The points, each joined to the neighbour it chose" : "Each pair's score of rank r against its true score");
    };

    // The share that is right, against the rank
    const [W, H] = [380, 190];
    const curve = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "sx-plot", role: "img" });
    const drawCurve = ({ d, r, n, curves, kind }) => {
      const across = (rank) => 52 + (W - 72) * (d === 1 ? 0 : (rank - 1) / (d - 1));
      const down = (share) => H - 40 - (H - 56) * share;
      const path = (shares) => `M${shares.map((share, i) => `${across(i + 1)} ${down(share)}`).join("L")}`;
      const every = d > 8 ? 2 : 1;
      const labels = Array.from({ length: d }, (_, i) => i + 1).filter((rank) => rank === d || (rank % every === 0 && rank < d - every + 1) || rank === 1);
      const other = kind === "best" ? "random" : "best";
      const now = [across(r), down(curves[kind][r - 1])];
      curve.replaceChildren(
        ...[0, 0.5, 1].flatMap((share) => [
          svg("line", { x1: 52, x2: W - 20, y1: down(share), y2: down(share), style: "stroke: var(--grid)" }),
          svg("text", { x: 46, y: down(share) + 4, "text-anchor": "end", class: "quiet" }, `${100 * share} %`)]),
        ...labels.map((rank) => svg("text", { x: across(rank), y: H - 22, "text-anchor": "middle", class: "quiet" }, rank)),
        svg("text", { x: W / 2, y: H - 6, "text-anchor": "middle" }, "rank r"),
        svg("line", { x1: 52, x2: W - 20, y1: down(1 / (n - 1)), y2: down(1 / (n - 1)), style: "stroke: var(--muted); stroke-dasharray: 2 4" }),
        svg("path", { d: path(curves[other]), style: "fill: none; stroke: var(--muted); stroke-width: 1.5; opacity: .55" }),
        svg("path", { d: path(curves[kind]), style: "fill: none; stroke: var(--accent); stroke-width: 2.5" }),
        ...curves[kind].map((share, i) => svg("circle", { cx: across(i + 1), cy: down(share), r: 3, style: "fill: var(--accent)" })),
        svg("line", { x1: now[0], x2: now[0], y1: now[1], y2: down(0), style: "stroke: var(--accent-2); stroke-width: 1.5" }),
        svg("circle", { cx: now[0], cy: now[1], r: 7, style: "fill: var(--accent-2); stroke: var(--ground); stroke-width: 2" }));
      curve.setAttribute("aria-label", `Share of right neighbours against the rank, from 1 to ${d}: ${curves[kind].map((share) => `${Math.round(100 * share)} %`).join(", ")}`);
    };

    const key = html("p", {}, html("span", {}, "chose the true neighbour"), html("span", { class: "wrong" }, "chose another"));
    const share = html("p", { class: "rs-share" });
    const units = html("div", { class: "rs-units", "aria-hidden": "true" });
    const { node: spoken, say } = words();

    const draw = () => {
      const [d, n, seed, kind] = ["d", "n", "seed", "projection"].map(get);
      const r = Math.min(get("r"), d);
      const points = sphere(n, d, seed);
      const bases = { random: directions(points, "random", seed), best: directions(points, "best", seed) };
      const truthScores = points.map((q) => points.map((k) => dot(q, k)));
      const lowScores = lowRankScores(points, bases[kind], r);
      const [truth, found] = [nearest(truthScores), nearest(lowScores)];
      const right = found.filter((one, i) => one === truth[i]).length;
      shown = { points, basis: bases[kind], truthScores, lowScores, truth, found, r, view: d > 3 ? "scores" : get("view") };
      dimension.show(d);
      rank.show(r, { max: d });
      count.show(n);
      projection.show(kind);
      view.show(shown.view);
      spin.setAttribute("aria-pressed", spinning);
      share.replaceChildren(html("b", {}, `${right} of ${n}`), " find their nearest neighbour");
      units.replaceChildren(...found.map((one, i) => html("span", { class: one === truth[i] ? "" : "wrong" })));
      drawPicture();
      drawCurve({ d, r, n, curves: { random: accuracies(points, bases.random), best: accuracies(points, bases.best) }, kind });
      const sees = r === d ? "It sees every direction, and its scores are the true ones." : `It is blind to ${d - r} of ${d} directions, and points that differ along ${d - r === 1 ? "it" : "them"} look alike.`;
      say(`On the sphere in ${d} dimensions, a form of rank ${r} sends ${right} of ${n} points to their true nearest neighbour. ${sees} In the curve: dotted, guessing; pale, the other choice of directions.`);
    };

    // The sphere turns while it can be seen, until somebody takes hold of it
    let visible = true;
    let frame = 0;
    let last = 0;
    const tick = (now = 0) => {
      cancelAnimationFrame(frame);
      if (!spinning || !visible || !shown || shown.view !== "sphere") { last = 0; return; }
      if (last && now) yaw += 0.25 * Math.min(0.1, (now - last) / 1000);
      last = now;
      drawPicture();
      frame = requestAnimationFrame(tick);
    };
    const watch = new IntersectionObserver(([entry]) => { visible = entry.isIntersecting; tick(); });

    const end = stage({ model, el, names: ["d", "r", "n", "seed", "projection", "view"], style: STYLE_HERE }, [
      html("div", { class: "sx-row rs-top" }, rank.node, dimension.node),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, canvas,
          key,
          html("div", { class: "sx-row" }, view.node, spin)),
        html("div", { class: "sx-stack" }, share, units, curve, projection.node, html("div", { class: "sx-row" }, count.node, again))),
      spoken,
    ], () => { draw(); tick(); });
    watch.observe(canvas);
    return () => { end(); watch.disconnect(); cancelAnimationFrame(frame); };
  },
};
