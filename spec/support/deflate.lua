-- DEFLATE (RFC 1951) by hand, for specs: blocks with exactly the matches that a
-- case needs, and a decoder of our own that tells how far matches reach.
local M = {}

-- --- bits -------------------------------------------------------------------

local Bits = {}
Bits.__index = Bits

local function bits()
  return setmetatable({ bytes = {}, hold = 0, count = 0 }, Bits)
end

-- The low `n` bits of value, the lowest first.
function Bits:put(value, n)
  self.hold = self.hold | value << self.count
  self.count = self.count + n
  while self.count >= 8 do
    self.bytes[#self.bytes + 1] = string.char(self.hold & 255)
    self.hold, self.count = self.hold >> 8, self.count - 8
  end
end

-- A Huffman code: the highest bit first (3.1.1).
function Bits:code(value, n)
  for i = n - 1, 0, -1 do
    self:put(value >> i & 1, 1)
  end
end

function Bits:align()
  if self.count > 0 then
    self:put(0, 8 - self.count)
  end
end

function Bits:text()
  self:align()
  return table.concat(self.bytes)
end

-- --- tables of 3.2.5 --------------------------------------------------------

local lengths, distances = {}, {} -- [symbol] = { base, extra bits }
do
  local base = 3
  for symbol = 257, 284 do
    local extra = symbol < 265 and 0 or (symbol - 261) // 4
    lengths[symbol] = { base, extra }
    base = base + (1 << extra)
  end
  lengths[285] = { 258, 0 }
  base = 1
  for symbol = 0, 29 do
    local extra = symbol < 4 and 0 or (symbol - 2) // 2
    distances[symbol] = { base, extra }
    base = base + (1 << extra)
  end
end

local function find(entries, first, last, value)
  for symbol = last, first, -1 do
    if entries[symbol][1] <= value then
      return symbol, value - entries[symbol][1], entries[symbol][2]
    end
  end
  error("no symbol for " .. value)
end

-- --- writing ----------------------------------------------------------------

-- 3.2.6
local function put_symbol(out, symbol)
  if symbol < 144 then
    out:code(0x30 + symbol, 8)
  elseif symbol < 256 then
    out:code(0x190 + symbol - 144, 9)
  elseif symbol < 280 then
    out:code(symbol - 256, 7)
  else
    out:code(0xC0 + symbol - 280, 8)
  end
end

local function put_match(out, length, distance)
  local symbol, rest, extra = find(lengths, 257, 285, length)
  put_symbol(out, symbol)
  out:put(rest, extra)
  symbol, rest, extra = find(distances, 0, 29, distance)
  out:code(symbol, 5)
  out:put(rest, extra)
end

-- A block with fixed codes, of strings and matches { length, distance }.
local function put_fixed(out, block)
  out:put(block.final and 1 or 0, 1)
  out:put(1, 2)
  for _, part in ipairs(block) do
    if type(part) == "table" then
      put_match(out, part[1], part[2])
    else
      for i = 1, #part do
        put_symbol(out, part:byte(i))
      end
    end
  end
  put_symbol(out, 256)
end

local function put_stored(out, block)
  out:put(block.final and 1 or 0, 3)
  out:align()
  local len = #block.stored
  out.bytes[#out.bytes + 1] = string.pack("<I2I2", len, ~len & 0xFFFF)
    .. block.stored
end

-- The blocks one after the other; a final one is followed by a new stream,
-- which starts at a whole byte. `open` leaves out what 7.2.1 demands at the end
-- of a message: the start of an empty block without compression.
---@param blocks table[] { final = boolean?, stored = string } or
---  { final = boolean?, string or { length, distance }, ... }
---@param open boolean?
---@return string
function M.blocks(blocks, open)
  local out = bits()
  for _, block in ipairs(blocks) do
    if block.stored then
      put_stored(out, block)
    else
      put_fixed(out, block)
    end
    if block.final then
      out:align()
    end
  end
  if not open then
    out:put(0, 3)
  end
  return out:text()
end

-- --- reading ----------------------------------------------------------------

local Reader = {}
Reader.__index = Reader

function Reader:bit()
  local byte = assert(self.data:byte(self.at), "the data ends inside a block")
  local bit = byte >> self.used & 1
  self.used = self.used + 1
  if self.used == 8 then
    self.at, self.used = self.at + 1, 0
  end
  return bit
end

function Reader:bits(n)
  local value = 0
  for i = 0, n - 1 do
    value = value | self:bit() << i
  end
  return value
end

function Reader:align()
  if self.used > 0 then
    self.at, self.used = self.at + 1, 0
  end
end

function Reader:symbol(codes)
  local code = 1 -- a leading 1 keeps the length
  for _ = 1, 15 do
    code = code << 1 | self:bit()
    if codes[code] then
      return codes[code]
    end
  end
  error("no such code")
end

-- 3.2.2: codes from their lengths.
local function huffman(sizes, count)
  local codes, code = {}, 0
  for n = 1, 15 do
    for symbol = 0, count - 1 do
      if sizes[symbol] == n then
        codes[1 << n | code] = symbol
        code = code + 1
      end
    end
    code = code << 1
  end
  return codes
end

local function fixed_codes()
  local sizes, far = {}, {}
  for symbol = 0, 287 do
    sizes[symbol] = symbol < 144 and 8 or symbol < 256 and 9 or symbol < 280 and 7 or 8
  end
  for symbol = 0, 29 do
    far[symbol] = 5
  end
  return huffman(sizes, 288), huffman(far, 30)
end

local order = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 }

-- 3.2.7
local function dynamic_codes(r)
  local nlen, ndist, ncode = r:bits(5) + 257, r:bits(5) + 1, r:bits(4) + 4
  local sizes = {}
  for i = 1, ncode do
    sizes[order[i]] = r:bits(3)
  end
  local codes, all, at = huffman(sizes, 19), {}, 0
  while at < nlen + ndist do
    local symbol = r:symbol(codes)
    local value, times = symbol, 1
    if symbol == 16 then
      value, times = all[at - 1], 3 + r:bits(2)
    elseif symbol == 17 then
      value, times = 0, 3 + r:bits(3)
    elseif symbol == 18 then
      value, times = 0, 11 + r:bits(7)
    end
    for _ = 1, times do
      all[at], at = value, at + 1
    end
  end
  local far = {}
  for i = 0, ndist - 1 do
    far[i], all[nlen + i] = all[nlen + i], nil
  end
  return huffman(all, nlen), huffman(far, ndist)
end

local function read_codes(r, out, literals, far)
  local furthest = 0
  while true do
    local symbol = r:symbol(literals)
    if symbol == 256 then
      return furthest
    elseif symbol < 256 then
      out[#out + 1] = string.char(symbol)
    else
      local length = lengths[symbol][1] + r:bits(lengths[symbol][2])
      symbol = r:symbol(far)
      local distance = distances[symbol][1] + r:bits(distances[symbol][2])
      assert(distance <= #out, "a match reaches before the start")
      furthest = math.max(furthest, distance)
      for _ = 1, length do
        out[#out + 1] = out[#out + 1 - distance]
      end
    end
  end
end

local function read_stored(r, out)
  r:align()
  local len, check, at = string.unpack("<I2I2", r.data, r.at)
  assert(len == ~check & 0xFFFF, "length of a stored block")
  for i = at, at + len - 1 do
    out[#out + 1] = r.data:sub(i, i)
  end
  r.at = at + len
end

-- Inflates a message as it stands on the wire, after the messages before it
-- (`window`, as this function returned it). Returns its text, the furthest
-- distance of a match and the window for the next one.
---@param data string
---@param window string[]?
---@return string
---@return integer
---@return string[]
function M.read(data, window)
  local r = setmetatable({ data = data .. "\0\0\xff\xff", at = 1, used = 0 }, Reader)
  local out, furthest = window or {}, 0
  local before = #out
  while r.at <= #r.data do
    local final, kind = r:bit(), r:bits(2)
    if kind == 0 then
      read_stored(r, out)
    elseif kind == 1 then
      furthest = math.max(furthest, read_codes(r, out, fixed_codes()))
    else
      assert(kind == 2, "type of a block")
      furthest = math.max(furthest, read_codes(r, out, dynamic_codes(r)))
    end
    if final == 1 then
      r:align()
    end
  end
  return table.concat(out, "", before + 1), furthest, out
end

return M
