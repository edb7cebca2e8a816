-- Bad input, frames: the rows B119 to B151, for both roles.
local bad = require("spec.support.bad_input")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")
local testing = require("cws.testing")
local wire = require("spec.support.bad_wire")

local frame, row = session.frame, bad.row

-- make(role) gives the bytes, or a list of inputs.
local function f(id, text, make, expected, options)
  row(id, text, function(self) wire.frames(self, make, expected, options) end, options)
end

local function W(code)
  return { "fail " .. code, "> close " .. code }
end

local function each(list, fn)
  local all = {}
  for i, value in ipairs(list) do all[i] = fn(value) end
  return all
end

local function header64(role, opcode, len)
  return frame(role, opcode, "", { len = len, form = 64 })
end

describe("bad input, frame headers:", function()
  net.guard()

  f("B119", "the wrong mask bit, any opcode", function(role)
    return each({ 0, 1, 2, 8, 9, 10, 3, 15 }, function(opcode)
      return frame(role, opcode, opcode == 8 and "\x03\xe8" or "x", { masked = role == "client" })
    end)
  end, W(1002))

  f("B121", "RSV1 on control frames, deflate agreed", function(role)
    return each({ 8, 9, 10 }, function(opcode) return frame(role, opcode, "", { rsv = 4 }) end)
  end, W(1002), { deflate = true })
  f("B121", "RSV2 and RSV3, deflate agreed", function(role)
    return each({ 1, 2, 3, 5, 6, 7 }, function(rsv) return frame(role, "text", "\0", { rsv = rsv }) end)
  end, W(1002), { deflate = true })
  f("B121", "RSV1 to RSV3 without an extension", function(role)
    return each({ 1, 2, 3, 4, 5, 6, 7 }, function(rsv) return frame(role, "binary", "", { rsv = rsv }) end)
  end, W(1002))

  f("B122", "opcodes that are not defined", function(role)
    return each({ 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 }, function(opcode) return frame(role, opcode, "x") end)
  end, W(1002))
  f("B123", "fragmented control frames", function(role)
    return each({ 8, 9, 10 }, function(opcode) return frame(role, opcode, "", { fin = false }) end)
  end, W(1002))
  f("B123", "control frames of more than 125 bytes", function(role)
    return each({ 8, 9, 10 }, function(opcode) return frame(role, opcode, ("x"):rep(126)) end)
  end, W(1002))

  f("B131", "a length in a longer form than it needs", function(role)
    return { frame(role, "text", ("x"):rep(125), { form = 16 }), frame(role, "binary", "", { form = 16 }),
      frame(role, "binary", "", { len = 65535, form = 64 }), frame(role, "text", "", { len = 0, form = 64 }),
      frame(role, "ping", "", { len = 5, form = 16 }) }
  end, W(1002))
  f("B133", "lengths whose sum with anything would wrap", function(role)
    return each({ (1 << 63) - 1, (1 << 63) - 14, 1 << 62, (1 << 32) + 5, (1 << 53) + 1, 1 << 32 }, function(len)
      return header64(role, "binary", len)
    end)
  end, W(1009))
  f("B133", "the same for a fragment after others", function(role)
    return each({ (1 << 63) - 1, (1 << 63) - 3, (1 << 32) + 5 }, function(len)
      return frame(role, "text", "abc", { fin = false }) .. header64(role, 0, len)
    end)
  end, W(1009))
  f("B133", "a length with its highest bit set", function(role)
    return each({ 1 << 63, -1, math.mininteger + 5 }, function(len) return header64(role, "binary", len) end)
  end, W(1002))

  f("B129", "a new message inside a fragmented one", function(role)
    return each({ "text", "binary" }, function(kind)
      return frame(role, "text", "a", { fin = false }) .. frame(role, kind, "b")
    end)
  end, W(1002))
  f("B129", "a continuation of nothing", function(role)
    return { frame(role, 0, "a"), frame(role, 0, "", { fin = false }) }
  end, W(1002))
  f("B129", "a continuation after the message has ended", function(role)
    return frame(role, "text", "a") .. frame(role, 0, "b")
  end, { "text a", "fail 1002", "> close 1002" })

  f("B147", "a masking key of zeros", function(role)
    return frame(role, "text", "plain to see", { key = "\0\0\0\0" })
  end, { "text plain to see" })

  f("B150", "two bytes are enough to see what is malformed", function(role)
    local mask = role == "server" and 0x80 or 0
    return each({ { 0x83, 5 }, { 0xb1, 126 }, { 0x09, 0 }, { 0x88, 127 }, { 0x89, 126 }, { 0x80, 127 } }, function(two)
      return string.char(two[1], two[2] | mask)
    end)
  end, W(1002))
end)

