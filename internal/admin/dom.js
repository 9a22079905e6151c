// What the scripts of the page share.

export const byID = (id) => document.getElementById(id);
export const numbers = new Intl.NumberFormat("en-US");
export const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

// text sets the text of the element with the id, if it is another one: screen readers read out every change.
export const text = (id, value) => set(byID(id), value);

export function set(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

// rows gives parent one child for each item of list, and reuses existing children.
export function rows(parent, list, make, fill) {
  while (parent.children.length > list.length) parent.lastElementChild.remove();
  while (parent.children.length < list.length) parent.append(make());
  list.forEach((item, i) => fill(parent.children[i], item));
}

// cells makes a row with so many cells, of which some hold numbers.
export function cells(count, numeric) {
  const row = document.createElement("tr");
  for (let i = 0; i < count; i++) {
    const cell = document.createElement("td");
    if (numeric.includes(i)) cell.className = "number";
    row.append(cell);
  }
  return row;
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${n >= 100 || i === 0 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

const responseMax = 10_000; // Milliseconds.

// locked says that this port no longer takes the token that the browser has. The page then asks for nothing more that
// needs it: the browser would prompt for a password each time.
let locked = false;

async function request(path, options) {
  if (locked) throw new Error("the token of this port has changed: reload the page");
  let response = null;
  let body = "";
  try {
    const headers = { "X-Wsd-Page": "1", ...options.headers }; // So that the browser does not prompt for a password.
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(responseMax), ...options, headers });
    body = await response.text();
  } catch (error) {
    throw new Error(error.name === "TimeoutError" ? `no response within ${responseMax / 1_000} s` : "wsd does not respond");
  }
  if (response.status === 401) {
    locked = true;
    byID("token-problem").hidden = false;
  }
  let value = null;
  try {
    value = JSON.parse(body);
  } catch {
    throw new Error(body || `status ${response.status}`);
  }
  if (!response.ok) throw new Error(value.error ?? `status ${response.status}`);
  return value;
}

// ask requests a path and returns the response, decoded. Its error is what is wrong, in words.
export function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  return request(`${path}?${new URLSearchParams(given)}`, {});
}

// send posts a change and returns the response, decoded. Its error is what is wrong, in words.
export function send(path, change) {
  return request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(change) });
}

// counted returns a number with the word for what it counts, such as "1 client" or "2 clients".
export const counted = (n, word) => `${numbers.format(n)} ${word}${n === 1 ? "" : "s"}`;

// sleep waits for so many milliseconds.
export const sleep = (wait) => new Promise((resolve) => setTimeout(resolve, wait));

// shown reports whether a part of the page is what is looked at.
export const shown = (id) => !byID(id).hidden && !document.hidden;
