local core = require("cws.core")
local timers = require("cws.timers")

describe("ticker", function()
  it("delivers cws.now() again and again, until stopped", function()
    local start = core.now()
    local ticker = timers.ticker(0.01)
    local first, second = ticker:receive(5), ticker:receive(5)
    assert.truthy(first >= start + 0.009, first - start)
    assert.truthy(second > first)
    ticker:stop()
    ticker:stop()
    ticker:receive(0) -- one may have come meanwhile
    assert.same({ nil, "timeout", "timeout" }, { ticker:receive(0.05) })
  end)

  it("holds one value and drops more", function()
    local ticker = timers.ticker(0.005)
    core.sleep(0.05)
    ticker:stop()
    assert.equal("number", type(ticker:receive(0)))
    assert.same({ nil, "timeout", "timeout" }, { ticker:receive(0) })
  end)

  it("raises for a bad interval", function()
    for _, bad in ipairs({ 0, -1, 0 / 0, math.huge }) do
      assert.error_matches(function() timers.ticker(bad) end, "bad argument #1 to 'ticker' %(seconds above 0")
    end
    assert.error_matches(function() timers.ticker() end, "bad argument #1 to 'ticker' %(number expected, got no value%)")
  end)

  it("that nobody holds ends with its timer", function()
    collectgarbage()
    local before = core.step(0)
    local weak = setmetatable({ timers.ticker(1000) }, { __mode = "v" })
    assert.is_true(core.step(0))
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak[1])
    assert.equal(before, core.step(0)) -- not one more to wait for
  end)
end)

describe("after", function()
  it("delivers cws.now() once", function()
    local start = core.now()
    local after = timers.after(0.01)
    assert.truthy(after:receive(5) >= start + 0.009)
    assert.same({ nil, "timeout", "timeout" }, { after:receive(0.03) })
  end)

  it("with 0 comes at once, with math.huge never", function()
    assert.equal("number", type(timers.after(0):receive(5)))
    assert.same({ nil, "timeout", "timeout" }, { timers.after(math.huge):receive(0.01) })
  end)

  it("can be stopped", function()
    local after = timers.after(0.01)
    after:stop()
    assert.same({ nil, "timeout", "timeout" }, { after:receive(0.05) })
  end)

  it("raises for bad seconds", function()
    for _, bad in ipairs({ -1, 0 / 0, 1e10 }) do
      assert.error_matches(function() timers.after(bad) end, "bad argument #1 to 'after' %(seconds from 0")
    end
    assert.error_matches(function() timers.after("1") end, "number expected, got string")
  end)
end)

describe("signal", function()
  -- The process id, from the shell that this process starts.
  local function kill(name)
    assert(os.execute("kill -" .. name .. " $PPID"))
  end

  it("delivers the name of each signal that arrives", function()
    local signals = timers.signal("USR1", "USR2")
    kill("USR2")
    assert.equal("USR2", signals:receive(5))
    kill("USR1")
    assert.equal("USR1", signals:receive(5))
    signals:stop()
  end)

  it("tells who watches until it is stopped", function()
    local one, two = timers.signal("INT"), timers.signal("INT")
    assert.is_true(timers.is_watched("INT"))
    one:stop()
    one:stop()
    assert.is_true(timers.is_watched("INT"))
    two:stop()
    assert.is_false(timers.is_watched("INT"))
    assert.is_false(timers.is_watched("TERM"))
  end)

  it("that nobody holds is no watch", function()
    timers.signal("USR1")
    collectgarbage()
    collectgarbage()
    assert.is_false(timers.is_watched("USR1"))
  end)

  it("does not keep run alive", function()
    local signals = timers.signal("USR1")
    assert.is_true(core.run())
    signals:stop()
  end)

  it("raises for a name that is none, and then watches nothing", function()
    assert.error_matches(function() timers.signal("USR1", "NOPE") end,
      "^bad argument #2 to 'signal' %(name of a signal that can be watched expected .*%)$")
    assert.error_matches(function() timers.signal("KILL") end, "^bad argument #1 to 'signal' %(name of a signal")
    assert.error_matches(function() timers.signal() end, "bad argument #1 to 'signal' %(string expected, got no value%)")
    assert.is_false(timers.is_watched("USR1"))
  end)
end)
