#!/usr/bin/env python3
"""python3-websockets as a peer of cws: an echo server, and a client that plays
what interop_spec.lua asks for.

  echo.py server              says on which port; what it does is in the path
  echo.py client URL TEST...  prints "TEST ok" or "TEST failed: why"

ALL_BITS, SOME_BITS: window bits to combine."""
import asyncio
import http
import os
import sys
import urllib.parse

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.legacy.client import connect
from websockets.legacy.server import WebSocketServerProtocol, serve

LIMIT = 1 << 24
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]


def query_of(path):
    parts = urllib.parse.urlsplit(path)
    return parts.path, dict(urllib.parse.parse_qsl(parts.query))


def deflate_options(query):
    """s, c: no context takeover; sb, cb: window bits, of server and client."""
    return {
        "server_no_context_takeover": query.get("s") == "1",
        "client_no_context_takeover": query.get("c") == "1",
        "server_max_window_bits": int(query["sb"]) if "sb" in query else None,
        "client_max_window_bits": int(query["cb"]) if "cb" in query else None,
    }


# --- server -------------------------------------------------------------------------

class Protocol(WebSocketServerProtocol):
    async def process_request(self, path, headers):
        name, query = query_of(path)
        if name == "/refuse":
            return http.HTTPStatus(int(query["status"])), [("X-Why", "because")], b"not you\n"
        # one connection at a time: the list is the one that will be looked at
        self.available_extensions[:] = (
            [ServerPerMessageDeflateFactory(**deflate_options(query))] if name == "/deflate" else [])


async def handler(ws, path=None):
    name, query = query_of(ws.path)
    try:
        if name == "/close":
            await ws.close(int(query["code"]), query.get("reason", ""))
        elif name == "/ping":
            await asyncio.wait_for(await ws.ping(b"are you there"), 5)
            await ws.send("pong came")
        elif name == "/fragments":
            await ws.send(["he", "", "llo ", "wörld"])
        async for message in ws:
            await ws.send(message)
    except ConnectionClosed:
        pass
    await ws.wait_closed()
    print("end", ws.path, ws.close_code, ws.close_reason, flush=True)


async def run_server():
    server = await serve(handler, "127.0.0.1", 0, create_protocol=Protocol, extensions=[ServerPerMessageDeflateFactory()],
                         compression=None, max_size=LIMIT, subprotocols=["chat.v1", "chat.v2"])
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()


# --- client -------------------------------------------------------------------------

def open_client(url, **options):
    options.setdefault("compression", None)
    return connect(url, max_size=LIMIT, **options)


async def test_echo(url):
    async with open_client(url + "/echo") as ws:
        for size in SIZES:
            text = "a" * (size % 2) + "é" * (size // 2)
            for message in ("x" * size, text, bytes(i * 7 & 255 for i in range(size))):
                await ws.send(message)
                assert await ws.recv() == message, size


async def test_fragments(url):
    async with open_client(url + "/echo") as ws:
        await ws.send(["frag", "", "ments ", "of ü"])
        assert await ws.recv() == "fragments of ü"


async def test_ping(url):
    async with open_client(url + "/echo") as ws:
        await asyncio.wait_for(await ws.ping(b"x" * 125), 5)
        await asyncio.wait_for(await ws.ping(b""), 5)
    async with open_client(url + "/ping") as ws:
        assert await ws.recv() == "pong came"


async def test_close(url):
    for code in (1000, 1001, 3000, 4999):
        ws = await open_client(url + "/echo")
        await ws.close(code, "gründe")
        assert (ws.close_code, ws.close_reason) == (code, ""), (ws.close_code, ws.close_reason)
        async with open_client(f"{url}/close?code={code}&reason=bye") as ws:
            try:
                await ws.recv()
            except ConnectionClosed:
                pass
            assert (ws.close_code, ws.close_reason) == (code, "bye"), (ws.close_code, ws.close_reason)


async def test_protocol(url):
    async with open_client(url + "/echo", subprotocols=["chat.v2", "chat.v1"]) as ws:
        assert ws.subprotocol == "chat.v1", ws.subprotocol
    async with open_client(url + "/echo", subprotocols=["other"]) as ws:
        assert ws.subprotocol is None, ws.subprotocol


async def test_refused(url):
    for path, wanted, options in (("/nothing", 404, {}), ("/echo", 403, {"origin": "http://evil.example"})):
        try:
            await open_client(url + path, **options)
        except Exception as err:
            assert getattr(err, "status_code", None) == wanted, err
        else:
            raise AssertionError("not refused")


def parts():
    """Repeats near and far: a wrong window, or a forgotten one, is seen."""
    state, words = 1, []
    for _ in range(4000):
        state = state * 48271 % 2147483647
        words.append(str(state))
    far = "".join(words)[:20000]
    return [far, far + far, "short", far[:3000] * 3, "", far]


async def deflate(url, query):
    options = deflate_options(query)
    if options["client_max_window_bits"] is None:
        options["client_max_window_bits"] = True
    extension = ClientPerMessageDeflateFactory(**options)
    async with open_client(url + "/deflate?" + urllib.parse.urlencode(query), extensions=[extension]) as ws:
        assert [e.name for e in ws.extensions] == ["permessage-deflate"], ws.response_headers
        for message in parts():
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(["frag" * 500, "ments " * 500])
        assert await ws.recv() == "frag" * 500 + "ments " * 500


def combinations(which):
    bits = [int(word) for word in os.environ[which].split()]
    for s in "01":
        for c in "01":
            for sb in bits:
                for cb in bits:
                    yield {"s": s, "c": c, "sb": sb, "cb": cb}


async def test_deflate(url):
    """What the client asks for, in every combination."""
    for query in combinations("ALL_BITS"):
        try:
            await deflate(url, query)
        except Exception as err:
            raise AssertionError(f"{query}: {err!r}")


async def test_deflate_server(url):
    """What the server asks for: it takes its options from the query."""
    for query in combinations("SOME_BITS"):
        path = "/own?" + urllib.parse.urlencode(query)
        async with open_client(url + path, compression="deflate") as ws:
            assert len(ws.extensions) == 1, query
            for message in parts():
                await ws.send(message)
                assert await ws.recv() == message, query


async def run_client(url, tests):
    for name in tests:
        try:
            await asyncio.wait_for(globals()["test_" + name](url), 60)
            print(name, "ok", flush=True)
        except Exception as err:
            print(name, "failed:", repr(err), flush=True)


if sys.argv[1] == "server":
    asyncio.run(run_server())
else:
    asyncio.run(run_client(sys.argv[2], sys.argv[3:]))
