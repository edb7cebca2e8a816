local cws = require("cws")
local net = require("spec.support.net")

describe("ws:send", function()
  net.guard()

  net.it("takes each spelling of a type", function()
    net.pair(function(client, peer)
      local spellings = {
        { "text" }, { nil, "text" }, { "text", "text" }, { 1, "text" }, { "text", "text", nil },
        { "binary", "binary" }, { 2, "binary" }, { 2.0, "binary" }, { "binary", "binary", 5 },
        { { type = "binary" }, "binary" }, { { type = "text", timeout = 5 }, "text" }, { {}, "text" },
      }
      for i, spelling in ipairs(spellings) do
        assert.is_true(client:send("m" .. i, spelling[1], spelling[3]))
        local message, type = peer:receive()
        assert.same({ "m" .. i, spelling[2] or "text" }, { message, type })
      end
    end)
  end)

  net.it("raises for what is not a type, a message or a connection", function()
    net.pair(function(client)
      assert.has_error(function() client:send("x", "Text") end,
        "bad argument #2 to 'send' (\"text\", \"binary\", 1 or 2 expected)")
      assert.has_error(function() client:send("x", 3) end)
      assert.has_error(function() client:send("x", "text", -1) end)
      assert.has_error(function() client:send("x", "text", "1") end)
      assert.has_error(function() client:send(5) end,
        "bad argument #1 to 'send' (string expected, got number)")
      assert.has_error(function() client:send() end)
      for _, other in ipairs({ io.stdout, {}, cws.prepare("x"), "ws", coroutine.running() }) do
        assert.has_error(function() client.send(other, "x") end)
        assert.has_error(function() client.receive(other) end)
      end
      assert.has_error(function() client.send() end)
    end)
  end)

  net.it("does not send text that is not UTF-8", function()
    net.pair(function(client, peer)
      local ok, message, kind = client:send("a\xff")
      assert.same({ nil, "send: text is not valid UTF-8 (send it as \"binary\")", "usage" }, { ok, message, kind })
      assert.is_true(client:send("a\xff", "binary"))
      assert.same("a\xff", (peer:receive()))
    end)
  end)

  -- What was received as text need not be checked again, and nothing else is
  -- taken for it: not what stands where it stood, nor what was binary.
  net.it("checks every text but the one received last", function()
    net.pair(function(client, peer)
      for _, size in ipairs({ 10, 4095, 4096, 100000, 1048576, 1048577 }) do
        local bad = ("\255"):rep(size)
        assert.is_true(client:send(("a"):rep(size)))
        assert.is_true(peer:send((peer:receive()))) -- no name for it: it may be collected
        assert.same("usage", select(3, peer:send(bad)))
        assert.equal(size, #client:receive())
        peer:receive(0)
        for _ = 1, 5 do
          collectgarbage()
          assert.same("usage", select(3, peer:send(("\255"):rep(size - 1) .. "\254")))
        end
        assert.is_true(client:send(bad, "binary"))
        local message = peer:receive()
        assert.same("usage", select(3, peer:send(message)))
        assert.is_true(peer:send(message, "binary"))
        assert.is_true(bad == client:receive())
      end
    end, { server = { max_message = 2 ^ 21 }, client = { max_message = 2 ^ 21 } })
  end)

  net.it("keeps no text that was received", function()
    net.pair(function(client, peer)
      client:send(("a"):rep(5000)) -- nothing larger is left of other tests
      assert.equal(5000, #peer:receive())
      collectgarbage()
      local without = collectgarbage("count")
      client:send(("b"):rep(1000000))
      assert.equal(1000000, #peer:receive())
      peer:receive(0)
      collectgarbage()
      assert.is_true(collectgarbage("count") - without < 500, collectgarbage("count") - without)
    end)
  end)

  net.it("is busy while a writer is open, and closed after the end", function()
    net.pair(function(client, peer)
      local writer = client:writer()
      assert.same("busy", select(3, client:send("x")))
      writer:write("y")
      writer:close()
      assert.is_true(client:send("z"))
      assert.same({ "y", "z" }, { (peer:receive()), (peer:receive()) })
      client:close()
      assert.same("closed", select(3, client:send("x")))
    end)
  end)

  net.it("keeps its turn behind those who wait", function()
    net.pair(function(client, peer)
      assert(client:send(("x"):rep(8 * 1024 * 1024), "binary")) -- more than the kernel takes
      for _, name in ipairs({ "a", "b", "c" }) do
        cws.spawn(function()
          assert(client:send(name .. 1))
          assert(client:send(name .. 2))
        end)
      end
      assert(peer:receive())
      local order = {}
      for i = 1, 6 do
        order[i] = peer:receive()
      end
      assert.same({ "a1", "b1", "c1", "a2", "b2", "c2" }, order)
    end, { server = { max_message = 8 * 1024 * 1024 } })
  end)
end)
