// Chapter 11: what a model of in-context regression costs, and what rank its heads get for it.

const KINDS = { standard: "standard", btt: "BTT", mlr: "MLR" };
const WIDTHS = [32, 64, 128, 256, 512];
const [NOT_YET, WIDER] = [0, 1024];
const LAYERS = 6;
const PARTS = { projections: "projections", scores: "scores", values: "values", feedForward: "feed-forward", ends: "read-in and read-out" };

const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);

// Four equal levels share the head dimension; 64 is divided as in the record.
const mlrRanks = (r) => (r === 64 ? [16, 16, 12, 8, 8, 4] : Array(4).fill(r / 4));
const features = (ranks) => total(ranks.map((rank, l) => 2 ** l * rank)); // sum of p_l r_l

const balanced = (width) => {
  let found = 1;
  for (let i = 1; i * i <= width; i++) if (width % i === 0) found = i;
  return found;
};

// The highest rank of a head's form, query and key parameters of a layer, MACs of the whole model a token.
const budget = ({ kind, d, width: D, heads: H }) => {
  const [T, r] = [4 * d, D / H];
  const summed = { standard: r, btt: D, mlr: features(mlrRanks(r)) }[kind]; // features of a head's dot product
  const b = balanced(D);
  const queryKey = kind === "btt" ? 2 * H * b * D : 2 * D * D;
  return {
    rank: kind === "btt" ? b * b : Math.min(D, summed), // b c numbers between the factors: all D where D is a square
    queryKey,
    macs: {
      projections: LAYERS * (queryKey + 2 * D * D), scores: LAYERS * T * H * summed, values: LAYERS * T * D,
      feedForward: LAYERS * 8 * D * D, ends: D * (d + 1),
    },
  };
};

export const compute = { budget, mlrRanks };

const STYLE_HERE = `
.wb-table :is(th, td) { padding-inline: .2rem; }
.wb-table tbody th { white-space: nowrap; }
.wb-table tr.now :is(th, td) { color: inherit; }
.wb-table i.dot { display: inline-block; inline-size: .8em; block-size: .8em; border-radius: 50%; margin-inline-end: .4em; }
`;
const COLOURS = { standard: "var(--accent-2)", btt: "var(--accent)", mlr: "var(--right)" };
const count = (number) => number.toLocaleString("en");


