-- Bad input from the program: the rows B214 to B243 that need no other process,
-- without those of options and addresses.
local bad = require("spec.support.bad_input")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local row, failed, raises = bad.row, bad.failed, bad.raises

local function collect()
  collectgarbage()
  collectgarbage()
end

-- A server whose handler is fn(ws, req); its URL. Stopped with the row.
local function serve(self, fn, options)
  local server, url = net.serve({
    ["/"] = function(req)
      local ws = assert(req:upgrade())
      self:watch(ws)
      fn(ws, req)
    end,
  }, options)
  self:finally(function() server:stop(0) end)
  return url .. "/", server
end

local function echo(ws)
  for message, type in ws:each() do
    ws:send(message, type)
  end
end

-- A connection of a client to a handler that echoes, or to fn.
local function connect(self, fn, options)
  local ws = assert(cws.connect((serve(self, fn or echo)), options))
  self:watch(ws)
  return ws
end

describe("bad input, calls at the wrong time:", function()
  net.guard()

  row("B214", "calls after the end", function(self)
    local ws = connect(self)
    assert.is_true(ws:close(1000, "bye"))
    for _ = 1, 2 do
      for _, call in ipairs({
        function() return ws:send("x") end, function() return ws:send("x", "binary", 0) end,
        function() return ws:ping() end, function() return ws:pong("x") end, function() return ws:receive() end,
        function() return ws:receive(0) end, function() return ws:close() end, function() return ws:close(1001, "no",
          0) end,
        function() return ws:reader() end, function() return ws:writer() end, function() return ws:flush() end,
        function() return ws:send_json({}) end, function() return ws:receive_json() end,
        function() return ws:send(cws.prepare("x")) end,
      }) do
        local code = failed("closed", "websocket", call())
        assert.equal(1000, code)
      end
      assert.equal(0, cws.broadcast({ ws }, "x"))
      assert.is_true(ws:terminate())
      collect()
    end
  end)

  row("B214", "calls after the end say nothing on the wire", function(self)
    local over = cws.channel(1)
    local url = serve(self, function(ws)
      assert.is_nil(ws:receive())
      ws:send("late")
      ws:ping("late")
      ws:close(1001)
      over:send(true)
    end)
    local peer = raw.upgrade(url)
    peer:send_close(1000)
    assert(over:receive(2))
    assert.equal(1000, peer:frame().code)
    assert.same({ "", "eof" }, { peer:rest(2) })
    peer:close()
  end)

  row("B215", "close again, from everywhere", function(self)
    local closes = 0
    local url = serve(self, function(ws)
      ws:on_close(function(code)
        closes = closes + 1
        assert.equal(1000, code)
        failed("closed", "websocket", ws:close(1001))
      end)
      self.opened = self.opened - 1 -- this on_close took the place of the row's
      local one = cws.spawn(function() return ws:close(1000) end)
      local two = cws.spawn(function() return ws:close(1002) end)
      assert.is_true(ws:close(1000))
      assert.same({ true, true }, { one:join() })
      two:join()
      failed("closed", "websocket", ws:close())
    end)
    local peer = raw.upgrade(url)
    assert.equal(1000, peer:frame().code)
    peer:send_close(1000)
    assert.same({ "", "eof" }, { peer:rest(2) }) -- one close frame
    peer:close()
    assert.equal(1, bad.wait(1, function() return closes > 0 and closes end))
  end)

  row("B217", "values of the wrong type", function(self)
    local url = serve(self, function(ws) ws:receive() end)
    local ws = assert(cws.connect(url))
    self:watch(ws)
    local before = ws:stats().bytes_sent
    local function typed(name, index, expected, fn)
      raises(("^bad argument #%d to '%s' %%(%s"):format(index, name, expected), fn)
    end
    for _, value in ipairs({ 12, 1.5, true, {}, print, io.stdout, coroutine.create(print) }) do
      typed("send", 1, "string expected, got ", function() ws:send(value) end)
      typed("ping", 1, "string expected, got ", function() ws:ping(value) end)
      typed("pong", 1, "string expected, got ", function() ws:pong(value) end)
      typed("close", 2, "string expected, got ", function() ws:close(1000, value) end)
      typed("receive", 1, type(value) == "number" and "" or "number expected, got ", function()
        ws:receive(type(value) == "number" and -value or value)
      end)
      if type(value) ~= "table" then
        typed("send", 2, "\"text\", \"binary\", 1 or 2 expected", function() ws:send("x", value) end)
      end
    end
    typed("send", 1, "string expected, got n", function() ws:send(nil) end)
    typed("send", 1, "string expected, got n", function() ws:send() end)
    typed("ping", 1, "string expected, got number", function() ws:ping(200) end)
    for _, code in ipairs({ 0, 999, 1004, 1005.5, 1006, 1015, 1016, 2999, 5000, -1, 1e9, math.maxinteger, "x", {},
      true }) do
      typed("close", 1, "", function() ws:close(code) end)
    end
    for _, seconds in ipairs({ -1, 0 / 0, "x", 1e10, {}, true, -math.huge }) do
      typed("receive", 1, "", function() ws:receive(seconds) end)
      typed("close", 3, "", function() ws:close(1000, "", seconds) end)
      typed("send", 3, "", function() ws:send("x", "text", seconds) end)
    end
    for _, name in ipairs({ "send", "receive", "close", "ping", "each", "reader", "writer", "stats", "on_close",
      "terminate" }) do
      for _, value in ipairs({ 1, {}, "ws", io.stdout, true }) do
        raises("cws.ws expected, got ", ws[name], value)
      end
      raises("cws.ws expected, got n", ws[name])
    end
    assert.equal(before, ws:stats().bytes_sent)
    assert.is_true(ws:is_open())
    ws:terminate()
  end)

  row("B218", "text that is not UTF-8", function(self)
    local ws = connect(self)
    local before = ws:stats().bytes_sent
    for _, text in ipairs({ "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", ("a"):rep(100) .. "\xce",
      ("\u{E9}"):rep(50000) .. "\xc3" }) do
      failed("usage", "send", ws:send(text))
      failed("usage", "prepare", cws.prepare(text))
      failed("usage", "broadcast", cws.broadcast({ ws }, text))
    end
    assert.equal(before, ws:stats().bytes_sent)
    ws:send("fine")
    assert.equal("fine", (ws:receive(2)))
    ws:close()
  end)

  row("B219", "control frames with too much", function(self)
    local ws = connect(self)
    local before = ws:stats().bytes_sent
    failed("usage", "ping", ws:ping(("p"):rep(126)))
    failed("usage", "pong", ws:pong(("p"):rep(1 << 20)))
    failed("usage", "close", ws:close(1000, ("r"):rep(124)))
    failed("usage", "close", ws:close(1000, "\xff"))
    assert.equal(before, ws:stats().bytes_sent)
    assert.is_true(ws:is_open())
    assert.is_true(ws:ping(("p"):rep(125)))
    assert.is_true(ws:close(1000, ("r"):rep(123)))
  end)

  row("B221", "a broadcast that no queue can hold", function(self)
    local arrived = cws.channel(1)
    local url = serve(self, function(ws)
      arrived:send(ws)
      echo(ws)
    end)
    local ws = assert(cws.connect(url))
    self:watch(ws)
    local peer = arrived:receive()
    local big = ("x"):rep((4 << 20) + 1)
    failed("limit", "broadcast", cws.broadcast({ peer }, big))
    failed("limit", "broadcast", cws.broadcast({ [peer] = true }, big))
    collect()
    assert.equal(0, peer:stats().queued)
    assert.equal(1, cws.broadcast({ peer }, "small"))
    assert.equal("small", (ws:receive(2)))
    raises("list of connections", cws.broadcast, { peer, "x" }, "y")
    raises("list of connections", cws.broadcast, { 1 }, "y")
    raises("", cws.broadcast, peer, "y")
    raises("", cws.broadcast, { peer }, 12)
    ws:close()
  end)

  row("B227", "two coroutines receive on one connection", function(self)
    local ws = connect(self)
    local task = cws.spawn(function() return ws:receive() end)
    cws.sleep(0)
    failed("busy", "receive", ws:receive())
    failed("busy", "receive", ws:receive(0))
    failed("busy", "reader", ws:reader())
    ws:send("x")
    assert.same({ true, "x", "text" }, { task:join(2) })
    ws:close()
  end)
end)

