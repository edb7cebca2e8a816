-- A chat: one page, everybody sees what everybody writes. Who reads too slowly
-- is dropped, as in gorilla/websocket's chat example.

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

local clients = {} -- a set: connection → true

local function chat(req)
  local ws, err = req:upgrade({ max_message = 512, max_queue = 65536 })
  if not ws then
    cws.log("upgrade:", err)
    return
  end
  clients[ws] = true
  for message in ws:each() do
    -- never waits; a client with more than max_queue unsent bytes is closed (1013)
    cws.broadcast(clients, message)
  end
  clients[ws] = nil
  if cws.is_unexpected_close("closed", ws:close_code(), 1000, 1001, 1005) then
    cws.log("chat:", ws:close_code(), ws:close_reason())
  end
end

local page = cws.template([[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>cws chat</title>
<style>
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; padding: 0.5em; box-sizing: border-box; }
#log { flex: 1; overflow: auto; overflow-wrap: anywhere; padding: 0.5em; }
#form { display: flex; gap: 0.5em; }
#msg { flex: 1; min-width: 0; }
</style>
<script>
window.onload = function () {
    var msg = document.getElementById("msg");
    var log = document.getElementById("log");

    function appendLog(text) {
        var item = document.createElement("div");
        item.textContent = text;
        log.appendChild(item);
        log.scrollTop = log.scrollHeight;
    }

    var conn = new WebSocket({{url:js}});
    conn.onclose = function () {
        appendLog("Connection closed.");
    };
    conn.onmessage = function (evt) {
        appendLog(evt.data);
    };

    document.getElementById("form").onsubmit = function () {
        if (conn.readyState === WebSocket.OPEN && msg.value) {
            conn.send(msg.value);
            msg.value = "";
        }
        return false;
    };
};
</script>
</head>
<body>
<div id="log"></div>
<form id="form">
<input type="submit" value="Send">
<input type="text" id="msg" size="64" maxlength="120" autofocus>
</form>
</body>
</html>
]])

local function home(req, res)
  local scheme = req.tls and "wss://" or "ws://"
  res:header("Content-Type", "text/html; charset=utf-8")
  res:write(page({ url = scheme .. req.host .. "/chat" }))
end

local addr = flags()
local server, err = cws.listen(addr)
if not server then
  cws.log(err)
  os.exit(1)
end
server:handle("/chat", chat)
server:handle("/", home)
local name = addr:match("^(.*):") or ""
local port = server:address():match("%d+$")
local url = "http://" .. (name == "" and "localhost" or name) .. ":" .. port .. "/"
cws.spawn(cws.log, "listening on " .. url .. " (Ctrl-C to stop)") -- when it serves
local ok, serve_err = server:serve()
if not ok then
  cws.log(serve_err)
  os.exit(1)
end
