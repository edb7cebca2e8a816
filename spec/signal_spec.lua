-- Signals, as programs meet them: each test starts one. What channels of
-- cws.signal are: timers_spec.lua.
local cws = require("cws")
local net = require("spec.support.net")
local process = require("spec.support.process")
local raw = require("spec.support.raw")

local signals = process.signals

local prelude = [[
local cws = require("cws")
io.stdout:setvbuf("no")
]]

local ignore_int = [[
local testing = require("cws.testing")
testing.process.ignore(testing.process.signals.INT)
]]

-- Starts Lua code that says "ready". `before`: shell commands.
local function start(code, before)
  local argv = { process.lua, "-e", prelude .. code }
  if before then argv = { "sh", "-c", before .. "; exec \"$@\"", "sh", table.unpack(argv) } end
  local p = process.start(argv)
  p:expect("ready")
  return p
end

-- One that serves, its options in `options`; gives its URL as well.
local function start_server(options, before)
  options = options or {}
  local p = start(([[
    local function hold(req)
      local ws = assert(req:upgrade())
      for message, kind in ws:each() do ws:send(message, kind) end
    end
    local port = %q
    cws.spawn(function() print("ready") end)
    %s
    print("serve:", cws.serve("127.0.0.1:" .. port, { ["/"] = hold }))
  ]]):format(options.port or process.free_port(), options.code or ""), before)
  return p
end

-- A port that the program is told before it starts.
local function with_server(fn, options, before)
  options = options or {}
  options.port = process.free_port()
  local p = start_server(options, before)
  return fn(p, "ws://127.0.0.1:" .. options.port)
end

