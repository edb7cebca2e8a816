local core = require("cws.core")
local net = require("spec.support.net")
local Response = require("cws.response")
local upgrade = require("cws.upgrade")

local methods = {}

-- What C does for requests of C; the one below is between as C is.
local real = { upgrader = core.upgrader, response = core.response }
local fake = {}

function fake.upgrader(fn)
  return function(req, options)
    local ws, message, kind, status = fn(req, options)
    if ws then return ws end
    return nil, message, kind, status
  end
end

function fake.response(req, keep)
  local res = req.writable
  if keep == false then req.writable = nil end
  return res
end

local function put(functions)
  for name, fn in pairs(functions) do core[name] = fn end
end

core.upgrader = fake.upgrader
upgrade.install(methods)
put(real)

function methods:check_upgrade()
  if self.refusal then return nil, self.refusal[1], "handshake", self.refusal[2] end
  return true
end

function methods:header(name)
  return name == "origin" and self.origin or nil
end

function methods:same_origin()
  return self.origin == nil or self.origin == "http://" .. self.host
end

function methods:offered_protocols()
  return self.offered or {}
end

function methods:respond(status, fields, body)
  self.answered, self.status, self.fields, self.body = true, status, fields, body
  return true
end

function methods:switch(protocol, fields, limits)
  self.answered = true
  self.switched = { protocol, fields, limits }
  self.writable = nil
  return "ws"
end

-- A request in the hands of its handler.
local function request(fields)
  local req = setmetatable(fields or {}, { __index = methods })
  req.host = req.host or "good.example"
  req.answered = false
  req.res = Response.new()
  req.writable = req.res
  return req
end

local function allows(origins, origin)
  local req = request({ origin = origin })
  local ws, message, kind, status = req:upgrade({ origins = origins })
  if ws then return true end
  assert.same({ "handshake: the Origin is not allowed", "handshake", 403 }, { message, kind, status })
  assert.same({ 403, "Forbidden\n" }, { req.status, req.body })
  return false
end

