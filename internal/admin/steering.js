// The part of the page that steers: it shows the settings, and changes them after a question.

import { ask, byID, cells, numbers, rows, send, set, shown, sleep, text } from "./dom.js";

const every = 1_000; // Milliseconds.
const allowed = document.documentElement.dataset.changes === "true";
const form = byID("steering-form");

let now = null; // The state shown.
let edited = false; // The form has what was not sent yet.

// confirm asks and returns whether the answer was yes.
function confirm(question) {
  const dialog = byID("confirm");
  text("confirm-text", question);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// What went wrong with a change is shown in place of a state, until then.
const complaint = { id: "", until: 0 };
const complainFor = 6_000; // Milliseconds.

// say shows a state, unless something has gone wrong there just now.
function say(id, words, kind) {
  if (complaint.id === id && performance.now() < complaint.until) return;
  text(id, words);
  byID(id).className = `state ${kind}`;
}

// change asks, sends the changes one after the other, and shows what came of them. Where nothing came of them, the fields
// show what is in force again.
async function change(question, path, state, ...changes) {
  let done = false;
  if (await confirm(question)) {
    complaint.until = 0;
    try {
      for (const one of changes) await send(path, one);
      done = true;
    } catch (error) {
      say(state, error.message, "bad");
      Object.assign(complaint, { id: state, until: performance.now() + complainFor });
    }
  }
  if (!done) {
    for (const weight of byID("steering-shards").querySelectorAll("input[type=number]")) weight.blur();
  }
  return refresh();
}

function word(s) {
  if (s.stalled_for_seconds > 0) return ["stalled", "bad"];
  if (s.drain || s.draining) return ["draining", "warn"];
  if (s.full) return ["full", "warn"];
  if (s.ramping) return ["ramping", "warn"];
  return ["ok", ""];
}

function shardRow() {
  const row = cells(7, [1, 2, 3]);
  const weight = document.createElement("input");
  Object.assign(weight, { type: "number", min: 0, max: 10_000, required: true, disabled: !allowed });
  const drain = document.createElement("input");
  Object.assign(drain, { type: "checkbox", disabled: !allowed });
  const shard = () => Number(row.firstChild.textContent);
  weight.addEventListener("change", () => {
    if (!weight.reportValidity()) return;
    change(`Give shard ${shard()} the weight ${weight.value}? Weights count under the policy weighted.`, "page/steering", "steering-state",
      { setting: "weight", shard: shard(), value: weight.value });
  });
  drain.addEventListener("change", () => {
    const what = drain.checked ? `Send no new connections to shard ${shard()}? Its clients stay.` : `Send new connections to shard ${shard()} again?`;
    change(what, "page/steering", "steering-state", { setting: "drain", shard: shard(), value: String(drain.checked) });
  });
  row.children[5].append(weight);
  row.children[6].append(drain);
  return row;
}

function show(state) {
  now = state;
  const hash = state.mode === "hash";
  if (hash) say("steering-state", `the kernel's hash chooses: ${state.reason}`, "warn");
  else say("steering-state", `${state.mode}, ${state.policy}`, "ok");
  const setting = (name) => state.settings.find((s) => s.name === name && s.shard === null)?.in_force_text;
  if (!edited) {
    form.elements.policy.value = setting("policy") ?? "";
    form.elements.admission.value = setting("admission") ?? "";
  }
  for (const element of form.elements) element.disabled = !allowed || hash;
  const changed = state.settings.filter((s) => s.changed);
  const named = changed.map((s) => `${s.name}${s.shard === null ? "" : ` of shard ${s.shard}`} is ${s.text}, configured ${s.configured_text}`);
  text("steering-differs", named.length > 0 ? `Until wsd restarts: ${named.slice(0, 10).join("; ")}${named.length > 10 ? `; and ${named.length - 10} more` : ""}.` : "");
  rows(byID("steering-shards"), state.shards, shardRow, (row, s) => {
    const [id, connections, load, pending, what, weight, drain] = row.children;
    set(id, String(s.id));
    set(connections, numbers.format(s.connections));
    set(load, numbers.format(s.load));
    set(pending, numbers.format(s.pending));
    const [says, kind] = word(s);
    set(what, says);
    what.className = `word ${kind}`;
    weight.firstChild.setAttribute("aria-label", `Weight of shard ${s.id}`);
    drain.firstChild.setAttribute("aria-label", `Drain shard ${s.id}`);
    if (document.activeElement !== weight.firstChild) weight.firstChild.value = s.weight;
    drain.firstChild.checked = s.drain;
    weight.firstChild.disabled = !allowed || hash;
    drain.firstChild.disabled = !allowed || hash;
  });
}

function showDrain(d) {
  const left = `${numbers.format(d.clients)} of ${numbers.format(d.clients_at_start)} clients left`;
  if (d.status === "off") say("drain-state", "serving", "ok");
  else say("drain-state", `${d.status}: ${left}`, "warn");
  for (const element of byID("drain-form").elements) element.disabled = !allowed;
  byID("drain-stop").disabled = !allowed || d.status === "off";
}

async function refresh() {
  try {
    show(await ask("page/steering"));
    showDrain(await ask("page/drain"));
  } catch (error) {
    say("steering-state", error.message, "bad");
  }
}

form.addEventListener("input", () => (edited = true)); // While it is typed, too: the next answer must not replace it.
form.addEventListener("change", () => (edited = true));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  edited = false;
  const in_force = (name) => now?.settings.find((s) => s.name === name && s.shard === null)?.in_force_text;
  const wanted = ["policy", "admission"].map((name) => ({ setting: name, value: form.elements[name].value }));
  const changes = wanted.filter((c) => c.value !== in_force(c.setting));
  if (changes.length === 0) {
    say("steering-state", "this is in force already", "");
    Object.assign(complaint, { id: "steering-state", until: performance.now() + complainFor });
    return;
  }
  const words = { policy: (v) => `choose shards by the policy ${v}`, admission: (v) => `refuse ${v} % of new connections in the kernel` };
  change(`From now on ${changes.map((c) => words[c.setting](c.value)).join(", and ")}?`, "page/steering", "steering-state", ...changes);
});

byID("drain-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const over = Number(byID("drain-form").elements.over.value);
  change(`Refuse new clients, and close all clients evenly over ${over} s?`, "page/drain", "drain-state", { over_seconds: over });
});
byID("drain-stop").addEventListener("click", () => change("End the drain and accept new clients again?", "page/drain", "drain-state", { stop: true }));

// followSteering asks for ever for what is looked at, unless a question is open.
export async function followSteering() {
  byID("steering-locked").hidden = allowed;
  for (;;) {
    if (shown("steering-part") && !byID("confirm").open) await refresh();
    await sleep(every);
  }
}

// steer asks at once.
export const steer = refresh;
