// Stacked trends on one time axis. A refresh changes the data and never the zoom; a refresh that
// does not come hides the picture. `uPlot` is defined above this text when it is loaded.

const INK = "#1d2429", MUTED = "#5f686e", GRID = "#d3d6d8", PLAN = "#4b6478", HELD = "#8b9298";
const OUTSIDE = "#b35400", BAND = "rgba(75,100,120,.22)";
const FEED_TIMEOUT_MS = 20000; // four missed refreshes of the slowest page
const charts = new WeakMap(); // the root element -> its chart

const fixed = (v, decimals) => (v === null || v === undefined ? "–" : v.toFixed(decimals));

function isOutside(value, [low, high]) {
  return value !== null && ((low !== null && value < low) || (high !== null && value > high));
}

// History and future live on their own times; join marks missing places so lines stay whole.
function columns(panel) {
  const outside = panel.values.map((v) => (isOutside(v, panel.operator) ? v : null));
  const { times_s, middle, low, high, holding } = panel.future;
  const none = times_s.map(() => null);
  return uPlot.join([
    [panel.times_s, panel.values, outside],
    [times_s, middle, ...[low, high, holding].map((line) => (line.length ? line : none))],
  ]);
}

function limitLines(panel, nowS) {
  return (u) => {
    const { ctx, bbox } = u;
    const line = (x0, y0, x1, y1, dash) => {
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(x0, y0);
      ctx.lineTo(x1, y1);
      ctx.stroke();
    };
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.strokeStyle = MUTED;
    ctx.lineWidth = devicePixelRatio;
    for (const [limits, dash] of [[panel().engineering, []], [panel().operator, [6, 4]]]) {
      for (const edge of limits) {
        if (edge === null) continue;
        const y = Math.round(u.valToPos(edge, "y", true));
        line(bbox.left, y, bbox.left + bbox.width, y, dash);
      }
    }
    const x = Math.round(u.valToPos(nowS(), "x", true));
    ctx.strokeStyle = INK;
    line(x, bbox.top, x, bbox.top + bbox.height, [2, 3]);
    ctx.restore();
  };
}

