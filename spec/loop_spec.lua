-- The loop as programs drive it: run, step, stop; who gets a turn. On a loop of
-- the program: use_loop_spec.lua.
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local function echo(req)
  local ws = assert(req:upgrade())
  for message, kind in ws:each() do
    ws:send(message, kind)
  end
end

-- What fn raises.
local function caught(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return message
end

describe("cws.run", function()
  net.guard()

  it("returns at once when there is nothing to do", function()
    assert.is_true(cws.run())
    assert.is_true(cws.run(function() end))
  end)

  it("runs a function as a task, and what that starts, to their ends", function()
    local order = {}
    assert.is_true(cws.run(function(...)
      order[#order + 1] = table.concat({ ... }, " ")
      cws.spawn(function()
        cws.sleep(0.02)
        cws.spawn(function()
          cws.sleep(0.01)
          order[#order + 1] = "last"
        end)
      end)
      cws.sleep(0.01)
      order[#order + 1] = "first"
    end, "a", 1))
    assert.same({ "a 1", "first", "last" }, order)
  end)

  it("goes on while a server listens, until it is stopped", function()
    local server, url = net.serve({ ["/"] = echo })
    local got
    cws.spawn(function()
      local ws = assert(cws.connect(url .. "/"))
      ws:send("x")
      got = ws:receive()
      ws:close()
      cws.sleep(0.01)
      server:stop()
    end)
    assert.is_true(cws.run())
    assert.equal("x", got)
  end)

  it("an error in a task is logged and ends only that", function()
    local lines, done = net.log(), false
    cws.spawn(function() error("first") end)
    assert.is_true(cws.run(function()
      cws.sleep(0.01)
      done = true
      error("second")
    end))
    assert.is_true(done)
    assert.equal(2, #lines)
  end)

  for _, how in ipairs({ "each", "close", "terminate" }) do
    it("tells on_close before it returns: " .. how, function()
      local listener, told = raw.listen(), nil
      cws.spawn(function()
        local peer = listener:accept()
        peer:answer(nil, how == "each" and session.close("client", 1000) or nil)
        if how == "close" then
          peer:frame()
          peer:send_close(1000)
        end
      end)
      cws.run(function()
        local ws = assert(cws.connect(listener.url .. "/"))
        ws:on_close(function(code) told = code end)
        if how == "each" then
          for _ in ws:each() do end
        else
          ws[how](ws)
        end
      end)
      assert.equal(how == "terminate" and 1006 or 1000, told)
    end)
  end

  it("is ended by cws.stop in a task; the others go on in the next run", function()
    local turns, left = 0, nil
    local ticker = cws.spawn(function()
      while not left do
        turns = turns + 1
        cws.sleep(0.001)
      end
    end)
    for round = 1, 3 do
      cws.spawn(function()
        cws.sleep(0.01)
        cws.stop()
      end)
      local before = turns
      assert.is_true(cws.run())
      assert.is_true(turns > before, round)
    end
    left = true
    assert.is_true(cws.run())
    assert.same({ true }, { ticker:join(0) })
  end)

  it("cws.stop before it is none", function()
    cws.stop()
    local done
    assert.is_true(cws.run(function()
      cws.sleep(0.01)
      done = true
    end))
    assert.is_true(done)
  end)

  it("ends by cws.stop also where everything is ready all the time", function()
    local spinner = cws.spawn(function()
      while coroutine.yield() ~= "never" and cws.sleep(0) do end
    end)
    cws.spawn(cws.stop)
    assert.is_true(cws.run())
    spinner:cancel()
  end)

  it("raises for what is no function", function()
    assert.matches("bad argument #1 to 'run' %(function expected, got number%)", caught(cws.run, 1))
  end)
end)

describe("loops do not nest:", function()
  net.guard()

  local function refuses(where)
    for name, fn in pairs({ run = cws.run, step = cws.step }) do
      assert.matches("cannot wait here: " .. name .. " while the loop runs; use cws.spawn", caught(fn), where)
    end
  end

  net.it("in a task", function() refuses("task") end)

  net.it("in a coroutine of the program's, which cannot wait either", function()
    local ws
    local server, url = net.serve({ ["/"] = echo })
    ws = assert(cws.connect(url .. "/"))
    coroutine.wrap(function()
      refuses("coroutine")
      local ch = cws.channel()
      for what, call in pairs({
        receive = function() ws:receive() end,
        sleep = function() cws.sleep(1) end,
        join = function() cws.spawn(cws.sleep, 0):join() end,
        connect = function() cws.connect(url .. "/") end,
        select = function() cws.select({ ch }) end,
        ["receive "] = function() ch:receive() end,
        ["send "] = function() ch:send(1) end,
      }) do
        assert.matches("cannot wait here: " .. what:gsub(" $", "") .. " would have to wait .*; use cws.spawn", caught(call))
      end
      -- what need not wait works
      assert.is_true(ws:send("x"))
      assert.same({ nil, "timeout", "timeout" }, { ws:receive(0) })
      assert.same({ nil, "timeout", "timeout" }, { ch:receive(0) })
    end)()
    assert.equal("x", ws:receive())
    ws:terminate()
    server:stop(0)
  end)

  net.it("in a comparison function, a finalizer, a metamethod of C's", function()
    local messages = {}
    local function try() messages[#messages + 1] = caught(cws.sleep, 1) end
    table.sort({ 1, 2 }, function(a, b)
      try()
      return a < b
    end)
    setmetatable({}, { __gc = try })
    collectgarbage()
    collectgarbage()
    string.gsub("x", "x", try)
    assert.is_true(#messages >= 3)
    for _, message in ipairs(messages) do
      assert.matches("cannot wait here: sleep would have to wait", message)
    end
  end)

  net.it("in on_* functions, which may wait", function()
    local told = cws.channel(1)
    local server, url = net.serve({ ["/"] = echo })
    local ws = assert(cws.connect(url .. "/"))
    ws:on_pong(function()
      refuses("on_pong")
      cws.sleep(0.01)
      told:send("waited")
    end)
    ws:ping()
    assert.equal("waited", told:receive())
    ws:terminate()
    server:stop(0)
  end)

  it("but a coroutine of the main program may drive it", function()
    local got = {}
    local co = coroutine.wrap(function()
      cws.sleep(0.01)
      coroutine.yield("slept")
      cws.run(function() got[1] = "ran" end)
      got[2] = cws.step(0) ~= nil
    end)
    assert.equal("slept", co())
    co()
    assert.same({ "ran", true }, got)
  end)

  it("and an error in the main program's wait leaves it usable", function()
    for _ = 1, 3 do
      assert.is_false((pcall(cws.sleep, -1)))
      assert.matches("deadlock", caught(cws.channel().receive, cws.channel()))
      assert.is_true(cws.sleep(0.001))
    end
  end)
end)

describe("a deadlock", function()
  net.guard()

  it("of a wait of the main program raises, naming it", function()
    local ch, task = cws.channel(), nil
    assert.matches("deadlock: receive: nothing is left that could end this wait", caught(ch.receive, ch))
    assert.matches("deadlock: send", caught(ch.send, ch, 1))
    assert.matches("deadlock: select", caught(cws.select, { ch }))
    task = cws.spawn(function() return ch:receive() end)
    assert.matches("deadlock: join", caught(task.join, task))
    ch:send("the task is as it was")
    assert.same({ true, "the task is as it was" }, { task:join() })
  end)

  it("of run raises when all tasks wait for each other", function()
    local a, b = cws.channel(), cws.channel()
    local one = cws.spawn(function()
      a:receive()
      b:send("x")
    end)
    local two = cws.spawn(function()
      b:receive()
      a:send("x")
    end)
    assert.matches("deadlock: run: all tasks wait and nothing is left that could wake one", caught(cws.run))
    a:send("go")
    assert.is_true(one:join())
    two:cancel()
    assert.is_true(cws.run())
  end)

  it("is none while time, a peer, a listener or a signal could end it", function()
    local ch = cws.channel()
    assert.same({ nil, "timeout", "timeout" }, { ch:receive(0.01) })
    cws.spawn(function()
      cws.sleep(0.01)
      ch:send("slept")
    end)
    assert.equal("slept", ch:receive())
    local after = cws.after(0.01)
    assert.equal(after, (cws.select({ ch, after })))
    local usr = cws.signal("USR1")
    cws.spawn(function() os.execute("kill -USR1 $PPID") end)
    assert.equal(usr, (cws.select({ ch, usr })))
    usr:stop()
    local server, url = net.serve({ ["/"] = function() ch:send("served") end })
    cws.spawn(cws.connect, url .. "/")
    assert.equal("served", ch:receive())
    server:stop(0)
    assert.matches("deadlock: receive", caught(ch.receive, ch))
  end)

  it("is seen when the last reason goes while it waits", function()
    local ch, usr, ticker = cws.channel(), cws.signal("USR1"), cws.ticker(100)
    cws.spawn(function()
      cws.sleep(0.01)
      usr:stop()
      ticker:stop()
    end)
    assert.matches("deadlock: receive", caught(ch.receive, ch))
  end)
end)

describe("cws.step", function()
  net.guard()

  it("tells whether anything is left that could happen", function()
    assert.is_false(cws.step())
    local task = cws.spawn(cws.sleep, 0.02)
    assert.is_true(cws.step())
    local turns = 0
    while cws.step(1) do turns = turns + 1 end
    assert.is_true(turns < 50)
    assert.same({ true, true }, { task:join(0) })
    local usr = cws.signal("USR1")
    cws.step(0)
    usr:stop()
  end)

  it("sleeps at most its time, and not at all by default", function()
    local task = cws.spawn(cws.sleep, 60)
    cws.step()
    local start = cws.now()
    for _ = 1, 100 do cws.step() end
    assert.is_true(cws.now() - start < 0.5)
    start = cws.now()
    repeat
      local from = cws.now()
      cws.step(0.05)
      assert.is_true(cws.now() - from < 0.5 * net.slow)
    until cws.now() - start > 0.04
    task:cancel()
    assert.is_true(cws.run())
  end)

  it("is all that a program with frames of its own needs", function()
    local server, url = net.serve({ ["/"] = echo })
    local got, frames = {}, 0
    local task = cws.spawn(function()
      local ws = assert(cws.connect(url .. "/"))
      for i = 1, 10 do
        ws:send(tostring(i))
        got[i] = ws:receive()
      end
      ws:close()
    end)
    while #got < 10 and frames < 5000 do
      cws.step(0.001)
      frames = frames + 1
    end
    assert.equal("10", got[10])
    assert.is_true(task:join())
    server:stop(0)
  end)

  it("raises for what is no time", function()
    for _, bad in ipairs({ -1, 0 / 0, 1e10 }) do
      assert.matches("bad argument #1 to '[%w.]*step' %(seconds from 0", caught(cws.step, bad))
    end
    assert.matches("number expected, got string", caught(cws.step, "1"))
  end)
end)

describe("time", function()
  net.guard()

  net.it("tasks wake in the order of their times", function()
    local order, tasks = {}, {}
    for _, ms in ipairs({ 30, 10, 50, 20, 40, 0 }) do
      tasks[#tasks + 1] = cws.spawn(function()
        cws.sleep(ms / 1000)
        order[#order + 1] = ms
      end)
    end
    for _, task in ipairs(tasks) do task:join() end
    assert.same({ 0, 10, 20, 30, 40, 50 }, order)
  end)

  net.it("runs from the call, not from the turn of the loop", function()
    local late
    local function compute(seconds)
      local until_ = cws.now() + seconds
      while cws.now() < until_ do end
    end
    compute(0.03)
    local start = cws.now()
    local after = cws.after(0.05)
    compute(0.02)
    cws.sleep(0.01)
    late = after:receive(0)
    assert.is_nil(late) -- 30 of its 50 ms are over, not 60
    after:receive()
    assert.is_true(cws.now() - start >= 0.05)
    start = cws.now()
    compute(0.02)
    assert.same({ nil, "timeout", "timeout" }, { cws.channel():receive(0.02) })
    assert.is_true(cws.now() - start >= 0.04)
  end)

  net.it("never comes early", function()
    for _, seconds in ipairs({ 0.001, 0.0025, 0.01 }) do
      for _ = 1, 10 do
        local start = cws.now()
        cws.sleep(seconds)
        assert.is_true(cws.now() - start >= seconds - 1e-6)
      end
    end
  end)

  net.it("ten thousand sleepers wake, and leave nothing", function()
    local awake, tasks = 0, {}
    for i = 1, 10000 do
      tasks[i] = cws.spawn(function()
        cws.sleep(0.01 + (i * 7919 % 100) / 10000)
        awake = awake + 1
      end)
    end
    for _, task in ipairs(tasks) do task:join() end
    assert.equal(10000, awake)
  end)
end)

describe("who has work all the time leaves others their turn:", function()
  net.guard()

  -- How long an echo takes, at most, while `busy` runs.
  local function worst_echo(busy)
    local server, url = net.serve({ ["/"] = echo })
    local ws = assert(cws.connect(url .. "/"))
    local stop = busy()
    local worst = 0
    for i = 1, 50 do
      local start, cpu = cws.now(), os.clock()
      ws:send(tostring(i))
      assert.equal(tostring(i), ws:receive(5))
      -- only while this process, which is busy all the time, had a processor
      worst = math.max(worst, math.min(cws.now() - start, os.clock() - cpu))
    end
    stop()
    ws:terminate()
    server:stop(0)
    return worst
  end

  net.it("tasks that yield in a loop", function()
    local worst = worst_echo(function()
      local stopped = false
      for _ = 1, 20 do
        cws.spawn(function()
          while not stopped do coroutine.yield() end
        end)
      end
      return function() stopped = true end
    end)
    assert.is_true(worst < 0.1 * net.slow, worst)
  end)

  net.it("tasks that hand each other values in a ring", function()
    local worst = worst_echo(function()
      local channels, stopped = {}, false
      for i = 1, 200 do channels[i] = cws.channel() end
      for i, ch in ipairs(channels) do
        local out = channels[i % #channels + 1]
        cws.spawn(function()
          if i % 2 == 0 then out:send(i) end
          for value in ch:each() do
            if stopped or not out:send(value) then break end
          end
          ch:close()
          out:close()
        end)
      end
      return function()
        stopped = true
        for _, ch in ipairs(channels) do ch:close() end
      end
    end)
    assert.is_true(worst < 0.1 * net.slow, worst)
  end)

  net.it("a task that starts tasks", function()
    local worst = worst_echo(function()
      local stopped = false
      local function again()
        if not stopped then cws.spawn(again) end
      end
      for _ = 1, 20 do cws.spawn(again) end
      return function() stopped = true end
    end)
    assert.is_true(worst < 0.1 * net.slow, worst)
  end)

  net.it("sleepers of no time", function()
    local worst = worst_echo(function()
      local stopped = false
      for _ = 1, 20 do
        cws.spawn(function()
          while not stopped do cws.sleep(0) end
        end)
      end
      return function() stopped = true end
    end)
    assert.is_true(worst < 0.1 * net.slow, worst)
  end)

  for size, what in pairs({ [0] = "empty messages", [20] = "short messages", [100000] = "long messages" }) do
    net.it("a task that sends " .. what .. " without end to a peer that has gone", function()
      raw.pair("server", function(ws, peer)
        peer:reset()
        local start, kind = cws.now(), nil
        repeat
          kind = select(3, ws:send(("x"):rep(size)))
          assert(cws.now() - start < 1 * net.slow, "nobody else has a turn")
        until kind
        assert.equal("closed", kind)
      end)
    end)
  end

  net.it("peers that send tiny messages and pings as fast as they can, B149, B253", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      for _ in ws:each() do end
    end })
    local flood = session.frame("server", "text", ""):rep(5000) .. session.frame("server", "ping", ""):rep(100)
    local worst = worst_echo(function()
      local stopped, done = false, cws.channel(4)
      for _ = 1, 3 do
        cws.spawn(function()
          local peer = raw.upgrade(url)
          while not stopped do
            peer:send(flood)
            peer:peek()
            peer.buffer = ""
            cws.sleep(0)
          end
          peer:close()
          done:send(true)
        end)
      end
      return function()
        stopped = true
        for _ = 1, 3 do done:receive() end
      end
    end)
    assert.is_true(worst < 0.2 * net.slow, worst)
    server:stop(0)
  end, 20)
end)
