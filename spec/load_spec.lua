-- A second of load from bench/wsload.c, which checks every byte that comes back,
-- on the server that the benchmark measures.
local cws = require("cws")
local net = require("spec.support.net")
local process = require("spec.support.process")

local wsload = "build/bench/wsload"

local function compile()
  local status, _, err = process.run({
    "sh", "-c", [[mkdir -p build/bench && { [ "$1" -nt bench/wsload.c ] ||
      ${CC:-cc} -std=gnu11 -O2 -DWITH_TLS -DWITH_ZLIB -o "$1" bench/wsload.c -lssl -lcrypto -lz; }]], "sh", wsload,
  }, { seconds = 60 })
  assert.equal(0, status, err)
end

-- fn(url) with the server running; it ends at SIGINT.
local function with_server(flags, fn)
  local port = process.free_port()
  local server = process.start({ process.lua, "bench/peers/cws.lua", port, table.unpack(flags) })
  local url = "ws://127.0.0.1:" .. port
  for _ = 1, 500 do
    local ws = cws.connect(url .. "/echo")
    if ws then
      ws:close()
      break
    end
    cws.sleep(0.02)
  end
  fn(url)
  server:kill("INT")
  assert.equal(0, server:wait(2))
  assert.equal("", server:err())
end

local function load(arguments, url)
  local argv = { wsload, "-d", "0.1", "-w", "0.02" }
  for word in arguments:gmatch("%S+") do
    argv[#argv + 1] = word
  end
  argv[#argv + 1] = url
  local status, out, err = process.run(argv, { seconds = 20 })
  assert.equal(0, status, arguments .. ": " .. out .. err)
  assert.matches("| 0 errors\n$", out)
end

describe("under load", function()
  net.guard()
  process.guard()

  net.it("every message comes back, whole and in order", function()
    compile()
    with_server({}, function(url)
      for _, arguments in ipairs({
        "-c 1 -p 1 -s 0", "-c 1 -p 1 -s 125 -k utf8", "-c 64 -p 16 -s 126 -k binary", "-c 8 -p 16 -s 65535 -k utf8",
        "-c 8 -p 4 -s 65536", "-c 2 -p 2 -s 1m -k binary", "-c 300 -p 16 -s 20",
      }) do
        load(arguments .. " echo", url .. "/echo")
      end
    end)
  end, 60)

  net.it("connections come and go, stay idle, and get what is published", function()
    compile()
    with_server({}, function(url)
      load("-c 16 connect", url .. "/echo")
      load("-c 500 --first-echo idle", url .. "/echo")
      load("-c 50 -p 4 --settle 0.1 --pub-path /pub broadcast", url .. "/sub")
    end)
  end, 60)

  net.it("compressed messages come back, with and without a context", function()
    compile()
    with_server({ "--deflate" }, function(url)
      load("-c 8 -p 4 -s 16k -k utf8 --deflate echo", url .. "/echo")
      load("-c 8 -p 4 -s 1k --deflate --takeover echo", url .. "/echo")
    end)
  end, 60)
end)
