-- csrc/proto/handshake.h: what a server demands of a request and answers, RFC
-- 6455 section 4.2. The client's side is in handshake_client_spec.lua.
local testing = require("cws.testing")
local support = require("spec.support.http")
local head, upgrade, expect = support.head, support.upgrade, support.expect

after_each(function()
  testing.alloc_fail(0)
  testing.random_fail(0)
end)

local function get(target, ...)
  return head({ "GET " .. target .. " HTTP/1.1", "Host: b.example", ... })
end

local function with_host(...)
  return head({ "GET / HTTP/1.1", ... })
end

-- Each value of the field must get that answer.
local function values(name, list, expected)
  for _, value in ipairs(list) do
    expect(upgrade({ [name] = value }), expected)
  end
end

describe("request target:", function()
  it("path and query are cut apart, the path is decoded", function()
    for target, parts in pairs({
      ["/"] = { "/", "" }, ["/a?b=c?d"] = { "/a", "b=c?d" }, ["/?"] = { "/", "" }, ["/%41%62c"] = { "/Abc", "" },
      ["/a%2Fb%3fc?%zz"] = { "/a/b?c", "%zz" }, ["/%C3%A9%ff"] = { "/\xC3\xA9\xFF", "" }, ["/a+b"] = { "/a+b", "" },
      ["/*"] = { "/*", "" }, ["/a:b@c"] = { "/a:b@c", "" }, ["/?http://x/"] = { "/", "http://x/" },
    }) do
      local seen = expect(get(target), "200")
      assert.same(parts, { seen.request.path, seen.request.query })
      assert.equal(target, seen.request.target)
      assert.equal("b.example", seen.request.host)
      assert.is_false(seen.request.head_only)
    end
  end)

  it("an asterisk is for OPTIONS only, B023", function()
    expect(get("*"), "400")
  end)

  it("the absolute form's host wins over Host, B025", function()
    local seen = expect(head({ "GET http://a.example/ws HTTP/1.1", "Host: b.example" }), "400") -- no upgrade fields
    assert.equal("a.example", seen.request.host)
    assert.equal("/ws", seen.request.target)
    for target, parts in pairs({
      ["http://a.example/p?q"] = { "a.example", "/p", "q" }, ["HTTP://A.example:81/"] = { "A.example:81", "/", "" },
      ["https://[::1]:8/x"] = { "[::1]:8", "/x", "" }, ["http://a.example"] = { "a.example", "/", "" },
      ["ws://a/p"] = { "a", "/p", "" }, ["wss://a/p"] = { "a", "/p", "" },
      ["http://a.example?q"] = { "a.example", "/", "q" }, ["http://a.example?q/r"] = { "a.example", "/", "q/r" },
    }) do
      seen = expect(get(target), "200")
      assert.same(parts, { seen.request.host, seen.request.path, seen.request.query })
    end
  end)

  it("the absolute form does not make up for Host", function()
    expect(head({ "GET http://a.example/ HTTP/1.1" }), "400")
    expect(head({ "GET http://a.example/ HTTP/1.1", "Host: a b" }), "400")
    expect(head({ "GET http://a.example/ HTTP/1.1", "Host: a", "Host: a" }), "400")
  end)

  it("other schemes, an empty host, userinfo are refused, B026", function()
    for _, target in ipairs({
      "ftp://a/ws", "http:///ws", "http://", "http:/ws", "http:ws", "http://:80/ws", "http://a:0/", "http://a:65536/",
      "http://a:b/", "http://u@a/", "http://u:p@a/", "http://@a/", "http://[::1/", "http://a b/", "file:///ws",
      "javascript:alert(1)", "://a/", "http://a\\b/",
    }) do
      expect(get(target), "400")
    end
  end)

  it("neither a name, nor a fragment, nor a space, B027", function()
    for _, target in ipairs({ "foo", "/a#b", "/a b", "?a", "a/b", "//a#", "/?a#b", "http://a/#b" }) do
      expect(get(target), "400")
    end
  end)

  it("two slashes begin a path, never a host, B030", function()
    local seen = expect(get("//evil.example/x"), "200")
    assert.equal("//evil.example/x", seen.request.path)
    assert.equal("b.example", seen.request.host)
  end)

  it("malformed escapes and NUL are refused, B031", function()
    for _, target in ipairs({ "/%zz", "/%", "/%0", "/a%00b", "/%0g", "/%g0", "/%%41", "/%4", "/a%", "http://a/%00" }) do
      expect(get(target), "400")
    end
    expect(get("/?%00%"), "200") -- the query is the program's matter
  end)

  it("is matched as it is decoded, nothing else is cleaned, B033", function()
    for target, path in pairs({
      ["/ws/"] = "/ws/", ["//ws"] = "//ws", ["/./ws"] = "/./ws", ["/ws;x"] = "/ws;x", ["/WS"] = "/WS",
      ["/a/../ws"] = "/a/../ws", ["/ws%2F"] = "/ws/", ["/%2E/ws"] = "/./ws",
    }) do
      assert.equal(path, expect(get(target), "200").request.path)
    end
    assert.equal("/ws", expect(get("/%77s"), "400").request.path)
  end)
end)

