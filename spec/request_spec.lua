-- A request in the hands of its handler, and its answer, on the wire. What
-- res does without a request: response_spec.lua; policy: upgrade_spec.lua.
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")

-- Serves one request of these bytes with fn(req, res); gives all of the answer.
local function exchange(bytes, fn, options)
  local server, url = net.serve({ ["/"] = fn, ["/only"] = fn }, options)
  local peer = raw.connect(url)
  peer:send(bytes)
  local answer = peer:rest()
  peer:close()
  server:stop(0)
  return answer
end

local function get(target, fields)
  return ("GET %s HTTP/1.1\r\nHost: a.example:81\r\n%s\r\n"):format(target, fields or "")
end

-- The answer to GET / by fn(req, res), in pieces.
local function answer(fn, request)
  local bytes = exchange(request or get("/"), fn)
  local status, head, body = bytes:match("^HTTP/1.1 ([^\r]*)\r\n(.-\r\n)\r\n(.*)$")
  assert(status, bytes)
  return status, head, body
end

local function nothing() end

describe("req", function()
  net.guard()

  net.it("tells what was asked", function()
    local seen
    exchange(get("/a%20b/c?d=%20&e", "X-One: 1\r\nx-one: 2\r\n"), function(req)
      seen = {
        req.method, req.target, req.path, req.query, req.host, req.tls, req.headers["x-ONE"], req:header("X-one"),
        req.headers.Host, req:header("none") or "nil", req.headers.none or "nil",
      }
      assert.matches("^127%.0%.0%.1:%d+$", req.remote)
      assert.matches("^cws%.request: GET /a%%20b/c%?d=%%20&e from 127%.0%.0%.1:%d+$", tostring(req))
      assert.is_nil(req.nothing)
      assert.is_nil(req[1])
    end)
    assert.same({
      "GET", "/a%20b/c?d=%20&e", "/a b/c", "d=%20&e", "a.example:81", false, "1, 2", "1, 2", "a.example:81", "nil", "nil",
    }, seen)
  end)

  net.it("the host of an absolute target wins over Host, B025", function()
    local seen
    exchange("GET http://b.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", function(req)
      seen = { req.host, req.path, req.query, req.headers.host }
    end)
    assert.same({ "b.example", "/x", "y", "a.example" }, seen)
  end)

  net.it("HTTP/1.0 without Host has an empty one, B013", function()
    local seen
    assert.matches("^HTTP/1.1 200 OK\r\n", exchange("GET / HTTP/1.0\r\n\r\n", function(req) seen = req.host end))
    assert.equal("", seen)
  end)

  net.it("cannot be changed, nor its metatable be had", function()
    local ok, meta
    exchange(get("/"), function(req)
      ok = pcall(function() req.path = "/x" end)
      meta = getmetatable(req)
    end)
    assert.is_false(ok)
    assert.equal("locked", meta)
  end)

  net.it("forwarding fields are not believed, B079", function()
    local seen
    exchange(get("/", "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"), function(req)
      seen = req.remote
    end)
    assert.matches("^127%.0%.0%.1:", seen)
  end)

  -- What a handler sees of its request after fn(req, res) has been called.
  local function after(fn)
    local seen, failed
    local server, url = net.serve({ ["/"] = function(req, res)
      local _ = req.headers.host -- makes them
      fn(req, res)
      seen = { req.method, req.target, req.path, req.query, req.host, req.headers["X-Mine"], req:header("x-mine") }
      seen.remote, seen.text = req.remote, tostring(req)
    end, ["/unread"] = function(req, res)
      fn(req, res)
      failed = {
        { pcall(function() return req.headers end) },
        { pcall(function() return req:header("x-mine") end) },
      }
    end })
    for _, path in ipairs({ "/?q", "/unread" }) do
      local peer = raw.connect(url)
      peer:send(raw.request(path, "X-Mine: yes\r\n"))
      peer:head()
      peer:close()
    end
    server:stop(5)
    return seen, failed
  end

  for name, fn in pairs({
    ["after the upgrade"] = function(req) assert(req:upgrade()) end,
    ["after a refused upgrade"] = function(req)
      assert.is_nil((req:upgrade({ origins = function() return false end })))
    end,
  }) do
    net.it(name .. " has its texts, and the fields when they were read before", function()
      local seen, failed = after(fn)
      assert.same({ "GET", "/?q", "/", "q", "127.0.0.1", "yes", "yes" }, table.move(seen, 1, 7, 1, {}))
      assert.matches("^127%.0%.0%.1:%d+$", seen.remote)
      assert.matches("^cws%.request: GET /%?q from 127", seen.text)
      for i = 1, 2 do
        assert.is_false(failed[i][1])
        assert.matches("headers: not kept after the request was answered or upgraded; read them before", failed[i][2])
      end
    end)
  end

  net.it("may be kept and looked at when all is over", function()
    local kept
    exchange(get("/x?y"), function(req) kept = req end)
    assert.same({ "GET", "/x", "y", "a.example:81" }, { kept.method, kept.path, kept.query, kept.host })
    assert.error_matches(function() return kept.headers end, "headers: not kept")
    assert.same({ nil, "upgrade: the request is answered already", "usage" }, { kept:upgrade() })
    collectgarbage()
    assert.matches("^cws%.request: GET /x%?y from 127", tostring(kept))
  end)

  net.it("keeps the texts of a long request, and gives the coroutine back", function()
    local target = "/" .. ("a%20"):rep(1000) .. "?" .. ("b"):rep(1000)
    local kept, weak = nil, setmetatable({}, { __mode = "k" })
    exchange(get(target, ""), function(req)
      kept = req
      weak[coroutine.running()] = true
    end)
    assert.same({ target, "/" .. ("a "):rep(1000), ("b"):rep(1000), "a.example:81", "GET" },
      { kept.target, kept.path, kept.query, kept.host, kept.method })
    assert.matches("^127%.0%.0%.1:%d+$", kept.remote)
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(weak))
  end)

  net.it("is wrong for what is no request", function()
    local header
    exchange(get("/"), function(req) header = req.header end)
    for _, bad in ipairs({ 1, "x", {}, io.stderr }) do
      assert.error_matches(function() header(bad, "x") end, "bad argument #1 to 'header' %(cws.request expected, got ")
    end
  end)

  net.it("with an upgrade's options that are wrong raises, and can still be answered", function()
    local errors = {}
    local status, _, body = answer(function(req, res)
      for _, options in ipairs({ { origin = "any" }, { origins = 1 }, { max_message = -1 }, { protocols = "x" } }) do
        errors[#errors + 1] = select(2, pcall(req.upgrade, req, options))
      end
      res:write("all the same")
    end, raw.request("/"))
    assert.same({ "200 OK", "all the same" }, { status, body })
    assert.matches("bad option 'origin' to 'upgrade' %(unknown%)", errors[1])
    assert.matches("bad option 'origins' to 'upgrade' %(", errors[2])
    assert.matches("bad option 'max_message' to 'upgrade' %(", errors[3])
    assert.matches("bad option 'protocols' to 'upgrade' %(", errors[4])
  end)

  net.it("says where the wrong options of an upgrade stand", function()
    local message
    local line = debug.getinfo(1, "l").currentline + 2
    answer(function(req)
      local _, text = pcall(function() local ws = req:upgrade({ origins = 1 }) return ws end)
      message = text
    end, raw.request("/"))
    assert.matches("request_spec%.lua:" .. line .. ": bad option", message)
  end)

  -- Without options C does what Lua does with them.
  local foreign = raw.request("/", "Origin: http://evil.example\r\n")
  for name, case in pairs({
    ["a good request"] = { raw.request("/"), "101" },
    ["the same origin"] = { (raw.request("/", "Origin: http://127.0.0.1\r\n")), "101" },
    ["another origin"] = { foreign, "403", "Forbidden\n" },
    ["no upgrade at all"] = { get("/"), "400", "Bad Request\n" },
    ["another version"] = { (raw.request("/"):gsub("Version: 13", "Version: 12")), "426", "Upgrade Required\n" },
    ["what was written before"] = { raw.request("/"), "200", "x", write = "x" },
  }) do
    net.it("upgrades alike with empty options and without: " .. name, function()
      local seen = {}
      for i, options in ipairs({ false, {} }) do
        local result
        local bytes = exchange(case[1], function(req, res)
          if case.write then res:write(case.write) end
          local ws, message, kind, status = req:upgrade(options or nil)
          result = { not not ws, message or "", kind or "", status or 0, select(2, res:write("y")) or "" }
          if ws then ws:terminate() end
        end)
        seen[i] = { bytes:gsub("\r\nDate: [^\r]*", ""), table.unpack(result) }
        assert.matches("^HTTP/1.1 " .. case[2], bytes)
      end
      assert.same(seen[2], seen[1])
    end)
  end

  net.it("is refused an upgrade after one, and by another task when its handler has returned", function()
    local results, kept = {}, nil
    exchange(raw.request("/"), function(req)
      local ws = req:upgrade()
      kept = req
      results[1] = { req:upgrade() }
      ws:terminate()
    end)
    results[2] = { kept:upgrade() }
    local usage = { nil, "upgrade: the request is answered already", "usage" }
    assert.same({ usage, usage }, results)
  end)
end)

