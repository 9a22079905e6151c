// Plots of figures over time, of what this page has seen.

import { byID, bytes, numbers } from "./dom.js";

const most = 900; // Samples, one a second.
const width = 300;
const height = 76;
const space = 4; // Above and below a line.

function milliseconds(n) {
  return `${n < 10 ? n.toFixed(1) : numbers.format(Math.round(n))} ms`;
}

const figures = [
  { id: "connections", name: "Connections", show: (n) => numbers.format(n) },
  { id: "deliveries", name: "Deliveries per second", show: (n) => numbers.format(Math.round(n)) },
  { id: "cpu", name: "CPU, in percent of one", show: (n) => `${Math.round(n)} %` },
  { id: "lag", name: "Kafka lag, in records", show: (n) => numbers.format(n) },
  { id: "latency", name: "Record to socket, p99", show: milliseconds },
  { id: "inWsd", name: "Fetch to socket, p99", show: milliseconds },
  { id: "turn", name: "Loop lag, p99", show: milliseconds },
  { id: "memory", name: "Memory", show: bytes },
];

const plots = new Map();

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

for (const figure of figures) {
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  const line = element("polyline", { points: "" });
  const cursor = element("line", { y1: 0, y2: height, visibility: "hidden" });
  svg.append(line, cursor);
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = figure.name;
  const value = document.createElement("b");
  caption.append(name, value);
  const box = document.createElement("figure");
  box.append(caption, svg);
  byID("plots").append(box);
  const p = { figure, svg, line, cursor, value, samples: [], at: -1 };
  svg.addEventListener("pointermove", (event) => {
    const { left, width: wide } = svg.getBoundingClientRect();
    p.at = (event.clientX - left) / wide;
    draw(p);
  });
  svg.addEventListener("pointerleave", () => {
    p.at = -1;
    draw(p);
  });
  plots.set(figure.id, p);
}

// plot adds a sample of each figure; null: there is none.
export function plot(sample) {
  const now = Date.now();
  for (const [id, p] of plots) {
    p.samples.push({ now, value: sample[id] });
    if (p.samples.length > most) p.samples.shift();
    if (!document.hidden) draw(p);
  }
}

function draw({ figure, svg, line, cursor, value, samples, at }) {
  const known = samples.filter((s) => s.value !== null);
  if (known.length === 0) return;
  const top = Math.max(...known.map((s) => s.value), 1e-9);
  const step = width / Math.max(60, samples.length - 1);
  const x = (i) => (i * step).toFixed(1);
  const y = (v) => (height - space - (v / top) * (height - 2 * space)).toFixed(1);
  line.setAttribute("points", samples.flatMap((s, i) => (s.value === null ? [] : [`${x(i)},${y(s.value)}`])).join(" "));
  const last = known[known.length - 1];
  svg.setAttribute("aria-label", `${figure.name}: now ${figure.show(last.value)}, at most ${figure.show(top)}`);
  const i = Math.min(samples.length - 1, Math.round((at * width) / step));
  const pointed = at >= 0 && samples[i].value !== null;
  cursor.setAttribute("visibility", pointed ? "visible" : "hidden");
  if (pointed) {
    cursor.setAttribute("x1", x(i));
    cursor.setAttribute("x2", x(i));
    value.textContent = `${figure.show(samples[i].value)} at ${new Date(samples[i].now).toLocaleTimeString()}`;
  } else {
    value.textContent = `${figure.show(last.value)}, max ${figure.show(top)}`;
  }
}
