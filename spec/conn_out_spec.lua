-- What leaves, and in which order (csrc/net/conn_out.c, csrc/net/outq.c).
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local function both(name, fn, limits)
  for _, role in ipairs({ "server", "client" }) do
    net.it(name .. ", as " .. role, function() raw.pair(role, fn, limits) end)
  end
end

-- More than the kernel takes: the rest stays in the queue.
local big = ("x"):rep(6 * 1024 * 1024)

local function pings(role, first, last)
  local frames = {}
  for i = first, last do frames[#frames + 1] = session.frame(role, "ping", tostring(i)) end
  return table.concat(frames)
end

-- The opcodes and data of the next frames.
local function frames(peer, count)
  local got = {}
  for i = 1, count do
    local frame = peer:frame()
    got[i] = frame.opcode .. " " .. (frame.code or frame.data)
  end
  return got
end

describe("pongs", function()
  net.guard()

  both("all leave while the peer reads, also those of one segment", function(ws, peer)
    peer:send(pings(peer.role, 1, 10))
    local expected = {}
    for i = 1, 10 do expected[i] = "10 " .. i end
    assert.same(expected, frames(peer, 10))
    assert.is_true(ws:is_open())
  end)

  both("never collapse inside a cork", function(ws, peer)
    local echo = cws.spawn(function()
      for message in ws:each() do ws:send(message) end
    end)
    cws.sleep(0) -- it waits
    local input, expected = {}, {}
    for i = 1, 20 do
      input[#input + 1] = session.frame(peer.role, "text", "m" .. i) .. session.frame(peer.role, "ping", "p" .. i)
      expected[#expected + 1] = "1 m" .. i
      expected[#expected + 1] = "10 p" .. i
    end
    peer:send(table.concat(input))
    assert.same(expected, frames(peer, 40))
    peer:send_close(1000)
    echo:join()
  end)

  both("collapse to the newest behind bytes that the kernel refused", function(ws, peer)
    ws:send(big)
    local queued = ws:stats().queued
    peer:send(pings(peer.role, 1, 1000))
    peer:send_frame("text", "after them")
    assert.equal("after them", ws:receive())
    assert.is_true(ws:stats().queued <= queued)
    assert.equal(#big, #peer:frame().data)
    assert.same({ "10 1000" }, frames(peer, 1))
    peer:send(pings(peer.role, 1001, 1003))
    assert.same({ "10 1001", "10 1002", "10 1003" }, frames(peer, 3))
  end)

  both("that waited come before the close frame, in memory that does not grow", function(ws, peer)
    ws:send(big)
    peer:send(pings(peer.role, 1, 100))
    peer:send_frame("text", "after them")
    ws:receive()
    ws:close(1001, nil, 0)
    assert.equal(#big, #peer:frame().data)
    assert.same({ "10 100", "8 1001" }, frames(peer, 2))
  end)

  both("that waited come before the answer to a close frame", function(ws, peer)
    ws:send(big)
    peer:send(pings(peer.role, 1, 100) .. session.close(peer.role, 1001))
    ws:receive()
    assert.equal(#big, #peer:frame().data)
    assert.same({ "10 100", "8 1001" }, frames(peer, 2))
  end)

  both("do not follow a close frame", function(ws, peer)
    ws:close(1000, nil, 0)
    peer:send(pings(peer.role, 1, 3) .. session.close(peer.role, 1000))
    assert.same({ "8 1000" }, frames(peer, 1))
    if peer.role == "client" then peer:shutdown() end
    assert.same({ "", "eof" }, { peer:rest() })
  end)
end)

describe("the order on the wire", function()
  net.guard()

  both("is that of the program", function(ws, peer)
    ws:send("one")
    ws:ping("two")
    ws:send(("3"):rep(100000))
    ws:pong("four")
    ws:send("five", "binary")
    ws:close(4000, nil, 0)
    local got = frames(peer, 6)
    got[3] = #got[3]
    assert.same({ "1 one", "9 two", 100002, "10 four", "2 five", "8 4000" }, got)
  end)

  both("holds for every size of message, slow or fast", function(ws, peer)
    local sizes = { 0, 1, 125, 126, 127, 4096, 32767, 32768, 65535, 65536, 65537, 131072, 300000, 5, 65000, 1 }
    local sender = cws.spawn(function()
      for _ = 1, 8 do
        for i, size in ipairs(sizes) do assert(ws:send(string.char(64 + i):rep(size))) end
      end
    end)
    for _ = 1, 8 do
      for i, size in ipairs(sizes) do
        local frame = peer:frame()
        assert.is_true(frame.data == string.char(64 + i):rep(size))
      end
      cws.sleep(0.002)
    end
    sender:join()
    assert.equal(0, ws:stats().queued)
  end)

  both("holds for prepared messages between others", function(ws, peer)
    local small, large = cws.prepare("small"), cws.prepare(("L"):rep(100000), "binary")
    for _ = 1, 3 do
      ws:send("before")
      ws:send(large)
      ws:send(small)
    end
    for _ = 1, 3 do
      local got = frames(peer, 3)
      got[2] = #got[2]
      assert.same({ "1 before", 100002, "1 small" }, got)
    end
  end)
end)

describe("the queue", function()
  net.guard()

  both("is counted in stats, and empties", function(ws, peer)
    assert.equal(0, ws:stats().queued)
    ws:send(big)
    local stats = ws:stats()
    assert.is_true(stats.queued > 0 and stats.queued <= #big + 14)
    assert.is_true(#big == #peer:frame().data)
    assert.equal(0, ws:stats().queued)
    assert.equal(1, ws:stats().messages_sent)
  end)

  both("of more than the system takes in one call is sent whole", function(ws, peer)
    -- each large prepared message is a part of its own
    local prepared = cws.prepare(("p"):rep(5000))
    ws:send(big)
    local sender = cws.spawn(function()
      for _ = 1, 300 do assert(ws:send(prepared)) end
    end)
    assert.equal(#big, #peer:frame().data)
    for _ = 1, 300 do assert.equal(5000, #peer:frame().data) end
    sender:join()
  end, { send_buffer = math.huge })

  both("is freed when the peer is gone", function(ws, peer)
    ws:send(big)
    peer:reset()
    ws:receive()
    assert.equal(0, ws:stats().queued)
    assert.equal(1006, ws:close_code())
  end)

  both("of a peer that is gone is noticed by sending", function(ws, peer)
    local receiver = cws.spawn(function() return ws:receive() end)
    peer:close()
    for _ = 1, 1000 do
      if not ws:send("x") then break end
      cws.sleep(0.001)
    end
    local _, _, _, kind, code = receiver:join()
    assert.same({ "closed", 1006 }, { kind, code })
  end)
end)

describe("a sender that drops the connection when it has sent", function()
  net.guard()

  net.it("takes nothing from under those who are served with it", function()
    local listener = raw.listen()
    local task = cws.spawn(function()
      local ws = assert(cws.connect(listener.url))
      assert(ws:send(big, "binary"))
      local weak = setmetatable({ ws }, { __mode = "v" })
      assert(ws:send("last"))
      ws = nil -- luacheck: ignore
      collectgarbage()
      collectgarbage()
      return weak[1] == nil
    end)
    local peer = listener:accept()
    peer:answer()
    assert.equal(#big, #peer:frame().data)
    assert.same({ true, true }, { task:join() })
    assert.same({ "1 last", "8 1001" }, frames(peer, 2))
    peer:close()
    listener:close()
  end)
end)

describe("the main program", function()
  net.guard()

  it("waits for its turn to send like everybody, and gets it", function()
    raw.pair("server", function(ws, peer)
      assert(ws:send(big))
      local order, tasks = {}, {}
      for i = 1, 2 do
        tasks[i] = cws.spawn(function()
          for _ = 1, 30 do assert(ws:send("task " .. i .. (" "):rep(2000))) end
        end)
      end
      local reader = cws.spawn(function()
        cws.sleep(0.02)
        assert(peer:frame())
        for i = 1, 61 do order[i] = peer:frame().data:match("%w+") end
      end)
      cws.sleep(0) -- the tasks wait
      assert(ws:send("main"))
      reader:join()
      local at
      for i, name in ipairs(order) do at = name == "main" and i or at end
      assert.is_true(at <= 5, "message " .. at)
      for _, task in ipairs(tasks) do task:join() end
    end, { send_buffer = 1 })
  end)
end)
