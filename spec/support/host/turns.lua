-- B242: the same with a loop that the host turns, a little at a time.
local cws = require("cws")

local server = assert(cws.listen("127.0.0.1:0"))
server:handle("/", function(req)
  local ws = assert(req:upgrade())
  for message, type in ws:each() do
    ws:send(message, type)
  end
end)

local done
cws.spawn(function()
  local ws = assert(cws.connect("ws://" .. server:address() .. "/"))
  for i = 1, 50 do
    ws:send(("x"):rep(i))
    assert(#ws:receive(10) == i)
  end
  assert(ws:close())
  assert(server:stop())
  done = true
end)

function turn() -- luacheck: ignore
  cws.step(0.001)
  return done
end
