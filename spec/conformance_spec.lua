-- The well-known conformance cases, in both roles, played by spec/peers/
-- conformance.py with a WebSocket of its own: strict about what comes back, about
-- how the connection ends and who ends it. Against another implementation:
--   python3 spec/peers/conformance.py client 127.0.0.1:9001
local net = require("spec.support.net")
local process = require("spec.support.process")

local python = os.getenv("CWS_PYTHON") ~= "" and os.getenv("CWS_PYTHON") or "python3"

-- Of 517 cases: 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragments, 6
-- UTF-8, 7 closing, 9 large and many messages, 10 a sender's fragments, 12 and 13
-- compression.
local groups = {
  { "1", 16 }, { "2", 11 }, { "3", 7 }, { "4", 10 }, { "5", 20 }, { "6", 145 }, { "7", 37 }, { "9", 54 },
  { "10", 1 }, { "12", 90 }, { "13", 126 },
}
if net.slow >= 20 then -- one of each kind
  groups[10], groups[11] = { "12.1", 18 }, { "13.5", 18 }
end

local function peer(role, group, address)
  local argv = { python, "spec/peers/conformance.py", "--only", group .. ".", role }
  argv[#argv + 1] = address
  return argv
end

---@return string failed the lines that do not say `wanted`
---@return integer count of the cases
local function judge(out, wanted)
  local failed, count = {}, 0
  for line in out:gmatch("[^\n]+") do
    local number, outcome = line:match("^(%d+%.[%d.]+) (.*)$")
    count = count + (number and 1 or 0)
    if number and outcome ~= wanted then failed[#failed + 1] = line end
  end
  return table.concat(failed, "\n"), count
end

-- The server under test, and the cases of one group played against it.
local function as_server(group, flags)
  local server = process.start({
    process.lua, "examples/conformance_server.lua", "-addr", "127.0.0.1:0", table.unpack(flags or {}),
  })
  local address = server:expect("listening on ws://([%d.:]+)/ %(Ctrl%-C to stop%)\n")
  local status, out, err = process.run(peer("client", group, address), { seconds = 60 })
  assert.same({ 0, "" }, { status, err })
  server:kill("INT")
  assert.equal(0, server:wait(2))
  assert.equal("", (server:err():gsub("^listening [^\n]*\n", "")))
  return out
end

-- The client under test, and the server that plays the cases.
local function as_client(group, flags)
  local server = process.start(peer("server", group))
  local port = server:expect("listening on (%d+)\n")
  local status, _, err = process.run({
    process.lua, "examples/conformance_client.lua", "-addr=127.0.0.1:" .. port, table.unpack(flags or {}),
  }, { seconds = 60 })
  assert.equal(0, status, err)
  assert.equal(0, server:wait(), server:err())
  local out = server:out()
  assert.matches("getCaseCount OK", out)
  assert.matches("updateReports OK", out)
  assert.matches(" cases played\n$", err)
  return out
end

for role, play in ipairs({ as_server, as_client }) do
  describe("conformance of the " .. (role == 1 and "server" or "client"), function()
    net.guard()
    process.guard()

    for _, each in ipairs(groups) do
      local group, cases = each[1], each[2]
      net.it("cases " .. group, function()
        local failed, count = judge(play(group), "OK")
        assert.equal("", failed)
        assert.equal(cases, count)
      end, 60)
    end

    net.it("without compression there is none", function()
      local failed, count = judge(play("12.1", { "--no-compression" }), "UNIMPLEMENTED")
      assert.equal("", failed)
      assert.equal(18, count)
      assert.equal("", (judge(play("1.1", { "--no-compression" }), "OK")))
    end, 60)
  end)
end

describe("the programs for conformance suites", function()
  net.guard()
  process.guard()

  for _, each in ipairs({ { "conformance_server", "localhost:9002" }, { "conformance_client", "localhost:9001" } }) do
    local name, default = table.unpack(each)
    net.it(name .. " has its flags", function()
      local path = "examples/" .. name .. ".lua"
      local usage = ("usage: lua5.4 %s [-addr host:port] [--no-compression]   (default %s)\n"):format(path, default)
      assert.same({ 0, usage, "" }, { process.run({ process.lua, path, "-no-compression", "-h" }) })
      assert.same({ 2, "", "unknown argument: -x (try -h)\n" }, { process.run({ process.lua, path, "-x" }) })
      assert.same({ 2, "", "flag needs an argument: -addr (try -h)\n" }, { process.run({ process.lua, path, "-addr" }) })
    end)
  end

  net.it("conformance_client has time for a suite that writes its reports first", function()
    local fake = [[
      package.preload.cws = function()
        local ws = { receive = function() return "0" end, close = function() end }
        return { log = print, connect = function(url, options)
          print(url, options.handshake_timeout >= 60)
          return ws
        end }
      end]]
    local status, out, err = process.run({ process.lua, "-e", fake, "examples/conformance_client.lua", "-addr", "a:1" })
    assert.same({ 0, "" }, { status, err })
    assert.equal("ws://a:1/getCaseCount\ttrue\nws://a:1/updateReports?agent=cws\ttrue\n0 cases played\n", out)
  end)

  net.it("conformance_client says that there is no suite", function()
    local port = process.free_port()
    local status, _, err = process.run({ process.lua, "examples/conformance_client.lua", "-addr", "127.0.0.1:" .. port })
    assert.same({ 1, "dial: connect: 127.0.0.1:" .. port .. ": connection refused\n" }, { status, err })
  end)
end)
