-- Runs on_ping, on_pong and on_close of one connection, in the order of arrival.

local log = require("cws.log")

local callbacks = {}

---@param name string?
---@param fn function
---@param ... any
---@return boolean more, boolean? ok, string? traceback
local function call(name, fn, ...)
  if not name then return false end
  return true, xpcall(fn, log.traceback, ...)
end

---C starts it in a task of its own; `next` gives name, function and arguments of
---the next event, or nil. An error is logged and closes with 1011.
---@param write fun(line: string)
---@return fun(ws: cws.ws, next: fun(): string?, function, ...)
function callbacks.runner(write)
  return function(ws, next)
    while true do
      local more, ok, traceback = call(next())
      if not more then return end
      if not ok then
        write(traceback --[[@as string]])
        ws:close(1011, "callback failed", 0)
      end
    end
  end
end

return callbacks
