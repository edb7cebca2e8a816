-- Who frees what, and when: objects that nobody holds, and coroutines that die
-- while they wait. Also: end_of_state_spec.lua, cycles_spec.lua.
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local function collect()
  collectgarbage()
  collectgarbage()
end

local function echo(req)
  local ws = assert(req:upgrade())
  for message, kind in ws:each() do
    ws:send(message, kind)
  end
end

-- Open descriptors of this process.
local function count_fds()
  local count = 0
  for fd = 0, 2047 do
    local file = io.open("/proc/self/fdinfo/" .. fd)
    if file then
      count = count + 1
      file:close()
    end
  end
  return count
end

-- Lets the loop turn until is_true().
local function wait_until(is_true, what)
  local until_ = cws.now() + 5 * net.slow
  while not is_true() do
    assert(cws.now() < until_, what)
    cws.sleep(0.002)
  end
end

describe("a client that nobody holds, B229", function()
  net.guard()

  net.it("is closed with 1001, and its descriptor freed", function()
    local listener = raw.listen()
    local task = cws.spawn(function() return (assert(cws.connect(listener.url))) end)
    local peer = listener:accept()
    peer:answer()
    local before = core.counts()
    wait_until(function() return not tostring(task):find("waiting") end, "the client is not open")
    task = nil -- luacheck: ignore
    wait_until(function()
      collect()
      return peer:peek() ~= ""
    end, "no close frame")
    local close = peer:frame()
    assert.same({ 8, 1001, "" }, { close.opcode, close.code, close.reason })
    peer:send_close(1001)
    assert.same({ "", "eof" }, { (function()
      peer:shutdown()
      return peer:rest()
    end)() })
    assert.is_true(core.counts() < before + 1)
    listener:close()
    peer:close()
  end)

  net.it("sends what it had queued first", function()
    local listener = raw.listen(nil, { receive = 4096 })
    local size = 1 << 20
    cws.spawn(function()
      local ws = assert(cws.connect(listener.url, { send_buffer = 4 << 20 }))
      ws:send(("x"):rep(size))
    end)
    local peer = listener:accept()
    peer:answer()
    cws.sleep(0.02)
    collect()
    local frame = peer:frame()
    assert.equal(size, #frame.data)
    assert.equal(1001, peer:frame().code)
    peer:close()
    listener:close()
  end)

  net.it("is given up after close_timeout when the peer does not answer", function()
    local listener = raw.listen()
    cws.spawn(function() assert(cws.connect(listener.url, { close_timeout = 0.05 })) end)
    local peer = listener:accept()
    peer:answer()
    cws.sleep(0.01)
    collect()
    assert.equal(1001, peer:frame().code)
    assert.same({ "", "eof" }, { peer:rest() })
    peer:close()
    listener:close()
  end)

  net.it("many of them: no descriptor stays", function()
    local server, url = net.serve({ ["/"] = echo })
    local fds, live = count_fds(), core.counts()
    for _ = 1, 200 do
      local ws = assert(cws.connect(url .. "/"))
      ws:send("x")
    end
    wait_until(function()
      collect()
      return core.counts() == live
    end, "connections stay")
    assert.equal(fds, count_fds())
    server:stop(0)
  end)

  net.it("stays while a task waits for it, or a callback's function holds it", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      ws:receive()
      ws:send("late")
      ws:receive()
    end })
    local ws = assert(cws.connect(url .. "/"))
    local task = cws.spawn(function(own) return own:receive() end, ws)
    local weak = setmetatable({ ws }, { __mode = "v" })
    cws.sleep(0)
    ws:send("go")
    ws = nil -- luacheck: ignore
    collect()
    assert.same({ true, "late", "text" }, { task:join() })
    task = nil -- luacheck: ignore
    collect()
    assert.is_nil(weak[1])
    server:stop(0)
  end)

  net.it("a connect that is given up leaves nothing", function()
    local listener = raw.listen()
    local live, fds = core.counts(), count_fds()
    for _ = 1, 20 do
      local task = cws.spawn(cws.connect, listener.url)
      cws.sleep(0)
      task:cancel()
      task:join()
    end
    collect()
    wait_until(function() return core.counts() == live end, "dials stay")
    assert.equal(fds, count_fds())
    listener:close()
  end)