describe("Host:", function()
  it("is demanded of HTTP/1.1, B043", function()
    expect(with_host(), "400")
    expect(upgrade({ Host = false }), "400")
    expect(head({ "GET / HTTP/1.2" }), "400")
  end)

  it("comes once", function()
    expect(with_host("Host: a", "Host: a"), "400")
    expect(with_host("Host: a", "host: b"), "400")
    expect(head({ "GET / HTTP/1.0", "Host: a", "Host: b" }), "400")
  end)

  it("is a host with a port or without, B045", function()
    for _, host in ipairs({
      "a b", "a/b", "a@b", "a<b", "[::1", "a:99999", "a:b", "", ":80", "a:80:80", "a,b", "a:0", "a:-1", "a:+1", "a: 1",
      "::1", "[::1]x", "[]", "[::1]:", "[::1%25eth0]", "[v1.a]", "[::1]]", "a%", "a%4", "a%zz", "a\\b", "a\"b", "a\xE9",
      "a#b", "a?b", "http://a", "[1.2.3.4]", "[:]", "[1:2]", "[:::]", "[1:2:3:4:5:6:7:8:9]", "[12345::]", "[::1.2.3]",
      "[::1::]", "a{b", "a|b", "a^b", "a`b",
    }) do
      local fine = host == "a,b" or host == "[::1]:" -- a sub-delim, and an empty port
      expect(with_host("Host: " .. host), fine and "200" or "400")
    end
    for _, host in ipairs({
      "a", "a.example", "a.example.", "a:1", "a:65535", "a:", "a:0080", "127.0.0.1", "127.0.0.1:80", "[::1]",
      "[::1]:80", "[1:2:3:4:5:6:7:8]", "[::ffff:1.2.3.4]", "[FE80::a]", "a_b", "a%41", "xn--a", "1", "-",
      "a!$&'()*+,;=~",
    }) do
      assert.equal(host, expect(with_host("Host:\t" .. host .. " "), "200").request.host)
      expect(head({ "GET / HTTP/1.0", "Host: " .. host }), "200")
    end
    expect(head({ "GET / HTTP/1.0", "Host: a b" }), "400")
    expect(head({ "GET / HTTP/1.0", "Host:" }), "400")
  end)
end)

describe("methods:", function()
  it("known ones but GET and HEAD are not allowed, B019 B022", function()
    for _, line in ipairs({
      "POST /ws", "PUT /ws", "DELETE /ws", "OPTIONS /ws", "OPTIONS *", "TRACE /ws", "PATCH /ws", "CONNECT h:443",
    }) do
      expect(upgrade({}, line .. " HTTP/1.1"), "405")
    end
  end)

  it("HEAD is served without a body, and upgrades nothing, B078", function()
    assert.is_true(expect(head({ "HEAD / HTTP/1.1", "Host: a" }), "200").request.head_only)
    expect(upgrade({}, "HEAD /ws HTTP/1.1"), "405")
  end)

  it("the order: unknown method, Host, body, known method, target", function()
    expect(head({ "FOO * HTTP/1.1", "Content-Length: 1" }), "501")
    expect(head({ "POST * HTTP/1.1", "Content-Length: 1" }), "400 missing or malformed Host")
    expect(head({ "POST * HTTP/1.1", "Host: a", "Content-Length: 1" }), "400 requests with a body are not accepted")
    expect(head({ "POST * HTTP/1.1", "Host: a" }), "405")
    expect(head({ "GET * HTTP/1.1", "Host: a" }), "400 bad request target")
  end)
end)

