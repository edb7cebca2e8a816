-- csrc/proto/utf8.h: each implementation that this processor has, against a
-- slow reference that is made from the code points themselves.
local testing = require("cws.testing")

local implementations = {}
local chosen = testing.utf8_implementation()
for _, name in ipairs({ "portable", "ssse3", "avx2" }) do
  if testing.utf8_force(name) then
    implementations[#implementations + 1] = name
  end
end
testing.utf8_force(chosen)

-- valgrind is fifty times slower: it gets one case of many.
local step = os.getenv("CWS_MODE") == "valgrind" and 29 or 1

-- --- the reference ----------------------------------------------------------

-- All but the last byte of each character that has more than one, and what
-- such a beginning begins with. 64 code points share a beginning.
local beginnings, parts = {}, {}
for code = 0x80, 0x10FFFF, 64 do
  if code < 0xD800 or code > 0xDFFF then -- RFC 3629 3: no surrogates
    local beginning = utf8.char(code):sub(1, -2)
    beginnings[beginning] = true
    for n = 1, #beginning do
      parts[beginning:sub(1, n)] = true
    end
  end
end

-- The place of the first byte that nothing could make valid, or nil and
-- whether the text may end here.
local function reference(text)
  local open = ""
  for i = 1, #text do
    local byte = text:byte(i)
    if open == "" and byte < 0x80 then
      open = ""
    elseif beginnings[open] and byte >= 0x80 and byte < 0xC0 then
      open = ""
    elseif parts[open .. text:sub(i, i)] then
      open = open .. text:sub(i, i)
    else
      return i
    end
  end
  return nil, open == ""
end

-- --- comparing --------------------------------------------------------------

local function check(ok, text, how)
  if not ok then
    error(("%s: %q, %s"):format(testing.utf8_implementation(), text, how), 3)
  end
end

-- Whole, and in two segments cut at `cut`.
local function compare(text, cut)
  local bad, complete = reference(text)
  local refused, ends = testing.utf8_feed(text)
  check(refused == (bad and 1 or 0), text, "whole")
  check(bad or ends == complete, text, "end")
  check(testing.utf8_valid(text) == (not bad and complete), text, "valid")
  if cut then
    refused, ends = testing.utf8_feed(text:sub(1, cut), text:sub(cut + 1))
    check(refused == (not bad and 0 or bad <= cut and 1 or 2), text, "cut at " .. cut)
    check(bad or ends == complete, text, "end, cut at " .. cut)
  end
end

local function compare_all_cuts(text)
  local segments = {}
  for cut = 0, #text do
    compare(text, cut)
    segments[cut] = cut > 0 and text:sub(cut, cut) or nil
  end
  local bad, complete = reference(text)
  local refused, ends = testing.utf8_feed(table.unpack(segments))
  check(refused == (bad or 0), text, "byte by byte")
  check(bad or ends == complete, text, "end, byte by byte")
end

local edges = {
  0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
  0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF,
}

-- Every string of `n` of these bytes.
local cases = 0
local function every(n, bytes, fn, head)
  head = head or ""
  if n == 0 then
    cases = cases + 1
    return cases % step == 0 and fn(head)
  end
  for _, byte in ipairs(bytes) do
    every(n - 1, bytes, fn, head .. string.char(byte))
  end
end

-- Characters of one to four bytes, first and last of their kinds.
local characters = {
  "a", "\x7f", "\u{80}", "\u{7FF}", "\u{800}", "\u{FFF}", "\u{1000}", "\u{D7FF}", "\u{E000}", "\u{FFFD}",
  "\u{10000}", "\u{3FFFF}", "\u{40000}", "\u{FFFFF}", "\u{10FFFF}",
}

-- What is wrong at its last byte.
local wrong = {
  "\x80", "\xBF", "\xC0", "\xC1", "\xF5", "\xFF", "\xC2\x7F", "\xC2\xC2", "\xE0\x9F", "\xED\xA0", "\xEF\xBF\x20",
  "\xE1\x80\xC0", "\xF0\x8F", "\xF4\x90", "\xF1\x80\x7F", "\xF1\x80\x80\xC0",
}

describe("utf8:", function()
  after_each(function()
    testing.utf8_force(chosen)
  end)

  it("one implementation is chosen, an unknown one is not there", function()
    assert.truthy(table.concat(implementations, " "):find(chosen, 1, true))
    assert.is_false(testing.utf8_force("none"))
    assert.equal(chosen, testing.utf8_implementation())
  end)

  for _, name in ipairs(implementations) do
    describe(name, function()
      before_each(function()
        assert.is_true(testing.utf8_force(name))
        assert.equal(name, testing.utf8_implementation())
      end)

      it("agrees on every string of one byte and of two", function()
        compare_all_cuts("")
        for first = 0, 255 do
          compare_all_cuts(string.char(first))
          for second = first % step, 255, step do
            compare(string.char(first, second), 1)
          end
        end
      end)

      it("agrees at all boundaries of strings of three bytes", function()
        every(3, edges, function(text)
          compare(text, 1)
          compare(text, 2)
        end)
      end)

      it("agrees at all boundaries of strings of four bytes", function()
        local count, inner = 0, { 0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xF0, 0xFF }
        for _, first in ipairs({ 0xE0, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5 }) do
          every(3, inner, function(rest)
            count = count + 1
            compare(string.char(first) .. rest, count % 5)
          end)
        end
      end)

      it("takes every character there is, and no surrogate", function()
        for block = 0, 0x10FFFF, 256 * step do
          local codes = {}
          for code = block, block + 255 do
            codes[#codes + 1] = code
          end
          local text = utf8.char(table.unpack(codes))
          check(testing.utf8_valid(text) == (block < 0xD800 or block > 0xDFFF), text, ("from U+%X"):format(block))
        end
        for code = 0xD800, 0xDFFF, step do
          check(not testing.utf8_valid(utf8.char(code)), utf8.char(code), "surrogate")
        end
        for _, code in ipairs({ 0x110000, 0x13FFFF, 0x140000, 0x1FFFFF, 0x200000, 0x3FFFFFF, 0x7FFFFFFF }) do
          check(not testing.utf8_valid(utf8.char(code)), utf8.char(code), "too large")
        end
      end)

      it("finds what is wrong at every place", function()
        for at = 0, 140, (step + 3) // 4 do
          for _, bad in ipairs(wrong) do
            local text = ("a"):rep(at) .. bad
            compare(text, at + #bad - 1)
            compare(text .. ("b"):rep(40), at)
          end
          for _, character in ipairs(characters) do
            local text = ("a"):rep(at) .. character
            for cut = at, #text do
              compare(text:sub(1, cut)) -- ends inside the character
              compare(text .. ("b"):rep(40), cut)
              compare(text:sub(1, cut) .. ("b"):rep(40), cut)
            end
          end
        end
      end)

      it("finds it among characters of each length", function()
        for _, character in ipairs(characters) do
          for count = 1, 33, (step + 3) // 4 do
            local text = character:rep(count)
            for _, bad in ipairs(wrong) do
              compare(text .. bad .. text, #text + #bad - 1)
            end
            compare(text:sub(1, -2) .. text, #text - 1)
            compare(text .. text:sub(2), #text)
            compare(text:sub(2), 1)
          end
        end
      end)

      it("gives the same cut at every byte", function()
        local mixed = table.concat(characters)
        compare_all_cuts(mixed:rep(3))
        for _, bad in ipairs(wrong) do
          compare_all_cuts(mixed .. bad .. mixed)
          compare_all_cuts(("a"):rep(70) .. bad .. ("a"):rep(70))
        end
      end)

      it("does not depend on where the text lies in memory", function()
        local text = table.concat(characters):rep(4)
        for shift = 0, 64 do
          check(testing.utf8_valid(text, shift), text, "shift " .. shift)
          check(not testing.utf8_valid(text .. "\xE0\x80\x80", shift), text, "shift " .. shift)
          check(not testing.utf8_valid(text:sub(1, -2), shift), text, "shift " .. shift)
        end
      end)

      it("agrees on long mixtures", function()
        math.randomseed(42)
        for _ = 1, 3000 // step do
          local pieces = {}
          for i = 1, math.random(1, 60) do
            pieces[i] = characters[math.random(#characters)]
            if math.random(40) == 1 then
              pieces[i] = wrong[math.random(#wrong)]
            end
          end
          local text = table.concat(pieces)
          compare(text, math.random(0, #text))
        end
      end)
    end)
  end
end)
