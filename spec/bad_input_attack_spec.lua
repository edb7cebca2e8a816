-- Attacks that are no single wrong byte: peers that leave, are slow, or are many,
-- at every stage.
local bad = require("spec.support.bad_input")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")
local wire = require("spec.support.bad_wire")

local row, frame = bad.row, session.frame

local quick = {
  handshake_timeout = 0.2, handler_timeout = 0.3, response_timeout = 0.2, close_timeout = 0.2, send_timeout = 0.2,
  ping_interval = 0.2, pong_timeout = 0.2,
}

-- What a server's program may be doing when something happens to it.
local handlers = {
  ["/echo"] = function(ws)
    for message, type in ws:each() do
      if not ws:send(message, type) then return end
    end
  end,
  ["/flood"] = function(ws)
    local big = ("f"):rep(100000)
    while ws:send(big, "binary") do end
  end,
  ["/busy"] = function(ws)
    cws.sleep(0.2)
    for _ in ws:each() do end
  end,
  ["/closes"] = function(ws) ws:close(1000, "bye") end,
  ["/raises"] = function(ws)
    ws:receive()
    error("raises")
  end,
  ["/pieces"] = function(ws)
    while true do
      local reader = ws:reader()
      if not reader then return end
      repeat until not reader:read(7)
    end
  end,
  ["/writes"] = function(ws)
    local writer = ws:writer("binary")
    while writer:write(("w"):rep(5000)) do end
  end,
}

local function serve(self, options)
  local routes = { ["/page"] = function(_, res) res:write(("page"):rep(100000)) end,
    ["/slow"] = function() cws.sleep(0.25) end }
  for path, fn in pairs(handlers) do
    routes[path] = function(req)
      local ws = req:upgrade()
      if not ws then return end
      self:watch(ws)
      fn(ws)
    end
  end
  local server, url = net.serve(routes, options or quick)
  self:finally(function() server:stop(0) end)
  return url, server
end

-- How far a peer goes before something happens to it.
local stages = {
  function() end,
  function(peer) peer:send("GE") end,
  function(peer, path) peer:send(raw.request(path):sub(1, 60)) end,
  function(peer, path) peer:send(raw.request(path)) end,
  function(peer, path)
    peer:send(raw.request(path) .. frame("server", "text", "x"):rep(100) .. "junk that is no frame")
  end,
  function(peer, path)
    peer:send(raw.request(path))
    peer:head()
  end,
  function(peer, path)
    peer:send(raw.request(path))
    peer:head()
    peer:send(frame("server", "text", "whole") .. frame("server", "binary", "half", { len = 100 }))
  end,
  function(peer, path)
    peer:send(raw.request(path))
    peer:head()
    peer:send(frame("server", "text", "whole") .. frame("server", "text", "first", { fin = false }))
  end,
  function(peer, path)
    peer:send(raw.request(path))
    peer:head()
    peer:send(frame("server", "ping", "p"):rep(200) .. session.close("server", 1000))
  end,
  function(peer, path)
    peer:send(raw.request(path))
    peer:head()
    peer:send("\xff\xff" .. ("z"):rep(1000))
  end,
}

local endings = {
  close = function(peer) peer:close() end,
  reset = function(peer) peer:reset() end,
  ["half close"] = function(peer) peer:shutdown() end,
  silence = function() end,
}

