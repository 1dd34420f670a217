// Runs the page's explorables without a kernel: anywidget's protocol, as far as they use it, over a plain Map.
(() => {
  class Model {
    constructor(state) {
      this.values = new Map(Object.entries(state));
      this.listeners = new Map();
    }

    get(key) {
      return this.values.get(key);
    }

    set(key, value) {
      const pairs = typeof key === "object" ? Object.entries(key) : [[key, value]];
      for (const [name, next] of pairs) {
        if (this.values.get(name) === next) continue;
        this.values.set(name, next);
        this.emit(`change:${name}`, next);
        this.emit("change", next);
      }
    }

    on(events, listener) {
      for (const event of events.split(/\s+/)) {
        if (!this.listeners.has(event)) this.listeners.set(event, new Set());
        this.listeners.get(event).add(listener);
      }
    }

    off(events, listener) {
      for (const event of events.split(/\s+/)) {
        if (listener) this.listeners.get(event)?.delete(listener);
        else this.listeners.delete(event);
      }
    }

    emit(event, value) {
      for (const listener of this.listeners.get(event) ?? []) listener(value);
    }

    save_changes() {} // there is no kernel to tell
    send() {}
  }

  const imported = new Map(); // module name -> promise of the module

  const importModule = (name) => {
    if (!imported.has(name)) {
      const text = document.getElementById(`explorable-module-${name}`).textContent;
      const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      imported.set(name, import(url).finally(() => URL.revokeObjectURL(url)));
    }
    return imported.get(name);
  };

  const start = async (element) => {
    const state = JSON.parse(element.querySelector(':scope > script[type="application/json"]').textContent);
    const body = element.querySelector(".explorable-body");
    try {
      const module = await importModule(element.dataset.module);
      await module.default.render({ model: new Model(state), el: body });
      element.dataset.ready = "yes";
    } catch (error) {
      body.textContent = "This explorable could not start.";
      console.error(error);
    }
  };

  document.querySelectorAll(".explorable").forEach(start);
})();
