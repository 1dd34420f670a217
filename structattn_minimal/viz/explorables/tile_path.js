// Chapter 9: the causal square cut into rectangles, and the way of one tile of queries through its keys.

const SIZE = 400;
const EDGE = 30; // room for the axes

const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);
const blockSizes = ({ tokens, ranks }) => ranks.map((_, l) => tokens / 2 ** l);
const prefix = (ranks, level) => total(ranks.slice(0, level)); // features of the levels 1 to `level`

// The coarsest level whose blocks fit into a tile, else the finest: what is finer is left to a mask.
const home = (setting) => {
  const fits = blockSizes(setting).findIndex((size) => size <= setting.tile);
  return fits < 0 ? setting.ranks.length : fits + 1;
};

// How the queries of tile `row` meet their keys: all pairs of a phase share the levels 1 to `level` and no other, but for
// the last phase, around the diagonal, where causality and finer levels take masks.
const phases = (setting, row) => {
  const { ranks, tile } = setting;
  const [sizes, last, start] = [blockSizes(setting), home(setting), row * tile];
  const starts = sizes.slice(0, last).map((size) => Math.floor(start / size) * size);
  const found = starts.map((from, l) => ({
    level: l + 1, from, to: starts[l + 1] ?? start, width: prefix(ranks, l + 1), masked: false,
  })).filter(({ from, to }) => from < to);
  const diagonal = { level: last, from: start, to: start + tile, width: total(ranks), masked: true };
  return [...found, diagonal].map((phase) => ({ ...phase, macs: (phase.to - phase.from) * tile * phase.width }));
};

// Score MACs of the first `count` phases of a tile, and of all its keys with all features.
const tileMacs = (setting, row, count) => ({
  done: total(phases(setting, row).slice(0, count).map(({ macs }) => macs)),
  dense: (row + 1) * setting.tile ** 2 * total(setting.ranks),
});

// The whole head: the tiles of this kernel, a dense one with the same tiles, and the definition, which multiplies all pairs.
const headMacs = (setting) => {
  const rows = Array.from({ length: setting.tokens / setting.tile }, (_, row) => tileMacs(setting, row, Infinity));
  return {
    tiled: total(rows.map(({ done }) => done)),
    dense: total(rows.map(({ dense }) => dense)),
    definition: setting.tokens ** 2 * total(setting.ranks),
  };
};

// The rectangles of the levels coarser than home (right half of a block asks, left half is asked), and home's blocks.
const rectangles = (setting) => {
  const [sizes, last] = [blockSizes(setting), home(setting)];
  return sizes.slice(0, last).flatMap((size, l) => Array.from({ length: setting.tokens / size }, (_, block) => {
    const [begin, level, width] = [block * size, l + 1, prefix(setting.ranks, l + 1)];
    if (level < last) return { level, width, queries: [begin + size / 2, begin + size], keys: [begin, begin + size / 2] };
    return { level, width: total(setting.ranks), queries: [begin, begin + size], keys: [begin, begin + size], diagonal: true };
  }));
};

