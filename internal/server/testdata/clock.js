// A clock for TestPageOpenForHours, put before the scripts of the page: pass(milliseconds) lets that much time pass, as fast
// as the page does what it does meanwhile. Time stands still while a response or the first message of a socket is awaited,
// so every timer of the page fires, in order and once, as in real time.
{
  const began = Date.now();
  const turn = new MessageChannel(); // Its messages are tasks of the browser's loop, so other ones get their turn.
  const timers = new Map(); // By id: when, what, and how often.
  let now = 0;
  let until = 0;
  let ids = 0;
  let awaited = 0;
  let passed = () => {};

  const add = (what, wait, every) => {
    timers.set(++ids, { at: now + Math.max(Number(wait) || 0, 1), what, every });
    return ids;
  };
  performance.now = () => now;
  Date.now = () => began + now;
  window.setTimeout = (what, wait) => add(what, wait, 0);
  window.setInterval = (what, wait) => add(what, wait, Math.max(Number(wait) || 0, 1));
  window.clearTimeout = window.clearInterval = (id) => timers.delete(id);
  AbortSignal.timeout = (wait) => {
    const controller = new AbortController();
    add(() => controller.abort(new DOMException("", "TimeoutError")), wait, 0);
    return controller.signal;
  };

  // wake goes on after what has just happened, and what follows from it at once.
  const wake = () => turn.port2.postMessage(null);
  turn.port1.onmessage = step;
  const arrived = () => {
    awaited--;
    wake();
  };
  const waitFor = (promise) => {
    awaited++;
    promise.then(arrived, arrived);
    return promise;
  };
  const before = window.fetch;
  window.asked = 0; // How often the page has asked for the health: the test knows by it that time has passed.
  window.fetch = (...args) => {
    if (args[0] === "health") window.asked++;
    return waitFor(before(...args));
  };
  for (const read of ["json", "text"]) {
    const whole = Response.prototype[read];
    Response.prototype[read] = function () {
      return waitFor(whole.call(this));
    };
  }
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      waitFor(new Promise((resolve) => {
        for (const event of ["message", "close"]) this.addEventListener(event, resolve, { once: true });
      }));
    }
  };

  // step fires the timers that are due next, one moment's in a turn of the browser's loop.
  function step() {
    if (awaited > 0 || now >= until) {
      if (now >= until) passed();
      return;
    }
    let next = until;
    for (const timer of timers.values()) next = Math.min(next, timer.at);
    now = next;
    for (const [id, timer] of timers) {
      if (timer.at > now) continue;
      if (timer.every > 0) timer.at = now + timer.every;
      else timers.delete(id);
      timer.what();
    }
    wake();
  }

  window.pass = (milliseconds) => new Promise((resolve) => {
    passed = resolve;
    until = now + milliseconds;
    wake();
  });
}
