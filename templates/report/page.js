"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const NS = "http://www.w3.org/2000/svg";
  const COLOURS = 8;
  const DASHES = ["", "6 3", "2 3", "9 3 2 3"];
  const several = data.runs.length > 1;
  const state = { axis: "step", smooth: 0, log: false, hidden: new Set() };

  const html = (tag, attributes, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const svg = (tag, attributes) => {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const colour = (index) => `var(--c${index % COLOURS})`;
  const dash = (index) => DASHES[Math.floor(index / COLOURS) % DASHES.length];

  const trim = (text) => text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  const short = (value) => {
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 1e9) return trim((value / 1e9).toFixed(2)) + "G";
    if (size >= 1e6) return trim((value / 1e6).toFixed(2)) + "M";
    if (size >= 1e4) return trim((value / 1e3).toFixed(1)) + "k";
    if (size < 1e-3) return value.toExponential(1).replace(".0e", "e");
    return trim(value.toPrecision(4));
  };
  const exact = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
    return trim(value.toPrecision(6));
  };
  const clockText = (seconds) => {
    const s = Math.round(seconds);
    if (s < 60) return `${s}s`;
    if (s < 3600) return trim((s / 60).toFixed(1)) + "m";
    if (s < 172800) return trim((s / 3600).toFixed(1)) + "h";
    return trim((s / 86400).toFixed(1)) + "d";
  };
  const AXES = {
    step: { name: "step", show: short },
    epoch: { name: "epoch", show: short },
    seconds: { name: "training time", show: clockText },
    samples: { name: "samples", show: short },
  };

  // Where a step lies on the chosen axis: between the knots of the run's clock.
  const place = (run, step) => {
    if (state.axis === "step") return step;
    const clock = data.runs[run].clock;
    if (state.axis === "samples") return clock.batch ? step * clock.batch : null;
    const values = clock[state.axis];
    const steps = clock.step;
    if (!values.length) return null;
    let low = 0;
    let high = steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1; else high = middle;
    }
    if (low === steps.length) return values[low - 1];
    const from = low ? steps[low - 1] : 0;
    const base = low ? values[low - 1] : 0;
    return base + (values[low] - base) * (step - from) / Math.max(1, steps[low] - from);
  };

  const smoothed = (points, weight) => {
    let sum = 0;
    let norm = 0;
    return points.map(([x, y, step]) => {
      sum = sum * weight + y * (1 - weight);
      norm = norm * weight + (1 - weight);
      return [x, sum / norm, step];
    });
  };

  const ticks = (low, high, count) => {
    const span = high - low || 1;
    const raw = span / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const unit = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
    const found = [];
    for (let i = Math.ceil(low / unit - 1e-9); i * unit <= high + unit * 1e-9; i++) found.push(Number((i * unit).toPrecision(12)));
    return found;
  };
  const logTicks = (low, high) => {
    const from = Math.floor(low);
    const to = Math.ceil(high);
    const stride = Math.max(1, Math.ceil((to - from) / 6));
    let factors = [1];
    if (high - low < 1) factors = [1, 1.5, 2, 3, 4, 5, 6, 8];
    else if (high - low < 2.2) factors = [1, 2, 5];
    const found = [];
    for (let e = from; e <= to; e += stride) {
      for (const factor of factors) {
        const at = e + Math.log10(factor);
        if (at >= low - 1e-9 && at <= high + 1e-9) found.push(at);
      }
    }
    return found.length > 1 ? found : [low, (low + high) / 2, high];
  };

  class Plot {
    constructor(panel) {
      this.panel = panel;
      const note = panel.unit ? ` (${panel.unit})` : "";
      this.figure = html("figure", { class: "plot", "data-panel": panel.id }, html("figcaption", {}, panel.title, html("small", {}, note)));
      if (!several && panel.series.length > 1) {
        const legend = html("div", { class: "legend", role: "group", "aria-label": `Curves of ${panel.title}` });
        panel.series.forEach((series, index) => legend.append(toggle(series.label, this.key(index), index)));
        this.figure.append(legend);
      }
      this.svg = svg("svg", { tabindex: 0, role: "img", "aria-label": `${panel.title}: use the arrow keys to read values` });
      this.tip = html("div", { class: "tip", hidden: "" });
      this.figure.append(this.svg, this.tip);
      this.svg.addEventListener("pointermove", (event) => this.hover(event.clientX - this.svg.getBoundingClientRect().left));
      this.svg.addEventListener("pointerleave", () => this.leave());
      this.svg.addEventListener("blur", () => this.leave());
      this.svg.addEventListener("keydown", (event) => this.keyed(event));
    }

    key(index) {
      return several ? `run ${this.panel.series[index].run}` : `${this.panel.id} ${index}`;
    }

    colourIndex(index) {
      return several ? this.panel.series[index].run : index;
    }

    // Points to be drawn: [x, y as drawn, step], raw and smoothed.
    prepare() {
      this.curves = [];
      this.panel.series.forEach((series, index) => {
        if (state.hidden.has(this.key(index))) return;
        const raw = [];
        series.x.forEach((step, i) => {
          const x = place(series.run, step);
          const y = series.y[i];
          if (x !== null && y !== null && !(state.log && y <= 0)) raw.push([x, y, step]);
        });
        if (!raw.length) return;
        const smooth = state.smooth > 0 && raw.length > 2;
        this.curves.push({ index, series, raw, points: smooth ? smoothed(raw, state.smooth) : raw, smooth });
      });
    }

    draw() {
      this.prepare();
      this.leave();
      const box = this.svg.getBoundingClientRect();
      const width = Math.max(240, box.width || 480);
      const height = Math.max(160, box.height || 260);
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren();
      if (!this.curves.length) {
        const text = svg("text", { class: "empty", x: width / 2, y: height / 2, "text-anchor": "middle" });
        text.textContent = this.panel.series.length && state.log ? "nothing above zero to show" : "nothing to show";
        this.svg.append(text);
        this.scale = null;
        return;
      }
      const value = state.log ? Math.log10 : (y) => y;
      let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
      for (const curve of this.curves) {
        for (const [x, y] of curve.raw) {
          x0 = Math.min(x0, x); x1 = Math.max(x1, x);
          const v = value(y);
          y0 = Math.min(y0, v); y1 = Math.max(y1, v);
        }
      }
      if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
      const room = (y1 - y0) * 0.06 || Math.abs(y1) * 0.05 || 0.5;
      const floor = !state.log && y0 >= 0;
      y0 -= room; y1 += room;
      if (floor) y0 = Math.max(0, y0);
      const yTicks = state.log ? logTicks(y0, y1) : ticks(y0, y1, 5);
      const yText = (v) => short(state.log ? 10 ** v : v);
      const left = 16 + 7.2 * Math.max(...yTicks.map((v) => yText(v).length));
      const [right, top, bottom] = [14, 10, 38];
      const sx = (x) => left + (x - x0) / (x1 - x0) * (width - left - right);
      const sy = (y) => height - bottom - (value(y) - y0) / (y1 - y0) * (height - top - bottom);
      this.scale = { sx, sy, left, right, width, height, top, bottom };
      for (const v of yTicks) {
        const y = height - bottom - (v - y0) / (y1 - y0) * (height - top - bottom);
        this.svg.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y }));
        const text = svg("text", { x: left - 7, y: y + 4, "text-anchor": "end" });
        text.textContent = yText(v);
        this.svg.append(text);
      }
      const axis = AXES[state.axis];
      const xTicks = state.axis === "seconds" ? timeTicks(x0, x1, width / 110) : ticks(x0, x1, Math.max(2, width / 90));
      for (const x of xTicks) {
        this.svg.append(svg("line", { class: "axis", x1: sx(x), x2: sx(x), y1: height - bottom, y2: height - bottom + 4 }));
        const text = svg("text", { x: sx(x), y: height - bottom + 17, "text-anchor": "middle" });
        text.textContent = axis.show(x);
        this.svg.append(text);
      }
      this.svg.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
      const name = svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" });
      name.textContent = axis.name;
      this.svg.append(name);
      for (const curve of this.curves) {
        if (curve.smooth) this.path(curve, curve.raw, "raw", 1);
        this.path(curve, curve.points, "curve", 1.75);
        if (curve.raw.length <= 40) {
          for (const [x, y] of curve.points) this.svg.append(svg("circle", { cx: sx(x), cy: sy(y), r: 2.6, fill: colour(this.colourIndex(curve.index)) }));
        }
      }
      this.cursor = svg("g", { hidden: "" });
      this.svg.append(this.cursor);
    }

    path(curve, points, kind, width) {
      const { sx, sy } = this.scale;
      const d = points.map(([x, y], i) => `${i ? "L" : "M"}${sx(x).toFixed(1)} ${sy(y).toFixed(1)}`).join("");
      const index = this.colourIndex(curve.index);
      this.svg.append(svg("path", {
        class: kind, d, fill: "none", stroke: colour(index), "stroke-width": width,
        "stroke-dasharray": kind === "raw" ? "" : dash(index), "stroke-linejoin": "round", "data-run": curve.series.run, "data-label": curve.series.label,
      }));
    }

    hover(px) {
      if (!this.scale) return;
      let best = null;
      const hits = this.curves.map((curve) => {
        const { sx } = this.scale;
        let low = 0;
        let high = curve.points.length - 1;
        while (low < high) {
          const middle = (low + high) >> 1;
          if (sx(curve.points[middle][0]) < px) low = middle + 1; else high = middle;
        }
        if (low && px - sx(curve.points[low - 1][0]) < sx(curve.points[low][0]) - px) low -= 1;
        const distance = Math.abs(sx(curve.points[low][0]) - px);
        if (best === null || distance < best.distance) best = { distance, point: curve.points[low], position: low, curve };
        return { curve, point: curve.points[low] };
      });
      this.position = { curve: best.curve, at: best.position };
      this.show(best.point, hits);
    }

    show([x, , step], hits) {
      const { sx, sy, height, top, bottom, width } = this.scale;
      const at = sx(x);
      this.cursor.replaceChildren(svg("line", { class: "cursor", x1: at, x2: at, y1: top, y2: height - bottom }));
      const near = hits.filter(({ point }) => Math.abs(sx(point[0]) - at) < 12);
      near.sort((a, b) => b.point[1] - a.point[1]);
      for (const { curve, point } of near) {
        this.cursor.append(svg("circle", { cx: sx(point[0]), cy: sy(point[1]), r: 4, fill: colour(this.colourIndex(curve.index)), stroke: "var(--panel)", "stroke-width": 1.5 }));
      }
      this.cursor.removeAttribute("hidden");
      const where = state.axis === "step" ? "" : ` · ${AXES[state.axis].name} ${AXES[state.axis].show(x)}`;
      const most = 14;
      const rows = near.slice(0, most).map(({ curve, point }) => html("div", {},
        html("span", { class: "swatch", style: `background:${colour(this.colourIndex(curve.index))}` }),
        html("span", {}, curve.series.label), html("b", {}, exact(point[1]))));
      if (near.length > most) rows.push(html("div", {}, `and ${near.length - most} more`));
      this.tip.replaceChildren(html("div", {}, `step ${step}${where}`), ...rows);
      this.tip.removeAttribute("hidden");
      const box = this.svg.getBoundingClientRect();
      const outer = this.figure.getBoundingClientRect();
      const x0 = (box.left - outer.left) + at * box.width / width;
      const own = this.tip.getBoundingClientRect().width;
      const placeLeft = x0 + 14 + own > outer.width;
      this.tip.style.left = `${placeLeft ? Math.max(4, x0 - 14 - own) : x0 + 14}px`;
      this.tip.style.top = `${box.top - outer.top + 8}px`;
      this.text = `step ${step}: ` + near.slice(0, most).map(({ curve, point }) => `${curve.series.label} ${exact(point[1])}`).join(", ");
    }

    keyed(event) {
      if (!this.scale) return;
      if (event.key === "Escape") { this.leave(); return; }
      const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: 20, PageDown: -20, Home: -Infinity, End: Infinity }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      const curve = this.position && this.curves.includes(this.position.curve) ? this.position.curve : this.curves[0];
      const before = this.position && this.position.curve === curve ? this.position.at : (move > 0 ? -1 : curve.points.length);
      const at = Math.min(curve.points.length - 1, Math.max(0, before + move));
      this.hover(this.scale.sx(curve.points[at][0]));
      this.position = { curve, at };
      byId("said").textContent = this.text;
    }

    leave() {
      this.tip.setAttribute("hidden", "");
      if (this.cursor) this.cursor.setAttribute("hidden", "");
    }
  }

  const timeTicks = (low, high, count) => {
    const units = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 432000, 864000];
    const unit = units.find((seconds) => (high - low) / seconds <= Math.max(2, count)) || 864000 * Math.ceil((high - low) / 8640000);
    const found = [];
    for (let i = Math.ceil(low / unit); i * unit <= high; i++) found.push(i * unit);
    return found;
  };

  const toggle = (label, key, index) => {
    const button = html("button", { type: "button", "aria-pressed": "true" }, html("span", { class: "swatch", style: `background:${colour(index)}` }), label);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!shown));
      if (shown) state.hidden.add(key); else state.hidden.delete(key);
      redraw();
    });
    return button;
  };

  const plots = data.panels.map((panel) => new Plot(panel));
  const redraw = () => plots.forEach((plot) => plot.draw());

  if (plots.length) {
    byId("controls").hidden = false;
    const can = {
      step: true,
      epoch: data.runs.some((run) => run.clock.epoch.length),
      seconds: data.runs.some((run) => run.clock.seconds.length),
      samples: data.runs.some((run) => run.clock.batch),
    };
    for (const [name, axis] of Object.entries(AXES)) if (can[name]) byId("axis").append(html("option", { value: name }, axis.name));
    byId("axis").addEventListener("change", (event) => { state.axis = event.target.value; redraw(); });
    byId("log").addEventListener("change", (event) => { state.log = event.target.checked; redraw(); });
    byId("smooth").addEventListener("input", (event) => {
      state.smooth = Number(event.target.value);
      byId("smooth-value").textContent = event.target.value;
      redraw();
    });
    if (several) {
      const legend = byId("legend");
      legend.hidden = false;
      data.runs.forEach((run, index) => legend.append(toggle(run.id, `run ${index}`, index)));
    }
    byId("plots").append(...plots.map((plot) => plot.figure));
  } else {
    byId("plots").append(html("p", { class: "faint" }, "No metrics were recorded yet."));
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = byId("theme");
  const theme = () => document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  const name = () => { button.textContent = theme() === "dark" ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  button.addEventListener("click", () => { document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark"; name(); });
  dark.addEventListener("change", name);
  name();

  const search = byId("search");
  if (search) {
    search.closest(".filter").hidden = false;
    const rows = [...byId("config").tBodies[0].rows];
    search.addEventListener("input", () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      byId("matches").textContent = words.length ? `${shown} of ${rows.length}` : "";
    });
  }

  redraw();
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) > 1) { width = entry.contentRect.width; redraw(); }
  }).observe(byId("plots"));
  addEventListener("beforeprint", redraw);
  addEventListener("afterprint", redraw);
})();
