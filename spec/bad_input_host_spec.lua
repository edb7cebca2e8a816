-- Bad input from the program, in programs of their own: B231, B239, B241, B242,
-- B245. (Memory that runs out, B246 and B247, is in alloc_spec.lua.)
local cws = require("cws")
local host = require("spec.support.host")
local net = require("spec.support.net")
local process = require("spec.support.process")
local testing = require("cws.testing")

local is_plain = net.slow == 1

describe("bad input, a host that embeds Lua:", function()
  process.guard()
  teardown(host.remove)

  if not host.program() then
    pending("B239 and B242: Lua cannot be embedded here")
    return
  end

  ---@param ... any
  local function runs(...)
    local status, out, err = host.run(...)
    assert.equal("", err)
    assert.equal(0, status)
    return out
  end

  it("B231 a state is closed after all is stopped", function() runs("run", "echo") end)
  it("B231 a state is closed with all still open", function() runs("run", "leave") end)
  it("B242 states in threads of their own", function() runs("threads", 4, "echo") end)
  it("B242 states in one thread, by turns", function() runs("states", 3, "turns") end)
  it("B239 a forked child touches nothing of its parent's", function() runs("run", "fork") end)
  it("B239 a child forked before anything was used", function() runs("run", "fork_early") end)
end)

describe("bad input, the end of a program:", function()
  net.guard()
  process.guard()

  local open = [[
    local cws = require("cws")
    local count = tonumber(os.getenv("COUNT"))
    local server = assert(cws.listen("127.0.0.1:0"))
    local over = cws.channel()
    local held = {}
    server:handle("/", function(req)
      local ws = assert(req:upgrade())
      held[ws] = true
      ws:on_close(print)
      for message in ws:each() do
        if message == "end" then finish() end
        if message == "error" then error("the end") end
      end
    end)
    server:handle("/slow", function() over:receive() end)
    cws.ticker(0.001)
    cws.signal("USR1")
    local clients = {}
    cws.spawn(function()
      for i = 1, count do
        clients[i] = assert(cws.connect("ws://" .. server:address() .. "/"))
        clients[i]:on_close(print)
      end
      cws.spawn(cws.connect, "ws://" .. server:address() .. "/slow")
      cws.sleep(0.01)
      local writer = clients[1]:writer()
      writer:write("half")
      go(clients, server)
    end)
  ]]

  local ends = {
    ["in the main program"] = [[
      local done
      function go() done = true end
      ]] .. open .. [[
      while not done do cws.step(0.01) end
    ]],
    ["with os.exit in a handler"] = [[
      function finish() os.exit(0, true) end
      function go(clients) clients[2]:send("end") end
      ]] .. open .. [[
      cws.run()
    ]],
    ["with os.exit in a task"] = [[
      function go() os.exit(0, true) end
      ]] .. open .. [[
      cws.run()
    ]],
    ["with os.exit in a callback of the loop"] = [[
      function go() cws_timer = require("cws.core").timer(0, 0, function() os.exit(0, true) end) end
      ]] .. open .. [[
      cws.run()
    ]],
    ["with os.exit in a finalizer"] = [[
      function go()
        setmetatable({}, { __gc = function() os.exit(0, true) end })
        collectgarbage()
      end
      ]] .. open .. [[
      cws.run()
    ]],
    ["with os.exit that closes nothing"] = [[
      function go() os.exit(0) end
      ]] .. open .. [[
      cws.run()
    ]],
    ["before anything was used"] = [[ require("cws") os.exit(0, true) ]],
    ["with a loop that was never turned"] = [[
      local cws = require("cws")
      local server = assert(cws.listen("127.0.0.1:0"))
      cws.spawn(function() end)
      cws.after(1)
      server:handle("/", print)
    ]],
  }
  for name, text in pairs(ends) do
    it("B231 with 1000 open connections, " .. name, function()
      local count = net.slow > 4 and 50 or net.slow > 1 and 300 or 1000
      local status, out, err = process.run({ process.lua, "-e", text }, { env = { COUNT = count }, seconds = 60 })
      assert.same({ 0, "", "" }, { status, out, err })
    end)
  end

  it("B231 an error that nobody caught", function()
    local status, _, err = process.run({ process.lua, "-e", [[
      function go() end
      ]] .. open .. [[
      cws.spawn(function() cws.sleep(0.05) cws.stop() end)
      cws.run()
      error("uncaught")
    ]] }, { env = { COUNT = 10 }, seconds = 60 })
    assert.equal(1, status)
    assert(err:find("uncaught", 1, true) and not err:find("panic", 1, true), err)
  end)

  it("B239 a program started by this one inherits no socket", function()
    local server, url = net.serve({ ["/"] = function(req) req:upgrade():receive() end })
    local ws = assert(cws.connect(url .. "/"))
    local pipe = assert(io.popen("ls -l /proc/self/fd 2>&1; sleep 0.01"))
    local listing = pipe:read("a")
    assert.is_true(pipe:close()) -- nobody has reaped it before us
    assert(not listing:find("socket:", 1, true) and not listing:find("eventpoll", 1, true)
      and not listing:find("eventfd", 1, true), listing)
    assert.is_true(ws:is_open())
    ws:terminate()
    server:stop(0)
  end)
end)

