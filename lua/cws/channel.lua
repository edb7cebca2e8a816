-- Channels and select, as Go has them.
--
-- Who has to wait leaves a case in the queue of each channel concerned; the
-- other side takes the first case of the queue, hands its value over and wakes
-- it. All cases of one wait share one table, so that only one of them wins.

local check = require("cws.check")
local core = require("cws.core")
local random = require("cws.random")

local channel = {}

---@class cws.channel
---@field private capacity integer
---@field private closed boolean
---@field private buffer any[] a ring: from `first`, `count` values
---@field private first integer
---@field private count integer
---@field private receivers cws.channel.case the head of a circular list
---@field private senders cws.channel.case
local Channel = { __name = "cws.channel" }
Channel.__index = Channel

---One wait of one coroutine.
---@class cws.channel.wait
---@field waiter cws.waiter
---@field cases cws.channel.case[]
---@field winner cws.channel.case?
---@field value any
---@field open boolean?

---@class cws.channel.case
---@field prev cws.channel.case
---@field next cws.channel.case
---@field wait cws.channel.wait
---@field ch cws.channel
---@field value any what it would send

-- --- queues of waiting cases ------------------------------------------------

---@return cws.channel.case
local function new_queue()
  local head = {}
  head.prev, head.next = head, head
  return head
end

local function enqueue(head, case)
  case.prev, case.next = head.prev, head
  head.prev.next = case
  head.prev = case
end

local function unlink(case)
  case.prev.next, case.next.prev = case.next, case.prev
  case.prev, case.next = case, case
end

local function is_empty(head)
  return head.next == head
end

---Ends the wait that the case belongs to.
---@param case cws.channel.case
---@param value any
---@param open boolean
local function win(case, value, open)
  local wait = case.wait
  wait.winner, wait.value, wait.open = case, value, open
  for _, other in ipairs(wait.cases) do
    unlink(other)
  end
  wait.waiter:wake()
end

-- --- the ring ---------------------------------------------------------------

local function push(ch, value)
  ch.buffer[(ch.first + ch.count) % ch.capacity] = value
  ch.count = ch.count + 1
end

local function pop(ch)
  local first = ch.first
  local value = ch.buffer[first]
  ch.buffer[first] = nil
  ch.first = (first + 1) % ch.capacity
  ch.count = ch.count - 1
  return value
end

-- --- what can be done at once -----------------------------------------------

---@return boolean done, boolean? open
local function try_send(ch, value)
  if ch.closed then return true, false end
  local receiver = ch.receivers.next
  if receiver ~= ch.receivers then
    win(receiver, value, true)
    return true, true
  elseif ch.count < ch.capacity then
    push(ch, value)
    return true, true
  end
  return false
end

---@return boolean done, any value, boolean? open
local function try_receive(ch)
  local sender = ch.senders.next
  if ch.count > 0 then
    local value = pop(ch)
    if sender ~= ch.senders then
      push(ch, sender.value)
      win(sender, nil, true)
    end
    return true, value, true
  elseif sender ~= ch.senders then
    local value = sender.value
    win(sender, nil, true)
    return true, value, true
  end
  return ch.closed, nil, false
end

local function can_go(case)
  local ch = case.ch
  if ch.closed then return true end
  if case.sends then return not is_empty(ch.receivers) or ch.count < ch.capacity end
  return ch.count > 0 or not is_empty(ch.senders)
end

-- --- waiting ----------------------------------------------------------------

-- Closed when its coroutine dies while it waits: nothing may be handed to it.
local Wait = {
  __close = function(wait)
    for _, case in ipairs(wait.cases) do
      unlink(case)
    end
  end,
}

---@param cases cws.channel.case[]
---@param timeout number?
---@param name string
---@param level integer
---@return cws.channel.wait? won, string? message, cws.kind? kind
local function wait_for(cases, timeout, name, level)
  local wait <close> = setmetatable({ waiter = core.waiter(), cases = cases }, Wait)
  for _, case in ipairs(cases) do
    case.wait = wait
    enqueue(case.sends and case.ch.senders or case.ch.receivers, case)
  end
  local ok, done, message, kind = pcall(wait.waiter.wait, wait.waiter, timeout, name)
  if wait.winner then return wait end -- also when the time ended just then
  if not ok then check.passed(name, level + 1, false, done) end
  return nil, message, kind
end

-- --- channels ---------------------------------------------------------------

---A channel that holds up to `capacity` values; 0, the default, is a
---rendezvous: a send waits for its receive.
---@param capacity? integer
---@return cws.channel
function channel.new(capacity)
  if capacity == nil then capacity = 0 end
  check.type(1, "channel", "number", capacity)
  if math.type(capacity) ~= "integer" or capacity < 0 then
    check.argument(1, "channel", "integer from 0 expected")
  end
  return channel.init({}, Channel, capacity)
end

---@param object table
---@param class table
---@param capacity integer
function channel.init(object, class, capacity)
  object.capacity, object.closed = capacity, false
  object.buffer, object.first, object.count = {}, 0, 0
  object.receivers, object.senders = new_queue(), new_queue()
  return setmetatable(object, class)