export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const NAMES = ["d", "width", "heads", "kind", "guess"];
    const numbers = (list) => list.map((n) => [n, count(n)]);
    const d = choices({ label: "Task d", options: numbers([16, 32, 64]), act: (n) => set({ d: Number(n) }) });
    const width = slider({ label: "Width D", min: 0, max: WIDTHS.length - 1, step: 1, format: (i) => WIDTHS[i], act: (i) => set({ width: WIDTHS[i] }) });
    const heads = choices({ label: "Heads H", options: numbers([1, 2, 4, 8]), act: (n) => set({ heads: Number(n) }) });
    const kind = choices({ label: "Scorer", options: Object.entries(KINDS), act: (name) => set({ kind: name }) });
    const guess = choices({
      label: "Your guess: with this scorer the error is low from width", options: [...numbers(WIDTHS), [WIDER, "wider"]],
      act: (n) => set({ guess: get("guess").map((one, i) => (Object.keys(KINDS)[i] === get("kind") ? Number(n) : one)) }),
    });

    // Rank of a head against the width, both in powers of two
    const drawing = svg("svg", { class: "sx-plot", role: "img", viewBox: "0 0 400 262" });
    const x = (D) => 48 + 78 * Math.log2(D / 32);
    const y = (rank) => 214 - 24 * Math.log2(rank / 2);
    const drawRanks = (setting) => {
      const text = (words_, at, attributes) => svg("text", { x: at[0], y: at[1], class: "quiet", ...attributes }, words_);
      const path = (points) => points.map(([D, rank], i) => `${i ? "L" : "M"}${x(D)} ${y(rank)}`).join("");
      const parts = [];
      for (const rank of [4, 16, 64, 256]) {
        parts.push(svg("path", { d: `M${x(32)} ${y(rank)}H${x(512)}`, style: "stroke: var(--grid)" }), text(count(rank), [40, y(rank) + 4], { "text-anchor": "end" }));
      }
      for (const D of WIDTHS) parts.push(text(D, [x(D), 232], { "text-anchor": "middle" }));
      parts.push(svg("path", { d: `M${x(setting.width)} 14V216`, style: "stroke: var(--border)" }));
      parts.push(svg("path", { d: `M${x(32) - 8} ${y(setting.d)}H${x(512) + 14}`, style: "stroke: var(--text); stroke-dasharray: 5 4" }));
      parts.push(text(`rank = d = ${setting.d}`, [x(512) + 16, y(setting.d) - 6], { "text-anchor": "end" }));
      parts.push(text("rank of a head", [8, 12]), text("width D, and your guesses (▲)", [x(128), 252], { "text-anchor": "middle" }));
      Object.keys(KINDS).forEach((name, i) => {
        const ranks = WIDTHS.map((D) => [D, budget({ ...setting, kind: name, width: D }).rank]);
        const style = `stroke: ${COLOURS[name]}; fill: none; stroke-width: ${name === setting.kind ? 4 : 2}`;
        parts.push(svg("path", { d: path(ranks), style, "stroke-dasharray": name === "btt" ? "7 3" : null }));
        for (const [D, rank] of ranks) {
          const now = D === setting.width && name === setting.kind;
          parts.push(svg("circle", { cx: x(D), cy: y(rank), r: now ? 7 : 3.5, style: `fill: ${COLOURS[name]}` }));
        }
        const noted = setting.guess[i];
        if (noted !== NOT_YET) {
          const at = x(Math.min(noted, 600)) + 9 * (i - 1);
          parts.push(svg("path", { d: `M${at} 205l5 9h-10z`, style: `fill: ${COLOURS[name]}` }));
        }
      });
      drawing.replaceChildren(...parts);
    };

    const caption = html("caption", {});
    const body = html("tbody", {});
    const table = html("table", { class: "sx-table wb-table" }, caption, html("thead", {}, html("tr", {},
      ...["", "rank of a head", "Q and K parameters a layer", "MACs a token"].map((name) => html("th", { scope: "col" }, name)))), body);
    const key = costKey(PARTS);
    const { node: spoken, say } = words();

    const update = () => {
      const setting = Object.fromEntries(NAMES.map((name) => [name, get(name)]));
      const place = Object.keys(KINDS).indexOf(setting.kind);
      d.show(setting.d);
      heads.show(setting.heads);
      width.show(WIDTHS.indexOf(setting.width));
      kind.show(setting.kind);
      guess.show(setting.guess[place]);
      drawRanks(setting);
      const all = Object.fromEntries(Object.keys(KINDS).map((name) => [name, budget({ ...setting, kind: name })]));
      const sums = Object.fromEntries(Object.entries(all).map(([name, { macs }]) => [name, total(Object.values(macs))]));
      const most = Math.max(...Object.values(sums));
      caption.textContent = `Width ${setting.width}, ${setting.heads} head${setting.heads > 1 ? "s" : ""}, ${4 * setting.d} tokens, ${LAYERS} layers`;
      body.replaceChildren(...Object.entries(KINDS).flatMap(([name, label]) => {
        const { rank, queryKey, macs } = all[name];
        return [
          html("tr", { class: name === setting.kind ? "now" : "" }, html("th", { scope: "row" }, html("i", { class: "dot", style: `background: ${COLOURS[name]}` }), label),
            html("td", {}, count(rank)), html("td", {}, count(queryKey)), html("td", {}, count(sums[name]))),
          html("tr", { "aria-hidden": "true" }, html("td", { class: "bar", colspan: 4 }, costBar(macs, most))),
        ];
      }));
      const { rank, macs } = all[setting.kind];
      const label = KINDS[setting.kind];
      const against = rank < setting.d ? `below d = ${setting.d}: there are inputs that one head cannot tell apart` : `enough for d = ${setting.d}`;
      const share = (part) => `${(100 * macs[part] / sums[setting.kind]).toFixed(0)} %`;
      const noted = setting.guess[place];
      say(`${label === "MLR" ? "An" : "A"} ${label} head at width ${setting.width} has rank up to ${rank}, ${against}. Of the multiply-accumulates a token, scores take ${share("scores")} and projections ${share("projections")}. `
        + (noted === NOT_YET ? `You have not guessed for ${label} yet.` : `Your guess for ${label}: ${noted === WIDER ? "a low error at none of these widths" : `a low error from width ${noted} on`}.`));
      const ranks = Object.entries(KINDS).map(([name, one]) => `${one} ${all[name].rank}`).join(", ");
      drawing.setAttribute("aria-label", `Rank of a head against width. At width ${setting.width}: ${ranks}; the task has d = ${setting.d}.`);
    };

    return stage({ model, el, names: NAMES, style: STYLE_HERE }, [
      html("div", { class: "sx-row", style: "margin-block-end: .75rem" }, d.node, width.node, heads.node, kind.node),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, drawing, guess.node),
        html("div", { class: "sx-stack" }, table, key)),
      spoken,
    ], update);
  },
};
