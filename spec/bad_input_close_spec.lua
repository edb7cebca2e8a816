-- Bad input, the end of a connection: the rows B177 to B193, for both roles.
-- B194 is in reconnect_spec.lua.
local bad = require("spec.support.bad_input")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")
local wire = require("spec.support.bad_wire")

local frame, row = session.frame, bad.row

local function W(code)
  return { "fail " .. code, "> close " .. code }
end

local function f(id, text, make, expected, options)
  row(id, text, function(self) wire.frames(self, make, expected, options) end)
end

local function each(list, fn)
  local all = {}
  for i, value in ipairs(list) do all[i] = fn(value) end
  return all
end

describe("bad input, close frames:", function()
  net.guard()

  f("B177", "no code", function(role) return session.close(role) end, { "close 1005", "> close" })
  f("B178", "a body of one byte", function(role) return frame(role, "close", "\x03") end, W(1002))

  row("B179", "codes that may be sent are sent back", function(self)
    for _, code in ipairs({ 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
      4999 }) do
      wire.frames(self, function(role) return session.close(role, code, "why") end,
        { ("close %d why"):format(code), "> close " .. code }, { at_most = 2 })
    end
  end)
  f("B179", "codes that may not", function(role)
    return each({ 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 }, function(code)
      return session.close(role, code)
    end)
  end, W(1002), { at_most = 2 })

  local longest = ("\u{E9}"):rep(61) .. "x" -- 123 bytes
  f("B181", "a reason of 123 bytes", function(role) return session.close(role, 1000, longest) end,
    { "close 1000 " .. longest, "> close 1000" })
  f("B181", "a reason of 124 bytes", function(role) return session.close(role, 1000, longest .. "y") end, W(1002))
  f("B182", "a reason that is not UTF-8", function(role)
    return each({ "\xff", "a\xce", "\xed\xa0\x80", longest:sub(1, 121) .. "\xc3" }, function(reason)
      return session.close(role, 1000, reason)
    end)
  end, W(1007))
  f("B183", "inside a fragmented message", function(role)
    return frame(role, "text", "part", { fin = false }) .. session.close(role, 1000)
  end, { "close 1000", "> close 1000" })

  local function fin(peer) peer:shutdown() end
  f("B189", "the stream ends inside a frame", function(role)
    return { "\x81", frame(role, "text", "whole", { len = 100 }), frame(role, "binary", "", { len = 1 }),
      frame(role, "ping", "a", { len = 2 }), frame(role, "close", "\x03", { len = 2 }) }
  end, { "fail 1006" }, { skip_layer1 = true, open_end = true, finish = fin })
  f("B189", "the stream ends inside a message, or between two", function(role)
    return { frame(role, "text", "whole", { fin = false }), frame(role, "text", "", { fin = false }), "" }
  end, { "fail 1006" }, { skip_layer1 = true, open_end = true, finish = fin })
  f("B189", "what came whole before the end is delivered", function(role)
    return frame(role, "text", "whole") .. frame(role, "text", "part", { len = 9 })
  end, { "text whole", "fail 1006" }, { skip_layer1 = true, open_end = true, finish = fin })
end)

