-- Bad input, the client: the rows B083 to B118.
local bad = require("spec.support.bad_input")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")
local wire = require("spec.support.bad_wire")

local row, failed = bad.row, bad.failed

local switching = "HTTP/1.1 101 Switching Protocols\r\n"
local fields = {
  Upgrade = "Upgrade: websocket\r\n",
  Connection = "Connection: Upgrade\r\n",
  Accept = "Sec-WebSocket-Accept: {accept}\r\n",
}

-- A 101 with one of the three lines replaced, and more lines.
local function answer(replaced, more)
  local head = switching
  for _, name in ipairs({ "Upgrade", "Connection", "Accept" }) do
    head = head .. ((replaced or {})[name] or fields[name])
  end
  return head .. (more or "") .. "\r\n"
end

-- The client has closed its socket.
local function is_closed(peer)
  local bytes, how = peer:rest(2)
  assert(how == "eof" or how == "reset")
  return bytes
end

-- E(kind), nothing but the request was sent, the socket is closed.
local function refused(kind, pattern, status)
  return function(got, peer)
    local code = failed(kind, kind == "memory" and "connect" or "handshake", table.unpack(got, 1, got.n))
    if pattern then assert(got[2]:find(pattern), got[2]) end
    if status then assert.equal(status, code) end
    assert.equal("", is_closed(peer))
  end
end

-- It opens and is a WebSocket.
local function opens(got, peer)
  assert(got[1], got[2])
  local ws = got[1]
  peer:send_frame("text", "hello")
  assert.equal("hello", (ws:receive(2)))
  ws:send("back")
  assert.equal("back", peer:frame().data)
end

local function c(id, text, answers, check, options)
  if type(answers) ~= "table" then answers = { answers } end
  row(id, text, function(self) wire.client(self, answers, check, options) end)
end

