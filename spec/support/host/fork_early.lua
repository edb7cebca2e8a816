-- B239: a child of a process that has only loaded the module may use it.
local cws = require("cws")
local host = host -- luacheck: ignore

local pid = host.fork()
local server = assert(cws.listen("127.0.0.1:0"))
server:handle("/", function(req) req:upgrade():close() end)
local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
assert(ws:receive(5) == nil and ws:close_code() == 1000)
assert(server:stop())
assert(pid == 0 or host.wait(pid) == 0)