describe("bad input, the end and its time:", function()
  net.guard()

  local quick = { close_timeout = 0.3 }

  -- A server whose handler runs fn(ws) and a raw peer; a client, and a raw
  -- server. fn's task is joined at the end.
  local function both(self, options, buffers, fn, play)
    self.inputs = 0
    local done = cws.channel(1)
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = assert(req:upgrade())
        self:watch(ws)
        fn(ws, "server")
        done:send(true)
      end,
    }, options)
    self:finally(function() server:stop(0) end)
    local peer = raw.upgrade(url, { buffers = buffers })
    play(peer, "server", done)
    peer:close()
    server:stop(0)

    local listener = raw.listen(nil, buffers)
    local task = cws.spawn(function()
      local ws = assert(cws.connect(listener.url, options))
      self:watch(ws)
      fn(ws, "client")
      done:send(true)
    end)
    peer = listener:accept()
    peer:answer()
    play(peer, "client", done)
    peer:close()
    listener:close()
    task:join()
  end

  local function within(from, to, at, what)
    local took = cws.now() - at
    assert(took >= from - 0.01 and took <= to + 0.5 * net.slow, ("%s after %.3f s"):format(what, took))
  end

  row("B185", "the peer says close and never closes the socket", function(self)
    local url, server = wire.serve(self, {})
    local peer = raw.upgrade(url, { path = "/ws" })
    local at = cws.now()
    peer:send_close(1000)
    assert.equal(1000, peer:frame().code)
    assert.same({ "", "eof" }, { peer:rest(0.5) })
    assert(bad.wait(1.2, function() return server.core:count() == 0 end), "the descriptor is not freed")
    within(0, 1.2, at, "freed")
    peer:close()
  end)

  row("B185", "and goes on sending", function(self)
    local url, server = wire.serve(self, {})
    local peer = raw.upgrade(url, { path = "/ws" })
    peer:send_close(1000)
    local sent, chunk = 0, ("\0"):rep(16384)
    local at = cws.now()
    while peer:send(chunk) and sent < 1 << 26 do
      sent = sent + #chunk
      cws.sleep(0)
    end
    assert(bad.wait(1.2, function() return server.core:count() == 0 end), "the descriptor is not freed")
    within(0, 1.2, at, "freed")
    peer:close()
  end)

  row("B186", "we say close and the peer is silent", function(self)
    assert.equal(5, core.defaults.close_timeout)
    both(self, quick, nil, function(ws)
      local at = cws.now()
      local ok, message, kind, code = ws:close(1000)
      bad.failed("closed", "websocket", ok, message, kind)
      assert.equal(1006, code)
      assert.is_false(ws:close_clean())
      within(0.3, 0.45, at, "it ended")
    end, function(peer, _, done)
      assert.equal(1000, peer:frame().code)
      self:idle(0.15)
      assert(done:receive(2))
      local _, how = peer:rest(1)
      assert.equal("eof", how)
    end)
  end)

  row("B187", "we say close with a full queue and the peer never reads", function(self)
    both(self, { close_timeout = 0.3, send_timeout = 0.2 }, { receive = 4096 }, function(ws)
      local big = ("x"):rep(1 << 20)
      local ok, message, kind
      for _ = 1, 20 do
        ok, message, kind = ws:send(big, "binary")
        if not ok then break end
      end
      assert.same({ "timeout", "timeout" }, { message, kind })
      local at = cws.now()
      assert.is_nil(ws:close(1000))
      within(0.3, 0.45, at, "it ended")
      assert.equal(0, ws:stats().queued)
    end, function(peer, _, done)
      assert(done:receive(5))
      peer:reset()
    end)
  end)

  row("B190", "data that comes after we said close", function(self)
    both(self, nil, nil, function(ws)
      local ok = ws:close(1000, "bye")
      assert.is_true(ok)
      local message, _, kind = ws:receive()
      assert.same({ "nil", "closed" }, { tostring(message), kind })
      assert.equal(0, ws:stats().messages_received)
    end, function(peer, role, done)
      assert.equal(1000, peer:frame().code)
      peer:send(frame(role, "text", "late"))
      peer:send(frame(role, "binary", ("l"):rep(100000)))
      peer:send(frame(role, "text", "la", { fin = false }) .. frame(role, "ping", "p") .. frame(role, 0, "te"))
      peer:send_close(1000)
      if role == "client" then peer:shutdown() end
      assert(done:receive(2))
      assert.same({ "", "eof" }, { peer:rest(2) })
    end)
  end)

  row("B191", "the peer disappears", function(self)
    both(self, { ping_interval = 0.1, pong_timeout = 0.1 }, nil, function(ws)
      local at = cws.now()
      local ok, message, kind, code = ws:receive()
      bad.failed("closed", "websocket", ok, message, kind)
      assert.equal(1006, code)
      assert(message:find("ping timeout", 1, true), message)
      within(0.2, 0.35, at, "it ended")
    end, function(peer, _, done)
      assert.equal(9, peer:frame().opcode)
      assert(done:receive(2))
    end)
  end)

  row("B193", "the peer says close while our queue holds data", function(self)
    local big = ("q"):rep(1 << 20)
    both(self, nil, { receive = 65536 }, function(ws)
      for _ = 1, 3 do assert.equal(1, cws.broadcast({ ws }, big, "binary")) end
      assert.is_nil(ws:receive(5))
      assert.equal(1001, ws:close_code())
    end, function(peer, role, done)
      cws.sleep(0.01)
      peer:send_close(1001)
      if role == "client" then -- it waits for our end of the stream
        while peer.buffer:sub(-8, -7) ~= "\x88\x82" do assert(peer:more(5)) end
        peer:shutdown()
      end
      local bytes, at, count = peer:rest(5), 1, 0
      while bytes:byte(at) == 0x82 do -- whole messages, not unmasked
        at = at + 10 + (role == "client" and 4 or 0) + #big
        count = count + 1
      end
      local last = session.unframe(role, bytes:sub(at))
      assert.same({ 8, "\x03\xe9" }, { last.opcode, last.data })
      assert.equal(3, count)
      assert(done:receive(5))
    end)
  end)

  row("B193", "and never reads it", function(self)
    local big = ("q"):rep(1 << 20)
    both(self, quick, { receive = 4096 }, function(ws)
      cws.spawn(function()
        for _ = 1, 20 do
          if not ws:send(big, "binary") then break end
        end
      end)
      assert.is_nil(ws:receive(5))
      assert.equal(1001, ws:close_code())
    end, function(peer, _, done)
      local open = bad.descriptors()
      peer:send_close(1001)
      assert(done:receive(5))
      -- when the kernel took all of it, it is drained for a second
      assert(bad.wait(2, function() return bad.descriptors() < open end), "the descriptor is not freed")
    end)
  end)

  row("B189", "a reset at any time", function(self)
    both(self, nil, nil, function(ws)
      local _, message, _, code = ws:receive()
      assert.equal(1006, code)
      assert(message:find("reset") or message:find("EOF"), message)
    end, function(peer, role, done)
      peer:send(frame(role, "text", "x", { len = 100 }))
      cws.sleep(0.01)
      peer:reset()
      assert(done:receive(2))
    end)
  end)
end)
