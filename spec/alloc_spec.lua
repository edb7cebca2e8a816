-- Memory that runs out, at every place of a whole session, B247: the call that
-- needed it fails, or its connection; nothing leaks, nothing hangs.
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local testing = require("cws.testing")

describe("B247 the n-th allocation that fails", function()
  net.guard()

  -- No wait of a session may come to its end without a reason.
  local function check(what, value, message, kind, ...)
    if kind == "timeout" then error(what .. " hangs", 0) end
    return value, message, kind, ...
  end

  local function echo(ws)
    while true do
      local reader, kind = check("reader", ws:reader(2))
      if not reader then return end
      local data = check("read", reader:read("a", 2))
      if not data then return end
      if #data < 100 then
        ws:send(data, kind)
      else
        local writer = check("writer", ws:writer(kind))
        if not (writer and writer:write(data:sub(1, 50), data:sub(51)) and writer:close()) then return end
      end
    end
  end

  local function talk(ws)
    local large = ("0123456789"):rep(10000)
    ws:on_ping(function() end)
    ws:on_pong(function() end)
    ws:on_close(function() end)
    assert(ws:ping("p"))
    assert(ws:send("small"))
    assert(check("receive", ws:receive(2)) == "small")
    assert(ws:send(large, "binary"))
    for _ = 1, 3 do assert(ws:send("more")) end
    assert(check("receive", ws:receive(2)) == large)
    for _ = 1, 3 do assert(check("receive", ws:receive(2)) == "more") end
    assert(ws:send(assert(cws.prepare("prepared"))))
    assert(cws.broadcast({ ws }, large) == 1)
    assert(check("receive", ws:receive(2)) == "prepared")
    assert(check("receive", ws:receive(2)) == large)
    assert(check("close", ws:close(1000, "bye", 2)))
  end

  local options = {
    handshake_timeout = 1, connect_timeout = 1, handler_timeout = 1, response_timeout = 1, close_timeout = 1,
    ping_interval = 1, pong_timeout = 1,
  }

  local function session(compress)
    local server = assert(cws.listen("127.0.0.1:0", options))
    local closing <close> = setmetatable({}, { __close = function() server:stop(0) end })
    server:handle("/", function(req) echo(assert(req:upgrade({ compression = compress }))) end)
    server:handle("/page", function(_, res) res:write(("page"):rep(1000)) end)
    local url = "ws://" .. server:address()
    local _, _, kind = check("refused", cws.connect(url .. "/page", options))
    assert(kind == "handshake")
    local limits = setmetatable({ compression = compress }, { __index = options })
    for name, value in pairs(options) do limits[name] = value end
    talk(assert(check("connect", cws.connect(url, limits))))
  end

  -- Runs it with each allocation failing, until there are no more.
  local function fail_each(compress, all)
    local lines = net.log()
    local live, tasks = core.counts()
    for n = 1, 10000 do
      core.fail("memory", n, all)
      local ok, message = pcall(session, compress)
      local count = core.fail("memory", 0)
      if not ok and tostring(message):find("hangs") then error(("allocation %d: %s"):format(n, message), 0) end
      local until_ = cws.now() + 3 * net.slow
      repeat
        collectgarbage()
        cws.sleep(0)
        local now_live, now_tasks = core.counts()
        assert(cws.now() < until_, ("allocation %d left something open"):format(n))
      until now_live <= live and now_tasks <= tasks
      if count < n then
        assert.is_true(ok, message)
        assert.is_true(n > 40, n .. " allocations")
        break
      end
    end
    for _, line in ipairs(lines) do
      assert.matches("memory", line)
    end
  end

  net.it("alone", function() fail_each(false, false) end, 60)
  net.it("and all after it", function() fail_each(false, true) end, 60)
  net.it("alone, with compression", function() fail_each(true, false) end, 60)
  net.it("and all after it, with compression", function() fail_each(true, true) end, 60)

  net.it("inside a writer's message ends the connection: half of it must not look whole", function()
    for n = 1, 100 do
      local count, code
      net.pair(function(client, peer)
        local writer = peer:writer("binary")
        assert(writer:write(("a"):rep(40000))) -- a frame of it leaves
        core.fail("memory", n)
        local ok, _, kind = writer:write("b", ("c"):rep(20000), "d")
        count = core.fail("memory", 0)
        if ok then
          writer:close()
        else
          assert.equal("memory", kind)
          client:receive()
          code = client:close_code()
        end
      end)
      if count < n then
        assert.is_true(n > 1)
        return
      end
      assert.equal(1011, code)
    end
    error("a hundred allocations")
  end)
end)

-- The same with Lua's own allocations, B246, in a Lua state whose allocator does
-- as it is told.
describe("B246 the n-th allocation of Lua that fails", function()
  local session = [=[
    local all = ...
    local core, cws = require("cws.core"), require("cws")
    local arm = fail_lua
    local lines = {}
    cws.log = function(line) lines[#lines + 1] = line end
    local options = { handshake_timeout = 1, connect_timeout = 1, handler_timeout = 1, close_timeout = 1 }
    local hung

    local function check(value, message, kind, ...)
      if kind == "timeout" then hung = true end
      return value, message, kind, ...
    end

    local function talk(ws)
      ws:on_pong(function() end)
      ws:on_close(function() end)
      ws:ping("p")
      for i = 1, 3 do assert(ws:send("message " .. i)) end
      for i = 1, 3 do assert(check(ws:receive(2)) == "message " .. i) end
      local writer = assert(ws:writer("binary", 2))
      assert(writer:write("a", "b"))
      assert(writer:close(2))
      local reader = assert(check(ws:reader(2)))
      assert(check(reader:read("a", 2)) == "ab")
      assert(cws.broadcast({ ws }, "c") == 1)
      assert(check(ws:receive(2)) == "c")
      assert(check(ws:close(1000, "", 2)))
    end

    local server, client
    local stops = setmetatable({}, { __close = function()
      arm(0)
      if client then client:terminate() end
      if server then server:stop(0) end
      server, client = nil, nil
    end })

    local function run()
      local stop <close> = stops
      server = assert(cws.listen("127.0.0.1:0", options))
      server:handle("/", function(req)
        local ws = assert(req:upgrade())
        for message, kind in ws:each() do ws:send(message, kind) end
      end)
      local _, ws = check(cws.spawn(cws.connect, "ws://" .. server:address(), options):join(3))
      assert(type(ws) == "userdata", "connect failed")
      client = ws
      talk(ws)
    end

    local function settle(n)
      local until_ = cws.now() + 10
      repeat
        collectgarbage()
        cws.step(0.001)
        local live, tasks = core.counts()
        if cws.now() > until_ then error(("allocation %d left %d open, %d tasks"):format(n, live, tasks), 0) end
      until live == 0 and tasks == 0
    end

    run()
    settle(0)
    local count = 0
    for n = 1, 100000 do
      hung = nil
      arm(n, all)
      local ok = pcall(run)
      arm(0)
      if hung then error("allocation " .. n .. " makes a wait hang", 0) end
      settle(n)
      count = ok and count + 1 or 0
      if count == 200 then -- not only a place that can do without
        if n < 260 then error("only " .. n - 200 .. " allocations", 0) end
        break
      end
    end
    for _, line in ipairs(lines) do
      if not line:find("memory") and not line:find("assertion failed") then error("logged: " .. line, 0) end
    end
  ]=]

  for name, all in pairs({ ["alone"] = false, ["and all after it"] = true }) do
    it(name, function()
      local ok, message = testing.failing_state(session, all)
      assert.is_true(ok, message)
    end)
  end
end)
