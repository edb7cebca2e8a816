-- What the specs share that work with real sockets.
--
--   local net = require("spec.support.net")
--   describe("x", function()
--     net.guard()                      -- after each test nothing may be left
--     net.it("does", function() ... end)   -- runs in a task, within a time limit
local assert = require("luassert")
local busted = require("busted")
local core = require("cws.core")
local cws = require("cws")

local M = {}

-- How much slower this run is than a plain one.
M.slow = ({ asan = 4, valgrind = 20, cov = 2 })[os.getenv("CWS_MODE")] or 1

-- --- leaks ------------------------------------------------------------------

local function is_clean(live, tasks)
  local now_live, now_tasks = core.counts()
  return now_live <= live and now_tasks <= tasks
end

---Turns the loop until what is open is back to what it was, for at most
---`seconds`.
local function settle(live, tasks, seconds)
  local until_ = cws.now() + seconds
  repeat
    collectgarbage()
    collectgarbage()
    cws.step(0.01)
  until is_clean(live, tasks) or cws.now() > until_
end

---After each test of the block: everything it opened is closed, within 3 s.
function M.guard()
  local live, tasks, log
  busted.before_each(function()
    live, tasks = core.counts()
    log = cws.log
  end)
  busted.after_each(function()
    cws.log = log
    local raw = package.loaded["spec.support.raw"]
    if raw then raw.close_all() end
    settle(live, tasks, 3 * M.slow)
    local now_live, now_tasks = core.counts()
    assert.same({ live, tasks }, { now_live, now_tasks }, "open objects and tasks that a test left")
  end)
end

---Resident memory of this process in KiB.
---@return integer
function M.resident()
  local file = assert(io.open("/proc/self/status"))
  local size = tonumber(file:read("a"):match("VmRSS:%s*(%d+) kB"))
  file:close()
  return size
end

-- --- running in a task ------------------------------------------------------

function M.with_traceback(err)
  return type(err) == "string" and debug.traceback(err, 2) or err
end

---Runs fn in a task; an error in it is raised here; over the limit it raises
---with the traceback of where the task waits.
---@param fn fun()
---@param seconds number? 10
function M.run(fn, seconds)
  local limit = (seconds or 10) * M.slow
  local co, err
  local task = cws.spawn(function()
    co = coroutine.running()
    local ok, why = xpcall(fn, M.with_traceback)
    if not ok then err = why end
  end)
  local _, _, kind = task:join(limit)
  if kind == "timeout" then
    local where = debug.traceback(co)
    task:cancel()
    error(("over %g s; the task waits at\n%s"):format(limit, where), 0)
  end
  if err ~= nil then error(err, 0) end
end

---@param name string
---@param fn fun()
---@param seconds number?
function M.it(name, fn, seconds)
  busted.it(name, function() M.run(fn, seconds) end)
end

-- --- servers and pairs ------------------------------------------------------

---A server of this process on a free port of loopback; `finally` is not needed:
---it is stopped when the test's block ends it with server:stop(0).
---@param routes table<string, cws.handler>
---@param options table?
---@return cws.server server, string url "ws://127.0.0.1:PORT"
function M.serve(routes, options)
  local server = assert(cws.listen("127.0.0.1:0", options))
  for pattern, fn in pairs(routes) do
    server:handle(pattern, fn)
  end
  return server, "ws://" .. server:address()
end

---Both ends of one WebSocket, in this process. fn(client, server_end); all is
---closed afterwards.
---@param fn fun(client: cws.ws, peer: cws.ws)
---@param options { server: table?, client: table?, upgrade: table? }?
function M.pair(fn, options)
  options = options or {}
  local arrived, over = cws.channel(1), cws.channel()
  local server, url = M.serve({
    ["/"] = function(req)
      local ws, message = req:upgrade(options.upgrade)
      arrived:send(ws or message)
      over:receive()
    end,
  }, options.server)
  local client, message = cws.connect(url .. "/", options.client)
  local peer = client and arrived:receive()
  local ok, err = xpcall(function() fn(assert(client, message), peer) end, M.with_traceback)
  over:close()
  if client then client:terminate() end
  server:stop(0)
  if not ok then error(err, 0) end
end

-- --- the log ----------------------------------------------------------------

---Collects what cws.log is given; the guard puts the old one back.
---@return string[]
function M.log()
  local lines = {}
  cws.log = function(...)
    lines[#lines + 1] = table.concat({ ... }, " ")
  end
  return lines
end

return M