describe("bad input, pings and pongs:", function()
  net.guard()

  local most = ("p"):rep(125)
  f("B125", "pings of no and of 125 bytes", function(role)
    return frame(role, "ping", "") .. frame(role, "ping", most)
  end, { "ping", "> pong", "ping " .. most, "> pong " .. most })

  local ten, answers = {}, {}
  for i = 1, 10 do
    ten[i] = "ping " .. i
    answers[2 * i - 1], answers[2 * i] = ten[i], "> pong " .. i
  end
  f("B126", "ten pings get ten pongs in order", function(role)
    local bytes = ""
    for i = 1, 10 do bytes = bytes .. frame(role, "ping", tostring(i)) end
    return bytes
  end, answers)
  f("B127", "pongs that nobody asked for", function(role)
    return frame(role, "pong", "") .. frame(role, "pong", "x") .. frame(role, "text", "y")
  end, { "pong", "pong x", "text y" })
  f("B130", "a ping between two fragments", function(role)
    return frame(role, "text", "a", { fin = false }) .. frame(role, "ping", "p") .. frame(role, 0, "b")
  end, { "ping p", "> pong p", "text ab" })
end)

describe("bad input, the limits of a message:", function()
  net.guard()

  local thousand = ("m"):rep(1000)
  local limits = { max_message = 1000 }
  f("B134", "a message as long as it may be", function(role)
    return { frame(role, "text", thousand),
      frame(role, "text", thousand:sub(1, 500), { fin = false }) .. frame(role, 0, thousand:sub(501)) }
  end, { "text " .. thousand }, { limits = limits })
  f("B134", "one byte more, refused at the header", function(role)
    return { frame(role, "text", "", { len = 1001 }), frame(role, "binary", "", { len = 1001 }),
      frame(role, "text", thousand, { fin = false }) .. frame(role, 0, "", { len = 1 }),
      frame(role, "text", "x", { fin = false }) .. frame(role, 0, "", { len = 1000 }) }
  end, W(1009), { limits = limits })
  it("B134 the default is 1 MiB, and 131072 fragments", function()
    assert.same({ 1 << 20, 131072, 200 }, { core.defaults.max_message, core.defaults.max_fragments,
      core.defaults.max_ratio })
  end)

  -- Opens n connections whose handlers wait; fn(peers).
  local function many(self, n, options, fn)
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = req:upgrade()
        self:watch(ws)
        for _ in ws:each() do end
      end,
    }, options)
    self:finally(function() server:stop(0) end)
    local peers = {}
    for i = 1, n do peers[i] = raw.upgrade(url) end
    fn(peers)
    for _, peer in ipairs(peers) do peer:close() end
  end

  row("B135", "memory grows with what was received, not with what was announced", function(self)
    many(self, 1000, nil, function(peers)
      cws.sleep(0.01)
      local before = bad.resident()
      local start = frame("server", "binary", "0123456789", { len = 1 << 20 })
      for i, peer in ipairs(peers) do
        peer:send(start)
        if i % 100 == 0 then cws.sleep(0.002) end
      end
      cws.sleep(0.02)
      local grown = before and bad.resident() - before or 0
      assert(grown <= 4 * #peers, grown .. " KiB")
    end)
    self.inputs = 0
  end, { memory = false })

  f("B139", "no limits at all, and a frame that never comes to its end", function(role)
    return each({ (1 << 63) - 1, (1 << 63) - 14, 1 << 62, (1 << 32) + 5, 1 << 20 }, function(len)
      return header64(role, "binary", len) .. "0123456789"
    end)
  end, { "fail 1006" }, {
    limits = { max_message = math.huge, max_fragments = math.huge, max_ratio = math.huge }, skip_layer1 = true,
    open_end = true, finish = function(peer) peer:shutdown() end,
  })
  f("B139", "no limits, and fragments whose lengths add up to more than there is", function(role)
    return frame(role, "binary", "abc", { fin = false }) .. header64(role, 0, (1 << 63) - 1) .. "0123456789"
  end, { "fail 1006" }, {
    limits = { max_message = math.huge, max_fragments = math.huge }, skip_layer1 = true,
    open_end = true, finish = function(peer) peer:shutdown() end,
  })

  f("B137", "one fragment more than allowed", function(role)
    return frame(role, "text", "x", { fin = false }) .. frame(role, 0, "x", { fin = false }):rep(100)
  end, W(1008), { limits = { max_fragments = 100 } })
  f("B137", "as many fragments as allowed", function(role)
    return frame(role, "text", "x", { fin = false }) .. frame(role, 0, "x", { fin = false }):rep(98) .. frame(role,
      0, "y")
  end, { "text " .. ("x"):rep(99) .. "y" }, { limits = { max_fragments = 100 } })
  it("B137 what fragments hold is their payload and at most 64 KiB", function()
    local one = testing.session("server", { max_message = 1 << 20, max_fragments = 131072 })
    one:feed(frame("server", "binary", "x", { fin = false }))
    for _ = 1, 100 do one:feed(frame("server", 0, "x", { fin = false }):rep(1000)) end
    assert(one:memory() <= 100001 + 65536, one:memory())
    one:free()
  end)
  f("B138", "empty fragments without end", function(role)
    return frame(role, "text", "", { fin = false }) .. frame(role, 0, "", { fin = false }):rep(1000)
  end, W(1008), { limits = { max_fragments = 1000 } })
  f("B138", "the same with the default limit, at full speed", function(role)
    return frame(role, "text", "", { fin = false }) .. frame(role, 0, "", { fin = false }):rep(131072)
  end, W(1008), { skip_layer1 = true, at_most = 1 })

  row("B149", "64 KiB of tiny frames in one segment", function(self)
    local bytes, lines = {}, {}
    for i = 1, 10900 do
      bytes[i] = frame("server", "text", i % 50 == 0 and tostring(i) or "")
      lines[i] = i % 50 == 0 and "text " .. i or "text"
    end
    lines[#lines + 1] = "close 1000"
    lines[#lines + 1] = "> close 1000"
    bytes[#bytes + 1] = session.close("server", 1000)
    wire.frames(self, function() return table.concat(bytes) end, lines,
      { skip_layer1 = true, at_most = 4, roles = { "server" } })
  end)
end)

describe("bad input, text and payload:", function()
  net.guard()

  f("B141", "text that ends inside a character", function(role)
    return { frame(role, "text", "\xce"), frame(role, "text", "a\xf0\x9f\x98"),
      frame(role, "text", "\xce", { fin = false }) .. frame(role, 0, "") }
  end, W(1007))
  f("B142", "a character cut by fragments and by segments", function(role)
    return frame(role, "text", "\xf0", { fin = false }) .. frame(role, 0, "\x9f", { fin = false })
      .. frame(role, 0, "", { fin = false }) .. frame(role, 0, "\x98\x80!")
  end, { "text \u{1F600}!" })

  f("B143", "a wrong byte in a frame that is not complete", function(role)
    return each({ "\x80", "\xc0\x80", "\xed\xa0\x80", "\xf5", "\xf4\x90\x80\x80", "a\xff", "\xe0\x80" }, function(text)
      return frame(role, "text", text, { len = 100 })
    end)
  end, W(1007))
  f("B143", "a wrong byte in a message that is not complete", function(role)
    return { frame(role, "text", "a\xffb", { fin = false }),
      frame(role, "text", "\xce", { fin = false }) .. frame(role, 0, "\xce", { len = 50, fin = false }) }
  end, W(1007))

  local all = {}
  for i = 0, 255 do all[i + 1] = string.char(i) end
  local every = table.concat(all)
  f("B145", "binary with every byte", function(role)
    return frame(role, "binary", "[" .. every .. "]") .. frame(role, "binary", "[\0\0\0]")
  end, { "binary [" .. every .. "]", "binary [\0\0\0]" })
  f("B145", "text with NULs", function(role) return frame(role, "text", "[\0\0]") end, { "text [\0\0]" })
  f("B146", "messages of no length", function(role)
    return frame(role, "text", "") .. frame(role, "binary", "") .. frame(role, "text", "", { fin = false })
      .. frame(role, 0, "")
  end, { "text", "binary", "text" })

  f("B151", "a message after the peer's close frame", function(role)
    return session.close(role, 1000) .. frame(role, "text", "late") .. frame(role, "ping", "late")
  end, { "close 1000", "> close 1000" })
  f("B151", "a malformed frame after the peer's close frame", function(role)
    return session.close(role, 1000) .. "\xff\xff\xff"
  end, { "close 1000", "> close 1000" })
end)
