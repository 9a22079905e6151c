// The main script of the page: its parts, the list of channels, and the connection between the stream of messages and
// the table.

import { ask, byID, sleep } from "./dom.js";
import { follow } from "./health.js";
import { check } from "./machine.js";
import { Messages } from "./messages.js";
import { followSteering, steer } from "./steering.js";
import { Stream } from "./stream.js";
import { followSurveys, survey } from "./survey.js";

const channelsEvery = 10_000; // Milliseconds.
const channelsRetry = 2_000;
const preferred = "trades";

const parts = document.querySelectorAll(".part");
const select = byID("channel");
const messages = new Messages();
const address = `${location.hostname}:${document.documentElement.dataset.clientPort}`;
const stream = new Stream(address, { onState: streamState, onMessage: (pub, line) => messages.add(pub, line) });

let retryAt = 0;

function streamState({ kind, text, title, detail, checks, retryAt: nextRetry = 0 }) {
  retryAt = nextRetry;
  const state = byID("stream-state");
  state.textContent = text;
  state.className = `state ${{ open: "ok", down: "bad", refused: "bad" }[kind] ?? "warn"}`;
  // The problem stays visible during the next attempt, so that it does not flicker.
  if (kind === "open" || kind === "refused") byID("stream-problem").hidden = true;
  if (kind === "down") {
    byID("stream-problem-title").textContent = title;
    byID("stream-problem-text").textContent = detail;
    byID("stream-problem-checks").replaceChildren(
      ...checks.map((check) => {
        const item = document.createElement("li");
        item.textContent = check;
        return item;
      }),
    );
    byID("stream-problem").hidden = false;
  }
  showWait();
}

function showWait() {
  const seconds = Math.max(0, Math.ceil((retryAt - performance.now()) / 1_000));
  byID("stream-wait").textContent = retryAt > 0 ? `or wait ${seconds} s` : "trying";
}

function choose(channel) {
  messages.clear();
  byID("empty").textContent = `No messages on ${channel} since you opened this page.`;
  stream.choose(channel);
}

// offer puts the names into the list and keeps the chosen one.
function offer(names, more) {
  byID("channels-more").hidden = more === 0;
  byID("channels-more").textContent = `and ${more} more`;
  const chosen = select.value;
  if (chosen && !names.includes(chosen)) names.push(chosen); // The page still follows it, although no one else does.
  const now = Array.from(select.options, (option) => option.value);
  if (names.length === now.length && names.every((name, i) => name === now[i])) return;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.disabled = names.length === 0;
  if (chosen) {
    select.value = chosen;
  } else if (names.length > 0) {
    select.value = names.includes(preferred) ? preferred : names[0];
    choose(select.value);
  }
}

async function followChannels() {
  for (;;) {
    let wait = channelsEvery;
    try {
      const { channels, more } = await ask("page/channels");
      offer(channels, more);
      if (channels.length === 0) {
        byID("stream-state").textContent = "No channels yet. They appear once a topic has records or a client subscribes.";
        wait = channelsRetry;
      }
    } catch {
      wait = channelsRetry; // The page shows the state of the admin port elsewhere.
    }
    await sleep(wait);
  }
}

// showPart shows the part of the page that the address names.
function showPart() {
  const wanted = location.hash.slice(1);
  const id = Array.from(parts).some((part) => part.id === wanted) ? wanted : "overview";
  for (const part of parts) part.hidden = part.id !== id;
  for (const tab of byID("tabs").children) {
    if (tab.getAttribute("href") === `#${id}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  survey(id);
  if (id === "machine-part") check();
  if (id === "steering-part") steer();
}

window.addEventListener("hashchange", showPart);
showPart();

// prepare takes what the client port asks for from the health report: TLS, and a token. Both may change with a restart.
function prepare(health) {
  if (health.client_listen.length === 0) stream.scheme = "wss";
  byID("token-field").hidden = health.auth !== "token";
}

byID("token").addEventListener("change", (event) => stream.use(event.target.value.trim()));
select.addEventListener("change", () => choose(select.value));
byID("stream-again").addEventListener("click", () => stream.again());
setInterval(showWait, 500);
byID("token-again").addEventListener("click", () => location.reload());
followSurveys();
followSteering();
const prepared = new Promise((resolve) => {
  follow((health) => {
    prepare(health);
    resolve();
  });
});
await Promise.race([prepared, sleep(channelsRetry)]); // Without a report the stream finds out by itself what it needs.
followChannels();
