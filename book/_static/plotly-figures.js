// Draws each plotly figure of the page from the JSON beside it, in the colours of the theme, and again when the theme changes.
(() => {
  const here = document.currentScript.src;

  const load = (url) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.onload = resolve;
      script.onerror = () => reject(new Error(`cannot load ${url}`));
      script.src = url;
      document.head.append(script);
    });

  const themeColours = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    return { text: colour("--sa-text"), grid: colour("--sa-grid"), surface: colour("--sa-surface"), border: colour("--sa-border") };
  };

  // Settings of plotly that carry colour and are the page's business; data keep their own colours.
  const themed = (layout) => {
    const { text, grid, surface, border } = themeColours();
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, color: text };
    const change = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": text, "legend.font.color": text,
      "legend.bgcolor": "rgba(0,0,0,0)", "hoverlabel.bgcolor": surface, "hoverlabel.bordercolor": border, "hoverlabel.font.color": text,
    };
    const axes = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))]);
    for (const scene of Object.keys(layout).filter((key) => /^scene\d*$/.test(key))) {
      for (const letter of "xyz") axes.add(`${scene}.${letter}axis`);
    }
    for (const name of axes) {
      for (const [key, value] of Object.entries(axis)) change[`${name}.${key}`] = value;
      if (name.includes(".")) change[`${name}.backgroundcolor`] = "rgba(0,0,0,0)";
    }
    (layout.annotations ?? []).forEach((note, i) => {
      if (!note.font?.color) change[`annotations[${i}].font.color`] = text;
    });
    return change;
  };

  // Plotly's own menus know no keyboard: each becomes a select above the figure.
  const addMenus = (figure, canvas, menus) => {
    const row = document.createElement("div");
    row.className = "plotly-menus";
    for (const menu of menus) {
      const label = document.createElement("label");
      const select = document.createElement("select");
      menu.buttons.forEach((button, i) => select.add(new Option(button.label, i)));
      select.selectedIndex = menu.active ?? 0;
      select.addEventListener("change", () => {
        const { method, args } = menu.buttons[select.selectedIndex];
        Plotly[method](canvas, ...structuredClone(args));
      });
      label.append(`${menu.name ?? "show"} `, select);
      row.append(label);
    }
    figure.prepend(row);
  };

  const draw = async (figure) => {
    const { data, layout: { updatemenus = [], ...layout } } = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    const canvas = figure.querySelector(".plotly-canvas");
    const config = { responsive: true, displayModeBar: false, displaylogo: false, scrollZoom: false };
    await Plotly.newPlot(canvas, data, { ...layout, autosize: true }, config);
    await Plotly.relayout(canvas, themed(canvas.layout));
    if (updatemenus.length) addMenus(figure, canvas, updatemenus);
    // One that is drawn in a closed fold learns its width when the fold opens.
    figure.closest("details")?.addEventListener("toggle", ({ target }) => target.open && Plotly.Plots.resize(canvas));
    figure.dataset.drawn = "yes";
  };

  const start = async () => {
    const figures = [...document.querySelectorAll(".plotly-figure")];
    await window.MathJax?.startup?.promise; // plotly looks for MathJax when it draws text
    await load(new URL("vendor/plotly.min.js", here).href);
    await Promise.all(figures.map(draw));
    const retheme = () => figures.forEach((figure) => {
      const canvas = figure.querySelector(".plotly-canvas");
      Plotly.relayout(canvas, themed(canvas.layout));
    });
    new MutationObserver(retheme).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  };

  start().catch((error) => console.error(error));
})();