describe("bad input, errors in the program's functions:", function()
  net.guard()

  local hostile = setmetatable({}, { __tostring = function() error("hostile") end })
  local liar = setmetatable({}, { __tostring = function() return 12 end, __name = "\27[31mname\n" })
  for name, value in pairs({
    ["a string"] = "oops\n\27[31m\0", ["a table"] = {}, ["what cannot be shown"] = hostile,
      ["what lies about itself"] = liar,
    ["a number"] = 42, ["a long string"] = ("x"):rep(1 << 20), ["a function"] = print,
  }) do
    row("B222", "a handler raises " .. name, function(self)
      local url = serve(self, function() error(value) end)
      local peer = raw.upgrade(url)
      assert.equal(1011, peer:frame().code)
      assert.same({ "", "eof" }, { peer:rest(2) })
      peer:close()
      assert.equal(1, #self.lines)
      assert(self.lines[1]:find("stack traceback", 1, true) or #self.lines[1] > 500, self.lines[1])
    end)
  end
  row("B222", "a handler raises nothing", function(self)
    local url = serve(self, function() error() end)
    local peer = raw.upgrade(url)
    assert.equal(1011, peer:frame().code)
    peer:rest(2)
    peer:close()
    assert(self.lines[1]:find("nil", 1, true), self.lines[1])
  end)
  row("B222", "a handler raises before it answers", function(self)
    local server, url = net.serve({ ["/"] = function() error(hostile) end })
    local peer = assert(raw.connect(url))
    peer:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert(peer:rest(2):find("^HTTP/1.1 500 "))
    peer:close()
    server:stop(0)
    assert.equal(1, #self.lines)
  end)

  row("B223", "callbacks raise", function(self)
    local calls = {}
    local url = serve(self, function(ws)
      self.opened = self.opened - 1
      for _, name in ipairs({ "on_ping", "on_pong", "on_close" }) do
        ws[name](ws, function()
          calls[#calls + 1] = name
          error(name == "on_close" and hostile or name)
        end)
      end
      echo(ws)
    end)
    local peer = raw.upgrade(url)
    peer:send_frame("ping", "x")
    assert.equal("x", peer:frame().data)
    assert.equal(1011, peer:frame().code)
    peer:send_close(1011)
    peer:rest(2)
    peer:close()
    assert(bad.wait(1, function() return calls[2] end))
    assert.same({ "on_ping", "on_close" }, calls)
    assert.equal(2, #self.lines)
  end, { log = 2 })

  row("B225", "a wait where nobody could go on", function(self)
    local message
    local url = serve(self, function(ws)
      table.sort({ 3, 2, 1 }, function() message = select(2, pcall(ws.receive, ws)) return false end)
      local co = coroutine.wrap(function() return pcall(ws.receive, ws) end)
      assert.is_false((co()))
      assert.is_false(pcall(string.gsub, "x", "x", function() ws:receive() end))
      local meta = setmetatable({}, { __gc = function() pcall(ws.receive, ws) end })
      meta = nil -- luacheck: ignore
      collect()
      coroutine.yield("to cws") -- a bare yield works
      ws:send("here")
      for _, text in (function() return ws:each() end)() do assert(text) end
    end)
    local ws = assert(cws.connect(url))
    assert.equal("here", (ws:receive(2)))
    assert(message:find("cannot wait here: receive", 1, true), message)
    ws:close()
  end)
end)

describe("bad input, what becomes of objects:", function()
  net.guard()

  row("B226", "who waits in receive is closed, fails or is collected, then data arrives", function(self)
    local ready = cws.channel(1)
    local url = serve(self, function(ws)
      ready:send(ws)
      for message in ws:each() do
        if message == "go" then for i = 1, 10 do ws:send(tostring(i)) end end
      end
    end)
    for _, how in ipairs({ "cancel", "close", "collect", "error" }) do
      local ws = assert(cws.connect(url))
      self:watch(ws)
      ready:receive()
      local co
      local task = cws.spawn(function()
        co = coroutine.running()
        if how == "error" then debug.sethook(co, function() error("hook") end, "", 1000000) end
        return ws:receive()
      end)
      cws.sleep(0)
      if how == "cancel" or how == "error" then
        task:cancel()
        task:join()
      elseif how == "close" then
        assert(coroutine.close(co))
      end
      co, task = nil, nil -- luacheck: ignore
      collect()
      ws:send("go")
      cws.sleep(0.01)
      if how == "cancel" or how == "error" then assert.equal("1", (ws:receive(2))) end
      ws:terminate()
      ws = nil -- luacheck: ignore
      collect()
      cws.sleep(0)
    end
  end, { log = 4 })

  row("B229", "a connection is dropped while it is open", function(self)
    local seen = cws.channel(4)
    local url = serve(self, function(ws)
      for message in ws:each() do seen:send(message) end
      seen:send(ws:close_code())
    end)
    local ws = assert(cws.connect(url))
    ws:send("first")
    assert.equal("first", seen:receive(2))
    ws = nil -- luacheck: ignore
    collect()
    assert.equal(1001, seen:receive(2))
  end)

  row("B229", "a connection is dropped while its queue holds data", function(self)
    local url = serve(self, function(ws)
      local big = ("d"):rep(1 << 20)
      for _ = 1, 8 do assert(ws:send(big, "binary")) end -- the handler ends: 1000
    end, { close_timeout = 0.4 })
    local peer = raw.upgrade(url, { buffers = { receive = 65536 } })
    cws.sleep(0.05)
    collect()
    local bytes, how = peer:rest(5)
    assert.equal("eof", how)
    assert.equal(8 * ((1 << 20) + 10) + 4, #bytes)
    assert.equal("\x88\x02\x03\xe8", bytes:sub(-4))
    peer:close()
  end)

  row("B229", "a client is dropped while its queue holds data", function(self)
    local listener <close> = raw.listen(nil, { receive = 65536 })
    local task = cws.spawn(function()
      local ws = assert(cws.connect(listener.url))
      for _ = 1, 4 do assert(ws:send(("d"):rep(1 << 20), "binary")) end
    end)
    local peer <close> = listener:accept()
    peer:answer()
    local size = 4 * ((1 << 20) + 14) + 8 -- and a close frame
    repeat
      collect()
      assert(peer:more(5))
    until #peer.buffer >= size
    assert.equal("\x88\x82", peer.buffer:sub(-8, -7))
    peer:shutdown()
    task:join()
    self.inputs = 1
  end)

  row("B230", "finalizers called by hand, twice, and the objects used afterwards", function(self)
    assert.equal("locked", getmetatable(connect(self)))
    local kept, url
    local function finalize(object)
      local meta = debug.getmetatable(object)
      for _, name in ipairs({ "__gc", "__close", "__gc", "__close" }) do
        if meta[name] then pcall(meta[name], object) end
      end
      return object
    end
    url = serve(self, function(ws, req)
      kept = { ws, req }
      echo(ws)
    end)
    local ws = assert(cws.connect(url))
    ws:send("x")
    ws:receive()
    local reader_end = connect(self)
    local writer = reader_end:writer()
    local objects = { ws, kept[1], kept[2], writer, cws.prepare("x"), cws.spawn(function() cws.sleep(0.01) end),
      cws.ticker(1),
      core.waiter(), core.timer(10, nil, print), cws.signal("USR2") }
    for _, object in ipairs(objects) do
      if type(object) == "userdata" then finalize(object) end
    end
    for _, object in ipairs({ ws, kept[1] }) do
      for name, method in pairs(core.ws) do
        if name ~= "terminate" and name ~= "stats" then pcall(method, object, "x") end
      end
      assert.is_nil((object:send("x")))
      assert.equal("closed", (select(3, object:receive())))
      assert.is_number(object:stats().queued)
      assert(tostring(object))
    end
    pcall(writer.write, writer, "x")
    pcall(writer.close, writer)
    pcall(kept[2].header, kept[2], "x")
    raises("", ws.send, ws, finalize(objects[5]), "text", -1)
    assert(pcall(cws.broadcast, { ws, kept[1] }, "x"))
    objects[7]:stop()
    objects[10]:stop()
    objects[9]:stop()
    kept, objects, writer = nil, nil, nil -- luacheck: ignore
    reader_end:terminate()
    collect()
  end)

  row("B230", "a server finalized by hand", function()
    local server = net.serve({})
    debug.getmetatable(server.core).__gc(server.core)
    debug.getmetatable(server.core).__gc(server.core)
    assert(tostring(server))
    assert.equal(0, server.core:count())
    assert(server:stop(0))
  end)

  row("B233", "a handler closes, drops all it has, collects and returns", function(self)
    for _, last in ipairs({ "close", "terminate", "nothing", "error" }) do
      local url = serve(self, function(ws)
        ws:receive()
        if last == "close" then ws:close(1000, "", 0) elseif last == "terminate" then ws:terminate() end
        ws = nil -- luacheck: ignore
        collect()
        if last == "error" then error("last") end
      end, { close_timeout = 0.1 })
      local peer = raw.upgrade(url)
      peer:send(session.frame("server", "text", "x"):rep(50) .. session.frame("server", "ping", "y"))
      peer:rest(2)
      peer:close()
      collect()
    end
  end)

  row("B234", "one handler closes another whose message is pending", function(self)
    local open, got = {}, {}
    local url = serve(self, function(ws, req)
      open[req.query] = ws
      for message in ws:each() do
        got[#got + 1] = req.query .. message
        local other = open[req.query == "a" and "b" or "a"]
        other:terminate()
        assert(not other:is_open())
      end
    end)
    local a, b = raw.upgrade(url, { path = "/?a" }), raw.upgrade(url, { path = "/?b" })
    assert(bad.wait(1, function() return open.a and open.b end))
    a:send_frame("text", "1") -- both are there before the loop turns
    b:send_frame("text", "1")
    assert(bad.wait(1, function() return got[1] end))
    cws.sleep(0.01)
    assert.equal(1, #got)
    a:close()
    b:close()
  end)

  row("B235", "connections come and go while a broadcast's list is walked", function(self)
    local all, count = {}, 0
    local url = serve(self, function(ws)
      all[ws] = true
      count = count + 1
      ws:on_close(function()
        all[ws] = nil
        cws.broadcast(all, "gone")
      end)
      self.opened = self.opened - 1
      echo(ws)
    end)
    local clients = {}
    for i = 1, 20 do clients[i] = assert(cws.connect(url)) end
    assert(bad.wait(1, function() return count == 20 end))
    for i = 1, 10 do clients[i]:terminate() end
    assert.equal(20, cws.broadcast(all, "once"))
    for i = 11, 20 do assert.equal("once", (clients[i]:receive(2))) end
    local gone = 0
    while gone < 10 and clients[20]:receive(1) == "gone" do gone = gone + 1 end
    assert.equal(10, gone)
    for i = 11, 20 do clients[i]:terminate() end
  end)

  row("B243", "what was sent is dropped and collected before the peer reads", function(self)
    local parts = {}
    local url = serve(self, function(ws)
      for i = 1, 40 do
        local text = (string.char(96 + i % 26) .. i):rep(50000)
        parts[i] = #text
        ws:send(text, i % 2 == 0 and "binary" or "text")
        text = nil -- luacheck: ignore
        collect()
      end
    end, { close_timeout = 0.1 })
    local peer = raw.upgrade(url, { buffers = { receive = 16384 } })
    cws.sleep(0.05)
    collect()
    for i = 1, 40 do
      local frame = assert(peer:frame(5))
      assert.equal((string.char(96 + i % 26) .. i):rep(50000), frame.data)
      if i % 4 == 0 then collect() end
    end
    peer:rest(2)
    peer:close()
  end)
end)
