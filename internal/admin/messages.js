// The table of messages, with the latest on top. The number of rows is limited, and the table is drawn a few times a second
// however many messages arrive.

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
    this.fresh = []; // Messages that have not been drawn yet, oldest first.
    this.total = 0;
    this.held = 0; // Number of messages that arrived while paused.
    this.counted = 0; // The total when the rate was last measured.
    this.countedAt = performance.now();
    this.rates = [];
    this.drawnAt = 0;
    this.scheduled = false; // Whether draw will be called.
    this.paused = false;
    this.draw = this.draw.bind(this);
    setInterval(() => this.measure(), 1_000);
    byID("pause").addEventListener("click", () => this.pause(!this.paused));
    byID("clear").addEventListener("click", () => this.clear());
    byID("indent").addEventListener("change", () => this.indent());
    this.indent();
  }

  // add takes a publication and the line that contained it. It is cheap, because messages that are never shown are not formatted.
  add(pub, line) {
    this.total++;
    if (this.paused) this.held++;
    this.fresh.push({ arrived: Date.now(), offset: pub.offset, line });
    if (this.fresh.length >= 2 * rowsMax) this.fresh.splice(0, this.fresh.length - rowsMax);
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(this.draw);
  }

  draw(now) {
    if (now - this.drawnAt < drawEvery) {
      requestAnimationFrame(this.draw);
      return;
    }
    this.scheduled = false;
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

  // row returns a row to fill: a new one, or the last one if there are rowsMax.
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
    time.textContent = clock(message.arrived);
    // The protocol omits the offset if it is 0 or if the message has none.
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
    this.schedule();
  }

  // clear removes all messages, for example after a change of channel.
  clear() {
    this.fresh.length = 0;
    this.total = this.counted = this.held = 0;
    this.body.replaceChildren();
    byID("empty").hidden = false;
    this.schedule();
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

function clock(millis) {
  const d = new Date(millis);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, "0")}`;
}

// exact keeps a number as it was sent. A JavaScript number cannot represent 64-bit identifiers or prices like 1.50 exactly.
function exact(_key, value, context) {
  const differs = typeof value === "number" && context?.source !== undefined && context.source !== String(value);
  return differs && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

const token = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)|([\s\S])/g;

// A value that is nested deeper than this is shown as it was sent. Parsing with exact and indenting recurse, and the
// indentation alone of a value nested 10,000 deep would be 200 MB.
const depthMax = 200;

// nestedDeeply reports whether line is nested deeper than depthMax.
function nestedDeeply(line) {
  let depth = 0;
  for (const [mark] of line.matchAll(/"(?:[^"\\]|\\.)*"|[[{]|[\]}]/g)) {
    if (mark === "[" || mark === "{") {
      if (++depth > depthMax) return true;
    } else if (mark === "]" || mark === "}") depth--;
  }
  return false;
}

// dataOf returns the text of the value in line, indented or not.
function dataOf(line, indented) {
  if (nestedDeeply(line)) return line;
  return JSON.stringify(JSON.parse(line, exact).push.pub.data, null, indented ? 2 : 0);
}

// pretty returns the value in line as nodes, with a colour for each kind of token. A value that is nested too deep for
// that comes with the line around it.
export function pretty(line, indented) {
  const whole = dataOf(line, indented);
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
