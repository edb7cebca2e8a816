-- csrc/proto/utf8_simd.c: what it skips must be what utf8.c would have passed,
-- wherever in its vectors a character stands. Judged by Lua's own utf8.len.
local testing = require("cws.testing")

local chosen = testing.utf8_implementation()

local sequences = {
  "\xc3\xa4", "\xe6\xbc\xa2", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf",
  "\x80", "\xc3", "\xe6\xbc", "\xf0\x9f\x98", "\xf5", -- alone or cut
  "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", -- overlong
  "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
  "\xc3\xa4\xa4", "\xe6\xbc\xa2\x80", "\xf0\x9f\x98\x80\x80", -- one too many
}

-- Around the sizes at which another loop takes over.
local lengths = {}
for _, size in ipairs({ 8, 16, 32, 48, 64, 96, 128, 192 }) do
  for length = size - 2, size + 4 do
    lengths[#lengths + 1] = length
  end
end

-- `length` bytes with the sequence at `at`; before it whole characters.
local function text(filler, sequence, at, length)
  local before = filler:rep(at // #filler) .. ("a"):rep(at % #filler)
  local after = filler:rep(length // #filler)
  return (before .. sequence .. after):sub(1, length)
end

local function each_text(filler, check)
  for _, sequence in ipairs(sequences) do
    for _, length in ipairs(lengths) do
      for at = 0, length - 1 do
        check(text(filler, sequence, at, length), at)
      end
    end
  end
end

-- Those that this processor has.
local names = {}
for _, name in ipairs({ "avx2", "ssse3", "portable" }) do
  if testing.utf8_force(name) then
    names[#names + 1] = name
  end
end
testing.utf8_force(chosen)

for _, name in ipairs(names) do
  describe("utf8 " .. name .. ":", function()
    setup(function()
      testing.utf8_force(name)
    end)

    teardown(function()
      testing.utf8_force(chosen)
    end)

    for _, filler in ipairs({ "a", "\xc3\xa4", "\xe6\xbc\xa2", "\xf0\x9f\x98\x80" }) do
      it("judges every sequence at every place between " .. filler, function()
        each_text(filler, function(bytes, at)
          if (utf8.len(bytes) ~= nil) ~= testing.utf8_valid(bytes) then
            error(("%q at %d"):format(bytes, at))
          end
        end)
      end)
    end

    it("goes on in the middle of a character, and stops in one", function()
      each_text("\xe6\xbc\xa2", function(bytes, at)
        local bad, complete = testing.utf8_feed(bytes:sub(1, at + 1), bytes:sub(at + 2))
        if (utf8.len(bytes) ~= nil) ~= (bad == 0 and complete) then
          error(("%q cut after %d"):format(bytes, at + 1))
        end
      end)
    end)

    it("refuses a byte in the segment that brings it", function()
      local filler = ("\xe6\xbc\xa2"):rep(40)
      for cut = 0, #filler do
        local head = filler:sub(1, cut)
        assert.equal(2, (testing.utf8_feed(head, filler:sub(cut + 1) .. "\xf5")))
        assert.equal(2, (testing.utf8_feed(head, filler:sub(cut + 1) .. "\xed\xa0", "\x80")))
        assert.equal(3, (testing.utf8_feed(head, filler:sub(cut + 1) .. "\xe6", "a")))
      end
    end)
  end)
end
