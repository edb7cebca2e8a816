-- Servers: where they listen, how many they serve, and what becomes of handlers
-- that raise or take too long. Stopping: server_stop_spec.lua; requests and
-- answers: request_spec.lua.
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local process = require("spec.support.process")
local raw = require("spec.support.raw")

-- The answer to a plain request: its status and reason, and its body.
local function ask(url, target)
  local peer = assert(raw.connect(url))
  peer:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(target or "/"))
  local head, why = peer:head()
  local body = head and peer:rest()
  peer:close()
  return head and head:match("^HTTP/1.1 (.-)\r\n") or why, body
end

-- How a server refuses an upgrade.
local function refusal(url)
  local _, _, kind, status = cws.connect(url)
  return { kind, status }
end

local function has_ipv6()
  local server = cws.listen("[::1]:0")
  return server and server:stop(0)
end

local function says(text)
  return function(_, res) res:write(text) end
end

local function echo(req)
  local ws = assert(req:upgrade())
  for message, kind in ws:each() do
    ws:send(message, kind)
  end
end

describe("listen", function()
  net.guard()

  net.it("takes a free port for port 0, and says which", function()
    local server, url = net.serve({ ["/"] = says("here") })
    assert.matches("^127%.0%.0%.1:[1-9]%d*$", server:address())
    assert.matches("^cws%.server: 0x%x+ %(127%.0%.0%.1:[1-9]%d*%)$", tostring(server))
    assert.same({ "200 OK", "here" }, { ask(url) })
    server:stop(0)
  end)

  net.it("takes IPv6 in brackets", function()
    local server, message, kind = cws.listen("[::1]:0")
    if not server then -- a machine without IPv6
      assert.same({ "listen" }, { kind }, message)
      return
    end
    server:handle("/", echo)
    assert.matches("^%[::1%]:[1-9]%d*$", server:address())
    local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
    assert.equal(server:address(), ws:remote_address())
    ws:terminate()
    server:stop(0)
  end)

  net.it("takes a name", function()
    local server = assert(cws.listen("localhost:0"))
    server:handle("/", says("local"))
    local port = server:address():match("%d+$")
    assert.equal("200 OK", (ask("ws://localhost:" .. port)))
    server:stop(0)
  end)

  for addr, hosts in pairs({
    [":0"] = { "127.0.0.1", "127.0.0.2", "[::1]" },
    ["[::]:0"] = { "127.0.0.1", "[::1]" },
    ["0.0.0.0:0"] = { "127.0.0.1", "127.0.0.2" },
  }) do
    net.it("on '" .. addr .. "' is reached by every address", function()
      local server, remote = cws.listen(addr), nil
      if not server then return end -- a machine without IPv6
      server:handle("/", function(req)
        remote = req.remote
        echo(req)
      end)
      local port = server:address():match("%d+$")
      for _, host in ipairs(hosts) do
        if host ~= "[::1]" or has_ipv6() then
          local ws = assert(cws.connect(("ws://%s:%s/"):format(host, port)))
          assert.equal(ws:local_address(), remote)
          assert.equal(host, ws:remote_address():match("^(.*):%d+$"))
          ws:terminate()
        end
      end
      server:stop(0)
    end)
  end

  net.it("says that a port is in use, and takes it once it is free, B238", function()
    local server = net.serve({})
    local addr = server:address()
    local none, message, kind, errno = cws.listen(addr)
    assert.same({ nil, "listen: " .. addr .. ": address already in use", "listen" }, { none, message, kind })
    assert.equal("integer", math.type(errno))
    local peer = raw.connect(addr) -- leaves a socket in TIME_WAIT
    server:stop(0)
    local again = assert(cws.listen(addr))
    assert.equal(addr, again:address())
    again:stop(0)
    peer:close()
  end)

  net.it("says what is wrong with an address, B238", function()
    for _, addr in ipairs({
      "", ":", "localhost", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:8o", "127.0.0.1:-1", "127.0.0.1:+1",
      "127.0.0.1: 1", "127.0.0.1:65536", "127.0.0.1:70000", "127.0.0.1:99999999999", "::1:80", "[::1:80", "::1]:80",
      "[]:80", "[::1]80", "[[::1]]:80", "a[b:80", "127.0.0.1:0\0", "127.0.0.1\0:0", ("a"):rep(300) .. ":80", "ws://a:80/",
    }) do
      local server, message, kind = cws.listen(addr)
      if server then server:stop(0) end
      assert.is_nil(server and addr)
      assert.equal("listen", kind, ("%q"):format(addr))
      assert.matches("^listen: bad address '.*' %(host:port expected%)$", message)
      assert.not_matches("%c", message)
    end
  end)

  net.it("says what the system says", function()
    local _, message, kind, errno = cws.listen("192.0.2.1:0") -- RFC 5737: nobody's
    assert.same({ "listen: 192.0.2.1:0: cannot assign requested address", "listen" }, { message, kind })
    assert.is_true(errno > 0)
  end)

  net.it("raises for what is no address and no option, B237", function()
    for _, call in ipairs({ { "listen", cws.listen, 2 }, { "serve", function(addr, o) cws.serve(addr, {}, o) end, 3 } }) do
      local name, listen, index = call[1], call[2], call[3]
      local function raises(text, ...)
        local ok, message = pcall(listen, ...)
        assert.is_false(ok)
        assert.equal(text, (message:gsub("^%S+:%d+: ", "")))
      end
      raises(("bad argument #1 to '%s' (string expected, got no value)"):format(name), nil)
      raises(("bad argument #1 to '%s' (string expected, got number)"):format(name), 8080)
      raises(("bad argument #%d to '%s' (table expected, got number)"):format(index, name), "127.0.0.1:0", 1)
      raises(("bad option 'max_mesage' to '%s' (unknown)"):format(name), "127.0.0.1:0", { max_mesage = 1 })
      for option, values in pairs({
        handler_timeout = { -1, 0 / 0, 1e308, "1" }, max_connections = { 0, -1, 1.5, "1" }, max_message = { 0, -1 },
      }) do
        for _, value in ipairs(values) do
          local ok, message = pcall(listen, "127.0.0.1:0", { [option] = value })
          assert.is_false(ok)
          assert.matches(("bad option '%s' to '%s' %%("):format(option, name), message)
        end
      end
    end
    assert.error_matches(function() cws.serve("127.0.0.1:0") end, "bad argument #2 to 'serve' %(table expected, got no value")
    assert.error_matches(function() cws.serve("127.0.0.1:0", { a = echo }) end, "#2 to 'serve' %(pattern 'a' does not begin")
    assert.error_matches(function() cws.serve("127.0.0.1:0", { ["/"] = 1 }) end, "#2 to 'serve' %(function expected for '/', got")
  end)

  net.it("that raises leaves nothing behind", function()
    local function misuse(times)
      for _ = 1, times do
        pcall(cws.listen, "127.0.0.1:0", { max_mesage = 1 })
      end
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local before = misuse(10)
    assert.is_true(misuse(1000) - before < 20) -- KiB; an object that stays has 100 bytes
  end)

  net.it("many times at once, each with its own handlers", function()
    local servers = {}
    for i = 1, 100 do
      servers[i] = net.serve({ ["/"] = says("server " .. i) })
    end
    for i, server in ipairs(servers) do
      assert.same({ "200 OK", "server " .. i }, { ask("ws://" .. server:address()) })
    end
    for _, server in ipairs(servers) do
      server:stop(0)
    end
  end, 20)

  net.it("a server that nobody holds goes on", function()
    local status, out, err = process.run({ process.lua, "-e", [[
      local cws = require("cws")
      local url = "ws://" .. (function()
        local server = assert(cws.listen("127.0.0.1:0"))
        server:handle("/", function(req) assert(req:upgrade()):send("still here") end)
        return server:address()
      end)()
      for _ = 1, 3 do collectgarbage() end
      print(assert(cws.connect(url .. "/")):receive())
    ]] })
    assert.same({ 0, "still here\ttext\n", "" }, { status, out, err })
  end)
end)

