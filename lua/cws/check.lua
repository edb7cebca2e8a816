-- Misuse raises: these build the texts, in the form of Lua's own.

local check = {}

---What Lua's own messages call the type of a value.
---@param value any
---@return string
local function name_of(value)
  local meta = getmetatable(value)
  local name = type(meta) == "table" and rawget(meta, "__name")
  return type(name) == "string" and name or type(value)
end

---Raises `bad argument #2 to 'send' (...)` at the caller of the caller.
---@param index integer
---@param fn string
---@param text string
---@param level? integer 1 is the caller's caller
function check.argument(index, fn, text, level)
  error(("bad argument #%d to '%s' (%s)"):format(index, fn, text), (level or 1) + 2)
end

---@param index integer
---@param fn string
---@param expected string
---@param value any
---@param level? integer
function check.type_error(index, fn, expected, value, level)
  local got = value == nil and "no value" or name_of(value)
  check.argument(index, fn, expected .. " expected, got " .. got, (level or 1) + 1)
end

---@param index integer
---@param fn string
---@param expected type
---@param value any
---@param level? integer
function check.type(index, fn, expected, value, level)
  if type(value) ~= expected then
    check.type_error(index, fn, expected, value, (level or 1) + 1)
  end
end

---Raises `bad option 'origins' to 'upgrade' (...)`.
---@param name string
---@param fn string
---@param text string
---@param level? integer
function check.option(name, fn, text, level)
  error(("bad option '%s' to '%s' (%s)"):format(name, fn, text), (level or 1) + 2)
end

---@param name string
---@param fn string
---@param expected string
---@param value any
---@param level? integer
function check.option_type(name, fn, expected, value, level)
  check.option(name, fn, expected .. " expected, got " .. name_of(value), (level or 1) + 1)
end

---A time in seconds: nil, 0 to 1e9, or math.huge.
---@param index integer
---@param fn string
---@param value any
---@param level? integer
function check.seconds(index, fn, value, level)
  if value == nil then return end
  level = (level or 1) + 1
  check.type(index, fn, "number", value, level)
  if not (value >= 0) or (value > 1e9 and value ~= math.huge) then
    check.argument(index, fn, "seconds from 0 to 1e9, or math.huge, expected", level)
  end
end

---What a call of the C module through pcall gave; an error of it is raised
---again where the program called us. A tail call counts as level 0.
---@param fn string the name that the program knows
---@param level integer
---@param ok boolean
---@param ... any
---@return any ...
function check.passed(fn, level, ok, ...)
  if ok then return ... end
  local message = ...
  if type(message) == "string" then
    message = message:gsub("'cws%.core%.[%w_]+'", "'" .. fn .. "'"):gsub("to '%?'", "to '" .. fn .. "'")
  end
  error(message, level + 2)
end

return check
