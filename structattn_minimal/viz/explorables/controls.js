// Shared by the explorables: each module is this text followed by its own, so nothing is imported or exported here.

const SVG = "http://www.w3.org/2000/svg";
const unique = `sx-${Math.random().toString(36).slice(2, 8)}`; // ids of two modules on one page must differ
let made = 0;
const freshId = () => `${unique}-${made++}`; // two of one module must differ as well

// An element with attributes and children; an attribute "onclick" is a listener, null and false leave it out.
const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const dot = (a, b) => a.reduce((sum, entry, i) => sum + entry * b[i], 0);
const signed = (value, digits = 2) => {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
};

// Numbers from a seed, the same on every machine: mulberry32 for uniforms in [0, 1), Box and Muller for normals.
const generator = (seed) => {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal, normals: (n) => Array.from({ length: n }, normal) };
};

// Gram and Schmidt, twice for accuracy: an orthonormal basis of the span of `vectors`, dependent ones left out.
const orthonormal = (vectors) => {
  const basis = [];
  for (const vector of vectors) {
    let rest = [...vector];
    for (let round = 0; round < 2; round++) {
      for (const unit of basis) {
        const along = dot(unit, rest);
        rest = rest.map((entry, i) => entry - along * unit[i]);
      }
    }
    const length = Math.sqrt(dot(rest, rest));
    if (length > 1e-10 * Math.sqrt(dot(vector, vector))) basis.push(rest.map((entry) => entry / length));
  }
  return basis;
};

// A labelled slider. `show(value, limits)` makes it follow the model.
const slider = ({ label, min, max, step, format = String, act, className = "" }) => {
  const id = freshId();
  const output = html("output", { for: id });
  const input = html("input", { type: "range", id, min, max, step, oninput: () => act(Number(input.value)) });
  const node = html("div", { class: `sx-slider ${className}` }, html("label", { for: id }, label), output, input);
  const show = (value, limits = {}) => {
    Object.assign(input, limits);
    input.value = value;
    output.textContent = format(value);
    input.setAttribute("aria-valuetext", format(value));
  };
  return { node, show, input };
};

// One of several, as a row of radio buttons; options are [value, text].
const choices = ({ label, options, act }) => {
  const name = freshId();
  const inputs = options.map(([value]) => html("input", { type: "radio", name, value, onchange: () => act(value) }));
  const row = options.map(([, text], i) => html("label", {}, inputs[i], html("span", {}, text)));
  const node = html("fieldset", { class: "sx-choices" }, html("legend", {}, label), html("div", {}, ...row));
  const show = (value) => options.forEach(([option], i) => { inputs[i].checked = option === value; });
  return { node, show };
};

// The ranks of MLR attention, r_1 ... r_L with L up to 8: known lists to choose from, and a slider for L and for each rank.
const RANK_LISTS = [[32, 8, 6, 4, 4, 4, 4, 2], [32, 16, 16], [16, 16, 32], [64, 16, 16, 16, 16], [32, 32, 64]];
const rankControls = (get, set) => {
  const preset = choices({ label: "Ranks", options: RANK_LISTS.map((list) => [list.join("|"), list.join("|")]),
    act: (name) => set(name.split("|").map(Number)) });
  const levels = slider({ label: html("span", {}, "Levels ", html("i", {}, "L")), min: 1, max: 8, step: 1,
    act: (n) => set(Array.from({ length: n }, (_, l) => get()[l] ?? get().at(-1))) });
  const ranks = Array.from({ length: 8 }, (_, l) => slider({
    label: html("span", {}, "Rank ", html("i", {}, "r"), html("sub", {}, l + 1)), min: 1, max: 64, step: 1,
    act: (rank) => set(get().map((one, m) => (m === l ? rank : one))),
  }));
  const show = (list) => {
    preset.show(list.join("|"));
    levels.show(list.length);
    ranks.forEach((one, l) => {
      one.node.style.display = l < list.length ? "" : "none";
      if (l < list.length) one.show(list[l]);
    });
  };
  return { preset: preset.node, sliders: html("div", { class: "sx-ranks" }, levels.node, ...ranks.map((one) => one.node)), show };
};

// The parts of what a token costs: a bar of MACs by part, as long as they are of the `most`, and the words for its shades.
const COST_SHADES = {
  projections: "var(--accent)", scores: "var(--high)", values: "color-mix(in srgb, var(--high) 45%, var(--ground))",
  feedForward: "var(--muted)", ends: "var(--text)",
};
const costBar = (macs, most) => html("div", { class: "sx-cost-bar" },
  ...Object.entries(macs).map(([part, number]) => html("span", { style: `inline-size: ${(100 * number) / most}%; background: ${COST_SHADES[part]}` })));
