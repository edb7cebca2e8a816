-- The examples as programs: what they print, and how they end.
local cws = require("cws")
local net = require("spec.support.net")
local process = require("spec.support.process")
local raw = require("spec.support.raw")

local top = process.top
local names = { "server", "client", "chat" }
local PATHS = { server = "/echo", chat = "/chat" }

-- Ways to say the same: under valgrind a start takes a second.
local function ways(...)
  local all = { ... }
  return net.slow < 20 and all or { all[1] }
end

---@param name string
---@param arguments string[]?
---@param options table? of process.start
local function start(name, arguments, options)
  local argv = { process.lua, "examples/" .. name .. ".lua" }
  table.move(arguments or {}, 1, #(arguments or {}), 3, argv)
  return process.start(argv, options)
end

---@return integer status, string out, string err
local function run(name, arguments, options)
  local p = start(name, arguments, options)
  return p:wait(), p:out(), p:err()
end

-- A server that has said where it listens; returns that, "127.0.0.1:PORT".
local function start_server(name, arguments, options)
  local p = start(name, arguments or { "-addr", "127.0.0.1:0" }, options)
  local addr = p:expect("^listening on http://([^/\n]*)/ %(Ctrl%-C to stop%)\n")
  return p, addr
end

-- One Ctrl-C: 1.5 s, status 0.
local function interrupt(p)
  p:kill("INT")
  assert.equal(0, p:wait(1.5), p:err())
end

local function one_line(text, pattern)
  assert.matches("^[^\n]+\n$", text)
  assert.matches(pattern, text)
  assert.not_matches("traceback", text)
end

describe("every example", function()
  net.guard()
  process.guard()

  for _, name in ipairs(names) do
    for _, flag in ipairs(ways("-h", "--help", "-help", "--h")) do
      net.it(name .. " " .. flag .. " explains itself, status 0", function()
        local status, out, err = run(name, { flag })
        assert.same({ 0, "" }, { status, err })
        assert.equal("usage: lua5.4 examples/" .. name .. ".lua [-addr host:port]   (default localhost:8080)\n", out)
      end)
    end

    for _, argument in ipairs(ways("-x", "--port=80", "addr", "")) do
      net.it(name .. " '" .. argument .. "' is wrong, status 2", function()
        local status, out, err = run(name, { argument })
        assert.same({ 2, "" }, { status, out })
        assert.equal("unknown argument: " .. argument .. " (try -h)\n", err)
      end)
    end

    for _, argument in ipairs(ways("-addr", "--addr", "-addr=", "--addr=")) do
      net.it(name .. " " .. argument .. " without a value, status 2", function()
        local status, out, err = run(name, { argument })
        assert.same({ 2, "" }, { status, out })
        assert.equal("flag needs an argument: -addr (try -h)\n", err)
      end)
    end

    for _, version in ipairs({ "5.1", "5.3" }) do
      local lua = "lua" .. version
      local test = process.exists(lua) and net.it or pending
      test(name .. " says under " .. lua .. " what it needs", function()
        local status, out, err = process.run({ lua, "examples/" .. name .. ".lua" })
        assert.same({ 1, "" }, { status, out })
        assert.equal(("cws needs Lua 5.4, but this is Lua %s. Try: lua5.4 examples/%s.lua\n"):format(version, name), err)
      end)
    end

    net.it(name .. " copied to where there is no cws says how to get it", function()
      local path = os.tmpname()
      assert.equal(0, (process.run({ "cp", "examples/" .. name .. ".lua", path })))
      local status, out, err = process.run({ process.lua, path }, {
        env = { LUA_PATH = "/nonexistent/?.lua", LUA_CPATH = "/nonexistent/?.so" },
      })
      os.remove(path)
      assert.same({ 1, "" }, { status, out })
      assert.equal("cannot load cws: module 'cws' not found (run `make` in its checkout, "
        .. "`make install` to use it elsewhere)\n", err)
    end)

    net.it(name .. " needs no environment and no working directory", function()
      local status, out = process.run({
        "env", "-u", "LUA_PATH", "-u", "LUA_CPATH", process.lua, top .. "/examples/" .. name .. ".lua", "-h",
      }, { cwd = "/" })
      assert.equal(0, status)
      assert.matches("^usage", out)
    end)
  end

  net.it("copied elsewhere uses the module that is installed", function()
    local path = os.tmpname()
    assert.equal(0, (process.run({ "cp", "examples/server.lua", path })))
    local p = process.start({ process.lua, path, "-addr", "127.0.0.1:0" })
    p:expect("listening on")
    os.remove(path)
    interrupt(p)
  end)

  net.it("uses the build of the checkout it stands in", function()
    local p = process.start({ "env", "-u", "LUA_PATH", "-u", "LUA_CPATH", process.lua, "server.lua", "-addr=127.0.0.1:0" },
      { cwd = top .. "/examples" })
    p:expect("listening on")
    local maps = io.open("/proc/" .. p.pid .. "/maps")
    if maps then
      assert.equal(os.getenv("CWS_BUILD") .. "/cws/core.so", maps:read("a"):match("%S*/cws/core%.so"))
      maps:close()
    end
    interrupt(p)
  end)
end)

for _, name in ipairs({ "server", "chat" }) do
  describe(name .. ".lua", function()
    net.guard()
    process.guard()

    for _, flag in ipairs(ways("-addr", "--addr", "-addr=", "--addr=")) do
      net.it("listens where " .. flag .. " says", function()
        local port = process.free_port()
        local addr = "127.0.0.1:" .. port
        local p, said = start_server(name, flag:find("=") and { flag .. addr } or { flag, addr })
        assert.equal(addr, said)
        local ws = assert(cws.connect("ws://" .. addr .. PATHS[name]))
        assert(ws:close())
        interrupt(p)
      end)
    end

    net.it("names localhost, and the port that it got", function()
      local p, said = start_server(name, { "-addr", "localhost:0" })
      assert.matches("^localhost:[1-9]%d*$", said)
      interrupt(p)
      p, said = start_server(name, { "-addr", ":0" })
      assert.matches("^localhost:[1-9]%d*$", said)
      interrupt(p)
    end)

    net.it("says that a port is in use", function()
      local other = assert(cws.listen("127.0.0.1:0"))
      local status, out, err = run(name, { "-addr", other:address() })
      other:stop(0)
      assert.same({ 1, "" }, { status, out })
      assert.equal("listen: " .. other:address() .. ": address already in use\n", err)
    end)

    net.it("says that a host is unknown", function()
      local status, out, err = run(name, { "-addr", "no-such-host.invalid:80" })
      assert.same({ 1, "" }, { status, out })
      one_line(err, "^listen: no%-such%-host%.invalid: ")
    end)

    for _, addr in ipairs(ways("127.0.0.1", "127.0.0.1:99999", "a b:1", "[::1")) do
      net.it("says that " .. addr .. " is no address", function()
        local status, out, err = run(name, { "-addr", addr })
        assert.same({ 1, "" }, { status, out })
        one_line(err, "^listen: ")
      end)
    end

    net.it("serves a page that knows its address, and nothing else", function()
      local p, addr = start_server(name)
      local status, page = process.run({ "curl", "-si", "http://" .. addr .. "/" })
      assert.equal(0, status)
      assert.matches("^HTTP/1.1 200 OK\r\n", page)
      assert.matches("Content%-Type: text/html; charset=utf%-8\r\n", page)
      assert.matches('new WebSocket("ws://' .. addr .. PATHS[name] .. '")',
        page:gsub("\\/", "/"):gsub("\\u002[fF]", "/"), 1, true)
      assert.not_matches("src=", page)
      assert.not_matches("href=", page)
      interrupt(p)
    end)

    for _, signal in ipairs({ "INT", "TERM" }) do
      net.it("ends at SIG" .. signal .. " with a connection open: 1001, status 0", function()
        local p, addr = start_server(name)
        local ws = assert(cws.connect("ws://" .. addr .. PATHS[name]))
        p:kill(signal)
        local message, err, kind, code = ws:receive()
        assert.same({ nil, "websocket: close 1001 (going away)", "closed", 1001 }, { message, err, kind, code })
        assert.equal(0, p:wait(1.5))
      end)
    end

    net.it("ends within 1.5 s when a client is silent", function()
      local p, addr = start_server(name)
      local silent = raw.upgrade(addr, { path = PATHS[name] })
      interrupt(p)
      assert.equal(1001, silent:frame().code)
      silent:close()
    end)
  end)
end

describe("server.lua", function()
  net.guard()
  process.guard()

  local function with_echo(fn)
    local p, addr = start_server("server")
    fn(p, "ws://" .. addr .. "/echo")
    interrupt(p)
    return p:err():gsub("^listening on [^\n]*\n", "")
  end

  net.it("echoes with the same type, and logs what it receives", function()
    local log = with_echo(function(p, url)
      local ws = assert(cws.connect(url))
      for _, sent in ipairs({ { "Hello world!", "text" }, { "\0\1\255", "binary" }, { "", "text" } }) do
        assert(ws:send(sent[1], sent[2]))
        local message, type = ws:receive()
        assert.same(sent, { message, type })
      end
      assert(ws:close())
      p:expect("read: [^\n]*\n")
    end)
    assert.equal("recv: Hello world!\nrecv: \\x00\\x01\\xFF\nrecv: \nread: websocket: close 1000 (normal)\n", log)
  end)

  net.it("logs how a connection ended", function()
    local log = with_echo(function(p, url)
      local peer = raw.upgrade(url, { path = "/echo" })
      peer:send_close(4000, "bye")
      p:expect("close 4000")
      peer:close()
      peer = raw.upgrade(url, { path = "/echo" })
      peer:close()
      p:expect("close 1006")
      peer = raw.upgrade(url, { path = "/echo" })
      peer:send("\xFF\xFF")
      p:expect("close 1002")
      peer:close()
    end)
    assert.equal("read: websocket: close 4000: bye\n"
      .. "read: websocket: close 1006 (abnormal closure): unexpected EOF\n"
      .. "read: websocket: close 1002 (protocol error)", (log:gsub("(error%)).*", "%1")))
  end)

  net.it("logs an upgrade that it refuses", function()
    local log = with_echo(function(_, url)
      local status, out = process.run({ "curl", "-si", (url:gsub("^ws", "http")) })
      assert.equal(0, status)
      assert.matches("^HTTP/1.1 400 Bad Request\r\n", out)
    end)
    one_line(log, "^upgrade: handshake: ")
  end)

  net.it("writes one line for a message, whatever is in it", function()
    local log = with_echo(function(_, url)
      local ws = assert(cws.connect(url))
      assert(ws:send("a\nlistening\27[2J" .. ("x"):rep(10000)))
      assert(ws:receive())
      assert(ws:close())
    end)
    local line = log:match("^recv: a\\x0[aA]listening\\x1[bB]%[2Jx+[^\n]*\n")
    assert.truthy(line, log)
    assert.truthy(#line <= 513, #line)
  end)
end)

describe("client.lua", function()
  net.guard()
  process.guard()

  -- fn(p, ws) in the server's handler, for one client; then waits for its end.
  local function with_client(fn)
    local over, failed = cws.channel(1), nil
    local p
    local server, url = net.serve({
      ["/echo"] = function(req)
        local ws = assert(req:upgrade())
        local ok, err = xpcall(fn, debug.traceback, p, ws)
        failed = not ok and err
        over:send(true)
      end,
    })
    p = start("client", { "-addr", (url:gsub("^ws://", "")) })
    over:receive()
    local status = not failed and p:wait()
    server:stop(0)
    if failed then error(failed, 0) end
    return status, p:err():gsub("^connecting to " .. url .. "/echo\n", "")
  end

  local STAMP = "%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d%.?%d* [+-]%d%d%d%d [%w+-]+ m=%+%d+%.%d%d%d%d%d%d%d%d%d"

  net.it("sends the time every second, until Ctrl-C", function()
    local status, log = with_client(function(p, ws)
      local first = assert(ws:receive())
      assert.matches("^" .. STAMP .. "$", first)
      assert(ws:send(first))
      local second = assert(ws:receive())
      local between = second:match("m=%+(.*)") - first:match("m=%+(.*)")
      assert.near(1, between, 0.1 * net.slow)
      assert(ws:send(second))
      p:expect("recv: .*\nrecv: ")
      p:kill("INT")
      assert.falsy(ws:receive())
      assert.same({ 1000, "" }, { ws:close_code(), ws:close_reason() })
      p:wait(1.5)
    end)
    assert.equal(0, status)
    assert.matches("^recv: " .. STAMP .. "\nrecv: " .. STAMP
      .. "\ninterrupt\nread: websocket: close 1000 %(normal%)\n$", log)
  end)

  net.it("ends when the server closes", function()
    local status, log = with_client(function(_, ws) ws:close(1001, "bye") end)
    assert.equal(0, status)
    assert.equal("read: websocket: close 1001 (going away): bye\n", log)
  end)

  net.it("ends when the server is gone", function()
    local status, log = with_client(function(_, ws) ws:terminate() end)
    assert.equal(0, status)
    one_line(log, "^read: websocket: close 1006 %(abnormal closure%): ")
  end)

  net.it("waits at most one second for a server that does not answer its close", function()
    local listener = raw.listen()
    local p = start("client", { "-addr", (listener.url:match("//([^/]*)")) })
    local peer = listener:accept()
    peer:answer()
    p:expect("connecting")
    p:kill("INT")
    assert.equal(1000, peer:frame().code)
    assert.equal(0, p:wait(1.5))
    assert.matches("interrupt\n", p:err())
    peer:close()
    listener:close()
  end)

  net.it("says that there is no server", function()
    local addr = "127.0.0.1:" .. process.free_port()
    local status, out, err = run("client", { "-addr", addr })
    assert.same({ 1, "" }, { status, out })
    assert.equal(("connecting to ws://%s/echo\ndial: connect: %s: connection refused\n"):format(addr, addr), err)
  end)

  net.it("says that a host is unknown", function()
    local status, out, err = run("client", { "-addr", "no-such-host.invalid:80" })
    assert.same({ 1, "" }, { status, out })
    one_line(err:gsub("^connecting [^\n]*\n", ""), "^dial: connect: no%-such%-host%.invalid: ")
  end)

  net.it("says that an upgrade is refused", function()
    local server, url = net.serve({})
    local status, _, err = run("client", { "-addr", (url:gsub("^ws://", "")) })
    server:stop(0)
    assert.equal(1, status)
    one_line(err:gsub("^connecting [^\n]*\n", ""), "^dial: handshake: .*404")
  end)

  for _, addr in ipairs(ways("127.0.0.1:99999", "a b:1", "[::1", "x:0")) do
    net.it("says that " .. addr .. " is no address", function()
      local status, _, err = run("client", { "-addr", addr })
      assert.equal(1, status)
      one_line(err:gsub("^connecting [^\n]*\n", ""), "^dial: ")
    end)
  end
end)

describe("chat.lua", function()
  net.guard()
  process.guard()

  net.it("tells everybody what anybody says, and drops who says too much", function()
    local p, addr = start_server("chat")
    local all = {}
    for i = 1, 3 do
      all[i] = assert(cws.connect("ws://" .. addr .. "/chat"))
    end
    -- a connection takes part once its upgrade is answered, which it has been
    assert(all[1]:send("hello"))
    for i = 1, 3 do
      assert.equal("hello", (all[i]:receive()))
    end
    assert(all[2]:send(("x"):rep(513)))
    assert.same({ nil, 1009 }, { all[2]:receive(), all[2]:close_code() })
    assert(all[3]:send("again"))
    assert.equal("again", (all[1]:receive()))
    assert.equal("again", (all[3]:receive()))
    all[1]:close()
    all[3]:close(4000, "bye")
    p:expect("chat: 4000 bye\n")
    interrupt(p)
    assert.matches("chat: 1009", p:err())
  end)
end)
