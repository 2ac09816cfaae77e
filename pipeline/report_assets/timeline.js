"use strict";
// The timeline of one video: ruler, truth, differences, prediction, confidence. Text goes in as text, never as
// markup. Shared by the report of a run and the page of new videos.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = document.querySelector("svg").namespaceURI;

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node && name !== "role") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function shape(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function clock(seconds, decimals = 2) {
  const units = 10 ** decimals;
  const rounded = Math.round(seconds * units);
  const minutes = Math.floor(rounded / (60 * units));
  const rest = (rounded / units - 60 * minutes).toFixed(decimals);
  return `${minutes}:${rest.padStart(decimals ? decimals + 3 : 2, "0")}`;
}

const tip = {
  node: document.getElementById("tip"),
  show(x, y, ...lines) {
    this.node.replaceChildren(...lines);
    this.node.hidden = false;
    const box = this.node.getBoundingClientRect();
    const left = Math.min(Math.max(8, x + 14), innerWidth - box.width - 8);
    const below = y + 18 + box.height < innerHeight;
    this.node.style.left = `${Math.max(8, left)}px`;
    this.node.style.top = `${below ? y + 18 : Math.max(8, y - box.height - 12)}px`;
  },
  hide() {
    this.node.hidden = true;
  },
};
document.addEventListener("keydown", (event) => event.key === "Escape" && tip.hide());

const TICK_SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];
const ROW_NAMES = { truth: "Truth", predicted: "Predicted" };

class Timeline {
  constructor(host, video) {
    this.video = { ...video };
    [this.start, this.end] = video.span;
    for (const name of Object.keys(ROW_NAMES)) {
      if (video[name]) this.video[name] = { ...video[name], starts: this.startsOf(video[name].gaps) };
    }
    this.zoom = 1;
    this.rows = {};
    this.active = null;
    this.host = host;
    this.draw();
    this.listen();
    new ResizeObserver(() => this.layOut()).observe(this.scroller);
    host.dataset.drawn = "true";
    host.dataset.segments = host.querySelectorAll(".segment").length;
  }

  // The page holds milliseconds from one start to the next.
  startsOf(gaps) {
    let milliseconds = Math.round(1000 * this.start);
    return gaps.map((gap) => (milliseconds += gap) / 1000);
  }

  get names() {
    return Object.keys(this.rows);
  }

  bounds(name, index) {
    const { starts } = this.video[name];
    return [starts[index], starts[index + 1] ?? this.end];
  }

  at(name, seconds) {
    const { starts } = this.video[name];
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= seconds) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  place(node, start, end) {
    const span = this.end - this.start;
    node.style.left = `${(100 * (start - this.start)) / span}%`;
    node.style.width = `${(100 * (end - start)) / span}%`;
    return node;
  }

  draw() {
    const buttons = [
      ["−", "Zoom out", () => this.zoomTo(this.zoom / 1.6)],
      ["+", "Zoom in", () => this.zoomTo(this.zoom * 1.6)],
      ["Fit", "Show the whole video", () => this.zoomTo(1)],
    ].map(([text, label, onclick]) =>
      element("button", { type: "button", className: "quiet", textContent: text, title: label, "aria-label": label, onclick }),
    );
    this.readout = element("p", { className: "readout", role: "status" });
    this.canvas = element("div", { className: "canvas" });
    this.scroller = element("div", { className: "scroller" }, this.canvas);
    const labels = element("div", { className: "labels", "aria-hidden": "true" });
    const add = (className, label, node) => {
      labels.append(element("span", { className, textContent: label }));
      this.canvas.append(node);
      return node;
    };
    this.ruler = add("ruler", "", element("div", { className: "ruler", "aria-hidden": "true" }));
    if (this.video.truth) {
      add("row", "Truth", this.drawRow("truth"));
      add("errors", "", this.drawErrors());
    }
    add("row", "Predicted", this.drawRow("predicted"));
    if (this.video.confidence) add("confidence", "Confidence", this.drawConfidence());
    this.cursor = element("div", { className: "cursor", hidden: true });
    this.canvas.append(this.cursor);
    this.host.replaceChildren(
      element("div", { className: "tracks" }, labels, this.scroller),
      element("div", { className: "foot" }, this.readout, element("div", { className: "zoom", role: "group", "aria-label": "Zoom" }, ...buttons)),
    );
  }

  drawRow(name) {
    const { starts, labels } = this.video[name];
    const row = element("div", {
      className: "row", role: "listbox", tabIndex: 0, "aria-orientation": "horizontal",
      "aria-label": `${ROW_NAMES[name]}, ${starts.length} segments`,
    });
    this.rows[name] = row;
    labels.forEach((label, index) => {
      const [start, end] = this.bounds(name, index);
      const segment = element("div", {
        className: `segment c${label}`, role: "option", "aria-selected": "false",
        id: `s-${this.host.dataset.timeline}-${name}-${index}`,
        "aria-label": `${data.classes[label]}, ${clock(start)} to ${clock(end)}`,
      }, element("span", { textContent: data.classes[label] }));
      segment.dataset.row = name;
      segment.dataset.index = index;
      row.append(this.place(segment, start, end));
    });
    return row;
  }

