// A client of the client port without an SDK: Centrifugo's JSON protocol over one WebSocket, which is reopened when it ends.

const retryMin = 500; // Milliseconds, like all times here.
const retryMax = 15_000;
const replyMax = 10_000; // Time for the handshake and the reply to connect.
const pingGrace = 10_000; // How much later than announced a ping may arrive.
const stableAfter = 5_000; // After a connection of at least this duration, the next one is tried soon.
const probeMax = 3_000;
const unauthorized = 101;
const subscribeAgain = 1_000;
const againFrom = 2500; // After an unsubscribe push with such a code clients subscribe again: records were lost.

// Stream follows one channel. It calls, on the page's thread:
//   onState(state): state.kind is "connecting", "subscribing", "open", "refused" or "down"; state.text describes it in words.
//     With "down" come state.title, state.checks (a list) and state.retryAt (by performance.now()).
//   onMessage(pub, line): a publication of the channel, and the line of JSON that contained it.
export class Stream {
  constructor(address, { onState, onMessage }) {
    this.address = address;
    this.scheme = location.protocol === "https:" ? "wss" : "ws";
    this.onState = onState;
    this.onMessage = onMessage;
    this.token = ""; // Of the connect command; empty: none.
    this.channel = "";
    this.socket = null;
    this.greeted = false; // Whether the connect command has got its reply.
    this.retry = 0;
    this.timer = 0;
    setInterval(() => this.watch(), 1_000);
  }

  get url() {
    return `${this.scheme}://${this.address}/connection/websocket`;
  }

  // choose switches to another channel, and connects if necessary.
  choose(channel) {
    if (channel === this.channel) return;
    const old = this.channel;
    this.channel = channel;
    if (this.greeted) {
      this.send({ id: ++this.lastID, unsubscribe: { channel: old } });
      this.subscribe();
    } else if (!this.socket && !this.timer) {
      this.open();
    }
  }

  // use reconnects with a token.
  use(token) {
    this.token = token;
    this.leave();
    if (this.channel) this.open();
  }

  // leave closes the connection, if there is one, and ignores what it still brings.
  leave() {
    const socket = this.socket;
    this.socket = null;
    this.greeted = false;
    socket?.close();
  }

