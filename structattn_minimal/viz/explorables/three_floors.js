// Chapter 9: the least time of each part of a chip, for dense attention and for MLR attention.

// Peak rates a second: bfloat16 FLOPs of the tensor cores, exponentials (16 a clock and multiprocessor), bytes of memory.
const CHIPS = {
  H100: { flops: 989e12, exps: 3.9e12, bytes: 3.35e12 },
  A100: { flops: 312e12, exps: 2.44e12, bytes: 2.04e12 },
};
const FLOORS = ["tensor", "exp", "memory"];
const LABELS = { tensor: "tensor cores", exp: "exponentials", memory: "memory" };
const IN_WORDS = { tensor: "the tensor cores", exp: "the exponentials", memory: "memory" };
const TILE = 128; // queries in a tile of a kernel
// The columns in which a kernel multiplies a prefix of n features: steps of the tensor cores, or powers of two.
const COLUMNS = { sixteens: (n) => 16 * Math.ceil(n / 16), powers: (n) => Math.max(16, 2 ** Math.ceil(Math.log2(n))) };

const total = (numbers) => numbers.reduce((sum, one) => sum + one, 0);

// What is left of the dense score MACs: E / r, or with the tiles of a kernel counted as it multiplies them.
const share = ({ tokens, ranks, counted }) => {
  const r = total(ranks);
  if (counted === "pairs") return total(ranks.map((rank, l) => rank / 2 ** l)) / r;
  const widths = ranks.map((_, l) => COLUMNS[counted](total(ranks.slice(0, l + 1))));
  let [done, dense] = [0, 0];
  for (let start = 0; start < tokens; start += TILE) {
    const firsts = ranks.map((_, l) => tokens / 2 ** l).filter((size) => size >= TILE).map((size) => Math.floor(start / size) * size);
    done += total(firsts.map((first, l) => ((firsts[l + 1] ?? start) - first) * widths[l])) + TILE * widths.at(-1);
    dense += (start + TILE) * widths.at(-1);
  }
  return done / dense;
};

// Microseconds of one causal head that no kernel goes below, if `left` of the score MACs are left.
const floors = ({ tokens, ranks, passes, chip }, left) => {
  const { flops, exps, bytes } = CHIPS[chip];
  const [r, pairs, both] = [total(ranks), tokens ** 2 / 2, passes === "both"];
  return {
    tensor: 1e6 * 2 * pairs * r * (both ? 4 * left + 3 : left + 1) / flops,
    exp: 1e6 * pairs * (both ? 2 : 1) / exps,
    memory: 1e6 * 2 * tokens * r * (both ? 12 : 4) / bytes,
  };
};

const gains = (dense, mlr) => {
  const [a, b] = [Object.values(dense), Object.values(mlr)];
  return { overlapped: Math.max(...a) / Math.max(...b), apart: total(a) / total(b) };
};
const highest = (times) => FLOORS.reduce((best, name) => (times[name] > times[best] ? name : best));

export const compute = { CHIPS, share, floors, gains, highest };

const micro = (time) => (time >= 1e4 ? `${(time / 1e3).toFixed(1)} ms` : time >= 10 ? `${time.toFixed(0)} µs` : `${time.toPrecision(2)} µs`);

export default {
  render({ model, el }) {
    const set = setter(model);
    const get = (name) => model.get(name);
    const NAMES = ["tokens", "ranks", "passes", "chip", "counted"];

    const tokens = slider({ label: html("span", {}, "Tokens ", html("i", {}, "T")), min: 8, max: 17, step: 1,
      format: (n) => (2 ** n).toLocaleString("en"), act: (n) => set({ tokens: 2 ** n }) });
    const ranks = rankControls(() => get("ranks"), (list) => set({ ranks: list }));
    const passes = choices({ label: "Passes", options: [["forward", "forward"], ["both", "with backward"]], act: (value) => set({ passes: value }) });
    const chip = choices({ label: "Chip", options: Object.keys(CHIPS).map((name) => [name, name]), act: (value) => set({ chip: value }) });
    const counted = choices({ label: "Score MACs", options: [["pairs", "of the pairs"], ["sixteens", "tiles, 16s"], ["powers", "tiles, powers of 2"]], act: (value) => set({ counted: value }) });

    const [W, H, LEFT, ROW] = [340, 236, 96, 15];
    const bars = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "sx-plot", role: "img" });
    const { node: spoken, say } = words();

    const draw = () => {
      const chosen = Object.fromEntries(NAMES.map((name) => [name, get(name)]));
      const left = share(chosen);
      const [dense, mlr] = [floors(chosen, 1), floors(chosen, left)];
      const gain = gains(dense, mlr);
      tokens.show(Math.log2(chosen.tokens));
      passes.show(chosen.passes);
      chip.show(chosen.chip);
      counted.show(chosen.counted);
      ranks.show(chosen.ranks);

      const most = Math.max(...Object.values(dense));
      const across = (time) => LEFT + (W - LEFT - 72) * time / most;
      const label = (text, x, y, anchor, look = "") => svg("text", { x, y, "text-anchor": anchor, style: look }, text);
      const kinds = [["dense", dense, "var(--muted)"], ["MLR", mlr, "var(--accent)"]];
      bars.replaceChildren(...kinds.flatMap(([kind, times, colour], n) => {
        const top = 26 + 112 * n;
        const bound = highest(times);
        return [
          label(kind, LEFT, top - 8, "start", "font-weight: 600"),
          ...FLOORS.flatMap((name, m) => {
            const y = top + 28 * m;
            return [
              label(LABELS[name], LEFT - 8, y + ROW - 3, "end"),
              svg("rect", { x: LEFT, y, width: Math.max(1, across(times[name]) - LEFT), height: ROW, style: `fill: ${colour}; opacity: ${name === bound ? 1 : 0.5}` }),
              label(micro(times[name]), W - 8, y + ROW - 3, "end", name === bound ? "font-weight: 600" : ""),
            ];
          }),
          svg("line", { x1: across(times[bound]), x2: across(times[bound]), y1: top - 4, y2: top + 76, style: "stroke: var(--accent-2); stroke-width: 2; stroke-dasharray: 5 3" }),
        ];
      }));
      bars.setAttribute("aria-label", `Least times of one head. Dense: ${FLOORS.map((name) => `${LABELS[name]} ${micro(dense[name])}`).join(", ")}. MLR: ${FLOORS.map((name) => `${LABELS[name]} ${micro(mlr[name])}`).join(", ")}.`);
      const [before, after] = [highest(dense), highest(mlr)];
      const bound = before === after ? `The highest floor is that of ${IN_WORDS[before]}, for both` : `The highest floor is that of ${IN_WORDS[before]} for dense attention, and of ${IN_WORDS[after]} for MLR`;
      say(`${(100 * left).toFixed(0)}\u00a0% of the score MACs are left. ${bound}. A kernel that overlaps all three gains at most ${gain.overlapped.toFixed(2)} times, one that does them one after the other ${gain.apart.toFixed(2)} times.`);
    };

    return stage({ model, el, names: NAMES }, [
      html("div", { class: "sx-row", style: "margin-block-end: .75rem" }, tokens.node, ranks.preset),
      html("div", { class: "sx-panels" },
        html("div", { class: "sx-stack" }, bars, html("div", { class: "sx-row" }, passes.node, chip.node)),
        html("div", { class: "sx-stack" }, counted.node, ranks.sliders)),
      spoken,
    ], draw);
  },
};