end)

describe("a server's connection", function()
  net.guard()

  net.it("stays while its handler runs, and goes with it", function()
    local weak, go = setmetatable({}, { __mode = "v" }), cws.channel()
    local server, url = net.serve({ ["/"] = function(req, res)
      weak[1], weak[2], weak[3] = req, res, assert(req:upgrade())
      go:receive() -- nothing but its coroutine has them
    end })
    local ws = assert(cws.connect(url .. "/"))
    for _ = 1, 3 do collect() end
    ws:send("still open")
    assert.is_true(weak[3]:is_open())
    assert.equal("still open", weak[3]:receive(5))
    go:close()
    assert.same({ nil, "closed", 1000 }, { (ws:receive()), select(3, ws:receive()) })
    wait_until(function()
      collect()
      return next(weak) == nil
    end, "something holds them")
    server:stop(0)
  end)

  net.it("that its own functions hold is collected all the same", function()
    local weak = setmetatable({}, { __mode = "v" })
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      weak[1] = ws
      local function closed() return ws, req end
      ws:on_close(closed)
      ws:on_ping(closed)
      for _ in ws:each() do end
    end })
    local ws = assert(cws.connect(url .. "/"))
    ws:close()
    wait_until(function()
      collect()
      return weak[1] == nil
    end, "it holds itself")
    server:stop(0)
  end)

  net.it("closed, dropped and collected by its own handler, B233", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      ws:receive()
      ws:terminate()
      ws, req = nil, nil -- luacheck: ignore
      for _ = 1, 3 do collect() end
    end })
    local peer = raw.upgrade(url)
    peer:send(session.frame("server", "text", "a"):rep(100))
    peer:rest()
    peer:close()
    server:stop(0)
  end)

  net.it("that another handler ends in the same turn gets nothing more, B234", function()
    local all, got, ends = {}, {}, 0
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      local own = #all + 1
      all[own] = ws
      ws:on_close(function() ends = ends + 1 end)
      for _ in ws:each() do
        if not got.first then
          got.first = own
          all[3 - own]:terminate()
        else
          got[#got + 1] = own
        end
      end
    end })
    local one, two = raw.upgrade(url), raw.upgrade(url)
    wait_until(function() return #all == 2 end, "not open")
    one:send_frame("text", "x") -- both are readable in one turn
    two:send_frame("text", "x")
    wait_until(function() return ends == 1 end, "on_close is not told")
    cws.sleep(0.02)
    assert.same({ first = got.first }, got)
    one:close()
    two:close()
    wait_until(function() return ends == 2 end, "on_close is not told")
    server:stop(1)
  end)

  net.it("a message that was sent and dropped arrives whole, B243", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade({ send_buffer = 8 << 20 }))
      for i = 1, 20 do
        ws:send(string.char(64 + i):rep(100000), "binary")
        collect()
      end
      ws:receive()
    end })
    local peer = raw.upgrade(url, { buffers = { receive = 4096 } })
    cws.sleep(0.05)
    for i = 1, 20 do
      assert.is_true(peer:frame().data == string.char(64 + i):rep(100000))
    end
    peer:close()
    server:stop(0)
  end)
end)

