-- B231: the state is closed in the middle of everything.
local cws = require("cws")

local server = assert(cws.listen("127.0.0.1:0"))
server:handle("/", function(req)
  local ws = assert(req:upgrade())
  ws:on_close(function() error("called after the end") end)
  for message in ws:each() do
    ws:send(message)
  end
end)
server:handle("/slow", function() cws.sleep(100) end)
local url = "ws://" .. server:address()
kept = {} -- luacheck: ignore
for i = 1, 50 do
  kept[i] = assert(cws.connect(url .. "/"))
  kept[i]:send(("x"):rep(i * 1000))
end
cws.spawn(cws.connect, url .. "/slow")
cws.spawn(function() kept[1]:receive() cws.sleep(1000) end)
cws.spawn(function() cws.connect("ws://name.invalid/") end)
kept[2]:writer():write("half")
kept[3]:reader(5)
cws.signal("HUP")
cws.ticker(0.001)
cws.step(0.01)
