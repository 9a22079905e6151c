// The parts of the page about channels and clients. They are asked for while they are looked at.

import { ask, byID, bytes, cells, numbers, rows, set, shown, sleep, text } from "./dom.js";

const every = 2_000; // Milliseconds.
const most = 100;

const fields = (form) => Object.fromEntries(new FormData(byID(form)));

function state(id, list, answer, what) {
  const missing = answer.missing.length > 0 ? `, no answer from shards ${answer.missing.join(", ")}` : "";
  const part = answer.total > list.length ? `${numbers.format(list.length)} of ` : "";
  text(id, `${part}${numbers.format(answer.total)} ${what}${missing}`);
  byID(id).className = `state ${missing ? "warn" : "ok"}`;
}

function failed(id, error) {
  text(id, error.message);
  byID(id).className = "state bad";
}

let before = new Map(); // Channels of the previous answer, by name.
let beforeAt = 0;

async function channels() {
  try {
    const answer = await ask("page/busy-channels", { ...fields("channels-query"), max: most });
    const now = performance.now();
    const seconds = (now - beforeAt) / 1_000;
    const rate = (c, key) => {
      const was = before.get(c.channel);
      return was && c[key] >= was[key] ? numbers.format(Math.round((c[key] - was[key]) / seconds)) : "–";
    };
    rows(byID("top-channels"), answer.channels, () => cells(6, [1, 2, 3, 4, 5]), (row, c) => {
      const [name, subscribers, shards, records, recordRate, deliveryRate] = row.children;
      set(name, c.channel);
      set(subscribers, numbers.format(c.subscribers));
      set(shards, numbers.format(c.shards));
      set(records, numbers.format(c.records));
      set(recordRate, rate(c, "records"));
      set(deliveryRate, rate(c, "deliveries"));
    });
    before = new Map(answer.channels.map((c) => [c.channel, c]));
    beforeAt = now;
    byID("top-channels-empty").hidden = answer.total > 0;
    state("top-channels-state", answer.channels, answer, "channels");
  } catch (error) {
    failed("top-channels-state", error);
  }
}

function clientRow() {
  const row = cells(8, [4, 5, 6]);
  const button = document.createElement("button");
  button.type = "button";
  button.title = "Show the channels of this client";
  button.addEventListener("click", () => {
    byID("clients-query").elements.client.value = button.textContent;
    clients();
  });
  row.firstChild.append(button);
  return row;
}

async function clients() {
  const query = fields("clients-query");
  if (!byID("clients-query").reportValidity()) return;
  try {
    const answer = await ask("page/clients", { ...query, max: most });
    rows(byID("clients"), answer.clients, clientRow, (row, c) => {
      const [id, address, user, kind, shard, count, waiting, word] = row.children;
      set(id.firstChild, c.client);
      set(address, c.address);
      set(user, c.user || "–");
      set(kind, [c.dialect, c.tls ? "TLS" : "", c.compressed ? "compressed" : ""].filter(Boolean).join(", "));
      set(shard, String(c.shard));
      set(count, numbers.format(c.channels));
      set(waiting, bytes(c.waiting_bytes));
      set(word, c.behind ? "behind" : c.blocked ? "blocked" : "ok");
      word.className = `word ${c.behind ? "bad" : c.blocked ? "warn" : ""}`;
    });
    byID("clients-empty").hidden = answer.clients.length > 0;
    text("clients-empty", query.client ? "This client has gone." : "No client fits.");
    state("clients-state", answer.clients, answer, "clients");
    const one = query.client && answer.clients.length === 1 ? answer.clients[0] : null;
    byID("client-card").hidden = !one;
    rows(byID("client-channels"), one?.subscribed ?? [], () => cells(4, [1]), (row, sub) => {
      const [name, offset, epoch, by] = row.children;
      set(name, sub.channel);
      set(offset, sub.epoch ? numbers.format(sub.offset) : "–");
      set(epoch, sub.epoch || "–");
      set(by, sub.server ? "the server" : "the client");
    });
  } catch (error) {
    failed("clients-state", error);
  }
}

// followSurveys asks for ever for what is looked at.
export async function followSurveys() {
  for (;;) {
    if (shown("channels-part")) await channels();
    if (shown("clients-part")) await clients();
    await sleep(every);
  }
}

for (const [form, ask] of [["channels-query", channels], ["clients-query", clients]]) {
  byID(form).addEventListener("change", () => {
    before = new Map();
    ask();
  });
  byID(form).addEventListener("submit", (event) => event.preventDefault());
}

// survey asks at once for what a part of the page shows.
export function survey(part) {
  if (part === "channels-part") channels();
  if (part === "clients-part") clients();
}
