// Requests /health every second and shows it.

import { ask, byID, bytes, cells, numbers, rows, set, short as compact, sleep, text } from "./dom.js";
import { plot } from "./plots.js";

const every = 1_000; // Milliseconds.
const retryMax = 10_000;
const responseMax = 4_000;

let before = null; // The previous response, for figures per second.
let failures = 0;

// follow requests the health for ever, and less often while there is no response. It calls seen with each response.
export async function follow(seen) {
  for (;;) {
    let wait = every;
    let stage = "wsd does not respond on its admin port";
    try {
      const late = latency();
      const response = await fetch("health", { cache: "no-store", signal: AbortSignal.timeout(responseMax) });
      stage = "The response of the admin port is not the health of a wsd";
      const health = await response.json(); // Status 503 has the same body.
      stage = "This page cannot show the health of this wsd, which may have another version: reload the page";
      seen(health);
      show(health, await late);
      failures = 0;
    } catch (error) {
      wait = Math.min(every * 2 ** failures++, retryMax);
      lost(stage, error, wait);
    }
    await sleep(wait);
  }
}

function lost(stage, error, wait) {
  before = null;
  plot({}); // A gap.
  text("status", "no response");
  byID("status").className = "badge bad";
  document.title = "wsd: no response";
  const what = error.name === "TimeoutError" ? `no response within ${responseMax / 1_000} s` : error.message;
  text("health-problem-title", stage);
  text(
    "health-problem-text",
    `Tried ${new URL("health", location.href)}: ${what}. Is wsd running? Is a tunnel or published port still open? ` +
      `The figures below are old. Trying again in ${Math.round(wait / 1_000)} s.`,
  );
  byID("health-problem").hidden = false;
}

let counted = null; // The previous answer of page/latency.

// latency returns the 99th percentiles since the previous call, in milliseconds; null where nothing was delivered.
async function latency() {
  const past = counted;
  counted = null;
  try {
    counted = await ask("page/latency");
  } catch {} // The page says elsewhere that the admin port does not respond.
  const p99 = (key) => {
    if (!counted || !past) return null;
    const since = counted[key].map((n, i) => n - past[key][i]);
    const all = since[since.length - 1];
    if (all <= 0) return null;
    const i = since.findIndex((n) => n >= 0.99 * all);
    return counted.bounds[Math.min(i, counted.bounds.length - 1)] * 1_000;
  };
  return { latency: p99("latency"), inWsd: p99("in_wsd") };
}

function show(h, late) {
  byID("health-problem").hidden = true;
  text("status", h.status);
  byID("status").className = `badge ${{ ok: "ok", degraded: "warn", draining: "warn" }[h.status] ?? "bad"}`;
  document.title = h.status === "ok" ? "wsd" : `wsd: ${h.status}`;
  text("version", `version ${h.version}`);
  reasons(h);

  // A short response lacks shards and topics: what the page shows of them stays, and the next rates span both.
  const seconds = before ? h.uptime_seconds - before.uptime_seconds : 0;
  const restarted = before && (seconds <= 0 || h.process.pid !== before.process.pid);
  const per = (now, past) => (seconds > 0 && !restarted ? (now - past) / seconds : null);
  text("connections", numbers.format(h.connections));
  const delivered = (a) => a.shards.reduce((sum, s) => sum + s.deliveries, 0);
  const rate = h.short ? null : per(delivered(h), before ? delivered(before) : 0);
  if (!h.short) text("delivery-rate", rate === null ? "–" : numbers.format(Math.round(rate)));
  const busy = per(h.process.cpu_seconds, before?.process.cpu_seconds);
  text("cpu", busy === null ? "–" : `${Math.round((busy * 100) / h.process.cpus)} %`);
  text("cpu-of", `of ${h.process.cpus} CPU${h.process.cpus === 1 ? "" : "s"}`);
  text("memory", h.process.resident_bytes > 0 ? bytes(h.process.resident_bytes) : "–");
  text("uptime", duration(h.uptime_seconds));

  plot({
    ...late,
    connections: h.connections,
    deliveries: rate,
    cpu: busy === null ? null : busy * 100,
    lag: h.short ? null : h.kafka.topics.reduce((sum, t) => sum + Math.max(0, t.lag), 0),
    turn: h.admission.loop_lag_seconds * 1_000,
    memory: h.process.resident_bytes,
  });
  if (!h.short) shards(h.shards);
  text("steering", h.steering.mode);
  const pins = h.steering.pin_path ? `pinned in ${h.steering.pin_path}` : "";
  text("steering-reason", [h.steering.reason, pins].filter(Boolean).join("; "));
  kafka(h.kafka, h.short);
  text("listen", h.client_listen.join(", ") || "–");
  text("commit", h.commit || "–");
  text("pid", String(h.process.pid));
  text("files", numbers.format(h.process.open_files_max));
  text("goroutines", numbers.format(h.process.goroutines));
  if (!h.short) before = h;
}

