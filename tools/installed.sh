#!/bin/sh
# Says where the module went, and whether that Lua will look there.
#   installed.sh LUA LUADIR LIBDIR
"$1" - "$1" "$2" "$3" <<'END'
local lua, luadir, libdir = arg[1], arg[2], arg[3]
local seen = package.path:find(luadir .. "/?/init.lua", 1, true)
  and package.cpath:find(libdir .. "/?.so", 1, true)
print("installed in " .. luadir .. "/cws and " .. libdir .. "/cws")
-- LuaRocks installs into its own tree and links the files from there.
if not seen and not luadir:find("/rocks%-5%.4/") then
  print(lua .. " does not look there by itself; before starting it:")
  print(('  export LUA_PATH="%s/?.lua;%s/?/init.lua;;"'):format(luadir, luadir))
  print(('  export LUA_CPATH="%s/?.so;;"'):format(libdir))
end
END
