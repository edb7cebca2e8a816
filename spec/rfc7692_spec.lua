-- Each MUST and MUST NOT of RFC 7692 that concerns an endpoint, by its section,
-- in both roles and all cuttings, and its examples. More of the grammar and of
-- hostile offers is in extension_spec.lua, of hostile data in deflate_spec.lua.
local testing = require("cws.testing")
local support = require("spec.support.session")
local deflate = require("spec.support.deflate")
local frame, expect = support.frame, support.expect
local blocks = deflate.blocks

if not testing.deflate_available() then
  return
end

local other = { server = "client", client = "server" }
local D = "permessage-deflate"

local function both(name, fn)
  for _, role in ipairs(support.roles) do
    it(name .. " (" .. role .. ")", function()
      fn(role)
    end)
  end
end

-- The options of a session that agreed on these parameters.
local function agreed(params, limits)
  local options = { deflate = params or {} }
  for name, value in pairs(limits or {}) do
    options[name] = value
  end
  return { limits = options }
end

-- Frames of a compressed message, its data cut after those numbers of bytes.
local function compressed(role, opcode, data, ...)
  local out, at = {}, 1
  for _, size in ipairs({ ... }) do
    out[#out + 1] = frame(role, at == 1 and opcode or "continuation", data:sub(at, at + size - 1),
      { rsv = at == 1 and 4 or 0, fin = false })
    at = at + size
  end
  out[#out + 1] = frame(role, at == 1 and opcode or "continuation", data:sub(at),
    { rsv = at == 1 and 4 or 0 })
  return table.concat(out)
end

