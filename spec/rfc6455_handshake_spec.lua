-- Each MUST and MUST NOT of RFC 6455 sections 3, 4, 9 and 11 that concerns an
-- endpoint, by its section, in all cuttings. What needs a socket (4.1: the
-- connection itself) is in the specs of connect and server.
local testing = require("cws.testing")
local support = require("spec.support.session")

local KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

-- Calls fn with the parsed head, however it was cut. All results must be equal;
-- returns them as a list.
local function parse(kind, head, fn)
  local first
  support.cuts(head, function(segments, how)
    local http, result = testing.http(kind), nil
    for _, segment in ipairs(segments) do
      result = http:feed(segment)
      if result == "bad" then break end
    end
    local got = result == "item" and table.pack(fn(http)) or table.pack(result, http:failure())
    first = first or got
    assert.same(first, got, how)
  end)
  return first
end

local function with(fields, changes)
  local lines, seen = {}, {}
  for _, field in ipairs(fields) do
    local name = field[1]
    if changes[name] == nil then
      lines[#lines + 1] = name .. ": " .. field[2]
    elseif changes[name] and not seen[name] then
      for _, value in ipairs(type(changes[name]) == "table" and changes[name] or { changes[name] }) do
        lines[#lines + 1] = name .. ": " .. value
      end
    end
    seen[name] = true
  end
  for name, value in pairs(changes) do
    if value and not seen[name] then
      for _, each in ipairs(type(value) == "table" and value or { value }) do
        lines[#lines + 1] = name .. ": " .. each
      end
    end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local request_fields = {
  { "Host", "server.example.com" }, { "Upgrade", "websocket" }, { "Connection", "Upgrade" },
  { "Sec-WebSocket-Key", KEY }, { "Sec-WebSocket-Version", "13" },
}

-- What the server makes of the handshake of 1.3 with changed fields (false takes
-- one away, a list repeats it): the upgrade, or the status.
local function server(changes, line)
  local head = (line or "GET /chat HTTP/1.1") .. "\r\n" .. with(request_fields, changes or {})
  return parse("request", head, function(http)
    local request, why = http:request()
    if type(request) ~= "table" then return request, why end
    return http:upgrade()
  end)[1]
end

local function accepted(changes, line)
  local upgrade = server(changes, line)
  assert.equal("table", type(upgrade), "accepted, but got " .. tostring(upgrade))
  return upgrade
end

local response_fields = {
  { "Upgrade", "websocket" }, { "Connection", "Upgrade" }, { "Sec-WebSocket-Accept", ACCEPT },
}

-- What the client makes of the answer of 1.3 with changed fields: protocol and
-- extensions, or nil, "handshake", why.
local function client(changes, offer, line)
  local head = (line or "HTTP/1.1 101 Switching Protocols") .. "\r\n" .. with(response_fields, changes or {})
  return parse("response", head, function(http)
    return http:check_response({ key = KEY, protocols = offer or "" })
  end)
end

local function opens(changes, offer)
  assert.is_string(client(changes, offer)[1])
end

local function refused(changes, offer)
  local got = client(changes, offer)
  assert.is_nil(got[1])
  assert.equal("handshake", got[2])
  assert.is_string(got[3])
end

-- A request as our client writes it, parsed.
local function written(offer)
  offer.key = offer.key or KEY
  offer.authority = offer.authority or "h"
  offer.target = offer.target or "/"
  return parse("request", assert(testing.write_request(offer)), function(http)
    return { http:find("Host", 0), http:find("Upgrade", 0), http:find("Connection", 0),
      http:find("Sec-WebSocket-Key", 0), http:find("Sec-WebSocket-Version", 0),
      http:find("Sec-WebSocket-Protocol", 0), http:request() }
  end)[1]
end

describe("RFC 6455 3 URIs:", function()
  it("ws and wss in any case, the port and path by default, B109", function()
    assert.same({ secure = false, host = "h", ipv6 = false, port = -1, authority = "h", target = "" },
      testing.url_parse("ws://h"))
    assert.same({ secure = true, host = "::1", ipv6 = true, port = 8080, authority = "[::1]:8080", target = "/a?b" },
      testing.url_parse("WSS://[::1]:8080/a?b"))
  end)

  it("a fragment must not be used", function()
    assert.is_nil(testing.url_parse("ws://h/#a"))
    assert.is_nil(testing.url_parse("ws://h/a#"))
    assert.is_table(testing.url_parse("ws://h/%23"))
  end)

  it("anything else is not a WebSocket URI, B106 B107", function()
    for _, text in ipairs({ "", "http://h/", "wss:/h", "ws:h", "//h", "ws://", "ws://:80/", "ws://[::1/",
      "ws://h:0", "ws://h:65536", "ws://h:-1", "ws://h:8o", "ws://h /" }) do
      local url, why = testing.url_parse(text)
      assert.is_nil(url, text)
      assert.is_string(why)
    end
  end)
end)

describe("RFC 6455 4.1 the client's request:", function()
  it("is a valid GET of HTTP/1.1 with Host, Upgrade, Connection, key and version", function()
    local got = written({ authority = "server.example.com:8080", target = "/chat?x=1" })
    assert.same({ "server.example.com:8080", "websocket", "Upgrade", KEY, "13" },
      { got[1], got[2], got[3], got[4], got[5] })
    assert.equal("GET", got[7].method)
    assert.equal("/chat?x=1", got[7].target)
    assert.is_true(got[7].wants_upgrade)
  end)

  it("has the key of a nonce of 16 bytes that was chosen at random", function()
    local seen = {}
    for _ = 1, 100 do
      local key = testing.new_key()
      assert.is_true(testing.key_valid(key))
      assert.is_nil(seen[key])
      seen[key] = true
    end
  end)

  it("has no protocol field unless there is one", function()
    assert.is_nil(written({})[6])
    assert.equal("chat, superchat", written({ protocols = "chat, superchat" })[6])
  end)
end)

describe("RFC 6455 4.1 the client's checks of the answer:", function()
  it("takes the answer of 1.3", function()
    assert.same({ n = 2, "", "" }, client())
  end)

  it("(2) Upgrade is websocket in any case, B087", function()
    opens({ Upgrade = "WebSocket" })
    for _, value in ipairs({ false, "h2c", "websocket, h2c", { "websocket", "h2c" } }) do
      refused({ Upgrade = value })
    end
  end)

  it("(3) Connection has the token Upgrade in any case, B089", function()
    opens({ Connection = "keep-alive, uPgRaDe" })
    for _, value in ipairs({ false, "close", "upgraded", "" }) do
      refused({ Connection = value })
    end
  end)

  it("(4) Accept is the digest of our key, with white space around it ignored, B090 B091", function()
    opens({ ["Sec-WebSocket-Accept"] = " \t" .. ACCEPT .. "\t " })
    for _, value in ipairs({ false, "", ACCEPT:lower(), ACCEPT .. "x", ACCEPT:sub(1, -2), KEY, { ACCEPT, ACCEPT } }) do
      refused({ ["Sec-WebSocket-Accept"] = value })
    end
  end)

  it("(5) no extension that was not offered, B093", function()
    local agreed, kind = testing.extension_check("permessage-deflate", nil)
    assert.same({ nil, "handshake" }, { agreed, kind })
    refused({ ["Sec-WebSocket-Extensions"] = { "permessage-deflate", "permessage-deflate" } })
  end)

  it("(6) no subprotocol that was not offered", function()
    assert.equal("chat", client({ ["Sec-WebSocket-Protocol"] = "chat" }, "chat, superchat")[1])
    refused({ ["Sec-WebSocket-Protocol"] = "chat" })
    refused({ ["Sec-WebSocket-Protocol"] = "chat" }, "superchat")
    refused({ ["Sec-WebSocket-Protocol"] = "Chat" }, "chat")
    refused({ ["Sec-WebSocket-Protocol"] = { "chat", "chat" } }, "chat")
    refused({ ["Sec-WebSocket-Protocol"] = "chat, superchat" }, "chat, superchat")
  end)

  it("HTTP/1.0 cannot switch, B086", function()
    assert.equal("handshake", client({}, nil, "HTTP/1.0 101 x")[2])
  end)
end)

describe("RFC 6455 4.2.1 what the server demands:", function()
  it("takes the request of 1.3", function()
    assert.equal(KEY, accepted().key)
  end)

  it("(1) a GET of HTTP/1.1 or higher, B014 B015 B019", function()
    accepted({}, "GET /chat HTTP/1.2")
    assert.equal(426, server({}, "GET /chat HTTP/1.0"))
    assert.equal(405, server({}, "POST /chat HTTP/1.1"))
    assert.equal(405, server({}, "HEAD /chat HTTP/1.1"))
  end)

  it("(2) a Host, B043", function()
    assert.equal(400, server({ Host = false }))
    assert.equal(400, server({ Host = { "a", "a" } }))
  end)

  it("(3) Upgrade names websocket in any case, B061 B062", function()
    accepted({ Upgrade = "h2c, WebSocket" })
    accepted({ Upgrade = { "h2c", "WEBSOCKET" } })
    for _, value in ipairs({ false, "websocket/13", "websockets", "" }) do
      assert.equal(426, server({ Upgrade = value }))
    end
  end)

  it("(4) Connection names Upgrade in any case, B061 B063", function()
    accepted({ Connection = "keep-alive, uPgRaDe" })
    accepted({ Connection = { "keep-alive", "upgrade" } })
    for _, value in ipairs({ false, "upgrade-insecure", "keep-alive", "" }) do
      assert.equal(400, server({ Connection = value }))
    end
  end)

  it("(5) the key is base64 of 16 bytes", function()
    for _, value in ipairs({ false, "", "AAAA", KEY:sub(1, -2), KEY .. "=", "!" .. KEY:sub(2),
      "dGhlIHNhbXBsZSBub25jZR==", { KEY, KEY } }) do
      assert.equal(400, server({ ["Sec-WebSocket-Key"] = value }))
    end
  end)

  it("(6) version 13; any other gets 426, none at all 400, B065 B066", function()
    for _, value in ipairs({ "8", "12", "14", "0", "255" }) do
      assert.equal(426, server({ ["Sec-WebSocket-Version"] = value }))
    end
    for _, value in ipairs({ false, "013", "13.0", "abc", "13, 8", ("1"):rep(300), "256", { "13", "13" } }) do
      assert.equal(400, server({ ["Sec-WebSocket-Version"] = value }))
    end
  end)

  it("(8) subprotocols are different tokens, in one field or several, B073", function()
    assert.equal("chat, superchat", accepted({ ["Sec-WebSocket-Protocol"] = { "chat", "superchat" } }).protocols)
    for _, value in ipairs({ "a b", "a, a", "(x)", { "a", "a" } }) do
      assert.equal(400, server({ ["Sec-WebSocket-Protocol"] = value }))
    end
  end)
end)

describe("RFC 6455 4.2.2 the server's answer:", function()
  -- The answer that the server writes, as the client sees it.
  local function answer(changes)
    changes.key = KEY
    return parse("response", assert(testing.write_101(changes)), function(http)
      local head = http:head()
      local checked = table.pack(http:check_response({ key = KEY, protocols = "chat, superchat" }))
      return head.status, http:find("Sec-WebSocket-Protocol", 0), http:find("Sec-WebSocket-Protocol", 1),
        http:find("Sec-WebSocket-Extensions", 0), http:find("Date", 0), checked
    end)
  end

  it("(5) is a 101 that the client's checks accept", function()
    local got = answer({})
    assert.equal(101, got[1])
    assert.same({ n = 2, "", "" }, got[6])
    assert.equal("Thu, 01 Jan 1970 00:00:00 GMT", got[5])
  end)

  it("(5.5) names at most one subprotocol, B071; (5.6) the extensions", function()
    local got = answer({ protocol = "superchat", extension = "permessage-deflate" })
    assert.equal("superchat", got[2])
    assert.is_nil(got[3])
    assert.equal("permessage-deflate", got[4])
    assert.same({ n = 2, "superchat", "permessage-deflate" }, got[6])
    assert.is_nil(answer({})[2])
    assert.is_nil(answer({})[4])
  end)

  it("4.4 says which version it speaks when it is another one", function()
    local head = testing.write_response({ status = 426, length = 0 })
    parse("response", head, function(http)
      assert.equal("13", http:find("Sec-WebSocket-Version", 0))
      assert.equal("websocket", http:find("Upgrade", 0))
      assert.is_true(http:has_token("Connection", "upgrade"))
    end)
  end)
end)

describe("RFC 6455 9.1 negotiating extensions:", function()
  it("the field is a list of tokens with parameters; a malformed one gets 400, B075", function()
    for _, value in ipairs({ "foo", "foo; bar", "foo; bar=1", 'foo; bar="a"', "foo, bar; baz", "foo;bar=1;baz, foo" }) do
      assert.equal(value, accepted({ ["Sec-WebSocket-Extensions"] = value }).extensions)
    end
    for _, value in ipairs({ "foo;;", ";a", "foo; b=", 'foo; b="', 'foo; b="a b"', "foo bar", "foo; =1" }) do
      assert.equal(400, server({ ["Sec-WebSocket-Extensions"] = value }))
    end
  end)

  it("several fields are one list", function()
    assert.equal("foo, bar; x=1", accepted({ ["Sec-WebSocket-Extensions"] = { "foo", "bar; x=1" } }).extensions)
  end)
end)

describe("RFC 6455 10.2 origins:", function()
  it("the browser's Origin is the host that was asked, B067 B069 B070", function()
    assert.equal("http://good.example", accepted({ Origin = "http://good.example" }).origin)
    assert.is_true(testing.same_origin("HTTP://GOOD.example", "good.EXAMPLE"))
    assert.is_true(testing.same_origin("https://good.example", "good.example:443"))
    for _, origin in ipairs({ "http://evil.example", "http://good.example.evil", "null", "", "http://good.example:81",
      "http://good.example/", "ws://good.example", "http://x@good.example" }) do
      assert.is_false(testing.same_origin(origin, "good.example"), origin)
    end
  end)
end)
