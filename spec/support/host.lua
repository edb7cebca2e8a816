-- Builds spec/support/host.c and runs its scripts with it.
local process = require("spec.support.process")

local M = {}

local mode = os.getenv("CWS_MODE") or "plain"
local build = os.getenv("CWS_BUILD") or "build"

---The flags that `make` found for Lua's headers.
local function include_flags()
  for _, path in ipairs({ build .. "/config.mk", build .. "/../../config.mk" }) do
    local file = io.open(path)
    local text = file and file:read("a")
    if file then file:close() end
    local flags = text and text:match("LUA_CFLAGS := ([^\n]*)")
    if flags then return flags end
  end
  return "-I/usr/include/lua5.4"
end

local path ---@type string? of the program
local problem

local function compile(library)
  local out = os.tmpname()
  local sanitize = mode == "asan" and "-fsanitize=address,undefined" or ""
  local status, _, err = process.run({ "sh", "-c",
    ("%s -std=c11 -D_GNU_SOURCE -g -Wl,-E %s %s -o %s %s %s -lm -ldl -lpthread")
    :format(os.getenv("CC") or "cc", sanitize, include_flags(), out, "spec/support/host.c", library) },
      { seconds = 60 })
  if status == 0 then return out end
  os.remove(out)
  problem = err
end

---Nil, and why, where Lua cannot be embedded.
---@return string? path, string? problem
function M.program()
  if not path and not problem then
    for _, library in ipairs({ "-llua5.4", "-llua-5.4", "-llua" }) do
      path = path or compile(library)
    end
  end
  return path, problem
end

-- Under valgrind the interpreter is a script that starts it there.
local function wrapped(program)
  local file = mode == "valgrind" and io.open(process.lua)
  if not file then return { program } end
  local line = file:read("a"):match("\nexec (.-) \"[^\"]*\" \"%$@\"")
  file:close()
  return { "sh", "-c", "exec " .. line .. " '" .. program .. "' \"$@\"", "host" }
end

---Runs it; the arguments are those of host.c, the last one a script's name.
---@return integer status, string out, string err
function M.run(...)
  local argv = wrapped(assert(M.program()))
  local given = { ... }
  given[#given] = "spec/support/host/" .. given[#given] .. ".lua"
  table.move(given, 1, #given, #argv + 1, argv)
  return process.run(argv, { seconds = 60 })
end

function M.remove()
  if path then os.remove(path) end
  path = nil
end

return M
