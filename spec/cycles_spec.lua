-- The same again and again: nothing may stay.
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")

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

-- Entries of the registry, where an anchor that is forgotten stays.
local function count_anchors()
  local count = 0
  for _ in pairs(debug.getregistry()) do count = count + 1 end
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

describe("many cycles", function()
  net.guard()

  -- What is left after `times` of fn(i): fds, anchors, KiB of Lua, KiB of all.
  local function measure(fn, times, live, tasks)
    for i = 1, times do fn(i) end
    wait_until(function()
      collect()
      local now_live, now_tasks = core.counts()
      return now_live <= live and now_tasks <= tasks
    end, "something stays open")
    local left = { fds = count_fds(), anchors = count_anchors(), all = net.resident() }
    collect() -- what counting left behind: 200 KiB of names and messages
    left.lua = collectgarbage("count")
    return left
  end

  local function grows_not(fn, times)
    local live, tasks = core.counts()
    measure(fn, times // 20, live, tasks)
    local before = measure(fn, times // 20, live, tasks)
    local after = measure(fn, times, live, tasks)
    assert.equal(before.fds, after.fds)
    assert.is_true(after.anchors <= before.anchors + 4, "registry: " .. after.anchors - before.anchors)
    assert.is_true(after.lua - before.lua < 64, "Lua: " .. after.lua - before.lua .. " KiB")
    if net.slow == 1 then -- a sanitizer keeps what was freed
      assert.is_true(after.all - before.all < 512, "resident: " .. after.all - before.all .. " KiB")
    end
  end

  net.it("20,000 times connect, echo and close, B255", function()
    local server, url = net.serve({ ["/"] = echo })
    local parallel = 20
    grows_not(function()
      local tasks = {}
      for i = 1, parallel do
        tasks[i] = cws.spawn(function()
          local ws = assert(cws.connect(url .. "/"))
          ws:send("message")
          assert(ws:receive() == "message")
          if i % 5 == 0 then
            ws:terminate()
          elseif i % 5 == 1 then
            return -- dropped
          else
            ws:close()
          end
        end)
      end
      for _, task in ipairs(tasks) do
        assert(task:join())
      end
    end, 20000 // parallel // net.slow)
    server:stop(1)
  end, 60)

  net.it("requests, refused upgrades, handlers that raise", function()
    cws.log = function() end -- the guard puts it back
    local server, url = net.serve({
      ["/"] = function(_, res) res:write("x") end,
      ["/raise"] = function() error("x") end,
      ["/ws"] = function(req)
        assert(req:upgrade())
        error("x")
      end,
    })
    grows_not(function(i)
      local path = ({ "/", "/raise", "/ws", "/none" })[i % 4 + 1]
      local ws = cws.connect(url .. path)
      if ws then ws:receive() end
    end, 2000 // net.slow)
    server:stop(1)
  end, 60)

  net.it("tasks, sleeps, channels, tickers, signals", function()
    grows_not(function(i)
      local ch, done = cws.channel(i % 2), cws.channel()
      cws.spawn(function()
        ch:send(i)
        done:close()
      end)
      assert(cws.select({ ch, timeout = 5 }) == ch)
      done:receive()
      cws.ticker(1)
      cws.after(0.0001)
      if i % 50 == 0 then cws.signal("USR1", "USR2") end
      local task = cws.spawn(cws.sleep, 100)
      task:cancel()
      assert(task:join())
      if i % 100 == 0 then collect() end -- a table that once was large stays so
    end, 10000 // net.slow)
  end, 60)

  net.it("servers that listen and stop", function()
    grows_not(function()
      local server, url = net.serve({ ["/"] = echo })
      local ws = assert(cws.connect(url .. "/"))
      ws:terminate()
      server:stop(1)
    end, 500 // net.slow)
  end, 60)
end)
