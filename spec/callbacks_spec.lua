local callbacks = require("cws.callbacks")

-- Runs events as C does; returns what was logged and how the connection closed.
local function run(events)
  local logged, closes, at = {}, {}, 0
  local ws = {
    close = function(_, ...) closes[#closes + 1] = { ... } end,
  }
  callbacks.runner(function(line) logged[#logged + 1] = line end)(ws, function()
    at = at + 1
    return table.unpack(events[at] or {})
  end)
  return logged, closes
end

describe("callbacks", function()
  it("run in order with their arguments", function()
    local seen = {}
    local function note(...) seen[#seen + 1] = table.pack(...) end
    local logged, closes = run({ { "on_ping", note, "a" }, { "on_pong", note, "b", 0.5 },
      { "on_close", note, 1000, "", true } })
    assert.same({ { n = 1, "a" }, { n = 2, "b", 0.5 }, { n = 3, 1000, "", true } }, seen)
    assert.same({}, logged)
    assert.same({}, closes)
  end)

  it("that raise are logged with a traceback and close with 1011; the next one runs", function()
    local later
    local logged, closes = run({
      { "on_ping", function() error("oops") end, "" },
      { "on_close", function(code) later = code end, 1011, "", false },
    })
    assert.equal(1, #logged)
    assert.truthy(logged[1]:find("oops\nstack traceback:", 1, true), logged[1])
    assert.same({ { 1011, "callback failed", 0 } }, closes)
    assert.equal(1011, later)
  end)

  it("may raise anything", function()
    local hostile = setmetatable({}, { __tostring = function() error("no") end })
    local logged = run({
      { "on_ping", function() error() end },
      { "on_ping", function() error({}) end },
      { "on_ping", function() error(hostile) end },
    })
    assert.equal(3, #logged)
    assert.truthy(logged[1]:find("^nil\n"))
    assert.truthy(logged[2]:find("^table: "))
    assert.truthy(logged[3]:find("__tostring raises", 1, true))
  end)

  it("may yield", function()
    local done
    local co = coroutine.wrap(function()
      run({ { "on_ping", function() done = coroutine.yield("waiting") end } })
    end)
    assert.equal("waiting", co())
    co("yes")
    assert.equal("yes", done)
  end)
end)
