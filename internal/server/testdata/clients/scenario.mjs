// What the npm SDK does with wsd over TLS and with tokens, in node and in a browser. See clients_test.go, which is the
// conductor: it signs tokens, replaces the certificate and the signing key, and produces numbered records.

const waitMax = 15_000;
const failures = []; // What event handlers have seen that must not be.

function check(ok, what) {
  if (!ok) throw new Error(what);
}

// until waits until ask returns a true value, and returns that.
async function until(what, ask) {
  for (const end = Date.now() + waitMax; ;) {
    const answer = await ask();
    check(!failures.length, failures.join('; '));
    if (answer) return answer;
    check(Date.now() < end, `did not see: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// A Stream checks that its records are numbered without a gap, from whichever came first.
class Stream {
  constructor(name) {
    this.name = name;
    this.count = 0;
    this.last = undefined;
  }

  take(data) {
    if (data instanceof Uint8Array) data = JSON.parse(new TextDecoder().decode(data)); // Of the Protobuf protocol.
    check(data.channel === this.name, `${this.name} got a record of ${data.channel}`);
    check(this.last === undefined || data.n === this.last + 1, `${this.name}: ${data.n} after ${this.last}`);
    this.last = data.n;
    this.count++;
  }

  more(n = 5) {
    const from = this.count;
    return until(`${n} more records of ${this.name}`, () => this.count >= from + n);
  }
}

export async function run({ Centrifuge, WebSocket, address, conductor }) {
  const ask = async (path, method = 'GET') => {
    const response = await fetch(conductor + path, { method });
    check(response.ok, `${path}: status ${response.status}`);
    return response.text();
  };
  const token = (query) => ask('/token?' + new URLSearchParams(query));
  const streams = [];
  const stream = (name) => {
    const s = new Stream(name);
    streams.push(s);
    return s;
  };
  const guard = (take) => (ctx) => {
    try {
      take(ctx);
    } catch (e) {
      failures.push(e.message);
    }
  };

  // A client with what it has seen.
  const connect = (getToken, given) => {
    const it = { codes: [], connects: 0, tokens: 0, errors: [] };
    it.client = new Centrifuge(address + '/connection/websocket', {
      websocket: WebSocket,
      token: given ?? '',
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
      getToken: () => getToken(it.tokens++),
    });
    it.client.on('connected', () => it.connects++);
    it.client.on('connecting', (ctx) => it.codes.push(ctx.code));
    it.client.on('disconnected', (ctx) => it.codes.push(ctx.code));
    it.client.on('error', (ctx) => it.errors.push(ctx.error.code));
    return it;
  };
  const subscribe = (it, channel, options) => {
    const sub = it.client.newSubscription(channel, options);
    const s = stream(channel);
    sub.on('publication', guard((ctx) => s.take(ctx.data)));
    sub.on('unsubscribed', (ctx) => (s.refused = ctx.code));
    sub.on('subscribed', (ctx) => {
      s.subscribed = (s.subscribed ?? 0) + 1;
      if (ctx.wasRecovering && !ctx.recovered) failures.push(`${channel} was not recovered`);
    });
    sub.subscribe();
    s.sub = sub;
    return s;
  };

  // Two clients whose tokens live for a few seconds: one refreshes in time; the other's refreshes bring tokens that
  // have expired, so that it is closed and comes back.
  const early = connect(() => token({ user: 'alice', ttl: 3, served: 'srv.alice' }));
  const late = connect((n) => token({ user: 'alice', ttl: n % 2 ? -5 : 3 }));
  const served = stream('srv.alice');
  early.client.on('publication', guard((ctx) => served.take(ctx.data)));
  early.client.connect();
  late.client.connect();
  const mine = subscribe(early, 'user.alice');
  const everybody = subscribe(early, 'public.a');
  const lateStream = subscribe(late, 'user.alice');
  const bought = subscribe(early, '$x', {
    getToken: () => token({ user: 'alice', ttl: 3, channel: '$x' }),
  });
  for (const s of [mine, everybody, lateStream, bought, served]) await s.more();

  // What it may not have.
  const other = subscribe(early, 'user.bob');
  const unbought = subscribe(early, '$y');
  const wrong = subscribe(early, '$z', { getToken: () => token({ user: 'alice', ttl: 60, channel: '$x' }) });
  const stolen = subscribe(early, '$b', { getToken: () => token({ user: 'bob', ttl: 60, channel: '$b' }) });
  const refused = [other, unbought, wrong, stolen];
  for (const s of refused) {
    await until(`${s.name} is refused`, () => s.refused !== undefined);
    check(s.refused === 103, `${s.name}: code ${s.refused}`);
  }
  let asked = 0;
  const again = subscribe(early, '$w', { getToken: () => token({ user: 'alice', ttl: asked++ ? 60 : -5, channel: '$w' }) });
  await again.more(); // The first token has expired: error 109, and another one.
  check(asked === 2, `$w asked for ${asked} tokens`);

  // Who may not connect.
  const kept = await token({ user: 'alice', ttl: 600 });
  const expired = await token({ user: 'alice', ttl: -5 });
  const end = async (given) => {
    const client = new Centrifuge(address + '/connection/websocket', { websocket: WebSocket, token: given });
    const code = await new Promise((resolve) => {
      client.on('disconnected', (ctx) => resolve(ctx.code));
      client.on('error', (ctx) => ctx.error.code === 111 && resolve(111)); // It tries again.
      client.connect();
    });
    client.disconnect();
    return code;
  };
  check((await end(kept.slice(0, -8) + 'AAAAAAAA')) === 3500, 'a bad token is not refused by 3500');
  check((await end('')) === 101, 'no token is not refused by 101');

  // A raw client, with its token in a subprotocol, as a browser has to.
  const raw = (channel, given) =>
    new Promise((resolve) => {
      const s = stream(channel);
      const socket = new WebSocket(`${address}/ws?channel=${channel}`, ['wsd.raw', 'wsd.token.' + given]);
      socket.onmessage = guard((m) => s.take(JSON.parse(m.data)));
      socket.onopen = () => resolve({ s, socket });
      socket.onerror = () => resolve(null);
      socket.onclose = (ctx) => (s.closed = ctx.code);
    });
  const bare = await raw('user.alice', kept);
  check(bare, 'the raw client is refused');
  check(!(await raw('user.bob', kept)), 'the raw client has what it may not have');
  await bare.s.more();

  const connects = early.connects;
  await until('two refreshes', () => early.tokens >= 3);
  check(early.connects === connects, 'a refresh made the client reconnect');
  await until('the end of a client whose refresh failed', () => late.codes.includes(3005) && late.connects >= 2);

  // The certificate is replaced: who is connected stays, and who connects gets the new one.
  const back = async () => {
    const had = early.connects;
    early.client.disconnect();
    await served.more(0);
    early.client.connect();
    await until('the client is back', () => early.connects > had);
  };
  await ask('/certificate', 'POST');
  for (const s of [mine, everybody, lateStream, bought, served, bare.s]) await s.more();
  check(early.connects === connects, 'the new certificate made the client reconnect');
  await back();
  for (const s of [mine, everybody, bought, served]) await s.more();

  // The signing key is replaced, and the old one is forgotten later.
  await ask('/rotate', 'POST');
  let had = early.tokens;
  await until('a refresh by the new key', () => early.tokens >= had + 2);
  await back();
  for (const s of [mine, everybody, lateStream, bought, served, bare.s]) await s.more();
  await ask('/forget', 'POST');
  // With a key set the key may be in it later, so that clients are to try again.
  check([3500, 111].includes(await end(kept)), 'a token of a forgotten key is not refused');
  // One that was asleep has a token that has expired, by a key that is gone. It gets another one.
  const sleeper = connect(() => token({ user: 'alice', ttl: 60 }), expired);
  sleeper.client.connect();
  await until('the client that was asleep is back', () => sleeper.connects === 1);
  sleeper.client.disconnect();
  had = early.tokens;
  await until('a refresh after that', () => early.tokens >= had + 2);
  for (const s of [mine, everybody, lateStream, bought, served, bare.s, again]) await s.more();

  for (const s of refused) check(s.count === 0, `${s.name} got ${s.count} records`);
  const counts = Object.fromEntries(streams.map((s) => [s.name, s.count]));
  early.client.disconnect();
  late.client.disconnect();
  bare.socket.close();
  return {
    records: counts, tokens: [early.tokens, late.tokens], connects: [early.connects, late.connects], codes: late.codes,
  };
}

// report runs the scenario and tells the conductor how it went.
export async function report(options) {
  let result;
  try {
    result = { ok: true, ...(await run(options)) };
  } catch (e) {
    result = { ok: false, error: e.stack };
  }
  await fetch(options.conductor + '/report', { method: 'POST', body: JSON.stringify(result) });
}
