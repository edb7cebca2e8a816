-- Header fields that a program gives: checked, and made a list for C.

local core = require("cws.core")

local fields = {}

-- Written by cws alone: they frame the message or belong to the handshake.
local reserved = {
  ["connection"] = true,
  ["content-length"] = true,
  ["date"] = true,
  ["host"] = true,
  ["transfer-encoding"] = true,
  ["upgrade"] = true,
}

---Why that field cannot be set; nil when it can.
---@param name any
---@param value any
---@return string?
function fields.problem(name, value)
  if type(name) ~= "string" or not core.is_token(name) then
    return "a field name that is no token"
  end
  local lower = name:lower()
  if reserved[lower] or lower:find("^sec%-websocket%-") then
    return ("field '%s' is set by cws"):format(name)
  elseif type(value) ~= "string" then
    return ("field '%s' is a %s, not a string"):format(name, type(value))
  elseif not core.is_value(value) then
    return ("field '%s' has control bytes in its value"):format(name)
  end
  return nil
end

---Adds a field with one value, or with a list of them.
---@param list string[]
---@param name any
---@param value any
---@return string? problem
local function add(list, name, value)
  local values = type(value) == "table" and value or { value }
  for _, each in ipairs(values) do
    local problem = fields.problem(name, each)
    if problem then return problem end
    list[#list + 1] = name
    list[#list + 1] = each
  end
  return nil
end

---{ ["X-A"] = "1", ["X-B"] = { "2", "3" } } as a list: name, value, name, value.
---@param headers table<string, string|string[]>?
---@return string[]? list, string? problem
function fields.list(headers)
  if headers == nil then return nil end
  if type(headers) ~= "table" then return nil, "table expected, got " .. type(headers) end
  local names, list = {}, {}
  for name in pairs(headers) do
    if type(name) ~= "string" then return nil, "a field name that is no token" end
    names[#names + 1] = name
  end
  table.sort(names) -- the same order in every run
  for _, name in ipairs(names) do
    local problem = add(list, name, headers[name])
    if problem then return nil, problem end
  end
  return list
end

return fields
