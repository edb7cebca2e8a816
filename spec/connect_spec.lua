-- cws.connect (csrc/net/dial.c, csrc/net/dial_body.c, csrc/lua/dial.c). Answers
-- that are wrong are in bad_input_client_spec.lua.
local cws = require("cws")
local net = require("spec.support.net")
local process = require("spec.support.process")
local raw = require("spec.support.raw")
local testing = require("cws.testing")

-- Connects to a raw server; play(peer, head) answers. Returns what connect gave.
local function connect(play, options, path)
  local listener = raw.listen()
  local task = cws.spawn(cws.connect, listener.url .. (path or "/"), options)
  local peer = listener:accept()
  local ok, err = xpcall(play, net.with_traceback, peer, assert(peer:head()))
  local results = table.pack(task:join(5 * net.slow))
  peer:close()
  listener:close()
  if not ok then error(err, 0) end
  if results[2] then results[2]:terminate() end
  return table.unpack(results, 2, results.n)
end

local function respond(text)
  return function(peer)
    peer:send(text)
    peer:shutdown()
  end
end

describe("connect", function()
  net.guard()
  process.guard()

  net.it("sends the request that RFC 6455 4.1 demands", function()
    local listener = raw.listen()
    local task = cws.spawn(cws.connect, listener.url .. "/a/b%20c?x=1&y=/", {
      protocols = { "chat", "superchat" },
      headers = { ["X-One"] = "1", ["X-Two"] = { "2", "3" }, Origin = "http://example.com" },
    })
    local peer = listener:accept()
    local head = peer:answer("Sec-WebSocket-Protocol: superchat\r\nX-Answer: yes\r\n")
    local _, ws, response = task:join()
    local lines = {}
    for line in head:gmatch("([^\r\n]+)\r\n") do lines[#lines + 1] = line end
    assert.equal("GET /a/b%20c?x=1&y=/ HTTP/1.1", lines[1])
    assert.equal("Host: 127.0.0.1:" .. listener.port, lines[2])
    local sorted = table.concat(lines, "\n") .. "\n"
    for _, field in ipairs({
      "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Protocol: chat, superchat", "X-One: 1", "X-Two: 2\nX-Two: 3", "Origin: http://example.com",
    }) do
      assert.is_truthy(sorted:find("\n" .. field .. "\n", 1, true), field)
    end
    assert.matches("\nSec%-WebSocket%-Key: [%w+/]+==\n", sorted)
    assert.is_nil(sorted:find("Extensions", 1, true))
    assert.equal("superchat", ws:protocol())
    assert.same({ 101, "Switching Protocols", "yes", nil }, {
      response.status, response.reason, response.headers["X-ANSWER"], response.headers["x-none"],
    })
    ws:terminate()
    peer:close()
    listener:close()
  end)

  net.it("has another key each time", function()
    local keys = {}
    for i = 1, 3 do
      connect(function(peer, head)
        keys[i] = head:match("Key: (%S+)")
        peer:send(raw.switch(head))
      end)
    end
    assert.is_true(keys[1] ~= keys[2] and keys[2] ~= keys[3] and keys[1] ~= keys[3])
  end)

  net.it("sends the root for a URL without a path, and the query", function()
    for path, target in pairs({ [""] = "/", ["?q"] = "/?q", ["/"] = "/" }) do
      connect(function(peer, head)
        assert.equal("GET " .. target .. " HTTP/1.1", head:match("^[^\r]+"))
        peer:send(raw.switch(head))
      end, nil, path)
    end
  end)

  net.it("delivers what came with the 101, and the peer's close", function()
    local listener = raw.listen()
    local task = cws.spawn(cws.connect, listener.url)
    local peer = listener:accept()
    peer:answer(nil, "\x81\x03one\x81\x03two\x88\x02\x03\xE9")
    local _, ws = assert(task:join())
    assert.equal("one", ws:receive())
    assert.equal("two", ws:receive())
    assert.equal(1001, (select(4, ws:receive())))
    peer:close()
    listener:close()
  end)

  net.it("takes a head that comes byte by byte", function()
    local ws = connect(function(peer, head)
      for byte in raw.switch(head):gmatch(".") do
        peer:send(byte)
        cws.sleep(0)
      end
    end)
    assert.is_not_nil(ws)
  end)

  net.it("skips interim answers", function()
    local ws = connect(function(peer, head)
      peer:send("HTTP/1.1 100 Continue\r\n\r\n" .. ("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"):rep(9) .. raw.switch(head))
    end)
    assert.is_not_nil(ws)
    local none, message, kind = connect(function(peer, head)
      peer:send(("HTTP/1.1 103 Early Hints\r\n\r\n"):rep(11) .. raw.switch(head))
    end)
    assert.same({ "handshake: too many interim answers", "handshake" }, { message, kind, none })
  end)

  net.it("gives the refusal with its fields and the start of its body", function()
    local ws, message, kind, status, response = connect(respond(
      "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
      .. "Content-Length: 5\r\n\r\nhelloignored"))
    assert.is_nil(ws)
    assert.same({ "handshake: the server answered 401 Unauthorized", "handshake", 401 }, { message, kind, status })
    assert.same({ 401, "Unauthorized", "hello", "Basic" }, {
      response.status, response.reason, response.body, response.headers["www-authenticate"],
    })
    assert.matches("a=1", response.headers["set-cookie"])
  end)

  for name, case in pairs({
    ["until the end of the stream"] = { "\r\nhello", "hello" },
    ["of its length, and no more"] = { "Content-Length: 3\r\n\r\nhello", "hel" },
    ["that is cut off"] = { "Content-Length: 100\r\n\r\nhello", "hello" },
    ["in chunks"] = { "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "hello" },
    ["in chunks that are wrong"] = { "Transfer-Encoding: chunked\r\n\r\n3\r\nhelXX", "hel" },
    ["whose length is too long to be one"] = { "Content-Length: 9999999999999999999\r\n\r\nhello", "hello" },
    ["of none"] = { "Content-Length: 0\r\n\r\n", "" },
    ["of 1024 bytes at most"] = { "\r\n" .. ("x"):rep(70000), ("x"):rep(1024) },
  }) do
    net.it("gives a body " .. name, function()
      local _, _, kind, status, response = connect(respond("HTTP/1.1 503 Service Unavailable\r\n" .. case[1]))
      assert.same({ "handshake", 503, case[2] }, { kind, status, response.body })
    end)
  end

  net.it("gives no body where there is none by its status", function()
    for _, status in ipairs({ 204, 304 }) do
      local _, _, kind, code, response = connect(respond("HTTP/1.1 " .. status .. " X\r\n\r\nignored"))
      assert.same({ "handshake", status, "" }, { kind, code, response.body })
    end
  end)

  net.it("waits for a body no longer than handshake_timeout, and gives what came", function()
    local start = cws.now()
    local _, _, kind, status, response = connect(function(peer)
      peer:send("HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\npart")
      cws.sleep(0.08 * net.slow)
    end, { handshake_timeout = 0.05 })
    assert.same({ "handshake", 500, "part" }, { kind, status, response.body })
    assert.is_true(cws.now() - start < 1 * net.slow)
  end)

  net.it("does not wait for an answer longer than handshake_timeout", function()
    local results = table.pack(connect(function(peer)
      peer:send("HTTP/1.1 101 Sw")
      cws.sleep(0.08 * net.slow)
    end, { handshake_timeout = 0.05 }))
    assert.same({ n = 3, nil, "timeout", "timeout" }, results)
  end)

  net.it("says that a stream ended or was reset", function()
    assert.same({ nil, "handshake: unexpected EOF", "handshake" }, { connect(respond("HTTP/1.1 1")) })
    local _, message, kind = connect(function(peer) peer:reset() end)
    assert.same({ "handshake: connection reset by peer", "handshake" }, { message, kind })
  end)

  net.it("says where nobody listens", function()
    local listener = raw.listen()
    local port = listener.port
    listener:close()
    local ws, message, kind, errno = cws.connect("ws://127.0.0.1:" .. port)
    assert.is_nil(ws)
    assert.same({ ("connect: 127.0.0.1:%d: connection refused"):format(port), "connect", 111 }, { message, kind, errno })
    ws, message, kind = cws.connect("ws://[::1]:" .. port)
    assert.is_nil(ws)
    assert.matches("^connect: %[::1%]:" .. port .. ": ", message)
    assert.equal("connect", kind)
  end)

  net.it("gives the whole of connect_timeout, also after the task has computed for long", function()
    local listener, waiting = raw.listen(0), {}
    for i = 1, 4 do waiting[i] = testing.tcp_connect(listener.port) end -- its queue is full
    cws.sleep(0)
    local until_ = cws.now() + 0.06
    while cws.now() < until_ do end
    local start = cws.now()
    assert.same({ nil, "timeout", "timeout" }, { cws.connect(listener.url, { connect_timeout = 0.1 }) })
    assert.is_true(cws.now() - start >= 0.099, cws.now() - start)
    for _, socket in ipairs(waiting) do socket:close() end
    listener:close()
  end)

  net.it("says that a name has no address", function()
    local ws, message, kind = cws.connect("ws://name.invalid/")
    assert.is_nil(ws)
    assert.matches("^connect: name.invalid: [%w ]+$", message)
    assert.equal("dns", kind)
  end)

  net.it("says of a host longer than any name that there is none", function()
    local host = ("a."):rep(150) .. "example"
    local message = "connect: " .. host:sub(1, 80) .. ": no such host"
    assert.same({ nil, message, "dns" }, { cws.connect("ws://" .. host .. "/") })
  end)

  net.it("says that there are no descriptors left, and goes on when there are", function()
    local p = process.start({ "sh", "-c", 'ulimit -n 64; exec "$0" -e "$1"', process.lua, [[
      local cws = require("cws")
      cws.step()
      local files = {}
      repeat files[#files + 1] = io.open("/dev/null") until not io.open("/dev/null")
      print(cws.connect("ws://127.0.0.1:1/"))
      print(cws.connect("ws://localhost:1/"))
      for _, file in ipairs(files) do file:close() end
      print(cws.connect("ws://127.0.0.1:1/"))
    ]] })
    assert.equal(0, p:wait(30), p:err())
    assert.equal(table.concat({
      "nil\tconnect: 127.0.0.1: too many open files\tconnect\t24",
      "nil\tconnect: localhost: too many open files\tconnect\t24",
      "nil\tconnect: 127.0.0.1:1: connection refused\tconnect\t111",
      "",
    }, "\n"), p:out())
  end, 30)

  net.it("raises for what is no URL, no option, no protocol, no field", function()
    local function check(pattern, ...)
      local args = table.pack(...)
      assert.error_matches(function() cws.connect(table.unpack(args, 1, args.n)) end, pattern)
    end
    check("bad argument #1 to 'connect' %(string expected, got no value%)")
    check("bad argument #1 to 'connect' %(ws:// or wss:// URL expected", "http://localhost")
    check("bad argument #2 to 'connect' %(table expected, got string%)", "ws://localhost", "chat")
    check("bad option 'protocol' to 'connect' %(unknown%)", "ws://localhost", { protocol = "chat" })
    check("bad option 'protocols' to 'connect'", "ws://localhost", { protocols = "chat" })
    check("bad option 'protocols' to 'connect'", "ws://localhost", { protocols = { "a b" } })
    check("bad option 'protocols' to 'connect'", "ws://localhost", { protocols = { "a", "a" } })
    check("bad option 'headers' to 'connect'", "ws://localhost", { headers = { ["X"] = "a\r\nb" } })
    check("bad option 'headers' to 'connect'", "ws://localhost", { headers = { Host = "x" } })
    check("bad option 'connect_timeout' to 'connect'", "ws://localhost", { connect_timeout = 0 })
  end)

  net.it("many at once, each gets its own", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = req:upgrade()
      ws:send(req.path)
      ws:receive()
    end })
    local tasks = {}
    for i = 1, 50 do
      tasks[i] = cws.spawn(function()
        local ws = assert(cws.connect(url .. "/" .. i))
        local got = ws:receive()
        ws:close()
        return got
      end)
    end
    for i, task in ipairs(tasks) do assert.same({ true, "/" .. i }, { task:join() }) end
    server:stop(1)
  end)

  it("needs no task: the main program drives the loop", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = req:upgrade()
      ws:send("Hello")
      ws:receive()
    end })
    local ws = assert(cws.connect(url))
    assert.equal("Hello", ws:receive())
    assert.is_true(ws:close())
    server:stop(1)
  end)

  net.it("where it could not wait raises, and leaves nothing behind", function()
    local listener = raw.listen()
    local ok, message = coroutine.wrap(function() return pcall(cws.connect, listener.url) end)()
    assert.is_false(ok)
    assert.matches("cannot wait here: connect .*; use cws.spawn", message)
    listener:close()
  end)
