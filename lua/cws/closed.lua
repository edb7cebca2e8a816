-- Questions about the end of a connection.

local check = require("cws.check")

local closed = {}

---@param name string
---@param code any
---@param ... integer
---@return boolean
local function listed(name, code, ...)
  local found = false
  for i = 1, select("#", ...) do
    local expected = select(i, ...)
    if math.type(expected) ~= "integer" then
      check.type_error(i + 2, name, "integer", expected, 2)
    end
    found = found or code == expected
  end
  return found
end

---True when an error is the end of a connection with one of the codes.
---@param kind cws.kind? the third result of the call that failed
---@param code integer? the fourth one
---@param ... integer close codes
---@return boolean
function closed.is_close(kind, code, ...)
  local found = listed("is_close", code, ...)
  return kind == "closed" and found
end

---True when an error is the end of a connection with none of the codes.
---@param kind cws.kind?
---@param code integer?
---@param ... integer close codes that are to be expected
---@return boolean
function closed.is_unexpected_close(kind, code, ...)
  local found = listed("is_unexpected_close", code, ...)
  return kind == "closed" and code ~= nil and not found
end

return closed