describe("a connection that was lost inside a message", function()
  net.guard()

  net.it("keeps none of it, however long the program holds the object", function()
    local held = {}
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = assert(req:upgrade())
        held[#held + 1] = ws
        ws:receive()
      end,
    })
    local size = 1000000
    local part = "\x82\xFF" .. string.pack(">I8", size) .. "\0\0\0\0" .. ("x"):rep(size - 1)
    local function lose_one()
      local peer = raw.upgrade(url .. "/")
      assert(peer:send(part))
      wait_until(function() return held[#held]:stats().bytes_received >= #part end, "it was not read")
      peer:reset()
      wait_until(function() return held[#held]:close_code() end, "it is still open")
      assert.equal(1006, held[#held]:close_code())
    end
    for _ = 1, 5 do lose_one() end
    collect()
    local before = net.resident()
    for _ = 1, 40 do lose_one() end
    local grown = net.resident() - before
    assert.equal(45, #held)
    if net.slow == 1 then assert.is_true(grown < 12 * 1024, grown .. " KiB") end
    server:stop(0)
  end)
end)

describe("a coroutine that dies while it waits, B226", function()
  net.guard()

  -- A task that waits in fn(), and its coroutine.
  local function waiting(fn)
    local co
    local task = cws.spawn(function()
      co = coroutine.running()
      fn()
    end)
    cws.sleep(0)
    assert.equal("suspended", coroutine.status(co))
    return co, task
  end

  net.it("closed by the program: what arrives then is kept", function()
    local lines = net.log()
    net.pair(function(client, peer)
      local closed
      local co, task = waiting(function()
        local _ <close> = setmetatable({}, { __close = function() closed = true end })
        client:receive()
      end)
      assert.is_true(coroutine.close(co))
      assert.is_true(closed)
      peer:send("one")
      peer:send("two")
      local _, message, kind = task:join(5)
      assert.same({ "task: the coroutine was closed or resumed by the program", "internal" }, {
        message:match("^[^\n]*"), kind,
      })
      assert.equal("one", client:receive(5))
      assert.equal("two", client:receive(5))
      assert.equal(1, #lines)
    end)
  end)

  net.it("resumed by the program: it fails, and what arrives then is kept", function()
    local lines = net.log()
    net.pair(function(client, peer)
      local message
      local co, task = waiting(function() message = select(2, pcall(client.receive, client)) end)
      assert.is_true(coroutine.resume(co))
      assert.matches("cannot wait here: this coroutine was resumed by the program while it waited in cws", message)
      peer:send("one")
      task:join(5)
      assert.equal("one", client:receive(5))
      assert.equal(1, #lines)
    end)
  end)

  net.it("in any other wait: nothing else suffers", function()
    net.log()
    local server, url = net.serve({ ["/"] = echo })
    local ch, other = cws.channel(), cws.spawn(cws.sleep, 60)
    local never, silent = raw.listen(), raw.upgrade(url) -- stop waits for it
    for _, fn in ipairs({
      function() ch:receive() end,
      function() ch:send("lost") end,
      function() cws.select({ ch, timeout = 60 }) end,
      function() cws.sleep(60) end,
      function() other:join() end,
      function() cws.connect(never.url) end,
      function() coroutine.yield() end,
      function() server:stop(60) end,
    }) do
      local co, task = waiting(fn)
      assert.is_true(coroutine.close(co))
      co, fn = nil, nil -- luacheck: ignore
      collect()
      task:cancel()
      assert.equal("internal", select(3, task:join(5)))
    end
    local getter = cws.spawn(function() return ch:receive(5) end)
    ch:send("for the living")
    assert.same({ true, "for the living" }, { getter:join() })
    other:cancel()
    assert.is_true(other:join())
    assert.same({ nil, "refused" }, { raw.connect(url) }) -- stop had got so far
    never:close()
    silent:close()
  end)

  net.it("a handler's: its connection is closed when the end is seen", function()
    net.log()
    local co
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      co = coroutine.running()
      ws:receive()
    end })
    local ws = assert(cws.connect(url .. "/"))
    wait_until(function() return co and coroutine.status(co) == "suspended" end, "not waiting")
    coroutine.close(co)
    ws:send("wakes it")
    assert.same({ nil, "closed", 1011 }, { (ws:receive()), select(3, ws:receive()) })
    server:stop(0)
  end)

  net.it("of a thousand that wait, every second one", function()
    net.log()
    local ch, got, all = cws.channel(), 0, {}
    for i = 1, 1000 do
      cws.spawn(function()
        all[i] = coroutine.running()
        if ch:receive() then got = got + 1 end
      end)
    end
    cws.sleep(0)
    for i = 1, 1000, 2 do coroutine.close(all[i]) end
    all = nil -- luacheck: ignore
    collect()
    for i = 1, 500 do ch:send(i) end
    cws.sleep(0)
    assert.equal(500, got)
  end)
end)

describe("a <close> variable", function()
  net.guard()

  for _, case in ipairs({
    { "at the end of its block: 1000", 1000, function(ws) local _ <close> = ws end },
    { "left by an error: 1011", 1011, function(ws)
      pcall(function()
        local _ <close> = ws
        error("x")
      end)
    end },
    { "left by a return and a goto: 1000", 1000, function(ws)
      for _ = 1, 2 do
        local _ <close> = ws
        goto continue
        ::continue::
      end
    end },
    { "of a coroutine that is closed: 1000", 1000, function(ws)
      local co = coroutine.create(function()
        local _ <close> = ws
        coroutine.yield()
      end)
      coroutine.resume(co)
      coroutine.close(co)
    end },
  }) do
    net.it("of a connection, " .. case[1], function()
      net.pair(function(client, peer)
        case[3](client)
        assert.equal(case[2], select(4, peer:receive(5)))
      end)
    end)
  end

  net.it("of one that has ended already does nothing", function()
    net.pair(function(client, peer)
      client:close(3001)
      do local _ <close> = client end
      assert.equal(3001, select(4, peer:receive(5)))
    end)
  end)
end)

describe("a finalizer called by hand, twice, B230", function()
  net.guard()

  local function finalize(object)
    local gc = debug.getmetatable(object).__gc
    gc(object)
    gc(object)
  end

  net.it("a connection's: it is closed", function()
    local server, url = net.serve({ ["/"] = echo })
    local ws = assert(cws.connect(url .. "/"))
    ws:on_close(function() end)
    finalize(ws)
    for name, call in pairs({
      receive = function() return ws:receive() end, send = function() return ws:send("x") end,
      ping = function() return ws:ping() end, pong = function() return ws:pong() end,
      close = function() return ws:close() end, flush = function() return ws:flush() end,
      reader = function() return ws:reader() end, writer = function() return ws:writer() end,
    }) do
      assert.same({ nil, "closed" }, { (call()), select(3, call()) }, name)
    end
    assert.is_true(ws:terminate())
    assert.is_false(ws:is_open())
    assert.matches("^cws%.ws: .*closed", tostring(ws))
    ws:on_close(function() end)
    for _, name in ipairs({
      "close_code", "close_reason", "close_clean", "protocol", "local_address", "remote_address", "tls_info", "stats",
    }) do
      assert.is_true((pcall(ws[name], ws)), name)
    end
    assert.equal(0, cws.broadcast({ ws }, "x"))
    server:stop(1)
  end)

  net.it("a server's: it does not listen any more", function()
    local server, url = net.serve({ ["/"] = echo })
    local ws = assert(cws.connect(url .. "/"))
    local stop = cws.spawn(server.core.wait_idle, server.core, 60)
    cws.sleep(0)
    finalize(server.core)
    assert.same({ true, true }, { stop:join(5) })
    assert.same({ nil, "refused" }, { raw.connect(url) })
    ws:send("open connections go on")
    assert.equal("open connections go on", ws:receive())
    assert.equal("", server:address())
    assert.is_true(server:stop(0.1))
    ws:terminate()
  end)

  net.it("a prepared message's: it cannot be sent any more", function()
    net.pair(function(client)
      local prepared = cws.prepare("x")
      finalize(prepared)
      assert.is_false((pcall(client.send, client, prepared)))
    end)
  end)

  net.it("a signal's watch, a waiter's, a writer's", function()
    local watch = core.watch_signal("USR1", function() end)
    finalize(watch)
    watch:stop()
    local waiter = core.waiter()
    finalize(waiter)
    waiter:wake()
    net.pair(function(client, peer)
      local writer = client:writer()
      writer:write("x")
      local gc = debug.getmetatable(writer).__gc
      if gc then
        gc(writer)
        gc(writer)
      end
      assert.is_nil((writer:write("y")))
      assert.is_nil((peer:receive(5)))
    end)
  end)
end)
