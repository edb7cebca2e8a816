local json = require("cws.json")

-- A connection that keeps what is sent and receives what it is given.
local function connection(codec, incoming)
  local methods = {}
  json.install(methods, function() return codec end)
  local ws = setmetatable({ sent = {} }, { __index = methods })
  function ws:send(text, type, timeout)
    self.sent = { text, type, timeout }
    return true
  end
  function ws:receive(timeout)
    self.timeout = timeout
    return table.unpack(incoming or {})
  end
  return ws
end

local codec = {
  encode = function(value)
    if type(value) == "function" then error("cannot encode a function") end
    return "<" .. tostring(value) .. ">"
  end,
  decode = function(text)
    local value = text:match("^<(.*)>$")
    return value or error("not\nwell-formed")
  end,
}

describe("json.find", function()
  it("takes cjson first, then dkjson", function()
    local cjson = { encode = function() return "c" end, decode = function() return "d" end, null = 0 }
    local found = json.find(function(name) return name == "cjson" and cjson or error("missing") end)
    assert.equal("c", found.encode())
    assert.equal(0, found.null)
    local asked = {}
    found = json.find(function(name)
      asked[#asked + 1] = name
      if name ~= "dkjson" then error("missing") end
      return { encode = function() return "k" end, decode = function(_, _, null) return null, 5 end, null = "N" }
    end)
    assert.equal("k", found.encode())
    assert.equal("N", found.decode("null"))
    assert.same({ "cjson", "dkjson" }, asked)
  end)

  it("makes dkjson's errors raise", function()
    local found = json.find(function(name)
      if name ~= "dkjson" then error("missing") end
      return { decode = function() return nil, 3, "no valid JSON" end }
    end)
    assert.error_matches(function() found.decode("x") end, "^no valid JSON$")
  end)

  it("lets dkjson leave nothing but spaces behind the value", function()
    local found = json.find(function(name)
      if name ~= "dkjson" then error("missing") end
      return { decode = function() return 1, 2 end }
    end)
    assert.equal(1, found.decode("1 \t\r\n"))
    assert.error_matches(function() found.decode("1 2") end, "^something follows the value at byte 3$")
    assert.error_matches(function() found.decode("1}") end, "^something follows the value at byte 2$")
  end)

  it("is nil when none is installed", function()
    assert.is_nil(json.find(function() error("module not found") end))
  end)
end)

describe("send_json", function()
  it("sends the text of the codec", function()
    local ws = connection(codec)
    assert.is_true(ws:send_json(7, 3))
    assert.same({ "<7>", "text", 3 }, ws.sent)
  end)

  it("gives what the codec refuses", function()
    local ws = connection(codec)
    assert.same({ nil, "send_json: cannot encode a function", "usage" }, { ws:send_json(print) })
    assert.same({}, ws.sent)
  end)

  it("says that no codec is installed", function()
    local ws = connection(nil)
    local ok, message, kind = ws:send_json(1)
    assert.is_nil(ok)
    assert.equal("usage", kind)
    assert.truthy(message:find("^send_json: no JSON codec is installed %(install lua%-cjson or dkjson"))
  end)

  it("refuses a codec that gives no string", function()
    local ws = connection({ encode = function() return nil, "too deep" end })
    assert.same({ nil, "send_json: too deep", "usage" }, { ws:send_json(1) })
  end)
end)

describe("receive_json", function()
  it("decodes a message", function()
    local ws = connection(codec, { "<x>", "text" })
    assert.equal("x", ws:receive_json(2))
    assert.equal(2, ws.timeout)
  end)

  it("gives false and nothing else for false", function()
    local ws = connection({ decode = function() return false end }, { "false", "text" })
    assert.same({ n = 1, false }, table.pack(ws:receive_json()))
  end)

  it("gives the end of the connection as it is", function()
    local ws = connection(codec, { nil, "websocket: close 1000 (normal)", "closed", 1000 })
    assert.same({ nil, "websocket: close 1000 (normal)", "closed", 1000 }, { ws:receive_json() })
  end)

  it("gives what is not well-formed as one clean line", function()
    local ws = connection(codec, { "oops", "text" })
    assert.same({ nil, "receive_json: not well-formed", "usage" }, { ws:receive_json() })
    ws = connection({ decode = function() return nil, "at byte 1" end }, { "oops", "text" })
    assert.same({ nil, "receive_json: at byte 1", "usage" }, { ws:receive_json() })
  end)

  it("says that no codec is installed, before it takes a message", function()
    local ws = connection(nil, { "1", "text" })
    local _, message = ws:receive_json(5)
    assert.truthy(message:find("^receive_json: no JSON codec"))
    assert.is_nil(ws.timeout)
  end)
end)
