-- Bad input, permessage-deflate: the rows B153 to B175 (B161 is with the
-- client's).
local bad = require("spec.support.bad_input")
local cws = require("cws")
local deflate = require("spec.support.deflate")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")
local testing = require("cws.testing")
local wire = require("spec.support.bad_wire")

if not testing.deflate_available() then return end

local frame, row = session.frame, bad.row

local function W(code)
  return { "fail " .. code, "> close " .. code }
end

local function f(id, text, make, expected, options)
  options = options or {}
  options.deflate = options.deflate or true
  row(id, text, function(self) wire.frames(self, make, expected, options) end)
end

local function each(list, fn)
  local all = {}
  for i, value in ipairs(list) do all[i] = fn(value) end
  return all
end

-- A compressed text (or binary) message in one frame.
local function message(role, payload, opcode)
  return frame(role, opcode or "text", payload, { rsv = 4 })
end

---@param data string
---@return string
local function compress(data)
  local one = assert(testing.deflate("client", testing.deflate_pool(), { level = 9 }))
  local bytes = assert(one:compress(data))
  one:free()
  return bytes
end

describe("bad input, offers of permessage-deflate:", function()
  net.guard()

  local function offers(id, text, list, check, compression)
    row(id, text, function(self)
      wire.http(self, each(list, function(offer)
        return raw.request("/ws", "Sec-WebSocket-Extensions: " .. offer .. "\r\n")
      end), wire.switched(function(fields) check(fields["sec-websocket-extensions"]) end),
        { at_most = 4, server = { compression = compression ~= false } })
    end)
  end
  local function declined(answer) assert.is_nil(answer) end
  local function plain(answer) assert.equal("permessage-deflate", answer) end

  offers("B153", "one is accepted when it is enabled", { "permessage-deflate", "Permessage-Deflate",
    "x, permessage-deflate" }, plain)
  offers("B153", "and not when it is not", { "permessage-deflate" }, declined, false)
  offers("B154", "parameters that are unknown, repeated or have a value too many", { "permessage-deflate; unknown",
    "permessage-deflate; unknown=1", "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_no_context_takeover=\"1\"",
      "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; client_max_window_bits; client_max_window_bits",
      "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
      "permessage-deflate; Server_No_Context_Takeover" }, declined)
  offers("B154", "the next offer is tried", { "permessage-deflate; unknown, permessage-deflate" }, plain)
  local bits = { "7", "16", "08", "+10", "-10", "10.0", "abc", "015", "1", "0", "8.", "1e1", "99999999999" }
  local malformed = {}
  for _, value in ipairs(bits) do
    malformed[#malformed + 1] = "permessage-deflate; client_max_window_bits=" .. value
    malformed[#malformed + 1] = "permessage-deflate; server_max_window_bits=" .. value
  end
  malformed[#malformed + 1] = "permessage-deflate; server_max_window_bits"
  malformed[#malformed + 1] = "permessage-deflate; client_max_window_bits=\"\""
  malformed[#malformed + 1] = "permessage-deflate; client_max_window_bits=\"1\\0\""
  offers("B155", "window bits that are none", malformed, declined)
  offers("B157", "server_max_window_bits=8", { "permessage-deflate; server_max_window_bits=8" }, declined)
  offers("B158", "client_max_window_bits=8", { "permessage-deflate; client_max_window_bits=8" }, function(answer)
    assert(answer == nil or answer:find("client_max_window_bits=8", 1, true), answer)
  end)

  local many = ("permessage-deflate; x, "):rep(99) .. "permessage-deflate"
  offers("B159", "a hundred offers", { many }, plain)
  it("B159 a hundred offers take less than a millisecond", function()
    local cpu = os.clock()
    for _ = 1, 10 do assert(testing.extension_negotiate(many, {})) end
    assert((os.clock() - cpu) / 10 <= 0.001 * net.slow)
  end)
end)

describe("bad input, compressed messages:", function()
  net.guard()

  row("B162", "a compressed frame where deflate was not agreed", function(self)
    wire.frames(self, function(role) return message(role, compress("hello")) end, W(1002))
  end)
  f("B163", "RSV1 on a continuation", function(role)
    return frame(role, "text", compress("hello"), { rsv = 4, fin = false }) .. frame(role, 0, "", { rsv = 4 })
  end, W(1002))

  f("B165", "what is not DEFLATE", function(role)
    return each({ "\x06", "\x06\x00", "\x07", "\xff\xff\xff\xff", "\x01\x05\x00\x00\x00hello",
      "\x00\x05\x00\xfa\xfehello",
      "\x05\x00", "\xed\xfd\xff" }, function(payload) return message(role, payload, "binary") end)
  end, W(1007))

  f("B166", "a match that reaches back before the start", function(role)
    return { message(role, deflate.blocks({ { "abc", { 3, 4 } } })), message(role, deflate.blocks({ { { 3, 1 } } })),
      message(role, deflate.blocks({ { "x", { 258, 32768 } } })) }
  end, W(1007))
  f("B166", "a match with the message before it", function(role)
    return message(role, deflate.blocks({ { "Hello" } })) .. message(role, deflate.blocks({ { { 5, 5 } } }))
  end, { "text Hello", "text Hello" })
  for role, parameter in pairs({ server = "client_no_context_takeover", client = "server_no_context_takeover" }) do
    f("B166", "the same without context takeover, as " .. role, function()
      return message(role, deflate.blocks({ { "Hello" } })) .. message(role, deflate.blocks({ { { 5, 5 } } }))
    end, { "text Hello", "fail 1007", "> close 1007" },
      { deflate = "; " .. parameter, params = { [parameter] = true }, roles = { role } })
  end

  f("B167", "a stream that ends inside a block", function(role)
    return each({ "\x00\x0a\x00\xf5\xffabcde", "\x04\xc0", "\x00", "\x00\x0a", "\x04" }, function(payload)
      local first = deflate.blocks({ { "part" } }, true)
      return payload == "\x00" and message(role, first .. "\x02") or message(role, payload)
    end)
  end, W(1007))

  local noise = {}
  for i = 1, 1001 do noise[i] = string.char(33 + (i * 7919 + i * i) % 90) end
  noise = table.concat(noise)
  local thousand = noise:sub(1, 1000)
  f("B170", "inflates to exactly max_message", function(role)
    return { message(role, compress(thousand)), message(role, deflate.blocks({ { stored = thousand } })) }
  end, { "text " .. thousand }, { limits = { max_message = 1000 } })
  f("B170", "inflates to one byte more", function(role)
    return { message(role, compress(noise)), message(role, deflate.blocks({ { stored = noise } })),
      message(role, deflate.blocks({ { "x", { 200, 1 }, { 200, 1 }, { 200, 1 }, { 200, 1 }, { 200, 1 } } })) }
  end, W(1009), { limits = { max_message = 1000 } })

  -- 2 MiB of zeros in 2 KiB.
  local bomb = compress(("\0"):rep(1 << 21))
  local function fragments(role, count)
    local size, parts = math.ceil(#bomb / count), {}
    for i = 1, count do
      parts[i] = frame(role, i == 1 and "binary" or 0, bomb:sub((i - 1) * size + 1, i * size),
        { rsv = i == 1 and 4 or 0, fin = i == count })
    end
    return table.concat(parts)
  end
  f("B169", "a bomb, whole and in a hundred fragments", function(role)
    return { message(role, bomb, "binary"), fragments(role, 100) }
  end, W(1009), { at_most = 4 })
  f("B169", "ten bombs in a row", function(role) return message(role, bomb, "binary"):rep(10) end, W(1009),
    { at_most = 4 })
  f("B169", "a bomb below max_message is told by its ratio", function(role)
    return { message(role, bomb, "binary"), fragments(role, 100) }
  end, W(1009), { at_most = 4, limits = { max_message = 1 << 24 } })

  f("B171", "nothing, compressed", function(role)
    return message(role, "") .. message(role, "\0") .. message(role, "\x02\0") .. frame(role, "text", "", { rsv = 4,
      fin = false }) .. frame(role, 0, "")
  end, { "text", "text", "text", "text" })

  f("B173", "blocks after the last one", function(role)
    return message(role, deflate.blocks({ { final = true, "one " }, { "two" } }))
  end, { "text one two" })
  f("B173", "garbage after the last one", function(role)
    return { message(role, deflate.blocks({ { final = true, "one" } }, true) .. "\xff\xff\xff"),
      message(role, deflate.blocks({ { final = true, "one" } }, true) .. "\x06") }
  end, W(1007))
  f("B173", "nothing but last blocks", function(role)
    return message(role, ("\x03\x00"):rep(5000), "binary")
  end, { "binary" }, { at_most = 4 })

  f("B174", "text that is not UTF-8 when it is inflated", function(role)
    return each({ "\xff", "a\xc0\x80", "\xce" }, function(text) return message(role, compress(text)) end)
  end, W(1007))
end)

describe("bad input, the memory of deflate:", function()
  net.guard()

  local COUNT = 100

  -- KiB for each of many connections that have received and sent a message.
  local function cost(self, fields, options)
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = assert(req:upgrade(options))
        self:watch(ws)
        for text in ws:each() do ws:send(text) end
      end,
    })
    local text = ("some text that compresses well. "):rep(100)
    local bytes = fields and message("server", compress(text)) or frame("server", "text", text)
    local before, peers = bad.resident(), {}
    for i = 1, COUNT do
      peers[i] = raw.upgrade(url, { fields = fields })
      peers[i]:send(bytes)
      assert(peers[i]:frame().fin)
    end
    local after = bad.resident()
    for _, peer in ipairs(peers) do peer:close() end
    server:stop(0)
    return before and (after - before) / COUNT or 0
  end

  row("B175", "a connection with compression", function(self)
    self.inputs = 0
    local offer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; "
      .. "server_no_context_takeover\r\n"
    cost(self, offer, { compression = true }) -- the pool
    local plain = cost(self)
    local without = cost(self, offer, { compression = true })
    local kept = cost(self, "Sec-WebSocket-Extensions: permessage-deflate\r\n", { compression = true })
    assert(without <= plain + 1.5, ("%.1f KiB, %.1f KiB without compression"):format(without, plain))
    assert(kept <= 330, ("%.1f KiB"):format(kept))
  end, { memory = false })

  row("B175", "contexts are made at first use", function(self)
    self.inputs = 0
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = assert(req:upgrade({ compression = true }))
        self:watch(ws)
        ws:receive()
      end,
    })
    local peers, before = {}, bad.resident()
    for i = 1, COUNT do peers[i] = raw.upgrade(url, { fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n" }) end
    local each_ = before and (bad.resident() - before) / COUNT or 0
    assert(each_ <= 12, each_) -- the peer's side of it, too
    for _, peer in ipairs(peers) do peer:close() end
    server:stop(0)
    cws.sleep(0)
  end, { memory = false })
end)
