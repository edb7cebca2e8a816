// Bun's own server. bun bun.js PORT [--deflate | --takeover]
const compress = { "--deflate": "shared", "--takeover": "dedicated" }[process.argv[3]];
Bun.serve({
  port: Number(process.argv[2]),
  hostname: "127.0.0.1",
  fetch(request, server) {
    const path = new URL(request.url).pathname;
    if (server.upgrade(request, { data: { path } })) return;
    return new Response("expected a WebSocket", { status: 426 });
  },
  websocket: {
    maxPayloadLength: 64 * 1024 * 1024,
    backpressureLimit: 256 * 1024 * 1024,
    idleTimeout: 960,
    perMessageDeflate: compress ? { compress, decompress: compress } : false,
    open(ws) {
      if (ws.data.path === "/sub") ws.subscribe("all");
    },
    message(ws, message) {
      if (ws.data.path === "/pub") ws.publish("all", message);
      ws.send(message, !!compress);
    },
  },
});
