-- System calls that fail (csrc/net): a program is started with them preloaded.
local net = require("spec.support.net")
local process = require("spec.support.process")

local library = (os.getenv("CWS_BUILD") or "build") .. "/faults.so"

local errnos = { EAFNOSUPPORT = 97, EPERM = 1, EINTR = 4, EMFILE = 24, ENOSPC = 28, ECONNABORTED = 103, ENOBUFS = 105 }

-- Serves, and connects some clients one after the other; says how each fared.
local program = [[
  local cws = require("cws")
  local count, size = tonumber(arg[1]), tonumber(arg[2])
  local server = assert(cws.listen(arg[3]))
  server:handle("/", function(req)
    local ws = assert(req:upgrade())
    for message, kind in ws:each() do ws:send(message, kind) end
  end)
  local url = "ws://" .. server:address():gsub("0%.0%.0%.0", "127.0.0.1") .. "/"
  local ticker = cws.ticker(0.05) -- libev tells what epoll refused after its next sleep
  local function try(i)
    local ws, message = cws.connect(url, { connect_timeout = 1, handshake_timeout = 1 })
    if not ws then return message end
    local text = string.char(64 + i):rep(size) .. i
    assert(ws:send(text, "binary"))
    local got, why = ws:receive(30)
    ws:close(1000, "", 1)
    if got == nil then return why end
    return got == text and "ok" or "wrong"
  end
  for i = 1, count do print(i, try(i)) end
  local start = os.clock()
  ticker:stop()
  cws.sleep(0.1)
  print("busy", os.clock() - start > 0.05)
]]

local function run(faults, count, size, address)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(program)
  file:close()
  faults.LD_PRELOAD, faults.CWS_PRELOAD = library, library
  local argv = { process.lua, path, tostring(count or 5), tostring(size or 10), address or "127.0.0.1:0" }
  local status, out, err = process.run(argv, { env = faults })
  os.remove(path)
  assert.equal(0, status, err)
  local ok = select(2, out:gsub("\tok\n", "\n"))
  return ok, out, err
end

local test = process.exists("cc") and io.open("/proc/self/fd") and net.it or pending

describe("a system call that fails:", function()
  net.guard()
  process.guard()

  test("the library for that", function()
    local status, _, err = process.run({ "cc", "-shared", "-fPIC", "-O1", "-o", library, "spec/support/faults.c", "-ldl" })
    assert.equal(0, status, err)
    assert.equal(5, (run({}))) -- nothing fails
  end)

  for name, of_peer in pairs({
    EINTR = true, ECONNABORTED = true, EPERM = true, EMFILE = false, ENOBUFS = false,
  }) do
    test("accept: " .. name .. ", B249", function()
      local ok, out, err = run({ FAULT_CALL = "accept4", FAULT_ERRNO = errnos[name], FAULT_FROM = 2, FAULT_TIMES = 2 })
      assert.equal(5, ok, out)
      assert.equal("busy\tfalse", out:match("busy%C\t%a+") or out:match("busy\t%a+"))
      if of_peer then
        assert.equal("", err)
      else
        assert.matches("^accept: 127%.0%.0%.1:%d+: [%a ]+\n$", err) -- once
      end
    end)
  end

  test("epoll_ctl for one descriptor, whichever it is, B262", function()
    for from = 1, 10 do
      local ok, out, err = run({ FAULT_CALL = "epoll_ctl", FAULT_ERRNO = errnos.ENOSPC, FAULT_FROM = from }, 3)
      assert.is_true(ok >= 2, ("call %d: %s%s"):format(from, out, err))
      assert.matches("busy\tfalse", out)
      assert.not_matches("wrong", out)
      assert.not_matches("timeout", out) -- it is seen at once
    end
  end, 30)

  test("socket: a system without IPv6 listens on every address of IPv4", function()
    local ok, out = run({ FAULT_CALL = "socket", FAULT_ERRNO = errnos.EAFNOSUPPORT, FAULT_TIMES = 100 }, 2, 10, ":0")
    assert.equal(2, ok, out)
  end)

  test("nothing but a byte at a time, and every second call in vain, B263", function()
    local ok, out, err = run({ FAULT_TRICKLE = 1 }, 3, 8000)
    assert.equal(3, ok, out)
    assert.matches("busy\tfalse", out)
    assert.equal("", err)
  end, 30)
end)
