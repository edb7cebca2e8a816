-- Bad input, HTTP requests: the rows B001 to B082.
local bad = require("spec.support.bad_input")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local wire = require("spec.support.bad_wire")

local H, page, switched = wire.H, wire.page, wire.switched
local row, http = bad.row, wire.http

-- A request for an upgrade of /ws, with one field changed or added.
local defaults = {
  { "Host", "good.example" },
  { "Upgrade", "websocket" },
  { "Connection", "Upgrade" },
  { "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==" },
  { "Sec-WebSocket-Version", "13" },
}

---@param line string the request line
---@param ... string|table "Name: value" lines, added or instead of the default; { "Name" } takes one away
local function upgrade(line, ...)
  local given, lines = { ... }, { line }
  local function is_given(name)
    for _, each in ipairs(given) do
      local own = type(each) == "table" and each[1] or each:match("^[^:]*")
      if own:lower() == name:lower() then return true end
    end
  end
  for _, field in ipairs(defaults) do
    if not is_given(field[1]) then lines[#lines + 1] = field[1] .. ": " .. field[2] end
  end
  for _, each in ipairs(given) do
    if type(each) == "string" then lines[#lines + 1] = each end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function ws(...) return upgrade("GET /ws HTTP/1.1", ...) end

local function get(target, ...)
  local lines = { "GET " .. target .. " HTTP/1.1", "Host: good.example", ... }
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- Requests made of one template with each of these.
local function each(make, list)
  local all = {}
  for i, value in ipairs(list) do
    all[i] = make(value)
  end
  return all
end

local function h(id, text, requests, outcome, options)
  if type(requests) == "string" then requests = { requests } end
  row(id, text, function(self) http(self, requests, outcome, options) end, options)
end

describe("bad input, the request line:", function()
  net.guard()

  h("B007", "one empty line before the request line", { "\r\n" .. ws() }, switched())
  h("B007", "and a page after one", { "\r\n" .. get("/page") }, page())

  h("B006", "a request for an upgrade cut at every offset", { ws() }, switched(), { at_most = math.huge })

  h("B011", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", H(505))
  h("B013", "HTTP/1.0 without Host", "GET /page HTTP/1.0\r\n\r\n", page())
  h("B014", "an upgrade in HTTP/1.0", upgrade("GET /ws HTTP/1.0"), H(426))
  h("B015", "an upgrade in HTTP/1.2", upgrade("GET /ws HTTP/1.2"), switched())

  h("B017", "a malformed version", each(function(version)
    return "GET / " .. version .. "\r\nHost: a\r\n\r\n"
  end, { "http/1.1", "HTTP/1.", "HTTP/11.1", "HTTP/1,1", "HTTP/1.1x", "HTTP/1.1 ", "HTTP" }), H(400))

  h("B018", "a method that is not known", { upgrade("FOO /ws HTTP/1.1"), upgrade("get /ws HTTP/1.1") }, H(501))
  h("B019", "POST with all fields of an upgrade", upgrade("POST /ws HTTP/1.1"), H(405))
  h("B021", "a method of 9000 letters", ("M"):rep(9000) .. " / HTTP/1.1\r\nHost: a\r\n\r\n",
    wire.any(H(501), H(414)), { at_most = 64 })
  h("B022", "CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", H(405))
  h("B023", "the target *", get("*"), H(400))

  h("B025", "an absolute target wins over Host", upgrade("GET http://a.example/ws HTTP/1.1", "Host: b.example",
    "Origin: http://a.example"), switched())
  h("B026", "an absolute target that is none", { get("ftp://a/ws"), get("http:///ws"), get("http://"),
    get("http://a:0/ws"), get("http://a b/ws") }, H(400))
  h("B027", "a malformed target", { get("foo"), get("/a#b"), get("/a b"), get("/\x01"), get("/\x80"), get("/\x7f") },
    H(400))

  local function line_of(length)
    return "GET /page?" .. ("q"):rep(length - #"GET /page? HTTP/1.1") .. " HTTP/1.1\r\nHost: a\r\n\r\n"
  end
  h("B029", "a request line of 8000 bytes, and of 8192", { line_of(8000), line_of(8192) }, page(), { at_most = 64 })
  h("B029", "a request line of 8193 bytes", line_of(8193), H(414), { at_most = 64 })

  h("B030", "a target with two slashes is a path", get("//evil.example/x"), function(answer)
    assert.equal(404, answer.status)
    assert.is_nil(answer.fields.location)
  end)
  h("B031", "percent escapes that are none", { get("/%zz"), get("/%"), get("/%0"), get("/a%00b"), get("/%0g") },
    H(400))

  -- The decoded path is what is matched, and what a guard sees.
  row("B033", "one rule for matching and for guarding", function(self)
    local guarded, paths = 0, {}
    local function handler(req, res)
      guarded = guarded + 1
      paths[req.path] = true
      res:write("page\n")
    end
    local options = { routes = { ["/guarded"] = handler } }
    http(self, { get("/guarded/"), get("//guarded"), get("/./guarded"), get("/guarded;x"), get("/GUARDED"),
      get("/x/../guarded"), get("/guarded%2f"), get("/%2fguarded"), get("/guarded%20"), get("/guarded%3fx") },
      H(404), options)
    assert.equal(0, guarded)
    http(self, { get("/guarded"), get("/%67uarded"), get("/guarde%64"), get("/guarded?x") }, page(), options)
    assert.same({ ["/guarded"] = true }, paths)
  end)

  h("B078", "HEAD has the fields of GET and no body", {
    "HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n",
  }, function(answer, request)
    local body = request:find("/page", 1, true) and 5 or #"404 page not found\n"
    assert.equal(tostring(body), answer.fields["content-length"])
    assert.equal("", answer.body)
    assert.equal("text/plain; charset=utf-8", answer.fields["content-type"])
  end)
end)

describe("bad input, lines and fields:", function()
  net.guard()

  local function with(bytes)
    return "GET /ws HTTP/1.1\r\nHost: a\r\n" .. bytes .. "\r\n\r\n"
  end

  h("B009", "bytes without LF, then 16 KiB more", {
    ("\x8f"):rep(256) .. ("x"):rep(16384), ("x"):rep(256) .. ("y"):rep(16384), "GET /" .. ("x"):rep(16640),
  }, wire.any(H(400), H(414)), { at_most = 64 })

  row("B010", "a TLS hello on a plain port", function(self)
    http(self, { "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" .. ("\x7f\x00\x80"):rep(170) }, H(400))
    assert.equal(self.inputs, #self.lines)
    assert(self.lines[1]:find("TLS hello on a plain port", 1, true), self.lines[1])
  end)

  h("B034", "bare LF", { (ws():gsub("\r\n", "\n")), (get("/page"):gsub("\r\n", "\n")),
    "GET /page HTTP/1.1\nHost: a\r\n\r\n", "GET /page HTTP/1.1\r\nHost: a\n\r\n" }, H(400))
  h("B035", "bare CR", { with("X: a\rb"), with("X: a\r\n\rX: y"), with("X: a\r\r"), "GET /\r HTTP/1.1\r\n\r\n" },
    H(400))
  h("B037", "HTAB and bytes from 0x80 in a value",
    ws("X-Opaque: a\tb\x80\xff\xc3\xa4", "X-Tab:\t a \t"), switched())
  h("B038", "an empty value", { ws("X-Empty:", "X-Empty2: ", "X-Empty3: \t ") }, switched())
  h("B039", "a space before the colon", { with("X : a"), with("X\t: a"), "GET / HTTP/1.1\r\nHost : a\r\n\r\n" }, H(400))
  h("B041", "a space before a field name", { "GET / HTTP/1.1\r\n Host: a\r\n\r\n", with(" X: a"), with("X: a\r\n b"),
    with("X: a\r\n\tb") }, H(400))
  h("B042", "a malformed field name", { with(": a"), with("X[: a"), with("X(: a"), with('X": a'), with("X Y: a"),
    with("X\x80: a"), with("X\0: a"), with("no colon"), with("X\x7f: a") }, H(400))
  h("B042", "NUL and other controls in a value", { with("X: a\0b"), with("X: \x01"), with("X: \x7f"),
    with("X: \x1b[0m") },
    H(400))
  h("B043", "HTTP/1.1 without Host", { "GET / HTTP/1.1\r\n\r\n", "GET /ws HTTP/1.1\r\nX: y\r\n\r\n",
    ws({ "Host" }) }, H(400))
  h("B045", "a malformed Host", each(function(host) return ws("Host: " .. host) end, {
    "a b", "a/b", "a@b", "a<b", "[::1", "a:99999", "a:b", "", "[", "[]", "[::1]x", "a,b:c", "a\x80", "a%", "[v1.x]",
    "::1", "a:-1", "a:+1", "a: 1", "[fe80::1%25eth0]", "%zz", "a\\b", "a'\"b", "a?b", "a#b",
  }), H(400))
  h("B045", "two Host fields", { ws("Host: a", "Host: a"), ws("Host: a", "host: b") }, H(400))

  local function fields(count)
    local lines = {}
    for i = 1, count - 5 do lines[i] = "X-" .. i .. ": y" end
    return ws(table.unpack(lines))
  end
  h("B046", "100 fields", fields(100), switched(), { at_most = 32 })
  h("B046", "101 fields, and 1000", { fields(101), fields(1000) }, H(431), { at_most = 32 })

  local function header(bytes)
    local request = ws("X: ")
    local have = #request - #"GET /ws HTTP/1.1\r\n" - 2
    return ws("X: " .. ("y"):rep(bytes - have))
  end
  h("B047", "16384 bytes of fields", header(16384), switched(), { at_most = 64 })
  h("B047", "16385 bytes of fields", header(16385), H(431), { at_most = 64 })

  row("B049", "fields without end", function(self)
    local url = wire.serve(self, {})
    local peer = assert(raw.connect(url))
    peer:send("GET / HTTP/1.1\r\nHost: a\r\n")
    local lines, sent, at = ("X: " .. ("y"):rep(995) .. "\r\n"):rep(10), 0, cws.now()
    repeat -- much more than is drained
      local ok = peer:send(lines)
      sent = sent + #lines
      cws.sleep(0)
    until not ok or sent > 64 * 1024 * 1024
    assert(cws.now() - at <= 2 * net.slow, "it went on reading")
    assert(sent < 16 * 1024 * 1024, "it went on reading") -- buffers of the kernel
    local bytes, how = peer:rest(2)
    assert(how == "reset" or bytes:find("^HTTP/1.1 431 "), bytes:sub(1, 50))
    peer:close()
  end)
end)

describe("bad input, bodies and what follows:", function()
  net.guard()

  h("B050", "an upgrade with a body", ws("Content-Length: 5") .. "hello", H(400))
  h("B051", "an upgrade with Content-Length: 0", ws("Content-Length: 0"), switched())
  h("B051", "a Content-Length that is none", { ws("Content-Length: -1"), ws("Content-Length: 0x0"),
    ws("Content-Length:"),
    ws("Content-Length: 0, 0"), ws("Content-Length: 0", "Content-Length: 0"), ws("Content-Length: 00"),
    ws("Content-Length: +0") }, H(400))
  h("B053", "Content-Length with Transfer-Encoding", {
    ws("Content-Length: 6", "Transfer-Encoding: chunked") .. "0\r\n\r\nGET /page HTTP/1.1\r\nHost: a\r\n\r\n",
    ws("tRANSFER-eNCODING: CHUNKED", "content-length: 0") .. "0\r\n\r\nGET /page HTTP/1.1\r\nHost: a\r\n\r\n",
  }, H(400), { at_most = 64 })
  h("B054", "Transfer-Encoding", { ws("Transfer-Encoding: chunked"), ws("Transfer-Encoding: xchunked"),
    ws("Transfer-Encoding: chunked, identity"), ws("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    ws("Transfer-Encoding:"), ws("Transfer-Encoding: \tchunked\t") }, H(400))
  h("B055", "HTTP/1.0 with Transfer-Encoding",
    "GET /page HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", H(400))
  h("B057", "two requests in one segment get one answer", { get("/page") .. get("/page") }, page())
  h("B058", "an upgrade that is refused, and a request after it",
    { ws("Sec-WebSocket-Version: 77") .. get("/page") }, H(426), { at_most = 64 })
  h("B059", "a frame in the segment of the upgrade", ws(), switched())
  h("B059", "a second request after an upgrade is frame bytes", ws() .. get("/page"), function(answer)
    assert.equal(101, answer.status)
    -- "G" is a frame with reserved bits
    assert.equal("\x88", answer.rest:sub(1, 1))
    assert.equal(1002, (string.unpack(">I2", answer.rest, 3)))
  end)
end)

describe("bad input, the fields of an upgrade:", function()
  net.guard()

  h("B061", "tokens in lists, in any case", {
    ws("Upgrade: h2c, WebSocket"), ws("Connection: keep-alive, uPgRaDe"),
    ws({ "Connection" }, "Connection: keep-alive", "Connection: ,upgrade,"), ws("Upgrade: h2c", "Upgrade: websocket"),
  }, switched())
  h("B062", "no websocket in Upgrade", { ws("Upgrade: websocket/13"), ws("Upgrade: websockets"), ws({ "Upgrade" }),
    ws("Upgrade: web socket"), ws("Upgrade:"), ws("Upgrade: \"websocket\"") }, H(426))
  h("B063", "no upgrade in Connection", { ws({ "Connection" }), ws("Connection: upgrade-insecure"),
    ws("Connection: keep-alive"), ws("Connection:"), ws("Connection: up grade") }, H(400))
  h("B065", "a version that we do not speak", each(function(v) return ws("Sec-WebSocket-Version: " .. v) end,
    { "8", "12", "14", "0", "255" }), H(426))
  h("B066", "a malformed version", { ws({ "Sec-WebSocket-Version" }), ws("Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Version: 13"),
    table.unpack(each(function(v) return ws("Sec-WebSocket-Version: " .. v) end,
      { "013", "13.0", "abc", "13, 8", ("1"):rep(300), "", "-13", "+13", "1 3", "256", "\"13\"", "13;" })) }, H(400))
  h("B066", "a malformed key", { ws({ "Sec-WebSocket-Key" }), ws("Sec-WebSocket-Key: x"),
    table.unpack(each(function(k) return ws("Sec-WebSocket-Key: " .. k) end, {
      "", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZR==",
      "dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBsZSBub25j!Q==", ("A"):rep(5000), "dGhlIHNhbXBsZSBub25jZQ==, x",
    })) }, H(400), { at_most = 64 })

  h("B067", "another Origin", { ws("Origin: http://evil.example"), ws("Origin: https://good.example:80"),
    ws("Origin: http://good.example.evil.example"), ws("Origin: http://good.example:8080"), ws("Origin: null"),
    ws("Origin:"), ws("Origin: http://good.example/"),
    ws("Origin: http://good.example@evil.example"), ws("Origin: http://evil.example@good.example"),
    ws("Origin: file://good.example"), ws("Origin: good.example"), ws("Origin: ws://good.example") }, H(403))
  h("B067", "two Origins", ws("Origin: http://good.example", "Origin: http://evil.example"), H(400))
  h("B069", "no Origin", ws(), switched())
  h("B070", "Origin in another case", { ws("Origin: HTTP://GOOD.example", "Host: good.EXAMPLE"),
    ws("Origin: http://good.example:80"), ws("Origin: http://good.example", "Host: good.example:80"),
    ws("Origin: https://good.example"), ws("Origin: https://good.example", "Host: good.example:443") }, switched())

  h("B071", "a subprotocol", { ws("Sec-WebSocket-Protocol: chat, superchat"),
    ws("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat") }, switched(function(fields)
    assert.equal("superchat", fields["sec-websocket-protocol"])
  end), { upgrade = { protocols = { "superchat" } } })
  h("B073", "malformed subprotocols", each(function(v) return ws("Sec-WebSocket-Protocol: " .. v) end,
    { "a b", "a, a", "(x)", "a;b", "a, b, c, a", "\"a\"", "a\x80" }), H(400))
  h("B073", "a control byte in one", ws("Sec-WebSocket-Protocol: a\x01"), H(400))

  local heavy = { "b" .. (" "):rep(8000) .. "x", (","):rep(8000), ("a,"):rep(4000), ("a b,"):rep(2000) }
  for i = 1, 4000 do heavy[5] = (heavy[5] or "") .. string.char(97 + i % 26) .. i .. "," end
  heavy[5] = heavy[5]:sub(1, 15000)
  h("B074", "subprotocols that are much work", each(function(v) return ws("Sec-WebSocket-Protocol: " .. v) end, heavy),
    wire.any(H(400), function(answer) assert.equal(101, answer.status) end), {
      at_most = 16, finish = function(peer) peer:shutdown() end,
    })

  h("B075", "malformed extensions", each(function(v) return ws("Sec-WebSocket-Extensions: " .. v) end, {
    "permessage-deflate;;", ";a", "a;b=", "a;b=\"", "a;b=\"" .. ("\\c"):rep(4000),
    "a;b=\"a b\"", "a;b=\"a\"b", "a=b", "a b", "a;b c", "a;b==c", "a;;b", "(", "a;", "a,;",
  }), H(400), { at_most = 64, upgrade = { compression = true } })

  h("B077", "an upgrade on a path that is not known", upgrade("GET /nowhere HTTP/1.1"), H(404))
end)

describe("bad input, time and work of a request:", function()
  net.guard()

  local quick = { handshake_timeout = 0.3 }

  row("B001", "nothing is sent", function(self)
    local url = wire.serve(self, {})
    for _ = 1, 20 do
      assert(raw.connect(url)):close()
      assert(raw.connect(url)):reset()
      local peer = assert(raw.connect(url))
      peer:shutdown()
      local bytes, how = peer:rest(1)
      assert.same({ "", "eof" }, { bytes, how })
      peer:close()
    end
    self.inputs = 0
  end)

  row("B002", "nothing is sent and nobody leaves", function(self)
    assert.equal(10, core.defaults.handshake_timeout)
    local url = wire.serve(self, { server = quick })
    local peer, at = assert(raw.connect(url)), cws.now()
    local bytes, how = peer:rest(2)
    assert.same({ "", "eof" }, { bytes, how })
    local took = cws.now() - at
    assert(took >= 0.29 and took <= 0.3 + 0.7 * net.slow, took)
    peer:close()
    self.inputs = 0
  end)

  row("B003", "half a request line and no more", function(self)
    for _, start in ipairs({ "GET / HT", "G", "GET / HTTP/1.1\r\nHost: a\r\n", ws():sub(1, -2), "\r\n" }) do
      local at = cws.now()
      http(self, { start }, H(408), { server = quick, at_most = 2 })
      local took = cws.now() - at
      assert(took >= 0.29 and took <= 0.3 + 0.7 * net.slow, took)
    end
  end)

  row("B003", "a byte now and then does not move the end", function(self)
    local url = wire.serve(self, { server = quick })
    local peer, at = assert(raw.connect(url)), cws.now()
    local request = ws()
    for i = 1, #request do
      if not peer:send(request:sub(i, i)) or peer:peek() ~= "" then break end
      cws.sleep(0.02)
    end
    assert(peer:rest(2):find("^HTTP/1.1 408 "))
    assert(cws.now() - at <= 0.3 + 0.7 * net.slow)
    peer:close()
  end)

  -- What n heads of 16 KiB cost, sent byte by byte or whole.
  local function cost(url, request, step)
    local peer = assert(raw.connect(url))
    local cpu = os.clock()
    for i = 1, #request, step do
      peer:send(request:sub(i, i + step - 1))
      cws.sleep(0)
    end
    cpu = os.clock() - cpu
    assert(peer:head())
    peer:close()
    return cpu
  end

  row("B005", "byte by byte is linear", function(self)
    local url = wire.serve(self, {})
    local function head(bytes) return ws("X: " .. ("y"):rep(bytes)) end
    cost(url, head(4000), 1)
    local quarter, whole = cost(url, head(4000), 1), cost(url, head(16000), 1)
    -- four times the bytes; a second look at each would be sixteen times
    assert(whole <= 8 * quarter, ("%.1f ms for 4 KB, %.1f ms for 16 KB"):format(quarter * 1e3, whole * 1e3))
  end)

  row("B079", "fields of proxies are not the peer's address", function(self)
    local remote
    local url = wire.serve(self, { routes = {
      ["/who"] = function(req, res)
        remote = req.remote
        res:write("page\n")
      end,
    } })
    local peer = assert(raw.connect(url))
    peer:send(get("/who", "X-Forwarded-For: 10.1.2.3", "X-Real-IP: 10.1.2.3", "Forwarded: for=10.1.2.3"))
    local port = peer.socket:port()
    assert(peer:rest(2):find("page\n$"))
    assert.equal("127.0.0.1:" .. port, remote)
    peer:close()
  end)

  row("B081", "fields, status and subprotocol with control bytes", function(self)
    local problems = {}
    local function refuses(fn, ...)
      if pcall(fn, ...) then problems[#problems + 1] = debug.traceback("accepted") end
    end
    http(self, { get("/set") }, page(), { whole = true, routes = {
      ["/set"] = function(req, res)
        for _, value in ipairs({ "a\r\nX: y", "a\n", "a\r", "a\0", "\x01" }) do
          refuses(res.header, res, "X-Field", value)
          refuses(res.header, res, "X" .. value, "y")
          refuses(res.error, res, value)
          refuses(req.upgrade, req, { protocols = { value } })
          refuses(req.upgrade, req, { headers = { ["X-Field"] = value } })
          refuses(req.upgrade, req, { headers = { ["X" .. value] = "y" } })
        end
        refuses(res.error, res, 99)
        refuses(res.error, res, 1000)
        res:write("page\n")
      end,
    } })
    assert.same({}, problems)
  end)

  -- Each part of a request carries a mark; no answer may show it.
  row("B082", "an answer to an error shows nothing of the request", function(self)
    local mark = "Xmark7"
    local requests = {
      mark .. " / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /" .. mark .. " HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET " .. mark .. " HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/" .. mark .. "\r\n\r\n",
      get("/x", mark .. " : a"), get("/x", mark), ws("Host: a/" .. mark), ws("Upgrade: " .. mark),
      ws("Connection: " .. mark), ws("Sec-WebSocket-Version: " .. mark), ws("Sec-WebSocket-Key: " .. mark),
      ws("Origin: http://" .. mark), ws("Sec-WebSocket-Protocol: " .. mark .. " x"),
      ws("Sec-WebSocket-Extensions: " .. mark .. ";;"), get("/raises?" .. mark), get("/%zz" .. mark),
    }
    http(self, requests, function(answer)
      assert(answer.status >= 400, answer.head)
      local all = answer.head .. answer.body
      assert(not all:find(mark, 1, true), all)
      assert(not all:find("%.lua") and not all:find("traceback") and not all:find("cws") and not all:find("Lua"), all)
      assert(#answer.body <= 256)
    end, { at_most = 8, routes = { ["/raises"] = function(req) error(req.query) end } })
  end)

  row("B258", "100 equal names, and names that collide", function(self)
    local lines = {}
    for i = 1, 90 do lines[i] = "X-Same: " .. ("v"):rep(100) end
    local cpu, seen
    http(self, { get("/fields", table.unpack(lines)) }, page(), { whole = true, routes = {
      ["/fields"] = function(req, res)
        cpu = os.clock()
        seen = #req.headers["x-same"] + #req:header("X-SAME")
        cpu = os.clock() - cpu
        res:write("page\n")
      end,
    } })
    assert.equal(2 * (90 * 102 - 2), seen)
    assert(cpu <= 0.001 * net.slow, cpu)
  end)
end)
