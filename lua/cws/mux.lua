-- Which handler answers which path, by the rules of Go's ServeMux: a pattern
-- that ends in "/" matches every path that begins with it, any other only
-- itself; the longest match wins. A path is matched as it is, never cleaned and
-- never redirected: what a guard sees is what is matched.

local check = require("cws.check")

---@class cws.mux
---@field private exact table<string, function>
---@field private prefixes string[] longest first
local Mux = { __name = "cws.mux" }
Mux.__index = Mux

---@return cws.mux
function Mux.new()
  return setmetatable({ exact = {}, prefixes = {} }, Mux)
end

---Raises when the pattern is taken, or not one.
---@param pattern string
---@param fn cws.handler
---@param name? string the function that the program called
---@param level? integer
function Mux:handle(pattern, fn, name, level)
  name, level = name or "handle", (level or 1) + 1
  check.type(1, name, "string", pattern, level)
  check.type(2, name, "function", fn, level)
  if pattern:sub(1, 1) ~= "/" then
    check.argument(1, name, ("pattern '%s' does not begin with '/'"):format(pattern), level)
  elseif self.exact[pattern] then
    check.argument(1, name, ("pattern '%s' has a handler already"):format(pattern), level)
  end
  self.exact[pattern] = fn
  if pattern:sub(-1) ~= "/" then return end
  local prefixes = self.prefixes
  prefixes[#prefixes + 1] = pattern
  table.sort(prefixes, function(a, b) return #a > #b end)
end

---@param path string
---@return cws.handler? handler, string? pattern
function Mux:match(path)
  local fn = self.exact[path]
  if fn then return fn, path end
  for _, prefix in ipairs(self.prefixes) do
    if path:sub(1, #prefix) == prefix then return self.exact[prefix], prefix end
  end
  return nil
end

return Mux