describe("cws.signal", function()
  net.guard()
  process.guard()

  for _, name in ipairs({ "HUP", "INT", "TERM", "USR1", "USR2" }) do
    net.it("delivers " .. name .. " to a main program that waits, B241", function()
      local p = start(([[
        local source = cws.signal(%q)
        print("ready")
        print("got", source:receive())
      ]]):format(name))
      p:kill(name)
      p:expect("got\t" .. name)
      assert.equal(0, p:wait(), p:err())
    end)

    net.it("ends a program that has given " .. name .. " back", function()
      local p = start(([[
        local one, two = cws.signal(%q), cws.signal(%q)
        one:stop()
        print("ready")
        print("got", two:receive())
        two:stop()
        two = cws.signal(%q)
        two:stop()
        print("given back")
        os.execute("sleep 60 & wait")
      ]]):format(name, name, name))
      p:kill(name)
      p:expect("got\t" .. name .. "\ngiven back")
      p:kill(name)
      -- stock Lua has a handler of its own for SIGINT, which waits for Lua code
      if name ~= "INT" then assert.equal(-signals[name], p:wait()) end
    end)
  end

  net.it("delivers to several tasks, of two names in one call", function()
    local p = start([[
      local both, one = cws.signal("USR1", "USR2"), cws.signal("USR2")
      cws.spawn(function() for name in both:each() do print("both", name) end end)
      cws.spawn(function() for name in one:each() do print("one", name) end end)
      cws.spawn(function() print("ready") end)
      cws.sleep(60)
    ]])
    p:kill("USR1")
    p:expect("both\tUSR1")
    p:kill("USR2")
    p:expect("both\tUSR2")
    p:expect("one\tUSR2")
    assert.not_matches("one\tUSR1", p:out())
  end)

  net.it("delivers at the next wait what came while the program computed", function()
    local p = start([[
      local source = cws.signal("USR1")
      print("ready")
      local start = os.clock()
      repeat until os.clock() - start > 0.1
      print("got", source:receive(0), source:receive(0))
    ]])
    p:kill("USR1")
    p:expect("got\tUSR1\tnil\ttimeout")
    assert.equal(0, p:wait())
  end)

  net.it("works in a loop of frames", function()
    local p = start([[
      local quit = cws.signal("INT", "TERM")
      print("ready")
      local name
      repeat
        cws.step(0.01)
        name = quit:receive(0)
      until name
      print("got", name)
    ]])
    p:kill("INT")
    p:expect("got\tINT")
    assert.equal(0, p:wait(), p:err())
  end)

  net.it("raises in the 65th Lua state of one process, and not before", function()
    local p = process.start({ process.lua, "-e", [[
      local testing = require("cws.testing")
      local code = [=[
        local left, code = ...
        local cws, testing = require("cws"), require("cws.testing")
        local source = cws.signal("USR2")
        if left > 1 then
          local ok, message = testing.state(code, left - 1, code)
          if not ok then error(message, 0) end
        end
      ]=]
      print(testing.state(code, 65, code))
      print(testing.state(code, 64, code))
    ]] })
    assert.equal(0, p:wait(30), p:err())
    assert.matches("^false\t.*too many Lua states watch signals.*true\tnil\n$", p:out())
  end, 30)

  net.it("that nobody holds any more watches nothing", function()
    local p = start([[
      cws.signal("TERM")
      collectgarbage()
      collectgarbage()
      print("ready")
      cws.sleep(60)
    ]])
    p:kill("TERM")
    assert.equal(-signals.TERM, p:wait())
  end)

  net.it("the handler that was there is there again: stock Lua's for SIGINT", function()
    local p = start([[
      local source = cws.signal("INT")
      source:stop()
      print(pcall(function()
        print("ready")
        while true do end
      end))
    ]])
    p:kill("INT")
    p:expect("false\tinterrupted!")
    assert.equal(0, p:wait(), p:err())
  end)

  net.it("SIGINT is stock Lua's again after a wait that raised", function()
    local p = start([[
      local core = require("cws.core")
      local server = assert(cws.listen("127.0.0.1:0"))
      server:handle("/", function(req)
        local ws = assert(req:upgrade())
        cws.sleep(0.05)
        ws:send("a message")
        core.fail("memory", 2) -- the inbox, then the reader
        ws:receive()
      end)
      local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
      local ok, message = pcall(ws.reader, ws)
      core.fail("memory", 0)
      print("raised", ok, message)
      print("ready")
      print(pcall(function() while true do end end))
    ]])
    p:expect("raised\tfalse\tnot enough memory")
    p:kill("INT")
    p:expect("false\tinterrupted!")
    assert.equal(0, p:wait(), p:err())
  end)

  net.it("of a signal that is ignored hears it, and gives it back ignored", function()
    local p = start([[
      local source = cws.signal("HUP")
      print("ready")
      print("got", source:receive())
      source:stop()
      print("given back")
      cws.sleep(0.2)
      print("alive")
    ]], "trap '' HUP")
    p:kill("HUP")
    p:expect("got\tHUP\ngiven back")
    p:kill("HUP")
    p:expect("alive")
    assert.equal(0, p:wait())
  end)

  -- Stock Lua itself takes SIGINT back where it was ignored: only a host leaves
  -- it so.
  net.it("of SIGINT that is ignored hears it, made while the main program waits", function()
    local p = start(ignore_int .. [[
      cws.spawn(function()
        local source = cws.signal("INT")
        print("ready")
        print("got", source:receive(5))
        source:stop()
        print("given back")
        cws.sleep(0.1)
        print("alive")
      end)
      cws.run()
    ]])
    p:kill("INT")
    p:expect("got\tINT\ngiven back")
    p:kill("INT")
    p:expect("alive")
    assert.equal(0, p:wait(), p:err())
  end)

  net.it("10,000 signals under load: every echo comes back, B241", function()
    with_server(function(p, url)
      local ws = assert(cws.connect(url .. "/"))
      local names = { "HUP", "USR1", "USR2", "INT" }
      for i = 1, 1000 do
        for k = 1, 10 do
          p:kill(names[k % 4 + 1])
        end
        local message = ("%d "):format(i):rep(i)
        assert.is_true(ws:send(message))
        assert.is_true(ws:receive(5) == message)
      end
      assert.is_nil(p.status)
      ws:close()
      p:kill("TERM")
      assert.equal(0, p:wait(), p:err())
      local got = tonumber(p:out():match("signals: (%d+)"))
      assert.is_true(got >= 500, got) -- those that came together count as one
      assert.equal("", p:err())
    end, { code = [[
      local count, source = 0, cws.signal("HUP", "INT", "USR1", "USR2")
      cws.spawn(function()
        for _ in source:each() do count = count + 1 end
      end)
      at_the_end = setmetatable({}, { __gc = function() print("signals: " .. count) end })
    ]] })
  end, 30)
end)

