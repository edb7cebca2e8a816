-- Each MUST and MUST NOT of RFC 6455 sections 5 to 8 that concerns an endpoint,
-- by its section, in both roles and all cuttings. What needs a socket (7.1.1,
-- 7.2) is in the specs of the connection.
local testing = require("cws.testing")
local support = require("spec.support.session")
local frame, close, expect = support.frame, support.close, support.expect

-- A test for each role: fn(role, peer) where peer makes frames for it.
local function both(name, fn)
  for _, role in ipairs(support.roles) do
    it(name .. " (" .. role .. ")", function()
      fn(role)
    end)
  end
end

-- The connection must be failed with this code, and nothing after it is read.
local function fails(role, code, bytes, options, before)
  local lines = before or {}
  lines[#lines + 1] = "fail " .. code
  lines[#lines + 1] = "> close " .. code
  expect(role, bytes .. frame(role, "text", "unseen"), lines, options)
end

local all_opcodes = { "continuation", "text", "binary", "close", "ping", "pong" }

describe("RFC 6455 5.1 overview:", function()
  both("a server fails on an unmasked frame, a client on a masked one, B119 B101", function(role)
    for _, opcode in ipairs(all_opcodes) do
      fails(role, 1002, frame(role, opcode, "", { masked = role == "client" }))
      fails(role, 1002, frame(role, opcode, "ab", { masked = role == "client" }))
    end
  end)

  both("a client masks every frame it sends, a server none", function(role)
    local session = testing.session(role)
    local sent = session:send(1, "text") .. session:send(2, ("b"):rep(70000))
      .. session:send(1, "part", false) .. session:send(0, "rest")
      .. session:control(9, "ping") .. session:control(10, "pong")
      .. session:close(1000, "bye")
    local seen = {}
    while sent ~= "" do
      local f
      f, sent = support.unframe(role, sent) -- asserts the mask bit
      seen[#seen + 1] = f.opcode
    end
    assert.same({ 1, 2, 1, 0, 9, 10, 8 }, seen)
  end)
end)

describe("RFC 6455 5.2 base framing:", function()
  both("a reserved bit without an extension fails the connection", function(role)
    for _, opcode in ipairs({ "text", "binary", "close", "ping", "pong" }) do
      for rsv = 1, 7 do
        fails(role, 1002, frame(role, opcode, "", { rsv = rsv }))
      end
    end
    local first = frame(role, "text", "a", { fin = false })
    fails(role, 1002, first .. frame(role, "continuation", "b", { rsv = 4 }))
  end)

  both("an unknown opcode fails the connection, B122", function(role)
    for _, opcode in ipairs({ 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 }) do
      fails(role, 1002, frame(role, opcode, ""))
      fails(role, 1002, frame(role, opcode, "data"))
      fails(role, 1002, frame(role, opcode, "", { fin = false }))
    end
  end)

  both("a header that is wrong in its first two bytes fails without the rest, B150", function(role)
    local wrong = {
      frame(role, 3, "data"), frame(role, "text", "data", { rsv = 1 }),
      frame(role, "text", "data", { masked = role == "client" }),
      frame(role, "continuation", "data"), frame(role, "ping", "data", { fin = false }),
      frame(role, "ping", "", { len = 126 }), frame(role, "text", "", { rsv = 4, len = 1 << 40 }),
    }
    for _, bytes in ipairs(wrong) do
      expect(role, bytes:sub(1, 2), { "fail 1002", "> close 1002" })
    end
    expect(role, frame(role, "text", "", { form = 64, len = -1 }):sub(1, 10),
      { "fail 1002", "> close 1002" })
  end)

  both("the length must have its shortest form, B131", function(role)
    for _, opcode in ipairs({ "text", "binary", "ping", "close" }) do
      fails(role, 1002, frame(role, opcode, ("x"):rep(125), { form = 16 }))
      fails(role, 1002, frame(role, opcode, "", { form = 16 }))
      fails(role, 1002, frame(role, opcode, "", { form = 64 }))
    end
    fails(role, 1002, frame(role, "binary", "", { form = 64, len = 65535 }))
  end)

  both("the top bit of a 64-bit length must be 0, B102", function(role)
    fails(role, 1002, frame(role, "binary", "", { form = 64, len = math.mininteger }))
    fails(role, 1002, frame(role, "binary", "", { form = 64, len = -1 }))
    local unlimited = frame(role, "binary", "", { form = 64, len = math.maxinteger })
    expect(role, unlimited .. "abc", {})
  end)

  both("lengths of all three forms are read", function(role)
    for _, len in ipairs({ 0, 1, 125, 126, 127, 65535, 65536, 70000 }) do
      local data = ("\xe2\x82\xac"):rep(len // 3) .. ("x"):rep(len % 3)
      expect(role, frame(role, "text", data), { ("text " .. data):gsub("%s+$", "") .. "" })
    end
  end)
end)

describe("RFC 6455 5.3 masking:", function()
  it("octet i is XORed with octet i MOD 4 of the key, whatever came before", function()
    for len = 0, 40 do
      local data = ("0123456789abcdefghijklmnopqrstuvwxyzABCD"):sub(1, len)
      for _, key in ipairs({ "\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x01\x02\x03\x04" }) do
        local bytes = frame("server", "binary", data, { key = key })
        expect("server", bytes, { ("binary " .. data):gsub("%s+$", "") .. "" })
      end
    end
  end)

  it("a key of zeros is accepted, B147", function()
    local bytes = frame("server", "text", "Hello", { key = "\0\0\0\0" })
    assert.truthy(bytes:find("Hello", 1, true))
    expect("server", bytes, { "text Hello" })
  end)

  it("a client takes a fresh key for each frame, every bit of it random, B113", function()
    local session = testing.session("client")
    local count, seen, repeats, bits = 20000, {}, 0, {}
    for bit = 0, 31 do
      bits[bit] = 0
    end
    for i = 1, count do
      local bytes = i % 2 == 0 and session:send(2, "") or session:control(9, "x")
      local key = string.unpack(">I4", support.unframe("client", bytes).key)
      repeats = repeats + (seen[key] and 1 or 0)
      seen[key] = true
      for bit = 0, 31 do
        bits[bit] = bits[bit] + (key >> bit & 1)
      end
    end
    assert.is_true(repeats <= 2)
    for bit = 0, 31 do -- six standard deviations
      assert.is_true(math.abs(bits[bit] - count / 2) < 6 * math.sqrt(count) / 2)
    end
  end)
end)

describe("RFC 6455 5.4 fragmentation:", function()
  both("fragments are joined in order, of any size, empty ones too", function(role)
    expect(role, frame(role, "text", "Hel", { fin = false })
      .. frame(role, "continuation", "", { fin = false })
      .. frame(role, "continuation", "lo", { fin = false })
      .. frame(role, "continuation", ""), { "text Hello" })
    expect(role, frame(role, "binary", "", { fin = false })
      .. frame(role, "continuation", "\0\1", { fin = false })
      .. frame(role, "continuation", "\255"), { "binary \0\1\255" })
  end)

  both("one message after the other, fragmented or not", function(role)
    expect(role, frame(role, "text", "1", { fin = false }) .. frame(role, "continuation", "2")
      .. frame(role, "binary", "3")
      .. frame(role, "text", "4", { fin = false }) .. frame(role, "continuation", "5"),
      { "text 12", "binary 3", "text 45" })
  end)

  both("control frames are handled in the middle of a message, B130", function(role)
    expect(role, frame(role, "text", "a", { fin = false }) .. frame(role, "ping", "p")
      .. frame(role, "continuation", "b", { fin = false }) .. frame(role, "pong", "q")
      .. frame(role, "continuation", "c"),
      { "ping p", "> pong p", "pong q", "text abc" })
  end)

  both("fragments of two messages must not be interleaved, B129", function(role)
    for _, opcode in ipairs({ "text", "binary" }) do
      for _, fin in ipairs({ true, false }) do
        fails(role, 1002, frame(role, "text", "a", { fin = false })
          .. frame(role, opcode, "b", { fin = fin }))
      end
    end
  end)

  both("a continuation needs a message, B129", function(role)
    for _, fin in ipairs({ true, false }) do
      fails(role, 1002, frame(role, "continuation", "a", { fin = fin }))
      fails(role, 1002, frame(role, "text", "one") .. frame(role, "continuation", "a", { fin = fin }),
        nil, { "text one" })
    end
  end)

  both("control frames must not be fragmented, B123", function(role)
    for _, opcode in ipairs({ "close", "ping", "pong" }) do
      fails(role, 1002, frame(role, opcode, "", { fin = false }))
      fails(role, 1002, frame(role, "text", "a", { fin = false })
        .. frame(role, opcode, "x", { fin = false }))
    end
  end)

  both("a sender keeps to the order of fragments", function(role)
    local session = testing.session(role)
    assert.same({ nil, "usage" }, { session:send(0, "no message") })
    assert.truthy(session:send(1, "a", false))
    assert.same({ nil, "usage" }, { session:send(1, "b") })
    assert.same({ nil, "usage" }, { session:send(2, "b", false) })
    assert.truthy(session:control(9, "in between"))
    assert.truthy(session:send(0, "b", false))
    assert.truthy(session:send(0, "c"))
    assert.same({ nil, "usage" }, { session:send(0, "d") })
    assert.truthy(session:send(2, "next"))
  end)
end)

describe("RFC 6455 5.5 control frames:", function()
  both("have 125 bytes at most, B125", function(role)
    for _, opcode in ipairs({ "close", "ping", "pong" }) do
      fails(role, 1002, frame(role, opcode, ("x"):rep(126)))
      fails(role, 1002, frame(role, opcode, "", { form = 64, len = 65536 }))
    end
    local most = ("x"):rep(125)
    expect(role, frame(role, "ping", most) .. frame(role, "ping") .. frame(role, "pong", most),
      { "ping " .. most, "> pong " .. most, "ping", "> pong", "pong " .. most })
  end)

  both("5.5.1 a close frame is answered with its code, B179", function(role)
    for _, range in ipairs({ { 1000, 1003 }, { 1007, 1014 }, { 3000, 3000 }, { 3999, 4000 },
      { 4999, 4999 } }) do
      for code = range[1], range[2] do
        expect(role, close(role, code, "why"), { "close " .. code .. " why", "> close " .. code },
          { after = function(session)
            assert.equal("closed", session:state())
          end })
      end
    end
  end)

  both("5.5.1 a close frame without a body is answered by one without, B177", function(role)
    expect(role, close(role), { "close 1005", "> close" })
  end)

  both("5.5.1 a close frame with a body of one byte fails, B178", function(role)
    fails(role, 1002, frame(role, "close", "\x03"))
  end)

  both("5.5.1 the reason is UTF-8 and has 123 bytes at most, B181 B182", function(role)
    local most = ("\xc3\xa9"):rep(61) .. "x"
    expect(role, close(role, 1000, most), { "close 1000 " .. most, "> close 1000" })
    fails(role, 1002, close(role, 1000, most .. "y"))
    for _, bad in ipairs({ "\xff", "\xc3", "a\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80" }) do
      fails(role, 1007, close(role, 1000, bad))
    end
  end)

  both("5.5.1 nothing may be sent after our close frame", function(role)
    local session = testing.session(role)
    assert.truthy(session:send(1, "begun", false))
    assert.truthy(session:close(1000))
    assert.same({ nil, "closed" }, { session:send(0, "more") })
    assert.same({ nil, "closed" }, { session:send(1, "more") })
    assert.same({ nil, "closed" }, { session:control(9, "") })
    assert.same({ nil, "closed" }, { session:control(10, "") })
    assert.equal("", session:close(1000))
  end)

  both("5.5.1 our close frame is not answered twice", function(role)
    expect(role, close(role, 1000), { "close 1000" }, {
      before = function(session)
        session:close(1001)
      end,
      after = function(session)
        assert.equal("closed", session:state())
      end,
    })
  end)

  both("5.5.1 data after the peer's close frame is ignored, B151", function(role)
    expect(role, close(role, 1000) .. frame(role, "text", "late") .. frame(role, "ping", "late")
      .. close(role, 1002) .. "\xff\xff\xff", { "close 1000", "> close 1000" })
  end)

  both("5.5.1 a close frame ends a message under way, B183", function(role)
    expect(role, frame(role, "text", "part", { fin = false }) .. close(role, 1000),
      { "close 1000", "> close 1000" })
  end)

  both("5.5.2 each ping is answered by a pong with its data, in order, B126", function(role)
    local bytes, lines = {}, {}
    for i = 1, 10 do
      bytes[i] = frame(role, "ping", "number " .. i)
      lines[#lines + 1] = "ping number " .. i
      lines[#lines + 1] = "> pong number " .. i
    end
    expect(role, table.concat(bytes), lines)
  end)

  both("5.5.2 no pong after our close frame", function(role)
    expect(role, frame(role, "ping", "x"), { "ping x" }, { before = function(session)
      session:close(1000)
    end })
  end)

  both("5.5.3 a pong nobody asked for is not answered, B127", function(role)
    expect(role, frame(role, "pong", "x") .. frame(role, "pong"), { "pong x", "pong" })
  end)
end)

describe("RFC 6455 5.6 data frames:", function()
  both("a frame of a text may end inside a character, B142", function(role)
    local text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"
    for cut = 0, #text do
      expect(role, frame(role, "text", text:sub(1, cut), { fin = false })
        .. frame(role, "continuation", text:sub(cut + 1)), { "text " .. text })
    end
  end)

  both("binary data is any bytes, B145", function(role)
    local bytes = {}
    for i = 0, 255 do
      bytes[#bytes + 1] = string.char(i, 0)
    end
    local data = table.concat(bytes) .. "."
    expect(role, frame(role, "binary", data), { "binary " .. data })
  end)

  both("messages of zero length are messages, B146", function(role)
    expect(role, frame(role, "text") .. frame(role, "binary")
      .. frame(role, "text", "", { fin = false }) .. frame(role, "continuation"),
      { "text", "binary", "text" })
  end)

  both("10 900 empty frames in one segment are all handled, B149", function(role)
    local session = testing.session(role)
    local events = session:feed(frame(role, "text"):rep(10900))
    assert.equal(10900, #events)
    for _, event in ipairs(events) do
      assert.equal("message", event.type)
    end
  end)
end)

describe("RFC 6455 5.7 examples:", function()
  it("single-frame unmasked text", function()
    expect("client", "\x81\x05\x48\x65\x6c\x6c\x6f", { "text Hello" })
  end)
  it("single-frame masked text", function()
    expect("server", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", { "text Hello" })
  end)
  it("fragmented unmasked text", function()
    expect("client", "\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", { "text Hello" })
  end)
  it("unmasked ping and masked ping response", function()
    expect("client", "\x89\x05\x48\x65\x6c\x6c\x6f", { "ping Hello", "> pong Hello" })
    expect("server", "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", { "pong Hello" })
  end)
  it("256 bytes and 64 KiB of binary in one frame", function()
    local small, large = ("\x01"):rep(256), ("\x02"):rep(65536)
    expect("client", "\x82\x7e\x01\x00" .. small, { "binary " .. small })
    expect("client", "\x82\x7f\0\0\0\0\0\1\0\0" .. large, { "binary " .. large })
    local session = testing.session("server")
    assert.equal("\x82\x7e\x01\x00" .. small, session:send(2, small))
    assert.equal("\x82\x7f\0\0\0\0\0\1\0\0" .. large, session:send(2, large))
  end)
end)

describe("RFC 6455 6 sending and receiving:", function()
  local other = { server = "client", client = "server" }

  both("6.1 what one endpoint sends the other receives", function(role)
    local sender = testing.session(role)
    local long = ("0123456789"):rep(30)
    local bytes = sender:send(1, "Hello") .. sender:send(2, "a", false) .. sender:control(9, "p")
      .. sender:send(0, "", false) .. sender:send(0, long) .. sender:close(1001, "going")
    local to = other[role]
    expect(to, bytes, { "text Hello", "ping p", "> pong p", "binary a" .. long,
      "close 1001 going", "> close 1001" })
  end)

  both("6.1 an endpoint sends data only while the connection is open", function(role)
    local session = testing.session(role)
    session:feed(close(role, 1000))
    assert.same({ nil, "closed" }, { session:send(1, "x") })
    local failed = testing.session(role)
    failed:feed(frame(role, 3))
    assert.same({ nil, "closed" }, { failed:send(1, "x") })
  end)

  both("6.2 the kind of a message is that of its first fragment", function(role)
    expect(role, frame(role, "binary", "\xff", { fin = false })
      .. frame(role, "continuation", "\xfe"), { "binary \xff\xfe" })
  end)
end)

describe("RFC 6455 7 closing:", function()
  both("7.1.3 after our close frame data is discarded, the peer's close still counts, B190",
    function(role)
      local closed = { before = function(session)
        session:close(1000)
      end }
      expect(role, frame(role, "text", "late") .. frame(role, "text", "la", { fin = false })
        .. frame(role, "ping", "p") .. frame(role, "continuation", "te")
        .. close(role, 1000, "too"), { "ping p", "close 1000 too" }, closed)
      local begun = frame(role, "text", "begun", { fin = false })
      expect(role, frame(role, "continuation", "end") .. close(role, 1000), { "close 1000" },
        { before = function(session)
          session:feed(begun)
          session:close(1000)
        end })
    end)

  both("7.1.3 bad input after our close frame fails without another frame", function(role)
    expect(role, frame(role, 3) .. close(role, 1000), { "fail 1002" }, {
      before = function(session)
        session:close(1000)
      end,
      after = function(session)
        assert.equal("closed", session:state())
      end,
    })
  end)

  both("7.1.5 the end of the stream inside a frame or message shows, B189", function(role)
    local parts = { frame(role, "text", "a", { fin = false }),
      frame(role, "text", "abc"):sub(1, -2), frame(role, "ping", "abc"):sub(1, -2),
      frame(role, "ping", "abc"):sub(1, 1) }
    for _, bytes in ipairs(parts) do
      expect(role, bytes, {}, { after = function(session)
        assert.is_true(session:partial())
      end })
    end
    expect(role, frame(role, "text", "abc"), { "text abc" }, { after = function(session)
      assert.is_false(session:partial())
    end })
  end)

  both("7.1.7 a good message before a bad frame is delivered, nothing after it, B150", function(role)
    fails(role, 1002, frame(role, "text", "good") .. frame(role, 3), nil, { "text good" })
    fails(role, 1002, frame(role, 3) .. close(role, 1000))
    expect(role, frame(role, 3), { "fail 1002", "> close 1002" })
  end)

  both("7.4 codes that must not be on the wire fail the connection", function(role)
    for _, code in ipairs({ 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000,
      65535 }) do
      fails(role, 1002, close(role, code))
      fails(role, 1002, close(role, code, "why"))
    end
  end)

  it("7.4 the codes that may be on the wire are known", function()
    local valid = {}
    for code = 0, 65535 do
      if testing.close_code_valid(code) then
        valid[#valid + 1] = code
      end
    end
    assert.equal(4 + 8 + 2000, #valid)
    for _, code in ipairs({ 1000, 1003, 1007, 1014, 3000, 4999 }) do
      assert.is_true(testing.close_code_valid(code))
    end
    for _, code in ipairs({ -1, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65536 + 1000 }) do
      assert.is_false(testing.close_code_valid(code))
    end
  end)

  both("7.4.1 too big a message gets 1009 at its header, B102 B133 B134", function(role)
    local limits = { limits = { max_message = 1000 } }
    for _, len in ipairs({ 1001, 65536, 0x100000005, 1 << 53 | 1, 1 << 62,
      math.maxinteger - 13, math.maxinteger }) do
      local bytes = frame(role, "binary", "", { len = len })
      expect(role, bytes, { "fail 1009", "> close 1009" }, limits)
    end
    local most = ("x"):rep(1000)
    expect(role, frame(role, "text", most), { "text " .. most }, limits)
  end)
end)

describe("RFC 6455 8.1 errors in UTF-8:", function()
  local bad = { "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
    "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
    "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff", "\xce\xba\xe1\xbd\xb9\xcf\x83\xed" .. "\xa0\x80" }

  both("bytes that are not UTF-8 fail the connection", function(role)
    for _, text in ipairs(bad) do
      fails(role, 1007, frame(role, "text", "ok " .. text .. " more"))
      fails(role, 1007, frame(role, "text", text))
      fails(role, 1007, frame(role, "text", "ok", { fin = false })
        .. frame(role, "continuation", text))
    end
  end)

  both("a text that ends inside a character fails, B141", function(role)
    for _, text in ipairs({ "\xce", "a\xe2\x82", "\xf0\x9f\x98" }) do
      fails(role, 1007, frame(role, "text", text))
      fails(role, 1007, frame(role, "text", text, { fin = false }) .. frame(role, "continuation"))
    end
  end)

  both("a bad byte inside an unfinished frame or message fails at once, B143", function(role)
    local unfinished = frame(role, "text", "good \xff", { len = 100 })
    expect(role, unfinished, { "fail 1007", "> close 1007" })
    expect(role, frame(role, "text", "good \xff", { fin = false }),
      { "fail 1007", "> close 1007" })
    expect(role, frame(role, "text", "\xf4", { fin = false })
      .. frame(role, "continuation", "\x90", { len = 100 }), { "fail 1007", "> close 1007" })
  end)
end)
