-- An echo server with a page to try it: the mirror of gorilla/websocket's
-- examples/echo/server.go. Run it, then open http://localhost:8080/.

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

local function echo(req)
  local ws, err = req:upgrade()
  if not ws then
    cws.log("upgrade:", err)
    return
  end
  while true do
    local message, type_or_err = ws:receive()
    if not message then
      cws.log("read:", type_or_err)
      break
    end
    cws.log("recv:", message)
    local ok, write_err = ws:send(message, type_or_err)
    if not ok then
      cws.log("write:", write_err)
      break
    end
  end
end

local page = cws.template([[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>cws echo</title>
<script>
window.addEventListener("load", function(evt) {

    var output = document.getElementById("output");
    var input = document.getElementById("input");
    var ws;

    var print = function(message) {
        var d = document.createElement("div");
        d.textContent = message;
        output.appendChild(d);
        output.scroll(0, output.scrollHeight);
    };

    document.getElementById("open").onclick = function(evt) {
        if (ws) {
            return false;
        }
        ws = new WebSocket({{url:js}});
        ws.onopen = function(evt) {
            print("OPEN");
        };
        ws.onclose = function(evt) {
            print("CLOSE");
            ws = null;
        };
        ws.onmessage = function(evt) {
            print("RESPONSE: " + evt.data);
        };
        ws.onerror = function(evt) {
            print("ERROR: the connection failed");
        };
        return false;
    };

    document.getElementById("send").onclick = function(evt) {
        if (!ws || ws.readyState !== WebSocket.OPEN) {
            return false;
        }
        print("SEND: " + input.value);
        ws.send(input.value);
        return false;
    };

    document.getElementById("close").onclick = function(evt) {
        if (!ws) {
            return false;
        }
        ws.close();
        return false;
    };

});
</script>
</head>
<body>
<table>
<tr><td valign="top" width="50%">
<p>Click "Open" to create a connection to the server,
"Send" to send a message to the server and "Close" to close the connection.
You can change the message and send multiple times.
</p>
<form>
<button id="open">Open</button>
<button id="close">Close</button>
<p><input id="input" type="text" value="Hello world!">
<button id="send">Send</button>
</p>
</form>
</td><td valign="top" width="50%">
<div id="output" style="max-height: 70vh; overflow-y: scroll;"></div>
</td></tr></table>
</body>
</html>
]])

local function home(req, res)
  local scheme = req.tls and "wss://" or "ws://"
  res:header("Content-Type", "text/html; charset=utf-8")
  res:write(page({ url = scheme .. req.host .. "/echo" }))
end

local addr = flags()
local server, err = cws.listen(addr)
if not server then
  cws.log(err)
  os.exit(1)
end
server:handle("/echo", echo)
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
