// Plots of figures over time, of what this page has seen.

import { byID, bytes, numbers } from "./dom.js";

const span = 15 * 60_000; // Milliseconds that a plot shows at most.
const spanMin = 60_000;
const most = 1_000; // Samples: one a second, or fewer while nobody looks at the page.
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

// Samples of all figures, oldest first: when they were taken, by the monotonic clock and the wall clock, and the values. A
// value is null where there is none, and the line has a gap.
const samples = [];
const plots = [];

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

for (const figure of figures) {
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", tabindex: 0 });
  const line = element("path", { d: "" });
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
  const p = { figure, svg, line, cursor, value, pointed: null }; // The sample that is pointed at.
  const point = (sample) => {
    p.pointed = sample;
    draw(p);
  };
  svg.addEventListener("pointermove", (event) => {
    const { left, width: wide } = svg.getBoundingClientRect();
    point(nearest((event.clientX - left) / wide));
  });
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    const at = p.pointed ? samples.indexOf(p.pointed) : samples.length - 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 60, PageDown: at + 60, Home: 0, End: samples.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    point(samples[Math.max(0, Math.min(samples.length - 1, to))] ?? null);
  });
  plots.push(p);
}

// shown returns the first time that the plots show, and how many milliseconds they show.
function shown() {
  const from = samples[0].at;
  return [from, Math.max(spanMin, samples[samples.length - 1].at - from)];
}

// nearest returns the sample next to a part of the width.
function nearest(part) {
  if (samples.length === 0) return null;
  const [from, wide] = shown();
  const at = from + part * wide;
  return samples.reduce((best, s) => (Math.abs(s.at - at) < Math.abs(best.at - at) ? s : best));
}

// plot adds a sample. Figures that it lacks are not known.
export function plot(values) {
  const now = performance.now();
  samples.push({ at: now, wall: Date.now(), values });
  while (samples.length > most || now - samples[0].at > span) samples.shift();
  if (document.hidden || byID("overview").hidden) return;
  for (const p of plots) {
    if (p.pointed && p.pointed.at < samples[0].at) p.pointed = samples[0];
    draw(p);
  }
}

const known = (sample, id) => Number.isFinite(sample.values[id]);

function draw(p) {
  const { figure, svg, line, cursor, value } = p;
  const of = samples.filter((s) => known(s, figure.id));
  if (of.length === 0) {
    line.setAttribute("d", "");
    cursor.setAttribute("visibility", "hidden");
    value.textContent = "–";
    svg.setAttribute("aria-label", `${figure.name}: not known`);
    return;
  }
  const top = of.reduce((high, s) => Math.max(high, s.values[figure.id]), 1e-9);
  const [from, wide] = shown();
  const x = (s) => (((s.at - from) * width) / wide).toFixed(1);
  const y = (s) => (height - space - (s.values[figure.id] / top) * (height - 2 * space)).toFixed(1);
  let path = "";
  let begun = false; // A value alone between gaps is a line of no length, which round ends make a dot.
  for (const s of samples) {
    if (known(s, figure.id)) path += begun ? `L${x(s)},${y(s)}` : `M${x(s)},${y(s)}h0`;
    begun = known(s, figure.id);
  }
  line.setAttribute("d", path);
  const last = of[of.length - 1];
  let words = `${figure.show(last.values[figure.id])}, max ${figure.show(top)}`;
  let spoken = `${figure.name}: now ${figure.show(last.values[figure.id])}, at most ${figure.show(top)}`;
  const { pointed } = p;
  cursor.setAttribute("visibility", pointed ? "visible" : "hidden");
  if (pointed) {
    cursor.setAttribute("x1", x(pointed));
    cursor.setAttribute("x2", x(pointed));
    const then = known(pointed, figure.id) ? figure.show(pointed.values[figure.id]) : "not known";
    words = `${then} at ${new Date(pointed.wall).toLocaleTimeString()}`;
    spoken = `${figure.name}: ${words}`;
  }
  value.textContent = words;
  svg.setAttribute("aria-label", spoken);
}
