-- Channels that the clock or a signal fills: they hold one value and drop more.

local channel = require("cws.channel")
local check = require("cws.check")
local core = require("cws.core")

local timers = {}

local Channel = channel.class

---@class cws.source: cws.channel
---@field private stops (fun())[]
local Source = setmetatable({ __name = "cws.source", channel = Channel }, { __index = Channel })
Source.__index = Source
Source.__tostring = Channel.__tostring

---No more values come. Does not close the channel, as in Go.
function Source:stop()
  for _, stop in ipairs(self.stops) do
    stop()
  end
  self.stops = {}
end

-- One that nobody holds any more ends its timer or its watch.
Source.__gc = Source.stop

---@return cws.source source, fun(value: any) deliver holds the source weakly
local function new_source()
  local source = channel.init({ stops = {} }, Source, 1)
  local weak = setmetatable({ source }, { __mode = "v" })
  return source, function(value)
    local alive = weak[1]
    if alive then alive:offer(value) end
  end
end

---@param seconds number
---@param interval number?
---@return cws.source
local function timer(seconds, interval)
  local source, deliver = new_source()
  if seconds == math.huge then return source end
  local handle = core.timer(seconds, interval, function() deliver(core.now()) end)
  source.stops[1] = function() handle:stop() end
  return source
end

---A channel that gets cws.now() every `seconds`, until :stop().
---@param seconds number
---@return cws.source
function timers.ticker(seconds)
  check.type(1, "ticker", "number", seconds)
  if not (seconds > 0 and seconds <= 1e9) then
    check.argument(1, "ticker", "seconds above 0, up to 1e9, expected")
  end
  return timer(seconds, seconds)
end

---A channel that gets cws.now() once, after `seconds`.
---@param seconds number
---@return cws.source
function timers.after(seconds)
  check.type(1, "after", "number", seconds)
  check.seconds(1, "after", seconds)
  return timer(seconds)
end

-- Signals that the program watches: cws.serve leaves those alone.
local watched = {}

---@param name string
---@return boolean
function timers.is_watched(name)
  return (watched[name] or 0) > 0
end

---@param source cws.source
---@param deliver fun(value: any)
---@param name string
local function watch(source, deliver, name)
  local handle = core.watch_signal(name, function() deliver(name) end)
  watched[name] = (watched[name] or 0) + 1
  source.stops[#source.stops + 1] = function()
    watched[name] = watched[name] - 1
    handle:stop()
  end
end

---A channel that gets the name of each signal that arrives: "INT", "TERM", ...
---Does not keep cws.run() alive.
---@param ... string
---@return cws.source
function timers.signal(...)
  local source, deliver = new_source()
  check.type(1, "signal", "string", (...))
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    check.type(i, "signal", "string", name)
    local ok, message = pcall(watch, source, deliver, name)
    if not ok then
      source:stop()
      check.argument(i, "signal", tostring(message):match("%((.*)%)$") or tostring(message))
    end
  end
  return source
end

return timers
