-- Sends the time to an echo server every second until Ctrl-C: the mirror of
-- gorilla/websocket's examples/echo/client.go.

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

local function flags()
  local addr = "localhost:8080"
  local i = 1
  while arg[i] do
    local name, value = arg[i]:match("^%-%-?([%w-]+)=?(.*)$")
    if name == "h" or name == "help" then
      print("usage: lua5.4 " .. arg[0] .. " [-addr host:port]   (default localhost:8080)")
      os.exit(0)
    elseif name ~= "addr" then
      io.stderr:write("unknown argument: ", arg[i], " (try -h)\n")
      os.exit(2)
    elseif not arg[i]:find("=", 1, true) then
      i = i + 1
      value = arg[i]
    end
    if not value or value == "" then
      io.stderr:write("flag needs an argument: -addr (try -h)\n")
      os.exit(2)
    end
    addr = value
    i = i + 1
  end
  return addr
end

-- As Go's Time.String: "2019-06-24 22:15:34.7045514 +0800 CST m=+1.318580901".
local function time_string(monotonic)
  local seconds, nanoseconds = cws.time()
  local fraction = string.format(".%09d", nanoseconds):gsub("%.?0+$", "")
  local date = os.date("%Y-%m-%d %H:%M:%S", seconds) .. fraction
  return date .. os.date(" %z %Z", seconds) .. string.format(" m=%+.9f", monotonic)
end

local addr = flags()
local interrupt = cws.signal("INT")

local url = "ws://" .. addr .. "/echo"
cws.log("connecting to " .. url)

local valid, ws, err = pcall(cws.connect, url)
if not valid then
  ws, err = nil, ws
end
if not ws then
  cws.log("dial:", err)
  os.exit(1)
end

local done = cws.channel()

cws.spawn(function()
  while true do
    local message, read_err = ws:receive()
    if not message then
      cws.log("read:", read_err)
      break
    end
    cws.log("recv:", message)
  end
  done:close()
end)

local ticker = cws.ticker(1)

while true do
  local which, t = cws.select({ done, ticker, interrupt })
  if which == done then
    break
  elseif which == ticker then
    local ok, write_err = ws:send(time_string(t))
    if not ok then
      cws.log("write:", write_err)
      break
    end
  elseif which == interrupt then
    cws.log("interrupt")
    -- Cleanly close the connection by sending a close frame and then waiting
    -- (with timeout) for the server to close the connection.
    local ok, close_err, kind = ws:close(1000, "", 0)
    if not ok and kind ~= "timeout" then
      cws.log("write close:", close_err)
      break
    end
    cws.select({ done, timeout = 1 })
    break
  end
end
ticker:stop()
ws:terminate()
