// The part of the page about the machine, and the one that places a record.

import { ask, byID, cells, counted, rows, set, text } from "./dom.js";

// check shows the results of the checks.
export async function check() {
  text("doctor-state", "checking");
  byID("doctor-state").className = "state";
  try {
    const { results } = await ask("page/doctor");
    rows(byID("doctor"), results, () => cells(4, []), (row, r) => {
      const [name, word, found, remedy] = row.children;
      set(name, r.check);
      set(word, r.status);
      word.className = `word ${{ WARN: "warn", FAIL: "bad" }[r.status] ?? ""}`;
      set(found, r.found);
      set(remedy, r.remedy ?? "");
    });
    const bad = results.filter((r) => r.status === "FAIL").length;
    const warned = results.filter((r) => r.status === "WARN").length;
    text("doctor-state", bad + warned > 0 ? `${bad} failed, ${counted(warned, "warning")}` : "nothing is missing");
    byID("doctor-state").className = `state ${bad > 0 ? "bad" : warned > 0 ? "warn" : "ok"}`;
  } catch (error) {
    text("doctor-state", error.message);
    byID("doctor-state").className = "state bad";
  }
}

const names = { channels: "Channels", client: "Client", user: "User", by: "Decided by", route: "Rule", reason: "Reason", on_error: "On error", note: "Note", error: "Error" };
const targets = { drop: "nowhere: the rule drops it", nobody: "nowhere: it is skipped and counted", stop: "nowhere: its partition stops there", everybody: "all clients" };

// place shows where the record of the form goes.
async function place(event) {
  event.preventDefault();
  const { topic, partition, key, value, headers } = Object.fromEntries(new FormData(byID("route")));
  const record = {
    topic,
    partition: Number(partition),
    key: key === "" ? null : key,
    value: value === "" ? null : value,
    headers: headers.split(",").map((h) => h.trim()).filter(Boolean).map((h) => {
      const [name, ...rest] = h.split("=");
      return [name, rest.join("=")];
    }),
  };
  let result = {};
  try {
    result = await ask("page/route", { record: JSON.stringify(record) });
  } catch (error) {
    result = { error: error.message };
  }
  const facts = Object.entries(names).filter(([key]) => result[key]).map(([key, name]) => [name, [result[key]].flat().join(", ")]);
  if (targets[result.to]) facts.unshift(["Goes to", targets[result.to]]);
  rows(byID("route-result"), facts, () => {
    const row = document.createElement("div");
    row.append(document.createElement("dt"), document.createElement("dd"));
    return row;
  }, (row, [name, value]) => {
    set(row.firstChild, name);
    set(row.lastChild, value);
  });
}

byID("route").addEventListener("submit", place);
byID("doctor-again").addEventListener("click", check);
