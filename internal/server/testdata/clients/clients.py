"""What PyPI centrifuge-python, and websockets as a raw client, do with wsd over TLS and with tokens.

Usage: clients.py ADDRESS CONDUCTOR. See clients_test.go, which is the conductor.
"""

import asyncio
import json
import ssl
import sys
import time
import traceback
import urllib.parse
import urllib.request

import centrifuge
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

WAIT_MAX = 15.0
address, conductor = sys.argv[1:3]
failures = []


def fetch(path, method="GET", body=None):
    request = urllib.request.Request(conductor + path, data=body, method=method)
    with urllib.request.urlopen(request, timeout=WAIT_MAX) as response:
        return response.read().decode()


async def ask(path, method="GET"):
    return await asyncio.to_thread(fetch, path, method)


async def token(**query):
    return await ask("/token?" + urllib.parse.urlencode(query))


def check(ok, what):
    if not ok:
        raise AssertionError(what)


async def until(what, condition):
    end = time.monotonic() + WAIT_MAX
    while not condition():
        check(not failures, "; ".join(failures))
        check(time.monotonic() < end, f"did not see: {what}")
        await asyncio.sleep(0.02)


class Stream:
    """Checks that records are numbered without a gap, from whichever came first."""

    def __init__(self, name):
        self.name, self.count, self.last, self.refused = name, 0, None, None

    def take(self, data):
        if isinstance(data, bytes):
            data = json.loads(data)
        if data["channel"] != self.name or self.last is not None and data["n"] != self.last + 1:
            failures.append(f"{self.name}: {data['channel']} {data['n']} after {self.last}")
        self.last = data["n"]
        self.count += 1

    async def more(self, n=5):
        count = self.count + n
        await until(f"{n} more records of {self.name}", lambda: self.count >= count)


class ClientEvents(centrifuge.ClientEventHandler):
    def __init__(self, it):
        self.it = it

    async def on_connected(self, ctx):
        self.it.connects += 1

    async def on_connecting(self, ctx):
        self.it.codes.append(ctx.code)

    async def on_disconnected(self, ctx):
        self.it.codes.append(ctx.code)
        self.it.ended = ctx.code

    async def on_publication(self, ctx):
        self.it.served.take(ctx.pub.data)


class SubscriptionEvents(centrifuge.SubscriptionEventHandler):
    def __init__(self, stream):
        self.stream = stream

    async def on_publication(self, ctx):
        self.stream.take(ctx.pub.data)

    async def on_subscribed(self, ctx):
        if ctx.was_recovering and not ctx.recovered:
            failures.append(f"{self.stream.name} was not recovered")

    async def on_unsubscribed(self, ctx):
        self.stream.refused = ctx.code


class Client:
    def __init__(self, protobuf, get_token=None, given=""):
        self.codes, self.connects, self.tokens, self.ended, self.served = [], 0, 0, None, Stream("srv.alice")

        async def counted():
            self.tokens += 1
            return await get_token(self.tokens - 1)

        self.client = centrifuge.Client(
            address + "/connection/websocket", events=ClientEvents(self), token=given,
            get_token=counted if get_token else None, use_protobuf=protobuf, ssl_context=ssl.create_default_context(),
            min_reconnect_delay=0.02, max_reconnect_delay=0.2)

    async def subscribe(self, name, get_token=None):
        stream = Stream(name)

        async def counted(_=None):
            return await get_token()

        sub = self.client.new_subscription(name, events=SubscriptionEvents(stream),
                                           get_token=counted if get_token else None)
        await sub.subscribe()
        return stream


async def ends(protobuf, given):
    """Connects with a token that is not accepted, and returns the code that it is told."""
    it = Client(protobuf, given=given)
    await it.client.connect()
    await until("the end of a client that is refused", lambda: it.ended is not None)
    return it.ended


class Raw:
    """A raw client."""

    @classmethod
    async def connect(cls, channel, how, given):
        it, query, options = cls(), {"channel": channel}, {}
        if how == "header":
            options["additional_headers"] = {"Authorization": "Bearer " + given}
        elif how == "subprotocol":
            options["subprotocols"] = ["wsd.raw", "wsd.token." + given]
        elif how == "query":
            query["token"] = given
        it.stream, it.closed = Stream(channel), None
        it.socket = await websockets.connect(address + "/ws?" + urllib.parse.urlencode(query),
                                             ssl=ssl.create_default_context(), **options)
        it.task = asyncio.create_task(it.read())
        return it

    async def read(self):
        try:
            async for message in self.socket:
                self.stream.take(json.loads(message))
        except ConnectionClosed as e:
            self.closed = e.rcvd.code if e.rcvd else 1006


async def refused(channel, how, given):
    try:
        it = await Raw.connect(channel, how, given)
        await it.socket.close()
    except InvalidStatus as e:
        return e.response.status_code
    return 101


