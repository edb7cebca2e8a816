---@meta cws.core

-- The C module, as lua/cws/*.lua sees it. Programs use `require "cws"`.

---@alias cws.kind "timeout"|"closed"|"dns"|"connect"|"tls"|"handshake"|"protocol"|"limit"|"busy"|"usage"|"listen"|"memory"|"io"|"internal"
---@alias cws.type "text"|"binary"|1|2

---@class cws.core
---@field hooks table functions that C calls: log(line), callbacks(ws), respond(res, req)
---@field ws table the methods of every connection; Lua adds to it
---@field request table the methods of every request
---@field server table the methods of every server
---@field defaults table<string, any> the defaults of all options
local core = {}

---@return string library, string lua, string libev, string openssl, string? zlib, string utf8
function core.versions() end

---Monotonic seconds since the module was loaded.
---@return number
function core.now() end

---Wall clock: seconds and nanoseconds.
---@return integer seconds, integer nanoseconds
function core.time() end

---Waits.
---@param seconds number
---@return true? ok, string? message, cws.kind? kind
function core.sleep(seconds) end

---@class cws.task
local task = {}

---@param fn function
---@param ... any
---@return cws.task
function core.spawn(fn, ...) end

---Waits until the task has ended: true and its results, or nil, message, kind.
---@param timeout? number
---@return true? ok, any ...
function task:join(timeout) end

---Its current wait (or its next) returns nil, message, "closed".
function task:cancel() end

---@class cws.waiter
local waiter = {}

---What channels wait with: one waiter for each wait of each coroutine.
---@return cws.waiter
function core.waiter() end

---Waits until wake() is called; a wake that came before counts.
---@param timeout number?
---@param name string the operation, for texts ("receive: task cancelled")
---@return true? ok, string? message, cws.kind? kind
function waiter:wait(timeout, name) end

---Ends the wait at the next turn; may be called anywhere, more than once.
function waiter:wake() end

---@class cws.timer
local timer = {}

---Calls fn (which may not wait) from the loop after `seconds`, then, when
---`interval` is given and not 0, every `interval` seconds.
---@param seconds number
---@param interval number?
---@param fn fun()
---@return cws.timer
function core.timer(seconds, interval, fn) end

---Idempotent.
function timer:stop() end

---Calls fn (which may not wait) from the loop for each arrival of the signal.
---@param name string "INT", "TERM", "HUP", "USR1", "USR2", "CHLD", "WINCH", ...
---@param fn fun()
---@param unless_ignored boolean? a signal that was ignored stays so
---@return cws.timer
function core.watch_signal(name, fn, unless_ignored) end

---Whether the program watches that signal now.
---@param name string
---@return boolean
function core.is_watched(name) end

---Runs the loop until no task and no listener is left, or stop().
function core.run() end

---Ends the run() under way.
function core.stop() end

---One turn of the loop.
---@param timeout? number seconds to sleep at most; 0 when left out
---@return boolean more false when nothing could happen any more
function core.step(timeout) end

---@param loop lightuserdata a struct ev_loop of the program's
function core.use_loop(loop) end

---True in a task or while the loop runs.
---@return boolean
function core.is_running() end

---@class cws.core.server
local server = {}

---Listens. For each request the function gives what runs in a task of its own;
---what that wrote is sent by hooks.respond when it returns.
---@param address string
---@param options table? the limits, and nothing else
---@param match fun(path: string): cws.handler, cws.response
---@param name string? the function that the program called, for errors
---@return cws.core.server? server, string? message, cws.kind? kind, integer? errno
function core.listen(address, options, match, name) end

---@return string
function server:address() end

---Closes the listening socket.
function server:stop_listening() end

---Closes all its connections with 1001 (starts the handshakes, does not wait).
---@return integer count
function server:close_all() end

---Ends all its connections at once.
function server:abort_all() end

---Connections and requests that are open.
---@return integer
function server:count() end

---Waits until count() is 0.
---@param timeout? number
---@return true? ok, string? message, cws.kind? kind
function server:wait_idle(timeout) end

---@class cws.core.request: cws.request
---@field method string
---@field target string raw
---@field path string decoded
---@field query string raw, "" when there is none
---@field host string
---@field remote string "127.0.0.1:50000"
---@field tls boolean
---@field headers table<string, string> lower-case names; lookup in any case; built on first use. Raises once the request is answered or upgraded, unless it was used before
---@field answered boolean
local request = {}

---The value of a field, repeated ones joined by ", ".
---@param name string
---@return string?
function request:header(name) end

---Answers. `fields` is a list: name, value, name, value, ... (checked: raises).
---@param status integer
---@param fields string[]?
---@param body string?
---@return true? ok, string? message, cws.kind? kind
function request:respond(status, fields, body) end

---The protocol's checks of an upgrade, without policy: an answer is not sent.
---@return true? ok, string? message, cws.kind? kind, integer? status
function request:check_upgrade() end

---After check_upgrade: the offered subprotocols, in the client's order.
---@return string[]
function request:offered_protocols() end

---True when there is no Origin, or it is the same as Host (RFC 6454).
---@return boolean
function request:same_origin() end

---Switches. Options: the limits, and nothing else (policy is done in Lua).
---@param protocol string? chosen subprotocol
---@param fields string[]? extra response fields: name, value, ...
---@param options table?
---@return cws.ws? ws, string? message, cws.kind? kind, integer? status
function request:switch(protocol, fields, options) end

---The method req:upgrade: `fn`, but in the simplest case.
---@param fn function
---@return function
function core.upgrader(fn) end

---What the handler of a request may still write to; `false` takes that away.
---@param req cws.core.request
---@param keep false?
---@return cws.response?
function core.response(req, keep) end

---@class cws.core.response
---@field status integer
---@field reason string
---@field headers table<string, string>
---@field body string

---Connects; waits. `fields` as in request:respond.
---@param url string
---@param protocols string[]?
---@param fields string[]?
---@param options table? the limits, and nothing else
---@return cws.ws? ws, cws.core.response|string response, cws.kind? kind, integer? status, cws.core.response? refusal
function core.connect(url, protocols, fields, options) end

---@class cws.prepared

---A message encoded once, for ws:send and cws.broadcast.
---@param message string
---@param type? cws.type
---@return cws.prepared? prepared, string? message, cws.kind? kind
function core.prepare(message, type) end

---Sends to many without waiting; who is over max_queue is closed with 1013.
---@param connections cws.ws[]|table<cws.ws, any> a list or a set
---@param message string|cws.prepared
---@param type? cws.type of a string
---@return integer? count, string? message, cws.kind? kind
function core.broadcast(connections, message, type) end

---@param status integer
---@return string
function core.reason(status) end

---Log form: control bytes as \xNN, cut at 512 bytes.
---@param text string
---@return string
function core.escape(text) end

---@param text string
---@return boolean
function core.is_token(text) end

---@param text string
---@return boolean
function core.is_value(text) end

---What is open on the loop (connections, requests, dials, listeners), and how
---many tasks have not ended.
---@return integer live, integer tasks
function core.counts() end

---For the specs: lets allocations of C, or the random generator, fail. Returns
---how many allocations there were since the last call.
---@param what "memory"|"random"
---@param n integer the n-th allocation from now on, 0: none; or so many reads
---@param all? boolean later allocations as well
---@return integer? asked
function core.fail(what, n, all) end

return core
