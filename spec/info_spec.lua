-- csrc/lua/info.c: what can be asked about a connection.
local net = require("spec.support.net")

describe("an open connection", function()
  net.guard()

  -- tostring(ws:close_code()) would raise where nothing at all is returned
  net.it("gives nil for what it has not, and not nothing", function()
    net.pair(function(client)
      for _, name in ipairs({ "close_code", "close_reason", "close_clean", "protocol", "tls_info" }) do
        assert.same({ n = 1 }, table.pack(client[name](client)), name)
      end
      assert.is_true(client:is_open())
    end)
  end)

  net.it("tells how it ended, on both sides", function()
    net.pair(function(client, peer)
      assert(client:close(4001, "bye"))
      assert.is_nil(peer:receive(5))
      assert.same({ 4001, "bye", true }, { peer:close_code(), peer:close_reason(), peer:close_clean() })
      assert.same({ 4001, "", true }, { client:close_code(), client:close_reason(), client:close_clean() })
      assert.is_false(client:is_open())
    end)
  end)

  net.it("counts messages and bytes on the wire", function()
    net.pair(function(client, peer)
      assert(client:send("12345"))
      assert(peer:receive(5))
      assert.same({ 1, 5 + 2 + 4 }, { client:stats().messages_sent, client:stats().bytes_sent })
      assert.same({ 1, 5 + 2 + 4 }, { peer:stats().messages_received, peer:stats().bytes_received })
      assert.is_nil(peer:stats().rtt)
    end)
  end)

  net.it("counts a message that is read in pieces as one", function()
    net.pair(function(client, peer)
      assert(client:send(("x"):rep(200000), "binary"))
      local reader = assert(peer:reader(5))
      assert.equal(0, peer:stats().messages_received)
      assert.equal(200000, #reader:read("a", 5))
      assert.equal(1, peer:stats().messages_received)
    end)
  end)

  net.it("knows both addresses", function()
    net.pair(function(client, peer)
      assert.matches("^127%.0%.0%.1:%d+$", client:local_address())
      assert.equal(client:local_address(), peer:remote_address())
      assert.equal(client:remote_address(), peer:local_address())
    end)
  end)
end)
