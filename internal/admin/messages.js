// The table of messages: the latest on top, never more rows than can be looked at, drawn a few times a second however many
// messages come.

const rowsMax = 100;
const drawEvery = 100; // Milliseconds.
const valueMax = 4_000; // Characters of a value that are shown.
const minute = 60;

const byID = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat("en-US");

export class Messages {
  constructor() {
    this.body = byID("messages");
    this.table = this.body.parentElement;
    this.fresh = []; // Arrived and not drawn, oldest first.
    this.total = 0;
    this.held = 0; // Arrived while paused.
    this.counted = 0; // Of the total, when the rate was last taken.
    this.countedAt = performance.now();
    this.rates = [];
    this.drawnAt = 0;
    this.asked = false;
    this.paused = false;
    this.draw = this.draw.bind(this);
    setInterval(() => this.measure(), 1_000);
    byID("pause").addEventListener("click", () => this.pause(!this.paused));
    byID("clear").addEventListener("click", () => this.clear());
    byID("indent").addEventListener("change", () => this.indent());
    this.indent();
  }

  // add takes a publication and the line that held it. It is cheap: what will not be seen is never formatted.
  add(pub, line) {
    this.total++;
    if (this.paused) this.held++;
    this.fresh.push({ at: Date.now(), offset: pub.offset, line });
    if (this.fresh.length >= 2 * rowsMax) this.fresh.splice(0, this.fresh.length - rowsMax);
    this.ask();
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(this.draw);
  }

  draw(now) {
    if (now - this.drawnAt < drawEvery) {
      requestAnimationFrame(this.draw);
      return;
    }
    this.asked = false;
    this.drawnAt = now;
    byID("total").textContent = numbers.format(this.total);
    if (this.paused) {
      byID("pause").textContent = `Resume (${numbers.format(this.held)} new)`;
      return;
    }
    for (const message of this.fresh.slice(-rowsMax)) this.body.prepend(this.fill(this.row(), message));
    this.fresh.length = 0;
    byID("empty").hidden = this.body.rows.length > 0;
  }

  // row returns a row to be filled: the lowest one when there are enough.
  row() {
    if (this.body.rows.length >= rowsMax) return this.body.lastElementChild;
    const row = document.createElement("tr");
    row.append(document.createElement("td"), document.createElement("td"), document.createElement("td"));
    row.children[1].className = "number";
    return row;
  }

  fill(row, message) {
    row.message = message;
    const [time, offset, value] = row.children;
    time.textContent = clock(message.at);
    // The protocol leaves out an offset of 0 and of a message that has none.
    offset.textContent = message.offset === undefined ? "–" : numbers.format(message.offset);
    value.replaceChildren(...pretty(message.line, this.indented));
    return row;
  }

  indent() {
    this.indented = byID("indent").checked;
    this.table.classList.toggle("indent", this.indented);
    for (const row of this.body.rows) this.fill(row, row.message);
  }

  pause(paused) {
    this.paused = paused;
    this.held = 0;
    byID("pause").textContent = paused ? "Resume" : "Pause";
    byID("pause").setAttribute("aria-pressed", String(paused));
    this.ask();
  }

  // clear forgets what came, as after a change of channel.
  clear() {
    this.fresh.length = 0;
    this.total = this.counted = this.held = 0;
    this.body.replaceChildren();
    byID("empty").hidden = false;
    this.ask();
  }

  measure() {
    const now = performance.now();
    const rate = ((this.total - this.counted) * 1_000) / (now - this.countedAt);
    this.counted = this.total;
    this.countedAt = now;
    this.rates.push(rate);
    if (this.rates.length > minute) this.rates.shift();
    byID("rate").textContent = numbers.format(Math.round(rate));
    const top = Math.max(...this.rates, 1);
    const left = minute - this.rates.length;
    const points = this.rates.map((r, i) => `${((left + i) * 120) / (minute - 1)},${(23 - (r / top) * 22).toFixed(1)}`);
    byID("spark-line").setAttribute("points", points.join(" "));
  }
}

const two = (n) => String(n).padStart(2, "0");

function clock(at) {
  const d = new Date(at);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, "0")}`;
}

// exact keeps a number as it was sent: 64-bit identifiers and prices like 1.50 do not survive a JavaScript number.
function exact(_key, value, context) {
  const differs = typeof value === "number" && context?.source !== undefined && context.source !== String(value);
  return differs && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

const token = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)|([\s\S])/g;

// pretty returns the value in line as nodes, with a colour for each kind of token.
function pretty(line, indented) {
  const value = JSON.parse(line, exact).push.pub.data;
  const whole = JSON.stringify(value, null, indented ? 2 : 0);
  const nodes = [];
  let plain = "";
  const add = (kind, text) => {
    if (plain) nodes.push(plain);
    plain = "";
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    nodes.push(span);
  };
  for (const [text, string, colon, number, word] of whole.slice(0, valueMax).matchAll(token)) {
    if (colon) {
      add("k", string);
      plain = indented ? ":" : ": ";
    } else if (string) add("s", string);
    else if (number) add("n", number);
    else if (word) add("l", word);
    else plain += !indented && text === "," ? ", " : text;
  }
  if (whole.length > valueMax) plain += ` … ${numbers.format(whole.length - valueMax)} more characters`;
  if (plain) nodes.push(plain);
  return nodes;
}
