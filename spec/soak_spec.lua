-- What no single case thinks of: many tasks that do at random what the API
-- allows, on both ends of a connection. Each round has a seed, which a failure
-- names: CWS_SEED=n begins there; CWS_LONG makes it 100 times as many rounds.
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local rounds = os.getenv("CWS_LONG") and 1000 or 10
local first_seed = tonumber(os.getenv("CWS_SEED") or 1)
local random = math.random

local function one_in(n)
  return random(n) == 1
end

---@param name string
---@param round fun()
local function soak(name, round)
  net.it(name, function()
    for seed = first_seed, first_seed + rounds - 1 do
      math.randomseed(seed)
      local ok, err = xpcall(round, net.with_traceback)
      if not ok then error(("seed %d: %s"):format(seed, tostring(err)), 0) end
    end
  end, 10 * rounds)
end

local function pick(list)
  return list[random(#list)]
end

local function close_all_tasks(tasks, seconds)
  local i = 1
  while tasks[i] do -- they start others
    local _, _, kind = tasks[i]:join(seconds)
    if kind == "timeout" then tasks[i]:cancel() end
    i = i + 1
  end
end

-- --- everything arrives, in order -------------------------------------------

local sizes = { 0, 1, 10, 125, 126, 1000, 5000, 20000, 40000, 65535, 65536, 100000, 300000 }

local function write_in_pieces(ws, body)
  local writer, why, kind = ws:writer("binary", 30)
  if not writer then return nil, why, kind end
  local at = 1
  while at <= #body do
    local len = random(30000)
    local ok, message, what = writer:write(body:sub(at, at + len - 1))
    if not ok then return nil, message, what end
    at = at + len
    if one_in(5) then cws.sleep(0) end
    if one_in(9) then ws:ping("between") end
  end
  return writer:close(30)
end

local ways_to_send = {
  function(ws, body) return ws:send(body, "binary", 30) end,
  function(ws, body) return ws:send(cws.prepare(body, "binary"), { timeout = 30 }) end,
  function(ws, body) return cws.broadcast({ ws }, body, "binary") end,
  write_in_pieces,
  function(ws, body)
    local ok, why, kind
    repeat
      ok, why, kind = ws:send(body, "binary", random() * 0.002)
    until ok or kind ~= "timeout"
    return ok, why, kind
  end,
}

local function rest_a_while(ws)
  local what = random(14)
  if what == 1 then
    cws.sleep(0)
  elseif what == 2 then
    cws.sleep(random() * 0.002)
  elseif what == 3 then
    ws:ping("now and then")
  elseif what == 4 then
    ws:flush()
  end
end

-- Sends messages that name their sender and their number.
local function sender(ws, id, sent)
  for n = 1, random(60) do
    local body = string.pack(">I1I4", id, n) .. string.char(random(0, 255)):rep(pick(sizes))
    local ok, why = pick(ways_to_send)(ws, body)
    assert(ok == true or ok == 1, why)
    sent[#sent + 1] = body
    rest_a_while(ws)
  end
end

local function read_in_pieces(ws)
  local reader, why, kind = ws:reader(random() * 0.002)
  if not reader then return nil, why, kind end
  local parts = {}
  while true do
    local part, message, what = reader:read(one_in(2) and random(40000) or nil, random() * 0.002)
    if part then
      parts[#parts + 1] = part
    elseif not message then
      return table.concat(parts)
    elseif what ~= "timeout" then
      return nil, message, what
    end
    if one_in(6) then cws.sleep(0) end
  end
end

local ways_to_receive = {
  function(ws) return ws:receive() end,
  function(ws) return ws:receive(random() * 0.002) end,
  read_in_pieces,
  function(ws)
    local task = cws.spawn(function() return ws:receive() end)
    cws.sleep(one_in(2) and 0 or random() * 0.003)
    task:cancel()
    local _, message, why, kind = task:join()
    return message, why, why == "receive: task cancelled" and "timeout" or kind
  end,
}

local function receiver(ws, got)
  while true do
    local message, why, kind = pick(ways_to_receive)(ws)
    if message then
      got[#got + 1] = message
    elseif kind ~= "timeout" then
      return assert(kind == "closed", why)
    end
    rest_a_while(ws)
  end
end

-- Each sender's messages have come in its order, and all of them.
local function check_order(sent, got)
  assert.equal(#sent, #got)
  local by_id, place = {}, {}
  for _, body in ipairs(sent) do
    local id = body:byte()
    by_id[id] = by_id[id] or {}
    table.insert(by_id[id], body)
  end
  for _, body in ipairs(got) do
    local id = body:byte()
    place[id] = (place[id] or 0) + 1
    assert.is_true(by_id[id][place[id]] == body)
  end
end

local function orderly_limits(compression)
  return {
    send_buffer = pick({ 1, 65536, 1000000 }), inbox_messages = pick({ 1, 4, 256 }), inbox_bytes = pick({ 1000, 65536 }),
    max_queue = 64 * 1024 * 1024, max_message = math.huge, max_ratio = math.huge, compression = compression,
  }
end

local function orderly_round()
  local compression = one_in(3)
  net.pair(function(client, peer)
    local sides, senders, receivers, sent, got = { client, peer }, {}, {}, { {}, {} }, { {}, {} }
    for i, ws in ipairs(sides) do
      ws:on_ping(function() if one_in(10) then cws.sleep(0) end end)
      for id = 1, random(3) do senders[#senders + 1] = cws.spawn(sender, ws, id, sent[i]) end
      receivers[i] = cws.spawn(receiver, ws, got[3 - i])
    end
    for _, task in ipairs(senders) do assert(task:join()) end
    local until_ = cws.now() + 5 * net.slow
    while #got[1] < #sent[1] or #got[2] < #sent[2] do
      assert(cws.now() < until_, ("%d of %d, %d of %d arrived"):format(#got[1], #sent[1], #got[2], #sent[2]))
      cws.sleep(0.001)
    end
    pick(sides):close()
    for _, task in ipairs(receivers) do assert(task:join()) end
    check_order(sent[1], got[1])
    check_order(sent[2], got[2])
  end, { client = orderly_limits(compression), upgrade = orderly_limits(compression) })
end

-- --- chaos ------------------------------------------------------------------

local function maybe(n, value)
  return one_in(n) and value or nil
end

local function wild_limits()
  local short = random() * 0.05 + 0.001
  return {
    send_buffer = pick({ 1, 65536, 1000000 }), inbox_messages = pick({ 1, 4, 256 }),
    max_queue = pick({ 1000, 100000, 64 * 1024 * 1024 }), max_message = pick({ 50000, math.huge }),
    close_timeout = 0.05 + random() * 0.3, ping_interval = maybe(3, short), pong_timeout = maybe(3, short),
    idle_timeout = maybe(5, short), handshake_timeout = maybe(4, short), handler_timeout = maybe(4, short),
    response_timeout = maybe(4, short), compression = one_in(2),
  }
end

-- One round's tasks and their coroutines.
local function new_world()
  return { tasks = {}, coroutines = {} }
end

local act

local function play(world, ws, count)
  for _ = 1, random(count) do act(world, ws) end
end

local function spawn(world, fn, ...)
  if #world.tasks > 60 then return end
  world.tasks[#world.tasks + 1] = cws.spawn(function(...)
    table.insert(world.coroutines, (coroutine.running()))
    return fn(...)
  end, ...)
end

-- What a program may do, and what it had better not.
local acts = {
  function(_, ws) return ws:send(("s"):rep(random(0, 100000)), "binary", random() * 0.01) end,
  function(_, ws) return ws:send("text") end,
  function(_, ws) return ws:send(cws.prepare(("p"):rep(random(0, 10000))), nil, random() * 0.01) end,
  function(_, ws) return ws:receive(random() * 0.01) end,
  function(_, ws) return ws:ping("p"), ws:pong() end,
  function(_, ws) return cws.broadcast({ ws }, ("b"):rep(random(0, 20000))) end,
  function(_, ws) return ws:flush(), ws:stats(), tostring(ws) end,
  function(_, ws)
    local writer = ws:writer(random(2), random() * 0.01)
    for _ = 1, writer and random(5) or 0 do
      writer:write(("w"):rep(random(0, 40000)))
      if one_in(3) then cws.sleep(0) end
    end
    if writer and not one_in(4) then writer:close(random() * 0.01) end
  end,
  function(_, ws)
    local writer <close> = one_in(2) and ws:writer() or nil
    if writer and one_in(3) then error("in a writer") end
  end,
  function(_, ws)
    local reader = ws:reader(random() * 0.01)
    for _ = 1, reader and random(5) or 0 do reader:read(pick({ 50000, "a", "l" }), random() * 0.01) end
  end,
  function(_, ws) return one_in(3) and ws:close(pick({ 1000, 4000 }), "x", random() * 0.05) end,
  function(_, ws) return one_in(6) and ws:terminate() end,
  function(_, ws) if one_in(10) then local closing <close> = ws end end,
  function(_, ws)
    ws:on_ping(function()
      if one_in(5) then error("in on_ping") end
      if one_in(3) then cws.sleep(random() * 0.01) end
    end)
  end,
  function(_, ws) ws:on_close(function() if one_in(3) then error("in on_close") end end) end,
  function() if one_in(4) then error("in a task") end end,
  function(world) -- takes a coroutine that waits
    local co = one_in(8) and world.coroutines[random(#world.coroutines)]
    if co and co ~= coroutine.running() and coroutine.status(co) == "suspended" then coroutine.close(co) end
  end,
  function(world) return #world.tasks > 0 and one_in(3) and pick(world.tasks):cancel() end,
  function(world, ws) spawn(world, play, world, ws, 20) end,
  function() collectgarbage("step", 100) end,
  function() coroutine.yield() end,
  function() cws.sleep(random() * 0.005) end,
}

function act(world, ws)
  pick(acts)(world, ws)
end

local function handler(world)
  return function(req, res)
    table.insert(world.coroutines, (coroutine.running()))
    if one_in(12) then cws.sleep(random() * 0.05) end
    if one_in(15) then error("before the upgrade") end
    if one_in(15) then return res:write("no") end
    local ws = req:upgrade(maybe(3, wild_limits()))
    if not ws then return end
    if one_in(2) then spawn(world, play, world, ws, 20) end
    play(world, ws, 30)
  end
end

local function wild_client(world, url)
  if one_in(6) then cws.sleep(random() * 0.01) end
  local ws = cws.connect(url .. "/", wild_limits())
  if not ws then return end
  if one_in(2) then spawn(world, play, world, ws, 20) end
  play(world, ws, 30)
end

local noise = {
  function() return string.char(random(0, 255)):rep(random(300)) end,
  function() return session.frame("server", "text", ("t"):rep(random(0, 70000)), { fin = one_in(2) }) end,
  function() return session.frame("server", "continuation", "c", { fin = one_in(2) }) end,
  function() return session.frame("server", "ping", "x"):rep(random(200)) end,
  function() return session.close("server", 1000) end,
}

local function raw_client(url)
  local peer = raw.connect(url)
  if not peer then return end
  local request = raw.request("/", maybe(2, "Sec-WebSocket-Extensions: permessage-deflate\r\n"))
  peer:send(request:sub(1, maybe(3, random(#request))))
  for _ = 1, random(10) do
    if one_in(2) then peer:send(pick(noise)()) else peer:peek() end
    if one_in(3) then cws.sleep(random() * 0.01) end
    if one_in(8) then peer:shutdown() end
  end
  if one_in(2) then peer:reset() else peer:close() end
end

local function wild_round()
  local world = new_world()
  net.log()
  local server, url = net.serve({ ["/"] = handler(world) }, wild_limits())
  for _ = 1, random(6) do spawn(world, wild_client, world, url) end
  for _ = 1, random(0, 3) do spawn(world, raw_client, url) end
  if one_in(3) then
    cws.sleep(random() * 0.03)
    server:stop(random() * 0.05)
  end
  close_all_tasks(world.tasks, 0.3)
  server:stop(random() * 0.2)
  raw.close_all()
end

describe("many tasks that do anything at random", function()
  net.guard()

  soak("lose no message and keep the order", orderly_round)
  soak("leave nothing behind, whatever they do to a server and its clients", wild_round)
end)