describe("max_connections", function()
  net.guard()
  process.guard()

  net.it("turns away what is one too many, B257", function()
    local server, url = net.serve({ ["/"] = echo }, { max_connections = 2 })
    local first, second = raw.upgrade(url), raw.upgrade(url)
    local status, body = ask(url)
    assert.same({ "503 Service Unavailable", "503 Service Unavailable\n" }, { status, body })
    assert.same({ "handshake", 503 }, refusal(url .. "/"))
    first:send_frame("text", "undisturbed")
    assert.equal("undisturbed", first:frame().data)
    second:send_close(1000)
    assert.equal(1000, second:frame().code)
    assert.same({ "", "eof" }, { second:rest() })
    second:close()
    local third
    repeat -- its place is free when the server has seen the end
      third = cws.connect(url .. "/")
    until third
    third:terminate()
    first:close()
    server:stop(0)
  end)

  net.it("answers sixteen at a time, and only closes more", function()
    local server, url = net.serve({ ["/"] = echo }, { max_connections = 1 })
    local first, extra, answered = raw.upgrade(url), {}, 0
    for i = 1, 30 do
      extra[i] = assert(raw.connect(url)) -- says nothing, and keeps its place
    end
    for _, peer in ipairs(extra) do
      local bytes = peer:rest()
      answered = answered + (bytes:find("^HTTP/1.1 503 ") and 1 or 0)
    end
    assert.equal(16, answered)
    for _, peer in ipairs(extra) do peer:close() end
    first:send_frame("text", "undisturbed")
    assert.equal("undisturbed", first:frame().data)
    first:close()
    server:stop(0)
  end)

  net.it("is by default what the descriptors allow; what comes then harms nobody", function()
    local port = process.free_port()
    local p = process.start({ "sh", "-c", 'ulimit -n 64; exec "$0" -e "$1"', process.lua, [[
      local cws = require("cws")
      cws.spawn(function() print("ready") io.stdout:flush() end)
      cws.serve("127.0.0.1:" .. os.getenv("PORT"), { ["/"] = function(req)
        local ws = assert(req:upgrade())
        for message in ws:each() do ws:send(message) end
      end })
    ]] }, { env = { PORT = port } })
    p:expect("ready")
    local url = "ws://127.0.0.1:" .. port
    local first, others = raw.upgrade(url), {}
    for i = 1, 100 do
      others[i] = assert(raw.connect(url))
      others[i]:send(raw.request("/"))
    end
    local open, refused = 0, 0
    for _, peer in ipairs(others) do
      local head = peer:head() or ""
      open = open + (head:find("^HTTP/1.1 101 ") and 1 or 0)
      refused = refused + (head:find("^HTTP/1.1 503 ") and 1 or 0)
    end
    if os.getenv("CWS_MODE") == "valgrind" then -- which takes some for itself
      assert.is_true(open > 16 and open < 31, open)
    else
      assert.equal(31, open) -- 64 - 32, with the first
    end
    assert.is_true(refused >= 1)
    first:send_frame("text", "undisturbed")
    assert.equal("undisturbed", first:frame().data)
    for _, peer in ipairs(others) do peer:close() end
    local ws
    repeat ws = cws.connect(url .. "/") until ws -- there is room again
    ws:terminate()
    first:close()
    assert.equal("", p:err())
    p:kill("TERM")
    assert.equal(0, p:wait())
  end, 20)

  net.it("counts requests of plain HTTP too", function()
    local arrived, go = cws.channel(1), cws.channel()
    local server, url = net.serve({ ["/"] = function(_, res)
      arrived:send(true)
      go:receive()
      res:write("done")
    end }, { max_connections = 1 })
    local task = cws.spawn(ask, url)
    arrived:receive()
    assert.equal("503 Service Unavailable", (ask(url)))
    go:close()
    assert.same({ true, "200 OK", "done" }, { task:join() })
    server:stop(0)
  end)
end)

