-- cws.reconnect (lua/cws/reconnect.lua).
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")

-- A port that nobody listens on.
local function closed_url()
  local listener = raw.listen()
  local url = listener.url
  listener:close()
  return url .. "/"
end

-- Every failure of a loop until there are `count`: { seconds =, at =, kind = }.
local function failures(url, count, options)
  local seen = {}
  options.on_retry = function(message, kind, code, seconds)
    seen[#seen + 1] = { message = message, kind = kind, code = code, seconds = seconds, at = cws.now() }
    return #seen < count
  end
  for _ in cws.reconnect(url, options) do
    error("connected")
  end
  return seen
end

describe("reconnect", function()
  net.guard()

  net.it("gives one connection after the other", function()
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = assert(req:upgrade())
        ws:send("welcome")
        ws:receive()
      end,
    })
    local greetings, last = {}, nil
    for ws, response in cws.reconnect(url .. "/", { delay = 0.01 }) do
      if last then assert.is_false(last:is_open()) end
      greetings[#greetings + 1] = ws:receive() .. " " .. response.status
      last = ws
      if #greetings < 3 then ws:close() end
    end
    assert.same({ "welcome 101", "welcome 101", "welcome 101" }, greetings)
    server:stop(0)
  end)

  net.it("comes back when the server does", function()
    local greet = function(req)
      local ws = assert(req:upgrade())
      ws:receive()
    end
    local server, url = net.serve({ ["/"] = greet })
    local address = server:address()
    local arrived = cws.channel()
    local task = cws.spawn(function()
      local options = { delay = 0.01, max_delay = 0.02, on_retry = function() end }
      for ws in cws.reconnect(url .. "/", options) do
        arrived:send(true)
        for _ in ws:each() do end
      end
    end)
    assert.is_true(arrived:receive())
    server:stop(0)
    cws.sleep(0.05)
    local again = assert(cws.listen(address))
    again:handle("/", greet)
    assert.is_true(arrived:receive())
    task:cancel()
    assert.is_true((task:join()))
    again:stop(0)
  end)

  -- RFC 6455 7.2.3. A thousandth of the defaults, so 60 ms stand for a minute.
  net.it("B194 waits a random time at first, then longer each time", function()
    local delay, max = 0.005, 0.060
    local seen = failures(closed_url(), 12, { delay = delay, max_delay = max })
    assert.equal(12, #seen)
    assert.is_true(seen[1].seconds >= 0 and seen[1].seconds <= delay)
    local least = 0
    for i = 2, #seen do
      local longest = math.min(delay * 2 ^ (i - 1), max)
      assert.is_true(seen[i].seconds >= longest / 2 and seen[i].seconds <= longest, i .. ": " .. seen[i].seconds)
      assert.is_true(seen[i].at - seen[i - 1].at >= seen[i - 1].seconds - 0.001)
      if i <= 10 then least = least + longest / 2 end
    end
    assert.is_true(least > 0.060, "ten attempts take more than a minute")
  end)

  net.it("B194 has a random first wait", function()
    local differ, url = {}, closed_url()
    for i = 1, 20 do
      differ[i] = failures(url, 1, {})[1].seconds
    end
    table.sort(differ)
    assert.is_true(differ[1] >= 0 and differ[20] <= 5, differ[20])
    assert.is_true(differ[20] - differ[1] > 0.5, "twenty waits within half a second")
  end)

  net.it("tells on_retry what connect said", function()
    local url = closed_url()
    local failure = failures(url, 1, {})[1]
    local _, message, kind, code = cws.connect(url)
    assert.same({ message, kind, code }, { failure.message, failure.kind, failure.code })
    local server, http = net.serve({})
    failure = failures(http .. "/none", 1, {})[1]
    assert.same({ "handshake", 404 }, { failure.kind, failure.code })
    server:stop(0)
  end)

  net.it("logs a line for each failure by itself", function()
    local lines = net.log()
    local task = cws.spawn(function()
      for _ in cws.reconnect(closed_url(), { delay = 1000 }) do
        error("connected")
      end
    end)
    while #lines == 0 do
      cws.sleep(0.001)
    end
    task:cancel()
    assert.is_true((task:join()))
    assert.equal(1, #lines)
    assert.matches("^reconnect: connect: 127%.0%.0%.1:%d+: connection refused; again in %d+%.%d s$", lines[1])
  end)

  net.it("waits longer after connections that do not stay", function()
    local server, url = net.serve({ ["/"] = function(req) req:upgrade() end })
    local times, delay = {}, 0.1 * net.slow
    for ws in cws.reconnect(url .. "/", { delay = delay }) do
      times[#times + 1] = cws.now()
      ws:receive()
      if #times == 4 then break end
    end
    assert.is_true(times[3] - times[2] >= delay and times[4] - times[3] >= 2 * delay)
    server:stop(0)
  end)

  net.it("closes the connection of a loop that is left", function()
    local codes = cws.channel(2)
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = assert(req:upgrade())
        ws:receive()
        codes:send(ws:close_code())
      end,
    })
    for _ in cws.reconnect(url .. "/") do
      break
    end
    assert.equal(1000, codes:receive())
    local ok, err = pcall(function()
      for _ in cws.reconnect(url .. "/") do
        error("the body's", 0)
      end
    end)
    assert.same({ false, "the body's" }, { ok, err })
    assert.equal(1011, codes:receive())
    server:stop(0)
  end)

  net.it("ends when its task is cancelled while it connects", function()
    local listener = raw.listen() -- never answers
    local ended = false
    local task = cws.spawn(function()
      for _ in cws.reconnect(listener.url .. "/") do
        error("connected")
      end
      ended = true
    end)
    local peer = listener:accept()
    task:cancel()
    assert.is_true((task:join()))
    assert.is_true(ended)
    peer:close()
    listener:close()
  end)

  net.it("ends when its task is cancelled while it waits or is connected", function()
    local server, url = net.serve({
      ["/"] = function(req)
        local ws = assert(req:upgrade())
        ws:receive()
      end,
    })
    local states = cws.channel()
    local task = cws.spawn(function()
      for ws in cws.reconnect(url .. "/") do
        states:send("connected")
        for _ in ws:each() do end
      end
    end)
    assert.equal("connected", states:receive())
    task:cancel()
    assert.is_true((task:join()))
    server:stop(0)
    task = cws.spawn(function()
      for _ in cws.reconnect(url .. "/", { delay = 1000, on_retry = function() states:send("waits") end }) do
        error("connected")
      end
    end)
    assert.equal("waits", states:receive())
    cws.sleep(0.01)
    task:cancel()
    assert.is_true((task:join()))
  end)

  net.it("raises for misuse where the program stands", function()
    local function loop(url, options)
      for _ in cws.reconnect(url, options) do
        error("connected")
      end
    end
    local function raises(text, ...)
      local ok, err = pcall(loop, ...)
      assert.is_false(ok)
      assert.matches("reconnect_spec.lua:%d+: " .. text, err)
    end
    raises("bad argument #1 to 'reconnect' %(string expected, got no value%)")
    raises("bad argument #1 to 'reconnect' %(ws://", "http://x/")
    for options, text in pairs({
      [{ delay = "x" }] = "bad option 'delay' to 'reconnect' %(number expected, got string%)",
      [{ max_delay = -1 }] = "bad option 'max_delay' to 'reconnect' %(seconds from 0 to 1e9 expected%)",
      [{ on_retry = 1 }] = "bad option 'on_retry' to 'reconnect' %(function expected, got number%)",
      [{ foo = 1 }] = "bad option 'foo' to 'reconnect' %(unknown%)",
    }) do
      raises(text, "ws://127.0.0.1:1/", options)
    end
    assert.has_error(function() loop("wss://127.0.0.1:1/") end, "tls: not in this build")
  end)
end)
