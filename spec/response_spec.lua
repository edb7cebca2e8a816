local Response = require("cws.response")

-- A request that keeps its answer.
local function request()
  return {
    respond = function(self, status, fields, body)
      self.answered, self.status, self.fields, self.body = true, status, fields, body
      return true
    end,
  }
end

local function answer(res)
  local req = request()
  assert.is_true(res:send(req))
  return req
end

describe("response", function()
  it("is 200 and empty when nothing is written", function()
    local req = answer(Response.new())
    assert.equal(200, req.status)
    assert.equal("", req.body)
    assert.same({}, req.fields)
  end)

  it("joins what is written", function()
    local res = Response.new()
    assert.is_true(res:write("a", 1))
    assert.is_true(res:write())
    assert.is_true(res:write("b"))
    res.status = 201
    local req = answer(res)
    assert.equal("a1b", req.body)
    assert.equal(201, req.status)
  end)

  it("says what the body is, unless the program does", function()
    local function type_of(body)
      local res = Response.new()
      res:write(body)
      return answer(res).fields[2]
    end
    assert.equal("text/plain; charset=utf-8", type_of("hello"))
    assert.equal("text/plain; charset=utf-8", type_of("<p>"))
    assert.equal("text/html; charset=utf-8", type_of("\n <!DOCTYPE html>\n<html>"))
    assert.equal("text/html; charset=utf-8", type_of("<html lang='en'>"))
    assert.equal("application/octet-stream", type_of("\xff\xfe"))
    local res = Response.new()
    res:header("content-type", "image/png")
    res:write("x")
    assert.same({ "content-type", "image/png" }, answer(res).fields)
  end)

  it("sets fields in order, replaces, repeats, takes away, tells", function()
    local res = Response.new()
    res:header("X-B", "1")
    res:header("X-A", "2")
    res:header("x-b", "3")
    res:header("Set-Cookie", { "a=1", "b=2" })
    res:header("X-C", "4")
    res:header("X-C", nil)
    assert.equal("3", res:header("X-B"))
    assert.same({ "a=1", "b=2" }, res:header("set-cookie"))
    assert.is_nil(res:header("X-C"))
    assert.is_nil(res:header("X-D"))
    assert.same({ "x-b", "3", "X-A", "2", "Set-Cookie", "a=1", "Set-Cookie", "b=2" }, answer(res).fields)
  end)

  it("raises for fields that would break the answer", function()
    local res = Response.new()
    assert.error_matches(function() res:header("X", "a\r\nY: b") end,
      "bad argument #2 to 'header' %(field 'X' has control bytes in its value%)")
    assert.error_matches(function() res:header("X", "a\0") end, "control bytes")
    assert.error_matches(function() res:header("X Y", "a") end, "bad argument #1 to 'header' %(a field name that is no token%)")
    assert.error_matches(function() res:header("", "a") end, "no token")
    assert.error_matches(function() res:header("X", 1) end, "field 'X' is a number, not a string")
    assert.error_matches(function() res:header("X", { "a", {} }) end, "field 'X' is a table")
    assert.error_matches(function() res:header(1, "a") end, "#1 to 'header' %(string expected, got number%)")
    for _, name in ipairs({ "Content-Length", "connection", "Transfer-Encoding", "Date", "Upgrade",
      "Sec-WebSocket-Accept" }) do
      assert.error_matches(function() res:header(name, "1") end, "is set by cws")
    end
    assert.same({}, answer(res).fields)
  end)

  it("answers errors as Go's http.Error", function()
    local res = Response.new()
    res:write("half a page")
    res:header("Content-Type", "text/html")
    assert.is_true(res:error(401, "who are you?"))
    local req = answer(res)
    assert.equal(401, req.status)
    assert.equal("who are you?\n", req.body)
    assert.same({ "Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff" }, req.fields)
  end)

  it("raises for a status or a body that is none", function()
    local res = Response.new()
    for _, status in ipairs({ 99, 101, 1000, 200.5, "200" }) do
      assert.error_matches(function() res:error(status) end, "bad argument #1 to 'error' %(status from 200 to 999 expected%)")
      res.status = status
      assert.error_matches(function() res:send(request()) end, "^res%.status: ")
    end
    assert.error_matches(function() res:write({}) end, "bad argument #1 to 'write' %(string expected, got table%)")
    assert.error_matches(function() res:write("a", nil) end, "#2 to 'write' %(string expected, got no value%)")
    assert.error_matches(function() res:error(400, 1) end, "#2 to 'error'")
  end)

  it("takes nothing after it was sent", function()
    local res = Response.new()
    answer(res)
    assert.same({ nil, "write: the answer was sent", "usage" }, { res:write("x") })
    assert.same({ nil, "error: the answer was sent", "usage" }, { res:error(500) })
  end)
end)
