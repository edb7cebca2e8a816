-- cws.reconnect: a client that comes back, later each time (RFC 6455 7.2.3).

local check = require("cws.check")
local connect = require("cws.connect")
local core = require("cws.core")
local options = require("cws.options")
local random = require("cws.random")

local policy = { delay = true, max_delay = true, on_retry = true }

---@class cws.reconnect.options: cws.connect.options
---@field delay? number seconds: 5; the first wait is a random part of it
---@field max_delay? number seconds: 60
---@field on_retry? fun(message: string, kind: cws.kind, code: integer?, seconds: number): boolean?

---What one loop knows; its __close belongs to the loop.
---@class cws.reconnect.state
---@field url string
---@field options table for connect
---@field delay number
---@field max_delay number
---@field on_retry function
---@field failures integer since a connection that stayed
---@field wait number? before the next attempt; nil: at once
---@field ws cws.ws? the one that the body has
---@field since number? when it came
local State = {}
State.__index = State

-- Leaving the loop closes the connection as a <close> variable would.
function State:__close(problem)
  pcall(function()
    local _ <close> = self.ws
    if problem ~= nil then error(problem, 0) end
  end)
end

---After a failure: "a random amount of time" first, then "truncated binary
---exponential backoff"; of each longer wait a random half is left out, so that
---the clients of a server that was away do not come back all at once.
function State:back_off()
  self.failures = self.failures + 1
  local share = random(1 << 20) / (1 << 20)
  if self.failures == 1 then
    self.wait = self.delay * share
  else
    local doubled = self.delay * 2.0 ^ math.min(self.failures - 1, 64)
    self.wait = math.min(doubled, self.max_delay) * (1 + share) / 2
  end
end

---The connection of the body has ended.
function State:lost()
  if core.now() - self.since >= self.delay then self.failures = 0 end
  self.ws = nil
  self:back_off()
end

---@return boolean again
function State:failed(message, kind, code)
  if kind == "closed" then return false end -- the task was cancelled
  if kind == "tls" then error(message, 0) end -- nor would the next attempt do
  self:back_off()
  return self.on_retry(message, kind, code, self.wait) ~= false
end

---Misuse is the program's, where its loop stands.
local function attempt(state)
  local ok, ws, response, kind, code = pcall(connect, state.url, state.options)
  if not ok then
    local text = tostring(ws):gsub("^.-:%d+: ", ""):gsub("'connect'", "'reconnect'")
    error(text, 3)
  end
  return ws, response, kind, code
end

---@param state cws.reconnect.state
---@return cws.ws? ws, cws.core.response? response
local function next_connection(state)
  if state.ws then
    if state.ws:is_open() then return nil end
    state:lost()
  end
  while not state.wait or core.sleep(state.wait) do
    local ws, response, kind, code = attempt(state)
    if ws then
      state.ws, state.since = ws, core.now()
      return ws, response
    end
    if not state:failed(response, kind, code) then return nil end
  end
end

local function log(message, _, _, seconds)
  core.hooks.log(("reconnect: %s; again in %.1f s"):format(message, seconds))
end

local function check_seconds(name, value)
  if value == nil then return end
  if type(value) ~= "number" then check.option_type(name, "reconnect", "number", value, 2) end
  if not (value >= 0 and value <= 1e9) then
    check.option(name, "reconnect", "seconds from 0 to 1e9 expected", 2)
  end
end

---For a loop whose body has one connection after the other: `for ws in
---cws.reconnect(url) do ... end`. When one has ended the next comes, after a
---wait. A body that ends and leaves its connection open, as with break or in a
---task that was cancelled, ends the loop, which closes it.
---@param url string
---@param given? cws.reconnect.options
---@return fun(state: cws.reconnect.state): cws.ws?, cws.core.response?
---@return cws.reconnect.state state
---@return nil
---@return cws.reconnect.state closing
local function reconnect(url, given)
  check.type(1, "reconnect", "string", url)
  local own, rest = options.split(given, "reconnect", 2, policy)
  check_seconds("delay", own.delay)
  check_seconds("max_delay", own.max_delay)
  if own.on_retry ~= nil and type(own.on_retry) ~= "function" then
    check.option_type("on_retry", "reconnect", "function", own.on_retry)
  end
  local state = setmetatable({
    url = url,
    options = rest,
    delay = own.delay or 5,
    max_delay = own.max_delay or 60,
    on_retry = own.on_retry or log,
    failures = 0,
  }, State)
  return next_connection, state, nil, state
end

return reconnect
