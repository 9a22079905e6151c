// Opens the admin page in headless Chromium, gives it a token, and reports what it shows. Usage: node page.mjs
// DIRECTORY PROFILE PINS PAGE CONDUCTOR; the directory has node_modules.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';

const [directory, profile, pins, page, conductor] = process.argv.slice(2);
const WebSocket = createRequire(directory + '/')('ws');
const waitMax = 20_000;

async function until(what, ask) {
  let answer;
  for (const end = Date.now() + waitMax; Date.now() < end; ) {
    if ((answer = await ask()).found) return answer.text;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`did not see: ${what}, but: ${answer.text}`);
}

async function show() {
  const browser = spawn('chromium', [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', `--user-data-dir=${profile}`,
    `--ignore-certificate-errors-spki-list=${pins}`, '--remote-debugging-port=0', 'about:blank',
  ]);
  const address = await new Promise((resolve, reject) => {
    let text = '';
    browser.stderr.on('data', (b) => {
      text += b;
      const found = /DevTools listening on ws:\/\/([^/]+)\//.exec(text);
      if (found) resolve(found[1]);
    });
    browser.on('exit', () => reject(new Error(text)));
  });
  const tabs = await (await fetch(`http://${address}/json/list`)).json();
  const socket = new WebSocket(tabs.find((t) => t.type === 'page').webSocketDebuggerUrl);
  await new Promise((resolve) => socket.on('open', resolve));
  const waiting = new Map();
  socket.on('message', (b) => {
    const m = JSON.parse(b);
    waiting.get(m.id)?.(m.result);
  });
  let id = 0;
  const call = (method, params) =>
    new Promise((resolve) => {
      waiting.set(++id, resolve);
      socket.send(JSON.stringify({ id, method, params }));
    });
  const value = async (expression) => (await call('Runtime.evaluate', { expression })).result.value;
  const text = (element) => value(`document.getElementById(${JSON.stringify(element)})?.textContent`);
  const shows = (element, part) =>
    until(`${part} in ${element}`, async () => {
      const now = (await text(element)) ?? '';
      return { found: now.includes(part), text: now };
    });
  await call('Page.navigate', { url: page });
  const asks = 'document.readyState === "complete" && !document.getElementById("token-field").hidden';
  await until('a field for the token', async () => ({ found: await value(asks) }));
  await value(`{ const s = document.getElementById("channel"); s.append(new Option("user.alice"));
    s.value = "user.alice"; s.dispatchEvent(new Event("change")); }`);
  const refused = await shows('stream-problem-text', 'wsd refuses connections');
  const token = await (await fetch(conductor + '/token?user=alice&ttl=60')).text();
  await value(`{ const e = document.getElementById("token"); e.value = ${JSON.stringify(token)};
    e.dispatchEvent(new Event("change")); }`);
  const connected = await shows('stream-state', 'connected to wss://');
  await shows('messages', '"channel": "user.alice"');
  return { ok: true, refused, connected };
}

let report;
try {
  report = await show();
} catch (e) {
  report = { ok: false, error: e.stack };
}
await fetch(conductor + '/report', { method: 'POST', body: JSON.stringify(report) });
