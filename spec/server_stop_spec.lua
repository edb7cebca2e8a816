-- How servers stop: server:stop, cws.stop, the end of serve.
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")

local function says(text)
  return function(_, res) res:write(text) end
end

local function hold(req)
  local ws = assert(req:upgrade())
  for _ in ws:each() do end
end

local function get(peer, target)
  return peer:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(target or "/"))
end

-- What fn returns, and how long it takes.
local function timed(fn, ...)
  local start = cws.now()
  local results = table.pack(fn(...))
  return cws.now() - start, table.unpack(results, 1, results.n)
end

-- A server that fn(server) stops; what server:stop returned.
local function stopping(server, ...)
  return cws.spawn(server.stop, server, ...)
end

describe("server:stop", function()
  net.guard()

  net.it("of a server with nothing open returns at once", function()
    local server, url = net.serve({ ["/"] = hold })
    local seconds, ok = timed(server.stop, server)
    assert.is_true(ok)
    assert.is_true(seconds < 1)
    assert.same({ nil, "refused" }, { raw.connect(url) })
  end)

  net.it("closes every connection with 1001 and waits until they are gone", function()
    local ended = {}
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      local message, text, kind, code = ws:receive()
      ended[#ended + 1] = { message, text, kind, code }
    end })
    local clients = {}
    for i = 1, 20 do
      clients[i] = assert(cws.connect(url .. "/"))
    end
    local peer = raw.upgrade(url) -- and one whose answer we hold back
    local task = stopping(server)
    assert.equal(1001, peer:frame().code)
    for _, ws in ipairs(clients) do
      assert.same({ nil, "websocket: close 1001 (going away)", "closed", 1001 }, { ws:receive() })
    end
    assert.same({ nil, "timeout", "timeout" }, { task:join(0.05) })
    peer:send_close(1001)
    assert.same({ "", "eof" }, { peer:rest() })
    peer:close()
    assert.same({ true, true }, { task:join() })
    assert.equal(21, #ended) -- every handler knows, before stop returns
    for _, result in ipairs(ended) do
      assert.same({ nil, "websocket: close 1001 (going away)", "closed", 1001 }, result)
    end
  end)

  net.it("delivers to the handler what came before the client's answer", function()
    local got = cws.channel(4)
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      got:send("open")
      cws.sleep(0.05) -- it is busy as the server stops
      for message in ws:each() do got:send(message) end
      got:send(ws:close_code())
    end })
    local peer = raw.upgrade(url)
    assert.equal("open", got:receive())
    peer:send_frame("text", "last words")
    local task = stopping(server)
    assert.equal(1001, peer:frame().code)
    peer:send_close(1001)
    assert.equal("last words", got:receive())
    assert.equal(1001, got:receive())
    peer:close()
    assert.same({ true, true }, { task:join() })
  end)

  net.it("aborts what is left after its time", function()
    local ended = cws.channel(1)
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      ended:send({ ws:receive() })
    end })
    local peer = raw.upgrade(url)
    local task = stopping(server, 0.1)
    local seconds, done, ok, message, kind = timed(task.join, task)
    assert.same({ true, nil, "timeout", "timeout" }, { done, ok, message, kind })
    assert.is_true(seconds >= 0.1 and seconds < 2)
    local result = ended:receive(0) -- it knows already
    assert.same({ nil, "closed", 1006 }, { result[1], result[3], result[4] })
    assert.equal(1001, peer:frame().code)
    assert.same({ "", "eof" }, { peer:rest() })
    peer:close()
  end)

  net.it("is not held up by browsers' connections that have not sent a byte", function()
    local server, url = net.serve({ ["/"] = hold })
    local silent = {}
    for i = 1, 10 do
      silent[i] = assert(raw.connect(url))
    end
    local ws = assert(cws.connect(url .. "/")) -- those before it are accepted
    ws:terminate()
    local seconds, ok = timed(server.stop, server)
    assert.is_true(ok)
    assert.is_true(seconds < 1 * net.slow)
    for _, peer in ipairs(silent) do
      assert.same({ "", "eof" }, { peer:rest() })
      peer:close()
    end
  end)

  net.it("waits for a handler that is at work, and for its answer", function()
    local arrived, go = cws.channel(1), cws.channel()
    local server, url = net.serve({ ["/"] = function(_, res)
      arrived:send(true)
      go:receive()
      res:write("done")
    end })
    local peer = raw.connect(url)
    get(peer)
    arrived:receive()
    local task = stopping(server)
    assert.same({ nil, "timeout", "timeout" }, { task:join(0.05) })
    go:close()
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\ndone$", (peer:rest()))
    peer:close()
    assert.same({ true, true }, { task:join() })
  end)

  net.it("answers 503 for a handler that does not come to an end", function()
    local arrived, go = cws.channel(1), cws.channel()
    local server, url = net.serve({ ["/"] = function()
      arrived:send(true)
      go:receive()
    end })
    local peer = raw.connect(url)
    get(peer)
    arrived:receive()
    assert.same({ nil, "timeout", "timeout" }, { server:stop(0.05) })
    assert.matches("^HTTP/1.1 503 ", (peer:rest()))
    peer:close()
    go:close()
  end)

  net.it("waits for half a head as well, and then closes", function()
    local server, url = net.serve({ ["/"] = hold })
    local peer = raw.connect(url)
    peer:send("GET / HT")
    local ws = assert(cws.connect(url .. "/"))
    ws:terminate()
    assert.same({ nil, "timeout", "timeout" }, { server:stop(0.1) })
    assert.same({ "", "eof" }, { peer:rest() })
    peer:close()
  end)

  net.it("lets an upgrade that is under way become a connection, and close", function()
    local server, url = net.serve({ ["/"] = hold })
    local peer = raw.connect(url)
    local request = raw.request("/")
    peer:send(request:sub(1, 20))
    local other = assert(cws.connect(url .. "/"))
    other:terminate()
    local task = stopping(server, 0.5)
    cws.sleep(0)
    peer:send(request:sub(21))
    assert.matches("^HTTP/1.1 101 ", peer:head())
    assert.equal(1001, peer:frame().code)
    peer:send_close(1001)
    peer:close()
    assert.same({ true, true }, { task:join() })
  end)

  net.it("twice, or from several tasks, is once", function()
    local server, url = net.serve({ ["/"] = hold })
    local peer = raw.upgrade(url)
    local one, two = stopping(server), stopping(server)
    assert.equal(1001, peer:frame().code)
    peer:send_close(1001)
    assert.same({ "", "eof" }, { peer:rest() }) -- no second close frame
    peer:close()
    assert.same({ true, true }, { one:join() })
    assert.same({ true, true }, { two:join() })
    assert.is_true(server:stop())
    assert.is_true(server:stop(0))
  end)

  net.it("with less time ends one that waits with more", function()
    local server, url = net.serve({ ["/"] = hold })
    local peer = raw.upgrade(url)
    local patient = stopping(server, 60)
    assert.equal(1001, peer:frame().code)
    assert.same({ nil, "timeout", "timeout" }, { server:stop(0) })
    assert.same({ true, true }, { patient:join(5) })
    peer:close()
  end)

  net.it("by the handler of an open connection", function()
    local results = cws.channel(1)
    local server
    server = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      ws:receive()
      results:send({ server:stop(5) })
    end })
    local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
    ws:send("stop")
    assert.same({ nil, "closed", 1001 }, { (ws:receive()), select(3, ws:receive()) })
    assert.same({ true }, results:receive())
  end)

  net.it("by a handler that answers waits for itself: its time is over first", function()
    local results = cws.channel(1)
    local server
    server = net.serve({ ["/"] = function(_, res)
      results:send({ server:stop(0.1) })
      res:write("too late")
    end })
    local peer = raw.connect(server:address())
    get(peer)
    assert.matches("^HTTP/1.1 503 ", (peer:rest()))
    assert.same({ nil, "timeout", "timeout" }, results:receive())
    peer:close()
  end)

  net.it("by a task that a handler started waits for the answer", function()
    local server, stopped
    server = net.serve({ ["/"] = function(_, res)
      stopped = stopping(server)
      res:write("goodbye")
    end })
    local peer = raw.connect(server:address())
    get(peer)
    assert.matches("\r\n\r\ngoodbye$", (peer:rest()))
    peer:close()
    assert.same({ true, true }, { stopped:join() })
  end)

  net.it("that is cancelled does not wait any more", function()
    local server, url = net.serve({ ["/"] = hold })
    local peer = raw.upgrade(url)
    local task = stopping(server, 60)
    assert.equal(1001, peer:frame().code)
    task:cancel()
    assert.same({ true, nil, "stop: task cancelled", "closed" }, { task:join(5) })
    assert.same({ "", "eof" }, { peer:rest() })
    peer:close()
  end)

  net.it("is told to on_close before it returns", function()
    local told = {}
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      ws:on_close(function(code, _, clean) told[#told + 1] = { code, clean } end)
      for _ in ws:each() do end
    end })
    local ws = assert(cws.connect(url .. "/"))
    local task = stopping(server)
    ws:receive()
    assert.same({ true, true }, { task:join() })
    assert.same({ { 1001, true } }, told)
  end)

  net.it("leaves other servers alone", function()
    local one, first = net.serve({ ["/"] = hold })
    local two, second = net.serve({ ["/"] = says("here") })
    local ws = assert(cws.connect(first .. "/"))
    assert.is_true(two:stop())
    assert.is_true(ws:is_open())
    assert.same({ nil, "refused" }, { raw.connect(second) })
    ws:terminate()
    one:stop(0)
  end)

  net.it("raises for what is no time", function()
    local server = net.serve({})
    for _, bad in ipairs({ -1, 0 / 0, 1e10 }) do
      assert.error_matches(function() server:stop(bad) end, "bad argument #1 to 'stop' %(seconds from 0")
    end
    assert.error_matches(function() server:stop("1") end, "bad argument #1 to 'stop' %(number expected, got string%)")
    assert.is_true(server:stop())
  end)