export const compute = { blockSizes, home, phases, tileMacs, headMacs, rectangles };

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}\u00a0%`;
const counted = (n) => n.toLocaleString("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const STYLE_HERE = `
.tp-table { font-size: .84rem; }
.tp-table :is(th, td) { padding-inline: .15rem; white-space: nowrap; }
.tp-table tr.later :is(th, td) { color: var(--muted); }
.tp-table tr.now :is(th, td) { color: var(--accent-2); }
.tp-steps { display: flex; gap: .5rem; align-items: center; }
`;

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const NAMES = ["tokens", "ranks", "tile", "row", "step"];
    const tiles = () => get("tokens") / get("tile");
    const setting = () => ({ tokens: get("tokens"), ranks: get("ranks"), tile: get("tile") });
    const count = () => phases(setting(), clamp(get("row"), 0, tiles() - 1)).length;
    const goTo = (row) => {
      if (clamp(row, 0, tiles() - 1) !== get("row")) set({ row: clamp(row, 0, tiles() - 1), step: 0 });
    };
    const walk = (by) => { // on from phase to phase, and from the last one to the next tile
      const [row, step] = [get("row"), Math.min(get("step"), count() - 1) + by];
      if (step >= count()) return set({ row: (row + 1) % tiles(), step: 0 });
      if (step >= 0) return set({ step });
      if (row > 0) set({ row: row - 1, step: phases(setting(), row - 1).length - 1 });
    };
    const resize = (changes) => {
      const { tokens, tile } = { ...setting(), ...changes };
      set({ ...changes, row: tokens / tile - 1, step: 0 });
    };

    const tokens = slider({ label: html("span", {}, "Tokens ", html("i", {}, "T")), min: 8, max: 17, step: 1,
      format: (n) => counted(2 ** n), act: (n) => resize({ tokens: 2 ** n }) });
    const tile = choices({ label: "Queries in a tile", options: [16, 32, 64, 128, 256].map((n) => [n, n]), act: (n) => resize({ tile: n }) });
    const row = slider({ label: "Tile", min: 0, max: 7, step: 1, format: (n) => `${n + 1} of ${tiles()}`, act: goTo });
    const ranks = rankControls(() => get("ranks"), (list) => set({ ranks: list, step: 0 }));
    const back = button("Back", () => walk(-1));
    const next = button("Next phase", () => walk(1), { class: "main" });

    // The map
    const id = freshId();
    const hatch = svg("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { width: 6, height: 6, style: "fill: var(--accent); opacity: .8" }),
      svg("line", { x1: 0, x2: 0, y1: 0, y2: 6, style: "stroke: var(--ground); stroke-width: 2.5" }));
    const cells = svg("g", { "aria-hidden": "true" });
    const path = svg("g", { "aria-hidden": "true" });
    const axes = svg("g", { "aria-hidden": "true" });
    const inner = SIZE - EDGE - 4;
    const handle = svg("g", { class: "handle", role: "slider", "aria-label": "the tile on the map", "aria-valuemin": 0 },
      svg("rect", { x: EDGE, y: 4, width: inner, height: inner, fill: "transparent" }),
      svg("rect", { x: EDGE, y: 4, width: inner, height: inner, class: "ring" }));
    const map = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "sx-plot", role: "group", "aria-label": "Queries and keys, cut into rectangles" },
      svg("defs", {}, hatch), cells, path, axes, handle);
    const unit = () => inner / get("tokens");
    const at = (event) => goTo(Math.floor((pointerIn(map, event)[1] - 4) / unit() / get("tile")));
    let jumped = false; // a press on another tile goes there, one on the same tile walks on
    movable(handle, {
      act: (dx, dy) => (dx ? walk(Math.sign(dx)) : goTo(get("row") - dy)),
      to: at,
      click: () => {
        if (!jumped) walk(1);
        jumped = false;
      },
    });
    handle.addEventListener("pointerdown", (event) => {
      const before = get("row");
      at(event);
      jumped = get("row") !== before;
    });

    const box = (x, y, width, height, look) => svg("rect", { x: EDGE + x, y: 4 + y, width, height, style: look });
    const drawMap = (chosen, here, now) => {
      const [u, r] = [unit(), total(chosen.ranks)];
      const masked = blockSizes(chosen)[home(chosen) - 1] <= chosen.tile;
      cells.replaceChildren(...rectangles(chosen).map(({ width, queries: [top, bottom], keys: [left, right], diagonal }) => {
        const [x, y, w, h] = [left * u, top * u, (right - left) * u, (bottom - top) * u];
        if (!diagonal) return box(x, y, w, h, `fill: var(--accent); opacity: ${(0.85 * width / r).toFixed(3)}; stroke: var(--ground); stroke-width: 1`);
        if (masked) return box(x, y, w, h, `fill: url(#${id})`);
        return svg("path", { d: `M${EDGE + x} ${4 + y}v${h}h${w}z`, style: "fill: var(--accent); opacity: .85" });
      }));
      const height = Math.max(3, chosen.tile * u);
      const y = Math.min(here[0].top * u, inner - height);
      path.replaceChildren(...here.map(({ from, to }, n) => box(from * u, y, Math.max(2, (to - from) * u), height,
        n === now ? "fill: var(--accent-2); opacity: .75" : `fill: ${n < now ? "var(--accent-2)" : "none"}; fill-opacity: .3; stroke: var(--accent-2); stroke-width: 1`)),
        box(0, y, (here.at(-1).to) * u, height, "fill: none; stroke: var(--accent-2); stroke-width: 2"));
      const ends = [0, chosen.tokens / 2, chosen.tokens];
      const quiet = (text, attributes) => svg("text", { class: "quiet", ...attributes }, text);
      axes.replaceChildren(
        svg("path", { d: `M${EDGE} 4v${inner}h${inner}`, style: "fill: none; stroke: var(--muted)" }),
        ...ends.map((p, n) => quiet(counted(p), { x: EDGE + p * u, y: SIZE - 12, "text-anchor": ["start", "middle", "end"][n] })),
        quiet("keys", { x: EDGE + inner / 4, y: SIZE - 12, "text-anchor": "middle" }),
        quiet("queries", { transform: `translate(18 ${4 + inner / 4}) rotate(-90)`, "text-anchor": "middle" }));
      return y;
    };

    // What the phase reads of the features, and what the tile has cost so far
    const [W, H] = [400, 112];
    const bars = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "sx-plot", role: "img" });
    const drawBars = (chosen, here, now, row) => {
      const [r, phase] = [total(chosen.ranks), here[now]];
      const across = (share) => 8 + (W - 16) * share;
      const { dense } = tileMacs(chosen, row, 0);
      const ends = chosen.ranks.map((_, l) => prefix(chosen.ranks, l + 1));
      const piece = (from, to, y, look) => svg("rect", { x: across(from), y, width: Math.max(0, across(to) - across(from) - 1), height: 20, style: look });
      let spent = 0;
      bars.replaceChildren(
        svg("text", { x: 8, y: 17 }, `features that the phase multiplies: ${phase.width} of ${r}`),
        ...chosen.ranks.map((rank, l) => piece((ends[l] - rank) / r, ends[l] / r, 24,
          phase.masked && l >= phase.level ? `fill: url(#${id})` : `fill: ${l < phase.level ? "var(--accent)" : "var(--grid)"}`)),
        svg("text", { x: 8, y: 71 }, "MACs of the tile, against dense attention"),
        piece(0, 1, 78, "fill: var(--grid)"),
        ...here.slice(0, now + 1).map(({ macs }, n) => {
          const bar = piece(spent / dense, (spent + macs) / dense, 78, `fill: var(--accent-2); opacity: ${n === now ? 1 : 0.55}`);
          spent += macs;
          return bar;
        }));
      bars.setAttribute("aria-label", `This phase multiplies ${phase.width} of ${r} features. The tile's multiplications so far are ${percent(spent / dense)} of those of dense attention.`);
    };

    const body = html("tbody");
    const table = html("table", { class: "sx-table tp-table" },
      html("thead", {}, html("tr", {}, ...["levels", "keys", "features", "MACs"].map((name) => html("th", { scope: "col" }, name)))), body);
    const { node: spoken, say } = words();
    const named = ({ level, masked }) => (masked ? "masked" : level === 1 ? "1" : `1–${level}`);

    const draw = () => {
      const chosen = setting();
      const rowNow = clamp(get("row"), 0, tiles() - 1);
      const here = phases(chosen, rowNow).map((phase) => ({ ...phase, top: rowNow * chosen.tile }));
      const now = clamp(get("step"), 0, here.length - 1);
      const phase = here[now];
      const r = total(chosen.ranks);
      tokens.show(Math.log2(chosen.tokens));
      tile.show(chosen.tile);
      row.show(rowNow, { max: tiles() - 1 });
      row.input.disabled = tiles() === 1;
      ranks.show(chosen.ranks);
      back.disabled = rowNow === 0 && now === 0;
      next.replaceChildren(now + 1 < here.length ? "Next phase" : rowNow + 1 < tiles() ? "Next tile" : "First tile");
      drawMap(chosen, here, now);
      drawBars(chosen, here, now, rowNow);
      handle.setAttribute("aria-valuemax", tiles() - 1);
      handle.setAttribute("aria-valuenow", rowNow);
      handle.setAttribute("aria-valuetext", `tile ${rowNow + 1} of ${tiles()}, phase ${now + 1} of ${here.length}: keys ${phase.from} to ${phase.to - 1}`);
      body.replaceChildren(...here.map((one, n) => html("tr", { class: n === now ? "now" : n < now ? "" : "later" },
        html("th", { scope: "row" }, named(one)),
        ...[`${one.from}–${one.to - 1}`, one.width, short.format(one.macs)].map((text) => html("td", {}, text)))));
      const { done, dense } = tileMacs(chosen, rowNow, now + 1);
      const head = headMacs(chosen);
      const finer = chosen.ranks.length > phase.level ? (phase.level + 1 === chosen.ranks.length ? `level ${chosen.ranks.length}` : `levels ${phase.level + 1} to ${chosen.ranks.length}`) : "";
      const how = phase.masked
        ? `the tile around the diagonal, all ${r} features. Masks hide the later keys${finer ? `, and ${finer} where a pair does not share ${phase.level + 1 === chosen.ranks.length ? "it" : "them"}` : ""}.`
        : `every query shares ${phase.level === 1 ? "level 1" : `levels 1 ${phase.level === 2 ? "and" : "to"} ${phase.level}`} with every key, and no other: plain attention over the first ${phase.width} features, no mask.`;
      say(`Queries ${counted(rowNow * chosen.tile)} to ${counted((rowNow + 1) * chosen.tile - 1)}, phase ${now + 1} of ${here.length}, keys ${counted(phase.from)} to ${counted(phase.to - 1)}: ${how} `
        + `So far the tile has spent ${percent(done / dense)} of a dense tile's score MACs. All tiles together: ${percent(head.tiled / head.dense)} of a dense kernel's, ${percent(head.tiled / head.definition)} of the definition's.`);
    };

    return stage({ model, el, names: NAMES, style: STYLE_HERE }, [
      html("div", { class: "sx-row", style: "margin-block-end: .75rem" }, tokens.node, ranks.preset),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, map, html("div", { class: "sx-row" }, row.node, html("div", { class: "tp-steps" }, back, next)), tile.node),
        html("div", { class: "sx-stack" }, table, bars, ranks.sliders)),
      spoken,
    ], draw);
  },
};