describe("attacks at every stage:", function()
  net.guard()
  after_each(raw.close_all)

  for name, ending in pairs(endings) do
    row("peers", name, function(self)
      local url = serve(self)
      local cases = {}
      for _, stage in ipairs(stages) do
        for path in pairs(handlers) do
          for _, wait in ipairs({ false, true }) do
            cases[#cases + 1] = { stage = stage, path = path, wait = wait }
          end
        end
        cases[#cases + 1] = { stage = stage, path = "/page" }
        cases[#cases + 1] = { stage = stage, path = "/slow", wait = true }
      end
      self.inputs = #cases
      wire.for_each(cases, function(case)
        local peer = assert(raw.connect(url, { receive = 4096 }))
        case.stage(peer, case.path)
        if case.wait then cws.sleep(0.005) end
        ending(peer)
        case.peer = peer -- those that stay, stay to the end
      end)
      -- whoever has not gone is ended by one of the times
      assert(bad.wait(2, function()
        collectgarbage()
        return self.opened == self.closed and core.counts() <= 4
      end), ("%d opened, %d closed, %d objects"):format(self.opened, self.closed, (core.counts())))
      for _, case in ipairs(cases) do case.peer:close() end
    end, { memory = false, seconds = 30 })
  end

  row("peers", "that never read, and are sent all there is", function(self)
    local url = serve(self)
    local peers = {}
    for i = 1, 20 do
      peers[i] = raw.upgrade(url, { path = i % 2 == 0 and "/flood" or "/writes", buffers = { receive = 2048 } })
    end
    assert(bad.wait(3, function() return self.closed == 20 end), self.closed .. " closed")
    for _, peer in ipairs(peers) do peer:close() end
    self.inputs = 20
  end, { memory = false })

  row("peers", "that send byte by byte, each at another stage", function(self)
    local url = serve(self, { handshake_timeout = 2 * net.slow })
    local bytes = raw.request("/echo") .. frame("server", "text", "hello") .. frame("server", "ping", "p")
      .. session.close("server", 1000)
    local peers = {}
    for i = 1, 50 do
      peers[i] = assert(raw.connect(url))
      peers[i]:send(bytes:sub(1, i * 4))
    end
    for at = 1, #bytes do
      for i, peer in ipairs(peers) do
        local next_ = i * 4 + at
        peer:send(bytes:sub(next_, next_))
      end
      cws.sleep(0)
    end
    for _, peer in ipairs(peers) do
      assert(peer:head(2):find("^HTTP/1.1 101 "))
      assert.equal("hello", peer:frame(2).data)
      assert.equal("p", peer:frame(2).data)
      assert.equal(1000, peer:frame(2).code)
      peer:close()
    end
    self.inputs = 50
  end)
end)

describe("attacks by numbers:", function()
  net.guard()
  after_each(raw.close_all)

  row("B257", "more connections than there may be", function(self)
    local url, server = serve(self, { max_connections = 20, handshake_timeout = 0.5 })
    local inside, outside, refused, dropped = {}, {}, 0, 0
    for i = 1, 20 do inside[i] = raw.upgrade(url, { path = "/echo" }) end
    for i = 1, 100 do outside[i] = assert(raw.connect(url)) end
    for _, peer in ipairs(outside) do
      peer:send(raw.request("/echo"))
      local bytes = peer:rest(2)
      if bytes:find("^HTTP/1.1 503 ") then refused = refused + 1
      elseif bytes == "" then dropped = dropped + 1
      else error(bytes) end
      peer:close()
    end
    assert(refused >= 16 and refused + dropped == 100, refused .. " refused")
    for _, peer in ipairs(inside) do
      peer:send_frame("text", "still here")
      assert.equal("still here", peer:frame(2).data)
    end
    inside[1]:close()
    assert(bad.wait(2, function() return server.core:count() < 20 end))
    local late = raw.upgrade(url, { path = "/echo" }) -- there is a place again
    late:close()
    for i = 2, 20 do inside[i]:close() end
    self.inputs = 0
  end)

  row("connections", "that come and go as fast as they can", function(self)
    local url = serve(self)
    local items = {}
    for i = 1, net.slow > 4 and 100 or 2000 do items[i] = i end
    wire.for_each(items, function(i)
      local peer = assert(raw.connect(url))
      if i % 3 == 0 then peer:send(raw.request("/echo")) end
      if i % 3 == 1 then peer:send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n") end
      if i % 2 == 0 then peer:reset() else peer:close() end
    end)
    self.inputs = 0
  end, { seconds = 60 })

  row("closes", "of many connections at the same time, from both sides", function(self)
    local url = serve(self)
    for _ = 1, 3 do
      local peers = {}
      for i = 1, 100 do peers[i] = raw.upgrade(url, { path = i % 2 == 0 and "/closes" or "/echo" }) end
      for _, peer in ipairs(peers) do peer:send_close(1001) end
      for _, peer in ipairs(peers) do
        assert(peer:rest(2))
        peer:close()
      end
    end
    self.inputs = 0
  end, { seconds = 60 })

  row("tiny frames", "at full speed, from many", function(self)
    local url = serve(self)
    local items = {}
    for i = 1, 20 do items[i] = i end
    local bytes = (frame("server", "text", "") .. frame("server", "ping", "")):rep(5000)
    wire.for_each(items, function()
      local peer = raw.upgrade(url, { path = "/busy" })
      for _ = 1, 5 do
        if not peer:send(bytes, 5) then break end
        peer:peek()
        peer.buffer = ""
      end
      peer:reset()
    end)
    self.inputs = 0
  end, { seconds = 60, memory = false })
end)