describe("upgrade", function()
  setup(function() put(fake) end)
  teardown(function() put(real) end)

  it("switches", function()
    local req = request()
    assert.equal("ws", req:upgrade())
    assert.same({}, req.switched)
    assert.same({ nil, "write: the request was upgraded", "usage" }, { req.res:write("x") })
    assert.same({ nil, "upgrade: the request is answered already", "usage" }, { req:upgrade() })
  end)

  it("answers what the protocol refuses", function()
    local req = request({ refusal = { "handshake: no key", 400 } })
    assert.same({ nil, "handshake: no key", "handshake", 400 }, { req:upgrade() })
    assert.equal(400, req.status)
    assert.is_nil(req.switched)
    assert.is_nil((req.res:write("x")))
  end)

  it("is too late after a write, too late twice", function()
    local req = request()
    req.res:write("x")
    assert.same({ nil, "upgrade: the handler has written an answer already", "usage" }, { req:upgrade() })
    assert.is_nil(req.switched)
    req = request({ refusal = { "handshake: no key", 400 } })
    req:upgrade()
    assert.same({ nil, "upgrade: the request is answered already", "usage" }, { req:upgrade() })
  end)

  it("by default allows no Origin and the same one", function()
    for _, origins in ipairs({ false, "same" }) do
      assert.is_true(allows(origins or nil, nil))
      assert.is_true(allows(origins or nil, "http://good.example"))
      assert.is_false(allows(origins or nil, "http://evil.example"))
      assert.is_false(allows(origins or nil, "null"))
    end
  end)

  it("allows any, patterns besides the same, and what a function says", function()
    assert.is_true(allows("any", "http://evil.example"))
    local list = { "https://*.example.com", "Other.example:8080" }
    assert.is_true(allows(list, "https://a.EXAMPLE.com"))
    assert.is_true(allows(list, "https://a.b.example.com"))
    assert.is_true(allows(list, "http://other.example:8080"))
    assert.is_true(allows(list, "http://good.example"))
    assert.is_true(allows(list, nil))
    for _, origin in ipairs({ "http://a.example.com", "https://example.com", "https://a.example.com.evil",
      "https://evil/a.example.com", "https://axexample.com", "http://other.example", "null", "" }) do
      assert.is_false(allows(list, origin), origin)
    end
    local asked
    local function only(origin, req)
      asked = { origin, req.host }
      return origin == "x"
    end
    assert.is_true(allows(only, "x"))
    assert.same({ "x", "good.example" }, asked)
    assert.is_false(allows(only, nil))
  end)

  it("matches patterns with several stars in any part", function()
    local list = { "*://a.*.b.*.example", "http*://x.example:*", "*.y.*", "**z" }
    for _, origin in ipairs({ "http://a.1.b.2.example", "wss://a.b.b.b.b.example", "https://x.example:1",
      "http://x.example:", "ftp://q.y.r", "http://z", "http://aazz" }) do
      assert.is_true(allows(list, origin), origin)
    end
    for _, origin in ipairs({ "http://a.1.b.example", "http://a.1.c.2.example", "x.example:1", "htt://x.example:1",
      "http://y.r", "http://z/", "http://a/z", "http://zz." }) do
      assert.is_false(allows(list, origin), origin)
    end
  end)

  it("matches a long Origin with many stars in no time", function()
    local origin = "https://" .. ("a."):rep(8000)
    local cpu = os.clock()
    assert.is_false(allows({ "https://*.*.b.example" }, origin))
    assert.is_true(os.clock() - cpu < 0.05 * net.slow, os.clock() - cpu)
  end)

  it("chooses the first protocol of the server's that is offered", function()
    local function chosen(protocols, offered)
      local req = request({ offered = offered })
      assert.equal("ws", req:upgrade({ protocols = protocols }))
      return req.switched[1]
    end
    assert.equal("b", chosen({ "b", "a" }, { "a", "b" }))
    assert.is_nil(chosen({ "c" }, { "a", "b" }))
    assert.is_nil(chosen({}, { "a" }))
    assert.is_nil(chosen(nil, { "a" }))
    assert.is_nil(chosen({ "A" }, { "a" })) -- tokens are compared exactly
    assert.equal("a", chosen(function(offered) return offered[1] end, { "a", "b" }))
    assert.is_nil(chosen(function() return nil end, { "a" }))
    assert.error_matches(function() chosen(function() return "c" end, { "a" }) end,
      "bad option 'protocols' to 'upgrade' %(the function chose what was not offered%)")
  end)

  it("hands fields and limits on", function()
    local req = request()
    req:upgrade({ headers = { ["X-A"] = "1" }, max_message = 5, compression = true })
    assert.same({ nil, { "X-A", "1" }, { max_message = 5, compression = true } }, req.switched)
  end)

  it("raises for bad options before anything is sent", function()
    local req = request({ refusal = { "handshake: no key", 400 } })
    for options, text in pairs({
      [{ origins = "all" }] = "bad option 'origins' to 'upgrade'",
      [{ origins = { 1 } }] = "bad option 'origins' to 'upgrade'",
      [{ protocols = "chat" }] = "bad option 'protocols' to 'upgrade'",
      [{ protocols = { "a b" } }] = "bad option 'protocols' to 'upgrade'",
      [{ headers = { ["Sec-WebSocket-Accept"] = "x" } }] = "bad option 'headers' to 'upgrade' %(field 'Sec%-WebSocket%-Accept'",
      [{ headers = { A = "\r\n" } }] = "bad option 'headers' to 'upgrade'",
      [{ 1 }] = "bad argument #1 to 'upgrade'",
    }) do
      assert.error_matches(function() req:upgrade(options) end, text)
    end
    assert.error_matches(function() req:upgrade(1) end, "bad argument #1 to 'upgrade' %(table expected, got number%)")
    assert.is_nil(req.status)
  end)

  it("raises what switch raises, where the program called", function()
    local req = request()
    req.switch = function() error("bad option 'max_mesage' to 'upgrade' (unknown)", 0) end
    local line = debug.getinfo(1, "l").currentline + 1
    local ok, message = pcall(function() local ws = req:upgrade({ max_mesage = 1 }) return ws end)
    assert.is_false(ok)
    assert.truthy(message:find("upgrade_spec.lua:" .. line .. ": bad option 'max_mesage'", 1, true), message)
  end)

  it("sees an answer that was given while a function of the options waited", function()
    local req = request()
    local co = coroutine.wrap(function()
      return req:upgrade({ origins = function() coroutine.yield() return true end })
    end)
    co()
    req.res:write("x")
    assert.is_nil((co()))
    assert.is_nil(req.switched)
  end)
end)