end

---@param value any
---@return boolean
local function is_channel(value)
  local meta = getmetatable(value)
  return meta == Channel or (type(meta) == "table" and rawget(meta, "channel") == Channel)
end

---Sends a value; waits while the channel is full. A closed channel gives
---nil, message, "closed".
---@param value any not nil
---@param timeout? number
---@return true? ok, string? message, cws.kind? kind
function Channel:send(value, timeout)
  if value == nil then check.type_error(1, "send", "value", value) end
  check.seconds(2, "send", timeout)
  local done, open = try_send(self, value)
  if not done then
    if timeout == 0 and core.is_running() then return nil, "timeout", "timeout" end
    local won, message, kind = wait_for({ { ch = self, sends = true, value = value } }, timeout, "send", 2)
    if not won then return nil, message, kind end
    open = won.open
  end
  if open then return true end
  return nil, "send: the channel is closed", "closed"
end

---Takes a value; waits until there is one. A closed and empty channel gives
---nil, message, "closed".
---@param timeout? number
---@return any value, string? message, cws.kind? kind
function Channel:receive(timeout)
  check.seconds(1, "receive", timeout)
  local done, value, open = try_receive(self)
  if not done then
    if timeout == 0 and core.is_running() then return nil, "timeout", "timeout" end
    local won, message, kind = wait_for({ { ch = self } }, timeout, "receive", 2)
    if not won then return nil, message, kind end
    value, open = won.value, won.open
  end
  if open then return value end
  return nil, "receive: the channel is closed", "closed"
end

---@param ch cws.channel
local function next_value(ch)
  return (ch:receive())
end

---`for value in ch:each() do`: until the channel is closed and empty.
---@return fun(ch: cws.channel): any
---@return cws.channel
function Channel:each()
  return next_value, self
end

---Nothing more can be sent; what it holds can still be received. Closing twice
---does nothing.
function Channel:close()
  self.closed = true
  while not is_empty(self.receivers) do
    win(self.receivers.next, nil, false)
  end
  while not is_empty(self.senders) do
    win(self.senders.next, nil, false)
  end
end

---Puts a value in if there is room, without waiting.
---@param value any
---@return boolean
function Channel:offer(value)
  local done, open = try_send(self, value)
  return done and open == true
end

---@return string
function Channel:__tostring()
  return ("cws.channel: %p (%d of %d%s)"):format(self, self.count, self.capacity, self.closed and ", closed" or "")
end

channel.class = Channel

-- --- select -----------------------------------------------------------------

---@param entry any
---@param index integer
---@return cws.channel.case
local function case_of(entry, index)
  if is_channel(entry) then return { ch = entry } end
  if type(entry) ~= "table" or not is_channel(entry[1]) then
    check.argument(1, "select", ("case %d is neither a channel nor {channel, value}"):format(index), 3)
  elseif entry[2] == nil then
    check.argument(1, "select", ("case %d would send nil"):format(index), 3)
  end
  return { ch = entry[1], sends = true, value = entry[2] }
end

---@param list table
---@return cws.channel.case[] cases, number? timeout
local function cases_of(list)
  check.type(1, "select", "table", list, 2)
  local cases, last = {}, 0
  for key in pairs(list) do
    if math.type(key) == "integer" and key >= 1 then
      last = math.max(last, key)
    elseif key ~= "timeout" then
      check.argument(1, "select", ("unknown key '%s'"):format(tostring(key)), 2)
    end
  end
  for i = 1, last do
    if list[i] then cases[#cases + 1] = case_of(list[i], i) end
  end
  local timeout = list.timeout
  if timeout ~= nil and not (type(timeout) == "number" and timeout >= 0) then
    check.option_type("timeout", "select", "seconds", timeout, 2)
  end
  return cases, timeout
end

---One of those that can go on, each with the same chance.
---@param cases cws.channel.case[]
---@return cws.channel.case?
local function choose(cases)
  local chosen, count = nil, 0
  for _, case in ipairs(cases) do
    if can_go(case) then
      count = count + 1
      if count == 1 or random(count) == 1 then chosen = case end
    end
  end
  return chosen
end

---Waits until one of several channels can be received from, or sent to.
---
---`cws.select{done, ticker, {out, value}, timeout = 1}`: a channel is a receive
---case, {channel, value} a send case, nil and false are cases that never happen.
---Returns the channel, the value received, and false when the channel is closed;
---nil, "timeout", "timeout" when the time is over.
---@param list table
---@return cws.channel? which, any value, boolean|cws.kind open
function channel.select(list)
  local cases, timeout = cases_of(list)
  local case = choose(cases)
  if case and case.sends then
    local _, open = try_send(case.ch, case.value)
    return case.ch, nil, open
  elseif case then
    local _, value, open = try_receive(case.ch)
    return case.ch, value, open
  end
  if timeout == 0 and core.is_running() then return nil, "timeout", "timeout" end
  local won, message, kind = wait_for(cases, timeout, "select", 2)
  if not won then return nil, message, kind end
  return won.winner.ch, won.value, won.open
end

return channel
