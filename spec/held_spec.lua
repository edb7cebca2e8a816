-- The order of things at the end: a message that came before a close frame, or
-- before an error, can be answered; the end waits until the program has received
-- it, at most one second.
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

-- What may come behind a message, and the close frame that it gets.
local ends = {
  { name = "a close frame", code = 1000, clean = true, bytes = function(role) return session.close(role, 1000) end },
  { name = "a bad frame", code = 1002, clean = false, bytes = function(role) return session.frame(role, 3) end },
  { name = "bad text", code = 1007, clean = false, bytes = function(role) return session.frame(role, "text", "\xFF") end },
}

local function hello(role, count)
  return session.frame(role, "text", "hello"):rep(count or 1)
end

describe("the end after messages", function()
  net.guard()
  after_each(raw.close_all)

  -- The client's end in fn, a raw peer in a task of its own.
  local function with_client(bytes, fn, peer_fn)
    local listener = raw.listen()
    local task = cws.spawn(function()
      local peer = listener:accept()
      peer:answer(nil, bytes)
      peer_fn(peer)
    end)
    local ws = assert(cws.connect(listener.url))
    fn(ws)
    assert(task:join())
    listener:close()
  end

  for _, how in ipairs(ends) do
    local function check(ws)
      assert.equal("hello", (ws:receive()))
      assert(ws:send("answer 1"))
      assert.equal("hello", (ws:receive()))
      assert(ws:send("answer 2"))
      assert.equal("closed", select(3, ws:receive()))
      assert.same({ how.code, how.clean }, { ws:close_code(), ws:close_clean() })
      ws:close()
    end
    local function see(peer)
      assert.equal("answer 1", peer:frame().data)
      assert.equal("answer 2", peer:frame().data)
      assert.equal(how.code, peer:frame().code)
      peer:close()
    end

    -- in the main program: nothing runs inside the batch
    it("in the main program: " .. how.name .. " is seen after them", function()
      with_client(hello("client", 2) .. how.bytes("client"), check, see)
    end)

    net.it("in a task: " .. how.name .. " is seen after them", function()
      with_client(hello("client", 2) .. how.bytes("client"), check, see)
    end)

    net.it("in a handler that is busy: " .. how.name .. " is seen after them", function()
      local come = cws.channel()
      local server, url = net.serve({
        ["/"] = function(req)
          local ws = assert(req:upgrade())
          come:receive()
          check(ws)
        end,
      })
      local peer = raw.upgrade(url)
      peer:send(hello("server", 2) .. how.bytes("server"))
      cws.sleep(0.05) -- it is not seen meanwhile: nobody asked
      assert.equal("", peer:peek())
      come:send(true)
      see(peer)
      server:stop(0)
    end)

    net.it("at the latest after one second: " .. how.name, function()
      local over = cws.channel()
      local server, url = net.serve({
        ["/"] = function(req)
          local ws = assert(req:upgrade())
          over:receive()
          assert.equal("hello", (ws:receive())) -- it is still there
          assert.same({ nil, how.code }, { ws:receive(), ws:close_code() })
          over:send(true)
        end,
      })
      local peer = raw.upgrade(url)
      local before = cws.now()
      peer:send(hello("server") .. how.bytes("server"))
      assert.equal(how.code, peer:frame(2).code)
      assert.near(1, cws.now() - before, 0.2 * net.slow)
      peer:close()
      over:send(true)
      over:receive()
      server:stop(0)
    end)

    for name, finish in pairs({
      close = function(ws) ws:close(4000) end,
      ["its return"] = function() end,
      raising = function() error("on purpose") end,
    }) do
      net.it("and " .. name .. " does not wait: " .. how.name, function()
        net.log()
        local come = cws.channel()
        local server, url = net.serve({
          ["/"] = function(req)
            local ws = assert(req:upgrade())
            come:receive()
            finish(ws)
          end,
        })
        local peer = raw.upgrade(url)
        local before = cws.now()
        peer:send(hello("server") .. how.bytes("server"))
        cws.sleep(0.05)
        come:send(true)
        local code = peer:frame().code
        assert.truthy(code == how.code or name == "raising" and code == 1011, code)
        assert.truthy(cws.now() - before < 0.5 * net.slow)
        local rest, why = peer:rest()
        assert.same({ "", "eof" }, { rest, why })
        peer:close()
        server:stop(0)
      end)
    end

    net.it("and a lost connection is noticed by who sends: " .. how.name, function()
      local come = cws.channel()
      local server, url = net.serve({
        ["/"] = function(req)
          local ws = assert(req:upgrade())
          come:receive()
          while ws:send(("x"):rep(1000)) do
            cws.sleep(0)
          end
          come:send(ws:close_code())
        end,
      })
      local peer = raw.upgrade(url)
      peer:send(hello("server") .. how.bytes("server"))
      cws.sleep(0.05)
      peer:reset()
      come:send(true)
      local code = come:receive()
      assert.truthy(code == 1006 or code == how.code, code)
      server:stop(0)
    end)

    net.it("and terminate, and a server that stops, end it: " .. how.name, function()
      local come = cws.channel()
      local server, url = net.serve({
        ["/"] = function(req)
          local ws = assert(req:upgrade())
          local what = come:receive()
          if what == "terminate" then ws:terminate() end
          come:receive()
        end,
      })
      local one, two = raw.upgrade(url), raw.upgrade(url)
      for _, peer in ipairs({ one, two }) do
        peer:send(hello("server") .. how.bytes("server"))
      end
      cws.sleep(0.05)
      come:send("terminate")
      server:stop(0.2)
      come:close()
      one:rest()
      two:rest()
      one:close()
      two:close()
    end)
  end
end)