async def raw_scenario():
    """The raw clients until the certificate and the key change."""
    long = await token(user="alice", ttl=600)
    clients = [await Raw.connect("user.alice", how, long) for how in ("header", "subprotocol", "query")]
    short = await Raw.connect("public.a", "header", await token(user="alice", ttl=2))
    for it in clients + [short]:
        await it.stream.more()
    for channel, how, given, status in (
            ("user.bob", "header", long, 403), ("user.alice", "none", "", 401), ("$x", "query", long, 403),
            ("user.alice", "query", long[:-8] + "AAAAAAAA", 401), ("user.alice", "subprotocol", "a.b.c", 401),
            ("user.alice", "header", await token(user="alice", ttl=-5), 401),
            ("user.alice", "header", await token(user="alice", ttl=600, channel="user.alice"), 401)):
        seen = await refused(channel, how, given)
        check(seen == status, f"raw {channel} by {how}: status {seen}, not {status}")
    await until("the end of a raw client whose token has expired", lambda: short.closed is not None)
    check(short.closed == 1008, f"raw: closed with {short.closed}")
    return long, clients


async def scenario():
    long, raws = await raw_scenario()

    async def late_token(n):
        return await token(user="alice", ttl=-5 if n % 2 else 3)

    pairs = []
    for protobuf in (False, True):
        early = Client(protobuf, lambda n: token(user="alice", ttl=3, served="srv.alice"))
        late = Client(protobuf, late_token)
        await early.client.connect()
        await late.client.connect()
        streams = [early.served, await early.subscribe("user.alice"), await early.subscribe("public.a"),
                   await early.subscribe("$x", lambda: token(user="alice", ttl=3, channel="$x"))]
        late_stream = await late.subscribe("user.alice")
        for s in streams + [late_stream]:
            await s.more()
        for s in (await early.subscribe("user.bob"), await early.subscribe("$y"),
                  await early.subscribe("$z", lambda: token(user="alice", ttl=60, channel="$x"))):
            await until(f"{s.name} is refused", lambda: s.refused is not None)  # noqa: B023
            check(s.refused == 103 and s.count == 0, f"{s.name}: code {s.refused}")
        check(await ends(protobuf, long[:-8] + "AAAAAAAA") == 3500, "a bad token is not refused by 3500")
        check(await ends(protobuf, "") == 101, "no token is not refused by 101")
        pairs.append((early, late, streams, late_stream))

    async def all_more():
        for _, _, streams, late_stream in pairs:
            for s in streams + [late_stream]:
                await s.more()
        for it in raws:
            await it.stream.more()

    async def refreshes(n):
        for early, late, _, _ in pairs:
            had = early.tokens
            await until("refreshes", lambda: early.tokens >= had + n)  # noqa: B023

    await refreshes(2)
    for early, late, _, _ in pairs:
        check(early.connects == 1, "a refresh made the client reconnect")
        await until("a client whose refresh failed", lambda: 3005 in late.codes and late.connects >= 2)  # noqa: B023
    await ask("/certificate", "POST")
    await all_more()

    async def back():
        for early, _, _, _ in pairs:
            had = early.connects
            await early.client.disconnect()
            await early.client.connect()
            await until("the client is back", lambda: early.connects > had)  # noqa: B023

    await back()
    await all_more()
    raws.append(await Raw.connect("user.alice", "header", long))
    await ask("/rotate", "POST")
    await refreshes(2)
    await back()
    await all_more()
    raws.append(await Raw.connect("user.alice", "header", long))
    raws.append(await Raw.connect("user.alice", "header", await token(user="alice", ttl=600)))
    await ask("/forget", "POST")
    seen = await refused("user.alice", "header", long)
    # With a key set the key may be in it later: then clients are to try again.
    check(seen in (401, 503), f"a raw client with a token of a forgotten key: {seen}")
    await refreshes(1)
    await all_more()
    for it in raws:
        check(it.closed is None, f"a raw client was closed with {it.closed}")
        await it.socket.close()
    result = {"raw": [it.stream.count for it in raws]}
    for name, (early, late, streams, _) in zip(("json", "protobuf"), pairs):
        result[name] = {"tokens": [early.tokens, late.tokens], "connects": [early.connects, late.connects],
                        "records": {s.name: s.count for s in streams}}
        await early.client.disconnect()
        await late.client.disconnect()
    return result


async def main():
    try:
        report = {"ok": True, **await scenario()}
    except BaseException:  # noqa: BLE001 - whatever it is, it is to be seen.
        report = {"ok": False, "error": traceback.format_exc()}
    await asyncio.to_thread(fetch, "/report", "POST", json.dumps(report).encode())


asyncio.run(main())
