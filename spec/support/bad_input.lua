-- The driver of the bad-input specs: each row of the list of hostile inputs is
-- one test, named by its id, and after each the driver checks what must hold
-- whatever the input was:
--
--   the canary, another connection of this process, is echoed within 100 ms
--   descriptors, open objects and tasks are back within 1 s
--   memory in use is back within 16 KiB, after a warm-up
--   each connection that was opened was closed exactly once, and then silent
--   at most one log line for each input, escaped, at most 512 bytes
--   something was observed: silence is a failure (bad_wire.lua)
--
--   local bad = require("spec.support.bad_input")
--   bad.row("B227", "two coroutines receive", function(row) ... end)
local assert = require("luassert")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local testing = require("cws.testing")

local M = {}

local CANARY = 0.1 -- seconds for its echo
local SETTLE = 1 -- seconds until everything is back
local MEMORY = 16 -- KiB

-- --- what is open -----------------------------------------------------------

---Descriptors of this process. Opening one of these files does not count: its
---number is taken, but not in use, while the name is looked up.
---@return integer
function M.descriptors()
  local count, missing, fd = 0, 0, 0
  while missing < 256 do
    local file = io.open("/proc/self/fdinfo/" .. fd)
    if file then
      file:close()
      count, missing = count + 1, 0
    else
      missing = missing + 1
    end
    fd = fd + 1
  end
  return count
end

---@return { descriptors: integer, objects: integer, tasks: integer }
local function level()
  local objects, tasks = core.counts()
  return { descriptors = M.descriptors(), objects = objects, tasks = tasks }
end

---Waits until fn() is true, for at most `seconds`.
---@param seconds number
---@param fn fun(): any
function M.wait(seconds, fn)
  local until_ = cws.now() + seconds * net.slow
  local result = fn()
  while not result and cws.now() < until_ do
    cws.sleep(0.002)
    result = fn()
  end
  return result
end

local function settle(before)
  M.wait(SETTLE, function()
    collectgarbage()
    collectgarbage()
    local objects, tasks = core.counts()
    return objects <= before.objects and tasks <= before.tasks
      and M.descriptors() <= before.descriptors
  end)
  assert.same(before, level(), "what is open 1 s after it")
end

---Resident memory in KiB; nil where it means nothing.
---@return integer?
function M.resident()
  if net.slow > 1 then return nil end
  collectgarbage()
  collectgarbage()
  return net.resident()
end

-- --- the canary -------------------------------------------------------------

local Canary = {}
Canary.__index = Canary

local function echo(req)
  local ws = req:upgrade()
  for message, type in ws:each() do
    ws:send(message, type)
  end
end

---A connection that is busy all the time.
local function new_canary()
  local server, url = net.serve({ ["/"] = echo })
  local client = assert(cws.connect(url .. "/"))
  local self = setmetatable({ server = server, client = client, worst = 0, count = 0 }, Canary)
  self:tweet()
  self.task = cws.spawn(function()
    while not self.stopping and (self.paused or self:tweet()) do
      cws.sleep(self.paused and 0.05 or 0.002)
    end
  end)
  return self
end

---One echo. What others do on this machine makes it late as well: it counts
---only as far as this process was busy meanwhile.
function Canary:tweet()
  local at, cpu = cws.now(), os.clock()
  self.client:send("canary")
  local message, why = self.client:receive(2 * net.slow)
  local late = math.min(cws.now() - at, os.clock() - cpu)
  if late > self.worst then self.worst = late end
  self.count = self.count + 1
  if message ~= "canary" then self.problem = why or "wrong message" end
  return message == "canary"
end

function Canary:stop()
  self.stopping = true
  self.task:join()
  if not self.problem then self:tweet() end
  self.client:terminate()
  self.server:stop(0)
end

function Canary:check()
  assert(not self.problem, "the canary: " .. tostring(self.problem))
  assert(self.worst <= CANARY * net.slow, ("the canary waited %.0f ms"):format(self.worst * 1e3))
end

-- --- the log ----------------------------------------------------------------

