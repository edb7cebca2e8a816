local check = require("cws.check")

-- The text of an error with its position, without the file's folder.
local function caught(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return (message:gsub("^.-([%w_]+%.lua:)%d+:", "%1"))
end

describe("check", function()
  it("raises at the caller of the function that was called wrongly", function()
    local function send(value)
      check.type(2, "send", "string", value)
    end
    local line = debug.getinfo(1, "l").currentline + 1
    local ok, message = pcall(function() send(nil) end)
    assert.is_false(ok)
    assert.truthy(message:find("check_spec.lua:" .. line .. ": ", 1, true), message)
    assert.truthy(message:find("bad argument #2 to 'send' (string expected, got no value)", 1, true))
  end)

  it("names the class of an object", function()
    local function send(value)
      check.type(1, "send", "string", value)
    end
    local object = setmetatable({}, { __name = "cws.ws" })
    local unnamed = setmetatable({}, { __name = 1 })
    local locked = setmetatable({}, { __metatable = "locked" })
    assert.equal("check_spec.lua: bad argument #1 to 'send' (string expected, got cws.ws)",
      caught(function() send(object) end))
    assert.truthy(caught(function() send(unnamed) end):find("got table", 1, true))
    assert.truthy(caught(function() send(locked) end):find("got table", 1, true))
    assert.truthy(caught(function() send(true) end):find("got boolean", 1, true))
  end)

  it("names options", function()
    local function listen(options)
      check.option_type("port", "listen", "integer", options.port)
    end
    assert.equal("check_spec.lua: bad option 'port' to 'listen' (integer expected, got string)",
      caught(function() listen({ port = "1" }) end))
  end)

  it("takes nil, 0 to 1e9 and math.huge for seconds", function()
    local function wait(seconds)
      check.seconds(1, "wait", seconds)
    end
    for _, good in ipairs({ 0, 0.5, 1e9, math.huge }) do wait(good) end
    wait(nil)
    for _, bad in ipairs({ -1, -0.001, 0 / 0, 1e10, -math.huge, "1", {} }) do
      assert.truthy(caught(function() wait(bad) end):find("^check_spec%.lua: bad argument #1 to 'wait' %("))
    end
  end)

  it("hands on what a protected call gave", function()
    assert.same({ n = 4, nil, "text", "kind", 7 },
      table.pack(check.passed("listen", 1, pcall(function() return nil, "text", "kind", 7 end))))
  end)

  it("raises an error of C again, with the name that the program called", function()
    local function listen()
      local result = check.passed("listen", 1, false, "bad argument #1 to 'cws.core.listen' (string expected)")
      return result
    end
    assert.equal("check_spec.lua: bad argument #1 to 'listen' (string expected)", caught(function()
      local result = listen()
      return result
    end))
    local object = {}
    local ok, err = pcall(check.passed, "listen", 1, false, object)
    assert.is_false(ok)
    assert.equal(object, err)
  end)
end)
