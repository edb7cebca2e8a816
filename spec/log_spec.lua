local log = require("cws.log")

-- What log.write puts on stderr, which a pipe stands in for.
local function written(...)
  local real, out = io.stderr, {}
  io.stderr = { write = function(_, ...) out[#out + 1] = table.concat({ ... }) end } -- luacheck: ignore 122
  local ok, err = pcall(log.write, ...)
  io.stderr = real -- luacheck: ignore 122
  assert(ok, err)
  assert.equal(1, #out) -- one write: lines of several processes do not mix
  return out[1]
end

describe("log", function()
  it("writes its arguments with spaces between", function()
    assert.equal("recv: hello 1 nil true\n", written("recv:", "hello", 1, nil, true))
    assert.equal("\n", written())
    assert.equal("a nil\n", written("a", nil))
  end)

  it("escapes control bytes", function()
    assert.equal("a\\x0Ab\\x1B[31m\\x00\\x0D\\x7F\n", written("a\nb\27[31m\0\r\127"))
  end)

  it("keeps UTF-8 and escapes what is none", function()
    assert.equal("päge \\xFF\n", written("päge \xff"))
  end)

  it("cuts at 512 bytes, never half an escape", function()
    local line = written(("x"):rep(1 << 20))
    assert.truthy(#line <= 513 and #line > 500, #line)
    line = written(("\n"):rep(1 << 20))
    assert.truthy(#line <= 513 and #line > 500, #line)
    assert.equal("", (line:gsub("\\x0A", ""):gsub("%.*\n$", "")))
  end)

  it("survives values whose __tostring raises", function()
    local hostile = setmetatable({}, { __tostring = function() error("no") end })
    assert.equal("a (a table whose __tostring raises)\n", written("a", hostile))
  end)

  it("makes tracebacks of any error", function()
    local _, text = xpcall(function() error("oops", 0) end, log.traceback)
    assert.truthy(text:find("^oops\nstack traceback:\n"))
    _, text = xpcall(function() error(nil) end, log.traceback)
    assert.truthy(text:find("^nil\nstack traceback:\n"))
  end)
end)