---What the default log writes to stderr, while fn runs.
local function with_stderr(lines, fn)
  local stderr, log = io.stderr, cws.log
  io.stderr = {
    write = function(self, ...)
      lines[#lines + 1] = table.concat({ ... })
      return self
    end,
  }
  local ok, err = xpcall(fn, function(err)
    return type(err) == "string" and debug.traceback(err, 2) or err
  end)
  io.stderr, cws.log = stderr, log
  if not ok then error(err, 0) end
end

local function check_line(line)
  assert(#line <= 513, "a log line of " .. #line .. " bytes")
  assert(line:find("^[^%c\127]+\n$"), ("a log line with control bytes: %q"):format(line))
end

-- --- a row ------------------------------------------------------------------

---@class bad.row
---@field inputs integer how many inputs were tried: so many log lines may be
---@field lines string[] what was logged
---@field opened integer
---@field closed integer
---@field stops fun()[] what ends it when it fails
local Row = {}
Row.__index = Row

---Counts a connection and its end; call it for each that is opened.
---@param ws cws.ws
function Row:watch(ws)
  local ends = 0
  self.opened = self.opened + 1
  ws:on_close(function()
    ends = ends + 1
    self.closed = self.closed + 1
    if ends > 1 then self.problem = "on_close twice" end
    local again, _, kind = ws:receive(0)
    if again == nil and kind ~= "closed" then self.problem = "after on_close: " .. tostring(kind) end
  end)
end

---Notes that something was wrong; the row fails with the first.
function Row:fail(text)
  self.problem = self.problem or text
end

---Runs fn while the canary is silent.
function Row:quietly(fn)
  self.canary.paused = true
  cws.sleep(0.01)
  local ok, err = pcall(fn)
  self.canary.paused = false
  if not ok then error(err, 0) end
end

---While nothing happens nothing is done: at most 5 % of the time.
---@param seconds number
function Row:idle(seconds)
  local cpu
  self:quietly(function()
    cpu = os.clock()
    cws.sleep(seconds)
    cpu = os.clock() - cpu
  end)
  assert(cpu <= 0.05 * seconds * net.slow, ("%.1f ms of work in %.0f ms"):format(cpu * 1e3, seconds * 1e3))
end

---Calls fn when the row is over, whether it failed or not.
function Row:finally(fn)
  self.stops[#self.stops + 1] = fn
end

function Row:run(fn)
  local ok, err = pcall(with_stderr, self.lines, function() fn(self) end)
  for i = #self.stops, 1, -1 do
    self.stops[i]()
  end
  self.stops = {} -- they hold what the row has made
  if type(err) == "table" then err = err.message or err end -- luassert's
  if not ok then error(tostring(err) .. "\nlogged: " .. table.concat(self.lines), 0) end
end

local function run_once(fn, log)
  local row = setmetatable({ inputs = 1, lines = {}, opened = 0, closed = 0, stops = {} }, Row)
  local canary = new_canary()
  row.canary = canary
  local before = level()
  local ok, err = pcall(function()
    row:run(fn)
    settle(before)
  end)
  canary:stop()
  if not ok then error(err, 0) end
  canary:check()
  assert(not row.problem, row.problem)
  assert.equal(row.opened, row.closed, "on_close for each connection that was opened")
  assert(#row.lines <= (log or row.inputs), "log lines: " .. table.concat(row.lines))
  for _, line in ipairs(row.lines) do
    check_line(line)
  end
  return row
end

---KiB in use; what is resident depends on how the pieces lie, as well.
local function used()
  if net.slow > 1 then return nil end
  collectgarbage()
  collectgarbage()
  local bytes = testing.memory_used()
  return bytes and bytes / 1024
end

---Runs again until memory does not grow any more: a leak grows every time.
local function check_memory(fn, log)
  local before = used()
  for _ = 1, 8 do
    run_once(fn, log)
    local after = used()
    if not before or after - before <= MEMORY then return end
    before = after
  end
  error("memory grows each time it is run", 0)
end

---@class bad.options
---@field seconds number? limit of the test; 20
---@field log integer? so many log lines at most, whatever the inputs are
---@field memory false? it is not looked at

---@param id string
---@param text string
---@param fn fun(row: bad.row)
---@param options bad.options?
function M.row(id, text, fn, options)
  options = options or {}
  net.it(id .. " " .. text, function()
    if options.memory == false then
      run_once(fn, options.log)
    else
      check_memory(fn, options.log)
    end
  end, options.seconds or 20)
end

---The shape of every error text.
---@param kind string
---@param operation string the first word, without the colon
---@param ok any the results of the call
function M.failed(kind, operation, ok, message, got, ...)
  assert(ok == nil, "it did not fail")
  assert.equal(kind, got, message)
  if kind == "timeout" then
    assert.equal("timeout", message)
    return ...
  end
  assert(#message <= 200 and message:find("^[%w_%.]+: [^%c]+$") and not message:find("[^\32-\126]"),
    ("the shape of %q"):format(message))
  assert.equal(operation, message:match("^[%w_%.]+"))
  return ...
end

---@param pattern string a Lua pattern that the text of the error, without the
---  place, has to match
function M.raises(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert(not ok, "it did not raise")
  message = tostring(message):gsub("^[^ ]+:%d+: ", "")
  assert(message:find(pattern), ("it raised %q"):format(message))
end

return M
