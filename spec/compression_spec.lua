-- permessage-deflate between two ends of this process, through sockets.
local cws = require("cws")
local net = require("spec.support.net")

if not cws.versions().zlib then
  return
end

math.randomseed(7692)

local function random(n)
  local out = {}
  for i = 1, n do
    out[i] = string.char(math.random(0, 255))
  end
  return table.concat(out)
end

local noise = random(5000)

local messages = {
  "", "short", ("Hello, world. "):rep(100), ("Hello, world. "):rep(100), noise, ("\0"):rep(60000),
  noise:rep(20), "short",
}

local function options(compression)
  return { server = { compression = compression }, client = { compression = compression } }
end

describe("compression:", function()
  net.guard()

  local settings = {
    default = true,
    without_takeover = { server_no_context_takeover = true, client_no_context_takeover = true },
    server_without = { server_no_context_takeover = true },
    small_windows = { server_max_window_bits = 9, client_max_window_bits = 10 },
    small = { level = 9, memory = 1, threshold = 1, server_max_window_bits = 9 },
  }
  for name, setting in pairs(settings) do
    net.it("messages come through both ways: " .. name, function()
      net.pair(function(client, peer)
        for _, message in ipairs(messages) do
          assert.is_true(client:send(message, "binary"))
          assert.is_true(peer:send(message, "binary"))
          assert.is_true(message == peer:receive())
          assert.is_true(message == client:receive())
        end
      end, options(setting))
    end)
  end

  net.it("fewer bytes travel, and none of a short message's", function()
    net.pair(function(client, peer)
      local text = ("Hello, world. "):rep(1000)
      local before = client:stats().bytes_sent
      client:send(text)
      peer:receive()
      assert.is_true(client:stats().bytes_sent - before < 200)
      before = client:stats().bytes_sent
      client:send(("x"):rep(127))
      peer:receive()
      assert.same(2 + 4 + 127 + (127 > 125 and 2 or 0), client:stats().bytes_sent - before)
      before = client:stats().bytes_sent
      client:send(text, { compress = false })
      peer:receive()
      assert.is_true(client:stats().bytes_sent - before > #text)
    end, options(true))
  end)

  -- Compressed once for those without a context, by itself for the others.
  net.it("a broadcast reaches connections that agreed on different things", function()
    local peers, clients = {}, {}
    local server, url = net.serve({
      ["/"] = function(req)
        local peer = assert(req:upgrade())
        peers[#peers + 1] = peer
        for message, type in peer:each() do
          peer:send(message, type)
        end
      end,
    }, { compression = true })
    local without = { server_no_context_takeover = true }
    local small = { server_no_context_takeover = true, server_max_window_bits = 9 }
    for i, compression in ipairs({ without, without, small, true, false, without }) do
      clients[i] = assert(cws.connect(url .. "/", { compression = compression }))
    end
    while #peers < #clients do
      cws.sleep(0.001)
    end
    local prepared = cws.prepare(noise:rep(20), "binary")
    for round = 1, 3 do
      for _, message in ipairs(messages) do
        assert.equal(6, cws.broadcast(peers, message, "binary"))
        for i, client in ipairs(clients) do
          assert.is_true(message == client:receive(), round .. ": " .. i)
        end
        for i, client in ipairs(clients) do
          assert.is_true(peers[i]:send(prepared))
          client:send(message, "binary")
          assert.is_true(noise:rep(20) == client:receive())
          assert.is_true(message == client:receive())
        end
      end
    end
    local bytes = {} -- of one more: its repetitions are 5000 bytes apart
    for i, client in ipairs(clients) do
      bytes[i] = client:stats().bytes_received
    end
    cws.broadcast(peers, noise:rep(20), "binary")
    for i, client in ipairs(clients) do
      assert.is_true(noise:rep(20) == client:receive())
      bytes[i] = client:stats().bytes_received - bytes[i]
    end
    assert.same({ bytes[1], bytes[1] }, { bytes[2], bytes[6] })
    assert.is_true(bytes[1] < 10000 and bytes[3] > 90000 and bytes[4] < 10000, table.concat(bytes, " "))
    assert.equal(100000 + 10, bytes[5]) -- as it is, behind its header
    for _, client in ipairs(clients) do
      client:close()
    end
    server:stop(0)
  end)

  -- What a broadcast does to a message that a writer has begun: it comes after it.
  for name, text in pairs({ long = ("broadcast "):rep(100), short = "broadcast" }) do
    for _, compress in ipairs({ true, false }) do
      net.it(("a %s broadcast into a writer's message, compressed: %s"):format(name, compress), function()
        net.pair(function(client, peer)
          local part = noise:rep(10)
          local writer = client:writer({ type = "binary", compress = compress })
          writer:write(part)
          writer:write(part)
          assert.equal(1, cws.broadcast({ client }, text))
          writer:write(part)
          writer:close()
          assert.is_true(part:rep(3) == peer:receive())
          assert.equal(text, (peer:receive()))
          assert.equal(1, cws.broadcast({ client }, text))
          assert.equal(text, (peer:receive()))
          client:send(text)
          assert.equal(text, (peer:receive()))
        end, options(true))
      end)
    end
  end

  net.it("a reader takes a compressed message in pieces", function()
    net.pair(function(client, peer)
      local text = noise:rep(40)
      client:send(text, "binary")
      local reader, parts = assert(peer:reader()), {}
      for part in function() return reader:read(3000) end do
        parts[#parts + 1] = part
      end
      assert.is_true(text == table.concat(parts))
      client:send("next")
      assert.equal("next", (peer:receive()))
    end, options(true))
  end)

  for _, compress in ipairs({ false, true }) do
    net.it(("a reader gives at once what came before it, compressed: %s"):format(compress), function()
      net.pair(function(client, peer)
        local part, size = random(150000), 0
        local writer = client:writer({ type = "binary", compress = compress })
        writer:write(part)
        client:flush()
        repeat cws.sleep(0.001) until peer:stats().bytes_received >= 0.8 * #part
        local reader = assert(peer:reader(1))
        while size < 0.7 * #part do -- zlib may hold back the rest
          size = size + #assert(reader:read(nil, 1))
        end
        writer:close()
        assert.equal(#part, size + #reader:read("a"))
      end, options(true))
    end)
  end

  -- Whole pieces of 64 KiB fill the inbox; what is left of the message then is
  -- output that zlib holds back, with no byte of input.
  for _, rest in ipairs({ 0, 1, 100, 300, 1500 }) do
    net.it(("a slow reader gets the end of a message: 192 KiB and %d"):format(rest), function()
      local setting = options(true)
      setting.server.max_ratio = math.huge
      net.pair(function(client, peer)
        local text = ("\0"):rep(3 * 65536 + rest)
        client:send(text, "binary")
        local reader, size = assert(peer:reader()), 0
        for part in function() return reader:read(40000) end do
          size = size + #part
          cws.sleep(0.001)
        end
        assert.equal(#text, size)
        client:send("next")
        assert.equal("next", (peer:receive()))
      end, setting)
    end)
  end

  -- Another connection is ready, so that the batch ends after 64 KiB with output
  -- that zlib holds back; the end of the stream lies behind.
  net.it("the end of the stream waits for what zlib holds back", function()
    local setting = options(true)
    setting.server.max_ratio = math.huge
    net.pair(function(client, peer)
      net.pair(function(busy)
        local text = ("\0"):rep(65536)
        local size = 0
        local reading = cws.spawn(function()
          local reader = assert(peer:reader())
          for part in function() return reader:read() end do
            size = size + #part
          end
        end)
        cws.sleep(0)
        busy:send("busy")
        busy:flush()
        client:send(text, "binary")
        client:terminate()
        assert.is_true(reading:join(5))
        assert.equal(#text, size)
      end)
    end, setting)
  end)
end)
