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

-- --- annotations and documentation -------------------------------------------

package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
package.cpath = "build/lint/gcc/?.so;build/lint/clang/?.so;build/?.so;" .. package.cpath
local loaded, cws = pcall(require, "cws")
if not loaded then
  say("cws does not load: %s", tostring(cws))
  return
end
local core = require("cws.core")

-- members[class][name]: annotated as a field or as a function. defined[name]: a
-- function of that name, whosever, has a comment.
local members, defined = {}, {}

local function add(class, name)
  members[class] = members[class] or {}
  members[class][name] = true
end

local function annotations(path)
  local class, before, classes = nil, "", {}
  for _, line in ipairs(list("cat '" .. path .. "'")) do
    class = line:match("^%-%-%-@class ([%w_.]+)") or class
    local field = line:match("^%-%-%-@field ([%w_]+)%?? ")
    local variable = line:match("^local ([%w_]+) = ")
    local owner, name = line:match("^%s*function ([%w_]+)[.:]([%w_]+)%(")
    name = name or line:match("^local function ([%w_]+)%(")
    if field then
      add(class, field)
    elseif variable and before:find("^%-%-%-") then
      classes[variable] = class
    elseif name and before:find("^%-%-%-") then
      defined[name] = true
      if classes[owner] then add(classes[owner], name) end
    end
    before = line
  end
end

for _, path in ipairs(list("ls lua/cws/*.lua")) do
  annotations(path)
end

local api = read("docs/api.md") or ""

local function in_api(name)
  return api:find("\n###? [^\n]*`" .. name:gsub("%p", "%%%0") .. "[(`]")
end

-- The functions of cws, under the names that they are defined by.
local aliases = {}
for name, value in read("lua/cws/init.lua"):match("local cws = (%b{})"):gmatch("\n  ([%w_]+) = ([%w_.]+),") do
  aliases[name] = value:match("[%w_]+$")
end

local function check_functions(prefix, functions)
  for name, value in pairs(functions) do
    if type(value) == "function" then
      if not in_api(prefix .. name) then say("docs/api.md: no heading for %s", prefix .. name) end
      if not defined[aliases[name] or name] then say("lua/cws: no annotation for %s", prefix .. name) end
    end
  end
end

check_functions("cws.", cws)
check_functions("cws.escape.", cws.escape)

-- Each class: its name in the reference, in the annotations, its methods, and
-- those of them that are for cws itself.
local server = assert(cws.listen("127.0.0.1:0"))
local methods_of = debug.getregistry()
local classes = {
  { "ws", "cws.ws", core.ws, "" },
  { "req", "cws.request", core.request, "respond check_upgrade offered_protocols same_origin switch" },
  { "res", "cws.response", require("cws.response"), "new send finish is_written set" },
  { "server", "cws.server", getmetatable(server).__index, "" },
  { "reader", "cws.reader", methods_of["cws.reader"].__index, "" },
  { "writer", "cws.writer", methods_of["cws.writer"].__index, "" },
  { "ch", "cws.channel", require("cws.channel").class, "offer" },
  { "ticker", "cws.source", getmetatable(cws.after(math.huge)), "" },
  { "task", "cws.task", methods_of["cws.task"].__index, "" },
  { "prepared", "cws.prepared", methods_of["cws.prepared"].__index, "" },
}
server:stop(0)

for _, class in ipairs(classes) do
  local short, name, methods, own = table.unpack(class)
  local annotated = members[name] or {}
  for method, value in pairs(methods) do
    local public = type(value) == "function" and not method:find("^__")
      and not (" " .. own .. " "):find(" " .. method .. " ", 1, true)
    if public and not in_api(short .. ":" .. method) then
      say("docs/api.md: no heading for %s:%s", short, method)
    end
    if public and not annotated[method] then
      say("lua/cws: no annotation for %s:%s in the class %s", short, method, name)
    end
  end
end

-- And nothing that is not there.
for heading in api:gmatch("\n### ([^\n]*)") do
  for short, method in heading:gmatch("`([%w]+):([%w_]+)[(`]") do
    local found = false
    for _, class in ipairs(classes) do
      found = found or (class[1] == short and class[3][method] ~= nil)
    end
    if not found then say("docs/api.md: there is no %s:%s", short, method) end
  end
end
for name in pairs(members["cws.ws"]) do
  if core.ws[name] == nil then say("lua/cws/init.lua: there is no ws:%s", name) end
end

for name, value in pairs(core) do
  if type(value) == "function" and not read("lua/cws/core_meta.lua"):find("function core%." .. name .. "%(") then
    say("lua/cws/core_meta.lua: no function core.%s", name)
  end
end
for name in pairs(core.defaults) do
  if not members["cws.limits"][name] then say("lua/cws/init.lua: no option %s in cws.limits", name) end
end
for name in pairs(core.defaults.compression) do
  if not members["cws.compression"][name] then say("lua/cws/init.lua: no option compression.%s", name) end
end
