-- How a connection ends, and what it does as time passes (csrc/net/conn_end.c,
-- the closing half of csrc/lua/conn.c).
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local function both(name, fn, limits, buffers)
  for _, role in ipairs({ "server", "client" }) do
    net.it(name .. ", as " .. role, function() raw.pair(role, fn, limits, buffers) end)
  end
end

local function wait_until(fn, what)
  local until_ = cws.now() + 5 * net.slow
  while not fn() do
    assert(cws.now() < until_, what or "in time")
    cws.sleep(0.001)
  end
end

local timeout = { nil, "timeout", "timeout" }
local slow = net.slow

-- What every call gives that can.
local calls = {
  receive = function(ws) return ws:receive() end,
  ["receive(0)"] = function(ws) return ws:receive(0) end,
  send = function(ws) return ws:send("x") end,
  ["send binary"] = function(ws) return ws:send("x", "binary", 0) end,
  ["send prepared"] = function(ws) return ws:send(cws.prepare("x")) end,
  ping = function(ws) return ws:ping() end,
  pong = function(ws) return ws:pong("x") end,
  flush = function(ws) return ws:flush() end,
  reader = function(ws) return ws:reader() end,
  writer = function(ws) return ws:writer() end,
  close = function(ws) return ws:close() end,
  each = function(ws) return (ws:each())(ws) end,
}

-- Every call gives this end, again and again; then the connection is gone.
local function check_end(ws, text, code, reason, clean)
  local expected = { nil, "websocket: " .. text, "closed", code }
  for _ = 1, 2 do
    for name, call in pairs(calls) do
      assert.same(expected, { call(ws) }, name)
    end
  end
  assert.same({ code, reason, clean }, { ws:close_code(), ws:close_reason(), ws:close_clean() })
  assert.is_false(ws:is_open())
end