end)

describe("a connect that is given up", function()
  net.guard()

  -- The task is cancelled when fn(listener) has returned.
  local function cancelled(fn)
    local listener = raw.listen()
    local task = cws.spawn(cws.connect, listener.url)
    local peer = fn(listener)
    task:cancel()
    assert.same({ true, nil, "connect: task cancelled", "closed" }, { task:join() })
    if peer then assert.same({ "", "eof" }, { peer:rest() }) end
    listener:close()
  end

  net.it("before it begins", function()
    cancelled(function() end)
  end)

  net.it("while it waits for the answer", function()
    cancelled(function(listener)
      local peer = listener:accept()
      peer:head()
      peer:send("HTTP/1.1 101 Switching")
      cws.sleep(0.002)
      return peer
    end)
  end)

  net.it("while it reads a refusal", function()
    cancelled(function(listener)
      local peer = listener:accept()
      peer:head()
      peer:send("HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\npart")
      cws.sleep(0.002)
      return peer
    end)
  end)

  net.it("when it is open, but nobody has it yet", function()
    cancelled(function(listener)
      local peer = listener:accept()
      peer:answer()
      -- the answer is read, and the task is cancelled, in one turn of the loop
      local until_ = cws.now() + 0.005
      while cws.now() < until_ do end
      return peer
    end)
  end)

  net.it("by the end of its coroutine", function()
    net.log()
    local listener = raw.listen()
    local co
    local task = cws.spawn(function()
      co = coroutine.running()
      cws.connect(listener.url)
    end)
    local peer = listener:accept()
    peer:head()
    coroutine.close(co)
    collectgarbage()
    collectgarbage()
    assert.same({ "", "eof" }, { peer:rest() })
    task:cancel()
    task:join()
    listener:close()
  end)
end)
