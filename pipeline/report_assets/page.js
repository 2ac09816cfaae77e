"use strict";
// What the report of a run has besides timelines: order and search of videos, sortable classes, the confusion
// matrix and the training curves.
const PAGE_OF_VIDEOS = 20;

function videoList() {
  const list = document.getElementById("video-list");
  if (!list) return;
  const videos = [...list.children];
  const order = document.getElementById("order");
  const find = document.getElementById("find");
  const more = document.getElementById("more");
  const shown = document.getElementById("shown");
  let limit = PAGE_OF_VIDEOS;
  const compare = {
    rank: (a, b) => a.dataset.rank - b.dataset.rank,
    "-rank": (a, b) => b.dataset.rank - a.dataset.rank,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
    "-seconds": (a, b) => b.dataset.seconds - a.dataset.seconds,
  };
  function update() {
    const wanted = find.value.trim().toLowerCase();
    const found = videos.filter((video) => video.dataset.name.toLowerCase().includes(wanted));
    const visible = new Set(found.sort(compare[order.value]).slice(0, limit));
    for (const video of videos) video.hidden = !visible.has(video);
    list.append(...visible);
    more.hidden = visible.size === found.length;
    more.textContent = `Show ${Math.min(PAGE_OF_VIDEOS, found.length - visible.size)} more of ${found.length}`;
    shown.textContent = visible.size === videos.length ? "" : `${visible.size} of ${videos.length} shown`;
  }
  order.addEventListener("change", update);
  find.addEventListener("input", update);
  more.addEventListener("click", () => {
    limit += PAGE_OF_VIDEOS;
    update();
  });
  update();
}

function sortableTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const asText = head.dataset.sort === "text";
        const down = head.getAttribute("aria-sort") === (asText ? "ascending" : "descending") ? asText : !asText;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.value;
        const rows = [...table.tBodies[0].rows].sort((a, b) =>
          asText ? key(a).localeCompare(key(b), undefined, { numeric: true }) : key(a) - key(b),
        );
        table.tBodies[0].append(...(down ? rows.reverse() : rows));
      });
    });
  }
}

function confusionMatrix() {
  const host = document.getElementById("matrix");
  if (!host) return;
  const { classes, rows } = data.confusion;
  const size = classes.length <= 8 ? 52 : classes.length <= 14 ? 42 : classes.length <= 30 ? 32 : 25;
  const swatch = () => element("i", { className: "swatch" });
  const head = element("tr", {}, element("td", { className: "corner" }, "truth ↓ predicted →"));
  for (const id of classes) {
    head.append(element("th", { scope: "col", className: `c${id}`, title: data.classes[id] }, element("span", {}, swatch(), data.classes[id])));
  }
  const body = element("tbody");
  rows.forEach((row, truth) => {
    const support = row.reduce((sum, frames) => sum + frames, 0);
    const line = element("tr", {}, element("th", { scope: "row", className: `c${classes[truth]}`, title: data.classes[classes[truth]] }, element("span", {}, swatch(), data.classes[classes[truth]])));
    row.forEach((frames, predicted) => {
      const share = support ? frames / support : 0;
      const percent = Math.round(100 * share);
      const cell = element("td", { textContent: frames === 0 ? "" : percent === 0 ? "·" : percent });
      cell.className = truth === predicted ? "right" : "wrong";
      if (share > 0.55) cell.classList.add("strong");
      cell.style.setProperty("--share", `${(100 * share ** 0.75).toFixed(1)}%`);
      Object.assign(cell.dataset, { truth, predicted, frames, share: (100 * share).toFixed(1) });
      line.append(cell);
    });
    body.append(line);
  });
  const table = element("table", {}, element("thead", {}, head), body);
  table.style.setProperty("--cell", `${size}px`);
  host.append(table);
  host.dataset.cells = rows.length ** 2;
  host.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("td[data-truth]");
    if (!cell) return tip.hide();
    const [truth, predicted] = [classes[cell.dataset.truth], classes[cell.dataset.predicted]];
    const line = (which, id) => element("div", { className: `line c${id}` }, swatch(), element("span", { className: "which", textContent: which }), element("b", { textContent: data.classes[id] }));
    tip.show(event.clientX, event.clientY, line("Truth", truth), line("Predicted", predicted),
      element("div", { className: "time", textContent: `${Number(cell.dataset.frames).toLocaleString("en")} frames, ${cell.dataset.share} % of the class` }));
  });
  host.addEventListener("pointerleave", () => tip.hide());
}

function niceTicks(low, high) {
  // A line that never moves lies in the middle between 0 and its double.
  if (low === high) [low, high] = low ? [Math.min(0, 2 * low), Math.max(0, 2 * low)] : [0, 1];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const ticks = [];
  for (let index = Math.floor(low / step); index * step < high + step * 0.999; index++) ticks.push(index * step);
  return ticks;
}