const costKey = (names) => html("p", { class: "sx-cost-key" },
  ...Object.entries(names).map(([part, name]) => html("span", {}, html("i", { style: `background: ${COST_SHADES[part]}` }), name)));

const button = (text, act, attributes) => html("button", { type: "button", onclick: act, ...attributes }, text);

// What is shown, in words: at once for the eye, and for the ear when the hand rests.
const words = () => {
  const seen = html("p", { class: "sx-words" });
  const heard = html("p", { class: "sx-heard", role: "status", "aria-live": "polite" });
  let timer;
  const say = (text) => {
    if (seen.textContent === text) return;
    seen.textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => { heard.textContent = text; }, 500);
  };
  return { node: html("div", {}, seen, heard), say };
};

// Something in a drawing that pointer and arrow keys move. act(dx, dy) gets steps of the arrow keys, to(event) the
// pointer; click() is a press without movement, Enter and Space.
const movable = (node, { act, to, click = () => {} }) => {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  let start = null;
  let moved = false;
  fill(node, {
    tabindex: 0,
    onkeydown: (event) => {
      if (arrows[event.key]) act(...arrows[event.key].map((one) => one * (event.shiftKey ? 5 : 1)));
      else if (event.key === "Enter" || event.key === " ") click();
      else return;
      event.preventDefault();
    },
    onpointerdown: (event) => {
      node.setPointerCapture(event.pointerId);
      node.focus();
      start = event;
      moved = false;
      event.preventDefault();
    },
    onpointermove: (event) => {
      if (!start) return;
      moved ||= Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > 3;
      if (moved) to(event);
    },
    onpointerup: () => {
      if (start && !moved) click();
      start = null;
    },
    onpointercancel: () => { start = null; },
  }, []);
  return node;
};

// Where on a drawing, in its own units, the pointer is.
const pointerIn = (drawing, event) => {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
  return [point.x, point.y];
};

const wantsLessMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Builds an explorable: its style, its parts, and `draw` once a frame when one of the model's `names` has changed.
const stage = ({ model, el, names, style = "" }, parts, draw) => {
  el.replaceChildren(html("div", { class: "sx" }, html("style", {}, STYLE + style), ...parts));
  let asked = false;
  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
  const events = names.map((name) => `change:${name}`);
  for (const event of events) model.on(event, ask);
  draw();
  return () => events.forEach((event) => model.off(event, ask));
};

const setter = (model) => (changes) => {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
};

const LIGHT = `color-scheme: light;
  --text: var(--sa-text, #1c2733); --muted: var(--sa-muted, #4d5a66); --surface: var(--sa-surface, #f5f7f9);
  --border: var(--sa-border, #bcc7d1); --accent: var(--sa-accent, #1b5e8c); --accent-2: var(--sa-accent-2, #a34e08);
  --ground: #ffffff; --grid: #dde4ea; --high: #b2332c; --low: #2167ac; --right: #00765a; --wrong: #c04a00;`;
const DARK = `color-scheme: dark;
  --text: var(--sa-text, #e4eaf0); --muted: var(--sa-muted, #adb9c4); --surface: var(--sa-surface, #1f272f);
  --border: var(--sa-border, #46525e); --accent: var(--sa-accent, #8ec5ee); --accent-2: var(--sa-accent-2, #f3b950);
  --ground: #14191f; --grid: #2f3a44; --high: #f58a7c; --low: #74b3ee; --right: #55d0a6; --wrong: #f79b52;`;

