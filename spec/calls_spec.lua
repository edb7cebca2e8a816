local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

describe("on_ping, on_pong and on_close of a connection", function()
  net.guard()

  local function collect()
    collectgarbage()
    collectgarbage()
  end

  -- A server whose handler runs fn(ws).
  local function serve(fn)
    return net.serve({ ["/"] = function(req) fn(assert(req:upgrade())) end })
  end

  -- The handler sees the end in the batch that brought it, before the loop has
  -- told anybody.
  net.it("are told though the handler has ended and nobody holds the connection", function()
    local told = cws.channel(4)
    local server, url = serve(function(ws)
      ws:on_ping(function(data) told:send("ping " .. data) end)
      ws:on_close(function(code, reason, clean) told:send(("close %d %s %s"):format(code, reason, clean)) end)
      cws.spawn(function() cws.spawn(collect) end)
      for _ in ws:each() do
        cws.spawn(collect) -- runs before the functions do
      end
    end)
    local peer = raw.upgrade(url)
    peer:send(session.frame("server", "text", "x") .. session.frame("server", "ping", "y")
      .. session.close("server", 1001, "bye"))
    assert.equal("ping y", told:receive(2))
    assert.equal("close 1001 bye true", told:receive(2))
    peer:rest()
    peer:close()
    server:stop(0)
  end)

  net.it("do not keep a client that nobody holds; on_close is told of its end", function()
    local told = cws.channel(1)
    local server, url = serve(function(ws)
      for _ in ws:each() do end
    end)
    local client = assert(cws.connect(url .. "/"))
    client:on_pong(function() end)
    client:on_close(function(code, _, clean) told:send(("close %d %s"):format(code, clean)) end)
    local weak = setmetatable({ client }, { __mode = "v" })
    client = nil -- luacheck: ignore
    collect()
    assert.is_nil(weak[1])
    assert.equal("close 1006 false", told:receive(2))
    server:stop(0)
  end)
end)

