std = "lua54"
max_line_length = 120
files["spec"] = { std = "+busted" }
files["lua/cws/core_meta.lua"] = { ignore = { "211", "212", "241" } }
