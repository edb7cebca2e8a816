-- A peer made of a plain socket (testing_socket.c), for what no WebSocket would
-- send and to look at what one sends. Every call that waits lets the loop turn,
-- in a task and in the main program, and raises when its time is over.
--
--   local peer = raw.upgrade(url)          -- a client, 101 included
--   peer:send_frame("text", "Hello")
--   assert.equal("Hello", peer:frame().data)
--
--   local listener = raw.listen()          -- a server: listener.url
--   local peer = listener:accept()
--   local head = peer:answer()             -- reads the request, sends the 101
--
-- Ends of the stream are "eof" and "reset".
local cws = require("cws")
local net = require("spec.support.net")
local session = require("spec.support.session")
local testing = require("cws.testing")

local M = {}

---Calls attempt until it gives something, or fails with another word than
---"again".
---@param attempt fun(): any, string?
---@param seconds number? 5
---@param what string
local function wait(attempt, seconds, what)
  local until_ = cws.now() + (seconds or 5) * net.slow
  while true do
    local value, why = attempt()
    if value ~= nil or why ~= "again" then return value, why end
    if cws.now() > until_ then error("raw peer: no " .. what .. " in time", 0) end
    cws.sleep(0.001)
  end
end

-- --- peers ------------------------------------------------------------------

---@class raw.peer
---@field role string "server" or "client": what the other end is
---@field socket table
---@field buffer string received, not taken yet
local Peer = {}
Peer.__index = Peer

local open = setmetatable({}, { __mode = "k" })

local function new_peer(socket, role)
  local peer = setmetatable({ socket = socket, role = role, buffer = "" }, Peer)
  open[peer] = true
  return peer
end

---Sends all of it.
---@param bytes string
---@param seconds number?
---@return true? ok, string? why "reset" or "pipe"
function Peer:send(bytes, seconds)
  local at = 1
  while at <= #bytes do
    local n, why = wait(function() return self.socket:send(bytes, at) end, seconds, "room to send")
    if not n then return nil, why end
    at = at + n
  end
  return true
end

