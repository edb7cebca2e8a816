-- The log: one escaped line to stderr for each call.

local core = require("cws.core")

local log = {}

---tostring that never raises.
---@param value any
---@return string
local function text_of(value)
  local ok, text = pcall(tostring, value)
  return ok and text or ("(a %s whose __tostring raises)"):format(type(value))
end

---Writes its arguments, with spaces between, as one line to stderr. Control
---bytes become \xNN and the line is cut at 512 bytes, so that what a peer sent
---can be logged as it is.
---@param ... any
function log.write(...)
  local parts = table.pack(...)
  for i = 1, parts.n do
    parts[i] = text_of(parts[i])
  end
  io.stderr:write(core.escape(table.concat(parts, " ")) .. "\n")
end

---A message handler for xpcall: the error with its traceback.
---@param err any
---@return string
function log.traceback(err)
  return debug.traceback(text_of(err), 2)
end

return log
