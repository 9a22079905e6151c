// The page's beginning: the list of channels, and what joins the stream of messages to what is shown.

import { follow } from "./health.js";
import { Messages } from "./messages.js";
import { Stream } from "./stream.js";

const channelsEvery = 10_000; // Milliseconds.
const channelsRetry = 2_000;
const preferred = "trades";

const byID = (id) => document.getElementById(id);
const select = byID("channel");
const messages = new Messages();
const address = `${location.hostname}:${document.documentElement.dataset.clientPort}`;
const stream = new Stream(address, { onState: streamState, onMessage: (pub, line) => messages.add(pub, line) });

let retryAt = 0;

function streamState({ kind, text, title, detail, checks, retryAt: at = 0 }) {
  retryAt = at;
  const state = byID("stream-state");
  state.textContent = text;
  state.className = `state ${{ open: "ok", down: "bad", refused: "bad" }[kind] ?? "warn"}`;
  // While the next attempt runs the problem stays in sight, or it would flicker.
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
  byID("empty").textContent = `No message on ${channel} since this page listens.`;
  stream.choose(channel);
}

// offer puts the names into the list and keeps what is chosen.
function offer(names, more) {
  byID("channels-more").hidden = more === 0;
  byID("channels-more").textContent = `and ${more} more`;
  const chosen = select.value;
  if (chosen && !names.includes(chosen)) names.push(chosen); // Followed, though nobody else has it any more.
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
      const answer = await fetch("api/channels", { cache: "no-store", signal: AbortSignal.timeout(channelsEvery) });
      if (!answer.ok) throw new Error(await answer.text());
      const { channels, more } = await answer.json();
      offer(channels, more);
      if (channels.length === 0) {
        byID("stream-state").textContent = "there is no channel yet: topics and routes make them, and subscriptions";
        wait = channelsRetry;
      }
    } catch {
      wait = channelsRetry; // The state of the admin port stands above.
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

select.addEventListener("change", () => choose(select.value));
byID("stream-again").addEventListener("click", () => stream.again());
setInterval(showWait, 500);
follow();
followChannels();
