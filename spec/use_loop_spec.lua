-- cws on a libev loop of the program's, and in several Lua states of one thread.
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local testing = require("cws.testing")

local function echo(req)
  local ws = assert(req:upgrade())
  for message, kind in ws:each() do
    ws:send(message, kind)
  end
end

describe("cws.use_loop", function()
  -- Runs code in a state of its own, on a loop that is run before and after.
  local prelude = [[
    local loop = ...
    local cws = require("cws")
    local testing = require("cws.testing")
    local function equal(expected, got)
      if expected ~= got then error(("expected %s, got %s"):format(expected, got), 2) end
    end
    local function caught(fn, ...)
      local ok, message = pcall(fn, ...)
      if ok then error("it does not raise", 2) end
      return message
    end
    local function echo(req)
      local ws = assert(req:upgrade())
      for message, kind in ws:each() do ws:send(message, kind) end
    end
    local function serve()
      local server = assert(cws.listen("127.0.0.1:0"))
      server:handle("/", echo)
      return server, "ws://" .. server:address() .. "/"
    end
  ]]

  local function run(code, after)
    local loop = testing.loop()
    local ok, message = testing.state(prelude .. code, loop:pointer())
    assert.is_true(ok, message)
    if after then after(loop) end
    -- whatever the state left must not be touched, nor keep the loop alive
    local in_time = loop:run(0.2)
    assert.is_true(in_time)
    loop:free()
  end

  -- A host's own loop, in the state that runs it.
  local hosted = [[
    local host = testing.loop(loop)
    cws.use_loop(loop)
  ]]

  it("waits of the main program run the host's loop", function()
    run([[
      cws.use_loop(loop)
      local server, url = serve()
      local ws = assert(cws.connect(url))
      ws:send("hello")
      equal("hello", ws:receive())
      equal(true, cws.sleep(0.01))
      ws:close()
      equal(true, server:stop())
    ]])
  end)

  it("a host that runs its loop runs the tasks", function()
    run(hosted .. [[
      local server, url = serve()
      local got
      cws.spawn(function()
        local ws = assert(cws.connect(url))
        ws:send("hello")
        got = ws:receive()
        ws:close()
        cws.sleep(0.01)
        server:stop()
      end)
      equal(true, host:run(5)) -- it ends by itself: nothing of ours keeps it
      equal("hello", got)
    ]])
  end)

  it("a host's callback may call what does not wait; what waits raises", function()
    run(hosted .. [[
      local server, url = serve()
      local ws = assert(cws.connect(url))
      local ch, got, called = cws.channel(), nil, false
      host:call(function()
        called = true
        for name, fn in pairs({
          run = cws.run, step = cws.step, receive = function() ws:receive() end, sleep = function() cws.sleep(1) end,
          ["receive "] = function() ch:receive() end,
        }) do
          local message = caught(fn)
          if not message:find("cannot wait here: " .. name:gsub(" $", ""), 1, true) then error(name .. ": " .. message) end
        end
        equal(true, ws:send("from a callback"))
        equal(nil, ch:receive(0))
        cws.spawn(function()
          got = ws:receive()
          ws:close()
          server:stop()
        end)
      end)
      equal(true, host:run(5))
      equal(true, called)
      equal("from a callback", got)
    ]])
  end)

  it("cws.stop ends run, and not the host's own loop", function()
    run(hosted .. [[
      cws.spawn(function() cws.stop() end)
      equal(true, cws.run(cws.sleep, 60))
      local late
      cws.spawn(function()
        cws.stop()
        cws.sleep(0.02)
        late = true
      end)
      equal(false, host:run(0.1)) -- the other task sleeps
      equal(true, late)
    ]])
  end)

  it("signals are heard on it", function()
    run(hosted .. [[
      local usr, got = cws.signal("USR2"), nil
      cws.spawn(function() os.execute("kill -USR2 $PPID") got = usr:receive(5) end)
      equal(true, host:run(5))
      equal("USR2", got)
      usr:stop()
    ]])
  end)

  it("a state that is closed leaves nothing in it, B231", function()
    run([[
      cws.use_loop(loop)
      local server, url = serve()
      kept = { cws.ticker(0.01), cws.after(0.02), cws.after(1000), cws.signal("USR2") }
      for _ = 1, 3 do
        cws.spawn(cws.sleep, 0.05)
        cws.spawn(function() kept[1]:receive(0.05) end)
        cws.spawn(cws.connect, url)
        cws.spawn(cws.connect, "ws://localhost:1/")
        kept[#kept + 1] = assert(cws.connect(url))
      end
      cws.spawn(function() while true do coroutine.yield() end end)
      kept[#kept]:on_close(function() end)
      cws.sleep(0.005)
      kept[#kept]:send("unread")
      cws.spawn(cws.sleep, 0.01)
    ]])
  end)

  it("a state that is closed by the end of a task leaves nothing either", function()
    run(hosted .. [[
      local server, url = serve()
      cws.spawn(function()
        local ws = assert(cws.connect(url))
        ws:receive()
      end)
      host:run(0.05)
    ]])
  end)

  it("raises when a loop is in use already, and for what is no loop", function()
    run([[
      cws.use_loop(loop)
      local again = caught(cws.use_loop, loop)
      equal(true, again:find("the loop is in use already", 1, true) ~= nil)
    ]])
    run([[
      cws.step()
      equal(true, caught(cws.use_loop, loop):find("call use_loop before anything else", 1, true) ~= nil)
    ]])
    run([[
      for _, bad in ipairs({ 1, "x", {}, io.stderr }) do
        equal(true, caught(cws.use_loop, bad):find("light userdata expected", 1, true) ~= nil)
      end
    ]])
    local ok, message = testing.state([[ require("cws").use_loop() ]])
    assert.is_false(ok)
    assert.matches("light userdata expected, got no value", message)
  end)
end)

describe("two Lua states in one thread, B242", function()
  net.guard()

  net.it("have a loop each, and know nothing of each other", function()
    local server, url = net.serve({ ["/"] = echo })
    local ws = assert(cws.connect(url .. "/"))
    local live, tasks = core.counts()
    for _ = 1, 3 do
      assert.same({ true }, { testing.state([[
        local cws = require("cws")
        local server = assert(cws.listen("127.0.0.1:0"))
        server:handle("/", function(req)
          local ws = assert(req:upgrade())
          for message in ws:each() do ws:send(message) end
        end)
        local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
        for i = 1, 10 do
          ws:send(tostring(i))
          assert(ws:receive() == tostring(i))
        end
        local usr = cws.signal("USR1")
        assert(os.execute("kill -USR1 $PPID"))
        assert(usr:receive(5) == "USR1")
      ]]) })
    end
    assert.same({ live, tasks }, { core.counts() })
    ws:send("and this one goes on")
    assert.equal("and this one goes on", ws:receive())
    ws:terminate()
    server:stop(0)
  end)

  net.it("both hear a signal", function()
    local usr = cws.signal("USR1")
    assert.same({ true }, { testing.state([[
      local cws = require("cws")
      local usr = cws.signal("USR1")
      assert(os.execute("kill -USR1 $PPID"))
      assert(usr:receive(5) == "USR1")
    ]]) })
    assert.equal("USR1", usr:receive(5))
    usr:stop()
  end)
end)
