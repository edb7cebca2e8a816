-- The session of layer 1 (csrc/proto/session.h): limits, streaming, the place
-- for large payloads, memory. What RFC 6455 demands is in rfc6455_spec.lua.
local testing = require("cws.testing")
local support = require("spec.support.session")
local deflate = require("spec.support.deflate")
local frame, close, expect = support.frame, support.close, support.expect

local function both(name, fn)
  for _, role in ipairs(support.roles) do
    it(name .. " (" .. role .. ")", function()
      fn(role)
    end)
  end
end

local function streamed(session)
  session:stream()
end

-- Fragments of those sizes; the message is the alphabet again and again.
local function fragments(role, opcode, sizes)
  local bytes, data = {}, {}
  for i, size in ipairs(sizes) do
    data[i] = ("abcdefghijklmnopqrstuvwxyz"):rep(size // 26 + 2):sub(i, i + size - 1)
    bytes[i] = frame(role, i == 1 and opcode or "continuation", data[i], { fin = i == #sizes })
  end
  return table.concat(bytes), table.concat(data)
end

describe("a cut header", function()
  it("is not taken for a new one where its rest looks like that", function()
    for key in ("\x81\x80\x81\x80 \x82\x85\x82\x85"):gmatch("%S+") do
      expect("server", frame("server", "text", "hello", { key = key }), { "text hello" })
    end
  end)
end)

describe("session limits:", function()
  both("max_message holds to the byte, in one frame and over fragments, B134", function(role)
    local limits = { limits = { max_message = 10 } }
    local too_big = { "fail 1009", "> close 1009" }
    expect(role, frame(role, "text", ("x"):rep(10)), { "text " .. ("x"):rep(10) }, limits)
    expect(role, frame(role, "text", ("x"):rep(11)), too_big, limits)
    for first = 0, 10 do
      local bytes, data = fragments(role, "binary", { first, 10 - first })
      expect(role, bytes, { "binary " .. data }, limits)
      expect(role, (fragments(role, "binary", { first, 11 - first })), too_big, limits)
      expect(role, (fragments(role, "binary", { first, 10 - first, 1 })), too_big, limits)
    end
  end)

  both("a length that would wrap the sum is over the limit, B133", function(role)
    for _, max in ipairs({ 10, 1 << 20, math.maxinteger }) do
      local bytes = frame(role, "binary", "abc", { fin = false })
        .. frame(role, "continuation", "", { len = math.maxinteger })
      expect(role, bytes, { "fail 1009", "> close 1009" }, { limits = { max_message = max } })
    end
  end)

  both("the limit counts each message anew", function(role)
    local bytes, lines = {}, {}
    for i = 1, 5 do
      bytes[i], lines[i] = frame(role, "text", ("x"):rep(10)), "text " .. ("x"):rep(10)
    end
    expect(role, table.concat(bytes), lines, { limits = { max_message = 10 } })
  end)

  both("a limit of nothing lets empty messages through", function(role)
    local limits = { limits = { max_message = 0 } }
    expect(role, frame(role, "text") .. frame(role, "text", "x"),
      { "text", "fail 1009", "> close 1009" }, limits)
  end)

  both("max_fragments counts frames of one message, empty ones too, B137 B138", function(role)
    local limits = { limits = { max_fragments = 4 } }
    local bytes, data = fragments(role, "text", { 1, 1, 1, 1 })
    expect(role, bytes .. bytes, { "text " .. data, "text " .. data }, limits)
    local too_many = { "fail 1008", "> close 1008" }
    expect(role, (fragments(role, "text", { 1, 1, 1, 1, 1 })), too_many, limits)
    expect(role, (fragments(role, "text", { 0, 0, 0, 0, 0 })), too_many, limits)
    local endless = frame(role, "text", "", { fin = false })
      .. frame(role, "continuation", "", { fin = false }):rep(10)
    expect(role, endless, too_many, limits)
  end)

  both("control frames are not fragments", function(role)
    local bytes = frame(role, "text", "a", { fin = false }) .. frame(role, "pong"):rep(5)
      .. frame(role, "continuation", "b")
    expect(role, bytes, { "pong", "pong", "pong", "pong", "pong", "text ab" },
      { limits = { max_fragments = 2, max_message = 2 } })
  end)

  both("limits do not apply to what is discarded after our close", function(role)
    expect(role, frame(role, "text", ("x"):rep(20)) .. close(role, 1000), { "close 1000" }, {
      limits = { max_message = 10, max_fragments = 1 },
      before = function(session)
        session:close(1000)
      end,
    })
  end)
end)

describe("session streaming:", function()
  both("gives the bytes as they arrive", function(role)
    expect(role, frame(role, "text", "Hello"), { "text Hello" }, { before = streamed })
    local session = testing.session(role)
    session:stream()
    local bytes, seen = frame(role, "binary", "Hello"), {}
    for i = 1, #bytes do
      for _, event in ipairs(session:feed(bytes:sub(i, i))) do
        seen[#seen + 1] = event.data .. (event.fin and "." or "")
      end
    end
    assert.same({ "H", "e", "l", "l", "o." }, seen)
    assert.equal(0, session:memory())
  end)

  both("ends by itself with the message", function(role)
    local session = testing.session(role)
    session:stream()
    local events = session:feed(frame(role, "text", "one") .. frame(role, "text", "two"))
    assert.equal("piece", events[1].type)
    assert.is_true(events[1].fin)
    assert.equal("message", events[2].type)
  end)

  both("pieces have 64 KiB at most", function(role)
    for _, size in ipairs({ 65535, 65536, 65537, 131072, 200001 }) do
      local bytes, data = fragments(role, "binary", { size })
      local session = testing.session(role)
      session:stream()
      local events = session:feed(bytes)
      assert.equal((size + 65535) // 65536, #events)
      assert.equal("binary " .. data, support.lines(role, events)[1])
      session:free()
    end
  end)

  both("an empty message is one piece, the last", function(role)
    for _, sizes in ipairs({ { 0 }, { 0, 0, 0 } }) do
      local session = testing.session(role)
      session:stream()
      local events = session:feed((fragments(role, "text", sizes)))
      assert.equal(1, #events)
      assert.is_true(events[1].fin)
      assert.equal("", events[1].data)
    end
  end)

  both("may start at every byte of a message", function(role)
    local bytes, data = fragments(role, "text", { 5, 0, 7, 3 })
    bytes = bytes .. frame(role, "text", "next")
    for _, way in ipairs(support.ways) do
      for cut = 0, #bytes - 6 do
        local session = testing.session(role)
        local events = session:feed(bytes:sub(1, cut), way)
        session:stream()
        for _, event in ipairs(session:feed(bytes:sub(cut + 1), way)) do
          events[#events + 1] = event
        end
        assert.same({ "text " .. data, "text next" }, support.lines(role, events))
        session:free()
      end
    end
  end)

  both("gives what was kept before anything newer, in pieces", function(role)
    local bytes, data = fragments(role, "binary", { 150000, 10 })
    local session = testing.session(role)
    assert.same({}, session:feed(bytes:sub(1, -3)))
    assert.is_false(session:pending())
    session:stream()
    assert.is_true(session:pending())
    local events = session:feed("")
    assert.equal(3, #events)
    assert.is_false(session:pending())
    for _, event in ipairs(session:feed(bytes:sub(-2))) do
      events[#events + 1] = event
    end
    assert.same({ "binary " .. data }, support.lines(role, events))
  end)

  both("control frames come between pieces", function(role)
    local session = testing.session(role)
    session:stream()
    local seen = {}
    local bytes = frame(role, "text", "a", { fin = false }) .. frame(role, "ping", "p")
      .. frame(role, "continuation", "b")
    for _, event in ipairs(session:feed(bytes)) do
      seen[#seen + 1] = event.type .. " " .. event.data
    end
    assert.same({ "piece a", "ping p", "piece b" }, seen)
  end)

  both("checks limits and UTF-8 as well", function(role)
    local limit = { before = streamed, limits = { max_message = 4, max_fragments = 3 } }
    expect(role, frame(role, "text", "abcde"), { "fail 1009", "> close 1009" }, limit)
    expect(role, (fragments(role, "text", { 2, 3 })),
      { "fail 1009", "> close 1009", "text... ab" }, limit)
    expect(role, (fragments(role, "text", { 1, 1, 1, 1 })),
      { "fail 1008", "> close 1008", "text... abc" }, limit)
    local open = { before = streamed }
    expect(role, frame(role, "text", "\xe2\x82\xac", { fin = false })
      .. frame(role, "continuation", "\xff"),
      { "fail 1007", "> close 1007", "text... \xe2\x82\xac" }, open)
  end)

  both("our close ends it", function(role)
    local session = testing.session(role)
    session:feed(frame(role, "text", "kept", { fin = false }))
    session:stream()
    session:close(1000)
    assert.same({ "close 1000" },
      support.lines(role, session:feed(frame(role, "continuation", "end") .. close(role, 1000))))
  end)
end)

describe("session place:", function()
  both("is offered inside a frame that goes to the buffer, for what is to come", function(role)
    local session = testing.session(role)
    local bytes = frame(role, "binary", ("x"):rep(1000))
    local head = #bytes - 1000
    assert.is_nil(session:place(1))
    session:feed(bytes:sub(1, head - 1))
    assert.is_nil(session:place(1))
    session:feed(bytes:sub(head, head))
    assert.equal(1000, session:place(1))
    assert.equal(1000, session:place(1000))
    assert.is_nil(session:place(1001))
    session:feed(bytes:sub(head + 1, head + 400))
    assert.equal(600, session:place(600))
    assert.is_nil(session:place(601))
    session:feed(bytes:sub(head + 401))
    assert.is_nil(session:place(1))
  end)

  both("is not offered for control frames, streams, or after our close", function(role)
    local session = testing.session(role)
    session:feed(frame(role, "ping", ("x"):rep(100)):sub(1, -50))
    assert.is_nil(session:place(1))
    local half = frame(role, "text", ("x"):rep(100)):sub(1, -50)
    session = testing.session(role)
    session:stream()
    session:feed(half)
    assert.is_nil(session:place(1))
    session = testing.session(role)
    session:feed(half)
    session:close(1000)
    assert.is_nil(session:place(1))
  end)

  both("grows with what has arrived, not with the length announced, B135 B139", function(role)
    for _, len in ipairs({ 1 << 20, 1 << 40, math.maxinteger }) do
      local session = testing.session(role)
      session:feed(frame(role, "binary", "0123456789", { len = len }))
      assert.is_true(session:memory() <= 4096)
      assert.is_true(session:place(1) <= 65536)
      assert.is_true(session:memory() <= 4096 + 131072)
    end
  end)

  both("large messages come through whole", function(role)
    local bytes, data = fragments(role, "text", { 300000, 1, 200000 })
    local session = testing.session(role)
    local lines = support.lines(role, session:feed(bytes, "place"))
    assert.same({ "text " .. data }, lines)
  end)

  both("a failure between reading and parsing drops what was read", function(role)
    for _, way in ipairs({ "feed", "place" }) do
      local session = testing.session(role)
      session:feed(frame(role, "text", "ab", { len = 10 }))
      session:fail()
      assert.same({}, session:feed("\xff\xff\xff", way))
      assert.equal("failed", session:state())
    end
  end)
end)

describe("session memory:", function()
  both("nothing is held between messages", function(role)
    local bytes = fragments(role, "text", { 100, 100 }) .. frame(role, "ping", "x")
    expect(role, bytes, { "text " .. select(2, fragments(role, "text", { 100, 100 })),
      "ping x", "> pong x" }, { after = function(session)
        assert.equal(0, session:memory())
      end })
  end)

  both("buffers grow with bytes received, B135 B137", function(role)
    local session = testing.session(role)
    session:feed(frame(role, "text", "", { fin = false }))
    for i = 1, 20000 do
      session:feed(frame(role, "continuation", "x", { fin = false }))
      assert.is_true(session:memory() <= 2 * i + 4096)
    end
  end)

  both("a part message is dropped when the connection is closing or failed", function(role)
    local ends = {
      function(session)
        session:feed(close(role, 1000))
      end,
      function(session)
        session:feed(frame(role, 3))
      end,
      function(session)
        session:close(1000)
        session:feed(frame(role, "continuation", "end"))
      end,
    }
    for _, finish in ipairs(ends) do
      local session = testing.session(role)
      session:feed(frame(role, "text", ("x"):rep(10000), { fin = false }))
      assert.is_true(session:memory() >= 10000)
      finish(session)
      assert.equal(0, session:memory())
    end
  end)

  both("the n-th allocation fails, for all n", function(role)
    local bytes, data = fragments(role, "text", { 100, 5000, 70000 })
    bytes = bytes .. frame(role, "ping", "0123456789")
    local want = "text " .. data .. "\nping 0123456789\n> pong 0123456789"
    for _, way in ipairs(support.ways) do
      for _, all in ipairs({ true, false }) do
        local n, lines = 0, nil
        repeat
          n = n + 1
          local session = testing.session(role)
          local events = {}
          testing.alloc_fail(n, all)
          for i = 1, #bytes, 9973 do
            for _, event in ipairs(session:feed(bytes:sub(i, i + 9972), way)) do
              events[#events + 1] = event
            end
          end
          local asked = testing.alloc_fail(0)
          lines = table.concat(support.lines(role, events), "\n")
          if lines ~= want then
            assert.truthy(("\n" .. lines):find("\nmemory$"))
            assert.equal("closed", session:state())
          end
          session:free()
        until asked < n
        assert.equal(want, lines)
        assert.is_true(n > 3)
      end
    end
  end)
end)

describe("session.fail:", function()
  both("drops all input, also what was fed before", function(role)
    local session = testing.session(role)
    session:fail()
    assert.equal("failed", session:state())
    assert.same({}, session:feed(frame(role, "text", "x")))
    local f = support.unframe(role, session:close(1011, "internal error"))
    assert.equal("\x03\xf3internal error", f.data)
    assert.equal("closed", session:state())
    assert.equal("", session:close(1000))
  end)
end)

if not testing.deflate_available() then
  return
end

-- The two ends that agreed on permessage-deflate.
local function deflated(extra)
  local options = { deflate = extra and extra.deflate or {} }
  for name, value in pairs(extra or {}) do
    options[name] = value
  end
  return options
end

describe("session deflate:", function()
  local other = { server = "client", client = "server" }

  -- Frames, as the peer of `role` sends them, of a compressed message cut into
  -- pieces of `size` bytes.
  local function compressed(role, opcode, data, size)
    local peer = assert(testing.session(other[role], deflated()))
    local packed, bytes, at = assert(peer:compress(data, true)), {}, 1
    size = size or #packed
    repeat
      local part = packed:sub(at, at + size - 1)
      local first = at == 1
      at = at + size
      bytes[#bytes + 1] = frame(role, first and opcode or "continuation", part,
        { rsv = first and 4 or 0, fin = at > #packed })
    until at > #packed
    return table.concat(bytes), packed
  end

  both("messages come through, whole and in fragments, in every cutting", function(role)
    local data = ("Hello, world. "):rep(20) .. "End"
    for _, size in ipairs({ false, 1, 7, 1000 }) do
      local bytes = compressed(role, "text", data, size or nil)
      expect(role, bytes, { "text " .. data }, { limits = deflated() })
      expect(role, bytes, { "text " .. data }, { limits = deflated(), before = streamed })
    end
  end)

  both("messages that are not compressed come between", function(role)
    expect(role, compressed(role, "text", "one") .. frame(role, "text", "two")
      .. frame(role, "ping", "p"), { "text one", "text two", "ping p", "> pong p" },
      { limits = deflated() })
  end)

  both("says which message was compressed", function(role)
    local session = testing.session(role, deflated())
    local events = session:feed(compressed(role, "text", "one") .. frame(role, "text", "two"))
    assert.is_true(events[1].compressed)
    assert.is_false(events[2].compressed)
  end)

  both("reserved bit 1 only on the first frame of a data message, B121 B163", function(role)
    for _, opcode in ipairs({ "close", "ping", "pong" }) do
      expect(role, frame(role, opcode, "", { rsv = 4 }), { "fail 1002", "> close 1002" },
        { limits = deflated() })
    end
    expect(role, frame(role, "text", "a", { fin = false })
      .. frame(role, "continuation", "b", { rsv = 4 }), { "fail 1002", "> close 1002" },
      { limits = deflated() })
    expect(role, frame(role, "text", "", { rsv = 4 }), { "fail 1002", "> close 1002" })
  end)

  both("a control frame in the middle of a compressed message", function(role)
    local _, packed = compressed(role, "text", "Hello")
    expect(role, frame(role, "text", packed:sub(1, 3), { rsv = 4, fin = false })
      .. frame(role, "ping", "p") .. frame(role, "continuation", packed:sub(4)),
      { "ping p", "> pong p", "text Hello" }, { limits = deflated() })
  end)

  both("max_message holds to the byte for what comes out, B170", function(role)
    local data = ("x"):rep(1000)
    local bytes = compressed(role, "binary", data)
    expect(role, bytes, { "binary " .. data }, { limits = deflated({ max_message = 1000 }) })
    expect(role, bytes, { "fail 1009", "> close 1009" },
      { limits = deflated({ max_message = 999 }) })
  end)

  both("a bomb is stopped by its ratio, in fragments too, B169", function(role)
    local bomb = ("\0"):rep(1 << 20)
    local limits = deflated({ max_ratio = 200, max_message = 1 << 20 })
    local stopped = { "fail 1009", "> close 1009" }
    for _, size in ipairs({ false, 11 }) do
      local bytes = compressed(role, "binary", bomb, size or nil)
      for _, segments in ipairs({ { bytes }, { bytes:sub(1, 300), bytes:sub(301) } }) do
        local session, lines = support.play(role, { limits = limits }, segments, "feed")
        assert.same(stopped, lines)
        session:free()
      end
    end
    local fine = ("\0"):rep(65536)
    expect(role, compressed(role, "binary", fine), { "binary " .. fine }, { limits = limits })
  end)

  both("the ratio does not depend on how the input was cut", function(role)
    local noise = {}
    math.randomseed(1)
    for i = 1, 66000 do
      noise[i] = string.char(math.random(0, 255))
    end
    local data = ("\0"):rep(65600) .. table.concat(noise)
    local bytes = compressed(role, "binary", data)
    expect(role, bytes, { "binary " .. data }, { limits = deflated({ max_ratio = 200 }) })
  end)

  -- 128 KiB of "x" in 8-bit codes, then matches whose codes take three bytes
  -- more: what zlib has taken when 128 KiB are out depends on what it has got.
  local function at_the_edge(empty_blocks, rest)
    local parts, list = { "x" }, {}
    for i = 2, 509 do
      parts[i] = { 258, 1 }
    end
    table.move({ { 7, 1 }, { 258, 32768 }, rest }, 1, 3, 510, parts)
    for i = 1, empty_blocks do
      list[i] = {}
    end
    list[empty_blocks + 1] = parts
    return deflate.blocks(list)
  end

  -- The first line of every cutting near those bytes that is not a message.
  local function outcomes(role, bytes, first, last, limits)
    local seen = {}
    for cut = first, last do
      for _, before in ipairs({ false, streamed }) do
        local session, lines = support.play(role, { limits = limits, before = before or nil },
          { bytes:sub(1, cut), bytes:sub(cut + 1) }, "feed")
        seen[lines[1]:match("^fail %d+") or "message"] = true
        session:free()
      end
    end
    return seen
  end

  both("the ratio does not depend on how the input was cut, to the byte", function(role)
    local found = {}
    for empty_blocks = 1, 3 do
      local data = at_the_edge(empty_blocks, ("\xff"):rep(200))
      local bytes = frame(role, "binary", data, { rsv = 4 })
      for ratio = 156, 157 do
        local seen = outcomes(role, bytes, 820, 840, deflated({ max_ratio = ratio }))
        local first = next(seen)
        assert.is_nil(next(seen, first), ("two outcomes with ratio %d"):format(ratio))
        found[first] = true
      end
    end
    assert.same({ ["fail 1009"] = true, message = true }, found)
  end)

  both("a ratio over the limit comes before what follows in the message", function(role)
    for _, rest in ipairs({ "\xff", "a\xff" }) do -- neither text nor within max_message
      local bytes = frame(role, "text", at_the_edge(0, rest), { rsv = 4 })
      for _, limits in ipairs({ {}, { max_message = 131072 + 258 } }) do
        limits.deflate, limits.max_ratio = {}, 100
        assert.same({ ["fail 1009"] = true }, outcomes(role, bytes, 825, #bytes, limits))
        limits.max_ratio = 1000
        assert.same({ [limits.max_message and rest == "a\xff" and "fail 1009" or "fail 1007"] = true },
          outcomes(role, bytes, 825, #bytes, limits))
      end
    end
  end)

  both("a message whose sender flushes every fragment is not too big", function(role)
    local sender = testing.deflate(other[role], testing.deflate_pool())
    local bytes, n = {}, 2000
    for i = 1, n do
      -- 5 bytes and more for one: a whole message and the tail it lost
      local part = sender:compress(string.char(i & 127)) .. (i < n and "\0\0\xff\xff" or "")
      bytes[i] = frame(role, i == 1 and "binary" or "continuation", part,
        { rsv = i == 1 and 4 or 0, fin = i == n })
    end
    local session, lines = support.play(role, { limits = deflated({ max_message = n }) },
      { table.concat(bytes) }, "feed")
    assert.equal(n + #"binary ", #lines[1])
    session:free()
    session, lines = support.play(role, { limits = deflated({ max_message = n - 1 }) },
      { table.concat(bytes) }, "feed")
    assert.same({ "fail 1009", "> close 1009" }, lines)
    session:free()
  end)

  both("a compressed frame far over the limit is refused at its header, B133", function(role)
    for _, len in ipairs({ math.maxinteger, 1 << 32 | 5, 20000 }) do
      expect(role, frame(role, "binary", "", { rsv = 4, len = len }),
        { "fail 1009", "> close 1009" }, { limits = deflated({ max_message = 1000 }) })
      expect(role, frame(role, "binary", "\0", { rsv = 4, fin = false })
        .. frame(role, "continuation", "", { len = len }),
        { "fail 1009", "> close 1009" }, { limits = deflated({ max_message = 1000 }) })
    end
  end)

  both("text is checked as it is inflated, B174", function(role)
    expect(role, compressed(role, "text", "good \xff"), { "fail 1007", "> close 1007" },
      { limits = deflated() })
    expect(role, compressed(role, "text", "\xe2\x82"), { "fail 1007", "> close 1007" },
      { limits = deflated() })
  end)

  both("streaming gives at once what has arrived, wherever the input stops", function(role)
    local bytes, packed = compressed(role, "binary", ("\0"):rep(200000))
    local header = #bytes - #packed
    for cut = 1, #packed - 1 do
      local session = testing.session(role, deflated())
      session:stream()
      local got = 0
      for _, event in ipairs(session:feed(bytes:sub(1, header + cut))) do
        assert.is_true(#event.data <= 65536)
        got = got + #event.data
      end
      assert.is_false(session:pending())
      local peer = testing.deflate(role, testing.deflate_pool())
      assert.equal(#peer:expand(packed:sub(1, cut), false), got)
      session:free()
    end
  end)

  both("the n-th allocation fails, for all n", function(role)
    local data = ("Hello, world. "):rep(10000)
    local bytes = compressed(role, "text", data, 50)
    local n, lines = 0, nil
    repeat
      n = n + 1
      testing.alloc_fail(n, n % 2 == 0)
      local session, events = testing.session(role, deflated()), {}
      if session then
        events = session:feed(bytes)
        session:free()
      end
      local asked = testing.alloc_fail(0)
      lines = support.lines(role, events)
      if session and asked >= n then
        assert.equal("memory", lines[#lines])
      end
    until asked < n
    assert.same({ "text " .. (data:gsub("%s+$", "")) }, lines)
  end)
end)