// The page says its theme on html[data-theme], JupyterLab on data-jp-theme-light, Colab on html[theme].
const STYLE = `
.sx { ${LIGHT} }
@media (prefers-color-scheme: dark) { .sx { ${DARK} } }
:is(html[data-theme=light], html[theme=light], [data-jp-theme-light=true], .vscode-light) .sx { ${LIGHT} }
:is(html[data-theme=dark], html[theme=dark], [data-jp-theme-light=false], .vscode-dark) .sx { ${DARK} }
.sx { color: var(--text); background: var(--surface); padding: 1rem; border-radius: .5rem;
  font: 400 .95rem/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; box-sizing: border-box; }
.explorable .sx { padding: 0; background: none; }
.sx *, .sx *::before { box-sizing: border-box; }
.sx-panels + * { margin-top: .75rem; }
.sx-panels + * > .sx-words { min-block-size: 4.2em; }
.sx-panels { display: grid; gap: 1rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); align-items: start; }
.sx-row { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; }
.sx-stack { display: grid; gap: .75rem; min-width: 0; align-content: start; }
.sx svg { display: block; inline-size: 100%; block-size: auto; overflow: hidden; }
.sx svg text { fill: var(--text); font-size: 13px; font-family: inherit; user-select: none; }
.sx svg text.quiet { fill: var(--muted); font-size: 12px; }
.sx-plot { border-radius: .4rem; background: var(--ground); border: 1px solid var(--border); }
.sx-ranks { display: grid; grid-template-columns: repeat(auto-fit, minmax(6rem, 1fr)); gap: .25rem 1rem; }
.sx-slider { display: grid; grid-template-columns: 1fr auto; gap: 0 .5rem; flex: 1 1 10rem; min-width: 0; }
.sx-slider label, .sx legend, .sx-head { font-size: .88rem; color: var(--muted); margin: 0; padding: 0; }
.sx-slider output { font-variant-numeric: tabular-nums; font-weight: 600; }
.sx-slider input { grid-column: 1 / -1; inline-size: 100%; block-size: 1.75rem; margin: 0; accent-color: var(--accent); cursor: pointer; }
.sx fieldset { border: 0; margin: 0; padding: 0; min-width: 0; }
.sx-choices > div { display: inline-flex; flex-wrap: wrap; border: 1px solid var(--border); border-radius: .4rem; overflow: clip; }
.sx-choices label { position: relative; margin: 0; cursor: pointer; }
.sx-choices input { position: absolute; inset: 0; opacity: 0; margin: 0; cursor: pointer; inline-size: 100%; block-size: 100%; }
.sx-choices span { display: block; min-inline-size: 2rem; padding: .3rem .6rem; text-align: center; color: var(--text); background: var(--ground); }
.sx-choices :checked + span { background: var(--accent); color: var(--ground); font-weight: 600; }
.sx-choices :focus-visible + span { outline: 3px solid var(--accent-2); outline-offset: -3px; }
.sx button { font: inherit; color: var(--text); background: var(--ground); border: 1px solid var(--border); border-radius: .4rem;
  padding: .3rem .7rem; min-block-size: 2rem; cursor: pointer; margin: 0; }
.sx button:hover:not(:disabled, .main, [aria-pressed=true]), .sx-choices label:hover :not(:checked) + span { border-color: var(--accent); color: var(--accent); }
.sx button.main, .sx button[aria-pressed=true] { background: var(--accent); color: var(--ground); border-color: var(--accent); font-weight: 600; }
.sx button:is(.main, [aria-pressed=true]):hover:not(:disabled) { filter: brightness(1.1); }
.sx button:disabled { opacity: .55; cursor: default; }
.sx :is(button, input, [tabindex]):focus-visible { outline: 3px solid var(--accent-2) !important; outline-offset: 2px; }
.sx-table { border-collapse: collapse; inline-size: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; margin: 0; }
.sx-table :is(th, td) { padding: .2rem .3rem; border: 0; background: none; text-align: end; font-weight: 400; }
.sx-table :is(th, td):first-child { text-align: start; }
.sx-table caption { caption-side: top; text-align: start; font-size: .88rem; color: var(--muted); padding: 0 0 .2rem; margin: 0; }
.sx-table thead th { color: var(--muted); vertical-align: bottom; }
.sx-table span { white-space: nowrap; }
.sx-table tr.now :is(th, td) { color: var(--accent); font-weight: 600; }
.sx-table td.bar { padding: 0 .3rem .5rem; }
.sx-words { margin: 0; min-block-size: 8.4em; line-height: 1.4; }
.sx-cost-bar { display: flex; block-size: .9rem; }
.sx-cost-bar span { border-inline-end: 1px solid var(--ground); }
.sx-cost-key { display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .88rem; color: var(--muted); margin: 0; }
.sx-cost-key i { display: inline-block; inline-size: .8em; block-size: .8em; border-radius: .15rem; margin-inline-end: .4em; }
.sx sub { line-height: 0; }
.sx-heard { position: absolute; inline-size: 1px; block-size: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.sx .handle { cursor: grab; touch-action: none; outline: none; }
.sx .handle:active { cursor: grabbing; }
.sx .handle .ring { fill: none; stroke: none; }
.sx .handle:focus-visible .ring { stroke: var(--accent-2); stroke-width: 3; }
.sx .handle:focus-visible { outline: none !important; }
`;
