-- The echo client that a conformance suite tests: asks how many cases there are,
-- plays each, then asks for the report. For the Autobahn suite: wstest -m
-- fuzzingserver.

if _VERSION ~= "Lua 5.4" then
  io.stderr:write("cws needs Lua 5.4, but this is ", _VERSION, ". Try: lua5.4 ", arg[0], "\n")
  os.exit(1)
end

-- In a checkout the module beside this file is used, elsewhere the installed one.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
local function exists(path)
  local file = io.open(here .. path)
  return file and file:close()
end
if exists("/../lua/cws/init.lua") and exists("/../build/cws/core.so") then
  package.path = here .. "/../lua/?.lua;" .. here .. "/../lua/?/init.lua;" .. package.path
  package.cpath = here .. "/../build/?.so;" .. package.cpath
end
local found, cws = pcall(require, "cws")
if not found then
  io.stderr:write("cannot load cws: ", (tostring(cws):match("[^\n]*"):gsub(":$", "")),
    " (run `make` in its checkout, `make install` to use it elsewhere)\n")
  os.exit(1)
end

local function flags(default)
  local addr, compression = default, true
  local i = 1
  while arg[i] do
    local name, value = arg[i]:match("^%-%-?([%w-]+)=?(.*)$")
    if name == "h" or name == "help" then
      print("usage: lua5.4 " .. arg[0] .. " [-addr host:port] [--no-compression]   (default " .. default .. ")")
      os.exit(0)
    elseif name == "no-compression" then
      compression = false
    elseif name ~= "addr" then
      io.stderr:write("unknown argument: ", arg[i], " (try -h)\n")
      os.exit(2)
    else
      if not arg[i]:find("=", 1, true) then
        i = i + 1
        value = arg[i]
      end
      if not value or value == "" then
        io.stderr:write("flag needs an argument: -addr (try -h)\n")
        os.exit(2)
      end
      addr = value
    end
    i = i + 1
  end
  return addr, compression
end

local addr, compression = flags("localhost:9001")
-- A suite may be busy for long before it answers: it writes its reports first.
local options = { max_message = 64 * 1024 * 1024, compression = compression, handshake_timeout = 120 }

local function dial(path)
  local valid, ws, err = pcall(cws.connect, "ws://" .. addr .. path, options)
  if not valid or not ws then
    cws.log("dial:", valid and err or ws)
    os.exit(1)
  end
  return ws
end

local ws = dial("/getCaseCount")
local count = math.tointeger(tonumber((ws:receive())))
ws:close()
if not count then
  cws.log("getCaseCount: no number")
  os.exit(1)
end

for case = 1, count do
  local conn = dial("/runCase?case=" .. case .. "&agent=cws")
  for message, type in conn:each() do
    if not conn:send(message, type) then
      break
    end
  end
  conn:close()
end

dial("/updateReports?agent=cws"):close()
cws.log(count .. " cases played")
