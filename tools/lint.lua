-- What tools/lint.sh checks in the Lua files: syntax, globals, and that every
-- public function stands in docs/api.md and in the annotations.
-- Prints what is wrong; prints nothing when all is well.

local function say(...)
  print((string.format(...)))
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("a")
  file:close()
  return text
end

local function list(command)
  local lines = {}
  for line in assert(io.popen(command)):lines() do
    lines[#lines + 1] = line
  end
  return lines
end

-- Specs see busted's functions, and `describe` blocks its assert.
local BUSTED = "describe it before_each after_each setup teardown lazy_setup " ..
  "lazy_teardown finally pending spy stub mock insulate expose randomize " ..
  "strict_setup strict_teardown"
local known = {}
for name in pairs(_G) do
  known[name] = true
end
for _, name in ipairs({ "unpack", "setfenv", "loadstring" }) do
  known[name] = true -- of other versions, for the examples' first lines
end

-- Globals by name, from the compiler's own listing.
local function globals(path)
  local spec = path:find("^spec/") ~= nil
  for _, line in ipairs(list("luac5.4 -l -l -p '" .. path .. "' 2>&1")) do
    local number, op, name = line:match("%[(%d+)%]%s+([GS]ETTABUP)%s.*; _ENV \"([^\"]+)\"")
    local allowed = known[name] and op == "GETTABUP"
      or spec and (" " .. BUSTED .. " "):find(" " .. tostring(name) .. " ", 1, true)
    if name and not allowed then
      say("%s:%s: global '%s'", path, number, name)
    elseif line:find("^luac") then
      say("%s", line)
    end
  end
end

local function style(path)
  local text = read(path)
  for number, line in (function()
    local n = 0
    local next_line = text:gmatch("([^\n]*)\n?")
    return function()
      local line = next_line()
      n = n + 1
      if line then
        return n, line
      end
    end
  end)() do
    if line:find("\t") or line:find("%s$") then
      say("%s:%d: tab, or space at the end of the line", path, number)
    end
  end
end

for _, path in ipairs(list("ls lua/cws/*.lua examples/*.lua spec/*.lua spec/support/*.lua tools/*.lua")) do
  globals(path)
  style(path)
end

-- --- the documentation ------------------------------------------------------

package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
package.cpath = "build/lint/gcc/?.so;build/lint/clang/?.so;build/?.so;" .. package.cpath
local loaded, cws = pcall(require, "cws")
if not loaded then
  say("cws does not load: %s", tostring(cws))
  return
end
local core = require("cws.core")
local api = read("docs/api.md") or ""
local meta = {}
for _, path in ipairs(list("ls lua/cws/*.lua")) do
  meta[#meta + 1] = read(path)
end
meta = table.concat(meta, "\n")

local function in_api(name)
  return api:find("\n###? `" .. name:gsub("%p", "%%%0") .. "[(`]")
end

for name, value in pairs(cws) do
  if type(value) == "function" and not in_api("cws." .. name) then
    say("docs/api.md: no heading for cws.%s", name)
  end
end
for class, methods in pairs({ ws = core.ws, req = core.request, server = core.server }) do
  for name, value in pairs(methods) do
    local internal = meta:find("---@private\n[^\n]*function [%w_]+[.:]" .. name .. "%(")
    if type(value) == "function" and not internal and not in_api(class .. ":" .. name) then
      say("docs/api.md: no heading for %s:%s", class, name)
    end
    if type(value) == "function" and not meta:find("function [%w_]+[.:]" .. name .. "%(") then
      say("lua/cws: no annotation for %s:%s", class, name)
    end
  end
end
for name, value in pairs(core) do
  if type(value) == "function" and not meta:find("function core%." .. name .. "%(") then
    say("lua/cws/core_meta.lua: no function core.%s", name)
  end
end
