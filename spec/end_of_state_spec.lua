-- Lua states that end at bad moments: nothing may crash, stay, or be called.
local net = require("spec.support.net")
local process = require("spec.support.process")
local raw = require("spec.support.raw")

describe("a Lua state that ends, B231:", function()
  net.guard()
  process.guard()

  local prelude = [[
    local cws = require("cws")
    io.stdout:setvbuf("no")
    local arrived = cws.channel(10000)
    local hold = function(req)
      local ws = assert(req:upgrade())
      arrived:send(ws)
      for message in ws:each() do ws:send(message) end
    end
    local function listen(fn)
      local server = assert(cws.listen("127.0.0.1:0"))
      server:handle("/", fn or hold)
      return "ws://" .. server:address() .. "/", server
    end
    local function serve(fn) return (listen(fn)) end
    local function exit()
      print("exits")
      os.exit(true, true)
    end
  ]]

  -- The code ends by itself or calls exit(); what the sanitizer finds is on
  -- stderr, and in the status.
  local function ends(code, status, err)
    local p = process.start({ process.lua, "-e", prelude .. code })
    assert.equal(status or 0, p:wait(30), p:err())
    assert.equal(err or "", p:err())
    return p:out()
  end

  net.it("with a thousand open connections", function()
    ends([[
      local url = serve()
      clients = {}
      for i = 1, 1000 do
        clients[i] = assert(cws.connect(url))
        assert(arrived:receive())
        if i % 10 == 0 then clients[i]:send(("x"):rep(10000)) end
      end
    ]])
  end, 60)

  net.it("tells its peers 1001", function()
    local listener = raw.listen()
    local p = process.start({ process.lua, "-e", prelude .. ("ws = assert(cws.connect(%q))"):format(listener.url) })
    local peer = listener:accept()
    peer:answer()
    assert.equal(1001, peer:frame().code)
    assert.equal("eof", (select(2, peer:rest())))
    assert.equal(0, p:wait())
    peer:close()
    listener:close()
  end)

  for name, code in pairs({
    ["before anything is done"] = "exit()",
    ["before listening, with tasks"] = "cws.spawn(function() cws.sleep(1) end) cws.ticker(1) exit()",
    ["in a task"] = "cws.run(function() cws.sleep(0.001) exit() end)",
    ["in a handler that has not upgraded"] = "cws.connect(serve(function() exit() end))",
    ["in a handler that has written"] = "cws.connect(serve(function(_, res) res:write('x') exit() end))",
    ["in a handler that has upgraded"] = [[
      local ws = assert(cws.connect(serve(function(req)
        local ws = assert(req:upgrade())
        ws:receive()
        ws:send("corked")
        exit()
      end)))
      ws:send("x")
      ws:receive()
    ]],
    ["in a handler inside a batch"] = [[
      local ws = assert(cws.connect(serve(function(req)
        local ws = assert(req:upgrade())
        for i = 1, 5 do ws:receive() end
        exit()
      end)))
      cws.spawn(function() for i = 1, 20 do ws:send("message " .. i) end end)
      ws:receive()
    ]],
    ["in a function of upgrade's options"] = [[
      cws.connect(serve(function(req) req:upgrade({ origins = function() exit() end }) end))
    ]],
    ["in on_close"] = [[
      local ws = assert(cws.connect(serve()))
      ws:on_close(exit)
      ws:close()
      cws.sleep(5)
    ]],
    ["in on_pong"] = [[
      local ws = assert(cws.connect(serve()))
      ws:on_pong(exit)
      ws:ping()
      cws.sleep(5)
    ]],
    ["in the log"] = [[
      cws.log = exit
      cws.connect(serve(function() error("x") end))
      cws.sleep(5)
    ]],
    ["in a finalizer"] = [[
      local ws = assert(cws.connect(serve()))
      cws.spawn(function() setmetatable({}, { __gc = exit }) collectgarbage() collectgarbage() end)
      ws:receive()
    ]],
    ["in a <close> variable of a handler that raises"] = [[
      cws.log = function() end
      cws.connect(serve(function(req)
        local x <close> = setmetatable({}, { __close = exit })
        local ws <close> = req:upgrade()
        error("x")
      end)):receive()
    ]],
    ["in a writer's message and a reader's"] = [[
      local ws = assert(cws.connect(serve(function(req)
        local ws = assert(req:upgrade())
        local writer <close> = ws:writer()
        writer:write(("x"):rep(100000))
        local reader = ws:reader()
        reader:read(1)
        exit()
      end)))
      ws:send("message")
      ws:receive()
    ]],
    ["in a task while others wait for everything"] = [[
      local url, server = listen()
      local ch = cws.channel()
      local never = assert(cws.connect(url))
      cws.spawn(function() never:receive(100) end)
      cws.spawn(function() ch:receive() end)
      cws.spawn(function() cws.select({ ch, cws.after(100), cws.signal("USR1") }) end)
      cws.spawn(cws.connect, "ws://localhost:1/")
      cws.spawn(cws.connect, "ws://192.0.2.1:81/")
      cws.spawn(cws.sleep, 100)
      cws.spawn(function() cws.spawn(cws.sleep, 100):join() end)
      cws.spawn(function() server:serve() end)
      cws.spawn(function() while never:send(("x"):rep(100000)) do end end)
      cws.run(function() cws.sleep(0.02) exit() end)
    ]],
    ["in a task that has closed its server"] = [[
      local url, server = listen()
      local ws = assert(cws.connect(url))
      cws.run(function() cws.spawn(server.stop, server) cws.sleep(0) exit() end)
    ]],
  }) do
    net.it("os.exit(true, true) " .. name, function()
      assert.equal("exits\n", ends(code))
    end, 30)
  end

  net.it("what a task has sent leaves before os.exit(true, true)", function()
    local listener = raw.listen()
    local p = process.start({ process.lua, "-e", prelude .. ([[
      local ws = assert(cws.connect(%q))
      cws.run(function() ws:send("last words") exit() end)
    ]]):format(listener.url .. "/") })
    local peer = listener:accept()
    peer:answer()
    assert.equal("last words", peer:frame().data)
    assert.equal(1001, peer:frame().code)
    assert.equal(0, p:wait(30), p:err())
    peer:close()
    listener:close()
  end)

  net.it("an error that nobody catches, in the middle of it all", function()
    local p = process.start({ process.lua, "-e", prelude .. [[
      local ws = assert(cws.connect(serve()))
      kept = { arrived:receive(), cws.ticker(0.001) }
      cws.spawn(function() ws:receive() end)
      cws.sleep(0.01)
      error("the end")
    ]] })
    assert.equal(1, p:wait(30), p:err())
    assert.matches("^[^\n]*the end\nstack traceback:", p:err())
    assert.not_matches("Sanitizer", p:err())
  end)

  net.it("objects that are used by finalizers of the program while it ends", function()
    local out = ends([[
      local url, server = listen()
      local ws = assert(cws.connect(url))
      local ch, ticker, task = cws.channel(1), cws.ticker(1), cws.spawn(cws.sleep, 100)
      -- made before cws's own state would run after it: here it runs before
      at_the_end = setmetatable({}, { __gc = function()
        for name, call in pairs({
          send = function() ws:send("x") end, terminate = function() ws:terminate() end,
          text = function() return tostring(ws) .. tostring(server) .. tostring(task) .. tostring(ch) end,
          offer = function() ch:send(1) end, stop = function() ticker:stop() end, cancel = function() task:cancel() end,
          spawn = function() cws.spawn(function() end) end, now = cws.now, broadcast = function() cws.broadcast({ ws }, "x") end,
          versions = cws.versions,
        }) do
          print(name, pcall(call))
        end
      end })
    ]])
    assert.not_matches("false", out)
  end)

  net.it("finalizers that run when cws is gone", function()
    local status, out, err = process.run({ process.lua, "-e", [[
      local late = setmetatable({}, { __gc = function(self)
        for name, call in pairs(self) do print(name, (pcall(call))) end
      end })
      local cws = require("cws")
      local server = assert(cws.listen("127.0.0.1:0"))
      local task, ticker, usr = cws.spawn(cws.sleep, 100), cws.ticker(1), cws.signal("USR1")
      local ch, ws = cws.channel(1), nil
      local waits, closes = cws.channel(), cws.channel()
      cws.spawn(waits.receive, waits)
      cws.spawn(closes.receive, closes)
      server:handle("/", function(req) assert(req:upgrade()):receive() end)
      ws = assert(cws.connect("ws://" .. server:address() .. "/"))
      late.send = function() return ws:send("x") end
      late.receive = function() return ws:receive() end
      late.close = function() return ws:close() end
      late.terminate = function() return ws:terminate() end
      late.text = function() return tostring(ws), tostring(server), tostring(task), tostring(ticker) end
      late.listen = function() return cws.listen("127.0.0.1:0") end
      late.connect = function() return cws.connect("ws://127.0.0.1:1/") end
      late.spawn = function() return cws.spawn(print) end
      late.cancel = function() return task:cancel() end
      late.join = function() return task:join(0) end
      late.stop = function() return server:stop(0) end
      late.ticker = function() return ticker:stop() end
      late.usr = function() return usr:stop() end
      late.signal = function() return cws.signal("USR2") end
      late.channel = function() return ch:send(1), ch:receive() end
      late.wakes = function() return waits:send(1), closes:close() end
      late.select = function() return cws.select({ ch, timeout = 0.1 }) end
      late.run = function() return cws.run() end
      late.step = function() return cws.step() end
      late.stop_all = function() return cws.stop() end
      late.prepare = function() return ws:send(cws.prepare("x")) end
      late.address = function() return server:address(), ws:remote_address(), ws:local_address() end
      late.on_close = function() return ws:on_close(print) end
      late.writer = function() return ws:writer() end
      late.stats = function() return ws:stats() end
    ]] })
    assert.same({ 0, "" }, { status, err })
    assert.equal(25, select(2, out:gsub("\n", "")))
  end)
end)