const short = (value) => String(Number(value.toPrecision(4)));

class Chart {
  constructor(panel) {
    this.panel = panel;
    this.svg = shape("svg", { tabindex: 0, role: "img" });
    const last = panel.series.map(({ name, values }) => `${name} ${short(values.findLast((value) => value !== null) ?? NaN)}`);
    this.svg.setAttribute("aria-label", `${panel.title} over ${panel.x.length} epochs; last: ${last.join(", ")}`);
    const legend = element("ul", { className: "series" });
    panel.series.forEach(({ name }, index) => legend.append(element("li", { className: `s${index % 8}` }, element("i"), name)));
    this.node = element("figure", { className: "panel" }, element("figcaption", { textContent: panel.title }), this.svg, legend);
    this.svg.addEventListener("pointermove", (event) => this.point(this.indexAt(event.clientX), event.clientX, event.clientY));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("blur", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  draw() {
    const { x, series } = this.panel;
    const [width, height, left, right, top, bottom] = [this.svg.clientWidth || 320, 210, 46, 10, 8, 24];
    const values = series.flatMap((each) => each.values).filter((value) => value !== null);
    const ticks = niceTicks(Math.min(...values, values.length ? Infinity : 0), Math.max(...values, values.length ? -Infinity : 1));
    const [low, high] = [ticks[0], ticks.at(-1)];
    const span = x.at(-1) - x[0];
    this.toX = (index) => left + (span ? (x[index] - x[0]) / span : 0.5) * (width - left - right);
    this.toY = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const text = (content, attributes) => {
      const node = shape("text", attributes);
      node.textContent = content;
      return node;
    };
    const grid = ticks.flatMap((tick) => [
      shape("line", { x1: left, x2: width - right, y1: this.toY(tick), y2: this.toY(tick), class: "grid" }),
      text(short(tick), { x: left - 8, y: this.toY(tick) + 4, "text-anchor": "end" }),
    ]);
    const every = Math.max(1, Math.ceil(x.length / Math.max(2, Math.floor((width - left) / 56))));
    const labels = x.flatMap((value, index) => (index % every ? [] : [text(short(value), { x: this.toX(index), y: height - 6, "text-anchor": "middle" })]));
    const lines = series.flatMap((each, index) => this.line(each.values, `s${index % 8}`));
    this.rule = shape("line", { y1: top, y2: height - bottom, class: "rule", visibility: "hidden" });
    this.svg.replaceChildren(...grid, ...labels, ...lines, this.rule);
  }

  line(values, className) {
    let pen = "M";
    let path = "";
    const dots = [];
    values.forEach((value, index) => {
      if (value === null) return (pen = "M");
      path += `${pen}${this.toX(index).toFixed(1)} ${this.toY(value).toFixed(1)}`;
      pen = "L";
      const alone = (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
      if (alone) dots.push(shape("circle", { cx: this.toX(index), cy: this.toY(value), r: 3, class: className }));
    });
    return [shape("path", { d: path || "M0 0", class: `curve ${className}` }), ...dots];
  }

  indexAt(clientX) {
    const x = clientX - this.svg.getBoundingClientRect().left;
    const distances = this.panel.x.map((_, index) => Math.abs(this.toX(index) - x));
    return distances.indexOf(Math.min(...distances));
  }

  point(index, clientX, clientY) {
    this.index = index;
    this.rule.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) return tip.hide();
    this.rule.setAttribute("x1", this.toX(index));
    this.rule.setAttribute("x2", this.toX(index));
    const lines = this.panel.series.map(({ name, values }, each) =>
      element("div", { className: `line s${each % 8}` }, element("i", { className: "swatch" }), element("span", { className: "which", textContent: name }), element("b", { textContent: values[index] === null ? "-" : short(values[index]) })));
    tip.show(clientX, clientY, element("div", { className: "time", textContent: `epoch ${short(this.panel.x[index])}` }), ...lines);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const index = Math.min(this.panel.x.length - 1, Math.max(0, (this.index ?? (step > 0 ? -1 : this.panel.x.length)) + step));
    const box = this.svg.getBoundingClientRect();
    this.point(index, box.left + this.toX(index), box.top + 20);
  }
}

function trainingCurves() {
  const host = document.getElementById("panels");
  if (!host) return;
  for (const panel of data.panels) {
    const chart = new Chart(panel);
    host.append(chart.node);
    chart.draw();
  }
  host.dataset.panels = data.panels.length;
}

drawTimelines();
videoList();
sortableTables();
confusionMatrix();
trainingCurves();
document.documentElement.dataset.ready = "true";
