// Node's ws as a peer of cws: an echo server, and a client that plays what
// interop_spec.lua asks for.
//
//   echo.js server              says on which port; what it does is in the path
//   echo.js client URL TEST...  prints "TEST ok" or "TEST failed: why"
//
// ALL_BITS, SOME_BITS: window bits to combine.
const assert = require("assert");
const http = require("http");
const { WebSocket, WebSocketServer } = require("ws");

const LIMIT = 1 << 24;
const SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20];

// s, c: no context takeover; sb, cb: window bits, of server and client.
function deflateOptions(query) {
  const number = (name) => (query.has(name) ? Number(query.get(name)) : undefined);
  return {
    serverNoContextTakeover: query.get("s") === "1" || undefined,
    clientNoContextTakeover: query.get("c") === "1" || undefined,
    serverMaxWindowBits: number("sb"),
    clientMaxWindowBits: number("cb"),
    threshold: 0,
  };
}

// --- server -----------------------------------------------------------------

function serve(ws, url) {
  ws.on("error", () => {});
  ws.on("message", (message, binary) => ws.send(message, { binary }));
  ws.on("close", (code, reason) => console.log("end", url.pathname + url.search, code, String(reason)));
  if (url.pathname === "/close") {
    ws.close(Number(url.searchParams.get("code")), url.searchParams.get("reason") || "");
  } else if (url.pathname === "/ping") {
    ws.on("pong", (data) => ws.send("pong came"));
    ws.ping("are you there");
  } else if (url.pathname === "/fragments") {
    ["he", "", "llo ", "wörld"].forEach((part, i) => ws.send(part, { fin: i === 3 }));
  }
}

function runServer() {
  const server = http.createServer();
  server.on("upgrade", (request, socket, head) => {
    const url = new URL(request.url, "http://localhost");
    if (url.pathname === "/refuse") {
      socket.end(`HTTP/1.1 ${url.searchParams.get("status")} No\r\nX-Why: because\r\nContent-Length: 8\r\n\r\nnot you\n`);
      return;
    }
    const deflate = url.pathname === "/deflate" && deflateOptions(url.searchParams);
    const accept = (offered) => ["chat.v1", "chat.v2"].find((name) => offered.has(name)) || false;
    const one = new WebSocketServer({
      noServer: true, perMessageDeflate: deflate, maxPayload: LIMIT, handleProtocols: accept,
    });
    one.handleUpgrade(request, socket, head, (ws) => serve(ws, url));
  });
  server.listen(0, "127.0.0.1", () => console.log("listening on", server.address().port));
}

// --- client -----------------------------------------------------------------

function open(url, protocols, options) {
  const ws = new WebSocket(url, protocols || [], { perMessageDeflate: false, maxPayload: LIMIT, ...options });
  ws.inbox = [];
  ws.on("message", (data, binary) => {
    ws.inbox.push(binary ? data : String(data));
    ws.emit("some");
  });
  return new Promise((resolve, reject) => {
    ws.on("open", () => resolve(ws));
    ws.on("error", reject);
    ws.on("unexpected-response", (request, response) => reject(Object.assign(new Error("refused"), { response })));
  });
}

function once(ws, event) {
  return new Promise((resolve) => ws.once(event, (...values) => resolve(values)));
}

async function receive(ws) {
  if (!ws.inbox.length) await once(ws, "some");
  return ws.inbox.shift();
}

async function close(ws, code, reason) {
  const closed = once(ws, "close");
  ws.close(code, reason);
  const [got, why] = await closed;
  return [got, String(why)];
}

// Repeats near and far: a wrong window, or a forgotten one, is seen.
function parts() {
  let state = 1, words = "";
  while (words.length < 20000) {
    state = (state * 48271) % 2147483647;
    words += state;
  }
  const far = words.slice(0, 20000);
  return [far, far + far, "short", far.slice(0, 3000).repeat(3), "", far];
}

async function deflate(url, options, query) {
  const ws = await open(url, [], { perMessageDeflate: options });
  assert.match(ws.extensions, /permessage-deflate/, query);
  for (const message of parts()) {
    ws.send(message);
    assert.equal(await receive(ws), message, query);
  }
  ws.send("frag".repeat(500), { fin: false });
  ws.send("ments ".repeat(500), { fin: true });
  assert.equal(await receive(ws), "frag".repeat(500) + "ments ".repeat(500), query);
  await close(ws);
}

function combinations(which) {
  const bits = process.env[which].split(" "), all = [];
  for (const s of [0, 1]) for (const c of [0, 1]) for (const sb of bits) for (const cb of bits)
    all.push(`s=${s}&c=${c}&sb=${sb}&cb=${cb}`);
  return all;
}

const tests = {
  async echo(url) {
    const ws = await open(url + "/echo");
    for (const size of SIZES) {
      const bytes = Buffer.alloc(size, "\x00\x07\x0e\xfe", "latin1");
      for (const message of ["x".repeat(size), "a".repeat(size % 2) + "é".repeat(size / 2), bytes]) {
        ws.send(message);
        assert.deepEqual(await receive(ws), message);
      }
    }
    await close(ws);
  },

  async fragments(url) {
    const ws = await open(url + "/echo");
    ["frag", "", "ments ", "of ü"].forEach((part, i) => ws.send(part, { fin: i === 3 }));
    assert.equal(await receive(ws), "fragments of ü");
    await close(ws);
  },

  async ping(url) {
    let ws = await open(url + "/echo");
    for (const data of ["x".repeat(125), ""]) {
      ws.ping(data);
      assert.equal(String((await once(ws, "pong"))[0]), data);
    }
    await close(ws);
    ws = await open(url + "/ping");
    assert.equal(await receive(ws), "pong came");
    await close(ws);
  },

  async close(url) {
    for (const code of [1000, 1001, 3000, 4999]) {
      let ws = await open(url + "/echo");
      assert.deepEqual(await close(ws, code, "gründe"), [code, ""]);
      ws = await open(`${url}/close?code=${code}&reason=bye`);
      const [got, reason] = ws.readyState === WebSocket.CLOSED ? [ws._closeCode, ws._closeMessage] : await once(ws, "close");
      assert.deepEqual([got, String(reason)], [code, "bye"]);
    }
  },

  async protocol(url) {
    let ws = await open(url + "/echo", ["chat.v2", "chat.v1"]);
    assert.equal(ws.protocol, "chat.v1");
    await close(ws);
    // ws fails when none of its protocols is chosen
    await assert.rejects(open(url + "/echo", ["other"]), /no subprotocol/);
  },

  async refused(url) {
    for (const [path, status, options] of [["/nothing", 404, {}], ["/echo", 403, { origin: "http://evil.example" }]]) {
      await assert.rejects(open(url + path, [], options), (err) => err.response.statusCode === status);
    }
  },

  async deflate(url) {
    for (const query of combinations("ALL_BITS")) {
      await deflate(url + "/deflate?" + query, deflateOptions(new URLSearchParams(query)), query);
    }
  },

  async deflate_server(url) {
    for (const query of combinations("SOME_BITS")) {
      await deflate(url + "/own?" + query, { threshold: 0 }, query);
    }
  },
};

async function runClient(url, names) {
  for (const name of names) {
    try {
      await tests[name](url);
      console.log(name, "ok");
    } catch (err) {
      console.log(name, "failed:", err.message);
    }
  }
  process.exit(0);
}

if (process.argv[2] === "server") runServer();
else runClient(process.argv[3], process.argv.slice(4));
