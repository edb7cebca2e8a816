local cws = require("cws")
local net = require("spec.support.net")

describe("resolve", function()
  net.guard()

  -- RFC 6761, 6.3: also where no hosts file and no name server knows them
  for _, name in ipairs({ "localhost", "LOCALHOST", "cws.localhost", "a.b.LocalHost" }) do
    net.it("takes " .. name .. " for this machine", function()
      local server = net.serve({})
      local port = server:address():match("%d+$")
      local ws, message, kind, status = cws.connect("ws://" .. name .. ":" .. port .. "/none")
      assert.is_nil(ws)
      assert.same({ "handshake", 404 }, { kind, status }, message)
      server:stop(0)
    end)

    net.it("listens on " .. name, function()
      local server = assert(cws.listen(name .. ":0"))
      assert.matches("^127%.0%.0%.1:%d+$", server:address())
      server:stop(0)
    end)
  end

  net.it("does not take what only looks like it", function()
    for _, name in ipairs({ "notlocalhost", "localhost.invalid" }) do
      local server, _, kind = cws.listen(name .. ":0")
      assert.is_nil(server)
      assert.equal("dns", kind)
    end
  end)
end)