describe("bodies:", function()
  it("an upgrade with a body is refused, B050", function()
    expect(upgrade({ "Content-Length: 5" }) .. "12345", "400")
    expect(upgrade({ "Content-Length: 5" }), "400")
  end)

  it("Content-Length: 0 is no body, B051", function()
    expect(upgrade({ "Content-Length: 0" }), "101")
    expect(upgrade({ "content-length:0\t" }), "101")
  end)

  it("any other Content-Length is one", function()
    for _, value in ipairs({
      "1", "00", "+0", "-0", "0x0", "0, 0", "", "a", "18446744073709551616", "0 0", "0;a", "-1", "0.0",
    }) do
      expect(upgrade({ "Content-Length: " .. value }), "400")
    end
    expect(upgrade({ "Content-Length: 0", "Content-Length: 0" }), "400")
    expect(upgrade({ "Content-Length: 0", "Content-Length: 5" }), "400")
  end)

  it("Content-Length with Transfer-Encoding, B053", function()
    local smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
    for _, fields in ipairs({
      { "Content-Length: 0", "Transfer-Encoding: chunked" }, { "transfer-encoding: CHUNKED", "CONTENT-LENGTH: 4" },
      { "TRANSFER-ENCODING: chunked", "Content-Length: 0" }, { "Content-length: 4", "Transfer-encoding: identity" },
    }) do
      expect(upgrade(fields) .. smuggled, "400")
    end
  end)

  it("any Transfer-Encoding, B054", function()
    local values_of_it = { "chunked", "xchunked", "chunked, identity", "chunked, chunked", "", "identity", "\"\"" }
    for _, value in ipairs(values_of_it) do
      expect(upgrade({ "Transfer-Encoding: " .. value }), "400")
      expect(get("/", "Transfer-Encoding: " .. value), "400")
    end
    expect(upgrade({ "Transfer-Encoding: chunked", "Transfer-Encoding: chunked" }), "400")
  end)

  it("HTTP/1.0 too, B055", function()
    expect(head({ "GET / HTTP/1.0", "Transfer-Encoding: chunked" }), "400")
    expect(head({ "GET / HTTP/1.0", "Content-Length: 3" }), "400")
  end)
end)

