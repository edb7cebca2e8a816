local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

describe("on_ping, on_pong and on_close of a connection", function()
  net.guard()

  local function collect()
    collectgarbage()
    collectgarbage()
  end

  -- A server whose handler runs fn(ws).
  local function serve(fn)
    return net.serve({ ["/"] = function(req) fn(assert(req:upgrade())) end })
  end

  -- The handler sees the end in the batch that brought it, before the loop has
  -- told anybody.
  net.it("are told though the handler has ended and nobody holds the connection", function()
    local told = cws.channel(4)
    local server, url = serve(function(ws)
      ws:on_ping(function(data) told:send("ping " .. data) end)
      ws:on_close(function(code, reason, clean) told:send(("close %d %s %s"):format(code, reason, clean)) end)
      cws.spawn(function() cws.spawn(collect) end)
      for _ in ws:each() do
        cws.spawn(collect) -- runs before the functions do
      end
    end)
    local peer = raw.upgrade(url)
    peer:send(session.frame("server", "text", "x") .. session.frame("server", "ping", "y")
      .. session.close("server", 1001, "bye"))
    assert.equal("ping y", told:receive(2))
    assert.equal("close 1001 bye true", told:receive(2))
    peer:rest()
    peer:close()
    server:stop(0)
  end)

  net.it("do not keep a client that nobody holds; on_close is told of its end", function()
    local told = cws.channel(1)
    local server, url = serve(function(ws)
      for _ in ws:each() do end
    end)
    local client = assert(cws.connect(url .. "/"))
    client:on_pong(function() end)
    client:on_close(function(code, _, clean) told:send(("close %d %s"):format(code, clean)) end)
    local weak = setmetatable({ client }, { __mode = "v" })
    client = nil -- luacheck: ignore
    collect()
    assert.is_nil(weak[1])
    assert.equal("close 1006 false", told:receive(2))
    server:stop(0)
  end)
end)