  drawErrors() {
    const strip = element("div", { className: "errors", "aria-hidden": "true" });
    const cuts = [...new Set([...this.video.truth.starts, ...this.video.predicted.starts, this.end])].sort((a, b) => a - b);
    let from = null;
    cuts.forEach((cut, index) => {
      const next = cuts[index + 1];
      const wrong = next !== undefined && this.label("truth", cut) !== this.label("predicted", cut);
      if (wrong && from === null) from = cut;
      if (!wrong && from !== null) {
        strip.append(this.place(element("i"), from, cut));
        from = null;
      }
    });
    return strip;
  }

  label(name, seconds) {
    return this.video[name].labels[this.at(name, seconds)];
  }

  drawConfidence() {
    const values = this.video.confidence;
    const top = values.map((value, index) => `L${index} ${100 - value}L${index + 1} ${100 - value}`).join("");
    const svg = shape("svg", { viewBox: `0 0 ${values.length} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(shape("path", { d: `M0 100${top}L${values.length} 100Z` }));
    return element("div", { className: "confidence" }, svg);
  }

  listen() {
    this.scroller.addEventListener("pointermove", (event) => this.hover(event));
    this.scroller.addEventListener("pointerleave", () => {
      this.cursor.hidden = true;
      tip.hide();
    });
    this.scroller.addEventListener("click", (event) => {
      const segment = event.target.closest(".segment");
      if (segment) this.select(segment.dataset.row, Number(segment.dataset.index));
      else if (event.target.closest(".ruler")) this.jump(this.secondsAt(event.clientX));
    });
    this.scroller.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const [name, row] of Object.entries(this.rows)) {
      row.addEventListener("keydown", (event) => this.key(event, name));
      row.addEventListener("focus", () => this.active?.name !== name && this.select(name, this.nearest(name), false));
    }
  }

  nearest(name) {
    if (!this.active) return 0;
    const [start, end] = this.bounds(this.active.name, this.active.index);
    return this.at(name, (start + end) / 2);
  }

  secondsAt(clientX) {
    const box = this.canvas.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (clientX - box.left) / box.width));
    return this.start + share * (this.end - this.start);
  }

  hover(event) {
    const seconds = this.secondsAt(event.clientX);
    this.cursor.hidden = false;
    this.cursor.style.left = `${(100 * (seconds - this.start)) / (this.end - this.start)}%`;
    const lines = this.names.map((name) => {
      const index = this.at(name, seconds);
      const [start, end] = this.bounds(name, index);
      const score = this.video[name].scores?.[index];
      return element("div", { className: `line c${this.video[name].labels[index]}` },
        element("i", { className: "swatch" }),
        element("span", { className: "which", textContent: ROW_NAMES[name] }),
        element("b", { textContent: data.classes[this.video[name].labels[index]] }),
        element("span", { className: "range", textContent: `${clock(start)} to ${clock(end)}${score === undefined ? "" : `, ${score} % sure`}` }));
    });
    tip.show(event.clientX, event.clientY, element("div", { className: "time", textContent: clock(seconds) }), ...lines);
  }

  wheel(event) {
    const focused = this.host.contains(document.activeElement) && !event.shiftKey;
    const vertical = Math.abs(event.deltaY) > Math.abs(event.deltaX);
    if (!vertical || !(event.ctrlKey || event.metaKey || focused)) return;
    event.preventDefault();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 300), event.clientX);
  }

  key(event, name) {
    const index = this.active?.name === name ? this.active.index : 0;
    const last = this.video[name].starts.length - 1;
    const other = this.names.find((each) => each !== name);
    const actions = {
      ArrowRight: () => this.select(name, Math.min(index + 1, last)),
      ArrowLeft: () => this.select(name, Math.max(index - 1, 0)),
      Home: () => this.select(name, 0),
      End: () => this.select(name, last),
      ArrowDown: () => name === "truth" && this.rows[other].focus(),
      ArrowUp: () => name === "predicted" && other && this.rows[other].focus(),
      "+": () => this.zoomTo(this.zoom * 1.6),
      "=": () => this.zoomTo(this.zoom * 1.6),
      "-": () => this.zoomTo(this.zoom / 1.6),
      0: () => this.zoomTo(1),
    };
    if (data.player) actions[" "] = () => this.host.dispatchEvent(new CustomEvent("toggle"));
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  select(name, index, jump = true) {
    this.host.querySelector('[aria-selected="true"]')?.setAttribute("aria-selected", "false");
    this.active = { name, index };
    const row = this.rows[name];
    const segment = row.children[index];
    segment.setAttribute("aria-selected", "true");
    for (const each of Object.values(this.rows)) each.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-activedescendant", segment.id);
    if (document.activeElement !== row) row.focus({ preventScroll: true });
    this.reveal(segment);
    this.describe(name, index);
    if (jump) this.jump(this.bounds(name, index)[0]);
  }

  // A player, where there is one, listens.
  jump(seconds) {
    this.host.dispatchEvent(new CustomEvent("jump", { detail: seconds }));
  }

  reveal(segment) {
    const left = segment.offsetLeft;
    const right = left + segment.offsetWidth;
    const view = this.scroller;
    if (left < view.scrollLeft || right > view.scrollLeft + view.clientWidth) {
      view.scrollLeft = left - Math.max(24, (view.clientWidth - segment.offsetWidth) / 2);
    }
  }

  describe(name, index) {
    const [start, end] = this.bounds(name, index);
    const { labels, scores } = this.video[name];
    const facts = [
      `${ROW_NAMES[name]} ${index + 1} of ${labels.length}`,
      `${clock(start)} to ${clock(end)} (${(end - start).toFixed(2)} s)`,
    ];
    if (scores) facts.push(`${scores[index]} % sure`);
    if (this.names.length > 1) facts.push(`${Math.round(100 * this.agreement(name, index))} % of it agrees with the ${name === "truth" ? "prediction" : "truth"}`);
    this.readout.replaceChildren(
      element("span", { className: `c${labels[index]}` }, element("i", { className: "swatch" }), element("b", { textContent: data.classes[labels[index]] })),
      ` · ${facts.join(" · ")}`,
    );
  }

  agreement(name, index) {
    const other = this.names.find((each) => each !== name);
    const [start, end] = this.bounds(name, index);
    let agreed = 0;
    for (let each = this.at(other, start); each < this.video[other].starts.length; each++) {
      const [from, to] = this.bounds(other, each);
      if (from >= end) break;
      if (this.video[other].labels[each] === this.video[name].labels[index]) agreed += Math.min(to, end) - Math.max(from, start);
    }
    return agreed / (end - start);
  }

  zoomTo(zoom, clientX) {
    const view = this.scroller.getBoundingClientRect();
    const x = clientX ?? view.left + view.width / 2;
    const seconds = this.secondsAt(x);
    const most = Math.max(1, Math.min(64, (600 * (this.end - this.start)) / view.width));
    this.zoom = Math.min(most, Math.max(1, zoom));
    this.canvas.style.width = `${100 * this.zoom}%`;
    this.layOut();
    const share = (seconds - this.start) / (this.end - this.start);
    this.scroller.scrollLeft = share * this.canvas.clientWidth - (x - view.left);
  }

  layOut() {
    const pixels = this.canvas.clientWidth / (this.end - this.start);
    for (const [name, row] of Object.entries(this.rows)) {
      [...row.children].forEach((segment, index) => {
        const [start, end] = this.bounds(name, index);
        segment.classList.toggle("named", (end - start) * pixels >= 44);
      });
    }
    const step = TICK_SECONDS.find((seconds) => seconds * pixels >= 64) ?? 14400;
    const ticks = [];
    const last = this.end - 36 / pixels; // A label needs room for its text.
    for (let tick = Math.ceil(this.start / step); tick * step <= last; tick++) {
      const node = element("span", { textContent: clock(tick * step, step < 1 ? 1 : 0) });
      node.style.left = `${(100 * (tick * step - this.start)) / (this.end - this.start)}%`;
      ticks.push(node);
    }
    this.ruler.replaceChildren(...ticks);
  }
}

const picked = { classId: null };

function spotlight() {
  for (const segment of document.querySelectorAll(".segment")) {
    segment.classList.toggle("dim", picked.classId !== null && !segment.classList.contains(`c${picked.classId}`));
  }
}

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const chosen = button.getAttribute("aria-pressed") === "true" ? null : button.dataset.class;
    picked.classId = chosen;
    for (const each of document.querySelectorAll(".legend button")) {
      each.setAttribute("aria-pressed", String(each.dataset.class === chosen));
    }
    spotlight();
  });
}

// Timelines far down the page wait until they come near.
function drawTimeline(host) {
  if (host.dataset.drawn) return;
  const timeline = new Timeline(host, data.timelines[Number(host.dataset.timeline)]);
  host.dispatchEvent(new CustomEvent("drawn", { bubbles: true, detail: timeline }));
  if (picked.classId !== null) spotlight();
  const hosts = [...document.querySelectorAll(".timeline[data-drawn]")];
  document.documentElement.dataset.segments = hosts.reduce((sum, each) => sum + Number(each.dataset.segments), 0);
}

const approaching = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      approaching.unobserve(entry.target);
      drawTimeline(entry.target);
    }
  },
  { rootMargin: "800px" },
);
function drawTimelines() {
  const hosts = [...document.querySelectorAll(".timeline")];
  hosts.slice(0, 4).forEach(drawTimeline);
  hosts.slice(4).forEach((host) => approaching.observe(host));
  addEventListener("beforeprint", () => hosts.forEach(drawTimeline));
}