describe("bad input, signals:", function()
  net.guard()
  process.guard()

  local USR1, USR2, HUP, STOP, CONT = 10, 12, 1, 19, 18

  -- An echo server that counts signals and tells how many it has seen.
  local function start(options)
    return process.start({ process.lua, "-e", ([[
      local cws = require("cws")
      local server = assert(cws.listen("127.0.0.1:0", { %s }))
      local counts = { USR1 = 0, HUP = 0 }
      for name in pairs(counts) do
        cws.spawn(function()
          for _ in cws.signal(name):each() do counts[name] = counts[name] + 1 end
        end)
      end
      server:handle("/", function(req)
        local ws = assert(req:upgrade())
        for message in ws:each() do
          ws:send(message == "counts" and (counts.USR1 .. " " .. counts.HUP) or message)
        end
      end)
      print("at " .. server:address())
      io.stdout:flush()
      server:serve()
    ]]):format(options or "") })
  end

  net.it("B241 ten thousand of them under load, then the default action", function()
    local p = start()
    local ws = assert(cws.connect("ws://" .. p:expect("at (%S+)") .. "/"))
    local sent = 0
    local task = cws.spawn(function()
      for i = 1, is_plain and 10000 or 1000 do
        testing.process.kill(p.pid, i % 2 == 0 and USR1 or HUP)
        sent = i
        if i % 50 == 0 then cws.sleep(0) end
      end
    end)
    for i = 1, 500 do
      assert(ws:send(tostring(i)))
      assert.equal(tostring(i), (ws:receive(5)))
    end
    task:join()
    ws:send("counts")
    local usr1, hup = ws:receive(5):match("(%d+) (%d+)")
    assert(tonumber(usr1) >= 1 and tonumber(hup) >= 1 and tonumber(usr1) <= sent, usr1 .. " " .. hup)
    testing.process.kill(p.pid, USR2) -- nobody watches it
    assert.equal(-USR2, p:wait())
    assert.is_nil((ws:receive(5)))
  end, 30)

  net.it("B241 INT and TERM stop a server, with 1001", function()
    for _, name in ipairs({ "INT", "TERM" }) do
      local p = start()
      local ws = assert(cws.connect("ws://" .. p:expect("at (%S+)") .. "/"))
      p:kill(name)
      assert.is_nil((ws:receive(5)))
      assert.equal(1001, ws:close_code())
      assert.same({ 0, "" }, { p:wait(), p:err() })
    end
  end)

  net.it("B245 a process that was stopped takes nobody for dead", function()
    local p = start("ping_interval = 0.2, pong_timeout = 0.2, close_timeout = 0.2")
    local address = p:expect("at (%S+)")
    local all = {}
    for i = 1, 20 do all[i] = assert(cws.connect("ws://" .. address .. "/", { ping_interval = math.huge })) end
    cws.sleep(0.1)
    testing.process.kill(p.pid, STOP)
    cws.sleep(1.5) -- several times what they may be silent
    testing.process.kill(p.pid, CONT)
    cws.sleep(0.3)
    for _, ws in ipairs(all) do
      assert.is_true(ws:is_open())
      ws:send("x")
      assert.equal("x", (ws:receive(5)))
      ws:terminate()
    end
    p:kill("TERM")
    assert.equal(0, p:wait())
  end)
end)
