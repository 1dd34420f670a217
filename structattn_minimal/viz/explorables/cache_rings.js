// Chapter 10: what a decoder holds. Tokens arrive, rings turn, blocks leave.

const KINDS = { mlr: "MLR", standard: "standard", swa: "sliding window" };
const NUMBERS = { bfloat16: 2, float32: 4 };
const CONTEXTS = [1024, 16384, 131072];

const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);

// The rings of the keys, coarsest level first, and that of the values: how many features, how many slots.
const rings = ({ kind, tokens, ranks, window }) => {
  const r = total(ranks);
  const slots = kind === "swa" ? Math.min(tokens, window + 1) : tokens;
  const keys = kind === "mlr" ? ranks.map((features, l) => ({ features, slots: tokens / 2 ** l })) : [{ features: r, slots }];
  return { keys, values: { features: r, slots } };
};

// Which token each slot holds when `arrived` have come: the latest that falls into it, or null.
const holds = (slots, arrived) => Array.from({ length: slots }, (_, slot) => {
  const token = arrived - 1 - ((((arrived - 1 - slot) % slots) + slots) % slots);
  return token < 0 ? null : token;
});

// Whether the newest token sees what a slot holds: in MLR a level counts within its current block alone.
const seen = ({ kind }, { slots }, arrived) => holds(slots, arrived).map((token) => token !== null
  && (kind !== "mlr" || Math.floor(token / slots) === Math.floor((arrived - 1) / slots)));

// Numbers that a full cache of one head has room for.
const costs = (setting) => {
  const { keys, values } = rings(setting);
  return { keys: total(keys.map(({ features, slots }) => features * slots)), values: values.features * values.slots };
};

// The same kinds at another context, the window growing with it.
const scaled = (setting, context) => ({ ...setting, tokens: context, window: setting.window * context / setting.tokens });

export const compute = { rings, holds, seen, costs, scaled };

const WIDTH = 400;
const STYLE_HERE = `
.cr-buttons { display: flex; flex-wrap: wrap; gap: .4rem; }
.cr-ranks { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .25rem 1rem; }
.cr-key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .88rem; color: var(--muted); margin: 0; }
.cr-key i { display: inline-block; inline-size: .9em; block-size: .9em; border: 1px solid var(--border); margin-inline-end: .35em; vertical-align: -.08em; }
`;
const PATTERN = `${unique}-stale`;
const FILLS = { keys: "var(--accent)", values: "var(--right)", stale: `url(#${PATTERN})`, empty: "var(--ground)" };

