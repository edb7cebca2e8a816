-- Debian's lua-http. lua_http.lua PORT
local server = require("http.server")
local websocket = require("http.websocket")

local s = assert(server.listen({
  host = "127.0.0.1",
  port = tonumber(arg[1]),
  tls = false,
  onstream = function(_, stream)
    local headers = stream:get_headers()
    local ws = headers and websocket.new_from_stream(stream, headers)
    if not ws or not ws:accept() then
      return
    end
    for message, opcode in ws:each() do
      ws:send(message, opcode)
    end
    ws:close()
  end,
  onerror = function() end,
}))
assert(s:loop())
