local channel = require("cws.channel")
local core = require("cws.core")

describe("channel", function()
  it("keeps the order of values", function()
    local ch = channel.new(3)
    for i = 1, 3 do assert.is_true(ch:send(i)) end
    assert.equal(1, ch:receive())
    assert.is_true(ch:send(4))
    for i = 2, 4 do assert.equal(i, ch:receive()) end
  end)

  it("sends false", function()
    local ch = channel.new(1)
    assert.is_true(ch:send(false))
    assert.same({ n = 1, false }, table.pack(ch:receive()))
  end)

  it("raises for nil, a bad capacity, a bad timeout", function()
    local ch = channel.new(1)
    assert.error_matches(function() ch:send(nil) end, "bad argument #1 to 'send' %(value expected, got no value%)")
    for _, capacity in ipairs({ -1, 1.5, 0 / 0 }) do
      assert.error_matches(function() channel.new(capacity) end, "bad argument #1 to 'channel' %(integer from 0 expected%)")
    end
    assert.error_matches(function() channel.new("1") end, "number expected, got string")
    for _, timeout in ipairs({ -1, 0 / 0, 1e308 }) do
      assert.error_matches(function() ch:receive(timeout) end, "bad argument #1 to 'receive' %(seconds from 0")
      assert.error_matches(function() ch:send(1, timeout) end, "bad argument #2 to 'send' %(seconds from 0")
    end
    assert.error_matches(function() ch:receive("1") end, "bad argument #1 to 'receive' %(number expected, got string%)")
  end)

  it("waits while it is full or empty, at most the timeout", function()
    local ch = channel.new(1)
    assert.same({ nil, "timeout", "timeout" }, { ch:receive(0) })
    assert.same({ nil, "timeout", "timeout" }, { ch:receive(0.01) })
    ch:send(1)
    assert.same({ nil, "timeout", "timeout" }, { ch:send(2, 0) })
    assert.same({ nil, "timeout", "timeout" }, { ch:send(2, 0.01) })
    assert.equal(1, ch:receive())
    assert.same({ nil, "timeout", "timeout" }, { ch:receive(0) }) -- 2 was not left behind
  end)

  it("with capacity 0 is a rendezvous", function()
    local ch, log = channel.new(), {}
    local task = core.spawn(function()
      log[#log + 1] = "sending"
      ch:send("a")
      log[#log + 1] = "sent"
    end)
    local other = core.spawn(function() log[#log + 1] = "other" end)
    other:join()
    assert.same({ "sending", "other" }, log)
    assert.equal("a", ch:receive())
    task:join()
    assert.same({ "sending", "other", "sent" }, log)
  end)

  it("serves who waits first, first", function()
    local ch, log, tasks = channel.new(), {}, {}
    for i = 1, 3 do
      tasks[i] = core.spawn(function() log[i] = ch:receive() end)
    end
    local last = core.spawn(function()
      for i = 1, 3 do ch:send(i * 10) end
    end)
    last:join()
    for _, task in ipairs(tasks) do task:join() end
    assert.same({ 10, 20, 30 }, log)
  end)

  it("hands over between tasks in both directions", function()
    for _, capacity in ipairs({ 0, 1, 7 }) do
      local ch, sum = channel.new(capacity), 0
      local producer = core.spawn(function()
        for i = 1, 100 do ch:send(i) end
        ch:close()
      end)
      local count = 0
      for value in ch:each() do
        count = count + 1
        assert.equal(count, value)
        sum = sum + value
      end
      producer:join()
      assert.equal(5050, sum)
    end
  end)

  it("closed: gives what it holds, then the end", function()
    local ch = channel.new(2)
    ch:send(1)
    ch:send(2)
    ch:close()
    ch:close()
    assert.same({ nil, "send: the channel is closed", "closed" }, { ch:send(3) })
    assert.equal(1, ch:receive())
    assert.equal(2, ch:receive())
    assert.same({ nil, "receive: the channel is closed", "closed" }, { ch:receive() })
    assert.same({ nil, "receive: the channel is closed", "closed" }, { ch:receive(0) })
  end)

  it("closed: ends all who wait", function()
    local ch, ends = channel.new(), {}
    local receivers = {}
    for i = 1, 2 do
      receivers[i] = core.spawn(function() ends[i] = { ch:receive() } end)
    end
    local full = channel.new()
    local sender = core.spawn(function() ends[3] = { full:send(1) } end)
    core.spawn(function()
      ch:close()
      full:close()
    end):join()
    for _, task in ipairs(receivers) do task:join() end
    sender:join()
    assert.same({ nil, "receive: the channel is closed", "closed" }, ends[1])
    assert.same(ends[1], ends[2])
    assert.same({ nil, "send: the channel is closed", "closed" }, ends[3])
  end)

  it("a cancel that comes after the value ends the next wait", function()
    local ch, results = channel.new(), {}
    local task = core.spawn(function()
      results[1] = { ch:receive() }
      results[2] = { core.sleep(60) }
    end)
    core.spawn(function()
      ch:send("given")
      task:cancel()
    end)
    assert.is_true(task:join(5))
    assert.same({ { "given" }, { nil, "sleep: task cancelled", "closed" } }, results)
  end)

  it("gives a cancelled task the kind closed, and it nothing to others' loss", function()
    local ch, result = channel.new(), nil
    local task = core.spawn(function() result = { ch:receive() } end)
    core.spawn(function() task:cancel() end):join()
    task:join()
    assert.is_nil(result[1])
    assert.equal("closed", result[3])
    assert.truthy(result[2]:find("^receive: "), result[2])
    local getter = core.spawn(function() result = { ch:receive() } end)
    local sender = core.spawn(function() ch:send("kept") end)
    sender:join()
    getter:join()
    assert.same({ "kept" }, result)
  end)

  it("raises a deadlock where nobody could ever send, and takes its case back", function()
    local ch = channel.new()
    assert.error_matches(function() ch:receive() end, "deadlock: receive: ")
    assert.error_matches(function() channel.select({ ch }) end, "deadlock: select: ")
    assert.same({ nil, "timeout", "timeout" }, { ch:send(1, 0) })
  end)

  it("offers without waiting", function()
    local ch = channel.new(1)
    assert.is_true(ch:offer(1))
    assert.is_false(ch:offer(2))
    assert.equal(1, ch:receive())
    ch:close()
    assert.is_false(ch:offer(3))
  end)

  it("shows itself", function()
    local ch = channel.new(2)
    ch:send(1)
    assert.truthy(tostring(ch):find("^cws%.channel: 0x%x+ %(1 of 2%)$"))
    ch:close()
    assert.truthy(tostring(ch):find("closed"))
  end)
end)

describe("select", function()
  it("takes the one that is ready", function()
    local a, b = channel.new(1), channel.new(1)
    b:send("x")
    assert.same({ b, "x", true }, { channel.select({ a, b }) })
  end)

  it("sends where there is room", function()
    local full, free = channel.new(), channel.new(1)
    assert.same({ n = 3, free, nil, true }, table.pack(channel.select({ { full, 1 }, { free, 2 } })))
    assert.equal(2, free:receive())
  end)

  it("tells a closed channel, for receiving and for sending", function()
    local ch = channel.new()
    ch:close()
    assert.same({ n = 3, ch, nil, false }, table.pack(channel.select({ ch })))
    assert.same({ n = 3, ch, nil, false }, table.pack(channel.select({ { ch, 1 } })))
  end)

  it("waits for the first of several", function()
    local a, b = channel.new(), channel.new()
    local task = core.spawn(function() b:send("late") end)
    assert.same({ b, "late", true }, { channel.select({ a, b }) })
    task:join()
    -- the losing case is gone: nobody takes what is sent to it
    assert.same({ nil, "timeout", "timeout" }, { a:send(1, 0) })
  end)

  it("waits to send, and to receive, on the same channel", function()
    local ch = channel.new()
    local got
    local task = core.spawn(function() got = ch:receive() end)
    assert.equal(ch, (channel.select({ { ch, "v" } })))
    task:join()
    assert.equal("v", got)
  end)

  it("meets another select", function()
    local a, b = channel.new(), channel.new()
    local got
    local task = core.spawn(function() got = table.pack(channel.select({ a, b })) end)
    local which = channel.select({ { b, "v" }, timeout = 1 })
    task:join()
    assert.equal(b, which)
    assert.same({ n = 3, b, "v", true }, got)
  end)

  it("ends at the timeout, polls with 0", function()
    local a = channel.new()
    assert.same({ nil, "timeout", "timeout" }, { channel.select({ a, timeout = 0 }) })
    assert.same({ nil, "timeout", "timeout" }, { channel.select({ a, timeout = 0.01 }) })
    assert.same({ nil, "timeout", "timeout" }, { channel.select({ timeout = 0.01 }) })
    assert.same({ nil, "timeout", "timeout" }, { a:send(1, 0) })
  end)

  it("skips nil and false", function()
    local a = channel.new(1)
    a:send(1)
    assert.equal(a, (channel.select({ nil, false, a })))
    assert.same({ nil, "timeout", "timeout" }, { channel.select({ nil, false, timeout = 0 }) })
  end)

  it("chooses among several ready ones with the same chance", function()
    local chs, counts = {}, { 0, 0, 0, 0 }
    for i = 1, 4 do chs[i] = channel.new(1) end
    for _ = 1, 4000 do
      for i, ch in ipairs(chs) do
        if i ~= 3 then ch:offer(i) end -- 3 is never ready
      end
      local _, value = channel.select(chs)
      counts[value] = counts[value] + 1
    end
    assert.equal(0, counts[3])
    for _, i in ipairs({ 1, 2, 4 }) do
      -- 4000/3 = 1333, standard deviation 30: six of them
      assert.truthy(counts[i] > 1150 and counts[i] < 1520, counts[i])
    end
  end)

  it("leaves the program's random numbers alone", function()
    local a, b = channel.new(1), channel.new(1)
    math.randomseed(42)
    local first = math.random(1 << 30)
    math.randomseed(42)
    a:send(1)
    b:send(1)
    channel.select({ a, b })
    assert.equal(first, math.random(1 << 30))
  end)

  it("keeps nothing of the cases that lost", function()
    local quiet, busy = channel.new(), channel.new()
    local task = core.spawn(function()
      for i = 1, 100 do busy:send(i) end
    end)
    for _ = 1, 100 do channel.select({ quiet, busy }) end
    task:join()
    assert.equal(quiet.receivers, quiet.receivers.next)
  end)

  it("raises for what is no case", function()
    local ch = channel.new()
    assert.error_matches(function() channel.select() end, "bad argument #1 to 'select' %(table expected")
    assert.error_matches(function() channel.select({ 1 }) end, "case 1 is neither a channel nor")
    assert.error_matches(function() channel.select({ ch, {} }) end, "case 2 is neither")
    assert.error_matches(function() channel.select({ { ch } }) end, "case 1 would send nil")
    assert.error_matches(function() channel.select({ ch, timout = 1 }) end, "unknown key 'timout'")
    assert.error_matches(function() channel.select({ ch, timeout = "1" }) end,
      "bad option 'timeout' to 'select' %(seconds expected, got string%)")
    assert.error_matches(function() channel.select({ ch, timeout = 0 / 0 }) end, "bad option 'timeout'")
  end)
end)