const bytes = (number) => {
  const [size, unit] = number >= 2 ** 20 ? [2 ** 20, "MiB"] : number >= 2 ** 10 ? [2 ** 10, "KiB"] : [1, "B"];
  return `${(number / size).toLocaleString("en", { maximumFractionDigits: number < 2 ** 10 ? 0 : 1 })} ${unit}`;
};

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const NAMES = ["tokens", "kind", "ranks", "window", "arrived", "follow", "context", "numbers"];
    const advance = (steps) => set({ arrived: clamp(get("arrived") + steps, 0, get("tokens")) });

    // Arrivals
    let clock = null;
    const stop = () => {
      clearInterval(clock);
      clock = null;
      play.textContent = "Play";
    };
    const next = button("Next token", () => advance(1), { class: "main" });
    const back = button("Back", () => advance(-1));
    const play = button("Play", () => {
      if (clock) { stop(); return; }
      if (get("arrived") === get("tokens")) set({ arrived: 0 });
      const step = () => {
        advance(1);
        if (get("arrived") === get("tokens")) stop();
      };
      play.textContent = "Pause";
      clock = setInterval(step, 450);
      step(); // at once: a press is answered by what it does
    });
    const arrived = slider({ label: "Tokens so far", min: 0, max: 64, step: 1, act: (n) => set({ arrived: n }) });
    const follow = slider({ label: "Token to follow", min: 0, max: 63, step: 1, act: (n) => set({ follow: n }) });
    const kind = choices({ label: "Kind of attention", options: Object.entries(KINDS), act: (value) => set({ kind: value }) });
    const tokens = choices({
      label: "Context drawn", options: [16, 32, 64].map((n) => [n, n]),
      act: (n) => set({ tokens: n, arrived: Math.min(get("arrived"), n), follow: Math.min(get("follow"), n - 1), window: Math.min(get("window"), n - 1) }),
    });
    const ranks = [0, 1, 2, 3].map((l) => slider({
      label: html("span", {}, "Rank ", html("i", {}, "r"), html("sub", {}, l + 1)), min: 1, max: 16, step: 1,
      act: (rank) => set({ ranks: get("ranks").map((one, m) => (m === l ? rank : one)) }),
    }));
    const window_ = slider({ label: "Window", min: 1, max: 63, step: 1, act: (w) => set({ window: w }) });
    const context = choices({ label: "Context of the table", options: CONTEXTS.map((n) => [n, n.toLocaleString("en")]), act: (n) => set({ context: n }) });
    const numbers = choices({ label: "Numbers", options: Object.keys(NUMBERS).map((n) => [n, n]), act: (n) => set({ numbers: n }) });

    // The strips
    const drawing = svg("svg", { class: "sx-plot", role: "img" });
    const draw = (setting) => {
      const { tokens: T, arrived: n, ranks: list, follow: j } = setting;
      const { keys, values } = rings(setting);
      const [left, unit] = [8, (WIDTH - 16) / T];
      const high = Math.min(6, 230 / (2 * total(list)));
      const parts = [svg("defs", {}, svg("pattern", { id: PATTERN, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("rect", { width: 6, height: 6, style: "fill: var(--grid)" }), svg("rect", { width: 2, height: 6, style: "fill: var(--muted); opacity: .6" })))];
      const text = (words_, x, y, attributes) => parts.push(svg("text", { x, y, class: "quiet", ...attributes }, words_));
      const cell = (slot, y, height, fill_, mark) => parts.push(svg("rect", {
        x: left + slot * unit, y, width: unit, height,
        style: `fill: ${fill_}; stroke: ${mark ? "var(--accent-2)" : "var(--border)"}; stroke-width: ${mark ? 3 : 0.6}`,
      }));
      // The marked cell comes last, so that its frame lies on top.
      const strip = (ring, y, name, colour) => {
        const [held, live] = [holds(ring.slots, n), seen(setting, ring, n)];
        const order = held.map((_, slot) => slot).sort((a, b) => (held[a] === j) - (held[b] === j));
        for (const slot of order) {
          const fill_ = held[slot] === null ? FILLS.empty : live[slot] ? colour : FILLS.stale;
          cell(slot, y, Math.max(3, ring.features * high), fill_, held[slot] === j && live[slot]);
        }
        const valid = live.filter(Boolean).length;
        const stale = held.filter((token, slot) => token !== null && !live[slot]).length;
        text(`${name}: ${ring.features} × ${ring.slots} slots, ${valid} valid${stale ? `, ${stale} of an old block` : ""}`, left, y - 5);
      };
      text(n < T ? `${n} of ${T} tokens` : `all ${T} tokens: the context is full`, left, 15);
      for (let token = 0; token < T; token++) cell(token, 21, 12, token < n ? (token === n - 1 ? "var(--accent-2)" : "var(--muted)") : FILLS.empty, token === j);
      let y = 61;
      keys.forEach((ring, l) => {
        strip(ring, y, setting.kind === "mlr" ? `keys, level ${l + 1}` : "keys", FILLS.keys);
        y += Math.max(3, ring.features * high) + 25;
      });
      strip(values, y, "values", FILLS.values);
      y += Math.max(3, values.features * high) + 10;
      drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${Math.ceil(y)}`);
      drawing.replaceChildren(...parts);
    };

    const legend = html("p", { class: "cr-key" }, ...[["keys, valid", "var(--accent)"], ["of an old block", "repeating-linear-gradient(45deg, var(--muted) 0 2px, var(--grid) 2px 6px)"], ["values", "var(--right)"], ["never written", "var(--ground)"]]
      .map(([name, background]) => html("span", {}, html("i", { style: `background: ${background}` }), name)));

    const body = html("tbody", {});
    const caption = html("caption", {});
    const table = html("table", { class: "sx-table" }, caption, html("thead", {}, html("tr", {},
      ...["", "keys, B a token", "values, B a token", "whole cache"].map((name) => html("th", { scope: "col" }, name)))), body);
    const { node: spoken, say } = words();

    const update = () => {
      const setting = Object.fromEntries(NAMES.map((name) => [name, get(name)]));
      const { tokens: T, arrived: n, follow: j, kind: chosen } = setting;
      arrived.show(n, { max: T });
      follow.show(j, { max: T - 1 });
      kind.show(chosen);
      tokens.show(T);
      ranks.forEach((one, l) => one.show(setting.ranks[l]));
      window_.show(setting.window, { max: T - 1 });
      window_.node.style.display = chosen === "swa" ? "" : "none";
      context.show(setting.context);
      numbers.show(setting.numbers);
      next.disabled = n === T;
      back.disabled = n === 0;
      draw(setting);

      const size = NUMBERS[setting.numbers];
      const standard = total(Object.values(costs(scaled({ ...setting, kind: "standard" }, setting.context))));
      caption.textContent = `One head of ${total(setting.ranks)} features, ${setting.context.toLocaleString("en")} tokens`;
      body.replaceChildren(...Object.entries(KINDS).map(([name, label]) => {
        const { keys, values } = costs(scaled({ ...setting, kind: name }, setting.context));
        const each = (count) => (size * count / setting.context).toLocaleString("en", { maximumFractionDigits: 1 });
        const share = html("span", {}, `(${(100 * (keys + values) / standard).toFixed(0)} %)`);
        const wide = setting.window * setting.context / T;
        return html("tr", { class: name === chosen ? "now" : "" }, html("th", { scope: "row" }, name === "swa" ? `window of ${wide.toLocaleString("en")}` : label),
          html("td", {}, each(keys)), html("td", {}, each(values)), html("td", {}, html("span", {}, bytes(size * (keys + values))), " ", share));
      }));

      const { keys } = rings(setting);
      const live = keys.map((ring) => seen(setting, ring, n));
      const valid = live.map((row) => row.filter(Boolean).length);
      drawing.setAttribute("aria-label", `${n} of ${T} tokens have come. Valid keys: ${valid.map((count, l) => `${chosen === "mlr" ? `level ${l + 1} ` : ""}${count} of ${keys[l].slots}`).join(", ")}.`);
      const newest = n - 1;
      const where = keys.map((ring, l) => live[l][j % ring.slots] && holds(ring.slots, n)[j % ring.slots] === j);
      const levels = where.flatMap((here, l) => (here ? [l + 1] : []));
      const lost = where.flatMap((here, l) => (here ? [] : [l + 1]));
      const several = (list) => `level${list.length > 1 ? "s" : ""} ${list.join(", ")}`;
      const begins = keys.flatMap((ring, l) => (l && n > 1 && newest % ring.slots === 0 ? [l + 1] : []));
      const came = n === 0 ? "Nothing has come yet."
        : chosen === "mlr"
          ? `Token ${newest} went to slots ${keys.map((ring) => newest % ring.slots).join(", ")} of levels 1 to 4.${begins.length ? ` A block begins at ${several(begins)}: what ${begins.length > 1 ? "these rings" : "this ring"} held before is hidden at once, and overwritten slot by slot.` : ""}`
          : `Token ${newest} went to slot ${newest % keys[0].slots}.`;
      const fate = j >= n ? `Token ${j} has not come yet.`
        : chosen === "mlr"
          ? lost.length ? `Of the key of token ${j}, ${several(levels)} can be used still; ${several(lost)}: ${lost.length > 1 ? "their blocks are" : "its block is"} over.` : `All levels of the key of token ${j} can be used.`
          : levels.length ? `The key of token ${j} is held.` : `The key of token ${j} has been overwritten, and so has its value.`;
      const full = n === T ? " One token more would have no block: the decoder refuses it." : "";
      say(`${came} ${fate}${full}`);
    };

    const end = stage({ model, el, names: NAMES, style: STYLE_HERE }, [
      html("div", { class: "sx-row", style: "margin-block-end: .75rem" }, kind.node, tokens.node),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, html("div", { class: "cr-buttons", role: "group", "aria-label": "Arrivals" }, next, play, back), arrived.node, drawing, legend, follow.node),
        html("div", { class: "sx-stack" }, table, context.node, numbers.node, html("div", { class: "cr-ranks" }, ...ranks.map((one) => one.node)), window_.node)),
      spoken,
    ], update);
    return () => {
      stop();
      end();
    };
  },
};