describe("on_ping, on_pong and on_close", function()
  net.guard()

  local function both(name, fn, limits)
    for _, role in ipairs({ "server", "client" }) do
      net.it(name .. ", as " .. role, function() raw.pair(role, fn, limits) end)
    end
  end

  -- A list that fills, and a function that waits until it is that long.
  local function collector()
    local list = {}
    return list, function(count)
      local until_ = cws.now() + 5 * net.slow
      while #list < count do
        assert(cws.now() < until_, #list .. " of " .. count .. " in time")
        cws.sleep(0.001)
      end
      return list
    end
  end

  both("get what arrived, in its order, after the pong has been sent", function(ws, peer)
    local list, wait = collector()
    ws:on_ping(function(...) list[#list + 1] = table.concat({ "ping", ... }, " ") end)
    ws:on_pong(function(data, seconds) list[#list + 1] = ("pong %s %s"):format(data, seconds) end)
    ws:on_close(function(...)
      list[#list + 1] = table.pack(...)
    end)
    peer:send_frame("ping", "1")
    peer:send_frame("pong", "2")
    peer:send_frame("ping", "")
    peer:send_frame("ping", ("x"):rep(125))
    peer:send_close(3001, "bye")
    wait(5)
    assert.same({ "ping 1", "pong 2 nil", "ping ", "ping " .. ("x"):rep(125), { n = 3, 3001, "bye", true } }, list)
    assert.same({ "1", "", ("x"):rep(125) }, { peer:frame().data, peer:frame().data, peer:frame().data })
    assert.equal(3001, peer:frame().code)
  end)

  both("on_pong tells how long the ping took", function(ws, peer)
    local list, wait = collector()
    ws:on_pong(function(data, seconds) list[#list + 1] = { data, seconds } end)
    ws:ping("x")
    local ping = peer:frame()
    cws.sleep(0.01)
    peer:send_frame("pong", ping.data)
    wait(1)
    assert.equal("x", list[1][1])
    assert.is_true(list[1][2] >= 0.009 and list[1][2] < 5 * net.slow)
    assert.equal(ws:stats().rtt, list[1][2])
  end)

  both("run while nobody receives, and while somebody does", function(ws, peer)
    local list, wait = collector()
    ws:on_ping(function(data) list[#list + 1] = data end)
    peer:send_frame("ping", "nobody")
    wait(1)
    local receiver = cws.spawn(function() return ws:receive() end)
    cws.sleep(0)
    peer:send_frame("ping", "somebody")
    wait(2)
    peer:send_frame("text", "message")
    assert.same({ true, "message", "text" }, { receiver:join() })
  end)

  both("run one after the other, and may wait", function(ws, peer)
    local list, wait = collector()
    local running = 0
    local function slow(data)
      running = running + 1
      assert(running == 1)
      cws.sleep(0.002)
      assert(ws:send("about " .. tostring(data)))
      running = running - 1
      list[#list + 1] = data
    end
    ws:on_ping(slow)
    ws:on_pong(slow)
    for i = 1, 3 do
      peer:send_frame("ping", "p" .. i)
      peer:send_frame("pong", "o" .. i)
    end
    wait(6)
    assert.same({ "p1", "o1", "p2", "o2", "p3", "o3" }, list)
    assert.equal("message", (function()
      peer:send_frame("text", "message")
      return ws:receive()
    end)())
  end)

  both("can be replaced and taken away", function(ws, peer)
    local list, wait = collector()
    ws:on_ping(function(data) list[#list + 1] = "old " .. data end)
    ws:on_ping(function(data) list[#list + 1] = "new " .. data end)
    peer:send_frame("ping", "1")
    wait(1)
    ws:on_ping(nil)
    peer:send_frame("ping", "2")
    peer:send_frame("text", "after")
    assert.equal("after", ws:receive())
    ws:on_ping(function(data) list[#list + 1] = data end)
    peer:send_frame("ping", "3")
    wait(2)
    assert.same({ "new 1", "3" }, list)
    for _, name in ipairs({ "on_ping", "on_pong", "on_close" }) do
      assert.error_matches(function() ws[name](ws, "x") end, "function expected, got string")
    end
  end)

  both("that raise are logged once and close with 1011", function(ws, peer)
    local lines = net.log()
    ws:on_ping(function(data) error("boom " .. data) end)
    peer:send_frame("ping", "1")
    assert.equal("1", peer:frame().data)
    local close = peer:frame()
    assert.same({ 1011, "callback failed" }, { close.code, close.reason })
    assert.equal(1, #lines)
    assert.matches("boom 1\nstack traceback:", lines[1])
    peer:send_close(1011)
    assert.is_nil(ws:receive())
  end)

  both("on_close that raises is logged, and is told once", function(ws, peer)
    local lines = net.log()
    local count = 0
    ws:on_close(function()
      count = count + 1
      error("boom")
    end)
    peer:send_close(1000)
    assert.is_nil(ws:receive())
    cws.sleep(0.01)
    assert.same({ 1, 1 }, { count, #lines })
    assert.equal(1000, ws:close_code())
  end)

  for name, case in pairs({
    ["the peer's close"] = { function(_, peer) peer:send_close(1001, "bye") end, 1001, "bye", true },
    ["a close without a code"] = { function(_, peer) peer:send_close() end, 1005, "", true },
    ["the end of the stream"] = { function(_, peer) peer:shutdown() end, 1006, "unexpected EOF", false },
    ["a bad frame"] = { function(_, peer) peer:send_frame(3, "x") end, 1002, nil, false },
    ["terminate"] = { function(ws) ws:terminate() end, 1006, "connection terminated", false },
    ["close"] = { function(ws, peer)
      ws:close(4000, "own", 0)
      peer:frame()
      peer:send_close(4000)
    end, 4000, "", true },
  }) do
    both("on_close is told of " .. name .. ", once", function(ws, peer)
      local list, wait = collector()
      ws:on_close(function(...) list[#list + 1] = { ... } end)
      case[1](ws, peer)
      wait(1)
      ws:terminate()
      ws:close()
      cws.sleep(0.002)
      assert.equal(1, #list)
      local code, reason, clean = table.unpack(list[1])
      assert.same({ case[2], case[4] }, { code, clean })
      assert.equal(case[3] or ws:close_reason(), reason)
    end)
  end

  both("on_close that is set after the end is told of it, once", function(ws)
    local list, wait = collector()
    ws:terminate()
    cws.sleep(0.002)
    ws:on_close(function(code) list[#list + 1] = code end)
    wait(1)
    ws:on_close(function(code) list[#list + 1] = code end)
    cws.sleep(0.002)
    assert.same({ 1006 }, list)
  end)

  both("on_close may call everything", function(ws)
    local list, wait = collector()
    ws:on_close(function()
      list[1] = { (select(3, ws:send("x"))), (select(3, ws:receive())), (select(3, ws:close())), ws:terminate() }
    end)
    ws:terminate()
    wait(1)
    assert.same({ "closed", "closed", "closed", true }, list[1])
  end)

  net.it("on_close is told when the handler has ended", function()
    local list, wait = collector()
    local server, url = net.serve({ ["/"] = function(req)
      req:upgrade():on_close(function(code, _, clean) list[1] = { code, clean } end)
    end })
    local peer = raw.upgrade(url)
    assert.equal(1000, peer:frame().code)
    peer:send_close(1000)
    wait(1)
    assert.same({ 1000, true }, list[1])
    server:stop(0)
  end)

  both("do not have to keep up with a flood: every ping has its pong", function(ws, peer)
    local count = 0
    ws:on_ping(function()
      count = count + 1
      cws.sleep(0)
    end)
    peer:send(session.frame(peer.role, "ping", "p"):rep(5000))
    for _ = 1, 5000 do assert.equal(10, peer:frame().opcode) end
    assert.is_true(ws:is_open())
    assert.is_true(count >= 1)
    cws.sleep(0.01)
  end)
end)