describe("SIGINT that nobody watches", function()
  net.guard()
  process.guard()

  for what, code in pairs({
    sleep = "cws.sleep(60)",
    receive = "local ch = cws.channel() cws.spawn(cws.sleep, 60) ch:receive()",
    run = "cws.run(cws.sleep, 60)",
    step = "while true do cws.step(60) end",
    ["join"] = "cws.spawn(cws.sleep, 60):join()",
    ["a connection's receive"] = [[
      local server = assert(cws.listen("127.0.0.1:0"))
      server:handle("/", function(req) local ws = assert(req:upgrade()) ws:receive() end)
      local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
      ws:receive()
    ]],
  }) do
    net.it("interrupts " .. what .. " of the main program, as stock Lua does", function()
      local p = start([[
        local function wait() ]] .. code .. [[ end
        cws.spawn(function() print("ready") end)
        print("first", pcall(wait))
        print("again")
        print("second", pcall(wait))
      ]])
      p:kill("INT")
      p:expect("first\tfalse\t[^\n]*interrupted!\nagain")
      p:kill("INT")
      p:expect("second\tfalse\t[^\n]*interrupted!")
      assert.equal(0, p:wait(), p:err())
    end)
  end

  net.it("leaves everything else usable", function()
    local p = start([[
      local server = assert(cws.listen("127.0.0.1:0"))
      server:handle("/", function(req)
        local ws = assert(req:upgrade())
        for message in ws:each() do ws:send(message) end
      end)
      local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
      local task = cws.spawn(cws.sleep, 0.1)
      cws.spawn(function() print("ready") end)
      print("first", pcall(ws.receive, ws))
      ws:send("still here")
      print(ws:receive())
      print("task", task:join())
    ]])
    p:kill("INT")
    p:expect("first\tfalse\tinterrupted!\nstill here\ttext\ntask\ttrue\ttrue")
    assert.equal(0, p:wait(), p:err())
  end)

  net.it("ends a program that does not catch that, with stock Lua's message", function()
    local p = start([[cws.spawn(function() print("ready") end) cws.sleep(60)]])
    p:kill("INT")
    assert.equal(1, p:wait())
    assert.matches("interrupted!", p:err())
  end)

  net.it("is left ignored where it was ignored", function()
    local p = start(ignore_int .. [[
      cws.spawn(function() print("ready") end)
      cws.sleep(0.15)
      print("slept")
    ]])
    p:kill("INT")
    p:expect("slept")
    assert.equal(0, p:wait())
  end)

  net.it("SIGTERM and SIGHUP that nobody watches end the program", function()
    for _, name in ipairs({ "TERM", "HUP", "USR1" }) do
      local p = start([[cws.spawn(function() print("ready") end) cws.sleep(60)]])
      p:kill(name)
      assert.equal(-signals[name], p:wait())
    end
  end)

  net.it("SIGHUP under nohup does not", function()
    local p = start([[
      cws.spawn(function() print("ready") end)
      cws.sleep(0.15)
      print("slept")
    ]], "trap '' HUP")
    p:kill("HUP")
    p:expect("slept")
    assert.equal(0, p:wait())
  end)
end)