function reasons(h) {
  const bad = h.status !== "ok";
  byID("reasons-card").hidden = !bad;
  if (!bad) return;
  const serving = h.status === "degraded" ? "wsd serves clients, but something is wrong" : `wsd is ${h.status}`;
  text("reasons-title", h.reasons.length > 0 || h.status !== "degraded" ? serving : "wsd is degraded");
  rows(byID("reasons"), h.reasons, () => document.createElement("li"), (item, why) => set(item, why));
}

function shards(list) {
  const top = Math.max(...list.map((s) => s.connections), 1);
  rows(byID("shards"), list, shardRow, (row, s) => {
    const [id, meter, load, deliveries] = row.children;
    set(id, String(s.id));
    const [track, count] = meter.firstChild.children;
    track.firstChild.style.width = `${(s.connections * 100) / top}%`;
    set(count, numbers.format(s.connections));
    set(load, numbers.format(s.load));
    set(deliveries, compact.format(s.deliveries));
    const behind = s.lag_batches > 0 ? `, ${numbers.format(s.lag_batches)} batches behind` : "";
    row.title = `${numbers.format(s.clients)} clients, ${numbers.format(s.subscriptions)} subscriptions, ${numbers.format(s.deliveries)} deliveries${behind}`;
  });
}

function shardRow() {
  const row = cells(4, [2, 3]);
  const parts = ["meter", "track", "fill", "count"].map((name) => {
    const part = document.createElement("div");
    part.className = name;
    return part;
  });
  const [meter, track, fill, count] = parts;
  track.append(fill);
  meter.append(track, count);
  row.children[1].append(meter);
  return row;
}

function kafka(k, short) {
  text("kafka-state", k.ready ? "ready" : "not ready");
  byID("kafka-state").className = `state ${k.ready ? "ok" : "warn"}`;
  text("kafka-error", k.error ?? "");
  byID("kafka-error").hidden = !k.error;
  if (short) return;
  rows(byID("topics"), k.topics, () => cells(4, [2, 3]), (row, t) => {
    const [name, state, partitions, lag] = row.children;
    const error = t.error || t.partitions.find((p) => p.error)?.error || "";
    set(name, t.name);
    const word = t.state === "present" ? (t.current ? "current" : "catching up") : t.state;
    set(state, error ? `${word}: ${error}` : word);
    state.className = error || t.state === "missing" || t.state === "failed" ? "error" : "";
    set(partitions, String(t.partitions.length));
    set(lag, t.state === "present" && t.lag >= 0 ? numbers.format(t.lag) : "–");
  });
}

function duration(seconds) {
  const s = Math.floor(seconds);
  const [d, h, m] = [Math.floor(s / 86_400), Math.floor(s / 3_600) % 24, Math.floor(s / 60) % 60];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min ${s % 60} s` : `${s} s`;
}
