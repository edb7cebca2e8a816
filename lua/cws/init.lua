-- cws: a WebSocket server and client for Lua 5.4.

if _VERSION ~= "Lua 5.4" then
  error("cws needs Lua 5.4, but this is " .. _VERSION, 0)
end

local callbacks = require("cws.callbacks")
local channel = require("cws.channel")
local check = require("cws.check")
local close_codes = require("cws.close_codes")
local closed = require("cws.closed")
local connect = require("cws.connect")
local core = require("cws.core")
local escape = require("cws.escape")
local json = require("cws.json")
local log = require("cws.log")
local reconnect = require("cws.reconnect")
local Response = require("cws.response")
local server = require("cws.server")
local template = require("cws.template")
local timers = require("cws.timers")
local upgrade = require("cws.upgrade")

---Limits and times; every one has a default. Seconds; bytes; counts. math.huge
---says unlimited.
---@class cws.limits
---@field connect_timeout? number
---@field handshake_timeout? number
---@field handler_timeout? number
---@field response_timeout? number
---@field send_timeout? number
---@field close_timeout? number
---@field ping_interval? number
---@field pong_timeout? number
---@field idle_timeout? number
---@field max_message? number
---@field max_fragments? number
---@field max_ratio? number
---@field request_line? number
---@field header_bytes? number
---@field header_fields? number
---@field send_buffer? number
---@field max_queue? number
---@field inbox_bytes? number
---@field inbox_messages? number
---@field max_connections? number
---@field compression? boolean|cws.compression

---@class cws.compression
---@field server_no_context_takeover? boolean
---@field client_no_context_takeover? boolean
---@field server_max_window_bits? integer
---@field client_max_window_bits? integer
---@field level? integer
---@field memory? integer
---@field threshold? integer

---What a handler gets; header names are found in any case.
---@class cws.request
---@field method "GET"|"HEAD"
---@field target string raw
---@field path string percent-decoded
---@field query string raw, "" when there is none
---@field host string
---@field remote string "127.0.0.1:50000"
---@field tls boolean
---@field headers table<string, string>
---@field header fun(self: cws.request, name: string): string?
---@field upgrade fun(self: cws.request, options?: cws.upgrade.options): cws.ws?, string?, cws.kind?, integer?

---How a message is sent, instead of its type.
---@class cws.how
---@field type? cws.type
---@field compress? boolean
---@field timeout? number

---@class cws.stats
---@field messages_received integer
---@field messages_sent integer
---@field bytes_received integer on the wire
---@field bytes_sent integer
---@field queued integer bytes that the kernel has not taken
---@field inbox integer bytes that wait unread
---@field rtt number? seconds, of the last answered ping

---An open WebSocket. Every call on one that has ended returns the same
---nil, message, "closed", code.
---@class cws.ws
---@field receive fun(self: cws.ws, timeout?: number): string?, "text"|"binary"|string|nil, cws.kind?, integer?
---@field each fun(self: cws.ws): (fun(ws: cws.ws): string?, "text"|"binary"|nil), cws.ws
---@field send fun(self: cws.ws, message: string|cws.prepared, type?: cws.type|cws.how, timeout?: number): true?, string?, cws.kind?, integer?
---@field send_json fun(self: cws.ws, value: any, timeout?: number): true?, string?, cws.kind?, integer?
---@field receive_json fun(self: cws.ws, timeout?: number): any, string?, cws.kind?, integer?
---@field reader fun(self: cws.ws, timeout?: number): cws.reader?, "text"|"binary"|string|nil, cws.kind?, integer?
---@field writer fun(self: cws.ws, type?: cws.type|cws.how, timeout?: number): cws.writer?, string?, cws.kind?, integer?
---@field flush fun(self: cws.ws): true?, string?, cws.kind?, integer?
---@field ping fun(self: cws.ws, data?: string): true?, string?, cws.kind?, integer?
---@field pong fun(self: cws.ws, data?: string): true?, string?, cws.kind?, integer?
---@field on_ping fun(self: cws.ws, fn: fun(data: string)?)
---@field on_pong fun(self: cws.ws, fn: fun(data: string, seconds: number?)?)
---@field on_close fun(self: cws.ws, fn: fun(code: integer, reason: string, clean: boolean)?)
---@field close fun(self: cws.ws, code?: integer, reason?: string, timeout?: number): true?, string?, cws.kind?, integer?
---@field terminate fun(self: cws.ws): true
---@field is_open fun(self: cws.ws): boolean
---@field close_code fun(self: cws.ws): integer?
---@field close_reason fun(self: cws.ws): string?
---@field close_clean fun(self: cws.ws): boolean?
---@field protocol fun(self: cws.ws): string?
---@field local_address fun(self: cws.ws): string
---@field remote_address fun(self: cws.ws): string
---@field tls_info fun(self: cws.ws): table?
---@field stats fun(self: cws.ws): cws.stats

---One message, in pieces: a count of bytes, "a" the rest, "l" or "L" a line;
---nil alone is the end of the message.
---@class cws.reader
---@field read fun(self: cws.reader, what?: integer|"a"|"l"|"L", timeout?: number): string?, string?, cws.kind?, integer?
---@field lines fun(self: cws.reader, what?: integer|"a"|"l"|"L"): fun(): string?, string?, cws.kind?, integer?

---One message that grows. A <close> variable of it ends the message.
---@class cws.writer
---@field write fun(self: cws.writer, ...: string|number): cws.writer?, string?, cws.kind?, integer?
---@field close fun(self: cws.writer, timeout?: number): true?, string?, cws.kind?, integer?

---@class cws
local cws = {
  _VERSION = "cws " .. core.versions(),

  serve = server.serve,
  listen = server.listen,
  connect = connect,
  reconnect = reconnect,
  prepare = core.prepare,
  broadcast = core.broadcast,

  close_codes = close_codes,
  is_close = closed.is_close,
  is_unexpected_close = closed.is_unexpected_close,

  spawn = core.spawn,
  sleep = core.sleep,
  channel = channel.new,
  select = channel.select,
  ticker = timers.ticker,
  after = timers.after,
  signal = timers.signal,

  now = core.now,
  time = core.time,

  run = core.run,
  step = core.step,
  use_loop = core.use_loop,

  template = template,
  escape = escape,
  log = log.write,

  ---@type cws.json.codec?
  json = json.find(),
}

---The versions of cws and of what it runs on; zlib is nil where it was built
---without.
---@return { cws: string, lua: string, libev: string, openssl: string, zlib: string? }
function cws.versions()
  local library, lua, libev, openssl, zlib = core.versions()
  return { cws = library, lua = lua, libev = libev, openssl = openssl, zlib = zlib }
end

---Stops the servers in serve() as SIGINT would, then ends cws.run().
function cws.stop()
  server.stop_all(core.stop)
end

---Runs the loop until no task and no listener is left, or cws.stop(). With a
---function, starts that first.
---@param fn? function
---@param ... any its arguments
---@return true
function cws.run(fn, ...)
  if fn ~= nil then
    check.type(1, "run", "function", fn)
    core.spawn(fn, ...)
  end
  return core.run()
end

---What C has to log goes to cws.log, whatever that is now.
---@param line string
local function write(line)
  if not pcall(cws.log, line) then log.write(line) end
end

core.hooks.log = write
core.hooks.callbacks = callbacks.runner(write)
core.hooks.respond = Response.send
upgrade.install(core.request)
json.install(core.ws, function() return cws.json end)

return cws