describe("cws.serve", function()
  net.guard()
  process.guard()

  net.it("ends what does not answer after a second", function()
    with_server(function(p, url)
      local peer = raw.upgrade(url)
      local start_time = cws.now()
      p:kill("INT")
      assert.equal(1001, peer:frame().code)
      assert.same({ nil, "refused" }, { raw.connect(url) })
      peer:rest()
      assert.equal(0, p:wait(), p:err())
      local seconds = cws.now() - start_time
      assert.is_true(seconds > 0.9 and seconds < 1 + 0.7 * net.slow, seconds)
      peer:close()
    end)
  end)

  net.it("stopped by SIGSTOP for a while loses nobody, B245", function()
    local port = process.free_port()
    local p = start(([[
      cws.spawn(function() print("ready") end)
      cws.serve("127.0.0.1:%s", { ["/"] = function(req)
        local ws = assert(req:upgrade())
        for message in ws:each() do ws:send(message) end
      end }, { ping_interval = 0.05, pong_timeout = 0.05, handshake_timeout = 0.2 })
    ]]):format(port))
    local clients = {}
    for i = 1, 10 do clients[i] = assert(cws.connect("ws://127.0.0.1:" .. port .. "/")) end
    for _ = 1, 2 do
      cws.sleep(0.06) -- in the middle of their pings
      p:kill("STOP")
      cws.sleep(0.2)
      p:kill("CONT")
      for i, ws in ipairs(clients) do
        assert.is_true(ws:send(tostring(i)))
        assert.equal(tostring(i), ws:receive(5))
      end
    end
    for _, ws in ipairs(clients) do ws:terminate() end
    p:kill("TERM")
    assert.equal(0, p:wait())
  end)

  for _, name in ipairs({ "INT", "TERM" }) do
    net.it("stops gracefully on SIG" .. name, function()
      with_server(function(p, url)
        local ws = assert(cws.connect(url .. "/"))
        local start_time = cws.now()
        p:kill(name)
        assert.same({ nil, "closed", 1001 }, { (ws:receive()), select(3, ws:receive()) })
        assert.equal(0, p:wait(), p:err())
        assert.is_true(cws.now() - start_time < 1 * net.slow)
        assert.matches("serve:\ttrue\n$", p:out())
        assert.equal("", p:err())
      end)
    end)

    net.it("ends at once on a second SIG" .. name, function()
      with_server(function(p, url)
        local peer = raw.upgrade(url)
        p:kill(name)
        assert.equal(1001, peer:frame().code)
        local start_time = cws.now()
        p:kill(name)
        assert.equal(0, p:wait(), p:err())
        assert.is_true(cws.now() - start_time < 0.5 * net.slow)
        assert.matches("serve:\ttrue\n$", p:out())
        peer:close()
      end)
    end)

    net.it("goes on when the program watches " .. name .. ", until it does not", function()
      with_server(function(p, url)
        local ws = assert(cws.connect(url .. "/"))
        p:kill(name)
        p:expect("program: " .. name)
        ws:send("still here")
        assert.equal("still here", ws:receive())
        p:kill(name)
        p:expect("program: " .. name .. "\nprogram: " .. name .. "\nstopped")
        p:kill(name)
        assert.same({ nil, "closed", 1001 }, { (ws:receive()), select(3, ws:receive()) })
        assert.equal(0, p:wait(), p:err())
      end, { code = ([[
        local source = cws.signal(%q)
        cws.spawn(function()
          print("program: " .. source:receive())
          print("program: " .. source:receive())
          source:stop()
          print("stopped")
        end)
      ]]):format(name) })
    end)
  end

  net.it("leaves a SIGINT alone that was ignored when it started, as a shell's background job; SIGTERM stops it", function()
    with_server(function(p, url)
      local ws = assert(cws.connect(url .. "/"))
      p:kill("INT")
      ws:send("still here")
      assert.equal("still here", ws:receive())
      cws.sleep(0.05)
      ws:send("really")
      assert.equal("really", ws:receive())
      p:kill("TERM")
      assert.same({ nil, "closed", 1001 }, { (ws:receive()), select(3, ws:receive()) })
      assert.equal(0, p:wait(), p:err())
    end, { code = ignore_int })
  end)

  net.it("gives the signals back when it has stopped", function()
    local p = start([[
      cws.spawn(function() cws.sleep(0.01) cws.stop() end)
      assert(cws.serve("127.0.0.1:0", {}))
      print("ready")
      os.execute("sleep 60 & wait")
    ]])
    p:kill("TERM")
    assert.equal(-signals.TERM, p:wait())
  end)
end)