end)

describe("server:stop in the main program", function()
  net.guard()

  it("drives the loop until all is done", function()
    local server, url = net.serve({ ["/"] = hold })
    local task = cws.spawn(function()
      local ws = assert(cws.connect(url .. "/"))
      return ws:receive()
    end)
    cws.sleep(0.02)
    assert.is_true(server:stop())
    assert.same({ true, nil, "websocket: close 1001 (going away)", "closed", 1001 }, { task:join(0) })
  end)
end)

describe("serve", function()
  net.guard()

  net.it("returns true after a stop", function()
    local server, url = net.serve({ ["/"] = hold })
    local task = cws.spawn(server.serve, server)
    local ws = assert(cws.connect(url .. "/"))
    assert.same({ nil, "timeout", "timeout" }, { task:join(0.02) })
    local stop = stopping(server)
    ws:receive()
    assert.same({ true, true }, { task:join() })
    assert.same({ true, true }, { stop:join() })
  end)

  net.it("of a server that was stopped says so", function()
    local server = net.serve({})
    server:stop(0)
    assert.same({ nil, "serve: the server was stopped", "closed" }, { server:serve() })
  end)

  net.it("of a task that is cancelled ends; the server of cws.listen goes on", function()
    local server, url = net.serve({ ["/"] = hold })
    local task = cws.spawn(server.serve, server)
    cws.sleep(0)
    task:cancel()
    assert.same({ true, nil, "serve: task cancelled", "closed" }, { task:join() })
    local ws = assert(cws.connect(url .. "/"))
    ws:terminate()
    server:stop(0)
  end)

  -- The address of a server that cws.serve made: its handler is asked for it.
  local function serve(routes, options)
    local port = require("spec.support.process").free_port()
    local task = cws.spawn(cws.serve, "127.0.0.1:" .. port, routes, options)
    cws.sleep(0)
    return task, "ws://127.0.0.1:" .. port
  end

  net.it("as cws.serve, cancelled, leaves nothing that listens", function()
    local task, url = serve({ ["/"] = hold })
    local ws = assert(cws.connect(url .. "/"))
    task:cancel()
    assert.same({ nil, "closed", 1001 }, { (ws:receive()), select(3, ws:receive()) })
    local _, none, message, kind = task:join()
    assert.same({ nil, "serve: task cancelled", "closed" }, { none, message, kind })
    assert.same({ nil, "refused" }, { raw.connect(url) })
  end)

  net.it("where it cannot wait leaves nothing that listens", function()
    local port = require("spec.support.process").free_port()
    local ok, message = coroutine.wrap(function()
      return pcall(cws.serve, "127.0.0.1:" .. port, {})
    end)()
    assert.is_false(ok)
    assert.matches("cannot wait here: .*use cws.spawn", message)
    assert.same({ nil, "refused" }, { raw.connect("ws://127.0.0.1:" .. port) })
  end)

  net.it("says why it cannot listen", function()
    local server = net.serve({})
    local none, message, kind, errno = cws.serve(server:address(), { ["/"] = hold })
    assert.same({ nil, "listen: " .. server:address() .. ": address already in use", "listen" }, { none, message, kind })
    assert.equal("integer", math.type(errno))
    server:stop(0)
  end)

  net.it("ends by cws.stop, with 1001 to all, in a second at most", function()
    local task, url = serve({ ["/"] = hold })
    local good, bad = assert(cws.connect(url .. "/")), raw.upgrade(url)
    cws.stop()
    assert.same({ nil, "closed", 1001 }, { (good:receive()), select(3, good:receive()) })
    local seconds, ok, result = timed(task.join, task)
    assert.same({ true, true }, { ok, result })
    assert.is_true(seconds > 0.8 and seconds < 1.5 * net.slow)
    assert.equal(1001, bad:frame().code)
    bad:close()
  end)

  it("ends by cws.stop before run does", function()
    local got
    local sleeper = cws.spawn(cws.sleep, 60) -- run does not wait for it
    assert.is_true(cws.run(function()
      local port = require("spec.support.process").free_port()
      cws.spawn(function()
        local ws = assert(cws.connect("ws://127.0.0.1:" .. port .. "/"))
        cws.stop()
        got = { ws:receive() }
      end)
      cws.serve("127.0.0.1:" .. port, { ["/"] = hold })
    end))
    sleeper:cancel()
    assert.same({ nil, "websocket: close 1001 (going away)", "closed", 1001 }, got)
  end)

  net.it("ends by cws.stop in a handler, which answers", function()
    local task, url = serve({ ["/stop"] = function(_, res)
      cws.stop()
      res:write("stopping")
    end })
    local peer = raw.connect(url)
    get(peer, "/stop")
    assert.matches("\r\n\r\nstopping$", (peer:rest()))
    peer:close()
    assert.same({ true, true }, { task:join() })
  end)

  net.it("ends at once by a second cws.stop", function()
    local task, url = serve({ ["/"] = hold })
    local peer = raw.upgrade(url)
    cws.stop()
    cws.sleep(0.01)
    cws.stop()
    local seconds = timed(task.join, task)
    assert.is_true(seconds < 0.5 * net.slow)
    peer:close()
  end)

  net.it("of several servers at once, all by one cws.stop", function()
    local tasks, urls = {}, {}
    for i = 1, 5 do
      tasks[i], urls[i] = serve({ ["/"] = hold })
    end
    cws.stop()
    for i = 1, 5 do
      assert.same({ true, true }, { tasks[i]:join() })
      assert.same({ nil, "refused" }, { raw.connect(urls[i]) })
    end
    assert.equal(0, (core.counts()))
  end)
end)
