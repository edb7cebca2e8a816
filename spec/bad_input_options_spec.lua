-- Bad input from the program: options and addresses, the rows B237 and B238.
local bad = require("spec.support.bad_input")
local cws = require("cws")
local net = require("spec.support.net")

local row, failed, raises = bad.row, bad.failed, bad.raises

local function echo(ws)
  for message, type in ws:each() do
    ws:send(message, type)
  end
end

describe("bad input, options and addresses:", function()
  net.guard()

  row("B237", "options that are none", function()
    local function refused(name, value)
      local pattern = "^bad option '" .. name:gsub("%p", "%%%0") .. "' to '"
      raises(pattern .. "listen'", cws.listen, "127.0.0.1:0", { [name] = value })
      raises(pattern .. "connect'", cws.connect, "ws://127.0.0.1:1/", { [name] = value })
      raises(pattern .. "serve'", cws.serve, "127.0.0.1:0", {}, { [name] = value })
    end
    for _, name in ipairs({ "handshake_timeout", "ping_interval", "close_timeout", "idle_timeout" }) do
      for _, value in ipairs({ -1, 0, 0 / 0, 1e308, "1", {}, true, -math.huge }) do refused(name, value) end
    end
    for _, name in ipairs({ "max_message", "max_fragments", "max_queue", "inbox_bytes", "max_connections",
      "header_fields" }) do
      for _, value in ipairs({ 0, -1, 1.5, 0 / 0, "1", {}, true, -math.huge }) do refused(name, value) end
    end
    for _, value in ipairs({ 1, "yes", print }) do refused("compression", value) end
    refused("no_such_option", 1)
    refused("max_mesage", 1)
    raises("compression.level", cws.listen, "127.0.0.1:0", { compression = { level = 10 } })
    raises("compression.no", cws.listen, "127.0.0.1:0", { compression = { no = 1 } })
    raises("names are strings", cws.listen, "127.0.0.1:0", { 1 })
    raises("", cws.listen, "127.0.0.1:0", 5)
    raises("'serve'", cws.serve, "127.0.0.1:0", { ["/"] = 1 })
    raises("'serve'", cws.serve, "127.0.0.1:0", { x = print })
    raises("'serve'", cws.serve, "127.0.0.1:0")
    local server = net.serve({})
    raises("'handle'", server.handle, server, "/")
    raises("'handle'", server.handle, server, "x", print)
    raises("'handle'", server.handle, server, 1, print)
    server:stop(0)
  end)

  row("B237", "options of an upgrade that are none", function(self)
    local problems = {}
    local server, url = net.serve({
      ["/"] = function(req)
        for _, options in ipairs({ { origins = 1 }, { origins = { 1 } }, { protocols = "x" },
          { protocols = { "a b" } }, { headers = 1 },
          { headers = { ["Host"] = "x" } }, { nothing = 1 }, { max_message = 0 }, { ping_interval = "x" }, { 1 } }) do
          local ok, message = pcall(req.upgrade, req, options)
          if ok or not message:find("^bad ") then problems[#problems + 1] = message end
        end
        if pcall(req.upgrade, req, 1) then problems[#problems + 1] = "1" end
        local ws = assert(req:upgrade()) -- nothing of it was answered
        self:watch(ws)
        echo(ws)
      end,
    })
    local ws = assert(cws.connect(url .. "/"))
    ws:send("x")
    assert.equal("x", (ws:receive(2)))
    ws:close()
    server:stop(0)
    assert.same({}, problems)
  end)

  row("B238", "addresses where nobody can listen", function()
    local server = net.serve({})
    local errno = failed("listen", "listen", cws.listen(server:address()))
    assert.equal(98, errno) -- EADDRINUSE
    for _, address in ipairs({ "127.0.0.1:70000", "127.0.0.1", "", ":", "127.0.0.1:", "127.0.0.1:-1", "[::1:80",
      "::1:80", "a:b:c",
      "127.0.0.1:80x", "127.0.0.1:0\0", "[]:0", "\27[31m:0" }) do
      local ok, message, kind = cws.listen(address)
      failed(kind == "dns" and "dns" or "listen", "listen", ok, message, kind)
    end
    failed("listen", "listen", cws.listen("192.0.2.1:0"))
    failed("dns", "listen", cws.listen("name.invalid:0"))
    for _, value in ipairs({ {}, true, print }) do raises("^bad argument #1 to 'listen'", cws.listen, value) end
    assert(server:address():match("^127%.0%.0%.1:(%d+)$") ~= "0")
    server:stop(0)
  end)
end)
