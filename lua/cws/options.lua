-- Options that are policy stay in Lua; all others are limits, which C checks.

local check = require("cws.check")

local options = {}

---Splits a table of options.
---@param given any
---@param fn string the function that the program called
---@param index integer which argument it is
---@param policy table<string, true>
---@return table own, table? limits
function options.split(given, fn, index, policy, level)
  if given == nil then return {}, nil end
  level = (level or 1) + 1
  check.type(index, fn, "table", given, level)
  local own, limits = {}, nil
  for name, value in pairs(given) do
    if type(name) ~= "string" then
      check.argument(index, fn, "option names are strings", level)
    elseif policy[name] then
      own[name] = value
    else
      limits = limits or {}
      limits[name] = value
    end
  end
  return own, limits
end

return options
