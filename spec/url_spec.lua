-- csrc/proto/url.h: ws and wss URLs, authorities, percent-decoding.
local testing = require("cws.testing")

local parse, authority, decode = testing.url_parse, testing.url_authority, testing.url_decode

local function refused(list, pattern)
  for _, text in ipairs(list) do
    local url, why = parse(text)
    assert.is_nil(url, ("%q was taken"):format(text))
    assert.truthy(why:find(pattern), ("%q: %s"):format(text, why))
  end
end

describe("url:", function()
  it("its parts are found", function()
    for text, parts in pairs({
      ["ws://h"] = { false, "h", -1, "h", "" },
      ["wss://h/"] = { true, "h", -1, "h", "/" },
      ["WS://H.example:81/a/b?c#"] = false,
      ["WS://H.example:81/a/b?c"] = { false, "H.example", 81, "H.example:81", "/a/b?c" },
      ["wSs://h:443?x"] = { true, "h", 443, "h:443", "?x" },
      ["ws://h:/x"] = { false, "h", -1, "h:", "/x" },
      ["ws://127.0.0.1:65535/"] = { false, "127.0.0.1", 65535, "127.0.0.1:65535", "/" },
      ["ws://h/a:b@c//d?e/f?g"] = { false, "h", -1, "h", "/a:b@c//d?e/f?g" },
      ["ws://h?a@b:c"] = { false, "h", -1, "h", "?a@b:c" },
      ["ws://h/%zz"] = { false, "h", -1, "h", "/%zz" },
    }) do
      local url = parse(text)
      local got = url and { url.secure, url.host, url.port, url.authority, url.target }
      assert.same(parts, got or false, text)
      assert.is_false(url and url.ipv6 or false)
    end
  end)

  it("an IPv6 address stands in brackets, B109", function()
    local url = parse("ws://[::1]:8080")
    assert.same({
      secure = false, host = "::1", ipv6 = true, port = 8080, authority = "[::1]:8080", target = "",
    }, url)
  end)

  it("no bytes that would end the line or the request, B105", function()
    refused({ "ws://h/a\r\nX: y", "ws://h\r\n/", "ws://h/\n", "ws://h/a\0", "ws://h/\x7f", "\tws://h/" }, "control")
    refused({ "ws://h/a b", " ws://h/", "ws://h/ ", "ws://h /", "ws:// h/" }, "space")
    refused({ "ws://h/\u{E9}", "ws://\u{E9}/", "ws://h/?\x80", "ws://h/\xff" }, "not ASCII")
    for byte = 0, 255 do
      local fine = byte > 0x20 and byte < 0x7F and byte ~= ("#"):byte()
      assert.equal(fine, parse("ws://h/a" .. string.char(byte) .. "b") ~= nil)
      assert.equal(fine, parse("ws://h/?" .. string.char(byte)) ~= nil)
    end
  end)

  it("no fragment, RFC 6455 3", function()
    refused({ "ws://h/#a", "ws://h#", "ws://h/a?b#c", "#" }, "fragment")
  end)

  it("ws and wss only, B106", function()
    refused({
      "http://", "http://h", "https://h", "wss:/h", "ws:h", "", "//h", "h", "/", "ws", "ws:", "ws:/", "wss:", "xws://h",
      "wsx://h", "wss//h", "ftp://h", "ws;//h", ":", "://h", "w%73://h", "ws:\\\\h",
    }, "not ws://")
  end)

  it("http and https where they are allowed", function()
    for text, secure in pairs({
      ["http://h"] = false, ["HTTPS://h"] = true, ["ws://h"] = false, ["wss://h"] = true,
    }) do
      assert.equal(secure, parse(text, true).secure)
    end
    for _, text in ipairs({ "ftp://h", "httpss://h", "http:h", "null", "" }) do
      assert.is_nil(parse(text, true))
    end
  end)

  it("there is a host, B107", function()
    refused({ "ws://", "ws:///", "ws:///a", "ws://:80/", "ws://?a", "ws://:", "wss://", "ws://::1/" }, "no host")
  end)

  it("it is a name or an address, B107", function()
    refused({
      "ws://[::1/", "ws://[::1", "ws://[]/", "ws://[::1]x/", "ws://[::1]80", "ws://[1.2.3.4]/", "ws://[::g]/",
      "ws://[1:2:3:4:5:6:7]/", "ws://[1:2:3:4:5:6:7:8:9]/", "ws://[::1%25lo]/", "ws://[" .. (":"):rep(46) .. "]/",
      "ws://a<b/", "ws://a\\b/", "ws://a%zz/", "ws://a%4/", "ws://a%/", "ws://a]/", "ws://a[/", "ws://\"a\"/",
      "ws://[::1]]/", "ws://x[::1]/", "ws://[0::00001]/", "ws://[v1.a:b]/",
    }, "bad host")
  end)

  it("a port has digits only and is from 1 to 65535, B107", function()
    refused({ "ws://h:0", "ws://h:65536", "ws://h:000", "ws://h:" .. ("9"):rep(40), "ws://[::1]:0" }, "out of range")
    refused({ "ws://h:-1", "ws://h:8o", "ws://h:+1", "ws://h:0x50", "ws://h:80:80", "ws://h:8.0", "ws://h::80" },
      "bad port")
    for port = 1, 65535 do
      if parse("ws://h:" .. port).port ~= port then
        error(port)
      end
    end
    assert.equal(80, parse("ws://h:0000080").port)
  end)

  it("no user information, RFC 6455 3", function()
    refused({ "ws://u@h/", "ws://u:p@h/", "ws://@h/", "ws://u@h@h/", "ws://@", "ws://u@[::1]/" }, "user information")
  end)

  it("every beginning of a URL is a URL or refused, never more", function()
    for _, text in ipairs({ "wss://[2001:db8::1]:8443/a%20b?c=d&e", "ws://user.example:12345/x?y" }) do
      for n = 0, #text do
        local url, why = parse(text:sub(1, n))
        assert.is_true(url ~= nil or #why > 0)
        if url then
          assert.equal(text:sub(1, n), (url.secure and "wss://" or "ws://") .. url.authority .. url.target)
        end
      end
    end
  end)
end)

describe("authority:", function()
  it("host and port", function()
    assert.same({ host = "a.example", ipv6 = false, port = -1 }, authority("a.example"))
    assert.same({ host = "a", ipv6 = false, port = 8080 }, authority("a:8080"))
    assert.same({ host = "::", ipv6 = true, port = 1 }, authority("[::]:1"))
    assert.same({ host = "a", ipv6 = false, port = -1 }, authority("a:"))
  end)

  it("every byte that a name may have", function()
    for byte = 0, 255 do
      local char = string.char(byte)
      local fine = byte < 0x80 and char:find("^[%w%-._~!$&'()*+,;=]$") ~= nil
      assert.equal(fine, authority("a" .. char .. "b") ~= nil, char)
    end
    assert.truthy(authority("a%41%fF"))
    for _, text in ipairs({ "", "%", "a%", "a%4", "a%4g", "a%g4", "a%%41", "a/", "a?", "u@a", "a:80/", "[::1]\0" }) do
      assert.is_nil(authority(text))
    end
    assert.is_nil(authority("[::1\0]"))
  end)
end)

describe("decode:", function()
  it("percent escapes in either case, once", function()
    for text, decoded in pairs({
      [""] = "", ["/"] = "/", ["/a%20b"] = "/a b", ["%41%4a%4A"] = "AJJ", ["%25%32%35"] = "%25", ["a+b"] = "a+b",
      ["%2F%3f%23"] = "/?#", ["%ff%80%01"] = "\xff\x80\x01",
    }) do
      assert.equal(decoded, decode(text))
    end
    for byte = 1, 255 do
      assert.equal(string.char(byte), decode(("%%%02x"):format(byte)))
      assert.equal(string.char(byte), decode(("%%%02X"):format(byte)))
    end
  end)

  it("malformed ones and NUL are refused, B031", function()
    for _, text in ipairs({ "%", "%0", "%zz", "a%00b", "%00", "%4", "a%", "%%", "% 1", "%1 ", "%+1", "%0x", "%1%" }) do
      assert.is_nil(decode(text), text)
    end
  end)

  it("only hexadecimal digits", function()
    for byte = 0, 255 do
      local char = string.char(byte)
      local fine = char:find("^%x$") ~= nil
      assert.equal(fine, decode("%1" .. char) ~= nil)
      assert.equal(fine and char ~= "0", decode("%" .. char .. "0") ~= nil)
    end
  end)
end)
