-- cws with implementations that are not its own: python3-websockets, Node's ws,
-- Bun and curl, as client and as server. The programs are in spec/peers/.
local cws = require("cws")
local net = require("spec.support.net")
local process = require("spec.support.process")

-- A megabyte of one letter inflates more than 200 times.
local LIMITS = { max_message = 1 << 24, max_ratio = math.huge }
-- Window bits that are combined; under valgrind two are enough.
local ALL_BITS = net.slow < 20 and { 9, 10, 11, 12, 13, 14, 15 } or { 9, 15 }
local SOME_BITS = net.slow < 20 and { 9, 12, 15 } or { 9, 15 }
local SIZES = { 0, 1, 125, 126, 127, 65535, 65536, 1 << 20 }

local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local peers = {
  { name = "python3-websockets", command = { env("CWS_PYTHON"), "spec/peers/echo.py" }, here = env("CWS_PYTHON") },
  { name = "Node's ws", command = { "node", "spec/peers/echo.js" }, here = process.exists("node") },
}
local bun = { name = "Bun", command = { env("CWS_BUN"), "spec/peers/bun.js" }, here = env("CWS_BUN") }

local function command(peer, ...)
  return table.move({ ... }, 1, select("#", ...), #peer.command + 1, { table.unpack(peer.command) })
end

-- net.it, or with a word why not.
local function test(peer, name, fn)
  if peer.here then return net.it(name, fn, 60) end
  return pending(name .. ": " .. peer.name .. " is not installed")
end

local function query_of(options)
  local parts = {}
  for _, key in ipairs({ "s", "c", "sb", "cb" }) do
    parts[#parts + 1] = options[key] and key .. "=" .. options[key] or nil
  end
  return table.concat(parts, "&")
end

-- s, c: no context takeover; sb, cb: window bits, of server and client.
local function combinations(bits)
  local all = {}
  for s = 0, 1 do
    for c = 0, 1 do
      for _, sb in ipairs(bits) do
        for _, cb in ipairs(bits) do
          all[#all + 1] = { s = s, c = c, sb = sb, cb = cb }
        end
      end
    end
  end
  return all
end

local function compression(options)
  return {
    server_no_context_takeover = options.s == 1,
    client_no_context_takeover = options.c == 1,
    server_max_window_bits = options.sb,
    client_max_window_bits = options.cb,
    threshold = 1,
  }
end

-- Repeats near and far: a wrong window, or a forgotten one, is seen.
local function repeating()
  local state, words = 1, {}
  for i = 1, 4000 do
    state = state * 48271 % 2147483647
    words[i] = state
  end
  local far = table.concat(words):sub(1, 20000)
  return { far, far .. far, "short", far:sub(1, 3000):rep(3), "", far }
end

local function messages(size)
  local bytes = ("\0\7\14\254"):rep(size // 4 + 1):sub(1, size)
  return { { ("x"):rep(size), "text" }, { ("a"):rep(size % 2) .. ("é"):rep(size // 2), "text" }, { bytes, "binary" } }
end

local function echoes(ws, message, type)
  assert(ws:send(message, type))
  local got, got_type = ws:receive(10)
  assert(got, got_type)
  assert.truthy(got == message and got_type == (type or "text"), #message .. " bytes came back changed")
end

-- --- cws as the client ------------------------------------------------------

local function dial(url, options)
  return assert(cws.connect(url, options))
end

-- A server of the peer's; fn(url, server).
local function with_server(peer, fn)
  local server = process.start(command(peer, "server"))
  fn("ws://127.0.0.1:" .. server:expect("listening on (%d+)\n", 20), server)
end

local function deflate_round(ws)
  for _, message in ipairs(repeating()) do
    echoes(ws, message)
  end
  local writer = assert(ws:writer())
  assert(writer:write(("frag"):rep(500)))
  assert(writer:write(("ments "):rep(500)))
  assert(writer:close())
  assert.equal(("frag"):rep(500) .. ("ments "):rep(500), (ws:receive(10)))
end

-- What was agreed keeps to what was wanted.
local function check_agreed(response, options)
  local field = assert(response.headers["sec-websocket-extensions"], "no extension")
  assert.equal(options.s == 1, field:find("server_no_context_takeover", 1, true) ~= nil)
  assert.truthy(tonumber(field:match("server_max_window_bits=(%d+)") or 15) <= options.sb, field)
  assert.truthy(tonumber(field:match("client_max_window_bits=(%d+)") or 15) <= options.cb, field)
end

local function client_of(peer)
  describe("cws as the client of " .. peer.name, function()
    net.guard()
    process.guard()

    test(peer, "gets back what it sends, of every size and kind", function()
      with_server(peer, function(url)
        local ws = dial(url .. "/echo", LIMITS)
        for _, size in ipairs(SIZES) do
          for _, each in ipairs(messages(size)) do
            echoes(ws, each[1], each[2])
          end
        end
        assert(ws:close())
      end)
    end)

    test(peer, "sends and receives fragments", function()
      with_server(peer, function(url)
        local ws = dial(url .. "/fragments")
        assert.equal("hello wörld", (ws:receive(5)))
        local writer = assert(ws:writer("binary"))
        for _, part in ipairs({ "one ", "", ("two"):rep(30000), "\255" }) do
          assert(writer:write(part))
        end
        assert(writer:close())
        assert.equal("one " .. ("two"):rep(30000) .. "\255", (ws:receive(5)))
        assert(ws:close())
      end)
    end)

    test(peer, "pings and is pinged", function()
      with_server(peer, function(url)
        local ws = dial(url .. "/ping")
        assert.equal("pong came", (ws:receive(5)))
        local pongs = cws.channel(2)
        ws:on_pong(function(data) pongs:send(data) end)
        for _, data in ipairs({ "", ("p"):rep(125) }) do
          assert(ws:ping(data))
          assert.equal(data, (pongs:receive(5)))
        end
        assert(ws:close())
      end)
    end)

    test(peer, "closes, and is closed, with a code and a reason", function()
      with_server(peer, function(url, server)
        for _, code in ipairs({ 1000, 1001, 3000, 4999 }) do
          local ws = dial(("%s/close?code=%d&reason=bye"):format(url, code))
          assert.falsy(ws:receive(5))
          assert.same({ code, "bye", true }, { ws:close_code(), ws:close_reason(), ws:close_clean() })
          ws = dial(url .. "/echo?" .. code)
          assert(ws:close(code, "gründe"))
          assert.same({ code, true }, { ws:close_code(), ws:close_clean() })
          server:expect("end /echo%?" .. code .. " " .. code .. " gründe\n")
        end
        local ws = dial(url .. "/echo?none")
        assert(ws:close(1005))
        server:expect("end /echo%?none 1005 \n")
      end)
    end)

    test(peer, "agrees on a subprotocol", function()
      with_server(peer, function(url)
        local ws = dial(url .. "/echo", { protocols = { "chat.v2", "chat.v1", "other" } })
        assert.truthy(("chat.v1 chat.v2"):find(ws:protocol(), 1, true))
        assert(ws:close())
        ws = dial(url .. "/echo", { protocols = { "other" } })
        assert.is_nil(ws:protocol())
        assert(ws:close())
      end)
    end)

    test(peer, "is told why an upgrade was refused", function()
      with_server(peer, function(url)
        for _, status in ipairs({ 401, 403, 503 }) do
          local ws, message, kind, code, response = cws.connect(url .. "/refuse?status=" .. status)
          assert.same({ nil, "handshake", status }, { ws, kind, code })
          assert.matches(tostring(status), message)
          assert.same({ status, "because", "not you\n" }, { response.status, response.headers["x-why"], response.body })
        end
      end)
    end)

    test(peer, "compresses with every combination of parameters that it offers", function()
      with_server(peer, function(url)
        for _, options in ipairs(combinations(ALL_BITS)) do
          local ws, response = cws.connect(url .. "/deflate", { compression = compression(options) })
          assert(ws, response)
          check_agreed(response, options)
          deflate_round(ws)
          assert(ws:close())
        end
      end)
    end)

    test(peer, "compresses with every combination that the server wants", function()
      with_server(peer, function(url)
        for _, options in ipairs(combinations(SOME_BITS)) do
          local ws, response = cws.connect(url .. "/deflate?" .. query_of(options),
            { compression = { threshold = 1, client_max_window_bits = 15 } })
          assert(ws, response)
          check_agreed(response, options)
          deflate_round(ws)
          assert(ws:close())
        end
      end)
    end)

    test(peer, "goes on without compression where there is none", function()
      with_server(peer, function(url)
        local ws, response = cws.connect(url .. "/echo", { compression = true })
        assert.is_nil(response.headers["sec-websocket-extensions"])
        echoes(ws, ("plain "):rep(1000))
        assert(ws:close())
      end)
    end)
  end)
end

-- --- cws as the server ------------------------------------------------------

local function echo(options)
  return function(req)
    local ws = req:upgrade(options)
    if not ws then return end
    for message, type in ws:each() do
      ws:send(message, type)
    end
  end
end

local function parse_query(query)
  local options = {}
  for key, value in query:gmatch("(%w+)=(%w+)") do
    options[key] = tonumber(value)
  end
  return options
end

local routes = {
  ["/echo"] = echo({ protocols = { "chat.v1" } }),
  ["/deflate"] = echo({ compression = { threshold = 1 } }),
  ["/own"] = function(req) echo({ compression = compression(parse_query(req.query)) })(req) end,
  ["/ping"] = function(req)
    local ws = assert(req:upgrade())
    local come = cws.channel(1)
    ws:on_pong(function(data) come:send(data) end)
    assert(ws:ping("are you there"))
    assert.equal("are you there", (come:receive(5)))
    assert(ws:send("pong came"))
    ws:receive()
  end,
  ["/close"] = function(req)
    local ws = assert(req:upgrade())
    ws:close(tonumber(req.query:match("code=(%d+)")), req.query:match("reason=(%w*)"))
  end,
}

-- The peer plays its tests against a server in this process.
local function plays(peer, ...)
  local log = net.log()
  local server, url = net.serve(routes, LIMITS)
  local status, out, err = process.run(command(peer, "client", url, ...), {
    seconds = 50, env = { ALL_BITS = table.concat(ALL_BITS, " "), SOME_BITS = table.concat(SOME_BITS, " ") },
  })
  server:stop(1)
  assert.same({ 0, "" }, { status, err })
  assert.equal(table.concat({ ... }, " ok\n") .. " ok\n", out)
  assert.same({}, log)
end

local function server_of(peer)
  describe("cws as the server of " .. peer.name, function()
    net.guard()
    process.guard()

    test(peer, "echoes every size and kind", function() plays(peer, "echo") end)
    test(peer, "receives fragments, pings, is pinged", function() plays(peer, "fragments", "ping") end)
    test(peer, "closes, and is closed, with a code and a reason", function() plays(peer, "close") end)
    test(peer, "agrees on a subprotocol, refuses an upgrade", function() plays(peer, "protocol", "refused") end)
    test(peer, "compresses with every combination that the client offers", function() plays(peer, "deflate") end)
    test(peer, "compresses with every combination of its own", function() plays(peer, "deflate_server") end)
  end)
end

for _, peer in ipairs(peers) do
  client_of(peer)
  server_of(peer)
end

describe("Bun", function()
  net.guard()
  process.guard()

  test(bun, "as a server gives back every size and kind", function()
    with_server(bun, function(url, server)
      for _, path in ipairs({ "/echo", "/deflate" }) do
        local ws = dial(url .. path, {
          compression = path == "/deflate", max_message = LIMITS.max_message, max_ratio = LIMITS.max_ratio,
        })
        for _, size in ipairs(SIZES) do
          for _, each in ipairs(messages(size)) do
            echoes(ws, each[1], each[2])
          end
        end
        assert(ws:close(4002, "bye"))
        server:expect("end " .. path .. " 4002 bye\n")
      end
    end)
  end)

  test(bun, "as a client gets back every size and kind", function()
    local server, url = net.serve({ ["/echo"] = echo({ compression = true }) }, LIMITS)
    local status, out = process.run(command(bun, "client", url), { seconds = 30 })
    server:stop(1)
    assert.same({ 0, "echo ok\n" }, { status, out })
  end)
end)

describe("curl", function()
  net.guard()
  process.guard()

  local function curl(path, ...)
    local argv = table.pack("curl", "-sS", "-m", "2", ...)
    local server, url = net.serve({
      ["/"] = function(req, res)
        if req.path ~= "/" then return res:error(404, "404 page not found") end
        res:header("Content-Type", "text/html; charset=utf-8")
        res:write("<title>hello</title>\n")
      end,
      ["/echo"] = echo(),
    })
    argv[#argv + 1] = url:gsub("^ws", "http") .. path
    local status, out = process.run(argv)
    server:stop(0.1)
    local head, body = out:match("^(.-\r\n)\r\n(.*)$")
    return status, head or out, body
  end

  net.it("gets a page", function()
    local status, head, body = curl("/", "-i")
    assert.equal(0, status)
    assert.matches("^HTTP/1.1 200 OK\r\n", head)
    assert.matches("\r\nContent%-Length: 21\r\n", head)
    assert.equal("<title>hello</title>\n", body)
  end)

  net.it("asks for the head of a page", function()
    local status, head, body = curl("/", "--head")
    assert.equal(0, status)
    assert.matches("^HTTP/1.1 200 OK\r\n", head)
    assert.matches("\r\nContent%-Length: 21\r\n", head)
    assert.equal("", body)
  end)

  net.it("learns that there is no page", function()
    local status, head, body = curl("/nothing", "-i")
    assert.equal(0, status)
    assert.matches("^HTTP/1.1 404 Not Found\r\n", head)
    assert.equal("404 page not found\n", body)
    assert.equal(22, (curl("/nothing", "--fail")))
  end)

  net.it("cannot post", function()
    local _, head = curl("/", "-i", "-d", "a=b")
    assert.matches("^HTTP/1.1 40[05] ", head)
  end)

  net.it("upgrades", function()
    local status, head = curl("/echo", "--include", "--http1.1", "-N",
      "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
      "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    assert.equal(28, status, "it stays until its time is over")
    assert.matches("^HTTP/1.1 101 Switching Protocols\r\n", head)
    assert.matches("\r\nSec%-WebSocket%-Accept: s3pPLMBiTxaQ9kYGzzhZRbK%+xOo=\r\n", head)
  end)
end)
