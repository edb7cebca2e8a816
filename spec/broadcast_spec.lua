-- One message for many connections (csrc/lua/broadcast.c).
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")

-- fn(list, peers): `count` connections of a server and their raw peers.
local function many(count, fn, limits)
  local arrived, over = cws.channel(count), cws.channel()
  local server, url = net.serve({
    ["/"] = function(req)
      arrived:send(assert(req:upgrade(limits)))
      over:receive()
    end,
  })
  local list, peers = {}, {}
  for i = 1, count do
    peers[i] = raw.upgrade(url)
    list[i] = arrived:receive()
  end
  local ok, err = xpcall(fn, net.with_traceback, list, peers)
  over:close()
  server:stop(0)
  for _, peer in ipairs(peers) do peer:close() end
  if not ok then error(err, 0) end
end

-- More than the kernel takes.
local big = ("x"):rep(6 * 1024 * 1024)

describe("broadcast", function()
  net.guard()

  net.it("sends to all of a list, or of the keys of a set, and counts", function()
    many(3, function(list, peers)
      assert.equal(3, cws.broadcast(list, "list"))
      local set = {}
      for i, ws in ipairs(list) do set[ws] = i % 2 == 0 end
      assert.equal(3, cws.broadcast(set, "set", "binary"))
      assert.equal(1, cws.broadcast({ any = list[2] }, "one"))
      assert.equal(0, cws.broadcast({}, "none"))
      for i, peer in ipairs(peers) do
        local a, b = peer:frame(), peer:frame()
        assert.same({ 1, "list", 2, "set" }, { a.opcode, a.data, b.opcode, b.data })
        if i == 2 then assert.equal("one", peer:frame().data) end
      end
    end)
  end)

  net.it("sends what has every size, and keeps the order of each connection", function()
    many(2, function(list, peers)
      local sizes = { 0, 125, 126, 4095, 4096, 65536, 200000 }
      for _, size in ipairs(sizes) do
        list[1]:send("before")
        assert.equal(2, cws.broadcast(list, ("b"):rep(size), "binary"))
        list[1]:send("after")
      end
      for _, size in ipairs(sizes) do
        assert.equal("before", peers[1]:frame().data)
        assert.equal(size, #peers[1]:frame().data)
        assert.equal("after", peers[1]:frame().data)
        assert.equal(size, #peers[2]:frame().data)
      end
    end)
  end)

  net.it("sends masked to servers", function()
    raw.pair("client", function(ws, peer)
      assert.equal(1, cws.broadcast({ ws }, "masked"))
      assert.equal("masked", peer:frame().data)
      assert.equal(1, cws.broadcast({ ws }, ("m"):rep(100000)))
      assert.equal(100000, #peer:frame().data)
    end)
  end)

  net.it("does not count who is closed or closing", function()
    many(4, function(list, peers)
      list[1]:terminate()
      list[2]:close(1000, nil, 0)
      peers[3]:send_close(1000)
      assert.is_nil(list[3]:receive())
      assert.equal(1, cws.broadcast(list, "x"))
      assert.equal("x", peers[4]:frame().data)
      assert.equal(1000, peers[2]:frame().code)
    end)
  end)

  net.it("closes who is over max_queue with 1013; the others get everything", function()
    many(3, function(list, peers)
      local ended
      list[2]:on_close(function(...) ended = { ... } end)
      local block, count = ("x"):rep(100000), 0
      while list[2]:is_open() do
        count = count + 1
        assert.is_true(count < 200)
        cws.broadcast(list, block)
        for _, i in ipairs({ 1, 3 }) do assert.equal(100000, #peers[i]:frame().data) end
      end
      assert.equal(2, cws.broadcast(list, "last"))
      for _, i in ipairs({ 1, 3 }) do assert.equal("last", peers[i]:frame().data) end
      assert.is_nil(list[2]:receive())
      assert.same({ 1013, "slow consumer", false }, { list[2]:close_code(), list[2]:close_reason(), list[2]:close_clean() })
      cws.sleep(0)
      assert.same({ 1013, "slow consumer", false }, ended)
      local frame
      for _ = 1, count do
        frame = peers[2]:frame()
        if frame.opcode == 8 then break end
      end
      assert.equal(1013, frame.code)
    end, { max_queue = 1000000 })
  end)

  net.it("of what no queue can hold is refused, and everybody stays, B221", function()
    many(2, function(list, peers)
      local limit = { nil, "broadcast: longer than max_queue", "limit" }
      assert.same(limit, { cws.broadcast(list, ("x"):rep(1001)) })
      assert.equal(2, cws.broadcast(list, ("x"):rep(1000 - 4)))
      for i, ws in ipairs(list) do
        assert.is_true(ws:is_open())
        assert.equal(996, #peers[i]:frame().data)
      end
    end, { max_queue = 1000 })
  end)

  net.it("keeps no copy of a message when all have it", function()
    many(2, function(list, peers)
      cws.broadcast(list, big, "binary")
      collectgarbage()
      local before = collectgarbage("count")
      cws.broadcast(list, "x")
      for _, peer in ipairs(peers) do
        assert.equal(#big, #peer:frame().data)
        assert.equal("x", peer:frame().data)
      end
      collectgarbage()
      assert.is_true(collectgarbage("count") - before < 1024)
      for _, ws in ipairs(list) do assert.equal(0, ws:stats().queued) end
    end, { max_queue = 8 * 1024 * 1024 })
  end)

  net.it("reaches who is in the middle of a message of its own when that has ended", function()
    many(2, function(list, peers)
      local writer = list[1]:writer()
      writer:write(("w"):rep(20000))
      assert.equal(2, cws.broadcast(list, "one"))
      assert.equal(2, cws.broadcast(list, ("2"):rep(5000), "binary"))
      list[1]:ping("control")
      writer:write("end")
      writer:close()
      list[1]:send("after")
      assert.same({ 20000, "control", "end", "one", 5000, "after" }, {
        #peers[1]:frame().data, peers[1]:frame().data, peers[1]:frame().data, peers[1]:frame().data,
        #peers[1]:frame().data, peers[1]:frame().data,
      })
      assert.equal("one", peers[2]:frame().data)
      assert.equal(5000, #peers[2]:frame().data)
    end)
    raw.pair("client", function(ws, peer)
      local writer = ws:writer()
      writer:write(("w"):rep(20000))
      assert.equal(1, cws.broadcast({ ws }, "masked"))
      assert.is_true(ws:stats().queued >= 6)
      writer:close()
      assert.same({ 20000, "", "masked" }, { #peer:frame().data, peer:frame().data, peer:frame().data })
    end)
  end)

  net.it("counts what waits behind a message as queued", function()
    many(1, function(list, peers)
      local writer = list[1]:writer()
      writer:write(("w"):rep(20000))
      for _ = 1, 3 do assert.equal(1, cws.broadcast(list, ("x"):rep(300000))) end
      assert.equal(0, cws.broadcast(list, ("x"):rep(300000)))
      assert.equal(1013, list[1]:close_code())
      assert.equal(20000, #peers[1]:frame().data)
      assert.equal(1013, peers[1]:frame().code)
    end, { max_queue = 1000000 })
  end)

  net.it("raises for what are no connections, no message, no type", function()
    many(1, function(list)
      assert.error_matches(function() cws.broadcast() end, "bad argument #1 to 'broadcast' %(table expected, got no value%)")
      assert.error_matches(function() cws.broadcast({ 1 }, "x") end, "bad argument #1 to 'broadcast' %(list of connections expected%)")
      assert.error_matches(function() cws.broadcast({ list[1], io.stdout }, "x") end, "list of connections expected")
      assert.error_matches(function() cws.broadcast(list) end, "bad argument #2 to 'broadcast' %(string expected, got no value%)")
      assert.error_matches(function() cws.broadcast(list, 5) end, "string expected, got number")
      assert.error_matches(function() cws.broadcast(list, "x", "ping") end, "bad argument #3 to 'broadcast' %(\"text\", \"binary\"")
      assert.same({ nil, "broadcast: text is not valid UTF-8 (send it as \"binary\")", "usage" },
        { cws.broadcast(list, "\255") })
      assert.equal(0, list[1]:stats().messages_sent)
    end)
  end)

  net.it("sends nothing to anybody when one of the list is no connection", function()
    many(2, function(list)
      assert.is_false(pcall(cws.broadcast, { list[1], list[2], "x" }, "text"))
      assert.same({ 0, 0 }, { list[1]:stats().messages_sent, list[2]:stats().messages_sent })
    end)
  end)
end)

describe("a prepared message", function()
  net.guard()

  net.it("is sent as often and to whom one likes, in both roles", function()
    local text, binary = cws.prepare("t\xC3\xA4xt"), cws.prepare(("\255"):rep(70000), "binary")
    for _, role in ipairs({ "server", "client" }) do
      raw.pair(role, function(ws, peer)
        for _ = 1, 2 do
          assert.is_true(ws:send(text))
          assert.is_true(ws:send(binary))
        end
        for _ = 1, 2 do
          local a, b = peer:frame(), peer:frame()
          assert.same({ 1, "t\xC3\xA4xt", 2, 70000 }, { a.opcode, a.data, b.opcode, #b.data })
        end
      end)
    end
  end)

  net.it("is broadcast like a string, as often as one likes", function()
    for size, limit in pairs({ [20] = 20, [9000] = 10000, [10001] = 10000 }) do
      net.pair(function(client, peer)
        local prepared = cws.prepare(("\255"):rep(size), "binary")
        for _ = 1, 2 do
          local count, message, kind = cws.broadcast({ peer }, prepared)
          if size > limit then
            assert.same({ "broadcast: longer than max_queue", "limit" }, { message, kind })
          else
            assert.equal(1, count)
            assert.same({ ("\255"):rep(size), "binary" }, { client:receive() })
          end
        end
      end, { server = { max_queue = 10000 } })
    end
  end)

  net.it("lives as long as somebody has to send it", function()
    raw.pair("server", function(ws, peer)
      ws:send(cws.prepare(big, "binary"))
      collectgarbage()
      collectgarbage()
      assert.is_true(big == peer:frame().data)
    end)
  end)

  net.it("compresses where that was agreed, unless told not to", function()
    net.pair(function(client, peer)
      local prepared = cws.prepare(("y"):rep(10000))
      peer:send(prepared)
      assert.equal(10000, #client:receive())
      assert.is_true(peer:stats().bytes_sent < 500)
      peer:send(prepared, { compress = false })
      assert.equal(10000, #client:receive())
      assert.is_true(peer:stats().bytes_sent > 10000)
      assert.equal(1, cws.broadcast({ peer }, ("y"):rep(10000)))
      assert.equal(10000, #client:receive())
      assert.is_true(peer:stats().bytes_sent < 11000)
    end, { client = { compression = true }, upgrade = { compression = true } })
  end)

  it("raises for what is no message, and refuses text that is not UTF-8", function()
    assert.error_matches(function() cws.prepare() end, "bad argument #1 to 'prepare' %(string expected, got no value%)")
    assert.error_matches(function() cws.prepare(5) end, "string expected, got number")
    assert.error_matches(function() cws.prepare("x", "y") end, "bad argument #2 to 'prepare'")
    assert.same({ nil, "prepare: text is not valid UTF-8 (send it as \"binary\")", "usage" }, { cws.prepare("\255") })
    assert.matches("^cws.prepared: ", tostring(cws.prepare("x")))
  end)
end)
