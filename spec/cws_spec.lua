-- csrc/cws.h: names of errors, texts of close codes, escaping, error texts.
local testing = require("cws.testing")

local kinds = {
  [0] = "ok", "timeout", "closed", "dns", "connect", "tls", "handshake", "protocol", "limit", "busy", "usage",
  "listen", "memory", "io", "internal",
}

describe("names:", function()
  it("every error has its kind", function()
    for n = 0, #kinds do
      assert.equal(kinds[n], testing.err_kind(-n))
    end
  end)

  it("close codes have gorilla's texts", function()
    local texts = {
      [1000] = "normal", [1001] = "going away", [1002] = "protocol error", [1003] = "unsupported data",
      [1005] = "no status", [1006] = "abnormal closure", [1007] = "invalid payload data",
      [1008] = "policy violation", [1009] = "message too big", [1010] = "mandatory extension missing",
      [1011] = "internal server error", [1012] = "service restart", [1013] = "try again later",
      [1014] = "bad gateway", [1015] = "TLS handshake error",
    }
    for code = 990, 1020 do
      assert.equal(texts[code], testing.close_text(code))
    end
    for _, code in ipairs({ -1, 0, 999, 1016, 3000, 4999, 65535, math.maxinteger }) do
      assert.is_nil(testing.close_text(code))
    end
  end)
end)

describe("escape:", function()
  local function escape(text, keep_utf8, cap)
    return testing.escape(text, cap or 4 * #text + 1, keep_utf8)
  end

  it("shows every byte that is not printable ASCII as \\xNN", function()
    for byte = 0, 255 do
      local char = string.char(byte)
      local plain = byte >= 0x20 and byte < 0x7F and char ~= "\\"
      assert.equal(plain and char or ("\\x%02X"):format(byte), escape(char))
    end
    assert.equal("a\\x0D\\x0Ab\\x5Cc\\xC3\\xA4", escape("a\r\nb\\c\u{E4}"))
  end)

  it("keeps the backslash and valid UTF-8 when told", function()
    local text = "\\ \u{E4} \u{20AC} \u{1F600} \u{10FFFF} \u{A0}"
    assert.equal(text, escape(text, true))
  end)

  it("escapes control bytes in any case, B259", function()
    for byte = 0, 0x1F do
      assert.equal(("\\x%02X"):format(byte), escape(string.char(byte), true))
    end
    assert.equal("\\x7F", escape("\x7f", true))
    assert.equal("\\x1B[31mred", escape("\x1b[31mred", true))
    for code = 0x80, 0x9F do -- C1: U+009B starts an escape sequence as well
      assert.equal(("\\xC2\\x%02X"):format(code), escape(utf8.char(code), true))
    end
  end)

  it("escapes what is not valid UTF-8, byte by byte", function()
    assert.equal("\\x80", escape("\x80", true))
    assert.equal("\\xC0\\x80", escape("\xC0\x80", true))
    assert.equal("\\xED\\xA0\\x80", escape("\u{D800}", true))
    assert.equal("\\xE2\\x82", escape("\xE2\x82", true))
    assert.equal("\\xE2\\x82x", escape("\xE2\x82x", true))
    assert.equal("\\xF0\\x9F\\x98\u{E4}", escape("\xF0\x9F\x98\u{E4}", true))
    assert.equal("\\xF8\\x88\\x80\\x80\\x80", escape("\xF8\x88\x80\x80\x80", true))
  end)

  it("never writes beyond its memory, and no half of anything", function()
    local text = "ab\x01\u{20AC}c\xFFd"
    for _, keep in ipairs({ false, true }) do
      local whole = escape(text, keep)
      assert.is_nil(escape(text, keep, 0))
      for cap = 1, #whole + 2 do
        local out = escape(text, keep, cap)
        assert.equal(whole:sub(1, #out), out)
        assert.is_true(#out < cap)
        assert.is_true(#whole == #out or #out >= cap - 4)
        local rest = out:gsub("\\x%x%x", "")
        assert.is_nil(rest:find("\\", 1, true))
        assert.truthy(utf8.len(rest))
      end
    end
  end)

  it("takes the empty text", function()
    assert.equal("", escape("", false))
    assert.equal("", escape("", true, 100))
  end)
end)

describe("error texts:", function()
  it("carry error, code and text", function()
    assert.same({ -6, -6, 426, "handshake: no" }, { testing.error_set(-6, 426, "handshake: no") })
    assert.same({ -1, -1, 0, "timeout" }, { testing.error_set(-1, 0, "timeout") })
  end)

  it("are printable and at most 199 bytes, whatever a peer sent", function()
    local _, _, _, text = testing.error_set(-13, 5, "io: a\r\nb\0c")
    assert.equal("io: a\\x0D\\x0Ab", text)
    for _, filler in ipairs({ "x", "\n", "\u{20AC}", "\\", "\xff" }) do
      for len = 0, 2100, 7 do
        _, _, _, text = testing.error_set(-13, 5, "io: " .. filler:rep(len))
        assert.is_true(#text <= 199)
        assert.truthy(text:find("^io: [ -~]*$"))
        assert.is_nil((text:gsub("\\x%x%x", ""):find("\\", 1, true)))
      end
    end
  end)
end)
