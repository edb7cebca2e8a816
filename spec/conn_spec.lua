-- An open WebSocket: receiving and sending (csrc/lua/conn.c), batches and what
-- waits unread (csrc/net/conn.c). Its end is in conn_end_spec.lua.
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

-- A test for both roles of the connection: fn(ws, peer).
local function both(name, fn, limits, buffers)
  for _, role in ipairs({ "server", "client" }) do
    net.it(name .. ", as " .. role, function() raw.pair(role, fn, limits, buffers) end)
  end
end

-- Waits until fn gives true.
local function wait_until(fn, what)
  local until_ = cws.now() + 5 * net.slow
  while not fn() do
    assert(cws.now() < until_, what or "in time")
    cws.sleep(0.001)
  end
end

local timeout = { nil, "timeout", "timeout" }

describe("receive", function()
  net.guard()

  both("gives messages in their order, with their types", function(ws, peer)
    peer:send_frame("text", "Hello")
    peer:send_frame("binary", "\0\1\255")
    peer:send_frame("text", "")
    peer:send_frame("binary", "")
    assert.same({ "Hello", "text" }, { ws:receive() })
    assert.same({ "\0\1\255", "binary" }, { ws:receive() })
    assert.same({ "", "text" }, { ws:receive() })
    assert.same({ "", "binary" }, { ws:receive() })
  end)

  both("gives large messages exactly", function(ws, peer)
    local parts = {}
    for i = 1, 20000 do parts[i] = ("%8d"):format(i) end
    local text = table.concat(parts)
    local sender = cws.spawn(function()
      for _ = 1, 3 do peer:send_frame("text", text) end
    end)
    for _ = 1, 3 do assert.is_true(text == ws:receive()) end
    sender:join()
  end)

  both("waits for a message", function(ws, peer)
    local task = cws.spawn(function() return ws:receive() end)
    cws.sleep(0)
    peer:send_frame("text", "late")
    assert.same({ true, "late", "text" }, { task:join() })
  end)

  both("ends at its timeout, which leaves the connection usable", function(ws, peer)
    assert.same(timeout, { ws:receive(0) })
    assert.same(timeout, { ws:receive(0.001) })
    peer:send_frame("text", "Hel", { fin = false })
    assert.same(timeout, { ws:receive(0.01) })
    peer:send_frame("continuation", "lo")
    assert.same({ "Hello", "text" }, { ws:receive(math.huge) })
    ws:send("still")
    assert.equal("still", peer:frame().data)
  end)

  both("with timeout 0 in a task looks into the inbox only", function(ws, peer)
    peer:send_frame("text", "one")
    assert.same(timeout, { ws:receive(0) }) -- the loop has not turned
    wait_until(function() return ws:stats().inbox > 0 end)
    assert.same({ "one", "text" }, { ws:receive(0) })
    assert.same(timeout, { ws:receive(0) })
  end)

  both("by a second coroutine is busy", function(ws, peer)
    local first = cws.spawn(function() return ws:receive() end)
    cws.sleep(0)
    local busy = { nil, "receive: another coroutine receives on this connection", "busy" }
    assert.same(busy, { ws:receive() })
    assert.same(busy, { ws:receive(0) })
    assert.same({ nil, "reader: another coroutine receives on this connection", "busy" }, { ws:reader() })
    peer:send_frame("text", "for the first")
    assert.same({ true, "for the first", "text" }, { first:join() })
    peer:send_frame("text", "for the second")
    assert.equal("for the second", ws:receive())
  end)

  both("goes on after its task was cancelled", function(ws, peer)
    local first = cws.spawn(function() return ws:receive() end)
    cws.sleep(0)
    first:cancel()
    assert.same({ true, nil, "receive: task cancelled", "closed" }, { first:join() })
    peer:send_frame("text", "kept")
    assert.equal("kept", ws:receive())
  end)

  both("loses nothing when the program closes the coroutine that waits", function(ws, peer)
    net.log()
    local co
    local first = cws.spawn(function()
      co = coroutine.running()
      ws:receive()
    end)
    cws.sleep(0)
    coroutine.close(co)
    peer:send_frame("text", "kept")
    first:join()
    assert.equal("kept", ws:receive())
  end)

  both("raises for what is no timeout and no connection", function(ws)
    for _, bad in ipairs({ -1, 0 / 0, 1e10 }) do
      assert.error_matches(function() ws:receive(bad) end, "bad argument #1 to 'receive' %(seconds from 0 to 1e9")
    end
    assert.error_matches(function() ws:receive("1") end, "number expected, got string")
    assert.error_matches(function() ws.receive({}) end, "cws.ws expected, got table")
    assert.error_matches(function() ws.receive(io.stdout) end, "cws.ws expected, got FILE")
  end)

  both("each ends with the connection", function(ws, peer)
    for i = 1, 3 do peer:send_frame("text", tostring(i)) end
    peer:send_close(1001, "bye")
    local got = {}
    for message, kind in ws:each() do got[#got + 1] = message .. kind end
    assert.same({ "1text", "2text", "3text" }, got)
    assert.same({ 1001, "bye", true }, { ws:close_code(), ws:close_reason(), ws:close_clean() })
  end)
end)

describe("the inbox", function()
  net.guard()

  -- Sends in the background: the connection stops reading.
  local function send_all(peer, count, data)
    return cws.spawn(function()
      for i = 1, count do
        if not peer:send_frame("text", data or tostring(i), nil, 30) then return end
      end
      return "sent"
    end)
  end

  both("holds 256 messages, then reading stops until half of them are taken", function(ws, peer)
    local all = {}
    for i = 1, 2000 do all[i] = session.frame(peer.role, "text", ("%4d"):format(i)) end
    peer:send(table.concat(all))
    wait_until(function() return ws:stats().inbox == 256 * 4 end)
    local seen = ws:stats().messages_received
    cws.sleep(0.02)
    assert.equal(seen, ws:stats().messages_received)
    for i = 1, 127 do assert.equal(("%4d"):format(i), (ws:receive(0))) end
    cws.sleep(0.02)
    assert.equal(seen, ws:stats().messages_received)
    assert.equal(" 128", (ws:receive(0)))
    wait_until(function() return ws:stats().messages_received > seen end)
    for i = 129, 2000 do assert.equal(("%4d"):format(i), (ws:receive(5))) end
  end)

  both("holds 64 KiB, then reading stops", function(ws, peer)
    local task = send_all(peer, 400, ("x"):rep(10000))
    wait_until(function() return ws:stats().inbox >= 65536 end)
    cws.sleep(0.02)
    assert.is_true(ws:stats().inbox < 65536 + 10000)
    for _ = 1, 400 do assert.equal(10000, #ws:receive(5)) end
    assert.same({ true, "sent" }, { task:join() })
  end)

  both("has room for one message, however large", function(ws, peer)
    local task = send_all(peer, 2, ("x"):rep(1024 * 1024))
    wait_until(function() return ws:stats().inbox == 1024 * 1024 end)
    assert.equal(1024 * 1024, #ws:receive(0))
    assert.equal(1024 * 1024, #ws:receive(5))
    task:join()
  end)

  both("has the marks of its options", function(ws, peer)
    for i = 1, 5 do peer:send_frame("text", tostring(i)) end
    wait_until(function() return ws:stats().inbox >= 2 end)
    cws.sleep(0.02)
    assert.equal(2, ws:stats().inbox)
    for i = 1, 5 do assert.equal(tostring(i), (ws:receive(5))) end
  end, { inbox_messages = 2 })

  both("lets pings be answered while there is room and nobody receives", function(ws, peer)
    peer:send_frame("text", "unread")
    peer:send_frame("ping", "p")
    local pong = peer:frame()
    assert.same({ 10, "p" }, { pong.opcode, pong.data })
    assert.equal("unread", ws:receive())
  end)

  both("is delivered before the end", function(ws, peer)
    for i = 1, 1000 do peer:send_frame("text", tostring(i)) end
    peer:send_close(1001, "bye")
    for i = 1, 1000 do assert.equal(tostring(i), (ws:receive(5))) end
    assert.same({ nil, "websocket: close 1001 (going away): bye", "closed", 1001 }, { ws:receive(5) })
  end)
end)

describe("a batch", function()
  net.guard()

  both("is taken without a turn of the loop", function(ws, peer)
    local frames = {}
    for i = 1, 10 do frames[i] = session.frame(peer.role, "text", tostring(i)) end
    local turns = 0
    local counter = cws.spawn(function()
      while cws.sleep(0) do turns = turns + 1 end
    end)
    peer:send(table.concat(frames))
    ws:receive()
    local before = turns
    for i = 2, 10 do assert.equal(tostring(i), (ws:receive())) end
    assert.equal(before, turns)
    counter:cancel()
    counter:join()
  end)

  both("gives way to others", function(ws, peer)
    -- a text and 20000 more for ws, and one on another connection
    local many = session.frame(peer.role, "text", "x"):rep(20000)
    raw.pair("server", function(other, other_peer)
      local count, seen = 0, nil
      local busy = cws.spawn(function()
        while count < 20000 and ws:receive(5) do count = count + 1 end
      end)
      local echo = cws.spawn(function()
        other:receive(5)
        seen = count
      end)
      cws.sleep(0)
      local sender = cws.spawn(function() peer:send(many) end)
      other_peer:send_frame("text", "y")
      busy:join()
      echo:join()
      sender:join()
      assert.equal(20000, count)
      assert.is_true(seen < 10000, "the other came after " .. tostring(seen))
    end)
  end)

  both("leaves in one write: sends of a batch are corked", function(ws, peer)
    local echo = cws.spawn(function()
      for message in ws:each() do ws:send(message .. "!") end
    end)
    local frames = {}
    for i = 1, 50 do frames[i] = session.frame(peer.role, "text", ("%2d"):format(i)) end
    peer:send(table.concat(frames))
    local size = 50 * (peer.role == "server" and 5 or 9)
    peer:more()
    assert.equal(size, #peer.buffer)
    for i = 1, 50 do assert.equal(("%2d!"):format(i), peer:frame().data) end
    peer:send_close(1000)
    echo:join()
  end)

  both("can be uncorked with flush", function(ws, peer)
    local seen = {}
    local task = cws.spawn(function()
      ws:receive()
      ws:send("corked")
      seen[1] = #peer:peek()
      assert.is_true(ws:flush())
      local wait = peer.socket:recv() -- no turn of the loop since
      seen[2] = wait and #wait or 0
    end)
    cws.sleep(0)
    peer:send_frame("text", "go")
    task:join()
    assert.equal(0, seen[1])
    assert.is_true(seen[2] > 0)
  end)

  both("that closes the connection delivers nothing more", function(ws, peer)
    local task = cws.spawn(function()
      local first = ws:receive()
      ws:terminate()
      return first, ws:receive(0)
    end)
    cws.sleep(0)
    peer:send(session.frame(peer.role, "text", "one") .. session.frame(peer.role, "text", "two"))
    assert.same({ true, "one", nil, "websocket: close 1006 (abnormal closure): connection terminated", "closed", 1006 },
      { task:join() })
  end)

  both("delivers a good message before a bad frame", function(ws, peer)
    peer:send(session.frame(peer.role, "text", "good") .. session.frame(peer.role, 3, "bad"))
    assert.equal("good", ws:receive(5))
    local _, message, kind, code = ws:receive(5)
    assert.same({ "closed", 1002 }, { kind, code })
    assert.matches("^websocket: close 1002 %(protocol error%): [%w ]+$", message)
    local close = peer:frame()
    assert.same({ 8, 1002 }, { close.opcode, close.code })
  end)
end)

describe("send", function()
  net.guard()

  both("sends text and binary", function(ws, peer)
    local function check(opcode, ...)
      assert.is_true(ws:send("data", ...))
      local frame = peer:frame()
      assert.same({ opcode, "data", true }, { frame.opcode, frame.data, frame.fin })
    end
    check(1)
    check(1, nil, 1)
    check(1, "text", math.huge)
    check(1, 1)
    check(2, "binary")
    check(2, 2, 0)
    check(2, { type = "binary", timeout = 1 })
    check(1, { compress = false })
    check(1, {})
  end)

  both("raises for what is no message, type or timeout, and sends nothing", function(ws, peer)
    local function check(pattern, ...)
      local args = table.pack(...)
      assert.error_matches(function() ws:send(table.unpack(args, 1, args.n)) end, pattern)
    end
    check("bad argument #1 to 'send' %(string expected, got no value%)")
    check("bad argument #1 to 'send' %(string expected, got nil%)", nil)
    check("string expected, got table", {})
    check("string expected, got number", 12)
    check("string expected, got boolean", true)
    check("string expected, got cws.ws", ws)
    for _, bad in ipairs({ "TEXT", "ping", "", 0, 3, 1.5, true }) do
      check("bad argument #2 to 'send' %(\"text\", \"binary\", 1 or 2 expected%)", "x", bad)
    end
    check("bad argument #3 to 'send' %(seconds from 0", "x", "text", -1)
    check("bad option 'typ' to 'send'", "x", { typ = "text" })
    check("bad option 'compress' to 'send'", "x", { compress = 1 })
    check("bad option '%?' to 'send'", "x", { "text" })
    ws:send("sent")
    assert.equal("sent", peer:frame().data)
  end)

  both("refuses text that is not UTF-8, and sends nothing", function(ws, peer)
    for _, bad in ipairs({ "\255", "ab\xC3", "\xED\xA0\x80", "\xF4\x90\x80\x80" }) do
      assert.same({ nil, "send: text is not valid UTF-8 (send it as \"binary\")", "usage" }, { ws:send(bad) })
    end
    ws:send("\xF0\x9F\x98\x80")
    assert.equal("\xF0\x9F\x98\x80", peer:frame().data)
  end)

  both("sends what the peer reads late exactly, when the string is long gone", function(ws, peer)
    local count = 40
    for i = 1, count do
      cws.spawn(function() ws:send(tostring(i):rep(100000):sub(1, 100000)) end)
    end
    cws.sleep(0)
    collectgarbage()
    collectgarbage()
    for i = 1, count do
      assert.is_true(tostring(i):rep(100000):sub(1, 100000) == peer:frame().data)
    end
  end)

  -- A message that the peer has not read keeps the queue over send_buffer.
  local big = ("x"):rep(8 * 1024 * 1024)
  local function fill(ws)
    assert.is_true(ws:send(big))
    assert.is_true(ws:stats().queued > 65536)
  end

  both("waits while the queue is over send_buffer; a timeout sends nothing", function(ws, peer)
    fill(ws)
    assert.same(timeout, { ws:send("one", "text", 0) })
    assert.same(timeout, { ws:send("two", "text", 0.01) })
    assert.same(timeout, { ws:send("three", { timeout = 0.01 }) })
    local task = cws.spawn(function() return ws:send("four") end)
    assert.equal(#big, #peer:frame().data)
    assert.equal("four", peer:frame().data)
    assert.same({ true, true }, { task:join() })
  end)

  both("has the timeout of send_timeout", function(ws)
    fill(ws)
    assert.same(timeout, { ws:send("one") })
  end, { send_timeout = 0.01 })

  both("is first come, first served over coroutines", function(ws, peer)
    fill(ws)
    local tasks = {}
    for i = 1, 5 do
      tasks[i] = cws.spawn(function()
        ws:send(i .. "a")
        ws:send(i .. "b")
      end)
    end
    cws.sleep(0) -- now all wait
    local got = {}
    peer:frame()
    for i = 1, 10 do got[i] = peer:frame().data end
    assert.same({ "1a", "2a", "3a", "4a", "5a" }, table.move(got, 1, 5, 1, {}))
    for _, task in ipairs(tasks) do task:join() end
  end)

  both("does not mix the messages of two coroutines", function(ws, peer)
    local tasks = {}
    for i = 1, 4 do
      tasks[i] = cws.spawn(function()
        for _ = 1, 5 do ws:send(tostring(i):rep(300000)) end
      end)
    end
    for _ = 1, 20 do
      local data = peer:frame().data
      assert.is_true(data == data:sub(1, 1):rep(300000))
    end
    for _, task in ipairs(tasks) do task:join() end
  end)

  both("that waits goes on with the end of the connection", function(ws, peer)
    fill(ws)
    local task = cws.spawn(function() return ws:send("never") end)
    cws.sleep(0)
    ws:terminate()
    local expected = { true, nil, "websocket: close 1006 (abnormal closure): connection terminated", "closed", 1006 }
    assert.same(expected, { task:join() })
    peer:close()
  end)

  both("that was cancelled sends nothing and lets the next go on", function(ws, peer)
    fill(ws)
    local first = cws.spawn(function() return ws:send("first") end)
    local second = cws.spawn(function() return ws:send("second") end)
    cws.sleep(0)
    first:cancel()
    assert.same({ true, nil, "send: task cancelled", "closed" }, { first:join() })
    peer:frame()
    assert.equal("second", peer:frame().data)
    assert.same({ true, true }, { second:join() })
  end)

  both("after a close is refused, and nothing is sent", function(ws, peer)
    ws:close(1000, nil, 0)
    local refused = { nil, "websocket: close sent", "closed" }
    assert.same(refused, { ws:send("x") })
    assert.same(refused, { ws:ping() })
    assert.same(refused, { ws:pong() })
    assert.same(refused, { ws:writer() })
    assert.equal(1000, peer:frame().code)
    peer:send_close(1000)
    if peer.role == "client" then peer:shutdown() end
    assert.same({ "", "eof" }, { peer:rest() })
  end)

end)

describe("a task that always has something to send", function()
  net.guard()

  both("does not stop the others", function(ws, peer)
    local turns, stop = 0, false
    local counter = cws.spawn(function()
      while not stop and cws.sleep(0) do turns = turns + 1 end
    end)
    for _, size in ipairs({ 1000, 100000 }) do
      local since, longest, last = 0, 0, turns
      while longest < 4000000 and ws:send(("x"):rep(size)) do
        since = turns == last and since + size or 0
        last, longest = turns, math.max(since, longest)
        peer:peek() -- the peer is as fast
        peer.buffer = ""
        if turns > 20 then break end
      end
      assert.is_true(longest < 3000000, longest .. " bytes without a turn")
    end
    stop = true
    counter:join()
  end)
end)

describe("ping and pong", function()
  net.guard()

  both("are sent with their data", function(ws, peer)
    for _, name in ipairs({ "ping", "pong" }) do
      assert.is_true(ws[name](ws))
      assert.is_true(ws[name](ws, ("x"):rep(125)))
      local opcode = name == "ping" and 9 or 10
      local a, b = peer:frame(), peer:frame()
      assert.same({ opcode, "", opcode, ("x"):rep(125) }, { a.opcode, a.data, b.opcode, b.data })
    end
  end)

  both("refuse more than 125 bytes, and raise for what is no string", function(ws, peer)
    for _, name in ipairs({ "ping", "pong" }) do
      assert.same({ nil, name .. ": longer than 125 bytes", "usage" }, { ws[name](ws, ("x"):rep(126)) })
      assert.error_matches(function() ws[name](ws, {}) end, "string expected, got table")
    end
    assert.error_matches(function() ws:ping(200) end, "bad argument #1 to 'ping' %(string expected, got number%)")
    assert.error_matches(function() ws:pong(200) end, "bad argument #1 to 'pong' %(string expected, got number%)")
    ws:ping("end")
    assert.equal("end", peer:frame().data)
  end)

  both("are busy where the queue is full", function(ws)
    assert.is_true(ws:send(("x"):rep(8 * 1024 * 1024)))
    assert.same({ nil, "ping: the queue of unsent bytes is full", "busy" }, { ws:ping() })
    assert.same({ nil, "pong: the queue of unsent bytes is full", "busy" }, { ws:pong() })
  end, { max_queue = 65536 })
end)
