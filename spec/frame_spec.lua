-- csrc/proto/frame.h: the header of a frame, RFC 6455 5.2, read and written.
local testing = require("cws.testing")

local read, write = testing.frame_read, testing.frame_write

-- An independent encoder, with any form of length.
local function header(frame, form)
  local len, mask = frame.len, frame.masked and 0x80 or 0
  form = form or (len >= 0 and len < 126 and 7 or len >= 0 and len < 65536 and 16 or 64)
  local first = (frame.fin and 0x80 or 0) + frame.rsv * 16 + frame.opcode
  local field = form == 7 and string.char(mask + len)
    or form == 16 and string.pack(">BI2", mask + 126, len)
    or string.pack(">Bi8", mask + 127, len)
  return string.char(first) .. field .. (frame.masked and frame.key or "")
end

local function frame(values)
  local out = { len = 0, opcode = 1, fin = true, rsv = 0, masked = false, key = "" }
  for name, value in pairs(values or {}) do
    out[name] = value
  end
  return out
end

local function with_masks(values)
  local masked = frame(values)
  masked.masked, masked.key = true, "\x00\x7f\x80\xff"
  return { frame(values), masked }
end

local lengths = {
  0, 1, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
  1 << 32, (1 << 32) + 5, (1 << 53) + 1, 1 << 62, math.maxinteger - 14, math.maxinteger,
}

describe("frame header:", function()
  it("every first byte, with and without a mask, is read and written", function()
    for first = 0, 255 do
      for _, f in ipairs(with_masks({ fin = first >= 128, rsv = first >> 4 & 7, opcode = first & 15, len = 5 })) do
        local bytes = header(f)
        local result, got, used = read(bytes)
        assert.equal("item", result)
        assert.same(f, got)
        assert.equal(#bytes, used)
        assert.equal(bytes, write(f))
      end
    end
  end)

  it("every length that fits two bytes has the shortest form", function()
    for len = 0, 65535 do
      local f = frame({ len = len })
      local bytes = write(f)
      if bytes ~= header(f) then
        error("length " .. len .. " written as " .. ("%q"):format(bytes))
      end
      local result, got = read(bytes)
      if result ~= "item" or got.len ~= len then
        error("length " .. len .. " not read back")
      end
    end
  end)

  it("lengths around every boundary, B133", function()
    for _, len in ipairs(lengths) do
      for _, f in ipairs(with_masks({ len = len })) do
        local bytes = header(f)
        assert.equal(bytes, write(f))
        local result, got, used = read(bytes .. "payload")
        assert.equal("item", result)
        assert.same(f, got)
        assert.equal(#bytes, used)
      end
    end
  end)

  it("cut at every byte it needs more", function()
    for _, len in ipairs(lengths) do
      for _, f in ipairs(with_masks({ len = len })) do
        local bytes = header(f)
        for cut = 0, #bytes - 1 do
          assert.equal("more", (read(bytes:sub(1, cut))))
        end
      end
    end
  end)

  it("a length that is not in its shortest form is malformed at its last byte, B131", function()
    for _, f in ipairs(with_masks({})) do
      for len = 0, 125 do
        f.len = len
        local bytes = header(f, 16)
        assert.equal("more", (read(bytes:sub(1, 3))))
        assert.equal("bad", (read(bytes:sub(1, 4))))
        assert.equal("bad", (read(bytes)))
      end
      for _, len in ipairs({ 0, 1, 125, 126, 127, 65534, 65535 }) do
        f.len = len
        local bytes = header(f, 64)
        assert.equal("more", (read(bytes:sub(1, 9))))
        assert.equal("bad", (read(bytes:sub(1, 10))))
        assert.equal("bad", (read(bytes)))
      end
    end
  end)

  it("the top bit of a 64-bit length is malformed, B102", function()
    for _, len in ipairs({ math.mininteger, -1, math.mininteger + 65536 }) do
      for _, f in ipairs(with_masks({ len = len })) do
        assert.equal("bad", (read(header(f, 64):sub(1, 10))))
      end
    end
  end)

  it("only the lower bits of what is written count", function()
    assert.equal(write(frame({ rsv = 3, opcode = 2 })), write(frame({ rsv = 0xfb, opcode = 0xf2 })))
  end)
end)