describe("a handler that raises", function()
  net.guard()

  -- What is raised, and what the log says of it.
  local raises = {
    ["a string"] = { function() error("nothing good") end, "nothing good" },
    ["a table"] = { function() error({}) end, "^table: 0x" },
    ["nil"] = { function() error(nil) end, "^nil\n" },
    ["an object"] = { function() error(setmetatable({}, { __tostring = function() return "my text" end })) end, "^my text" },
    ["an object that cannot be shown"] = {
      function() error(setmetatable({}, { __tostring = function() error("worse") end })) end,
      "^an error whose __tostring raises\n",
    },
    ["an error of the interpreter"] = { function() return nil + 1 end, "attempt to perform arithmetic on a nil value" },
    ["what yields nowhere"] = {
      function() string.gsub("x", "x", function() cws.sleep(1) end) end, "cannot wait here: sleep .*use cws.spawn",
    },
    ["a stack that overflows"] = {
      function()
        local function deeper() return 1 + deeper() end
        deeper()
      end, "stack overflow",
    },
    ["ten megabytes"] = { function() error(("x"):rep(10 << 20)) end, "xxx" },
    ["in a <close> variable"] = {
      function() local _ <close> = setmetatable({}, { __close = function() error("at the end") end }) end, "at the end",
    },
  }
  for name, case in pairs(raises) do
    net.it(name .. ", B222: 500, or 1011, and one line in the log", function()
      local lines = net.log()
      local server, url = net.serve({
        ["/plain"] = case[1],
        ["/ws"] = function(req)
          local ws = assert(req:upgrade())
          ws:send("before")
          case[1]()
        end,
      })
      local status, body = ask(url, "/plain")
      assert.same({ "500 Internal Server Error", "500 Internal Server Error\n" }, { status, body })
      local peer = raw.upgrade(url, { path = "/ws" })
      assert.equal("before", peer:frame().data)
      local close = peer:frame()
      assert.same({ 8, 1011 }, { close.opcode, close.code })
      assert.equal("handler failed", close.reason)
      peer:close()
      assert.equal(2, #lines)
      for _, line in ipairs(lines) do
        assert.matches(case[2], line)
        assert.matches("stack traceback:.*server_spec.lua", line)
      end
      server:stop(0)
    end)
  end

  for name, log in pairs({
    ["raises"] = function() error("the log fails") end,
    ["waits, which it cannot"] = function() cws.sleep(1) end,
    ["is no function"] = 42,
  }) do
    net.it("is logged to stderr when cws.log " .. name, function()
      local written = {}
      local server, url = net.serve({ ["/"] = function() error("the handler fails") end })
      local stderr = io.stderr
      io.stderr = { write = function(_, line) written[#written + 1] = line end } -- luacheck: ignore
      cws.log = log
      local status = ask(url)
      io.stderr = stderr -- luacheck: ignore
      assert.equal("500 Internal Server Error", status)
      assert.equal(1, #written)
      assert.matches("^[^\n]*the handler fails[^\n]*\n$", written[1])
      server:stop(0)
    end)
  end

  net.it("what was written before is not sent", function()
    net.log()
    local server, url = net.serve({ ["/"] = function(_, res)
      res.status = 201
      res:header("X-Secret", "1")
      res:write("secret")
      error("late")
    end })
    local peer = raw.connect(url)
    peer:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    local all = peer:rest()
    assert.matches("^HTTP/1.1 500 Internal Server Error\r\n.*\r\n\r\n500 Internal Server Error\n$", all)
    assert.not_matches("[Ss]ecret", all)
    peer:close()
    server:stop(0)
  end)

  net.it("its <close> variables are closed, with the error", function()
    net.log()
    local seen = cws.channel(2)
    local server, url = net.serve({ ["/"] = function(req)
      local _ <close> = setmetatable({}, { __close = function(_, err) seen:send(err) end })
      local ws <close> = assert(req:upgrade())
      ws:receive()
      error("gone", 0)
    end })
    local peer = raw.upgrade(url)
    peer:send_frame("text", "x")
    assert.equal("gone", seen:receive())
    assert.equal(1011, peer:frame().code)
    peer:close()
    server:stop(0)
  end)

  net.it("a thousand times, and nobody else notices", function()
    local lines = net.log()
    local server, url = net.serve({
      ["/echo"] = echo,
      ["/plain"] = function() error("plain failed") end,
      ["/ws"] = function(req)
        local ws = assert(req:upgrade())
        ws:receive()
        error("ws failed")
      end,
    })
    local bystander = assert(cws.connect(url .. "/echo"))
    for i = 1, 500 do
      local ws = assert(cws.connect(url .. "/ws"))
      ws:send("go")
      assert.same({ nil, "closed", 1011 }, { (ws:receive()), select(3, ws:receive()) })
      assert.same({ "handshake", 500 }, refusal(url .. "/plain"))
      bystander:send(tostring(i))
      assert.equal(tostring(i), bystander:receive())
    end
    assert.equal(1000, #lines)
    bystander:terminate()
    server:stop(0)
  end, 30)

  net.it("is logged as one escaped line on stderr", function()
    local p = process.start({ process.lua, "-e", [[
      local cws = require("cws")
      local server = assert(cws.listen("127.0.0.1:0"))
      server:handle("/", function(req) error("one\ntwo\27[31m" .. ("x"):rep(600)) end)
      print(cws.connect("ws://" .. server:address() .. "/"))
    ]] })
    assert.equal(0, p:wait())
    assert.matches("500", p:out())
    assert.matches("^[^\n]*one\\x0Atwo\\x1B%[31mx+[^\n]*\n$", p:err())
    assert.equal(512 + #"\n", #p:err())
  end)
end)

describe("a handler that takes too long", function()
  net.guard()

  net.it("is answered for with 503; what it does then changes nothing", function()
    local results, go = cws.channel(8), cws.channel()
    local lines = net.log()
    local server, url = net.serve({ ["/"] = function(req, res)
      res:write("late")
      go:receive()
      results:send(req.method .. req.path .. req.query .. req.host)
      results:send({ res:write("too late") })
    end }, { handler_timeout = 0.05 })
    local start = cws.now()
    local status, body = ask(url, "/?q")
    assert.same({ "503 Service Unavailable", "503 Service Unavailable\n" }, { status, body })
    assert.is_true(cws.now() - start >= 0.05)
    go:close()
    assert.equal("GET/qa", results:receive())
    results:receive()
    assert.same({}, lines)
    server:stop(0)
  end)

  net.it("cannot upgrade any more", function()
    local results, go = cws.channel(1), cws.channel()
    local server, url = net.serve({ ["/"] = function(req)
      go:receive()
      results:send({ req:upgrade() })
    end }, { handler_timeout = 0.05 })
    assert.same({ "handshake", 503 }, refusal(url .. "/"))
    go:close()
    local result = results:receive()
    assert.same({ nil, "upgrade: the handler took longer than handler_timeout", "closed" }, result)
    server:stop(0)
  end)

  net.it("also when a function of upgrade's options took the time", function()
    local results, go = cws.channel(1), cws.channel()
    local server, url = net.serve({ ["/"] = function(req)
      results:send({ req:upgrade({ origins = function()
        go:receive()
        return true
      end }) })
    end }, { handler_timeout = 0.05 })
    assert.same({ "handshake", 503 }, refusal(url .. "/"))
    go:close()
    assert.same({ nil, "upgrade: the handler took longer than handler_timeout", "closed" }, results:receive())
    server:stop(0)
  end)

  net.it("is nobody's business once it has upgraded", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = assert(req:upgrade())
      cws.sleep(0.15)
      ws:send("still here")
      ws:receive()
    end }, { handler_timeout = 0.05 })
    local ws = assert(cws.connect(url .. "/"))
    assert.equal("still here", ws:receive())
    ws:terminate()
    server:stop(0)
  end)
end)

describe("the time for a head and for an answer", function()
  net.guard()

  net.it("handshake_timeout: nothing at all is only closed, B002; half a head gets 408, B003", function()
    local server, url = net.serve({ ["/"] = echo }, { handshake_timeout = 0.1 })
    local start = cws.now()
    local silent, half = raw.connect(url), raw.connect(url)
    half:send("GET / HT")
    assert.same({ "", "eof" }, { silent:rest() })
    assert.is_true(cws.now() - start >= 0.1)
    assert.matches("^HTTP/1.1 408 Request Timeout\r\n", (half:rest()))
    silent:close()
    half:close()
    server:stop(0)
  end)

  net.it("response_timeout: an answer that nobody reads is given up", function()
    local answered = cws.channel(1)
    local server, url = net.serve({ ["/"] = function(_, res)
      res:write(("x"):rep(32 << 20))
      answered:send(true)
    end }, { response_timeout = 0.1 })
    local peer = raw.connect(url, { receive = 4096 })
    peer:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answered:receive()
    local live = core.counts()
    local until_ = cws.now() + 5 * net.slow
    while core.counts() == live do
      assert(cws.now() < until_, "it is not given up")
      cws.sleep(0.01)
    end
    assert.equal("reset", (select(2, peer:rest()))) -- what the kernel held is given up too
    peer:close()
    server:stop(0)
  end)

  net.it("a slow reader gets all of a large body", function()
    local parts = {}
    for i = 1, 40000 do
      parts[i] = string.pack("<I8", i * 0x9E3779B97F4A7C15)
    end
    local body = table.concat(parts):rep(10)
    local server, url = net.serve({ ["/"] = says(body) })
    local peer = raw.connect(url, { receive = 65536 })
    peer:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    local head = peer:head()
    assert.equal(#body, tonumber(head:match("\r\nContent%-Length: (%d+)\r\n")))
    assert.matches("\r\nContent%-Type: application/octet%-stream\r\n", head)
    local got = { (peer:receive(1000)) }
    cws.sleep(0.05)
    got[2] = peer:rest()
    assert.is_true(table.concat(got) == body)
    peer:close()
    server:stop(0)
  end)
end)