describe("bad input, the answer of a server:", function()
  net.guard()

  row("B083", "another status than 101", function(self)
    for _, status in ipairs({ 200, 301, 307, 401, 403, 404, 426, 500, 503 }) do
      local body = ("body of %d "):format(status):rep(2)
      wire.client(self, { ("HTTP/1.1 %d Some Reason\r\nX-Test: yes\r\nLocation: ws://127.0.0.1:1/\r\n"
        .. "Content-Length: %d\r\n\r\n%s"):format(status, #body, body) }, function(got, peer)
        local code, response = failed("handshake", "handshake", table.unpack(got, 1, got.n))
        assert.equal(status, code)
        assert.same({ status, "Some Reason", "yes", body },
          { response.status, response.reason, response.headers["X-Test"], response.body })
        assert.equal("", is_closed(peer))
      end, { at_most = 8 })
    end
  end)

  c("B083", "a large body of a refusal", {
    "HTTP/1.1 404 Not Found\r\nContent-Length: 10000000\r\n\r\n" .. ("x"):rep(200000),
    "HTTP/1.1 404 Not Found\r\n\r\n" .. ("x"):rep(200000),
    "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n" .. ("x"):rep(200000),
    "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n" .. ("1\r\nx\r\n"):rep(2000),
  }, function(got, peer)
    local code, response = failed("handshake", "handshake", table.unpack(got, 1, got.n))
    assert.equal(404, code)
    assert.equal(("x"):rep(1024), response.body)
    is_closed(peer)
  end, { whole = true, stays = true })

  c("B083", "a body that never comes", "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nab", function(got)
    local code, response = failed("handshake", "handshake", table.unpack(got, 1, got.n))
    assert.same({ 403, "ab" }, { code, response.body })
  end, { whole = true, stays = true, client = { handshake_timeout = 0.2 } })

  c("B085", "100 and 103 before the 101", {
    "HTTP/1.1 100 Continue\r\n\r\n" .. answer(),
    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" .. answer(),
    ("HTTP/1.1 102 Processing\r\n\r\n"):rep(10) .. answer(),
  }, opens, { stays = true })
  c("B085", "more than 10 of them", ("HTTP/1.1 100 Continue\r\n\r\n"):rep(11) .. answer(),
    refused("handshake", "interim"))

  local lines = { "HTTP/1.1 1010 x", "HTTP/1.1 99 x", "HTTP/1.1 abc", "HTTP/1.0 101 x", "HTTP/2 101", "SSH-2.0-x", "",
    "HTTP/1.1 10 x", "HTTP/1.1  101 x", "HTTP/1.1 101x", "http/1.1 101 x", "HTTP/1.1 600 x", "HTTP/1.1 1 01",
      "HTTP/2.0 101 x",
    "HTTP/1.1 101 a\x01b", "HTTP/1.1\t101 x", " HTTP/1.1 101 x", "HTTP/1.1 -01 x", "\x15\x03\x03\0\2\2\x46" }
  for i, line in ipairs(lines) do lines[i] = line .. answer():gsub("^[^\r]*", "") end
  c("B086", "a malformed status line", lines, refused("handshake"), { at_most = 10 })

  local function without(name) return answer({ [name] = "" }) end
  c("B087", "Upgrade that is absent, another or twice", { without("Upgrade"), answer({ Upgrade = "Upgrade: h2c\r\n" }),
    answer({ Upgrade = "Upgrade: websocket\r\nUpgrade: h2c\r\n" }), answer({ Upgrade = "Upgrade: websocket, h2c\r\n" }),
    answer({ Upgrade = "Upgrade:\r\n" }) }, refused("handshake", "Upgrade", 101))
  c("B089", "Connection that is absent or another", { without("Connection"),
    answer({ Connection = "Connection: keep-alive\r\n" }), answer({ Connection = "Connection: upgraded\r\n" }) },
    refused("handshake", "Connection", 101))

  local function accept(make)
    return function(head)
      local value = raw.switch(head):match("Accept: (%S+)")
      return answer({ Accept = make(value) })
    end
  end
  local field = "Sec-WebSocket-Accept: "
  c("B090", "Accept that is absent or wrong", {
    without("Accept"), answer({ Accept = field .. "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" }), answer({ Accept = field
      .. "\r\n" }),
    accept(function(v) return field .. v:gsub("%a", function(x) return x:lower() == x and x:upper() or x:lower() end,
      1) .. "\r\n" end),
    accept(function(v) return field .. v .. "x\r\n" end), accept(function(v) return field .. v .. ", " .. v
      .. "\r\n" end),
    accept(function(v) return field .. v .. "\r\n" .. field .. v .. "\r\n" end), accept(function(v) return field
      .. v:sub(1, -2) .. "\r\n" end),
  }, refused("handshake", "Accept", 101), { at_most = 10 })
  c("B091", "Accept with white space around it",
    answer({ Accept = "Sec-WebSocket-Accept: \t {accept}\t \r\n" }), opens, { stays = true })

  local extensions = "Sec-WebSocket-Extensions: "
  c("B093", "an extension that was not offered", { answer(nil, extensions .. "permessage-deflate\r\n"),
    answer(nil, extensions .. "x-foo\r\n"), answer(nil, extensions .. "x-foo; a=b\r\n") },
    refused("handshake", "extension", 101))
  c("B093", "an extension twice", { answer(nil, extensions .. "permessage-deflate\r\n" .. extensions
    .. "permessage-deflate\r\n"),
    answer(nil, extensions .. "permessage-deflate, permessage-deflate\r\n"), answer(nil, extensions .. "x-foo\r\n") },
    refused("handshake", nil, 101), { client = { compression = true } })
  c("B161", "parameters that cannot be agreed on", (function()
    local all = {}
    for i, parameters in ipairs({ "; client_max_window_bits", "; unknown",
      "; server_no_context_takeover; server_no_context_takeover",
      "; server_max_window_bits=7", "; server_max_window_bits=16", "; client_max_window_bits=0",
      "; server_max_window_bits", "; client_no_context_takeover=1", "; client_max_window_bits=+9", ";" }) do
      all[i] = answer(nil, extensions .. "permessage-deflate" .. parameters .. "\r\n")
    end
    return all
  end)(), refused("handshake", nil, 101), { client = { compression = true }, at_most = 10 })
  c("B093", "a subprotocol that was not offered", { answer(nil, "Sec-WebSocket-Protocol: x\r\n"),
    answer(nil, "Sec-WebSocket-Protocol: a, b\r\n"), answer(nil, "Sec-WebSocket-Protocol: A\r\n"),
    answer(nil, "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n") },
    refused("handshake", "subprotocol", 101), { client = { protocols = { "a", "b" } } })

  c("B094", "a head without end", {
    answer(nil, ("X: y\r\n"):rep(98)), answer(nil, "X: " .. ("y"):rep(16384) .. "\r\n"), switching .. ("X-Long: "
      .. ("y"):rep(1000) .. "\r\n"):rep(100),
    "HTTP/1.1 101 " .. ("x"):rep(9000), switching .. ("y"):rep(100000),
  }, function(got, peer)
    failed("limit", "handshake", table.unpack(got, 1, got.n))
    is_closed(peer)
  end, { at_most = 16, stays = true })
  c("B094", "100 fields", answer(nil, ("X: y\r\n"):rep(97)), opens, { at_most = 16, stays = true })

  row("B095", "an answer that comes slowly", function()
    assert.equal(10, core.defaults.handshake_timeout)
    local listener <close> = raw.listen()
    local result, at = cws.channel(1), cws.now()
    cws.spawn(function() result:send(table.pack(cws.connect(listener.url, { handshake_timeout = 0.3 }))) end)
    local peer <close> = listener:accept()
    local bytes = raw.switch(assert(peer:head()))
    for i = 1, #bytes do
      if not peer:send(bytes:sub(i, i)) or #result > 0 then break end
      cws.sleep(0.02)
      if cws.now() - at > 1 * net.slow then break end
    end
    local got = result:receive(1)
    failed("timeout", "connect", table.unpack(got, 1, got.n))
    assert(cws.now() - at >= 0.29)
    is_closed(peer)
  end)

  c("B097", "the stream ends before or inside the head", { "", "HTTP", answer():sub(1, -2), switching,
    answer():sub(1, -20) },
    refused("handshake", "EOF"), { at_most = 10 })

  row("B097", "a reset before or inside the head", function()
    for _, bytes in ipairs({ "", "HTTP", switching }) do
      local listener <close> = raw.listen()
      local result = cws.channel(1)
      cws.spawn(function() result:send(table.pack(cws.connect(listener.url))) end)
      local peer = listener:accept()
      peer:head()
      peer:send(bytes)
      cws.sleep(0.01)
      peer:reset()
      local got = result:receive(2)
      failed("handshake", "handshake", table.unpack(got, 1, got.n))
      assert(got[2]:find("reset"), got[2])
    end
  end)

  c("B098", "lines that are not strict HTTP", {
    (answer():gsub("\r\n", "\n")), answer(nil, "X: y\r\n folded\r\n"), answer(nil, "X: a\0b\r\n"), answer(nil,
      "X : y\r\n"),
    answer(nil, " X: y\r\n"), answer(nil, "X\r\n"), answer(nil, ": y\r\n"), answer(nil, "X: a\rb\r\n"), answer(nil,
      "X: y\n"),
  }, refused("handshake"), { at_most = 30 })

  c("B099", "frames in the segment of the 101", answer() .. session.frame("client", "text", "one")
    .. session.frame("client", "binary", "two") .. session.frame("client", "text", "three"), function(got)
    local ws = assert(got[1], got[2])
    assert.same({ "one", "text" }, { ws:receive(2) })
    assert.same({ "two", "binary" }, { ws:receive(2) })
    assert.same({ "three", "text" }, { ws:receive(2) })
  end, { stays = true })

  row("B101", "a masked frame", function(self)
    wire.frames(self, function(role)
      return { session.frame(role, "text", "x", { masked = true }), session.frame(role, "ping", "", { masked = true }),
        session.frame(role, "close", "\x03\xe8", { masked = true }) }
    end, { "fail 1002", "> close 1002" }, { roles = { "client" } })
  end)

  row("B102", "a 64-bit length that is not there", function(self)
    local function header(len) return "\x82\x7f" .. string.pack(">I8", len) end
    wire.frames(self, function() return { header((1 << 32) + 5), header((1 << 53) + 1), header((1 << 63) - 1) } end,
      { "fail 1009", "> close 1009" }, { roles = { "client" }})
    wire.frames(self, function() return header(1 << 63) end, { "fail 1002", "> close 1002" }, { roles = { "client" } })
  end)

  row("B103", "empty frames, empty fragments and pings that nobody reads the answers of", function(self)
    local listener <close> = raw.listen(nil, { receive = 4096 })
    local ready = cws.channel(1)
    local task = cws.spawn(function()
      local ws = assert(cws.connect(listener.url))
      self:watch(ws)
      ready:send(ws)
      local count = 0
      for message in ws:each() do
        assert(message == "")
        count = count + 1
      end
      ready:send(count)
    end)
    local peer <close> = listener:accept()
    peer:answer()
    local ws = ready:receive()
    local tiny = session.frame("client", "text", ""):rep(500)
      .. session.frame("client", "text", "", { fin = false }) .. session.frame("client", 0, "",
        { fin = false }):rep(500)
      .. session.frame("client", 0, "")
    local pings = session.frame("client", "ping", ("p"):rep(125)):rep(1000)
    for _ = 1, 20 do
      assert(peer:send(tiny))
      assert(peer:send(pings))
      cws.sleep(0)
    end
    assert.equal(20 * 501, bad.wait(2, function()
      local stats = ws:stats()
      return stats.messages_received == 20 * 501 and stats.messages_received
    end))
    assert(ws:stats().queued < 1024 * 1024, ws:stats().queued)
    self:idle(0.2)
    ws:terminate()
    assert.equal(20 * 501, ready:receive())
    task:join()
  end)
end)

describe("bad input, what a program asks of a client:", function()
  net.guard()

  local function raises(...) bad.raises(...) end

  row("B105", "control bytes, spaces and others in a URL", function()
    for _, url in ipairs({ "ws://h/a\r\nX: y", "ws://h/a b", "ws://h/\0", "ws://h/\x80", "ws://h /", "ws://h/\x7f",
      "ws://\n", "ws://h\xc3\xa4/",
      "ws://h/#", "ws://h/?a\tb" }) do
      raises("^bad argument #1 to 'connect' %([^%c]*URL expected", cws.connect, url)
    end
  end)
  row("B106", "what is no WebSocket URL", function()
    for _, url in ipairs({ "http://h/", "https://h/", "wss:/h", "ws:h", "", "//h", "h", "ws//h", "wsx://h", "ws",
      "://h", "ftp://h" }) do
      raises("^bad argument #1 to 'connect' %([^%c]*URL expected", cws.connect, url)
    end
    for _, url in ipairs({ 1, {}, true, print }) do
      raises("^bad argument #1 to 'connect' %(string expected, got ", cws.connect, url)
    end
  end)
  row("B107", "a host or port that is none", function()
    for _, url in ipairs({ "ws://", "ws://:80/", "ws://[::1/", "ws://h:0", "ws://h:65536", "ws://h:-1", "ws://h:8o",
      "ws://[::1]x/", "ws://h:1:2",
      "ws://[]/", "ws://[g::]/", "ws:///", "ws://@/", "ws://h%zz/", "ws://h:99999999999999999999", "ws://h: 1" }) do
      raises("^bad argument #1 to 'connect' %([^%c]*URL expected", cws.connect, url)
    end
  end)

  row("B109", "an IPv6 address", function()
    local server = cws.listen("[::1]:0")
    if not server then return end -- a machine without IPv6
    local host, path
    server:handle("/", function(req)
      host, path = req.headers.host, req.path
      req:upgrade()
    end)
    local port = server:address():match("%d+$")
    local ws = assert(cws.connect("ws://[::1]:" .. port))
    assert.same({ "[::1]:" .. port, "/" }, { host, path })
    ws:close()
    server:stop(0)
  end)

  row("B110", "fields that cannot be set", function()
    local function try(name, value)
      raises("^bad option 'headers' to 'connect' %([^%c]+%)$", cws.connect, "ws://127.0.0.1:1/",
        { headers = { [name] = value } })
    end
    for _, name in ipairs({ "", "a b", "a:", "a\r\nb", "\0", "\x80", "a(", 1 }) do try(name, "x") end
    for _, value in ipairs({ "a\r\nX: y", "a\n", "\r", "\0", "\x7f", 12, true, {}, { {} } }) do
      if type(value) ~= "table" or #value > 0 then try("X-Field", value) end
    end
    for _, name in ipairs({ "Host", "upgrade", "Connection", "SEC-WEBSOCKET-KEY", "Sec-WebSocket-Version",
      "Sec-WebSocket-Protocol",
      "Sec-WebSocket-Extensions", "Content-Length", "Transfer-Encoding" }) do try(name, "x") end
  end)
  row("B111", "subprotocols that cannot be offered", function()
    for _, list in ipairs({ { "a", "a" }, { "a b" }, { "" }, { 1 }, { "a\r\n" }, { "a", "b", "a" }, { {} }, "a", 1 }) do
      raises("^bad option 'protocols' to 'connect' %([^%c]+%)$", cws.connect, "ws://127.0.0.1:1/", { protocols = list })
    end
  end)

  -- Frames of a client, quickly: opcode and key of each.
  local function each_frame(bytes, fn)
    local at = 1
    while at <= #bytes do
      local first, second, key = string.unpack(">BBI4", bytes, at)
      assert(second & 0x80 ~= 0 and second & 0x7f < 126, "not masked")
      fn(first & 15, key)
      at = at + 6 + (second & 0x7f)
    end
  end

  row("B113", "100000 frames, and their masking keys", function(self)
    local listener <close> = raw.listen()
    local want, batch = 100000, {}
    local task = cws.spawn(function()
      local ws = assert(cws.connect(listener.url))
      self:watch(ws)
      for i = 1, want // 10 do
        for _ = 1, 3 do ws:send("t") end
        for _ = 1, 3 do ws:send("b", "binary") end
        ws:ping("p")
        ws:pong("p")
        local writer = ws:writer()
        writer:write(("w"):rep(20))
        writer:close()
        ws:send("")
        if i % 100 == 0 then cws.sleep(0) end
      end
      ws:close(1000)
    end)
    local peer <close> = listener:accept()
    peer:answer()
    while peer:more(5) do
      if peer.buffer:sub(-8, -7) == "\x88\x82" then break end
      if #peer.buffer > 65536 then batch[#batch + 1], peer.buffer = peer.buffer:sub(1, -9), peer.buffer:sub(-8) end
    end
    batch[#batch + 1] = peer.buffer
    peer:send_close(1000)
    peer:shutdown()
    local seen, count, same, last, bits, opcodes = {}, 0, 0, nil, {}, {}
    for bit = 0, 31 do bits[bit] = 0 end
    each_frame(table.concat(batch), function(opcode, key)
      assert(key ~= last, "a key twice in a row")
      last, count = key, count + 1
      if count % 2000 == 0 then cws.sleep(0) end -- the canary is not ours to starve
      opcodes[opcode] = true
      if seen[key] then same = same + 1 end
      seen[key] = true
      for bit = 0, 31 do bits[bit] = bits[bit] + (key >> bit & 1) end
    end)
    assert.equal(want + 1, count)
    assert.same({ [1] = true, [2] = true, [8] = true, [9] = true, [10] = true }, opcodes)
    assert(same <= count / 10000, same .. " keys came again")
    for bit = 0, 31 do
      local part = bits[bit] / count
      assert(part > 0.49 and part < 0.51, ("bit %d is set in %.3f"):format(bit, part))
    end
    task:join()
  end, { seconds = 60, memory = false })

  row("B114", "no randomness", function(self)
    local url = wire.serve(self, {}) .. "/ws"
    self:quietly(function()
      core.fail("random", 1)
      failed("internal", "connect", cws.connect(url))
      local ws = assert(cws.connect(url))
      self:watch(ws)
      core.fail("random", 3)
      failed("internal", "send", ws:send("x"))
      failed("internal", "ping", ws:ping("x"))
      failed("closed", "websocket", ws:close()) -- a close frame needs a key, too
      core.fail("random", 0)
      assert.equal(1006, ws:close_code())
    end)
  end)

  row("B115", "a name that is not known", function()
    failed("dns", "connect", cws.connect("ws://name.invalid/", { connect_timeout = 5 }))
  end)

  row("B115", "a name with two addresses, the first refusing", function(self)
    local url = wire.serve(self, {}) -- of 127.0.0.1; localhost is ::1 as well
    local ws = assert(cws.connect("ws://localhost:" .. url:match("%d+$") .. "/ws"))
    ws:send("x")
    assert.equal("x", (ws:receive(2)))
    ws:close()
  end)

  row("B117", "a closed port, and one that does not answer", function()
    local listener = raw.listen(0)
    local port = listener.port
    local waiting = {}
    for i = 1, 4 do waiting[i] = require("cws.testing").tcp_connect(port) end -- its queue is full
    assert.equal(10, core.defaults.connect_timeout)
    local at = cws.now()
    failed("timeout", "connect", cws.connect(listener.url, { connect_timeout = 0.3 }))
    local took = cws.now() - at
    assert(took >= 0.29 and took < 0.3 + 0.5 * net.slow, took)
    for _, socket in ipairs(waiting) do socket:close() end
    listener:close()
    at = cws.now()
    failed("connect", "connect", cws.connect("ws://127.0.0.1:" .. port))
    assert(cws.now() - at < 0.1 * net.slow)
  end)

  row("B118", "a task that is cancelled while it resolves, connects or waits for the answer", function()
    local full, silent = raw.listen(0), raw.listen()
    local waiting = {}
    for i = 1, 4 do waiting[i] = require("cws.testing").tcp_connect(full.port) end
    for _, url in ipairs({ "ws://name.invalid/", full.url, silent.url }) do
      for _, after in ipairs({ -1, 0, 0.005, 0.05 }) do
        local got
        local task = cws.spawn(function() got = table.pack(cws.connect(url)) end)
        if after >= 0 then cws.sleep(after) end
        local at = cws.now()
        task:cancel()
        assert(task:join(2))
        assert(cws.now() - at < 0.1 * net.slow)
        assert(got[1] == nil)
        if got[3] ~= "dns" then failed("closed", "connect", table.unpack(got, 1, got.n)) end
      end
    end
    for _, socket in ipairs(waiting) do socket:close() end
    full:close()
    silent:close()
  end)
end)
