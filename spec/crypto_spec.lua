-- csrc/proto/crypto.h: the handshake's key and accept, masking keys.
local testing = require("cws.testing")

after_each(function()
  testing.random_fail(0)
end)

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- Base64 of three bytes at a time; the slow way, for comparison.
local function base64(data)
  local out = {}
  for i = 1, #data, 3 do
    local a, b, c = data:byte(i, i + 2)
    local bits = a << 16 | (b or 0) << 8 | (c or 0)
    for n, there in ipairs({ true, true, b ~= nil, c ~= nil }) do
      local six = bits >> (24 - 6 * n) & 63
      out[#out + 1] = there and alphabet:sub(six + 1, six + 1) or "="
    end
  end
  return table.concat(out)
end

describe("accept:", function()
  it("is that of RFC 6455 1.3", function()
    assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", testing.accept_key("dGhlIHNhbXBsZSBub25jZQ=="))
  end)

  it("takes any text", function()
    assert.equal("Kfh9QIsMVZcl6xEPYxPHzW8SZ8w=", testing.accept_key("")) -- SHA-1 of the GUID alone
    assert.equal(28, #testing.accept_key(("x"):rep(10000)))
    assert.not_equal(testing.accept_key("a"), testing.accept_key("b"))
  end)
end)

describe("key:", function()
  it("is base64 of 16 bytes, another one each time", function()
    local seen = {}
    for _ = 1, 1000 do
      local key = testing.new_key()
      assert.is_true(testing.key_valid(key))
      assert.is_nil(seen[key])
      seen[key] = true
    end
  end)

  it("of exactly 16 bytes is valid, whatever they are", function()
    for byte = 0, 255 do
      assert.is_true(testing.key_valid(base64(string.char(byte):rep(16))))
      assert.is_true(testing.key_valid(base64(("\0"):rep(15) .. string.char(byte))))
    end
  end)

  it("of any other length is not", function()
    for len = 0, 40 do
      assert.equal(len == 16, testing.key_valid(base64(("x"):rep(len))))
    end
  end)

  it("with any byte outside the alphabet is not", function()
    local key = "dGhlIHNhbXBsZSBub25jZQ=="
    for at = 1, 22 do
      for byte = 0, 255 do
        local char = string.char(byte)
        local text = key:sub(1, at - 1) .. char .. key:sub(at + 1)
        local fine = alphabet:find(char, 1, true) ~= nil
        if at == 22 then -- RFC 4648 3.5: the bits that pad are zero
          fine = ("AQgw"):find(char, 1, true) ~= nil
        end
        assert.equal(fine, testing.key_valid(text), ("byte %d at %d"):format(byte, at))
      end
    end
    for _, ending in ipairs({ "=", "===", "=A", "A=", "= ", "\0=", "" }) do
      assert.is_false(testing.key_valid(key:sub(1, 22) .. ending))
    end
  end)
end)

describe("masking keys:", function()
  it("of 100 000 frames differ, and each bit is set in half of them, B113", function()
    -- valgrind is fifty times slower: a tenth, and a larger deviation
    local count, deviation = 100000, 0.01
    if os.getenv("CWS_MODE") == "valgrind" then
      count, deviation = 10000, 0.03
    end
    local keys = testing.mask_keys(count)
    local seen, distinct, set = {}, 0, {}
    for bit = 0, 31 do
      set[bit] = 0
    end
    local last
    for at = 1, #keys, 4 do
      local key = string.unpack("<I4", keys, at)
      assert.not_equal(last, key)
      last = key
      if not seen[key] then
        seen[key], distinct = true, distinct + 1
      end
      for bit = 0, 31 do
        set[bit] = set[bit] + (key >> bit & 1)
      end
    end
    assert.is_true(distinct >= 0.9999 * count, distinct .. " different keys")
    for bit = 0, 31 do -- one percent is more than six standard deviations
      assert.is_true(math.abs(set[bit] / count - 0.5) <= deviation, ("bit %d: %d"):format(bit, set[bit]))
    end
  end)

  it("are no part of each other: no key comes again within one filling of the pool", function()
    local keys = testing.mask_keys(2048)
    for at = 1, #keys - 8, 4 do
      assert.is_nil(keys:find(keys:sub(at, at + 7), at + 1, true))
    end
  end)

  it("are not shared with a forked child", function()
    testing.mask_keys(1) -- the pool holds bytes now
    for _ = 1, 3 do
      local theirs = testing.forked_mask_key()
      assert.equal(4, #theirs)
      local ours = testing.mask_keys(256)
      for at = 1, #ours, 4 do
        assert.not_equal(theirs, ours:sub(at, at + 3))
      end
    end
  end)
end)

describe("failing randomness is an error, never a weak key, B114:", function()
  it("for masking keys, whatever the pool holds", function()
    for used = 0, 256, 64 do
      testing.mask_keys(256 + used)
      testing.random_fail(2)
      assert.same({ nil, "internal" }, { testing.mask_keys(1) })
      assert.same({ nil, "internal" }, { testing.mask_keys(1) })
      assert.equal(4, #testing.mask_keys(1))
    end
  end)

  it("for the handshake's key and for bytes", function()
    testing.random_fail(1)
    assert.same({ nil, "internal" }, { testing.new_key() })
    testing.random_fail(1)
    assert.same({ nil, "internal" }, { testing.random_bytes(8) })
    assert.equal(8, #testing.random_bytes(8))
  end)

  it("for a client's frames: nothing is sent", function()
    local session = testing.session("client")
    testing.random_fail(1)
    assert.same({ nil, "internal" }, { session:header(1, true, false, 5) })
    testing.random_fail(1)
    assert.same({ nil, "internal" }, { session:control(9, "x") })
    testing.random_fail(1)
    assert.same({ nil, "internal" }, { session:send(2, "data") })
    assert.equal(2 + 4 + 4, #session:send(2, "data"))
    session:free()
  end)
end)