---Receives all that there is, at least one byte.
---@return true? ok, string? why
function Peer:more(seconds, what)
  if self.reset_seen then return nil, "reset" end
  local bytes, why = wait(function() return self.socket:recv(262144) end, seconds, what or "bytes")
  if not bytes then return nil, why end
  if bytes == "" then return nil, "eof" end
  local parts = { self.buffer }
  while bytes and bytes ~= "" do
    parts[#parts + 1] = bytes
    if #parts > 64 then break end
    bytes, why = self.socket:recv(262144) -- an end is told by the next call
  end
  self.reset_seen = why == "reset" -- the kernel tells that once
  self.buffer = table.concat(parts)
  return true
end

---What has arrived, without waiting for more; left where it is.
---@return string
function Peer:peek()
  local bytes = self.socket:recv()
  self.buffer = self.buffer .. (bytes or "")
  return self.buffer
end

---Exactly n bytes; less, and why, at the end of the stream.
---@param n integer
---@param seconds number?
---@return string bytes, string? why
function Peer:receive(n, seconds)
  local why
  while #self.buffer < n and not why do
    why = select(2, self:more(seconds, n .. " bytes"))
  end
  local bytes = self.buffer:sub(1, n)
  self.buffer = self.buffer:sub(n + 1)
  return bytes, why
end

---All bytes to the end of the stream, and how it ended: "eof" or "reset".
---@param seconds number?
---@return string bytes, string how
function Peer:rest(seconds)
  local why
  while not why do
    why = select(2, self:more(seconds, "end of the stream"))
  end
  local bytes = self.buffer
  self.buffer = ""
  return bytes, why
end

---A head: what stands before the empty line, with it.
---@param seconds number?
---@return string? head, string? why
function Peer:head(seconds)
  while true do
    local _, last = self.buffer:find("\r\n\r\n", 1, true)
    if last then return self:receive(last) end
    local ok, why = self:more(seconds, "head")
    if not ok then return nil, why end
  end
end

---@param opcode string|integer
---@param data string?
---@param options FrameOptions?
function Peer:send_frame(opcode, data, options)
  return self:send(session.frame(self.role, opcode, data, options))
end

---@param code integer?
---@param reason string?
function Peer:send_close(code, reason)
  return self:send(session.close(self.role, code, reason))
end

-- Whether the buffer holds a whole frame.
local function is_whole(bytes)
  if #bytes < 2 then return false end
  local second = bytes:byte(2)
  local len, head = second & 0x7F, 2
  if len == 126 then
    if #bytes < 4 then return false end
    len, head = string.unpack(">I2", bytes, 3), 4
  elseif len == 127 then
    if #bytes < 10 then return false end
    len, head = string.unpack(">I8", bytes, 3), 10
  end
  return #bytes >= head + (second & 0x80 ~= 0 and 4 or 0) + len
end

---The next frame: { opcode, fin, rsv, data }; a close frame has its `code` (nil
---when it has none) and `reason` as well.
---@param seconds number?
---@return table? frame, string? why
function Peer:frame(seconds)
  while not is_whole(self.buffer) do
    local ok, why = self:more(seconds, "frame")
    if not ok then return nil, why end
  end
  local frame, rest = session.unframe(self.role, self.buffer)
  self.buffer = rest
  if frame.opcode == 8 and #frame.data >= 2 then
    frame.code, frame.reason = string.unpack(">I2", frame.data), frame.data:sub(3)
  end
  return frame
end

function Peer:shutdown() self.socket:shutdown() end

function Peer:reset()
  open[self] = nil
  self.socket:reset()
end

function Peer:close()
  open[self] = nil
  self.socket:close()
end

Peer.__close = Peer.close

-- --- client -----------------------------------------------------------------

---Connects.
---@param url string with a port: "ws://127.0.0.1:8080", or a server's address
---@param buffers { receive: integer?, send: integer? }? of the kernel, in bytes
---@return raw.peer? peer, string? why
function M.connect(url, buffers)
  local port = assert(url:match(":(%d+)"), "no port")
  local socket, why = testing.tcp_connect(math.tointeger(port), buffers)
  if not socket then return nil, why end
  local ok, refused = wait(function() return socket:connected() end, nil, "connection")
  if not ok then
    socket:close()
    return nil, refused
  end
  return new_peer(socket, "server")
end

---A request for an upgrade that a server accepts.
---@param path string?
---@param fields string? more lines, each with its CRLF
---@return string
function M.request(path, fields)
  return ("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n")
    :format(path or "/", fields or "")
end

---A connection that is open.
---@param url string
---@param options { path: string?, fields: string?, buffers: table?, after: string? }?
---@return raw.peer peer, string head the 101
function M.upgrade(url, options)
  options = options or {}
  local peer = assert(M.connect(url, options.buffers))
  assert(peer:send(M.request(options.path, options.fields) .. (options.after or "")))
  local head = assert(peer:head())
  assert(head:find("^HTTP/1.1 101 "), head)
  return peer, head
end

-- --- server -----------------------------------------------------------------

---@class raw.listener
---@field url string "ws://127.0.0.1:PORT"
---@field port integer
local Listener = {}
Listener.__index = Listener

---@param backlog integer?
---@param buffers table?
---@return raw.listener
function M.listen(backlog, buffers)
  local socket = assert(testing.tcp_listen(backlog, buffers))
  local port = socket:port()
  local listener = setmetatable({ socket = socket, port = port, url = "ws://127.0.0.1:" .. port }, Listener)
  open[listener] = true
  return listener
end

---@param seconds number?
---@return raw.peer
function Listener:accept(seconds)
  local socket = assert(wait(function() return self.socket:accept() end, seconds, "connection to accept"))
  return new_peer(socket, "client")
end

Listener.close = Peer.close
Listener.__close = Peer.close

---The 101 that a client accepts.
---@param head string its request
---@param fields string? more lines, each with its CRLF
---@return string
function M.switch(head, fields)
  local key = assert(head:match("[Ss]ec%-[Ww]eb[Ss]ocket%-[Kk]ey: *(%S+)"), "no key")
  return ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    .. "Sec-WebSocket-Accept: %s\r\n%s\r\n"):format(testing.accept_key(key), fields or "")
end

---Reads the request and switches; what stands in `after` leaves with the 101.
---@param fields string?
---@param after string?
---@return string head the request
function Peer:answer(fields, after)
  local head = assert(self:head())
  assert(self:send(M.switch(head, fields) .. (after or "")))
  return head
end

-- --- both --------------------------------------------------------------------

local function as_server(limits, buffers)
  local arrived, over = cws.channel(1), cws.channel()
  local server, url = net.serve({
    ["/"] = function(req)
      arrived:send(assert(req:upgrade(limits)))
      over:receive()
    end,
  })
  local peer = M.upgrade(url, { buffers = buffers })
  return arrived:receive(), peer, function()
    over:close()
    server:stop(0)
  end
end

local function as_client(limits, buffers)
  local listener = M.listen(nil, buffers)
  local task = cws.spawn(cws.connect, listener.url, limits)
  local peer = listener:accept()
  peer:answer()
  local _, ws, message = task:join()
  return assert(ws, message), peer, function()
    ws:terminate()
    listener:close()
  end
end

---A WebSocket of cws in that role and a raw peer. In the role "server" a handler
---owns ws, and waits until fn has returned.
---@param role "server"|"client"
---@param fn fun(ws: cws.ws, peer: raw.peer)
---@param limits table? of ws
---@param buffers table? the kernel's, of the peer
function M.pair(role, fn, limits, buffers)
  local make = role == "server" and as_server or as_client
  local ws, peer, finish = make(limits, buffers)
  local ok, err = xpcall(fn, net.with_traceback, ws, peer)
  finish()
  peer:close()
  if not ok then error(err, 0) end
end

---Ends what a test that failed left open.
function M.close_all()
  for each in pairs(open) do
    each:close()
  end
end

return M