describe("upgrade:", function()
  it("the request of RFC 6455 1.2 is accepted, cut anywhere, B006", function()
    local seen = expect(head({
      "GET /ws HTTP/1.1", "Host: server.example.com", "Upgrade: websocket", "Connection: Upgrade",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: http://server.example.com",
      "Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Version: 13",
    }), "101")
    assert.same({
      key = support.key, origin = "http://server.example.com", protocols = "chat, superchat", extensions = "",
    }, seen.upgrade)
    assert.is_true(seen.request.wants_upgrade)
  end)

  it("HTTP/1.0 has no upgrade, B014", function()
    local seen = expect(upgrade({}, "GET /ws HTTP/1.0"), "426")
    assert.is_false(seen.request.wants_upgrade)
  end)

  it("tokens in any case, in lists, in two fields, B061", function()
    values("Upgrade", { "h2c, WebSocket", "WEBSOCKET", "websocket, h2c", ",websocket,", "HTTP/2.0, websocket" }, "101")
    values("Connection", {
      "keep-alive, uPgRaDe", "upgrade", "Upgrade,keep-alive", " , upgrade ,", { "keep-alive", "Upgrade" },
    }, "101")
    expect(upgrade({ Upgrade = { "h2c", "websocket" } }), "101")
  end)

  it("Upgrade without the token, B062", function()
    values("Upgrade", {
      "websocket/13", "websockets", "web socket", "", "h2c", "\"websocket\"", "websocket;q=1", "web,socket",
    }, "426")
    expect(upgrade({ Upgrade = false }), "426")
    assert.is_false(expect(get("/"), "200").request.wants_upgrade)
  end)

  it("Connection without the token, B063", function()
    values("Connection", {
      "keep-alive", "upgrade-insecure", "", "close", "up grade", "upgrades", "\"upgrade\"", "upgrade;a", "upgrade/1",
    }, "400")
    expect(upgrade({ Connection = false }), "400")
    expect(upgrade({ Connection = false, Upgrade = false }), "400") -- the order of the checks
  end)

  it("a version that we do not speak, B065", function()
    values("Sec-WebSocket-Version", { "8", "12", "14", "0", "1", "7", "77", "100", "255" }, "426")
  end)

  it("no version, or none that the grammar allows, B066", function()
    values("Sec-WebSocket-Version", {
      "013", "13.0", "abc", "13, 8", ("1"):rep(300), { "13", "13" }, { "13", "8" }, "", "256", "999", "1000", "-1",
      "+13", "0x0D", "13 ,", "00", "1 3", "13;a", "\"13\"", "1a",
    }, "400")
    expect(upgrade({ ["Sec-WebSocket-Version"] = false }), "400")
    values("Sec-WebSocket-Version", { " 13", "13\t" }, "101")
  end)

  it("the key is base64 of 16 bytes, once", function()
    local key = support.key
    values("Sec-WebSocket-Key", {
      "", key:sub(1, -2), key .. "=", key:sub(1, 22), "x", key .. ", " .. key, { key, key }, key:sub(1, 21) .. "R==",
      key:gsub("d", "-"), ("A"):rep(24), ("A"):rep(8000), key:sub(2) .. "=",
    }, "400")
    expect(upgrade({ ["Sec-WebSocket-Key"] = false }), "400")
    values("Sec-WebSocket-Key", {
      "  " .. key .. "\t", ("A"):rep(22) .. "==", "/+AZaz09" .. ("A"):rep(13) .. "w==",
    }, "101")
  end)

  it("the order: HTTP/1.0, method, Connection, Upgrade, version, key, lists", function()
    local bad = {
      ["Sec-WebSocket-Key"] = "x", ["Sec-WebSocket-Version"] = "8", Upgrade = "h2c", Connection = "close",
      "Sec-WebSocket-Protocol: a, a", "Sec-WebSocket-Extensions: ;",
    }
    expect(upgrade(bad, "HEAD /ws HTTP/1.0"), "426 HTTP/1.1")
    expect(upgrade(bad, "HEAD /ws HTTP/1.1"), "405")
    expect(upgrade(bad), "400 'upgrade' token")
    bad.Connection = nil
    expect(upgrade(bad), "426 'websocket' token")
    bad.Upgrade = nil
    expect(upgrade(bad), "426 unsupported version")
    bad["Sec-WebSocket-Version"] = nil
    expect(upgrade(bad), "400 'Sec-WebSocket-Key'")
    bad["Sec-WebSocket-Key"] = nil
    expect(upgrade(bad), "400 malformed 'Sec-WebSocket-Protocol'")
    bad[1] = nil
    expect(upgrade({ "Sec-WebSocket-Extensions: ;" }), "400 malformed 'Sec-WebSocket-Extensions'")
  end)

  it("no Origin is no browser, B069", function()
    assert.is_nil(expect(upgrade(), "101").upgrade.origin)
  end)

  it("a foreign Origin, B067", function()
    expect(upgrade({ "Origin: http://evil.example" }), "403")
    expect(upgrade({ "Origin: http://good.example" }), "101")
    expect(upgrade({ "Origin: null" }), "403")
    expect(upgrade({ "Origin:" }), "403")
  end)

  it("two Origins are not what a browser sends", function()
    local good, evil = "Origin: http://good.example", "Origin: http://evil.example"
    expect(upgrade({ good, evil }), "400")
    expect(upgrade({ evil, good }), "400")
    expect(upgrade({ good, good }), "400")
  end)

  it("subprotocols of all fields are offered, in their order, B071", function()
    local seen = expect(upgrade({ "Sec-WebSocket-Protocol: chat, superchat" }), "101")
    assert.same({ "chat", "superchat" }, testing.http_list(seen.upgrade.protocols))
    seen = expect(upgrade({ "Sec-WebSocket-Protocol: a", "X: y", "sec-websocket-protocol: ,c,\tb ," }), "101")
    assert.same({ "a", "c", "b" }, testing.http_list(seen.upgrade.protocols))
    seen = expect(upgrade({ "Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol: a" }), "101")
    assert.same({ "a" }, testing.http_list(seen.upgrade.protocols))
    expect(upgrade({ "Sec-WebSocket-Protocol: ab, a, A, aa, ba" }), "101") -- case matters
  end)

  it("subprotocols are different tokens, B073", function()
    for _, value in ipairs({
      "a b", "a, a", "(x)", "a,b,a", "\"a\"", "a;b", "a/b", "a, b c", "a, \xE9", "a=b", "a, b, c, , b",
    }) do
      expect(upgrade({ "Sec-WebSocket-Protocol: " .. value }), "400")
    end
    expect(upgrade({ "Sec-WebSocket-Protocol: a\x01" }), "400")
    expect(upgrade({ "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a" }), "400")
  end)

  it("endless lists of subprotocols cost little, B074", function()
    local limit = os.getenv("CWS_MODE") == "plain" and 0.001 or 0.02
    local function numbered(count, length)
      local names = {}
      for i = 1, count do
        names[i] = ("x"):rep(length - 2) .. ("%02d"):format(i)
      end
      return table.concat(names, ",")
    end
    local letters = {}
    for i = 1, 4000 do
      letters[i] = string.char(97 + i % 26)
    end
    for value, status in pairs({
      ["b" .. (" "):rep(8000) .. "x"] = "400", [(","):rep(8000)] = "400", [table.concat(letters, ",")] = "400",
      ["b" .. (" "):rep(8000)] = "101", [(", "):rep(4000) .. "x"] = "101", [numbered(64, 200)] = "101",
      [numbered(65, 200)] = "400", [numbered(64, 3):gsub(",", "," .. (" "):rep(200))] = "101",
    }) do
      local http = testing.http("request")
      http:feed(upgrade({ "Sec-WebSocket-Protocol: " .. value }))
      local best, outcome = math.huge, nil
      for _ = 1, 5 do
        local start = os.clock()
        outcome = http:upgrade()
        best = math.min(best, os.clock() - start)
      end
      assert.equal(status, type(outcome) == "table" and "101" or tostring(outcome))
      assert.is_true(best < limit, best .. " s for " .. value:sub(1, 20))
    end
  end)

  it("a list without an element is not one, B073 B075", function() -- 1#: RFC 9110 5.6.1.2
    for _, name in ipairs({ "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions" }) do
      for _, value in ipairs({ "", " ", ",", " ,\t, " }) do
        expect(upgrade({ name .. ":" .. value }), "400 malformed '" .. name .. "'")
      end
      expect(upgrade({ name .. ":", name .. ": ," }), "400")
      expect(upgrade({ name .. ": ,a,," }), "101")
      expect(upgrade({ name .. ":", name .. ": a" }), "101")
    end
  end)

  it("extensions must follow the grammar, B075", function()
    for _, value in ipairs({
      "permessage-deflate;;", ";a", "a;b=", "a;b=\"", "a;b=\"" .. ("\\c"):rep(4000), "a b", "a;b c", "a;=b", "a=b",
    }) do
      expect(upgrade({ "Sec-WebSocket-Extensions: " .. value }), "400")
    end
    expect(upgrade({ "Sec-WebSocket-Extensions: a;b", "Sec-WebSocket-Extensions: ;c" }), "400")
    local seen = expect(upgrade({ "Sec-WebSocket-Extensions: a;b", "Sec-WebSocket-Extensions: c;d=e" }), "101")
    assert.equal("a;b, c;d=e", seen.upgrade.extensions)
  end)

  it("each allocation that fails is a 503, and nothing leaks", function()
    local http = testing.http("request")
    http:feed(upgrade({ "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Extensions: " .. ("b;"):rep(300) .. "c" }))
    testing.alloc_fail(0)
    assert.is_table(http:upgrade())
    local asked = testing.alloc_fail(0)
    assert.is_true(asked >= 2)
    for n = 1, asked do
      testing.alloc_fail(n)
      assert.equal(503, (http:upgrade()))
    end
    testing.alloc_fail(asked + 1)
    assert.is_table(http:upgrade())
  end)
end)

