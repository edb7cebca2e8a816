-- Tasks and the one way to wait (csrc/lua/task.c).
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")

-- In the main program unless the test says otherwise: net.it runs in a task.
describe("spawn", function()
  net.guard()

  it("starts at the next turn of the loop, in the order of the calls", function()
    local log = {}
    for i = 1, 3 do
      cws.spawn(function() log[#log + 1] = i end)
    end
    assert.same({}, log)
    cws.step()
    assert.same({ 1, 2, 3 }, log)
  end)

  net.it("starts what a task spawns after the others that are ready", function()
    local log = {}
    local outer = cws.spawn(function()
      cws.spawn(function() log[#log + 1] = "inner" end):join()
    end)
    cws.spawn(function() log[#log + 1] = "other" end)
    outer:join()
    assert.same({ "other", "inner" }, log)
  end)

  it("passes its arguments", function()
    local got
    cws.spawn(function(...) got = table.pack(...) end, 1, nil, "x", nil):join()
    assert.same({ n = 4, 1, nil, "x", nil }, got)
    local many = table.pack(cws.spawn(function(...) return ... end, table.unpack({}, 1, 200)):join())
    assert.equal(201, many.n)
  end)

  it("raises without a function", function()
    assert.error_matches(function() cws.spawn() end, "bad argument #1 to 'spawn' %(function expected, got no value%)")
    assert.error_matches(function() cws.spawn({}) end, "function expected, got table")
  end)

  it("runs C functions, and functions that return at once", function()
    assert.same({ true, "3" }, { cws.spawn(tostring, 3):join() })
    assert.same({ true }, { cws.spawn(function() end):join() })
  end)

  it("leaves nothing behind of ten thousand tasks", function()
    local sum, tasks = 0, {}
    for i = 1, 10000 do
      tasks[i] = cws.spawn(function()
        cws.sleep(0)
        sum = sum + 1
      end)
    end
    for _, task in ipairs(tasks) do task:join() end
    assert.equal(10000, sum)
    assert.equal(0, select(2, core.counts()))
  end)

  it("keeps a task that nobody refers to", function()
    local done = false
    cws.spawn(function()
      cws.sleep(0.01)
      done = true
    end)
    collectgarbage()
    collectgarbage()
    cws.run()
    assert.is_true(done)
  end)
end)

describe("an error in a task", function()
  net.guard()

  it("is logged once with its traceback, and ends only this task", function()
    local lines = net.log()
    local done
    local task = cws.spawn(function()
      local function inner() error("boom") end
      inner()
    end)
    cws.spawn(function() done = true end)
    cws.step()
    assert.is_true(done)
    assert.equal(1, #lines)
    assert.matches("task_spec.lua:%d+: boom\nstack traceback:\n.*in upvalue 'inner'", (lines[1]:gsub("local", "upvalue")))
    assert.same({ nil, "internal" }, { (task:join()), select(3, task:join()) })
    assert.matches("^task: .*task_spec.lua:%d+: boom$", (select(2, task:join())))
    assert.equal(1, #lines)
  end)

  it("may be any value", function()
    local lines = net.log()
    local shown = setmetatable({}, { __tostring = function() return "shown" end })
    for i, case in ipairs({
      { nil, "^nil\n" }, { 42, "^42\n" }, { {}, "^table: 0x%x+\n" }, { shown, "^shown\n" }, { "", "^\n" },
    }) do
      local _, message, kind = cws.spawn(function() error(case[1], 0) end):join()
      assert.matches(case[2], lines[i])
      assert.matches("^task: ", message)
      assert.equal("internal", kind)
    end
    assert.equal(5, #lines)
  end)

  it("whose __tostring raises is logged as well", function()
    local lines = net.log()
    local bad = setmetatable({}, { __tostring = function() error("no text") end })
    local _, message, kind = cws.spawn(function() error(bad) end):join()
    assert.equal(1, #lines)
    assert.matches("__tostring raises.*\nstack traceback:", lines[1])
    assert.same({ "task: an error whose __tostring raises", "internal" }, { message, kind })
  end)

  it("closes its variables, the last first", function()
    net.log()
    local log = {}
    local function closing(name)
      return setmetatable({}, { __close = function(_, err) log[#log + 1] = name .. " " .. tostring(err) end })
    end
    local task = cws.spawn(function()
      local a <close> = closing("a")
      local b <close> = closing("b")
      cws.sleep(0)
      error("boom", 0)
    end)
    task:join()
    assert.same({ "b boom", "a boom" }, log)
  end)

  it("in a variable's __close ends nothing else", function()
    local lines = net.log()
    local closed
    cws.spawn(function()
      local a <close> = setmetatable({}, { __close = function() closed = true end })
      local b <close> = setmetatable({}, { __close = function() error("second") end })
      error("first")
    end):join()
    assert.is_true(closed)
    assert.matches("first", lines[1])
  end)

  it("does not stop when the log raises", function()
    cws.log = function() error("no log") end
    local stderr = io.stderr
    io.stderr = { write = function() end } ---@diagnostic disable-line: assign-type-mismatch
    local _, _, kind = cws.spawn(function() error("boom") end):join()
    io.stderr = stderr
    assert.equal("internal", kind)
  end)
end)

describe("join", function()
  net.guard()

  it("gives the results, as often as it is called", function()
    local task = cws.spawn(function() return 1, nil, "x", nil end)
    for _ = 1, 2 do
      assert.same({ n = 5, true, 1, nil, "x", nil }, table.pack(task:join()))
    end
  end)

  net.it("waits in a task, for all that ask", function()
    local task = cws.spawn(function()
      cws.sleep(0.01)
      return "result"
    end)
    local others = {}
    for i = 1, 3 do
      others[i] = cws.spawn(function() return task:join() end)
    end
    for _, other in ipairs(others) do
      assert.same({ true, true, "result" }, { other:join() })
    end
  end)

  it("ends at its timeout and leaves the task alone", function()
    local ch = cws.channel()
    local task = cws.spawn(function() return ch:receive() end)
    assert.same({ nil, "timeout", "timeout" }, { task:join(0) })
    assert.same({ nil, "timeout", "timeout" }, { task:join(0.01) })
    cws.spawn(function() ch:send("late") end)
    assert.same({ true, "late" }, { task:join(math.huge) })
  end)

  it("of itself raises", function()
    net.log()
    local task
    task = cws.spawn(function() task:join() end)
    assert.matches("a task cannot join itself", (select(2, task:join())))
  end)

  it("raises for a bad timeout", function()
    local task = cws.spawn(function() end)
    for _, bad in ipairs({ -1, 0 / 0, 1e10 }) do
      assert.error_matches(function() task:join(bad) end, "bad argument #1 to 'join' %(seconds from 0 to 1e9")
    end
    assert.error_matches(function() task:join("1") end, "bad argument #1 to 'join' %(number expected, got string%)")
    assert.error_matches(function() task.join({}) end, "cws.task expected, got table")
    cws.run()
  end)
end)

describe("cancel", function()
  net.guard()

  it("ends the wait of the moment, and no other", function()
    local results = {}
    local task = cws.spawn(function()
      results[1] = { cws.sleep(60) }
      results[2] = { cws.sleep(0.001) }
    end)
    cws.step()
    task:cancel()
    task:cancel()
    task:join(5)
    assert.same({ { nil, "sleep: task cancelled", "closed" }, { true } }, results)
  end)

  it("ends the next wait of a task that runs or has not started", function()
    local results = {}
    local task = cws.spawn(function()
      results[1] = { cws.channel():receive() }
      results[2] = { cws.sleep(0.001) }
    end)
    task:cancel()
    task:join(5)
    assert.same({ { nil, "receive: task cancelled", "closed" }, { true } }, results)
  end)

  it("of an ended task does nothing", function()
    local task = cws.spawn(function() end)
    task:join()
    task:cancel()
    assert.same({ true }, { task:join() })
  end)

  net.it("of itself is for its next wait", function()
    local task
    task = cws.spawn(function()
      task:cancel()
      return cws.sleep(60)
    end)
    assert.same({ true, nil, "sleep: task cancelled", "closed" }, { task:join(5) })
  end)

  net.it("ends a join, a select and a wait with a timeout", function()
    local never = cws.channel()
    local sleeper = cws.spawn(function() never:receive() end)
    for name, wait in pairs({
      join = function() return sleeper:join() end,
      select = function() return cws.select({ never, timeout = 60 }) end,
      send = function() return never:send(1, 60) end,
    }) do
      if name == "send" then sleeper:cancel() end
      local task = cws.spawn(wait)
      if name ~= "send" then
        cws.sleep(0)
        task:cancel()
        assert.same({ true, nil, name .. ": task cancelled", "closed" }, { task:join(5) })
      end
      if name == "send" then
        sleeper:join()
        task:cancel()
        assert.same({ true, nil, "send: task cancelled", "closed" }, { task:join(5) })
        sleeper = cws.spawn(function() never:receive() end)
      end
    end
    sleeper:cancel()
    sleeper:join()
  end)

  net.it("after the wait is over but before the task goes on, wins", function()
    local ch = cws.channel(1)
    local task = cws.spawn(function() return cws.sleep(0.001) end)
    cws.spawn(function()
      local until_ = cws.now() + 0.01
      while cws.now() < until_ do end -- the timer is due when the loop turns
      task:cancel()
      ch:send(true)
    end)
    ch:receive()
    assert.same({ true, nil, "sleep: task cancelled", "closed" }, { task:join(5) })
  end)
end)

describe("tostring of a task", function()
  net.guard()

  it("tells its state", function()
    local inside
    local task
    task = cws.spawn(function()
      inside = tostring(task)
      cws.sleep(0.001)
    end)
    cws.step()
    assert.matches("^cws.task: 0x%x+ %(running%)$", inside)
    assert.matches("%(waiting%)$", tostring(task))
    task:join()
    assert.matches("%(ended%)$", tostring(task))
    assert.equal("locked", getmetatable(task))
  end)
end)

describe("sleep", function()
  net.guard()

  net.it("takes its time, and others go on meanwhile", function()
    local log = {}
    local tasks = {}
    for _, seconds in ipairs({ 0.03, 0.01, 0.02 }) do
      tasks[#tasks + 1] = cws.spawn(function()
        assert.is_true(cws.sleep(seconds))
        log[#log + 1] = seconds
      end)
    end
    local start = cws.now()
    for _, task in ipairs(tasks) do task:join() end
    assert.is_true(cws.now() - start >= 0.0299)
    assert.same({ 0.01, 0.02, 0.03 }, log)
  end)

  net.it("of 0 lets the others go first", function()
    local log = {}
    local other = cws.spawn(function() log[#log + 1] = "other" end)
    cws.sleep(0)
    log[#log + 1] = "self"
    other:join()
    assert.same({ "other", "self" }, log)
  end)

  it("drives the loop in the main program", function()
    local count = 0
    local task = cws.spawn(function()
      for _ = 1, 3 do
        cws.sleep(0.001)
        count = count + 1
      end
    end)
    assert.is_true(cws.sleep(0.1))
    assert.equal(3, count)
    task:join()
  end)

  it("raises for what are no seconds", function()
    for _, bad in ipairs({ -1, 0 / 0, 1e10 }) do
      assert.error_matches(function() cws.sleep(bad) end, "bad argument #1 to 'sleep' %(seconds from 0 to 1e9")
    end
    assert.error_matches(function() cws.sleep("1") end, "number expected, got string")
    assert.error_matches(function() cws.sleep() end, "number expected, got no value")
  end)
end)

describe("waiting", function()
  net.guard()

  -- A receive from a channel that nobody sends to.
  local function wait()
    return cws.channel():receive()
  end

  net.it("yields in a task, also inside pcall, iterators and metamethods", function()
    local log = {}
    local other = cws.spawn(function()
      for i = 1, 6 do
        log[#log + 1] = i
        cws.sleep(0)
      end
    end)
    local object = setmetatable({}, {
      __index = function(_, key) return cws.sleep(0.001) and key end,
      __add = function() return cws.sleep(0.001) and "sum" end,
      __close = function() log.closed = cws.sleep(0.001) end,
    })
    assert.same({ true, true }, { pcall(cws.sleep, 0.001) })
    assert.same({ false, "after a wait" }, { pcall(function()
      cws.sleep(0.001)
      error("after a wait", 0)
    end) })
    assert.same({ false, "handled" }, { xpcall(function()
      cws.sleep(0.001)
      error("x")
    end, function() return "handled" end) })
    assert.equal("field", object.field)
    assert.equal("sum", object + 1)
    do local closing <close> = object end
    assert.is_true(log.closed)
    for value in function(_, last) return not last and cws.sleep(0.001) or nil end do
      assert.is_true(value)
    end
    other:join()
    assert.equal(6, #log)
  end)

  it("drives the loop in the main program and in a coroutine of its own", function()
    local ch = cws.channel()
    cws.spawn(function() ch:send("to main") end)
    assert.equal("to main", ch:receive())
    cws.spawn(function() ch:send("to a coroutine") end)
    assert.equal("to a coroutine", coroutine.wrap(function() return ch:receive() end)())
  end)

  it("drives the loop where the main program could not yield", function()
    local list = { 3, 1, 2 }
    table.sort(list, function(a, b) return cws.sleep(0) and a < b end)
    assert.same({ 1, 2, 3 }, list)
  end)

  local function check_raises(fn)
    local ok, message = pcall(fn)
    assert.is_false(ok)
    assert.matches("cannot wait here: [^%c]+; use cws.spawn$", message)
  end

  net.it("raises in a coroutine that cws did not start", function()
    check_raises(coroutine.wrap(wait))
    check_raises(coroutine.wrap(function() cws.sleep(1) end))
    check_raises(coroutine.wrap(function() cws.spawn(function() end):join() end))
  end)

  net.it("raises in a sort comparator, a gsub, a tostring and a load", function()
    check_raises(function() table.sort({ 3, 1, 2 }, wait) end)
    check_raises(function() return (("x"):gsub("x", wait)) end)
    check_raises(function() return tostring(setmetatable({}, { __tostring = wait })) end)
    check_raises(function() return assert(load(wait)) end)
  end)

  net.it("raises in a finalizer", function()
    local ok, message
    setmetatable({}, { __gc = function() ok, message = pcall(wait) end })
    collectgarbage()
    collectgarbage()
    assert.is_false(ok)
    assert.matches("cannot wait here: .*; use cws.spawn", message)
  end)

  it("raises in a __close that runs after an error, where nothing could go on", function()
    net.log()
    local ok, message
    cws.spawn(function()
      local a <close> = setmetatable({}, { __close = function() ok, message = pcall(wait) end })
      error("boom")
    end):join()
    assert.is_false(ok)
    assert.matches("cannot wait here: ", message)
  end)

  net.it("raises only if it would have to wait", function()
    local ch = cws.channel(1)
    ch:send("there")
    local done = cws.spawn(function() return "done" end)
    done:join()
    local function calls()
      return { ch:receive(), { done:join() }, { ch:receive(0) }, cws.sleep(0) }
    end
    assert.same({ "there", { true, "done" }, { nil, "timeout", "timeout" }, true }, coroutine.wrap(calls)())
  end)

  net.it("raises in run and step: loops never nest", function()
    check_raises(function() cws.run() end)
    check_raises(function() cws.run(function() end) end)
    check_raises(function() cws.step() end)
    check_raises(coroutine.wrap(function() cws.step() end))
  end)

  it("raises a deadlock in the main program when nothing could end it", function()
    assert.error_matches(wait, "deadlock: .* nothing is left that could end this wait")
    local task = cws.spawn(wait)
    assert.error_matches(function() task:join() end, "deadlock: join: nothing is left that could end this wait")
    assert.error_matches(function() cws.run() end, "deadlock: run: all tasks wait")
    assert.error_matches(coroutine.wrap(wait), "deadlock")
    assert.same({ nil, "timeout", "timeout" }, { task:join(0.001) })
    task:cancel()
    cws.run()
  end)

  it("sees no deadlock while a timer could end it", function()
    assert.is_number(cws.after(0.01):receive())
    local ch = cws.channel()
    cws.spawn(function()
      cws.sleep(0.01)
      ch:send("late")
    end)
    assert.equal("late", ch:receive())
  end)

  it("sees a deadlock where a signal was watched once", function()
    local signals = cws.signal("USR1")
    cws.run(function() signals:stop() end)
    assert.error_matches(wait, "deadlock")
    local other
    cws.run(function() other = cws.signal("USR1") end)
    other:stop()
    assert.is_number(cws.after(0.001):receive())
    assert.error_matches(wait, "deadlock")
    local last = cws.signal("USR1")
    local stuck = cws.spawn(function()
      last:stop()
      wait()
    end)
    assert.error_matches(wait, "deadlock") -- the watch ends while this waits
    stuck:cancel()
    cws.run()
  end)

  net.it("lets others go first at a bare yield", function()
    local log = {}
    local a = cws.spawn(function()
      for i = 1, 2 do
        log[#log + 1] = "a" .. i
        assert.equal(0, select("#", coroutine.yield("ignored")))
      end
    end)
    local b = cws.spawn(function() log[#log + 1] = "b" end)
    a:join()
    b:join()
    assert.same({ "a1", "b", "a2" }, log)
  end)
end)

-- What a program can do to a coroutine of ours that it got hold of.
describe("a task whose coroutine the program takes", function()
  net.guard()

  ---A task that waits as fn says, and its coroutine.
  local function start(fn, ...)
    local co
    local task = cws.spawn(function(...)
      co = coroutine.running()
      return fn(...)
    end, ...)
    cws.step()
    return task, co
  end

  local taken = "task: the coroutine was closed or resumed by the program"

  it("and closes while it waits, ends with an error", function()
    local lines = net.log()
    local closed
    local task, co = start(function()
      local a <close> = setmetatable({}, { __close = function() closed = true end })
      cws.sleep(0.01)
    end)
    assert.is_true(coroutine.close(co))
    assert.is_true(closed)
    assert.same({ nil, taken, "internal" }, { task:join(5) })
    assert.equal(1, #lines)
    assert.matches("^the coroutine was closed or resumed by the program", lines[1])
  end)

  it("and closes at a bare yield, ends with an error", function()
    net.log()
    local task, co = start(coroutine.yield)
    coroutine.close(co)
    assert.same({ nil, taken, "internal" }, { task:join(5) })
  end)

  it("and resumes while it waits, fails there", function()
    local lines = net.log()
    local task, co = start(function() cws.sleep(0.01) end)
    local ok, message = coroutine.resume(co)
    assert.is_false(ok)
    assert.matches("cannot wait here: this coroutine was resumed by the program", message)
    local _, why, kind = task:join(5)
    assert.matches("^task: ", why)
    assert.equal("internal", kind)
    assert.equal(1, #lines)
  end)

  it("and resumes at a bare yield to its end, ends with an error", function()
    net.log()
    local task, co = start(function() return coroutine.yield("out") end)
    assert.same({ true, "in" }, { coroutine.resume(co, "in") })
    assert.same({ nil, taken, "internal" }, { task:join(5) })
  end)

  it("and resumes at a bare yield, may drive the loop with it", function()
    local lines = net.log()
    local task, co = start(function()
      coroutine.yield()
      assert(cws.sleep(0.01)) -- the turn in which its own job runs
      return "result"
    end)
    assert.same({ true, "result" }, { coroutine.resume(co) })
    assert.same({ nil, taken, "internal" }, { task:join(5) })
    assert.equal(1, #lines)
  end)

  net.it("and resumes in another task, cannot wait there", function()
    net.log()
    local co
    local task = cws.spawn(function()
      co = coroutine.running()
      coroutine.yield()
      return pcall(cws.sleep, 0.01)
    end)
    cws.spawn(function()
      local _, ok, message = coroutine.resume(co)
      assert.is_false(ok)
      assert.matches("cannot wait here", message)
    end):join()
    assert.same({ nil, taken, "internal" }, { task:join(5) })
  end)

  it("and closes while it joins, connects or waits for a channel, leaves no trace", function()
    net.log()
    local never = cws.channel()
    local other = cws.spawn(function() never:receive() end)
    local server, url = net.serve({ ["/"] = function() cws.sleep(0.2) end })
    for _, fn in ipairs({
      function() other:join() end,
      function() cws.connect(url) end,
      function() cws.channel():receive() end,
      function() server:serve() end,
    }) do
      local task, co = start(fn)
      coroutine.close(co)
      collectgarbage()
      collectgarbage()
      task:cancel()
      assert.same({ nil, taken, "internal" }, { task:join(5) })
    end
    assert.is_false(core.is_watched("INT"))
    other:cancel()
    other:join()
    server:stop(0)
  end)
end)

describe("a wait that ends with an error", function()
  net.guard()

  net.it("leaves its timeout to no other", function()
    net.pair(function(ws, peer)
      cws.spawn(function()
        peer:send("one")
        core.fail("memory", 1)
      end)
      local ok, message = pcall(ws.reader, ws, 0.05)
      core.fail("memory", 0)
      assert.same({ false, "not enough memory" }, { ok, message })
      cws.spawn(function()
        cws.sleep(0.1)
        peer:send("two")
      end)
      assert.same({ "two", "text" }, { ws:receive() })
    end)
  end)
end)
