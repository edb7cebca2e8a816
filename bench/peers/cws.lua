-- The README's echo, and a broadcast. cws.lua PORT [--deflate | --takeover]
package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
package.cpath = "build/?.so;" .. package.cpath
local cws = require("cws")

local subscribers = {}
local compression = arg[2] ~= nil or nil

cws.serve("127.0.0.1:" .. arg[1], {
  ["/echo"] = function(req)
    local ws = req:upgrade()
    if not ws then
      return
    end
    for message, type in ws:each() do
      ws:send(message, type)
    end
  end,
  ["/sub"] = function(req)
    local ws = assert(req:upgrade())
    subscribers[ws] = true
    ws:receive()
    subscribers[ws] = nil
  end,
  ["/pub"] = function(req)
    local ws = assert(req:upgrade())
    for message, type in ws:each() do
      cws.broadcast(subscribers, message, type)
      ws:send(message, type)
    end
  end,
  ["/task"] = function(req) -- another coroutine sends
    local ws = assert(req:upgrade())
    local messages = cws.channel(16)
    cws.spawn(function()
      for message in messages:each() do
        ws:send(message)
      end
    end)
    for message in ws:each() do
      messages:send(message)
    end
    messages:close()
  end,
}, { max_message = 64 * 1024 * 1024, compression = compression })