describe("same origin:", function()
  local same = testing.same_origin

  it("scheme and host without case, B070", function()
    assert.is_true(same("HTTP://GOOD.example", "good.EXAMPLE"))
    assert.is_true(same("hTTps://GOOD.example", "good.EXAMPLE"))
    expect(upgrade({ Host = "good.EXAMPLE", "Origin: HTTP://GOOD.example" }), "101")
  end)

  it("a missing port is that of the Origin's scheme", function()
    for origin, hosts in pairs({
      ["http://a"] = { a = true, ["a:80"] = true, ["a:"] = true, ["a:443"] = false, ["a:8080"] = false },
      ["http://a:80"] = { a = true, ["a:80"] = true, ["a:81"] = false },
      ["https://a"] = { a = true, ["a:443"] = true, ["a:80"] = false },
      ["https://a:443"] = { a = true, ["a:443"] = true, ["a:0443"] = true },
      ["http://a:8080"] = { a = false, ["a:8080"] = true, ["a:80"] = false, ["b:8080"] = false },
      ["http://[::1]:80"] = { ["[::1]"] = true, ["::1"] = false, ["[::2]"] = false },
      ["http://a.b"] = { ["a.b."] = false, ["xa.b"] = false, ["a.bx"] = false, ["a"] = false, [""] = false },
    }) do
      for host, expected in pairs(hosts) do
        assert.equal(expected, same(origin, host), origin .. " at " .. host)
      end
    end
  end)

  it("letters only are compared without case", function()
    assert.is_false(same("http://a-b", "a\rb"))
    assert.is_false(same("http://a_", "a\x7f"))
    assert.is_false(same("http://a!", "a\1"))
    assert.is_false(same("http://0", "P"))
  end)

  it("nothing but scheme, host and port", function()
    for _, origin in ipairs({
      "", "null", "a", "//a", "http:", "http://", "http:a", "http:/a", "http://a/", "http://a/x", "http://a?x",
      "http://a#x", "http://u@a", "http://@a", "http://a, http://a", "http://a http://a", "ws://a", "wss://a",
      "ftp://a", "file://a", "http://a:0", "http://a:x", "http://a:99999", "xhttp://a", "http://\xE9", "http://a\0",
      "http://[a]", "chrome-extension://a", "http://a\\", "http://a%",
    }) do
      assert.is_false(same(origin, "a"), origin)
    end
    assert.is_false(same(nil, "a"))
    assert.is_false(same("http://a", ""))
    assert.is_false(same("http://a", "a b"))
  end)
end)