function limitWords({ operator, engineering }) {
  const range = ([low, high]) => `${low ?? "–"} … ${high ?? "–"}`;
  const has = (pair) => pair[0] !== null || pair[1] !== null;
  const words = [];
  if (has(operator)) words.push(`operator ${range(operator)}`);
  if (has(engineering)) words.push(`engineering ${range(engineering)}`);
  return words.join(", ");
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

class Trend {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.signature = signatureOf(data);
    this.zoom = null; // [from, to] in seconds, or null while everything is shown
    this.isMoving = false;
    root.replaceChildren();
    root.classList.toggle("pw-small", data.is_small);
    root.append(element("div", "pw-gone", "No contact with the server: values are hidden."));
    root.append(this.bar());
    this.grid = element("div", "pw-panels");
    root.append(this.grid);
    this.sync = uPlot.sync("pw-" + Math.random());
    this.parts = data.panels.map((_, i) => this.panel(i));
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.grid);
  }

  bar() {
    const bar = element("div", "pw-bar");
    if (!this.data.is_small) {
      const buttons = element("div", "pw-buttons");
      const add = (label, name, act) => {
        const button = element("button", "", label);
        button.type = "button";
        button.setAttribute("aria-label", name);
        button.onclick = act;
        buttons.append(button);
      };
      add("−", "Zoom out", () => this.scale(2, 0));
      add("+", "Zoom in", () => this.scale(0.5, 0));
      add("◀", "Earlier", () => this.scale(1, -0.5));
      add("▶", "Later", () => this.scale(1, 0.5));
      add("All", "Show the whole time span", () => this.show(null));
      bar.append(buttons);
    }
    const legend = element("div", "pw-legend");
    for (const [kind, label] of [
      ["value", "reading"], ["outside", "outside operator limits"], ["middle", "plan / forecast"],
      ["band", "90 % band"], ["held", "if nothing moves"], ["operator", "operator limits"], ["engineering", "engineering limits"],
    ]) {
      const entry = element("span", "");
      entry.append(element("i", "l-" + kind), label);
      legend.append(entry);
    }
    bar.append(legend);
    return bar;
  }

  panel(i) {
    const box = element("div", "pw-panel");
    const title = element("div", "pw-title");
    const name = element("span", "");
    const { tag, description, unit, decimals, is_stepped } = this.data.panels[i];
    const limits = element("span", "pw-limits", limitWords(this.data.panels[i]));
    name.append(element("b", "", tag), " ", element("span", "pw-what", description), limits);
    name.title = description;
    const read = element("span", "pw-read");
    title.append(name, read);
    const place = element("div", "pw-plot");
    place.setAttribute("role", "img");
    box.append(title, place);
    this.grid.append(box);
    const now = () => this.data.panels[i];
    const paths = is_stepped ? uPlot.paths.stepped({ align: 1 }) : undefined;
    const line = (stroke, width, extra) => ({ stroke, width, paths, points: { show: false }, ...extra });
    const font = `12px ${getComputedStyle(this.root).fontFamily}`;
    const thin = { stroke: GRID, width: 1 };
    const axis = { stroke: MUTED, font, grid: thin, ticks: thin };
    const plot = new uPlot({
      width: 300,
      height: this.data.height_px,
      padding: [8, 22, 0, 0],
      legend: { show: false },
      tzDate: (s) => uPlot.tzDate(new Date(s * 1e3), this.data.zone),
      scales: {
        x: { time: true },
        y: { range: () => now().y_range },
      },
      axes: [
        { ...axis, size: 34, space: this.data.is_small ? 48 : 70, values: (u, ticks, _a, _s, step) => this.times(ticks, step) },
        { ...axis, size: 46, values: (u, ticks) => ticks.map((v) => String(+v.toFixed(6))) },
      ],
      series: [
        {},
        line(INK, 1.5),
        line(OUTSIDE, 3, { points: { show: true, size: 4, fill: OUTSIDE } }),
        line(PLAN, 1.5, { dash: [6, 4] }),
        line("transparent", 0),
        line("transparent", 0),
        line(HELD, 1),
      ],
      bands: [{ series: [5, 4], fill: BAND }],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        sync: { key: this.sync.key },
        points: { show: false },
        bind: { dblclick: () => () => this.show(null) },
      },
      hooks: {
        draw: [limitLines(now, () => this.data.now_s)],
        setSelect: [(u) => this.selected(u)],
        setCursor: [(u) => this.readout(i, u.cursor.idx)],
      },
    }, columns(now()), place);
    return { plot, read, place, unit, decimals };
  }

  times(ticks, stepS) {
    const form = new Intl.DateTimeFormat("en-GB", {
      timeZone: this.data.zone, hour: "2-digit", minute: "2-digit",
      ...(stepS < 60 ? { second: "2-digit" } : {}),
      ...(stepS >= 86400 ? { day: "2-digit", month: "short" } : {}),
    });
    return ticks.map((t) => form.format(new Date(t * 1e3)));
  }

  selected(u) {
    if (u.select.width < 6) return;
    const from = u.posToVal(u.select.left, "x");
    const to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (!this.isMoving) this.show([from, to]);
  }

  span() {
    return this.zoom ?? [this.data.start_s, this.data.end_s];
  }

  scale(factor, shift) {
    const [from, to] = this.span();
    const half = (factor * (to - from)) / 2;
    const middle = (from + to) / 2 + shift * (to - from);
    const isAll = factor > 1 && 2 * half >= this.data.end_s - this.data.start_s;
    this.show(isAll ? null : [middle - half, middle + half]);
  }

  show(zoom) {
    this.zoom = zoom;
    const [min, max] = this.span();
    this.isMoving = true;
    for (const { plot } of this.parts) plot.setScale("x", { min, max });
    this.isMoving = false;
    this.root.dataset.zoom = zoom ? zoom.map((t) => t.toFixed(1)).join(" ") : "";
  }

  update(data) {
    this.data = data;
    this.parts.forEach(({ plot }, i) => plot.setData(columns(data.panels[i]), false));
    this.show(this.zoom);
    this.parts.forEach((part, i) => {
      this.readout(i, part.plot.cursor.idx);
      part.place.setAttribute("aria-label", this.inWords(i));
    });
    this.root.classList.remove("pw-dead");
    this.root.dataset.tick = data.tick;
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.root.classList.add("pw-dead"), FEED_TIMEOUT_MS);
  }

  readout(i, index) {
    const part = this.parts?.[i];
    if (!part) return;
    const { unit, decimals, plot } = part;
    const panel = this.data.panels[i];
    if (index === null || index === undefined || plot.data[0][index] === undefined) {
      const last = panel.values.length - 1;
      // With its time, or an old reading would look like the present.
      part.read.textContent = last < 0 ? "no readings" :
        `${this.times([panel.times_s[last]], 1)[0]}  ${fixed(panel.values[last], decimals)} ${unit}`;
      return;
    }
    const [times, value, , middle, low, high, holding] = plot.data.map((column) => column[index]);
    const clock = this.times([times], 1)[0];
    const seen = value !== null && value !== undefined ? fixed(value, decimals) : null;
    const band = low === null || low === undefined ? "" :
      ` (${fixed(low, decimals)} … ${fixed(high, decimals)})`;
    const held = holding === null || holding === undefined ? "" :
      `, if nothing moves ${fixed(holding, decimals)}`;
    const words = seen ??
      (middle === undefined ? "–" : `plan ${fixed(middle, decimals)}${band}${held}`);
    part.read.textContent = `${clock}  ${words} ${unit}`;
  }

  inWords(i) {
    const panel = this.data.panels[i];
    const last = fixed(panel.values[panel.values.length - 1], panel.decimals);
    return `${panel.tag}: last reading ${last} ${panel.unit}; limits ${limitWords(panel)}`;
  }

  resize() {
    for (const { plot, place } of this.parts) {
      const width = Math.floor(place.clientWidth);
      if (width > 0 && width !== plot.width) plot.setSize({ width, height: this.data.height_px });
    }
  }

  destroy() {
    clearTimeout(this.watchdog);
    this.sizes.disconnect();
    for (const { plot } of this.parts) plot.destroy();
  }
}

function signatureOf(data) {
  return JSON.stringify([
    data.zone, data.height_px, data.is_small,
    data.panels.map((p) =>
      [p.tag, p.description, p.unit, p.decimals, p.is_stepped, p.operator, p.engineering]),
  ]);
}

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".pw-trend");
  let chart = charts.get(root);
  if (!chart || chart.signature !== signatureOf(data)) {
    const zoom = chart?.zoom ?? null;
    chart?.destroy();
    chart = new Trend(root, data);
    chart.zoom = zoom;
    charts.set(root, chart);
  }
  chart.update(data);
  chart.resize();
  return () => {
    if (!root.isConnected) {
      charts.get(root)?.destroy();
      charts.delete(root);
    }
  };
}
