-- csrc/proto/handshake.h: what a client asks, and what it demands of the
-- answer, RFC 6455 section 4.1.
local testing = require("cws.testing")
local support = require("spec.support.http")
local answer, expect_answer = support.answer, support.expect_answer

after_each(function()
  testing.alloc_fail(0)
end)

describe("the client's request:", function()
  it("has the fields of RFC 6455 4.1", function()
    assert.equal("GET /chat?x HTTP/1.1\r\nHost: a:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Key: " .. support.key .. "\r\nSec-WebSocket-Version: 13\r\n\r\n",
      testing.write_request({ authority = "a:81", target = "/chat?x", key = support.key }))
    assert.equal("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Key: " .. support.key .. "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: p, q\r\n"
      .. "Sec-WebSocket-Extensions: e\r\nA: b\r\n\r\n",
      testing.write_request({
        authority = "a", key = support.key, protocols = "p, q", extensions = "e", fields = "A: b\r\n",
      }))
    assert.truthy(testing.write_request({ target = "?x" }):find("^GET /%?x HTTP/1%.1\r\n"))
  end)

  it("is what our server accepts", function()
    local seen = support.expect(testing.write_request({
      authority = "good.example", target = "/ws", key = testing.new_key(), protocols = "p, q", extensions = "e;f=1",
      fields = "Origin: http://good.example\r\n",
    }), "101")
    assert.equal("p, q", seen.upgrade.protocols)
    assert.equal("e;f=1", seen.upgrade.extensions)
  end)
end)

describe("the client's checks of an answer:", function()
  it("what our server writes is accepted", function()
    local key = testing.new_key()
    local seen = expect_answer(testing.write_101({ key = key, protocol = "q", extension = "e;f" }), "101",
      { key = key, protocols = "p, q" })
    assert.equal("q", seen.protocol)
    assert.equal("e;f", seen.extensions)
    seen = expect_answer(testing.write_101({ key = key }), "101", { key = key })
    assert.equal("", seen.protocol)
    assert.equal("", seen.extensions)
  end)

  it("HTTP/1.0 cannot switch, B086", function()
    expect_answer(answer({}, "HTTP/1.0 101 x"), "handshake")
    expect_answer(answer({}, "HTTP/1.2 101 x"), "101")
  end)

  it("Upgrade is websocket, once, B087", function()
    for _, value in ipairs({ false, "h2c", "", "websocket, h2c", "websockets", "websocket/13", { "websocket", "h2c" },
      { "h2c", "websocket" }, { "websocket", "websocket" }, "\"websocket\"" }) do
      expect_answer(answer({ Upgrade = value }), "handshake")
    end
    expect_answer(answer({ Upgrade = "WebSocket" }), "101")
  end)

  it("Connection holds upgrade, B089", function()
    for _, value in ipairs({ false, "close", "", "upgrades", "up grade", "keep-alive, close" }) do
      expect_answer(answer({ Connection = value }), "handshake")
    end
    for _, value in ipairs({ "upgrade", "UPGRADE", "keep-alive, Upgrade", { "keep-alive", "upgrade" } }) do
      expect_answer(answer({ Connection = value }), "101")
    end
  end)

  it("the accept is right to the letter, once, B090", function()
    local accept = support.accept
    for _, value in ipairs({
      false, "", "x", accept:lower(), accept:upper(), accept .. "x", "x" .. accept, accept .. "=", accept:sub(1, -2),
      accept .. ", " .. accept, { accept, accept }, { accept, "x" }, { "x", accept }, "\"" .. accept .. "\"",
      testing.accept_key("x"), accept .. " x",
    }) do
      expect_answer(answer({ ["Sec-WebSocket-Accept"] = value }), "handshake")
    end
  end)

  it("spaces and tabs around the accept are not part of it, B091", function()
    expect_answer(answer({ ["Sec-WebSocket-Accept"] = "  " .. support.accept .. "\t " }), "101")
    expect_answer(answer({ ["Sec-WebSocket-Accept"] = "\t" .. support.accept }), "101")
  end)

  it("the subprotocol is one that was offered", function()
    for value, outcome in pairs({
      p = "101", q = "101", P = "handshake", r = "handshake", ["p, q"] = "handshake", ["p,"] = "handshake",
      [""] = "handshake", [","] = "handshake", ["p q"] = "handshake",
    }) do
      local seen = expect_answer(answer({ "Sec-WebSocket-Protocol: " .. value }), outcome, { protocols = "p, q" })
      assert.equal(outcome == "101" and value or nil, seen.protocol)
    end
    local twice = answer({ "Sec-WebSocket-Protocol: p", "Sec-WebSocket-Protocol: p" })
    expect_answer(twice, "handshake", { protocols = "p" })
    expect_answer(answer({ "Sec-WebSocket-Protocol: p" }), "handshake")
    expect_answer(answer({ "Sec-WebSocket-Protocol: p" }), "handshake", { protocols = "" })
    expect_answer(answer(), "101", { protocols = "p, q" }) -- the server speaks none of them
  end)

  it("extensions come in one field, B093", function()
    expect_answer(answer({ "Sec-WebSocket-Extensions: a", "Sec-WebSocket-Extensions: b" }), "handshake")
    expect_answer(answer({ "Sec-WebSocket-Extensions:", "Sec-WebSocket-Extensions:" }), "handshake")
    local seen = expect_answer(answer({ "Sec-WebSocket-Extensions: a; b" }), "101")
    assert.equal("a; b", seen.extensions) -- what it means is in extension_spec.lua
  end)

  it("a list of extensions has an element", function() -- 1#: RFC 9110 5.6.1.2
    for _, value in ipairs({ "", " ", ",", " ,\t, " }) do
      expect_answer(answer({ "Sec-WebSocket-Extensions:" .. value }), "handshake")
    end
    expect_answer(answer({ "Sec-WebSocket-Extensions: ,a," }), "101")
  end)

  it("other fields do not matter", function()
    expect_answer(answer({ "Content-Length: 5", "Set-Cookie: a=b", "Set-Cookie: c=d", "Date: x", "X-\xE9: y" }),
      "handshake")
    expect_answer(answer({ "Content-Length: 5", "Set-Cookie: a=b", "Set-Cookie: c=d", "Date: x", "X: \xE9" }), "101")
  end)

  it("an allocation that fails is out of memory, not the server's fault", function()
    local http = testing.http("response")
    http:feed(answer({ "Sec-WebSocket-Extensions: a" }))
    testing.alloc_fail(1)
    assert.same({ nil, "memory", "out of memory" }, { http:check_response({ key = support.key }) })
    testing.alloc_fail(0)
    assert.equal("", (http:check_response({ key = support.key })))
  end)
end)