describe("the end of a connection", function()
  net.guard()

  for _, case in ipairs({
    { 1000, "", "close 1000 (normal)" },
    { 1000, "bye", "close 1000 (normal): bye" },
    { 1001, "gone", "close 1001 (going away): gone" },
    { 1011, "", "close 1011 (internal server error)" },
    { 3000, "", "close 3000" },
    { 4999, "own", "close 4999: own" },
    { 1000, "\xC3\xA4 \1\n\27[0m", "close 1000 (normal): \xC3\xA4 \\x01\\x0A\\x1B[0m" },
    { 1000, ("x"):rep(123), "close 1000 (normal): " .. ("x"):rep(40) },
  }) do
    local code, reason, text = table.unpack(case)
    both(("is the peer's close %d %q"):format(code, reason:sub(1, 8)), function(ws, peer)
      peer:send_frame("text", "before")
      peer:send_close(code, reason)
      assert.equal("before", ws:receive())
      assert.same({ nil, "websocket: " .. text, "closed", code }, { ws:receive() })
      check_end(ws, text, code, reason, true)
      assert.equal(code, peer:frame().code)
    end)
  end

  both("has 1005 where the close frame had no code", function(ws, peer)
    peer:send_close()
    ws:receive()
    check_end(ws, "close 1005 (no status)", 1005, "", true)
    assert.equal("", peer:frame().data)
  end)

  both("has 1006 and the cause where the stream ended", function(ws, peer)
    peer:send_frame("text", "before")
    peer:shutdown()
    assert.equal("before", ws:receive())
    ws:receive()
    check_end(ws, "close 1006 (abnormal closure): unexpected EOF", 1006, "unexpected EOF", false)
    assert.same({ "", "eof" }, { peer:rest() })
  end)

  both("has 1006 where the stream was cut inside a message", function(ws, peer)
    peer:send_frame("text", "part", { fin = false })
    peer:send(session.frame(peer.role, "continuation", "rest"):sub(1, -2))
    peer:shutdown()
    ws:receive()
    check_end(ws, "close 1006 (abnormal closure): unexpected EOF", 1006, "unexpected EOF", false)
  end)

  both("has 1006 and the cause where the peer reset", function(ws, peer)
    local task = cws.spawn(function() return ws:receive() end)
    cws.sleep(0)
    peer:reset()
    task:join()
    local cause = "connection reset by peer"
    check_end(ws, "close 1006 (abnormal closure): " .. cause, 1006, cause, false)
  end)

  both("has the code that we failed it with", function(ws, peer)
    peer:send_frame("text", "\255")
    local _, _, _, code = ws:receive()
    assert.equal(1007, code)
    check_end(ws, "close 1007 (invalid payload data): " .. ws:close_reason(), 1007, ws:close_reason(), false)
    assert.equal(1007, peer:frame().code)
  end)

  both("has 1009 over max_message, seen at the header", function(ws, peer)
    peer:send_frame("binary", ("x"):rep(100))
    assert.equal(100, #ws:receive())
    peer:send_frame("binary", "", { len = 101 })
    local _, _, kind, code = ws:receive()
    assert.same({ "closed", 1009 }, { kind, code })
    assert.equal(1009, peer:frame().code)
  end, { max_message = 100 })

  both("is told to all that wait", function(ws, peer)
    local receiver = cws.spawn(function() return ws:receive() end)
    local closer = cws.spawn(function() return ws:close(1001) end)
    assert.equal(1001, peer:frame().code)
    peer:send_close(1001)
    assert.same({ true, nil, "websocket: close 1001 (going away)", "closed", 1001 }, { receiver:join() })
    assert.same({ true, true }, { closer:join() })
  end)

  both("is seen after the messages before it, which can be answered", function(ws, peer)
    local frames = {}
    for i = 1, 10 do frames[i] = session.frame(peer.role, "text", tostring(i)) end
    peer:send(table.concat(frames) .. session.close(peer.role, 1000))
    cws.sleep(0.01)
    for message in ws:each() do
      assert(ws:send(message))
      cws.sleep(0)
    end
    for i = 1, 10 do assert.equal(tostring(i), peer:frame().data) end
    assert.equal(1000, peer:frame().code)
  end)

  both("that is a close frame stays so when the peer resets behind it", function(ws, peer)
    peer:send_frame("text", "unread")
    peer:send_close(1001, "bye")
    wait_until(function() return ws:stats().inbox > 0 end)
    peer:reset()
    ws:send("to nobody")
    cws.sleep(0.01)
    ws:send("to nobody")
    cws.sleep(0.01)
    assert.equal("unread", ws:receive())
    check_end(ws, "close 1001 (going away): bye", 1001, "bye", true)
  end)
end)

describe("close", function()
  net.guard()

  both("sends the frame, waits for the peer's, and gives true", function(ws, peer)
    local task = cws.spawn(function() return ws:close(1001, "g\xC3\xB6ing") end)
    local close = peer:frame()
    assert.same({ 1001, "g\xC3\xB6ing" }, { close.code, close.reason })
    assert.same(timeout, { task:join(0.01) })
    assert.matches("%(closing%)$", tostring(ws))
    assert.is_false(ws:is_open())
    peer:send_close(1001)
    assert.same({ true, true }, { task:join() })
    check_end(ws, "close 1001 (going away)", 1001, "", true)
  end)

  both("is 1000 without arguments; 1005 sends no code", function(ws, peer)
    local code
    if peer.role == "client" then code = 1005 end
    local task = cws.spawn(function() return ws:close(code) end)
    local frame = peer:frame()
    assert.equal(code and "" or "\x03\xE8", frame.data)
    peer:send_close(1000)
    assert.same({ true, true }, { task:join() })
  end)

  both("raises for codes that may not be sent", function(ws, peer)
    for _, code in ipairs({ 0, -1, 999, 1004, 1006, 1015, 1016, 2999, 5000, 66536 }) do
      assert.error_matches(function() ws:close(code) end, "bad argument #1 to 'close' %(close code 1000%-1003")
    end
    assert.error_matches(function() ws:close("x") end, "bad argument #1 to 'close' %(number expected, got string%)")
    assert.error_matches(function() ws:close(1000, {}) end, "bad argument #2 to 'close' %(string expected, got table%)")
    assert.error_matches(function() ws:close(1000, 5) end, "string expected, got number")
    assert.error_matches(function() ws:close(1000, "", -1) end, "bad argument #3 to 'close' %(seconds from 0")
    assert.is_true(ws:is_open())
    assert.equal("", peer:peek())
  end)

  both("refuses a reason over 123 bytes, or not UTF-8", function(ws, peer)
    assert.same({ nil, "close: reason is longer than 123 bytes", "usage" }, { ws:close(1000, ("x"):rep(124)) })
    assert.same({ nil, "close: reason is not valid UTF-8", "usage" }, { ws:close(1000, "\255") })
    assert.is_true(ws:is_open())
    ws:close(1000, ("x"):rep(123), 0)
    assert.equal(123, #peer:frame().reason)
  end)

  both("twice, also at once, sends one frame", function(ws, peer)
    local tasks = {}
    for i = 1, 3 do tasks[i] = cws.spawn(function() return ws:close(1000 + i) end) end
    assert.equal(1001, peer:frame().code)
    peer:send_close(1001)
    if peer.role == "client" then peer:shutdown() end
    assert.same({ "", "eof" }, { peer:rest() })
    for _, task in ipairs(tasks) do assert.same({ true, true }, { task:join() }) end
  end)

  both("from both sides at once is clean", function(ws, peer)
    peer:send_close(1001, "peer")
    assert.is_true(ws:close(1000, "own"))
    check_end(ws, "close 1001 (going away): peer", 1001, "peer", true)
    assert.equal(1000, peer:frame().code)
    if peer.role == "client" then peer:shutdown() end
    assert.same({ "", "eof" }, { peer:rest() })
  end)

  both("inside a fragmented message of the peer drops it", function(ws, peer)
    peer:send_frame("text", "part", { fin = false })
    peer:send_close(1000)
    local _, _, kind, code = ws:receive()
    assert.same({ "closed", 1000 }, { kind, code })
    assert.equal(1000, peer:frame().code)
  end)

  both("inside a message of our own ends it there", function(ws, peer)
    local writer = ws:writer()
    writer:write(("x"):rep(20000))
    ws:close(1000, nil, 0)
    local part = peer:frame()
    assert.same({ 1, false }, { part.opcode, part.fin })
    assert.equal(1000, peer:frame().code)
    assert.same({ nil, "websocket: close sent", "closed" }, { writer:close() })
    peer:send_close(1000)
  end)

  both("comes after the data that was sent before", function(ws, peer)
    local big = ("x"):rep(6 * 1024 * 1024)
    ws:send(big)
    local task = cws.spawn(function() return ws:close() end)
    cws.sleep(0)
    assert.is_true(big == peer:frame().data)
    assert.equal(1000, peer:frame().code)
    peer:send_close(1000)
    assert.same({ true, true }, { task:join() })
  end)

  both("ends at its timeout; the handshake goes on", function(ws, peer)
    assert.same(timeout, { ws:close(1000, nil, 0) })
    assert.same(timeout, { ws:close(1000, nil, 0.01) })
    peer:send_close(1000)
    assert.is_true(ws:close())
    assert.equal(1000, peer:frame().code)
  end)

  both("discards the peer's data, and delivers what came before", function(ws, peer)
    peer:send_frame("text", "before")
    wait_until(function() return ws:stats().inbox > 0 end)
    ws:close(1000, nil, 0)
    assert.equal(1000, peer:frame().code)
    for _ = 1, 1000 do peer:send_frame("text", "after") end
    peer:send_close(1000)
    assert.is_true(ws:close())
    assert.equal("before", ws:receive())
    check_end(ws, "close 1000 (normal)", 1000, "", true)
  end)

  both("makes a paused connection read again", function(ws, peer)
    for i = 1, 400 do peer:send_frame("text", tostring(i)) end
    wait_until(function() return ws:stats().inbox > 600 end)
    ws:close(1000, nil, 0)
    assert.equal(1000, peer:frame().code)
    peer:send_close(1000)
    assert.is_true(ws:close())
  end)

  both("gives up at close_timeout when the peer is silent", function(ws, peer)
    local start = cws.now()
    local expected = { nil, "websocket: close 1006 (abnormal closure): close timeout", "closed", 1006 }
    assert.same(expected, { ws:close() })
    assert.is_true(cws.now() - start >= 0.0499)
    check_end(ws, expected[2]:sub(12), 1006, "close timeout", false)
    assert.equal(1000, peer:frame().code)
    assert.same({ "", "eof" }, { peer:rest() })
  end, { close_timeout = 0.05 })

  both("gives up at close_timeout when the peer does not read", function(ws)
    ws:send(("x"):rep(6 * 1024 * 1024))
    local _, _, kind, code = ws:close()
    assert.same({ "closed", 1006 }, { kind, code })
    assert.equal(0, ws:stats().queued)
  end, { close_timeout = 0.05 })

  both("gives up at close_timeout when the peer sends without end", function(ws, peer)
    local stop = false
    local sender = cws.spawn(function()
      while not stop and peer:send_frame("text", "more") do cws.sleep(0) end
    end)
    local _, _, kind, code = ws:close()
    assert.same({ "closed", 1006 }, { kind, code })
    stop = true
    sender:join()
  end, { close_timeout = 0.05 })

  both("is aborted by terminate", function(ws, peer)
    local task = cws.spawn(function() return ws:close() end)
    assert.equal(1000, peer:frame().code)
    ws:terminate()
    local expected = { true, nil, "websocket: close 1006 (abnormal closure): connection terminated", "closed", 1006 }
    assert.same(expected, { task:join() })
  end)
end)

describe("the end of the socket", function()
  net.guard()

  net.it("of a server comes right after its close frame; the peer can send more", function()
    raw.pair("server", function(ws, peer)
      peer:send_close(1000)
      peer:send(("x"):rep(60000))
      ws:receive()
      cws.sleep(0.01)
      peer:send("y")
      assert.equal(1000, peer:frame().code)
      assert.same({ "", "eof" }, { peer:rest() })
    end)
  end)

  net.it("of a server comes within a second when the peer stays", function()
    raw.pair("server", function(ws, peer)
      peer:send_close(1000)
      ws:receive()
      assert.equal(1000, peer:frame().code)
      assert.same({ "", "eof" }, { peer:rest() }) -- the write side
      assert.matches("%(closing%)$", tostring(ws))
      wait_until(function() return tostring(ws):find("(closed)", 1, true) end)
    end)
  end)

  net.it("of a server does not wait for a peer that sends on and on", function()
    raw.pair("server", function(ws, peer)
      peer:send_close(1000)
      ws:receive()
      local start = cws.now()
      while peer:send(("x"):rep(10000)) do cws.sleep(0.001) end
      assert.is_true(cws.now() - start < 0.9 * net.slow)
    end)
  end)

  net.it("of a client waits for the server's", function()
    raw.pair("client", function(ws, peer)
      peer:send_close(1000)
      ws:receive()
      assert.equal(1000, peer:frame().code)
      cws.sleep(0.01)
      assert.matches("%(closing%)$", tostring(ws))
      peer:shutdown()
      wait_until(function() return tostring(ws):find("(closed)", 1, true) end)
    end)
  end)

  net.it("of a client waits at most close_timeout", function()
    raw.pair("client", function(ws, peer)
      peer:send_close(1000)
      ws:receive()
      wait_until(function() return tostring(ws):find("(closed)", 1, true) end)
      assert.equal(1000, peer:frame().code)
      assert.same({ "", "eof" }, { peer:rest() })
    end, { close_timeout = 0.02 })
  end)

  both("comes after our data, though the peer has ended its side", function(ws, peer)
    local big = ("x"):rep(6 * 1024 * 1024)
    ws:send(big)
    peer:send_close(1000)
    peer:shutdown()
    ws:receive()
    cws.sleep(0.01)
    assert.is_true(big == peer:frame().data)
    assert.equal(1000, peer:frame().code)
    assert.same({ "", "eof" }, { peer:rest() })
  end)
end)

describe("terminate", function()
  net.guard()

  both("closes the socket without a close frame; twice is once", function(ws, peer)
    assert.is_true(ws:terminate())
    assert.is_true(ws:terminate())
    check_end(ws, "close 1006 (abnormal closure): connection terminated", 1006, "connection terminated", false)
    assert.matches("%(closed%)$", tostring(ws))
    assert.same({ "", "eof" }, { peer:rest() })
  end)

  both("offers what is corked to the kernel first", function(ws, peer)
    ws:send("corked")
    ws:terminate()
    assert.equal("corked", peer:frame().data)
    assert.same({ "", "eof" }, { peer:rest() })
  end)

  both("leaves what was received before", function(ws, peer)
    peer:send_frame("text", "before")
    wait_until(function() return ws:stats().inbox > 0 end)
    ws:terminate()
    assert.equal("before", ws:receive())
    assert.equal("closed", (select(3, ws:receive())))
  end)
end)

describe("a <close> variable", function()
  net.guard()

  both("closes with 1000 and does not wait", function(ws, peer)
    do
      local closing <close> = ws
    end
    assert.matches("%(closing%)$", tostring(ws))
    assert.equal(1000, peer:frame().code)
    peer:send_close(1000)
    ws:receive()
    check_end(ws, "close 1000 (normal)", 1000, "", true)
  end)

  both("closes with 1011 after an error", function(ws, peer)
    pcall(function()
      local closing <close> = ws
      error("boom")
    end)
    check_end(ws, "close 1011 (internal server error): handler failed", 1011, "handler failed", false)
    assert.equal(1011, peer:frame().code)
  end)

  both("after the end does nothing", function(ws, peer)
    ws:terminate()
    do
      local closing <close> = ws
    end
    assert.equal(1006, ws:close_code())
    assert.same({ "", "eof" }, { peer:rest() })
  end)
end)

describe("a handler", function()
  net.guard()

  -- The close frame that a raw client gets of a handler.
  local function closing_of(handler)
    local server, url = net.serve({ ["/"] = function(req) handler(assert(req:upgrade())) end })
    local peer = raw.upgrade(url)
    local frame = peer:frame()
    peer:send_close(frame.code)
    assert.same({ "", "eof" }, { peer:rest() })
    server:stop(0)
    return frame.code, frame.reason
  end

  net.it("that returns closes with 1000", function()
    assert.same({ 1000, "" }, { closing_of(function() end) })
  end)

  net.it("that has closed already does nothing more", function()
    assert.same({ 4000, "own" }, { closing_of(function(ws) ws:close(4000, "own", 0) end) })
  end)

  net.it("that raises is logged once and closes with 1011", function()
    local lines = net.log()
    for i, value in ipairs({ "boom", {}, setmetatable({}, { __tostring = function() error("x") end }) }) do
      assert.same({ 1011, "handler failed" }, { closing_of(function() error(value) end) })
      assert.equal(i, #lines)
      assert.matches("\nstack traceback:", lines[i])
    end
    assert.same({ 1011, "handler failed" }, { closing_of(function() error() end) })
    assert.equal(4, #lines)
  end)

  net.it("that raises after a close of its own ends it at once", function()
    net.log()
    local server, url = net.serve({ ["/"] = function(req)
      req:upgrade():close(4000, nil, 0)
      error("boom")
    end })
    local peer = raw.upgrade(url)
    assert.equal(4000, peer:frame().code)
    assert.same({ "", "eof" }, { peer:rest() })
    server:stop(0)
  end)
end)

describe("keepalive", function()
  net.guard()

  both("pings a silent peer, again and again", function(ws, peer)
    for _ = 1, 3 do
      local ping = peer:frame()
      assert.equal(9, ping.opcode)
      peer:send_frame("pong", ping.data)
    end
    wait_until(function() return ws:stats().rtt end)
    assert.is_true(ws:is_open())
    assert.is_true(ws:stats().rtt < 1 * slow)
  end, { ping_interval = 0.02, pong_timeout = 60 })

  both("ends with 1006 when no pong comes", function(ws, peer)
    local start = cws.now()
    ws:receive()
    check_end(ws, "close 1006 (abnormal closure): ping timeout", 1006, "ping timeout", false)
    assert.is_true(cws.now() - start >= 0.02)
    assert.equal(9, peer:frame().opcode)
    assert.same({ "", "eof" }, { peer:rest() })
  end, { ping_interval = 0.02, pong_timeout = 0.02 })

  both("takes any byte as a sign of life", function(ws, peer)
    local bytes = session.frame(peer.role, "text", ("x"):rep(20))
    for i = 1, #bytes do
      peer:send(bytes:sub(i, i))
      cws.sleep(0.01)
    end
    assert.equal(20, #ws:receive())
    peer:send_frame("pong", "unasked")
    assert.is_true(ws:is_open())
  end, { ping_interval = 0.05 * slow, pong_timeout = 0.05 * slow })

  both("pings nobody who sends", function(ws, peer)
    for _ = 1, 10 do
      peer:send_frame("text", "x")
      cws.sleep(0.01)
    end
    assert.equal("", peer:peek())
    assert.is_true(ws:is_open())
  end, { ping_interval = 0.2 * slow })

  both("stands still while reading is stopped", function(ws, peer)
    for i = 1, 3 do peer:send_frame("text", tostring(i)) end
    cws.sleep(0.1)
    assert.is_true(ws:is_open())
    for i = 1, 3 do assert.equal(tostring(i), (ws:receive())) end
    local _, message = ws:receive()
    assert.equal("websocket: close 1006 (abnormal closure): ping timeout", message)
  end, { inbox_messages = 1, ping_interval = 0.02, pong_timeout = 0.02 })

  both("ends with 1006 when the peer takes nothing any more", function(ws)
    ws:send(("x"):rep(6 * 1024 * 1024))
    local _, message = ws:receive()
    assert.equal("websocket: close 1006 (abnormal closure): ping timeout", message)
  end, { ping_interval = 0.03, pong_timeout = 0.03 })

  both("takes bytes that drain as a sign of life", function(ws, peer)
    local big = ("x"):rep(6 * 1024 * 1024)
    ws:send(big)
    local got, reads = 0, 0
    while got < #big do
      peer:more()
      got, reads = got + #peer.buffer, reads + 1
      peer.buffer = ""
      if reads % 8 == 0 then cws.sleep(0.01) end
    end
    assert.is_true(ws:is_open())
  end, { ping_interval = 0.1 * slow, pong_timeout = 0.1 * slow }, { receive = 262144 })
end)

describe("idle_timeout", function()
  net.guard()

  both("ends a connection without messages, though pings are answered", function(ws, peer)
    local start = cws.now()
    local task = cws.spawn(function()
      while true do
        local frame = peer:frame()
        if not frame then return end
        peer:send_frame("pong", frame.data)
      end
    end)
    local _, message = ws:receive()
    assert.equal("websocket: close 1006 (abnormal closure): idle timeout", message)
    assert.is_true(cws.now() - start >= 0.03)
    task:join()
  end, { idle_timeout = 0.06, ping_interval = 0.02 })

  both("starts anew with each message, either way", function(ws, peer)
    for i = 1, 10 do
      if i % 2 == 0 then peer:send_frame("text", "x") else ws:send("x") end
      cws.sleep(0.02)
    end
    assert.is_true(ws:is_open())
  end, { idle_timeout = 0.1 * slow })

  both("stands still inside a message, and while reading is stopped", function(ws, peer)
    for i = 1, 14 do
      peer:send_frame(i == 1 and "text" or "continuation", "part", { fin = false })
      cws.sleep(0.02 * slow)
    end
    assert.is_true(ws:is_open())
    peer:send_frame("continuation", "end")
    peer:send_frame("text", "waits unread")
    wait_until(function() return ws:stats().inbox > 40 end)
    cws.sleep(0.4 * slow)
    assert.is_true(ws:is_open())
  end, { idle_timeout = 0.2 * slow, inbox_messages = 1 })
end)

describe("tostring", function()
  net.guard()

  both("shows the peer and the state", function(ws, peer)
    assert.matches("^cws.ws: 127.0.0.1:%d+ %(open%)$", tostring(ws))
    assert.equal("locked", getmetatable(ws))
    ws:terminate()
    assert.matches("^cws.ws: 127.0.0.1:%d+ %(closed%)$", tostring(ws))
    peer:close()
  end)
end)

describe("a receiver that is woken for a message and does not take it", function()
  net.guard()

  net.it("but closes, sees the peer's close behind it", function()
    net.pair(function(first, first_peer)
      net.pair(function(ws, peer)
        local task = cws.spawn(function()
          local message, why = ws:receive()
          return message, why, ws:close()
        end)
        cws.spawn(function()
          first:receive()
          task:cancel()
        end)
        cws.spawn(function() peer:receive() end)
        cws.sleep(0.01)
        -- both arrive in one turn; the loop looks at the last one first
        peer:send(("x"):rep(2000))
        first_peer:send("now")
        assert.same({ true, nil, "receive: task cancelled", true }, { task:join() })
      end, { client = { inbox_bytes = 1000 } })
    end)
  end)
end)
