-- permessage-deflate's message transformation, without frames: what comes out
-- of one end goes into the other, and into a decoder of the spec's own.
local testing = require("cws.testing")
local support = require("spec.support.deflate")

if not testing.deflate_available() then
  return
end

local blocks = support.blocks
local other = { server = "client", client = "server" }

local function with_takeover(role, params)
  params = params or {}
  return assert(testing.deflate(role, assert(testing.deflate_pool()), params))
end

-- Both ends of a connection: the one that sends, as `role`, and its peer.
local function ends(role, params)
  return with_takeover(role, params), with_takeover(other[role], params)
end

local no_takeover = { server_no_context_takeover = true, client_no_context_takeover = true }

-- The parameters as they concern what `role` sends.
local function sending(role, takeover, bits)
  return {
    [role .. "_no_context_takeover"] = not takeover,
    [role .. "_max_window_bits"] = bits,
  }
end

math.randomseed(7692)

local function noise(n)
  local out = {}
  for i = 1, n do
    out[i] = string.char(math.random(0, 255))
  end
  return table.concat(out)
end

-- Random data that comes again after exactly `distance` bytes.
local function far(distance)
  local start = noise(200)
  return start .. noise(distance - #start) .. start
end

local messages = {
  "", "a", "Hello", "Hello", "", ("Hello, world. "):rep(100), noise(3000), ("\0"):rep(70000),
  far(1000), far(32000), noise(70000), "Hello", ("abc"):rep(30000) .. noise(500),
}

-- Gives input in pieces of `size` bytes and takes at most `room` bytes at once.
-- Returns all output, or nil and the error.
local function expand(d, input, size, room)
  local out, at = {}, 1
  repeat
    local piece = input:sub(at, at + (size or #input) - 1)
    local last = at + #piece > #input
    local result, used
    repeat
      local data
      data, result, used = d:expand(piece, last, room)
      if not data then
        return nil, result
      end
      assert(not room or #data <= room, "more than there is room for")
      out[#out + 1] = data
      piece = piece:sub(used + 1)
      at = at + used
    until result == "item"
    assert(piece == "", "input that was not used")
  until last
  return table.concat(out)
end

-- Compares without printing what may be long and binary.
local function equal(expected, got)
  if expected ~= got then
    error(("expected %d bytes, got %s"):format(#expected, got and #got), 2)
  end
end

local function both(name, fn)
  for role in pairs(other) do
    it(("%s (%s)"):format(name, role), function()
      fn(role)
    end)
  end
end

-- Input that must be refused as a whole message, however it is cut.
local function refused(input, params)
  for _, size in ipairs({ #input, 1, 2, 3, 7 }) do
    for _, room in ipairs({ 1 << 30, 1, 100 }) do
      local d = with_takeover("server", params)
      local data, err = expand(d, input, size, room)
      assert.is_nil(data)
      assert.equal("protocol", err)
      -- and stays refused
      assert.same({ nil, "protocol" }, { d:expand("\0") })
    end
  end
end

-- The same for input that is fine.
local function accepted(input, output, params)
  for _, size in ipairs({ #input, 1, 2, 3, 7 }) do
    for _, room in ipairs({ 1 << 30, 1, 100 }) do
      local d = with_takeover("server", params)
      equal(output, (expand(d, input, size, room)))
      assert.equal("next", (expand(d, (with_takeover("client"):compress("next")))))
    end
  end
end

describe("deflate round trip:", function()
  it("names zlib's version", function()
    assert.matches("^%d+%.%d+", testing.deflate_version())
  end)

  both("every window, with and without takeover", function(role)
    for bits = 8, 15 do
      for _, takeover in ipairs({ true, false }) do
        local from, to = ends(role, sending(role, takeover, bits))
        for _, message in ipairs(messages) do
          equal(message, (expand(to, from:compress(message))))
        end
      end
    end
  end)

  both("every level and memory", function(role)
    for level = -1, 9 do
      for memory = 1, 9, level == 6 and 1 or 4 do
        if level ~= 0 then
          local from, to = ends(role, { level = level, memory = memory })
          for _, message in ipairs(messages) do
            equal(message, (expand(to, from:compress(message))))
          end
        end
      end
    end
  end)

  both("both directions at once, every combination of takeover", function(role)
    for i = 0, 3 do
      local a, b = ends(role, {
        server_no_context_takeover = i & 1 ~= 0, client_no_context_takeover = i & 2 ~= 0,
      })
      for _, message in ipairs(messages) do
        local forth, back = a:compress(message), b:compress(message .. "back")
        equal(message, (expand(b, forth)))
        equal(message .. "back", (expand(a, back)))
      end
    end
  end)

  both("a decoder of our own reads it, too", function(role)
    for _, takeover in ipairs({ true, false }) do
      for _, level in ipairs({ 1, 6 }) do
        local params = sending(role, takeover)
        params.level = level
        local from, window = with_takeover(role, params), nil
        for i = 1, 9 do
          local text, _, all = support.read(from:compress(messages[i]), window)
          equal(messages[i], text)
          window = takeover and all or nil
        end
      end
    end
  end)

  both("no match reaches back further than the window that was agreed", function(role)
    for bits = 8, 15 do
      local size = 1 << bits
      local data = { ("x"):rep(300), far(200), noise(100):rep(6) }
      for _, distance in ipairs({ 255, 256, 257, size // 2 + 50, size - 262, size - 1, size,
        size + 1, 2 * size }) do
        data[#data + 1] = distance >= 200 and distance <= 40000 and far(distance) or ""
      end
      for _, level in ipairs({ 1, 9 }) do
        local params = sending(role, true, bits)
        params.level = level
        local packed = with_takeover(role, params):compress(table.concat(data))
        local text, furthest = support.read(packed)
        equal(table.concat(data), text)
        assert.is_true(furthest <= size, ("%d with %d bits"):format(furthest, bits))
        if bits == 8 then -- zlib's matcher has no such window
          assert.equal(1, furthest)
        else
          assert.is_true(furthest > size / 4, "matches that are far away are used")
        end
      end
    end
  end)

  both("context takeover makes the second message smaller", function(role)
    local text = noise(500)
    local from = with_takeover(role, sending(role, true))
    local first, second = from:compress(text), from:compress(text)
    assert.is_true(#first > 480 and #second < 20)
  end)

  both("without takeover every message stands for itself", function(role)
    local text = ("Hello, world. "):rep(9)
    local from = with_takeover(role, sending(role, false))
    local first = from:compress(text)
    assert.equal(first, from:compress(text))
    equal(text, (expand(with_takeover(other[role]), first)))
  end)

  both("a message in pieces, mixed with whole ones", function(role)
    for _, takeover in ipairs({ true, false }) do
      for _, size in ipairs({ 1, 13, 5000 }) do
        local from, to = ends(role, sending(role, takeover))
        for _, message in ipairs({ messages[6], messages[7], messages[8], "Hello" }) do
          local packed, at = {}, 1
          while at <= #message do
            packed[#packed + 1] = from:compress(message:sub(at, at + size - 1), false)
            packed[#packed + 1] = from:compress("", false)
            at = at + size
          end
          packed[#packed + 1] = from:compress("", true)
          equal(message, (expand(to, table.concat(packed))))
          assert.equal("whole", (expand(to, from:compress("whole"))))
        end
      end
    end
  end)

  both("an empty message is one byte 00", function(role)
    local from, to = ends(role)
    for _ = 1, 3 do
      assert.equal("\0", from:compress(""))
      assert.equal("", (expand(to, "\0")))
    end
    assert.equal("", from:compress("", false))
    assert.equal("\0", from:compress("", true))
    assert.equal("Hello", (expand(to, from:compress("Hello"))))
    assert.equal("\0", from:compress(""))
  end)

  it("no message ends with the tail", function()
    local from = with_takeover("server")
    for _, message in ipairs(messages) do
      local packed = from:compress(message)
      assert.is_true(#packed > 0)
      assert.is_nil(packed:find("\0\0\xff\xff$"))
    end
  end)
end)

describe("deflate cut:", function()
  both("input and room in any sizes give the same", function(role)
    for _, message in ipairs({ messages[6], messages[7], far(2000), ("\0"):rep(5000) }) do
      for _, size in ipairs({ 1 << 20, 1, 2, 3, 5, 100 }) do
        for _, room in ipairs({ 1 << 20, 1, 2, 7, 258, 1000 }) do
          local from, to = ends(role)
          for _ = 1, 2 do
            equal(message, (expand(to, from:compress(message), size, room)))
          end
        end
      end
    end
  end)

  it("never gives more than there is room for, and says so", function()
    local from, to = ends("server")
    local packed, all = from:compress(("\0"):rep(1 << 20)), 0
    local data, result, used = to:expand(packed, true, 1000)
    while result == "more" do
      assert.equal(1000, #data)
      all, packed = all + #data, packed:sub(used + 1)
      data, result, used = to:expand(packed, true, 1000)
    end
    assert.equal(1 << 20, all + #data)
    assert.equal(#packed, used)
  end)

  it("room for exactly the message is enough", function()
    for _, message in ipairs(messages) do
      local from, to = ends("server")
      local packed = from:compress(message)
      local data, result, used = to:expand(packed, true, #message)
      if result == "more" then -- it could not know that nothing follows
        assert.same({ "", "item", #packed - used }, { to:expand(packed:sub(used + 1), true, 1) })
      end
      equal(message, data)
    end
  end)

  it("no room at all is no endless loop", function()
    local from, to = ends("server")
    local packed = from:compress("Hello")
    local data, result, used = to:expand(packed, true, 0)
    assert.same({ "", "more" }, { data, result })
    packed = packed:sub(used + 1)
    assert.equal("more", select(2, to:expand(packed, true, 0)))
    assert.equal("Hello", (to:expand(packed, true, 5)))
  end)

  it("what has arrived comes out at once", function()
    local from, to = ends("server")
    local packed = from:compress(("\0"):rep(300000))
    local data, result = to:expand(packed:sub(1, -2), false)
    assert.equal("item", result)
    assert.is_true(#data > 299000)
  end)
end)

describe("deflate bad data:", function()
  it("B165 a block of type 3, and noise", function()
    refused("\x06")
    refused("\x07")
    refused(blocks({ { "Hello" } }, true) .. "\x06")
    refused("\xff\xff\xff\xff")
  end)

  it("B165 a stored block of the wrong length", function()
    refused("\0\5\0\xfa\xfeHello\0")
    accepted("\0\5\0\xfa\xffHello\0", "Hello")
  end)

  it("B165 dynamic codes that are not complete or too many", function()
    refused("\x04\x00\xfe\xff") -- 257 literal codes from nothing
    refused("\xfc\xff\xff\xff\xff\xff\xff\xff")
  end)

  it("B166 a match that reaches before the start", function()
    refused(blocks({ { { 3, 1 } } }))
    refused(blocks({ { "abc", { 3, 4 } } }))
    refused(blocks({ { "abc" }, { { 3, 4 } } }))
    refused(blocks({ { noise(1000), { 258, 32768 } } }))
    accepted(blocks({ { "abc", { 3, 3 } } }), "abcabc")
  end)

  it("B166 a match into the last message, when its window was dropped", function()
    local again = blocks({ { { 5, 5 } } })
    local d = with_takeover("server")
    assert.equal("Hello", (expand(d, blocks({ { "Hello" } }))))
    assert.equal("Hello", (expand(d, again)))
    for _, name in ipairs({ "client_no_context_takeover", "server_no_context_takeover" }) do
      d = with_takeover("server", { [name] = true })
      assert.equal("Hello", (expand(d, blocks({ { "Hello" } }))))
      local data, err = expand(d, again)
      if name:find("^client") then
        assert.same({ nil, "protocol" }, { data, err })
      else
        assert.equal("Hello", data)
      end
    end
  end)

  it("B166 the window is 32 KiB, whatever was agreed, in every cutting", function()
    local start, between = noise(8), noise(32768 - 8)
    local message = blocks({ { stored = start }, { stored = between }, { { 8, 32768 } } })
    for _, params in ipairs({ {}, { client_max_window_bits = 8 } }) do
      for _, size in ipairs({ #message, 1000 }) do
        local d = with_takeover("server", params)
        equal(start .. between .. start, (expand(d, message, size)))
      end
    end
  end)

  it("B167 data that ends inside a block, at every byte", function()
    for _, message in ipairs({ "Hello, Hello, Hello", noise(40), ("ab"):rep(500) }) do
      local packed = with_takeover("client"):compress(message)
      for cut = 1, #packed - 1 do
        refused(packed:sub(1, cut))
      end
    end
    refused("\0\9\0\xf6\xffHello") -- the tail is no part of a stored block
    refused("\0\5\0\xfa\xffHell")
    refused("\0\5\0\xfa\xffHello") -- the empty block at the end is missing
  end)

  it("B171 a message without one byte, and the byte 00", function()
    local d = with_takeover("server")
    assert.same({ "", "item", 0 }, { d:expand("") })
    assert.same({ "", "item", 1 }, { d:expand("\0") })
    assert.same({ "", "item", 0 }, { d:expand("") })
    assert.equal("Hello", (expand(d, blocks({ { "Hello" } }))))
    assert.same({ "", "item", 0 }, { d:expand("", false) })
    assert.same({ "", "item", 0 }, { d:expand("", true) })
    assert.equal("Hello", (expand(d, blocks({ { { 5, 5 } } }))))
  end)

  it("B173 blocks after one with BFINAL belong to the message", function()
    accepted("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello") -- 7.2.3.4
    accepted(blocks({ { final = true, "Hello" }, { ", world" } }), "Hello, world")
    accepted(blocks({ { final = true, "Hello" }, { final = true, " " },
      { final = true, stored = "x" } }), "Hello x")
    accepted(blocks({ { final = true, "Hello" }, { { 5, 5 } } }), "HelloHello")
  end)

  it("B173 a message may end with BFINAL; the window stays", function()
    accepted(blocks({ { final = true, "Hello" } }, true), "Hello")
    local d = with_takeover("server")
    assert.equal("Hello", (expand(d, blocks({ { final = true, "Hello" } }, true))))
    assert.equal("Hello", (expand(d, blocks({ { { 5, 5 } } }))))
    d = with_takeover("server", no_takeover)
    assert.equal("Hello", (expand(d, blocks({ { final = true, "Hello" } }, true))))
    assert.is_nil((expand(d, blocks({ { { 5, 5 } } }))))
  end)

  it("B173 garbage after BFINAL", function()
    local hello = blocks({ { final = true, "Hello" } }, true)
    for _, garbage in ipairs({ "\x06", "\xff", "\0\0", "garbage", "\0\0\0\xff\xff\xde\xad\xbe\xef" }) do
      refused(hello .. garbage)
    end
  end)

  it("B173 very many final blocks take no time of their own", function()
    local final = blocks({ { final = true } }, true)
    local d = with_takeover("server")
    expand(d, with_takeover("client"):compress(noise(40000)))
    local start = os.clock()
    assert.equal("", (expand(d, final:rep(100000))))
    assert.is_true(os.clock() - start < 0.5)
  end)

  it("the last block may end at any bit", function()
    for n = 0, 20 do
      local data = ("\xff"):rep(n) .. "x"
      accepted(blocks({ { data } }), data)
    end
  end)
end)

describe("deflate memory:", function()
  local kib = 1024

  it("B175 nothing before first use; at most 330 KiB with takeover both ways", function()
    local a, b = ends("server")
    assert.equal(0, a:memory())
    expand(b, a:compress(""))
    assert.same({ 0, true }, { a:memory(), b:memory() <= 48 * kib })
    expand(a, b:compress("Hello"))
    expand(b, a:compress("Hello"))
    assert.is_true(a:memory() > 200 * kib and a:memory() <= 330 * kib)
  end)

  it("B175 idle without takeover holds nothing", function()
    local a, b = ends("server", no_takeover)
    for _, message in ipairs(messages) do
      expand(b, a:compress(message))
      assert.same({ 0, 0 }, { a:memory(), b:memory() })
    end
    local packed = a:compress(messages[7], false)
    assert.is_true(a:memory() > 200 * kib)
    packed = packed .. a:compress("", true)
    assert.equal(0, a:memory())
    b:expand(packed:sub(1, 100), false)
    assert.is_true(b:memory() > 0)
    b:expand(packed:sub(101))
    assert.equal(0, b:memory())
  end)

  it("a smaller window and level take less", function()
    local a = with_takeover("server", { server_max_window_bits = 9, memory = 1, level = 1 })
    a:compress("Hello")
    assert.is_true(a:memory() < 16 * kib)
  end)

  -- Allocations that fn asks for.
  local function asked(fn)
    testing.alloc_fail(0)
    fn()
    return testing.alloc_fail(0)
  end

  it("without takeover streams are used again, by others of the same pool too", function()
    local pool = testing.deflate_pool()
    local a = testing.deflate("server", pool, no_takeover)
    local b = testing.deflate("server", pool, no_takeover)
    local hello = blocks({ { "Hello" } })
    a:compress("Hello")
    a:expand(hello)
    for _, d in ipairs({ a, b }) do
      assert.equal(1, asked(function() d:compress("Hello") end)) -- the output
      assert.equal(1, asked(function() d:expand(hello) end))
    end
  end)

  it("a stream is only used again for the same parameters", function()
    local pool = testing.deflate_pool()
    local params = { { server_max_window_bits = 9 }, { level = 9 }, { memory = 1 }, {} }
    for _, p in ipairs(params) do
      p.server_no_context_takeover = true
      local d = testing.deflate("server", pool, p)
      assert.is_true(asked(function() d:compress("Hello") end) > 1)
      assert.equal(1, asked(function() d:compress("Hello") end))
    end
  end)

  it("a pool keeps a few streams, the ones used last", function()
    local pool, open = testing.deflate_pool(), {}
    for i = 1, 20 do
      open[i] = testing.deflate("server", pool, no_takeover)
      open[i]:compress("Hello", false)
    end
    for i = 1, 20 do
      open[i]:compress("", true)
    end
    local made = 0
    for i = 1, 20 do
      if asked(function() open[i]:compress("Hello", false) end) > 1 then
        made = made + 1
      end
    end
    assert.equal(16, made)
    local d = testing.deflate("server", pool, { level = 9, server_no_context_takeover = true })
    for i = 1, 20 do
      open[i]:compress("", true)
    end
    d:compress("Hello")
    assert.equal(1, asked(function() d:compress("Hello") end))
  end)

  it("what is freed in the middle of a message leaves the pool in order", function()
    local pool = testing.deflate_pool()
    for _ = 1, 3 do
      local d = testing.deflate("server", pool)
      d:compress(noise(1000), false)
      d:expand(blocks({ { noise(1000) } }):sub(1, 500), false)
      d:free()
      local again = testing.deflate("server", pool)
      assert.equal("Hello", (support.read(again:compress("Hello"))))
      assert.is_nil((again:expand(blocks({ { { 5, 5 } } }))))
      again:free()
    end
  end)

  -- Calls fn with the n-th allocation failing, for all n, until none fails.
  local function every_allocation(fn)
    for _, all in ipairs({ false, true }) do
      local n = 0
      repeat
        n = n + 1
        testing.alloc_fail(n, all)
        local fine = fn()
        local count = testing.alloc_fail(0)
        assert.equal(count < n, fine)
      until count < n
      assert.is_true(n > 4)
    end
  end

  it("the n-th allocation fails while compressing, for all n", function()
    local text = noise(100000)
    for _, params in ipairs({ {}, no_takeover }) do
      every_allocation(function()
        local pool = testing.deflate_pool()
        local d = pool and testing.deflate("server", pool, params)
        if not d then
          return false
        end
        local first, err = d:compress(text, false)
        local second, later = d:compress("", true)
        if first and second then
          equal(text, (support.read(first .. second)))
          return true
        end
        assert.equal("memory", later)
        assert.is_true(first ~= nil or err == "memory")
        -- the windows differ from now on: it must not go on
        assert.same({ nil, "memory" }, { d:compress("Hello") })
        return false
      end)
    end
  end)

  it("the n-th allocation fails while inflating, for all n", function()
    local text = noise(50000) .. ("\0"):rep(50000)
    local packed = with_takeover("client"):compress(text)
    for _, params in ipairs({ {}, no_takeover }) do
      every_allocation(function()
        local pool = testing.deflate_pool()
        local d = pool and testing.deflate("server", pool, params)
        if not d then
          return false
        end
        local data, err = expand(d, packed, 30000)
        if data then
          equal(text, data)
          return true
        end
        assert.equal("memory", err)
        assert.same({ nil, "memory" }, { d:expand("\0") })
        return false
      end)
    end
  end)
end)
