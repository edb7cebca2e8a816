// Bun as a peer of cws: an echo server, or a client that echoes to itself over
// the server.
//
//   bun.js server          says on which port
//   bun.js client URL      prints "echo ok" or "echo failed: why"
const SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20];

function runServer() {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request, server) {
      return server.upgrade(request, { data: new URL(request.url).pathname }) ? undefined : new Response("no upgrade");
    },
    websocket: {
      perMessageDeflate: true,
      maxPayloadLength: 1 << 24,
      message: (ws, message) => void ws.send(message, ws.data === "/deflate"),
      close: (ws, code, reason) => console.log("end", ws.data, code, reason),
    },
  });
  console.log("listening on", server.port);
}

function runClient(url) {
  const ws = new WebSocket(url + "/echo");
  const messages = SIZES.flatMap((size) => [
    "x".repeat(size), "a".repeat(size % 2) + "é".repeat(size / 2), new Uint8Array(size).fill(0xfe),
  ]);
  const text = (message) => (typeof message === "string" ? message : Buffer.from(message).toString("latin1"));
  const end = (result) => {
    console.log("echo", result);
    process.exit(0);
  };
  let at = 0;
  ws.binaryType = "arraybuffer";
  ws.onopen = () => ws.send(messages[0]);
  ws.onmessage = (event) => {
    if (typeof event.data !== typeof messages[at] && typeof event.data === "string") end("failed: type");
    if (text(event.data) !== text(messages[at])) end("failed: message " + at);
    at += 1;
    if (at < messages.length) ws.send(messages[at]);
    else ws.close(4001, "bye");
  };
  ws.onclose = (event) => end(at === messages.length && event.code === 4001 ? "ok" : `failed: close ${event.code}`);
}

if (process.argv[2] === "server") runServer();
else runClient(process.argv[3]);