local function fails(role, code, bytes, options, before)
  local lines = before or {}
  lines[#lines + 1] = "fail " .. code
  lines[#lines + 1] = "> close " .. code
  expect(role, bytes .. frame(role, "text", "unseen"), lines, options or agreed())
end

local hello = "\xf2\x48\xcd\xc9\xc9\x07\x00" -- 7.2.3.1

-- The end that sends compressed messages as `role`, and its frames taken apart.
local function sender(role, params)
  local session = assert(testing.session(role, agreed(params).limits))
  local function send(data, fin, first)
    local packed = assert(session:compress(data, fin ~= false))
    local opcode = first == false and 0 or 2
    local bytes = assert(session:send(opcode, packed, fin ~= false, opcode ~= 0))
    local sent, rest = support.unframe(role, bytes)
    assert.equal("", rest)
    return sent
  end
  return send, session
end

local function takeover_of(role, drops)
  return { [role .. "_no_context_takeover"] = drops }
end

local texts = { "Hello", "Hello, Hello, Hello", "", ("0123456789"):rep(100), "Hello" }

-- --- 5: negotiation ---------------------------------------------------------

describe("RFC 7692 5 negotiation:", function()
  it("a server accepts an offer by an element of that name in its answer, B153", function()
    assert.equal(D, (testing.extension_negotiate(D, {})))
    assert.is_nil((testing.extension_negotiate("x-other", {})))
    assert.is_nil((testing.extension_negotiate("", {})))
  end)

  it("a client fails when the server accepts an extension that it did not offer, B161", function()
    for _, answer in ipairs({ D, "x-other", D .. "; server_no_context_takeover" }) do
      assert.same({ nil, "handshake" }, { table.unpack({ testing.extension_check(answer, nil) }, 1, 2) })
    end
    assert.same({ nil, "handshake" }, { table.unpack({ testing.extension_check("x-other", {}) }, 1, 2) })
    assert.same({ nil, "handshake" }, { table.unpack({ testing.extension_check(D .. ", " .. D, {}) }, 1, 2) })
  end)

  it("a client whose offer was declined goes on without it", function()
    assert.is_false(testing.extension_check("", {}))
  end)

  it("5.1 offers stand in the client's order of preference; the first that can be is taken, B159", function()
    local list = D .. "; unknown, " .. D .. "; server_max_window_bits=10, " .. D
    assert.equal(D .. "; server_max_window_bits=10", (testing.extension_negotiate(list, {})))
  end)
end)

-- --- 6: framing -------------------------------------------------------------

describe("RFC 7692 6 framing:", function()
  both("the bit on a control frame fails the connection, B121", function(role)
    for _, opcode in ipairs({ "close", "ping", "pong" }) do
      fails(role, 1002, frame(role, opcode, "", { rsv = 4 }))
      fails(role, 1002, frame(role, opcode, hello, { rsv = 4 }))
      fails(role, 1002, frame(role, "text", hello:sub(1, 3), { rsv = 4, fin = false })
        .. frame(role, opcode, "", { rsv = 4 }))
    end
  end)

  both("the bit on a fragment that is not the first fails the connection, B163", function(role)
    for _, first in ipairs({ 0, 4 }) do
      fails(role, 1002, frame(role, "text", "", { rsv = first, fin = false })
        .. frame(role, "continuation", hello, { rsv = 4 }))
      fails(role, 1002, frame(role, "text", "", { rsv = first, fin = false })
        .. frame(role, "continuation", "", { rsv = 4, fin = false }))
    end
  end)

  both("no such frame is sent", function(role)
    local send, session = sender(role)
    assert.equal(4, send("first", false).rsv)
    for _, opcode in ipairs({ 9, 10 }) do
      assert.equal(0, support.unframe(role, session:control(opcode, "data")).rsv)
    end
    assert.equal(0, support.unframe(role, session:send(0, "more", false, true)).rsv)
    assert.equal(0, support.unframe(role, session:send(0, "last", true, true)).rsv)
    assert.equal(0, support.unframe(role, session:close(1000, "")).rsv)
  end)

  both("the other reserved bits have no meaning still", function(role)
    for _, rsv in ipairs({ 1, 2, 3, 5, 6, 7 }) do
      fails(role, 1002, frame(role, "text", hello, { rsv = rsv }))
    end
  end)

  both("without the extension the bit fails the connection, B162", function(role)
    fails(role, 1002, frame(role, "text", hello, { rsv = 4 }), {})
    fails(role, 1002, frame(role, "binary", "", { rsv = 4, fin = false }), {})
  end)

  both("a message without the bit is not compressed", function(role)
    expect(role, frame(role, "binary", hello) .. frame(role, "text", "")
      .. compressed(role, "text", hello), { "binary " .. hello, "text", "text Hello" }, agreed())
  end)

  both("the opcode of the first frame is the message's", function(role)
    expect(role, compressed(role, "binary", hello) .. compressed(role, "text", hello, 2, 2),
      { "binary Hello", "text Hello" }, agreed())
  end)

  both("compressed text need not be UTF-8; what it inflates to must, B174", function(role)
    assert.is_nil(utf8.len(hello))
    expect(role, compressed(role, "text", hello, 1, 1, 1), { "text Hello" }, agreed())
    for _, text in ipairs({ "\xff", "a\xc0\x80", "\xed\xa0\x80", "\xe2\x82" }) do
      fails(role, 1007, compressed(role, "text", blocks({ { text } })))
      fails(role, 1007, compressed(role, "text", blocks({ { text } }), 1, 1))
    end
    expect(role, compressed(role, "text", blocks({ { "\xe2" }, { "\x82" }, { "\xac" } }), 1, 1, 1),
      { "text \xe2\x82\xac" }, agreed())
    expect(role, compressed(role, "binary", blocks({ { "\xff" } })), { "binary \xff" }, agreed())
  end)

  both("text that is not UTF-8 fails before the message is complete", function(role)
    local data = blocks({ { stored = "ab\xff" } }, true) -- and nothing of the rest
    expect(role, frame(role, "text", data, { rsv = 4, fin = false }), { "fail 1007", "> close 1007" },
      agreed())
  end)

  both("6.1 a fragmented message has the bit on its first frame only", function(role)
    local send, data = sender(role), {}
    local sent = { send("Hello, ", false), send("wor", false, false), send("ld", true, false) }
    for i, f in ipairs(sent) do
      assert.same({ i == 1 and 2 or 0, i == 1 and 4 or 0, i == 3 }, { f.opcode, f.rsv, f.fin })
      data[i] = f.data
    end
    assert.equal("Hello, world", (deflate.read(table.concat(data))))
  end)

  both("6.2 the payloads of the frames are joined and inflated; control frames come between", function(role)
    for first = 0, #hello do
      for second = 0, #hello - first do
        local bytes = frame(role, "text", hello:sub(1, first), { rsv = 4, fin = false })
          .. frame(role, "ping", "p")
          .. frame(role, "continuation", hello:sub(first + 1, first + second), { fin = false })
          .. frame(role, "pong", "q")
          .. frame(role, "continuation", hello:sub(first + second + 1))
        expect(role, bytes, { "ping p", "> pong p", "pong q", "text Hello" }, agreed())
      end
    end
  end)

  both("6.2 a close between the frames drops what there is of the message", function(role)
    expect(role, frame(role, "text", hello, { rsv = 4, fin = false }) .. support.close(role, 1000),
      { "close 1000", "> close 1000" }, agreed())
  end)
end)

-- --- 7.1: parameters --------------------------------------------------------

describe("RFC 7692 7.1 parameters:", function()
  local wrong = { -- in an offer and in an answer
    "unknown", "unknown=1", "server_no_context_takeover=1", "client_no_context_takeover=true",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover", "server_max_window_bits",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=10; client_max_window_bits=10", "client_max_window_bits=7",
    "client_max_window_bits=16", "client_max_window_bits=08", "client_max_window_bits=+9",
    "server_max_window_bits=7", "server_max_window_bits=16", "server_max_window_bits=09",
    "server_max_window_bits=1e1",
  }

  it("a server declines an offer with a parameter that is unknown, wrong or there twice, B154 B155", function()
    for _, params in ipairs(wrong) do
      assert.is_nil((testing.extension_negotiate(D .. "; " .. params, {})), params)
      assert.equal(D, (testing.extension_negotiate(D .. "; " .. params .. ", " .. D, {})))
    end
  end)

  it("a client fails on an answer with such a parameter, B161", function()
    for _, params in ipairs(wrong) do
      local answer, kind = testing.extension_check(D .. "; " .. params, {})
      assert.same({ nil, "handshake" }, { answer, kind })
    end
  end)

  it("7.1.1.1 server_no_context_takeover in an offer is answered, and only then accepted", function()
    local asked = D .. "; server_no_context_takeover"
    assert.equal(asked, (testing.extension_negotiate(asked, {})))
    assert.equal(asked, (testing.extension_negotiate(D, { server_no_context_takeover = true })))
    assert.is_nil((testing.extension_check(D, { server_no_context_takeover = true })))
    assert.is_true(testing.extension_check(asked, {}).server_no_context_takeover)
  end)

  it("7.1.1.2 a client takes client_no_context_takeover in an answer, offered or not", function()
    for _, offered in ipairs({ true, false }) do
      local params = testing.extension_check(D .. "; client_no_context_takeover",
        { client_no_context_takeover = offered })
      assert.is_true(params.client_no_context_takeover)
    end
    -- and keeps to what it said that it would do
    assert.is_true(testing.extension_check(D, { client_no_context_takeover = true }).client_no_context_takeover)
  end)

  it("7.1.2.1 server_max_window_bits is answered with the same or a smaller value", function()
    for bits = 9, 15 do
      local offer = D .. "; server_max_window_bits=" .. bits
      assert.equal(offer, (testing.extension_negotiate(offer, {})))
      local _, params = testing.extension_negotiate(offer, { server_max_window_bits = 10 })
      assert.equal(math.min(10, bits), params.server_max_window_bits)
      local fine = testing.extension_check(D .. "; server_max_window_bits=10", { server_max_window_bits = bits })
      assert.equal(bits >= 10, fine and true or false)
      assert.is_nil(bits < 15 and testing.extension_check(D, { server_max_window_bits = bits }) or nil)
    end
  end)

  it("7.1.2.1 an offer of a window that the server's zlib has not is declined, B157", function()
    assert.is_nil((testing.extension_negotiate(D .. "; server_max_window_bits=8", {})))
  end)

  it("7.1.2.2 client_max_window_bits is not answered to a client that did not offer it", function()
    local mine = { client_max_window_bits = 10 }
    assert.equal(D, (testing.extension_negotiate(D, mine)))
    assert.equal(D .. "; client_max_window_bits=10",
      (testing.extension_negotiate(D .. "; client_max_window_bits", mine)))
    assert.is_nil((testing.extension_check(D .. "; client_max_window_bits=10", { client_max_window_bits = 0 })))
  end)

  it("7.1.2.2 in an answer client_max_window_bits has a value", function()
    assert.is_nil((testing.extension_check(D .. "; client_max_window_bits", {})))
    for bits = 8, 15 do
      assert.equal(bits, testing.extension_check(D .. "; client_max_window_bits=" .. bits, {}).client_max_window_bits)
    end
  end)

  it("7.1.2.2 with a value in the offer, the answer is that or less, B158", function()
    for bits = 8, 15 do
      local _, params = testing.extension_negotiate(D .. "; client_max_window_bits=" .. bits,
        { client_max_window_bits = 10 })
      assert.equal(math.min(10, bits), params.client_max_window_bits)
    end
  end)
end)

-- --- 7.2.1: sending ---------------------------------------------------------

describe("RFC 7692 7.2.1 compression:", function()
  both("a message ends with the head of an empty block, its tail is cut off", function(role)
    for _, drops in ipairs({ false, true }) do
      local send, window = sender(role, takeover_of(role, drops)), nil
      for _, text in ipairs(texts) do
        local sent = send(text)
        assert.same({ 2, 4, true }, { sent.opcode, sent.rsv, sent.fin })
        local read, _, all = deflate.read(sent.data, window)
        assert.equal(text, read)
        window = not drops and all or nil
      end
    end
  end)

  both("a fragment that is not the last keeps its tail", function(role)
    -- ours are not cut at a block's end: joined, the payloads are one message
    local send = sender(role)
    local parts, data = {}, ("0123456789abcdef"):rep(3000)
    for at = 1, #data, 5000 do
      parts[#parts + 1] = send(data:sub(at, at + 4999), false, at == 1).data
    end
    parts[#parts + 1] = send("", true, false).data
    assert.equal(data, (deflate.read(table.concat(parts))))
    -- a peer's fragment may end with a whole empty block
    expect(role, frame(role, "text", "\xf2\x48\x05\x00\x00\x00\xff\xff", { rsv = 4, fin = false })
      .. frame(role, "continuation", "\xca\xc9\xc9\x07\x00"), { "text Hello" }, agreed())
  end)

  both("with no_context_takeover each message starts with an empty window", function(role)
    local send = sender(role, takeover_of(role, true))
    local first = send("Hello, Hello").data
    for _ = 1, 3 do
      assert.equal(first, send("Hello, Hello").data)
    end
    -- the peer's parameter does not concern what we send
    send = sender(role, takeover_of(other[role], true))
    send(texts[4])
    assert.is_true(#send(texts[4]).data < 20)
  end)

  both("no window longer than the one that was agreed, or 32,768 bytes", function(role)
    math.randomseed(7692)
    local text = {}
    for i = 1, 70000 do
      text[i] = string.char(math.random(97, 98 + i // 5000))
    end
    text = table.concat(text)
    for bits = 8, 15 do
      local send = sender(role, { [role .. "_max_window_bits"] = bits, level = 9 })
      local window, furthest
      for _, part in ipairs({ text:sub(1, 20000), text }) do
        local read
        read, furthest, window = deflate.read(send(part).data, window)
        assert.is_true(read == part and furthest <= 1 << bits)
      end
    end
  end)
end)

-- --- 7.2.2: receiving -------------------------------------------------------

describe("RFC 7692 7.2.2 decompression:", function()
  both("the tail is added before inflating", function(role)
    expect(role, compressed(role, "text", blocks({ { "Hello" } })), { "text Hello" }, agreed())
    expect(role, compressed(role, "text", blocks({ { stored = "Hello" } })), { "text Hello" }, agreed())
    -- where it is there already, the message has an empty block more
    expect(role, compressed(role, "text", hello .. "\0\0\xff\xff\0"), { "text Hello" }, agreed())
  end)

  both("what is not DEFLATE fails the connection, B165 B167", function(role)
    for _, data in ipairs({ "\x06", "\xff", "\0\5\0\xfa\xfeHello\0", hello:sub(1, 3), hello:sub(1, -2),
      hello .. "\x06", "\0\5\0\xfa\xffHell", "\0\9\0\xf6\xffHello", "\0\0\xff\xff" }) do
      fails(role, 1007, compressed(role, "text", data))
      fails(role, 1007, compressed(role, "binary", data, 1))
    end
  end)

  both("a message before bad data is delivered, nothing of a bad one", function(role)
    fails(role, 1007, compressed(role, "text", hello) .. compressed(role, "text", hello .. "\x06", 5),
      agreed(), { "text Hello" })
  end)

  both("with takeover the window of the last compressed message is used", function(role)
    local again = blocks({ { { 5, 5 } } })
    expect(role, compressed(role, "text", hello) .. compressed(role, "text", again)
      .. frame(role, "text", "plain") .. compressed(role, "binary", again, 1, 1),
      { "text Hello", "text Hello", "text plain", "binary Hello" }, agreed())
    -- our own parameter does not concern what the peer sends
    expect(role, compressed(role, "text", hello) .. compressed(role, "text", again),
      { "text Hello", "text Hello" }, agreed(takeover_of(role, true)))
  end)

  both("with no_context_takeover there is none, B166", function(role)
    fails(role, 1007, compressed(role, "text", hello) .. compressed(role, "text", blocks({ { { 5, 5 } } })),
      agreed(takeover_of(other[role], true)), { "text Hello" })
    fails(role, 1007, compressed(role, "text", blocks({ { { 3, 1 } } })))
    expect(role, compressed(role, "text", hello):rep(3), { "text Hello", "text Hello", "text Hello" },
      agreed(takeover_of(other[role], true)))
  end)

  both("the whole window of 32,768 bytes, over messages", function(role)
    local start = ("0123456789"):rep(100)
    local between = ("-"):rep(32768 - #start)
    local bytes = compressed(role, "binary", blocks({ { stored = start } }))
      .. compressed(role, "binary", blocks({ { stored = between } }))
      .. compressed(role, "binary", blocks({ { { 10, 32768 } } }))
    for _, size in ipairs({ #bytes, 1000, 1 }) do
      local segments = {}
      for at = 1, #bytes, size do
        segments[#segments + 1] = bytes:sub(at, at + size - 1)
      end
      local session, lines = support.play(role, agreed(), segments, "feed")
      assert.equal("binary 0123456789", lines[3])
      session:free()
    end
  end)

  both("limits are for what comes out, over all fragments, B169 B170", function(role)
    local data = blocks({ { ("x"):rep(20), { 258, 20 }, { 222, 20 } } })
    for _, cut in ipairs({ { #data }, { 1, 5, 3 } }) do
      local bytes = compressed(role, "binary", data, table.unpack(cut))
      local whole = "binary " .. ("x"):rep(500)
      expect(role, bytes .. bytes, { whole, whole }, agreed({}, { max_message = 500 }))
      fails(role, 1009, bytes, agreed({}, { max_message = 499 }))
    end
    -- a message that ends badly just at the limit is bad, not too big
    fails(role, 1007, compressed(role, "binary", "\0\9\0\xf6\xffHello"), agreed({}, { max_message = 5 }))
    fails(role, 1007, compressed(role, "text", blocks({ { "Hello" } }) .. "\x06"), agreed({}, { max_message = 5 }))
  end)

  both("after our close frame compressed messages are dropped, too", function(role)
    expect(role, compressed(role, "text", hello, 3) .. compressed(role, "text", "\x06")
      .. support.close(role, 1000), { "close 1000" }, {
      limits = agreed().limits, before = function(session)
        session:close(1000, "")
      end,
    })
  end)
end)

-- --- 7.2.3: examples --------------------------------------------------------

describe("RFC 7692 7.2.3 examples:", function()
  both("7.2.3.1 one compressed block, whole and in fragments", function(role)
    expect(role, compressed(role, "text", hello), { "text Hello" }, agreed())
    expect(role, compressed(role, "text", hello, 3), { "text Hello" }, agreed())
  end)

  it("7.2.3.1 as bytes from a server", function()
    expect("client", "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00",
      { "text Hello", "text Hello" }, agreed())
  end)

  both("7.2.3.2 sharing the window", function(role)
    expect(role, compressed(role, "text", hello) .. compressed(role, "text", hello)
      .. compressed(role, "text", "\xf2\x00\x11\x00\x00"),
      { "text Hello", "text Hello", "text Hello" }, agreed())
    fails(role, 1007, compressed(role, "text", hello) .. compressed(role, "text", "\xf2\x00\x11\x00\x00"),
      agreed(takeover_of(other[role], true)), { "text Hello" })
  end)

  both("7.2.3.3 a block without compression", function(role)
    expect(role, compressed(role, "text", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), { "text Hello" }, agreed())
  end)

  both("7.2.3.4 a block with BFINAL set, B173", function(role)
    local final = "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"
    expect(role, compressed(role, "text", final) .. compressed(role, "text", final, 2, 5),
      { "text Hello", "text Hello" }, agreed())
    -- the next block follows the padding, and belongs to the same message
    expect(role, compressed(role, "text", final:sub(1, -2) .. hello), { "text HelloHello" }, agreed())
    fails(role, 1007, compressed(role, "text", final:sub(1, -2) .. "garbage"))
    fails(role, 1007, compressed(role, "text", final:sub(1, -2) .. "\x06", 7))
  end)

  both("7.2.3.5 two blocks in one message", function(role)
    expect(role, compressed(role, "text", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
      { "text Hello" }, agreed())
  end)

  both("7.2.3.6 an empty fragment, an empty message, B171", function(role)
    expect(role, compressed(role, "text", "\0"), { "text" }, agreed())
    expect(role, frame(role, "text", hello, { rsv = 4, fin = false })
      .. frame(role, "continuation", ""), { "text Hello" }, agreed())
    expect(role, frame(role, "text", hello:sub(1, -2) .. "\0\0\0\xff\xff", { rsv = 4, fin = false })
      .. frame(role, "continuation", "\0"), { "text Hello" }, agreed())
    expect(role, frame(role, "text", "", { rsv = 4 }), { "text" }, agreed())
    expect(role, frame(role, "binary", "", { rsv = 4, fin = false }) .. frame(role, "continuation", "", { fin = false })
      .. frame(role, "continuation", ""), { "binary" }, agreed())
    local send = sender(role)
    assert.equal("\0", send("").data)
    send("Hello", false)
    assert.is_true(#send("", true, false).data > 0)
  end)
end)
