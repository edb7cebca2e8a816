// npm's ws. node ws.js PORT [--deflate | --takeover]
const { WebSocketServer } = require("ws");

const deflate = process.argv[3] !== undefined && {
  serverNoContextTakeover: process.argv[3] === "--deflate",
  clientNoContextTakeover: process.argv[3] === "--deflate",
  threshold: 0,
};
const server = new WebSocketServer({
  port: Number(process.argv[2]),
  host: "127.0.0.1",
  maxPayload: 64 * 1024 * 1024,
  perMessageDeflate: deflate,
});
const subscribers = new Set();
server.on("connection", (ws, request) => {
  if (request.url === "/sub") {
    subscribers.add(ws);
    ws.on("close", () => subscribers.delete(ws));
    return;
  }
  ws.on("message", (data, binary) => {
    if (request.url === "/pub") for (const s of subscribers) s.send(data, { binary });
    ws.send(data, { binary });
  });
});