describe("res", function()
  net.guard()

  net.it("nothing written is 200 and empty", function()
    local status, head, body = answer(nothing)
    assert.same({ "200 OK", "" }, { status, body })
    assert.matches("^Date: %a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT\r\n", head)
    assert.matches("\r\nConnection: close\r\n", head)
    assert.matches("\r\nContent%-Length: 0\r\n", head)
    assert.not_matches("Content%-Type", head)
  end)

  net.it("what is written is sent whole, with its length, in one piece", function()
    local status, head, body = answer(function(_, res)
      res:write("a", 1, 2.5)
      cws.sleep(0.01)
      res:write("\0\xff")
    end)
    assert.same({ "200 OK", "a12.5\0\xff" }, { status, body })
    assert.matches("\r\nContent%-Length: 7\r\n", head)
    assert.matches("\r\nContent%-Type: application/octet%-stream\r\n", head)
  end)

  for _, status in ipairs({ 201, 204, 205, 304, 404, 418, 503, 599, 999 }) do
    net.it("status " .. status, function()
      local got, head, body = answer(function(_, res)
        res.status = status
        res:write("text")
      end)
      assert.matches("^" .. status .. " ?[%a ']*$", got)
      -- RFC 9110 15.3.5, 15.3.6, 15.4.5: these have no content
      local lengths = { [204] = "nil", [205] = "0", [304] = "nil" } -- 8.6
      assert.equal(lengths[status] and "" or "text", body)
      assert.equal(lengths[status] or "4", tostring(head:match("\r\nContent%-Length: (%d+)\r\n")))
    end)
  end

  for _, status in ipairs({ 99, 100, 101, 199, 1000, 200.5, "200", {} }) do
    net.it("status " .. tostring(status):gsub(":.*", "") .. " is none: logged, 500", function()
      local lines = net.log()
      assert.equal("500 Internal Server Error", (answer(function(_, res) res.status = status end)))
      assert.equal(1, #lines)
      assert.matches("res%.status: an integer from 200 to 999 expected", lines[1])
    end)
  end

  net.it("header: one value, several, replaced, taken away", function()
    local _, head = answer(function(_, res)
      res:header("X-One", "1")
      res:header("x-two", { "a", "b" })
      res:header("X-three", "gone")
      res:header("x-Three", nil)
      res:header("X-ONE", "2")
    end)
    assert.matches("\r\nX%-ONE: 2\r\n", head)
    assert.matches("\r\nx%-two: a\r\nx%-two: b\r\n", head)
    assert.not_matches("hree", head)
    assert.not_matches("X%-One", head)
  end)

  net.it("a value that could end a line raises, and nothing of it is sent, B081", function()
    for _, value in ipairs({ "a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b" }) do
      local ok, message
      local status, head, body = answer(function(_, res)
        res:header("X-Good", "1")
        ok, message = pcall(res.header, res, "X-Bad", value)
      end)
      assert.is_false(ok)
      assert.matches("^bad argument #2 to 'header' %(", message)
      assert.same({ "200 OK", "" }, { status, body })
      assert.matches("X%-Good: 1\r\n", head)
      assert.not_matches("Bad", head)
      assert.not_matches("Evil", head)
    end
  end)

  net.it("error: a short text, and what was written is dropped", function()
    local status, head, body = answer(function(_, res)
      res:write("secret")
      res:header("X-Kept", "1")
      res:error(403, "members only")
    end)
    assert.same({ "403 Forbidden", "members only\n" }, { status, body })
    assert.matches("\r\nX%-Kept: 1\r\n", head)
    assert.matches("\r\nContent%-Type: text/plain; charset=utf%-8\r\n", head)
    assert.matches("\r\nX%-Content%-Type%-Options: nosniff\r\n", head)
    status, head, body = answer(function(_, res) res:error(404) end)
    assert.same({ "404 Not Found", "Not Found\n" }, { status, body })
  end)

  net.it("after the upgrade nothing can be written", function()
    local results
    local server, url = net.serve({ ["/"] = function(req, res)
      assert(req:upgrade())
      results = { { res:write("x") }, { res:error(500) } }
    end })
    local peer = raw.upgrade(url)
    assert.equal(1000, peer:frame().code) -- and not one byte of HTTP before it
    assert.same({
      { nil, "write: the request was upgraded", "usage" }, { nil, "error: the request was upgraded", "usage" },
    }, results)
    peer:close()
    server:stop(0)
  end)

  net.it("nor when the handler has returned", function()
    local late, result = cws.channel(), cws.channel(1)
    local server, url = net.serve({ ["/"] = function(_, res)
      res:write("in time")
      cws.spawn(function()
        late:receive()
        result:send({ res:write("too late") })
      end)
    end })
    local peer = raw.connect(url)
    peer:send(get("/"))
    assert.matches("\r\n\r\nin time$", (peer:rest()))
    late:close()
    assert.same({ nil, "write: the answer was sent", "usage" }, result:receive())
    peer:close()
    server:stop(0)
  end)
end)

describe("a server answers", function()
  net.guard()

  net.it("HEAD with the fields of GET and without a body, B078", function()
    local function page(_, res) res:write(("x"):rep(100000)) end
    local function fields(bytes) return (bytes:match("^(.-\r\n\r\n)"):gsub("Date: [^\r]*\r\n", "")) end
    local full, head = exchange(get("/"), page), exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", page)
    assert.equal(fields(full), fields(head))
    assert.matches("\r\nContent%-Length: 100000\r\n", head)
    assert.matches("\r\n\r\n$", head)
    for status, request in pairs({ [404] = "/none", [500] = "/" }) do
      net.log()
      local server, url = net.serve({ ["/"] = status == 500 and error or nil })
      local peer = raw.connect(url)
      peer:send(("HEAD %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(request))
      assert.matches(("^HTTP/1.1 %d [^\r]*\r\n.*\r\n\r\n$"):format(status), (peer:rest()))
      peer:close()
      server:stop(0)
    end
  end)

  net.it("404 where nothing matches, B077", function()
    for _, request in ipairs({ "GET /none HTTP/1.1\r\nHost: a\r\n\r\n", raw.request("/only/"), raw.request("//evil.example/x") }) do
      local server, url = net.serve({ ["/only"] = nothing })
      local peer = raw.connect(url)
      peer:send(request)
      assert.matches("^HTTP/1.1 404 Not Found\r\n.*\r\n\r\n404 page not found\n$", (peer:rest()))
      peer:close()
      server:stop(0)
    end
  end)

  for request, expected in pairs({
    ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"] = "405 Method Not Allowed",
    ["DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"] = "405 Method Not Allowed",
    ["BREW / HTTP/1.1\r\nHost: a\r\n\r\n"] = "501 Not Implemented",
    ["GET / HTTP/1.1\r\n\r\n"] = "400 Bad Request",
    ["GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"] = "400 Bad Request",
    ["nonsense\r\n\r\n"] = "400 Bad Request",
    ["GET / HTTP/2.0\r\n\r\n"] = "505 HTTP Version Not Supported",
  }) do
    net.it(expected .. " without a handler: " .. request:match("^[^\r]*"), function()
      local ran = false
      local bytes = exchange(request, function() ran = true end)
      assert.equal(expected, bytes:match("^HTTP/1.1 ([^\r]*)\r\n"))
      assert.matches("\r\nConnection: close\r\n", bytes)
      assert.matches("\r\nDate: ", bytes)
      if expected:find("^405") then assert.matches("\r\nAllow: GET, HEAD\r\n", bytes) end
      assert.is_false(ran)
    end)
  end

  net.it("one request a connection: what follows is not read, B057", function()
    local count = 0
    local bytes = exchange(get("/"):rep(3), function(_, res)
      count = count + 1
      res:write("one")
    end)
    assert.equal(1, count)
    assert.equal(1, select(2, bytes:gsub("HTTP/1.1 ", "")))
    assert.matches("\r\n\r\none$", bytes)
  end)

  net.it("a client that goes away while the handler works: nobody is harmed", function()
    local arrived, go, done = cws.channel(1), cws.channel(), cws.channel(1)
    local server, url = net.serve({ ["/"] = function(_, res)
      arrived:send(true)
      go:receive()
      done:send(res:write(("x"):rep(1 << 20)))
    end })
    for _, how in ipairs({ "close", "reset" }) do
      go = cws.channel()
      local peer = raw.connect(url)
      peer:send(get("/"))
      arrived:receive()
      peer[how](peer)
      go:close()
      assert.is_true(done:receive())
    end
    assert.is_true(server:stop())
  end)

  net.it("an upgrade whose client has gone gives a connection that ends", function()
    local arrived, go, result = cws.channel(1), cws.channel(), cws.channel(1)
    local server, url = net.serve({ ["/"] = function(req)
      arrived:send(true)
      go:receive()
      local ws, message = req:upgrade()
      result:send({ ws and { ws:receive() } or message })
    end })
    local peer = raw.connect(url)
    peer:send(raw.request("/"))
    arrived:receive()
    peer:reset()
    go:close()
    local got = result:receive()[1]
    assert.same({ nil, "closed", 1006 }, { got[1], got[3], got[4] })
    assert.is_true(server:stop())
  end)
end)

describe("a request, while C reads its head,", function()
  net.guard()

  -- Calls fn until a finalizer ran inside the C function of that name, and
  -- upgraded; gives what the finalizer got.
  local function upgraded_within(name, req, fn)
    local got
    local function arm()
      setmetatable({}, { __gc = function()
        if got then return end
        if debug.traceback():find("%[C%]: in [^\n]*" .. name) then got = { req:upgrade() } else arm() end
      end })
    end
    arm()
    for _ = 1, 100000 do
      fn()
      if got then return got end
    end
    error("no finalizer ran")
  end

  net.it("is not upgraded by a finalizer", function()
    local result = cws.channel(1)
    local server, url = net.serve({ ["/"] = function(req)
      local long = ("x"):rep(3000)
      result:send(upgraded_within("'header'", req, function() assert.equal(long, req:header("X-Long")) end))
    end })
    local headers = { ["X-Long"] = ("x"):rep(3000) }
    local _, _, kind, status = cws.connect(url .. "/", { headers = headers })
    assert.same({ "handshake", 200 }, { kind, status })
    assert.same({ nil, "upgrade: the request is answered already", "usage" }, result:receive())
    assert.is_true(server:stop())
  end)
end)
