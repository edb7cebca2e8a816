-- Programs that the specs start: captured output, a time limit for every wait,
-- nothing left behind. The waits turn the loop, so servers of this process go on.
--
--   local process = require("spec.support.process")
--   process.guard()                          -- in a describe block
--   local p = process.start({ "node", "peer.js" }, { env = { PORT = port } })
--   local port = p:expect("listening on (%d+)")
--   p:kill("INT")
--   assert.equal(0, p:wait())
local assert = require("luassert")
local busted = require("busted")
local cws = require("cws")
local net = require("spec.support.net")
local testing = require("cws.testing")

local M = {}

local signals = testing.process.signals

---The number of a signal, for the status of a process that it ended.
M.signals = signals
---Where Lua is for a program under test.
M.lua = os.getenv("CWS_LUA") or "lua5.4"
---The folder that the specs run in.
M.top = assert(io.popen("pwd")):read("l")

---@class spec.process
---@field pid integer
---@field status integer? exit status, or minus the signal that ended it
local Process = {}
Process.__index = Process

local running = {} ---@type table<spec.process, true>
local groups = {} ---@type integer[] of each since end_all: its process and what that started

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read("a") or ""
  if file then file:close() end
  return text
end

---@param argv string[]
---@param options { cwd: string?, env: table<string, any>? }? env: added
---@return spec.process
function M.start(argv, options)
  options = options or {}
  local command = { "env" }
  for name, value in pairs(options.env or {}) do
    command[#command + 1] = name .. "=" .. tostring(value)
  end
  table.move(argv, 1, #argv, #command + 1, command)
  local self = setmetatable({ out_path = os.tmpname(), err_path = os.tmpname() }, Process)
  self.name = table.concat(argv, " ")
  self.pid = assert(testing.process.spawn(command, self.out_path, self.err_path, options.cwd))
  running[self] = true
  groups[#groups + 1] = self.pid
  return self
end

---What it has written to stdout until now.
---@return string
function Process:out() return self.kept_out or read(self.out_path) end

---@return string
function Process:err() return self.kept_err or read(self.err_path) end

local function finish(self)
  self.kept_out, self.kept_err = self:out(), self:err()
  os.remove(self.out_path)
  os.remove(self.err_path)
  running[self] = nil
end

---Whether it has ended.
---@return boolean
function Process:ended()
  if self.status then return true end
  self.status = testing.process.wait(self.pid)
  if not self.status then return false end
  finish(self)
  return true
end

local function fail(self, why)
  error(("%s: %s\nstdout: %s\nstderr: %s"):format(self.name, why, self:out(), self:err()), 0)
end

-- Looks every 10 ms.
local function wait_until(self, seconds, what, is_done)
  local until_ = cws.now() + (seconds or 10) * net.slow
  while not is_done() do
    if cws.now() > until_ then fail(self, what) end
    assert(cws.sleep(0.01))
  end
end

---Waits until its output (both kinds) matches; returns the captures.
---@param pattern string
---@param seconds number? 10
---@return string ...
function Process:expect(pattern, seconds)
  local found
  wait_until(self, seconds, "does not write " .. pattern, function()
    local ended = self:ended()
    found = table.pack((self:out() .. self:err()):match(pattern))
    if not found[1] and ended then fail(self, "ended without writing " .. pattern) end
    return found[1]
  end)
  return table.unpack(found, 1, found.n)
end

---Waits for its end.
---@param seconds number? 10
---@return integer status exit status, or minus the signal that ended it
function Process:wait(seconds)
  wait_until(self, seconds, "does not end", function() return self:ended() end)
  return self.status
end

---@param name string "INT", "TERM", ...
function Process:kill(name)
  if not self.status then assert(testing.process.kill(self.pid, signals[name])) end
end

---Runs a program to its end.
---@param argv string[]
---@param options { cwd: string?, env: table<string, any>?, seconds: number? }?
---@return integer status
---@return string out
---@return string err
function M.run(argv, options)
  local self = M.start(argv, options)
  local status = self:wait(options and options.seconds)
  return status, self:out(), self:err()
end

---Whether a program is here.
---@param name string
---@return boolean
function M.exists(name)
  return os.execute("command -v '" .. name .. "' >/dev/null 2>&1") == true
end

---A port of loopback that was free a moment ago.
---@return string
function M.free_port()
  local server = assert(cws.listen("127.0.0.1:0"))
  local port = server:address():match("%d+$")
  server:stop(0)
  return port
end

---Ends what runs still, also what a process that has ended itself left behind.
function M.end_all()
  for _, group in ipairs(groups) do
    testing.process.kill(-group, signals.KILL)
  end
  groups = {}
  for self in pairs(running) do
    while not self:ended() do
      os.execute("sleep 0.01")
    end
  end
end

---After each test of the block nothing is left running.
function M.guard()
  busted.after_each(M.end_all)
end

return M
