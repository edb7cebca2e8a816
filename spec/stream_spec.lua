-- Messages in pieces: readers and writers (csrc/lua/stream.c).
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local function both(name, fn, limits)
  for _, role in ipairs({ "server", "client" }) do
    net.it(name .. ", as " .. role, function() raw.pair(role, fn, limits) end)
  end
end

local timeout = { nil, "timeout", "timeout" }
local thrown_away = { nil, "read: the rest of this message was thrown away by a later receive", "usage" }

-- Sends a message in fragments.
local function send_fragments(peer, kind, ...)
  local count = select("#", ...)
  for i = 1, count do
    peer:send_frame(i == 1 and kind or "continuation", (select(i, ...)), { fin = i == count })
  end
end

describe("a reader", function()
  net.guard()

  both("gives the message and its type", function(ws, peer)
    peer:send_frame("text", "Hello")
    peer:send_frame("binary", "\0\255")
    local reader, kind = ws:reader()
    assert.equal("text", kind)
    assert.equal("Hello", reader:read())
    assert.is_nil(reader:read())
    assert.is_nil(reader:read())
    reader, kind = ws:reader(5)
    assert.same({ "binary", "\0\255" }, { kind, reader:read("a") })
    assert.equal("", reader:read("a"))
  end)

  both("gives pieces as they arrive", function(ws, peer)
    peer:send_frame("text", "He", { fin = false })
    local reader = ws:reader()
    assert.equal("He", reader:read())
    peer:send_frame("ping", "between")
    peer:send(session.frame(peer.role, "continuation", "llo"):sub(1, -2))
    assert.equal("ll", reader:read())
    assert.equal("between", peer:frame().data)
    peer:send(session.frame(peer.role, "continuation", "llo"):sub(-1))
    assert.equal("o", reader:read())
    assert.is_nil(reader:read())
  end)

  both("gives a count of bytes, all, or less at the end", function(ws, peer)
    send_fragments(peer, "binary", "abc", "", "defg", "h")
    local reader = ws:reader()
    assert.equal("", reader:read(0))
    assert.equal("ab", reader:read(2))
    assert.equal("cdef", reader:read(4))
    assert.equal("gh", reader:read(1000000000))
    assert.is_nil(reader:read(1))
    assert.is_nil(reader:read(0))
  end)

  both("gives lines", function(ws, peer)
    send_fragments(peer, "text", "one\ntw", "o\n", "\nlast")
    local reader = ws:reader()
    local got = {}
    for line in reader:lines() do got[#got + 1] = line end
    assert.same({ "one", "two", "", "last" }, got)
    send_fragments(peer, "text", "a\nb\n", "c")
    reader = ws:reader()
    assert.equal("a\n", reader:read("L"))
    assert.equal("b", reader:read("*l"))
    assert.equal("c", reader:read("*L"))
    assert.is_nil(reader:read("l"))
    send_fragments(peer, "text", "x\n", "y\n")
    got = {}
    for line in ws:reader():lines("L") do got[#got + 1] = line end
    assert.same({ "x\n", "y\n" }, got)
  end)

  both("gives an empty message", function(ws, peer)
    peer:send_frame("text", "")
    send_fragments(peer, "binary", "", "")
    local reader = ws:reader()
    assert.is_nil(reader:read())
    local second, kind = ws:reader()
    assert.same({ "binary", "" }, { kind, second:read("a") })
  end)

  both("gives text whose characters are cut", function(ws, peer)
    local text = ("\xF0\x9F\x98\x80\xC3\xA4"):rep(100)
    for i = 1, #text do
      peer:send_frame(i == 1 and "text" or "continuation", text:sub(i, i), { fin = i == #text })
    end
    assert.equal(text, ws:reader():read("a"))
  end)

  both("raises for what cannot be read", function(ws, peer)
    peer:send_frame("text", "x")
    local reader = ws:reader()
    assert.error_matches(function() reader:read(-1) end, "bad argument #1 to 'read' %(count of 0 or more expected%)")
    assert.error_matches(function() reader:read(1.5) end, "number has no integer representation")
    assert.error_matches(function() reader:read("n") end, "count, \"a\", \"l\" or \"L\" expected")
    assert.error_matches(function() reader:read({}) end, "string expected, got table")
    assert.error_matches(function() reader:lines("x") end, "count, \"a\", \"l\" or \"L\" expected")
    assert.error_matches(function() reader:read("a", -1) end, "bad argument #2 to 'read' %(seconds from 0")
    assert.error_matches(function() ws:reader(-1) end, "bad argument #1 to 'reader' %(seconds from 0")
    assert.equal("x", reader:read("a"))
  end)

  both("ends its waits at their timeouts", function(ws, peer)
    assert.same(timeout, { ws:reader(0) })
    assert.same(timeout, { ws:reader(0.001) })
    peer:send_frame("text", "He", { fin = false })
    local reader = ws:reader(5)
    assert.equal("He", reader:read())
    assert.same(timeout, { reader:read("a", 0) })
    assert.same(timeout, { reader:read(3, 0.001) })
    peer:send_frame("continuation", "llo")
    assert.equal("llo", reader:read("a", math.huge))
  end)

  both("is not the end of receive", function(ws, peer)
    assert.same(timeout, { ws:reader(0) })
    send_fragments(peer, "text", "Hel", "lo")
    peer:send_frame("binary", "next")
    assert.same({ "Hello", "text" }, { ws:receive() })
    assert.same({ "next", "binary" }, { ws:receive() })
  end)

  both("starts with what a receive had gathered", function(ws, peer)
    assert.same(timeout, { ws:reader(0) })
    peer:send_frame("text", "Hel", { fin = false })
    assert.same(timeout, { ws:receive(0.01) })
    local reader, kind = ws:reader(0)
    if reader then
      assert.same({ "text", "Hel" }, { kind, reader:read() })
      peer:send_frame("continuation", "lo")
    else
      peer:send_frame("continuation", "lo")
      reader, kind = ws:reader()
      assert.equal("text", kind)
    end
    assert.equal("lo", reader:read("a"):sub(-2))
    peer:send_frame("text", "next")
    assert.same({ "next", "text" }, { ws:receive() })
  end)

  both("loses its rest to the next receive", function(ws, peer)
    send_fragments(peer, "text", "one", "more", "end")
    peer:send_frame("text", "two")
    local reader = ws:reader()
    assert.equal("o", reader:read(1))
    assert.same({ "two", "text" }, { ws:receive() })
    assert.equal("ne", reader:read(2)) -- it was here already
    assert.same(thrown_away, { reader:read() })
    assert.same(thrown_away, { reader:read("a") })
  end)

  both("loses its rest to the next reader", function(ws, peer)
    send_fragments(peer, "text", "one", "more")
    peer:send_frame("text", "two")
    local first = ws:reader()
    assert.equal("two", ws:reader():read("a"))
    assert.same(thrown_away, { first:read("a") })
  end)

  both("loses its rest to the next reader, that which is to come as well", function(ws, peer)
    peer:send_frame("text", "one", { fin = false })
    local first = ws:reader()
    local second = cws.spawn(function() return ws:reader():read("a") end)
    cws.sleep(0)
    peer:send_frame("continuation", "more", { fin = false })
    cws.sleep(0.005)
    peer:send_frame("continuation", "end")
    peer:send_frame("text", "two")
    assert.same({ true, "two" }, { second:join() })
    assert.equal("one", first:read(3))
    assert.same(thrown_away, { first:read("a") })
  end)

  both("has no hole where a receive gave up", function(ws, peer)
    peer:send_frame("text", "one", { fin = false })
    local reader = ws:reader()
    assert.equal("one", reader:read())
    peer:send_frame("continuation", "two", { fin = false })
    assert.same(timeout, { ws:receive(0.02) }) -- throws "two" away
    peer:send_frame("continuation", "three")
    assert.same(thrown_away, { reader:read("a") })
    peer:send_frame("text", "next")
    assert.equal("next", ws:receive())
  end)

  both("is busy while another coroutine waits", function(ws, peer)
    peer:send_frame("text", "one", { fin = false })
    local reader = ws:reader()
    local other = cws.spawn(function() return reader:read("a") end)
    cws.sleep(0)
    assert.same({ nil, "read: another coroutine receives on this connection", "busy" }, { reader:read() })
    assert.same({ nil, "receive: another coroutine receives on this connection", "busy" }, { ws:receive() })
    peer:send_frame("continuation", "two")
    assert.same({ true, "onetwo" }, { other:join() })
  end)

  both("gives what came before the end, then the end", function(ws, peer)
    peer:send_frame("text", "part", { fin = false })
    local reader = ws:reader()
    peer:send_close(1001)
    local ended = { nil, "websocket: close 1001 (going away)", "closed", 1001 }
    assert.same(ended, { reader:read("a") })
    assert.equal("part", reader:read())
    assert.same(ended, { reader:read() })
    assert.same(ended, { ws:receive() })
    assert.same(ended, { ws:reader() })
  end)

  both("has the limit of max_message", function(ws, peer)
    send_fragments(peer, "binary", ("x"):rep(60), ("x"):rep(60))
    local reader = ws:reader()
    assert.equal(60, #reader:read(60))
    local _, _, kind, code = reader:read("a")
    assert.same({ "closed", 1009 }, { kind, code })
  end, { max_message = 100 })

  both("gets what had arrived before it was opened", function(ws, peer)
    peer:send(session.frame(peer.role, "binary", ("x"):rep(50000)):sub(1, 40000))
    cws.sleep(0.02)
    local reader = ws:reader(5)
    local got = 0
    while got < 39900 do got = got + #assert(reader:read(nil, 5)) end
    assert.is_true(got < 40000)
  end)

  -- All that is to come may be in zlib, behind a stop of the reading.
  net.it("from which a finalizer reads meanwhile loses count of nothing", function()
    net.pair(function(ws, peer)
      local hits = 0
      for _ = 1, 200 do
        peer:send(("x"):rep(60000))
        local reader, reads = ws:reader(), false
        local function arm()
          setmetatable({}, { __gc = function()
            if reads then
              hits = hits + 1
              reader:read(7)
            end
            if hits == 0 then arm() end
          end })
        end
        arm()
        reads = true
        local before = hits
        assert.equal(60000, #reader:read("a"))
        reads = false
        local rest = hits > before and 59993 or 0
        assert.equal(rest, #reader:read("a"))
      end
      assert.equal(1, hits)
    end)
  end)

  net.it("gets all of a message that compresses well", function()
    net.pair(function(client, peer)
      for _, more in ipairs({ 0, 1, 50, 100, 258, 300 }) do
        local text = ("x"):rep(3 * 65536 + more)
        assert(client:send(text))
        local reader = peer:reader(5)
        local got = 0
        while got < #text do
          got = got + #assert(reader:read(nil, 5))
          cws.sleep(0)
        end
        assert.is_nil(reader:read())
      end
      local stop = false
      cws.spawn(function() -- there is always somebody whose turn it is
        while not stop do coroutine.yield() end
      end)
      for _, more in ipairs({ 0, 1, 50, 100, 258, 300 }) do
        local text = ("x"):rep(3 * 65536 + more)
        assert(client:send(text))
        assert.equal(#text, #assert(peer:reader(5):read("a", 5)))
      end
      stop = true
      assert(client:send(("x"):rep(1000000)))
      assert.equal("x", peer:reader(5):read(1))
      assert(client:send("next"))
      assert.equal("next", peer:receive(5))
    end, { client = { compression = true }, upgrade = { compression = true, max_ratio = math.huge } })
  end)
end)

describe("a writer", function()
  net.guard()

  both("sends one message", function(ws, peer)
    local writer = ws:writer()
    assert.equal(writer, writer:write("He", "l"))
    assert.equal(writer, writer:write("lo ", 42, " ", 1.5))
    assert.equal(writer, writer:write())
    assert.equal(writer, writer:write(""))
    assert.is_true(writer:close())
    local frame = peer:frame()
    assert.same({ 1, "Hello 42 1.5", true }, { frame.opcode, frame.data, frame.fin })
    ws:writer("binary"):close()
    frame = peer:frame()
    assert.same({ 2, "", true }, { frame.opcode, frame.data, frame.fin })
  end)

  both("sends frames of 16 KiB, or as large as a write", function(ws, peer)
    local writer = ws:writer("binary")
    local all = {}
    for i = 1, 100 do
      all[i] = ("%03d"):format(i):rep(100)
      writer:write(all[i])
    end
    all[101] = ("x"):rep(100000)
    writer:write(all[101])
    writer:close()
    local got, frame = {}, nil
    repeat
      frame = peer:frame()
      assert.equal(#got == 0 and 2 or 0, frame.opcode)
      assert.is_true(frame.fin or #frame.data > 10000)
      got[#got + 1] = frame.data
    until frame.fin
    assert.is_true(#got <= 4)
    assert.equal(table.concat(all), table.concat(got))
  end)

  both("sends what it has gathered before a pause no sooner, and takes pings between", function(ws, peer)
    local writer = ws:writer()
    writer:write(("x"):rep(20000))
    ws:ping("between")
    writer:write("end")
    writer:close()
    local a, b, c = peer:frame(), peer:frame(), peer:frame()
    assert.same({ 1, 20000, false }, { a.opcode, #a.data, a.fin })
    assert.same({ 9, "between" }, { b.opcode, b.data })
    assert.same({ 0, "end", true }, { c.opcode, c.data, c.fin })
  end)

  both("checks UTF-8 over its writes", function(ws, peer)
    local writer = ws:writer()
    writer:write("a\xC3")
    writer:write("\xA4b")
    assert.same({ nil, "write: text is not valid UTF-8", "usage" }, { writer:write("fine", "\xFF") })
    writer:write("c")
    assert.is_true(writer:close())
    assert.equal("a\xC3\xA4bc", peer:frame().data)
  end)

  both("that ends inside a character fails the connection with 1011", function(ws, peer)
    local writer = ws:writer()
    writer:write("a\xC3")
    assert.same({ nil, "close: the text ends inside a UTF-8 character", "usage" }, { writer:close() })
    assert.equal(1011, peer:frame().code)
    assert.equal(1011, ws:close_code())
  end)

  both("raises for what is no string", function(ws, peer)
    local writer = ws:writer()
    for _, bad in ipairs({ {}, true, print }) do
      assert.error_matches(function() writer:write("x", bad) end, "bad argument #2 to 'write' %(string expected, got ")
    end
    assert.error_matches(function() writer:write(nil) end, "string expected, got nil")
    assert.error_matches(function() writer:close(-1) end, "bad argument #1 to 'close' %(seconds from 0")
    assert.error_matches(function() ws:writer("texts") end, "bad argument #1 to 'writer' %(\"text\", \"binary\", 1 or 2")
    writer:close()
    assert.equal("", peer:frame().data)
  end)

  both("that was closed takes nothing more", function(ws, peer)
    local writer = ws:writer()
    writer:close()
    assert.same({ nil, "write: the writer is closed", "usage" }, { writer:write("x") })
    assert.same({ nil, "close: the writer is closed", "usage" }, { writer:close() })
    assert.equal("", peer:frame().data)
    ws:send("after")
    assert.equal("after", peer:frame().data)
  end)

  both("as a <close> variable ends its message", function(ws, peer)
    do
      local writer <close> = ws:writer()
      writer:write("x")
    end
    assert.equal("x", peer:frame().data)
    ws:send("after")
    assert.equal("after", peer:frame().data)
  end)

  both("as a <close> variable fails the connection after an error", function(ws, peer)
    pcall(function()
      local writer <close> = ws:writer()
      writer:write(("x"):rep(20000))
      error("boom")
    end)
    assert.is_false(peer:frame().fin)
    assert.same({ 1011, "writer was not closed" }, { (function(f) return f.code, f.reason end)(peer:frame()) })
    assert.equal(1011, ws:close_code())
  end)

  both("that nobody closed fails the connection when it is collected", function(ws, peer)
    ws:writer():write("x")
    collectgarbage()
    collectgarbage()
    assert.equal(1011, peer:frame().code)
    assert.same({ 1011, "writer was not closed" }, { ws:close_code(), ws:close_reason() })
  end)

  net.it("that a handler did not close fails its connection", function()
    local kept
    local server, url = net.serve({ ["/"] = function(req) kept = req:upgrade():writer():write("x") end })
    local peer = raw.upgrade(url)
    assert.equal(1011, peer:frame().code)
    assert.is_not_nil(kept)
    server:stop(0)
  end)

  both("is told of the end of the connection", function(ws, peer)
    local writer = ws:writer()
    peer:send_close(1001)
    ws:receive()
    local ended = { nil, "websocket: close 1001 (going away)", "closed", 1001 }
    assert.same(ended, { writer:write(("x"):rep(20000)) })
    assert.same({ nil, "close: the writer is closed", "usage" }, { writer:close() })
    assert.same(ended, { ws:writer() })
  end)

  both("is told of the end when it closes", function(ws, peer)
    local writer = ws:writer()
    writer:write("x")
    ws:terminate()
    assert.same({ nil, "websocket: close 1006 (abnormal closure): connection terminated", "closed", 1006 },
      { writer:close() })
    assert.same({ "", "eof" }, { peer:rest() })
  end)

  both("as a <close> variable after the end does nothing", function(ws, peer)
    do
      local writer <close> = ws:writer()
      writer:write("x")
      ws:terminate()
    end
    assert.equal(1006, ws:close_code())
    assert.same({ "", "eof" }, { peer:rest() })
  end)

  both("waits while the peer is slow", function(ws, peer)
    local big = ("x"):rep(6 * 1024 * 1024)
    ws:send(big)
    local writer = ws:writer({ timeout = 0.01 })
    assert.same(timeout, { writer:write("x") })
    assert.same(timeout, { writer:close() })
    assert.same(timeout, { writer:close(0) })
    local task = cws.spawn(function()
      for i = 1, 20 do
        while not writer:write(tostring(i % 10):rep(100000)) do end
      end
      return writer:close(10)
    end)
    assert.equal(#big, #peer:frame().data)
    local got, frame = 0, nil
    repeat
      frame = peer:frame()
      got = got + #frame.data
    until frame.fin
    assert.equal(2000000, got)
    assert.same({ true, true }, { task:join() })
  end)

  both("makes send, and a second writer, of its own coroutine busy", function(ws, peer)
    local writer = ws:writer()
    writer:write("x")
    assert.same({ nil, "send: a writer is open on this connection", "busy" }, { ws:send("y") })
    assert.same({ nil, "writer: a writer is open on this connection", "busy" }, { ws:writer() })
    writer:close()
    assert.equal("x", peer:frame().data)
  end)

  both("lets others wait until its message has ended", function(ws, peer)
    local writer = ws:writer()
    writer:write(("x"):rep(20000))
    local first = cws.spawn(function() return ws:send("first") end)
    local second = cws.spawn(function()
      local other = ws:writer()
      other:write("second")
      return other:close()
    end)
    local third = cws.spawn(function() return ws:send("third") end)
    local impatient = cws.spawn(function() return ws:send("never", "text", 0.001) end)
    assert.same({ true, nil, "timeout", "timeout" }, { impatient:join() })
    writer:write("end")
    writer:close()
    assert.same({ true, true }, { first:join() })
    assert.same({ true, true }, { second:join() })
    assert.same({ true, true }, { third:join() })
    peer:frame()
    assert.equal("end", peer:frame().data)
    for _, expected in ipairs({ "first", "second", "third" }) do assert.equal(expected, peer:frame().data) end
  end)

  both("lets who waits for it know of the end", function(ws)
    local writer = ws:writer()
    local other = cws.spawn(function() return ws:send("never") end)
    cws.sleep(0)
    ws:terminate()
    local _, _, _, kind, code = other:join()
    assert.same({ "closed", 1006 }, { kind, code })
    assert.equal("closed", (select(3, writer:write("x"))))
  end)
end)

describe("a pipe of readers and writers", function()
  net.guard()

  local mib = os.getenv("CWS_LONG") and 1024 or net.slow > 1 and 16 or 256

  net.it(("carries a message of %d MiB in little memory"):format(mib), function()
    local huge = { max_message = math.huge }
    local block = ("0123456789abcdef"):rep(4096)
    net.pair(function(source, from)
      net.pair(function(to, sink)
        local sender = cws.spawn(function()
          local writer = source:writer("binary")
          for _ = 1, mib * 16 do assert(writer:write(block)) end
          return writer:close()
        end)
        local copier = cws.spawn(function()
          local reader = assert(from:reader())
          local writer = to:writer("binary")
          for piece in function() return reader:read() end do assert(writer:write(piece)) end
          return writer:close()
        end)
        local reader = assert(sink:reader())
        local count, before, most = 0, nil, 0
        for i = 1, math.maxinteger do
          local piece = reader:read()
          if not piece then break end
          count = count + #piece
          if i == 100 then before = net.resident() end
          if i % 100 == 0 then most = math.max(most, net.resident()) end
        end
        assert.equal(mib * 1024 * 1024, count)
        assert.same({ true, true }, { sender:join() })
        assert.same({ true, true }, { copier:join() })
        if net.slow == 1 then assert.is_true(most - before < 8192, most - before .. " KiB") end
      end, { upgrade = huge })
    end, { upgrade = huge })
  end, 120)
end)

-- Behind the pipe, whose memory is looked at.
describe("a write that was given up", function()
  net.guard()

  both("has taken nothing of it, not even half a character", function(ws, peer)
    local big = ("x"):rep(6 * 1024 * 1024)
    ws:send(big)
    local writer = ws:writer({ timeout = 0.01 })
    assert.same(timeout, { writer:write("\xC3") })
    assert.same(timeout, { writer:write("\xC3") })
    local task = cws.spawn(function()
      while not writer:write("\xC3") do end
      while not writer:write("\xA9") do end
      return writer:close(10)
    end)
    assert.equal(#big, #peer:frame().data)
    assert.same({ true, true }, { task:join() })
    assert.equal("\xC3\xA9", peer:frame().data)
  end)
end)
