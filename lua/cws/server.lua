-- Servers: who listens, which handler answers, how it all stops.

local channel = require("cws.channel")
local check = require("cws.check")
local core = require("cws.core")
local Mux = require("cws.mux")
local options = require("cws.options")
local Response = require("cws.response")
local timers = require("cws.timers")

local server = {}

---@alias cws.handler fun(req: cws.request, res: cws.response)

---@class cws.server
---@field private core cws.core.server
---@field private mux cws.mux
---@field private stopped cws.channel closed when a stop is complete
local Server = { __name = "cws.server" }
Server.__index = Server

-- --- one request ------------------------------------------------------------

---@type cws.handler
local function not_found(_, res)
  res:error(404, "404 page not found")
end

---C starts what this finds in a coroutine, and sends the response afterwards.
---@param mux cws.mux
---@return fun(path: string): cws.handler, cws.response
local function matcher(mux)
  return function(path)
    return mux:match(path) or not_found, Response.new()
  end
end

-- --- listening --------------------------------------------------------------

---Listens on "host:port"; port 0 takes a free one, ":8080" is every address.
---@param addr string
---@param given? cws.limits
---@return cws.server? server, string? message, cws.kind? kind, integer? errno
function server.listen(addr, given)
  return server.open("listen", addr, given, 2, 1)
end

---@param name string the function that the program called
---@param addr string
---@param given cws.limits?
---@param index integer which argument the options are
---@param level integer where an error is: 2 is the caller's caller, 1 that of a tail call
---@return cws.server? server, string? message, cws.kind? kind, integer? errno
function server.open(name, addr, given, index, level)
  check.type(1, name, "string", addr, level)
  local _, limits = options.split(given, name, index, {}, level)
  local mux = Mux.new()
  local match = matcher(mux)
  -- all that takes memory, before anything listens
  local self = setmetatable({ core = false, mux = mux, stopped = channel.new() }, Server)
  local listener, message, kind, errno =
    check.passed(name, level, pcall(core.listen, addr, limits, match, name))
  if not listener then return nil, message, kind, errno end
  self.core = listener
  return self
end

---Lets a function answer the paths that a pattern matches: one that ends in "/"
---all that begin with it, any other itself; the longest pattern wins.
---@param pattern string
---@param fn cws.handler
function Server:handle(pattern, fn)
  self.mux:handle(pattern, fn)
end

---The address it listens on, with the real port.
---@return string
function Server:address()
  return self.core:address()
end

---@return string
function Server:__tostring()
  return ("cws.server: %p (%s)"):format(self, self.core:address())
end

-- --- stopping ---------------------------------------------------------------

---Closes the listening socket, closes all connections with 1001, waits, and ends
---at once what is open then. True when nothing was.
---@param timeout? number 5 seconds when left out
---@return true? ok, string? message, cws.kind? kind
function Server:stop(timeout)
  check.seconds(1, "stop", timeout)
  self.core:stop_listening()
  self.core:close_all()
  local ok, message, kind = self.core:wait_idle(timeout or 5)
  if not ok then self.core:abort_all() end
  core.sleep(0) -- handlers learn of it and have their last word
  self.stopped:close()
  if ok then return true end
  return nil, message, kind
end

-- What cws.stop() has to stop as well: servers in serve().
local serving = {}

---Stops gracefully, at most one second; a second time ends all at once.
---@param self cws.server
local function stop_soon(self)
  if not self.stopping then
    self.stopping = true
    core.spawn(self.stop, self, 1)
  else
    self.core:abort_all()
    self.stopped:close()
  end
end

---Stops them all, then calls `after`.
---@param after fun()
function server.stop_all(after)
  local list = {}
  for each in pairs(serving) do
    list[#list + 1] = each
    stop_soon(each)
  end
  if #list == 0 then return after() end
  core.spawn(function()
    for _, each in ipairs(list) do
      each.stopped:receive()
    end
    after()
  end)
end

---@param self { server: cws.server, [integer]: cws.timer }
local function end_serving(self)
  serving[self.server] = nil
  for _, watch in ipairs(self) do
    watch:stop()
  end
end

---SIGINT and SIGTERM stop it, unless the program watches them itself or was
---started with them ignored. What it returns is closed when serving ends, even
---when its coroutine is closed.
---@param self cws.server
local function start_serving(self)
  serving[self] = true
  local watches = setmetatable({ server = self }, { __close = end_serving })
  for i, name in ipairs({ "INT", "TERM" }) do
    watches[i] = core.watch_signal(name, function()
      if not timers.is_watched(name) then stop_soon(self) end
    end, true)
  end
  return watches
end

---@param self cws.server
---@return boolean ok false: it raised
---@return true|nil|string done, string? message, cws.kind? kind
local function serve(self)
  local _ <close> = start_serving(self)
  local ok, done, message, kind = pcall(self.stopped.receive, self.stopped)
  if not ok then return false, (tostring(done):gsub("receive", "serve", 1)) end
  if self.stopped.closed then return true, true end
  return true, nil, (message:gsub("^receive", "serve")), kind -- the task was cancelled
end

---Serves until it is stopped: by stop(), by cws.stop(), by SIGINT or SIGTERM (at
---most one second; a second signal ends it at once) unless the program watches
---those.
---@return true? ok, string? message, cws.kind? kind
function Server:serve()
  if self.stopped.closed then return nil, "serve: the server was stopped", "closed" end
  return check.passed("serve", 0, serve(self))
end

---@param mux cws.mux
---@param routes any
local function add_routes(mux, routes)
  check.type(2, "serve", "table", routes, 2)
  for pattern, fn in pairs(routes) do
    if type(pattern) ~= "string" or pattern:sub(1, 1) ~= "/" then
      check.argument(2, "serve", ("pattern '%s' does not begin with '/'"):format(tostring(pattern)), 2)
    elseif type(fn) ~= "function" then
      check.argument(2, "serve", ("function expected for '%s', got %s"):format(pattern, type(fn)), 2)
    end
    mux:handle(pattern, fn)
  end
end

---Listens and serves: `cws.serve("localhost:8080", { ["/echo"] = echo })`.
---Returns true after a stop.
---@param addr string
---@param routes table<string, cws.handler>
---@param given? cws.limits
---@return true? ok, string? message, cws.kind? kind, integer? errno
function server.serve(addr, routes, given)
  check.type(1, "serve", "string", addr)
  add_routes(Mux.new(), routes) -- misuse before anything listens
  local self, message, kind, errno = server.open("serve", addr, given, 3, 2)
  if not self then return nil, message, kind, errno end
  add_routes(self.mux, routes)
  local ok, done, why, what = serve(self)
  if not done or not ok then -- nobody else could stop it
    self.core:stop_listening()
    self.core:close_all()
  end
  if ok and done then return true end
  return check.passed("serve", 0, ok, done, why, what)
end

return server
