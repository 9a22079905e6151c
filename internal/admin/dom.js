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

// ask requests a path and returns the response, decoded. Its error is what the server says is wrong.
export async function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  const response = await fetch(`${path}?${new URLSearchParams(given)}`, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
  const body = await response.text();
  let value = null;
  try {
    value = JSON.parse(body);
  } catch {
    throw new Error(body || `status ${response.status}`);
  }
  if (!response.ok) throw new Error(value.error ?? `status ${response.status}`);
  return value;
}

// send posts a change and returns the response, decoded. Its error is what the server says is wrong.
export async function send(path, change) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(change),
    signal: AbortSignal.timeout(10_000),
  });
  const body = await response.text();
  if (response.ok) return JSON.parse(body);
  let error = body;
  try {
    error = JSON.parse(body).error;
  } catch {} // It is no JSON: the text says what is wrong.
  throw new Error(error || `status ${response.status}`);
}

// sleep waits for so many milliseconds.
export const sleep = (wait) => new Promise((resolve) => setTimeout(resolve, wait));

// shown reports whether a part of the page is what is looked at.
export const shown = (id) => !byID(id).hidden && !document.hidden;
