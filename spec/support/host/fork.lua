-- B239: a child that has all of its parent's sockets, and ends in an orderly way.
local cws = require("cws")
local host = host -- luacheck: ignore

local over = cws.channel()
local server = assert(cws.listen("127.0.0.1:0"))
local peer
server:handle("/", function(req)
  peer = assert(req:upgrade())
  for message in peer:each() do
    peer:send(message)
  end
end)
server:handle("/slow", function(req, res)
  over:receive()
  res:write("late")
end)
local url = "ws://" .. server:address()
local client = assert(cws.connect(url .. "/"))
client:send("before")
assert(client:receive(5) == "before")
local writer = peer:writer()
local waiting = cws.spawn(function() return cws.connect(url .. "/slow") end)
cws.sleep(0.01)

-- Everything is refused, with a sentence, and nothing reaches the sockets.
local function in_child()
  local calls = {
    function() client:send("child") end, function() peer:send("child") end, function() client:ping() end,
    function() client:close() end, function() peer:close(1000, "child", 0) end, function() client:receive(0) end,
    function() client:terminate() end, function() cws.sleep(0) end, function() cws.spawn(print) end,
    function() cws.connect(url) end, function() cws.listen("127.0.0.1:0") end, function() server:stop(0) end,
    function() cws.run() end, function() cws.step() end, function() cws.broadcast({ client, peer }, "child") end,
    function() writer:write("child") end, function() writer:close() end, function() cws.after(1) end,
    function() over:close() end, function() waiting:join() end, function() server:serve() end,
    function() client:on_close(print) end, function() peer:flush() end, function() client:reader() end,
  }
  for i, call in ipairs(calls) do
    local ok, message = pcall(call)
    if ok and i ~= 19 then error("call " .. i .. " was not refused") end
    if not ok and not message:find("forked", 1, true) then error(message) end
  end
  waiting:cancel()
  client, peer, writer, server = nil, nil, nil, nil
  collectgarbage()
  collectgarbage()
end

local pid = host.fork()
if pid == 0 then
  in_child()
  return -- to the host, which closes this state
end
assert(host.wait(pid) == 0, "the child failed")

assert(client:is_open() and peer:is_open())
writer:write("w")
assert(writer:close())
assert(client:receive(5) == "w")
client:send("after")
assert(client:receive(5) == "after", "the connection does not work any more")
over:close()
local _, ws, _, _, status = waiting:join(5)
assert(ws == nil and status == 200, status)
assert(client:close())
assert(server:stop())