  // again reconnects now instead of waiting.
  again() {
    if (this.timer) this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.greeted = false;
    this.lastID = 1;
    this.openedAt = this.heardAt = performance.now();
    this.silenceMax = replyMax;
    this.ended = "";
    this.onState({ kind: "connecting", text: `connecting to ${this.url}` });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => this.send({ id: 1, connect: { name: "wsd page", ...(this.token && { token: this.token }) } });
    socket.onmessage = (event) => {
      if (this.socket === socket && typeof event.data === "string") this.receive(event.data);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) this.closed(event);
    };
  }

  send(command) {
    this.socket.send(JSON.stringify(command));
  }

  subscribe() {
    this.subscribeID = ++this.lastID;
    this.onState({ kind: "subscribing", text: `subscribing to ${this.channel}` });
    this.send({ id: this.subscribeID, subscribe: { channel: this.channel } });
  }

  // receive handles one WebSocket message, which has one JSON object per line.
  receive(text) {
    this.heardAt = performance.now();
    for (const line of text.split("\n")) {
      if (line === "") continue;
      let message;
      try {
        message = JSON.parse(line);
      } catch {
        this.end("the server sent something that is not JSON: is this port wsd's?");
        return;
      }
      if (message.push) this.pushed(message.push, line);
      else if (message.id) this.replied(message);
      else if (this.pong) this.send({}); // A ping.
    }
  }

  pushed(push, line) {
    if (push.pub) {
      if (push.channel === this.channel) this.onMessage(push.pub, line);
    } else if (push.unsubscribe && push.channel === this.channel) {
      this.refused(`wsd ended the subscription: ${reason(push.unsubscribe)}`, push.unsubscribe.code >= againFrom);
    } else if (push.disconnect) {
      this.ended = reason(push.disconnect);
    }
  }

  replied(reply) {
    if (reply.id === 1) {
      if (reply.error?.code === unauthorized && !this.token) {
        this.leave();
        this.onState({ kind: "refused", text: "enter a token, as clients use it" });
        return;
      }
      if (reply.error) {
        this.end(`wsd refuses connections: ${reason(reply.error)}`);
        return;
      }
      this.greeted = true;
      const { ping = 0, pong = false } = reply.connect;
      this.pong = pong;
      this.silenceMax = ping > 0 ? ping * 1_000 + pingGrace : Infinity;
      this.subscribe();
    } else if (reply.id === this.subscribeID) {
      if (reply.error) this.refused(`wsd refuses ${this.channel}: ${reason(reply.error)}`, reply.error.temporary);
      else this.onState({ kind: "open", text: `connected to ${this.url}` });
    }
  }

  // refused says that there is no subscription, and tries again later if that may help.
  refused(why, passing = false) {
    this.onState({ kind: "refused", text: passing ? `${why}; trying again` : why });
    const { socket, channel } = this;
    if (!passing) return;
    setTimeout(() => {
      if (this.greeted && this.socket === socket && this.channel === channel) this.subscribe();
    }, subscribeAgain);
  }

  // watch ends a connection on which nothing arrives any more, not even pings.
  watch() {
    const silence = performance.now() - this.heardAt;
    if (this.socket && silence > this.silenceMax) this.end(`nothing arrived for ${Math.round(silence / 1_000)} s`);
  }

  end(why) {
    const socket = this.socket;
    this.ended = why;
    this.closed({ code: 0, reason: "" });
    socket.close();
  }

  async closed({ code, reason: given }) {
    const opened = this.greeted;
    const why = this.ended || (code > 1006 || given ? reason({ code, reason: given }) : "");
    this.socket = null;
    this.greeted = false;
    this.retry = performance.now() - this.openedAt > stableAfter && opened ? retryMin : Math.min(Math.max(this.retry * 2, retryMin), retryMax);
    // Without jitter all pages would reconnect at the same time after a restart.
    const wait = this.retry * (0.75 + Math.random() / 2);
    const state = { kind: "down", text: "not connected", retryAt: performance.now() + wait, checks: [] };
    this.timer = setTimeout(() => this.open(), wait);
    if (opened || why) {
      state.title = `The connection to ${this.url} ended`;
      state.detail = why ? `The reason: ${why}.` : "No reason was given: wsd has stopped, or something between it and this browser closed the connection.";
      this.onState(state);
      return;
    }
    state.title = "This browser cannot reach the client port";
    state.detail = `There was no response from ${this.url}.`;
    state.checks = checks(this.address);
    this.onState(state);
    const found = await probe(this.address, this.scheme);
    if (!this.timer || !found) return;
    if (found === "tls") {
      this.scheme = "wss";
      state.detail = `${this.address} uses TLS: the next attempt is ${this.url}.`;
      state.checks = [];
    } else {
      state.title = "The client port responds, but does not open a WebSocket";
      state.detail = `Tried ${this.url}.`;
      state.checks = [
        `Is wsd just starting or stopping? See http://${this.address}/healthz.`,
        "A proxy in between must pass on the headers Upgrade and Connection.",
        "Does another program use this port? client.listen is the port of wsd.",
      ];
    }
    this.onState(state);
  }
}

function checks(address) {
  const port = address.slice(address.lastIndexOf(":") + 1);
  return [
    "Is wsd running? If so, the admin port responds, and the status above is not \"no response\".",
    `In a container: is port ${port} published under the same number, for example with -p ${port}:${port}?`,
    `Through an SSH tunnel: is it forwarded as well, for example with -L ${port}:localhost:${port}?`,
    `Does a firewall let this browser reach ${address}, and does client.listen contain that address?`,
    `If the port uses TLS with a certificate that this browser does not know: open https://${address}/healthz once and accept it.`,
  ];
}

// probe returns what responds at address after a WebSocket has failed: "tls", "http" or "". This page may not read the
// responses, but it can see that there is one. TLS comes first, because a TLS port also responds to plain HTTP, with an error.
async function probe(address, scheme) {
  for (const [name, url] of [["tls", "https"], ["http", "http"]]) {
    if (name === "tls" && scheme === "wss") continue;
    try {
      await fetch(`${url}://${address}/healthz`, { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(probeMax) });
      return name;
    } catch {
      // No response: try the next one.
    }
  }
  return "";
}

function reason({ code, reason: text, message }) {
  const words = text || message || "no reason given";
  return code ? `${words} (${code})` : words;
}
