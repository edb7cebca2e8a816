-- B242: a server and ten clients, all of them busy, in one Lua state.
local cws = require("cws")

cws.run(function()
  local server = assert(cws.listen("127.0.0.1:0", { compression = true }))
  server:handle("/", function(req)
    local ws = assert(req:upgrade())
    for message, type in ws:each() do
      ws:send(message, type)
    end
  end)
  local tasks = {}
  for i = 1, 10 do
    tasks[i] = cws.spawn(function()
      local ws = assert(cws.connect("ws://" .. server:address() .. "/", { compression = i % 2 == 0 }))
      for j = 1, 20 do
        local text = (i .. " " .. j .. " "):rep(j * 50)
        assert(ws:send(text))
        assert(ws:receive(10) == text)
      end
      assert(ws:close())
    end)
  end
  for _, task in ipairs(tasks) do
    assert(task:join())
  end
  assert(server:stop())
end)
