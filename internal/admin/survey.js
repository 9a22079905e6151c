// The parts of the page about channels and clients. They are asked for while they are looked at.

import { ask, byID, bytes, cells, counted, numbers, rows, set, shown, sleep, text } from "./dom.js";

const every = 2_000; // Milliseconds.
const most = 100;

// Survey asks for what a part of the page shows, as its form says.
class Survey {
  constructor(name, path, word, draw) {
    Object.assign(this, { path, word, draw, part: `${name}-part`, form: byID(`${name}-query`) });
    this.state = byID(this.form.dataset.state);
    this.asked = 0;
    // What is being typed is no query yet.
    this.query = this.form.checkValidity() ? this.fields() : {};
    this.form.addEventListener("change", () => this.change());
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  fields() {
    return Object.fromEntries(new FormData(this.form));
  }

  // change asks for what the form says now.
  change() {
    if (!this.form.reportValidity()) return;
    this.query = this.fields();
    this.ask(true);
  }

  // ask shows what wsd says, unless it was asked again meanwhile: an older query may be answered last.
  async ask(changed = false) {
    const mine = ++this.asked;
    try {
      const answer = await ask(this.path, { ...this.query, max: most });
      if (mine !== this.asked) return;
      this.say(this.draw(answer, this.query, changed), answer);
    } catch (error) {
      if (mine !== this.asked) return;
      set(this.state, error.message);
      this.state.className = "state bad";
    }
  }

  say(shownCount, answer) {
    const part = answer.total > shownCount ? `${numbers.format(shownCount)} of ` : "";
    const least = answer.at_least ? "at least " : "";
    const missing = answer.missing.length > 0 ? `, no answer from shards ${answer.missing.join(", ")}` : "";
    const busy = answer.busy.length > 0 ? `, too many ask shards ${answer.busy.join(", ")} at once` : "";
    set(this.state, `${part}${least}${counted(answer.total, this.word)}${missing}${busy}`);
    this.state.className = `state ${answer.at_least ? "warn" : "ok"}`;
  }
}

// The channels that rates are measured from, by name, and when they were asked for.
let before = new Map();
let beforeAt = 0;
const rateMin = 500; // Milliseconds that a rate is measured over at least.

function drawChannels(answer, _query, changed) {
  const now = performance.now();
  if (changed) before = new Map();
  const passed = now - beforeAt;
  const rate = (c, key) => {
    const was = before.get(c.channel);
    return was && passed >= rateMin && c[key] >= was[key] ? numbers.format(Math.round(((c[key] - was[key]) * 1_000) / passed)) : "–";
  };
  rows(byID("top-channels"), answer.channels, () => {
    const row = cells(6, [1, 2, 3, 4, 5]);
    row.firstChild.className = "name";
    return row;
  }, (row, c) => {
    const [name, subscribers, shards, records, recordRate, deliveryRate] = row.children;
    set(name, c.channel);
    set(subscribers, numbers.format(c.subscribers));
    set(shards, numbers.format(c.shards));
    set(records, numbers.format(c.records));
    set(recordRate, rate(c, "records"));
    set(deliveryRate, rate(c, "deliveries"));
  });
  if (before.size === 0 || passed >= rateMin) {
    before = new Map(answer.channels.map((c) => [c.channel, c]));
    beforeAt = now;
  }
  byID("top-channels-empty").hidden = answer.total > 0;
  return answer.channels.length;
}

function clientRow() {
  const row = cells(8, [4, 5, 6]);
  row.children[1].className = "address";
  row.children[2].className = "name";
  const button = document.createElement("button");
  button.type = "button";
  button.title = "Show the channels of this client";
  button.addEventListener("click", () => {
    clients.form.elements.client.value = button.textContent;
    clients.change();
  });
  row.firstChild.append(button);
  return row;
}

function drawClients(answer, query) {
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
  const one = query.client && answer.clients.length === 1 ? answer.clients[0] : null;
  byID("client-card").hidden = !one;
  rows(byID("client-channels"), one?.subscribed ?? [], () => {
    const row = cells(4, [1]);
    row.firstChild.className = "name";
    return row;
  }, (row, sub) => {
    const [name, offset, epoch, by] = row.children;
    set(name, sub.channel);
    set(offset, sub.epoch ? numbers.format(sub.offset) : "–");
    set(epoch, sub.epoch || "–");
    set(by, sub.server ? "the server" : "the client");
  });
  return answer.clients.length;
}

const channels = new Survey("channels", "page/busy-channels", "channel", drawChannels);
const clients = new Survey("clients", "page/clients", "client", drawClients);
const surveys = [channels, clients];

// followSurveys asks for ever for what is looked at.
export async function followSurveys() {
  for (;;) {
    for (const s of surveys) {
      if (shown(s.part)) await s.ask();
    }
    await sleep(every);
  }
}

// survey asks at once for what a part of the page shows.
export function survey(part) {
  for (const s of surveys) {
    if (s.part === part) s.ask();
  }
}