describe("the server's answers:", function()
  local now, date = 784111777, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

  local function fields_of(bytes)
    local http = testing.http("response")
    assert.equal("item", http:feed(bytes))
    local out, parsed = {}, http:head()
    for i = 1, #parsed.fields, 2 do
      local name = parsed.fields[i]:lower()
      assert.is_nil(out[name], name .. " is there twice")
      out[name] = parsed.fields[i + 1]
    end
    assert.equal(#bytes, parsed.size)
    return out, parsed.status, parsed.reason
  end

  it("101, as RFC 6455 4.2.2 says", function()
    assert.equal("HTTP/1.1 101 Switching Protocols\r\n" .. date .. "Upgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
      testing.write_101({ key = support.key, now = now }))
    assert.equal("HTTP/1.1 101 Switching Protocols\r\n" .. date .. "Upgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: p\r\n"
      .. "Sec-WebSocket-Extensions: e;f\r\nA: b\r\n\r\n",
      testing.write_101({ key = support.key, now = now, protocol = "p", extension = "e;f", fields = "A: b\r\n" }))
  end)

  it("a Date of the program's own is not written twice", function()
    local own = "X: y\r\ndate: mine\r\n"
    assert.equal("mine", fields_of(testing.write_101({ key = support.key, fields = own })).date)
    assert.equal("mine", fields_of(testing.write_response({ status = 200, fields = own })).date)
    assert.equal("Thu, 01 Jan 1970 00:00:00 GMT",
      fields_of(testing.write_response({ status = 200, fields = "X: Date: y\r\nDated: z\r\n" })).date)
  end)

  it("any other closes and has its length", function()
    for _, status in ipairs({ 200, 400, 403, 404, 408, 414, 431, 500, 501, 503, 505, 299 }) do
      local fields, seen, reason = fields_of(testing.write_response({
        status = status, length = 12, now = now, fields = "Content-Type: text/plain\r\n",
      }))
      assert.equal(status, seen)
      assert.equal(testing.http_reason(status), reason)
      assert.same({
        date = "Sun, 06 Nov 1994 08:49:37 GMT", connection = "close", ["content-length"] = "12",
        ["content-type"] = "text/plain",
      }, fields)
    end
    assert.is_nil((fields_of(testing.write_response({ status = 204 })))["content-length"])
    assert.is_nil((fields_of(testing.write_response({ status = 304 })))["content-length"])
  end)

  it("426 says what to upgrade to, B014 B062 B065", function()
    local fields = fields_of(testing.write_response({ status = 426, length = 0 }))
    assert.equal("Upgrade, close", fields.connection)
    assert.equal("websocket", fields.upgrade)
    assert.equal("13", fields["sec-websocket-version"])
  end)

  it("405 says what is allowed, B019", function()
    assert.equal("GET, HEAD", fields_of(testing.write_response({ status = 405 })).allow)
    assert.equal("PUT", fields_of(testing.write_response({ status = 405, fields = "allow: PUT\r\n" })).allow)
  end)

  it("each allocation that fails is told", function()
    for _, write in ipairs({
      function()
        return testing.write_101({ key = support.key, protocol = "p", fields = ("A: b\r\n"):rep(100) })
      end,
      function()
        return testing.write_response({ status = 426, fields = ("A: b\r\n"):rep(100) })
      end,
      function()
        return testing.write_request({ key = support.key, authority = "a", fields = ("A: b\r\n"):rep(100) })
      end,
    }) do
      testing.alloc_fail(0)
      assert.is_string(write())
      local asked = testing.alloc_fail(0)
      assert.is_true(asked >= 2)
      for n = 1, asked do
        testing.alloc_fail(n)
        assert.same({ nil, "memory" }, { write() })
      end
    end
  end)

  it("fields that a program may not set, B110", function()
    for _, name in ipairs({
      "Host", "host", "CONNECTION", "Upgrade", "Content-Length", "transfer-encoding", "Sec-WebSocket-Key",
      "sec-websocket-accept", "SEC-WEBSOCKET-", "Sec-WebSocket-Anything", "Trailer", "TE", "Keep-Alive",
    }) do
      assert.is_true(testing.reserved(name), name)
    end
    for _, name in ipairs({ "Origin", "Date", "Sec-WebSocket", "X-Host", "Hosts", "Cookie", "Te1", "", "Sec-" }) do
      assert.is_false(testing.reserved(name), name)
    end
  end)

  it("a field's value with CR, LF or NUL is none, B081", function()
    for _, text in ipairs({ "a\r", "a\n", "a\0", "a\r\nX: y", "\x1b" }) do
      assert.is_false(testing.is_value(text))
      assert.is_false(testing.is_token(text))
    end
  end)
end)
