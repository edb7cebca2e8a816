#!/bin/sh
# Says what was built.   built.sh BUILD LUA HAVE_ZLIB
LUA_PATH="lua/?.lua;lua/?/init.lua" LUA_CPATH="$1/?.so" "$2" - "$1" <<'END'
local versions = require("cws").versions()
local parts = {}
for name, version in pairs(versions) do
  parts[#parts + 1] = name .. " " .. tostring(version)
end
table.sort(parts)
print("built " .. arg[1] .. "/cws/core.so: " .. table.concat(parts, ", "))
END
[ "$3" = yes ] ||
    echo "zlib.h was not found: permessage-deflate is left out"