describe("children of the program, B239", function()
  net.guard()
  process.guard()

  -- A mask of /proc/PID/status, without the C library's own signals.
  local function mask_of(status, field)
    return tonumber(status:match(field .. ":%s*(%x+)"), 16) & 0x7FFFFFFF
  end

  net.it("have default signals and none of its sockets", function()
    local p = start([[
      local server = assert(cws.listen("127.0.0.1:0"))
      local arrived = cws.channel(1)
      server:handle("/", function(req)
        local ws = assert(req:upgrade())
        for message in ws:each() do
          local child = io.popen("cat /proc/self/status; ls -l /proc/self/fd")
          ws:send(child:read("a"))
          print("closed", child:close())
        end
      end)
      local watch = cws.signal("INT", "TERM", "HUP", "USR1", "PIPE", "CHLD")
      local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
      for i = 1, 2 do
        ws:send("go")
        print(ws:receive())
      end
      print("ready")
    ]])
    local out = p:out()
    assert.equal(0, p:wait(), p:err())
    assert.equal(2, select(2, out:gsub("closed\ttrue\texit\t0\n", "")))
    assert.not_matches("socket:", out)
    assert.not_matches("eventpoll", out)
    assert.not_matches("eventfd", out)
    for _, field in ipairs({ "SigIgn", "SigCgt", "SigBlk" }) do
      assert.equal(0, mask_of(out, field), field)
    end
  end)

  net.it("are not reaped by the loop, and do not disturb it", function()
    local p = start([[
      local server = assert(cws.listen("127.0.0.1:0"))
      server:handle("/", function(req)
        local ws = assert(req:upgrade())
        for message in ws:each() do ws:send(message) end
      end)
      local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
      for i = 1, 20 do
        ws:send("before")
        local child = io.popen("exit " .. i)
        print(ws:receive())
        print(child:close())
        assert(os.execute("kill -USR1 $$ 2>/dev/null || exit 3") == nil)
      end
      print("ready")
    ]])
    assert.equal(0, p:wait(), p:err())
    for i = 1, 20 do
      assert.matches("before\ttext\nnil\texit\t" .. i .. "\n", p:out())
    end
  end)

  net.it("SIGPIPE does not end the program, and ends its children", function()
    local listener = raw.listen()
    local p = process.start({ process.lua, "-e", prelude .. ([[
      local ws = assert(cws.connect(%q))
      print("open")
      local ok, message, kind
      repeat ok, message, kind = ws:send(("x"):rep(100000)) until not ok
      print("alive", kind)
      print("child", io.popen("kill -PIPE $$; echo not ended"):close())
      print(io.popen("cat /proc/self/status"):read("a"))
    ]]):format(listener.url .. "/") })
    local peer = listener:accept()
    peer:answer()
    p:expect("open")
    peer:reset()
    assert.equal(0, p:wait(), p:err())
    assert.matches("alive\tclosed\n", p:out())
    assert.matches("child\tnil\tsignal\t" .. signals.PIPE .. "\n", p:out())
    assert.equal(0, mask_of(p:out(), "SigIgn"))
    listener:close()
  end)
end)
