-- csrc/proto/mask.h against RFC 6455 5.3 byte by byte: "Octet i of the
-- transformed data is the XOR of octet i of the original data with octet at
-- index i modulo 4 of the masking key".
local testing = require("cws.testing")

local key = "\x01\x82\xf3\x7e"

local function bytes(n)
  local out = {}
  for i = 1, n do
    out[i] = string.char((i * 37 + i // 256) % 256)
  end
  return table.concat(out)
end

local function reference(data, mask, offset)
  local out = {}
  for i = 1, #data do
    out[i] = string.char(data:byte(i) ~ mask:byte((offset + i - 1) % 4 + 1))
  end
  return table.concat(out)
end

local variants = { "mask", "mask_copy" }

describe("mask:", function()
  for _, name in ipairs(variants) do
    local mask = testing[name]

    it(name .. " is right for every length and place", function()
      for len = 0, 140 do
        local data = bytes(len)
        for offset = 0, 3 do
          local expected = reference(data, key, offset)
          for shift = 0, 8 do
            assert.equal(expected, mask(data, key, offset, shift))
          end
        end
      end
    end)

    it(name .. " goes on where it stopped, cut at every byte", function()
      local data = bytes(100)
      local whole = mask(data, key)
      for cut = 0, #data do
        local first, second = data:sub(1, cut), data:sub(cut + 1)
        assert.equal(whole, mask(first, key) .. mask(second, key, cut))
      end
    end)

    it(name .. " takes large offsets and large data", function()
      local data = bytes(70001)
      assert.equal(reference(data, key, 3), mask(data, key, 0x7fffffffffffffff))
      assert.equal(reference(data, key, 1), mask(data, key, (1 << 32) + 1))
    end)

    it(name .. " twice gives the data back; a key of zero changes nothing, B147", function()
      local data = bytes(1000)
      assert.equal(data, mask(mask(data, key, 2), key, 2))
      assert.equal(data, mask(data, "\0\0\0\0"))
    end)
  end
end)
