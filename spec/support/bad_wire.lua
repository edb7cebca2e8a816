-- Bad input over real sockets: plays bytes against a server or a client of cws
-- in every cutting, many connections at a time, and looks at all that comes
-- back, to the end of the stream. Silence is a failure: each wait has a limit.
local assert = require("luassert")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local raw = require("spec.support.raw")
local session = require("spec.support.session")

local M = {}

local SILENCE = 2 -- seconds until something must have been observed
local AT_ONCE = 64 -- connections

-- Under a tool that makes all of it slow, fewer places to cut at.
local PLACES = net.slow > 4 and 2 or net.slow > 1 and 32 or math.huge

-- --- cuttings ---------------------------------------------------------------

---All cuttings of the bytes: { segments, name } each.
---@param bytes string
---@param most integer? at so many places only
local function cuttings(bytes, most)
  local all = {}
  session.cuts(bytes, function(segments, how)
    all[#all + 1] = { segments = segments, how = how }
  end)
  most = math.min(most or math.huge, PLACES)
  local cuts = #all - 2
  if cuts <= most then return all end
  local some = { all[1] }
  for i = 1, most do
    some[#some + 1] = all[1 + math.ceil(i * cuts / most)]
  end
  some[#some + 1] = #bytes <= 20000 and all[#all] or nil
  return some
end

---Each segment is read by itself: the loop turns after it.
local function play(peer, segments)
  for _, segment in ipairs(segments) do
    if not peer:send(segment) then return end -- it has ended already
    cws.sleep(0)
  end
end

---Calls fn(item) for all of them, many at a time; raises the first error.
---@param items any[]
---@param fn fun(item: any)
local function for_each(items, fn)
  local next_, tasks, problem = 0, {}, nil
  local function work()
    while next_ < #items and not problem do
      next_ = next_ + 1
      local ok, err = xpcall(fn, function(err)
        return type(err) == "string" and debug.traceback(err, 2) or err
      end, items[next_])
      if not ok then problem = problem or err end
    end
  end
  for i = 1, math.min(AT_ONCE, #items) do
    tasks[i] = cws.spawn(work)
  end
  for _, task in ipairs(tasks) do
    task:join()
  end
  if problem then error(problem, 0) end
end
M.for_each = for_each

-- --- HTTP: what a server answers ----------------------------------------------

---@class bad.answer
---@field status integer
---@field head string
---@field fields table<string, string> lower-case names; twice is joined by ", "
---@field body string
---@field rest string what came after it
---@field how string "eof" or "reset"

---@param bytes string
---@param how string
---@return bad.answer
local function parse_answer(bytes, how)
  local head, rest = bytes:match("^(.-\r\n)\r\n(.*)$")
  assert(head, ("no answer, but %q and %s"):format(bytes:sub(1, 200), how))
  local status = head:match("^HTTP/1%.1 (%d%d%d) [%w '-]*\r\n")
  assert(status, ("the status line of %q"):format(head))
  local fields = {}
  for name, value in head:gsub("^.-\r\n", ""):gmatch("([^:\r\n]+): ([^\r\n]*)\r\n") do
    name = name:lower()
    fields[name] = fields[name] and fields[name] .. ", " .. value or value
  end
  local length = tonumber(fields["content-length"] or 0)
  return {
    status = tonumber(status), head = head, fields = fields, how = how,
    body = rest:sub(1, length), rest = rest:sub(length + 1),
  }
end

---H(n): a short fixed answer, then the end of the stream.
---@param status integer
---@return fun(answer: bad.answer, request: string)
function M.H(status)
  return function(answer, request)
    assert.equal(status, answer.status, "the answer to " .. request:sub(1, 100))
    assert.equal("eof", answer.how)
    assert.equal("", answer.rest, "exactly one response")
    assert.equal(status == 426 and "Upgrade, close" or "close", answer.fields.connection)
    assert.equal("text/plain; charset=utf-8", answer.fields["content-type"])
    assert(answer.fields.date, "no Date")
    assert(answer.fields["content-length"], "no Content-Length")
    if not request:find("^HEAD ") then
      assert(answer.body:find("^[\32-\126]+\n$") and #answer.body <= 256, answer.body)
    end
    if status == 426 then
      assert.equal("websocket", answer.fields.upgrade)
      assert.equal("13", answer.fields["sec-websocket-version"])
    elseif status == 405 then
      assert.equal("GET, HEAD", answer.fields.allow)
    end
  end
end

---A page of the handler: 200, the connection is closed as well.
---@param body string?
function M.page(body)
  return function(answer)
    assert.equal(200, answer.status)
    assert.equal("eof", answer.how)
    assert.equal("", answer.rest, "exactly one response")
    assert.equal("close", answer.fields.connection)
    assert.equal(body or "page\n", answer.body)
  end
end

---One of several.
function M.any(...)
  local list = { ... }
  return function(answer, request)
    for i = 1, #list - 1 do
      if pcall(list[i], answer, request) then return end
    end
    list[#list](answer, request)
  end
end

local hello = session.frame("server", "text", "hello") .. session.close("server", 1000)

---101, and the frames that follow are echoed: nothing was lost or taken twice.
---@param check fun(fields: table<string, string>)?
function M.switched(check)
  return {
    after = hello,
    check = function(answer)
      assert.equal(101, answer.status, answer.body)
      assert.equal("Upgrade", answer.fields.connection)
      local echo, rest = session.unframe("server", answer.rest)
      assert.equal("hello", echo.data)
      assert.equal("\x88\x02\x03\xe8", rest)
      if check then check(answer.fields) end
    end,
  }
end

---@class bad.http.options
---@field server table? options of the listener
---@field upgrade table? of req:upgrade
---@field routes table<string, cws.handler>?
---@field whole true? only in one piece
---@field at_most integer? so many places to cut at
---@field seconds number? something is observed until then
---@field finish fun(peer: raw.peer)? called after the last byte was sent

---The server under attack: "/ws" echoes, "/page" is a page, all else is 404.
---@param row bad.row
---@param options bad.http.options
---@return string url, cws.server server stopped with the row
function M.serve(row, options)
  local routes = {
    ["/ws"] = function(req)
      local ws = req:upgrade(options.upgrade)
      if not ws then return end
      row:watch(ws)
      for message, type in ws:each() do
        ws:send(message, type)
      end
    end,
    ["/page"] = function(_, res) res:write("page\n") end,
  }
  for pattern, fn in pairs(options.routes or {}) do
    routes[pattern] = fn
  end
  local server, url = net.serve(routes, options.server)
  row:finally(function() server:stop(0) end)
  return url, server
end

---One connection to the server.
---@return string bytes, string how
local function exchange(url, case, options)
  local peer <close> = assert(raw.connect(url))
  play(peer, case.segments)
  if case.after then play(peer, { case.after }) end
  if options.finish then options.finish(peer) end
  return peer:rest(options.seconds or SILENCE)
end

---All requests in all cuttings must get this answer.
---@param row bad.row
---@param requests string[]
---@param outcome function|table H(n), page(), switched() or a function of its own
---@param options bad.http.options?
function M.http(row, requests, outcome, options)
  options = options or {}
  if type(outcome) == "function" then outcome = { check = outcome } end
  local url = M.serve(row, options)
  local cases, most = {}, options.at_most or #requests > 4 and 64 or nil
  for _, request in ipairs(requests) do
    for _, cutting in ipairs(cuttings(request, options.whole and 0 or most)) do
      if not options.whole or cutting.how == "whole" then
        cutting.request, cutting.after = request, outcome.after
        cases[#cases + 1] = cutting
      end
    end
  end
  row.inputs = #cases
  for_each(cases, function(case)
    local ok, err = pcall(function()
      local bytes, how = exchange(url, case, options)
      outcome.check(parse_answer(bytes, how), case.request)
    end)
    if not ok then
      error(("%s (%s, %q)"):format(tostring(err), case.how, case.request:sub(1, 200)), 0)
    end
  end)
end

-- --- HTTP: what a client is answered ------------------------------------------

---A connect against a server that answers these bytes. `answer` may be a
---function of the request's head; "{accept}" is the right value.
---@param answer string|fun(head: string): string
---@param head string
local function answer_of(answer, head)
  if type(answer) == "function" then return answer(head) end
  local accept = raw.switch(head):match("Accept: (%S+)")
  return (answer:gsub("{accept}", function() return accept end))
end

---@class bad.client.options
---@field client table? options of cws.connect
---@field at_most integer?
---@field whole true?
---@field stays true? the server does not close after its answer
---@field seconds number?

---One connect, and what the client got.
local function dial(row, case, options, pick, check)
  local listener <close> = raw.listen()
  local result = cws.channel(1)
  cws.spawn(function()
    result:send(table.pack(cws.connect(listener.url .. "/x", options.client)))
  end)
  local peer <close> = listener:accept()
  local head = peer:head()
  play(peer, pick(answer_of(case.answer, head)))
  if not options.stays then peer:shutdown() end
  local got, why = result:receive((options.seconds or SILENCE) * net.slow)
  assert(got, "silence: " .. tostring(why))
  local ws = got[1]
  if ws then row:watch(ws) end
  local ok, err = pcall(check, got, peer)
  if ws then ws:terminate() end
  if not ok then error(err, 0) end
end

---@param row bad.row
---@param answers (string|fun(head: string): string)[]
---@param check fun(results: table, peer: raw.peer)
---@param options bad.client.options?
function M.client(row, answers, check, options)
  options = options or {}
  local cases = {}
  for _, answer in ipairs(answers) do
    -- the places to cut at do not depend on the value of Accept
    local model = type(answer) == "string" and answer or ("x"):rep(200)
    for i, cutting in ipairs(cuttings(model, options.whole and 0 or options.at_most or 40)) do
      if not options.whole or cutting.how == "whole" then
        cases[#cases + 1] = { answer = answer, index = i, cutting = cutting }
      end
    end
  end
  row.inputs = #cases
  for_each(cases, function(case)
    local how = case.cutting.how
    local cut = #(case.cutting.segments[1] or "")
    local function pick(bytes)
      if how == "whole" then return { bytes } end
      if how ~= "byte by byte" then return { bytes:sub(1, cut), bytes:sub(cut + 1) } end
      local single = {}
      for i = 1, #bytes do single[i] = bytes:sub(i, i) end
      return single
    end
    local ok, err = pcall(dial, row, case, options, pick, check)
    if not ok then error(("%s (%s, %q)"):format(tostring(err), how, tostring(case.answer):sub(1, 200)), 0) end
  end)
end

-- --- frames ---------------------------------------------------------------------

local function is_end(line)
  return line:find("^fail ") or line:find("^close ")
end

---What a program sees of a connection: a line for each message and one for the
---end, as session.lua writes them.
local function record(row, ws)
  row:watch(ws)
  local lines = {}
  for message, type in ws:each() do
    lines[#lines + 1] = (type .. " " .. message):gsub("%s+$", "")
  end
  local clean = ws:close_clean()
  local text = clean and " " .. ws:close_reason() or ""
  lines[#lines + 1] = ((clean and "close " or "fail ") .. ws:close_code() .. text):gsub("%s+$", "")
  return lines
end

local names = { [1] = "text", [2] = "binary", [8] = "close", [9] = "ping", [10] = "pong" }

---Frames that the end under test sent, as lines; reads to its close frame.
local function answers(peer, seconds)
  local lines = {}
  while true do
    local frame, why = peer:frame(seconds)
    if not frame then return lines, why end
    assert(frame.fin and frame.rsv == 0)
    local data = frame.opcode == 8 and tostring(frame.code or "") or frame.data
    if frame.reason and frame.reason ~= "" then
      assert(frame.reason:find("^[%w ,'%-]+$") and #frame.reason <= 123, "reason of the close frame")
    end
    lines[#lines + 1] = ("> " .. names[frame.opcode] .. " " .. data):gsub("%s+$", "")
    if frame.opcode == 8 then return lines, "close" end
  end
end

---@param expected string[]
---@return string wire, string program
local function halves(expected)
  local wire, program = {}, {}
  for _, line in ipairs(expected) do
    if line:find("^> ") then
      wire[#wire + 1] = line
    elseif not line:find("^p[io]ng ?") then
      program[#program + 1] = line
    end
  end
  return table.concat(wire, "\n"), table.concat(program, "\n")
end

-- The bytes, and a close of the peer's where the row does not end by itself.
local function with_end(role, bytes, expected, options)
  if options.open_end then return bytes, expected end
  for _, line in ipairs(expected) do
    if is_end(line) then return bytes, expected end
  end
  local longer = table.move(expected, 1, #expected, 1, {})
  longer[#longer + 1] = "close 1000"
  longer[#longer + 1] = "> close 1000"
  return bytes .. session.close(role, 1000), longer
end

---@class bad.frames.options
---@field limits table? max_message, max_fragments, max_ratio
---@field options table? more options of the connection
---@field deflate true|string? agreed on; the offer's (answer's) parameters
---@field params table? the same for layer 1
---@field at_most integer? places to cut at over sockets; 6
---@field skip_layer1 true?
---@field roles string[]?
---@field finish fun(peer: raw.peer)? after the bytes: the end of the stream
---@field open_end true? nothing is added to end it
---@field seconds number?

local function compare(case, wire, program)
  local want_wire, want_program = halves(case.expected)
  local got = table.concat(wire, "\n")
  if got ~= want_wire then
    error(("as %s, %s: sent %q, not %q"):format(case.role, case.how, got:sub(1, 300), want_wire:sub(1, 300)), 0)
  end
  got = table.concat(program, "\n")
  if got ~= want_program then
    error(("as %s, %s: the program got %q, not %q"):format(case.role, case.how, got:sub(1, 300),
      want_program:sub(1, 300)), 0)
  end
end

-- The line that offers, or agrees on, permessage-deflate.
local function extension(options)
  if not options.deflate then return nil end
  local parameters = options.deflate == true and "" or options.deflate
  return ("Sec-WebSocket-Extensions: permessage-deflate%s\r\n"):format(parameters)
end

-- What a session of layer 1 is given.
local function layer1_limits(options)
  local all = { max_message = core.defaults.max_message, max_fragments = core.defaults.max_fragments,
    max_ratio = core.defaults.max_ratio, deflate = options.deflate and (options.params or {}) or nil }
  for name, value in pairs(options.limits or {}) do all[name] = value end
  return all
end

-- What a connection over sockets is given.
local function limits_of(options)
  local all = { compression = options.deflate and true or nil }
  for name, value in pairs(options.limits or {}) do all[name] = value end
  for name, value in pairs(options.options or {}) do all[name] = value end
  return all
end

local function play_to_server(case, url, records, options)
  local path = "/frames?" .. case.number
  local peer <close>, head = raw.upgrade(url, { path = path, fields = extension(options) })
  assert(not options.deflate or head:find("permessage-deflate", 1, true), "deflate was not agreed")
  play(peer, case.segments)
  if options.finish then options.finish(peer) end
  local lines, why = answers(peer, options.seconds or SILENCE)
  -- at once, and not only when it has waited for us
  if why == "close" then why = select(2, peer:rest(0.7)) end
  assert(why == "eof" or options.finish, "the server did not end the stream: " .. why)
  local got = assert(records[case.number]:receive((options.seconds or SILENCE) * net.slow))
  compare(case, lines, got)
end

local function frames_to_server(row, cases, options)
  local records = {}
  for _, case in ipairs(cases) do
    records[case.number] = cws.channel(1)
  end
  local server, url = net.serve({
    ["/frames"] = function(req)
      local number = math.tointeger(req.query)
      local ws = assert(req:upgrade())
      records[number]:send(record(row, ws))
    end,
  }, limits_of(options))
  local ok, err = pcall(for_each, cases, function(case) play_to_server(case, url, records, options) end)
  server:stop(0)
  if not ok then error(err, 0) end
end

local function play_to_client(row, case, options)
  local listener <close> = raw.listen()
  local result = cws.channel(1)
  cws.spawn(function()
    local ws, why = cws.connect(listener.url .. "/", limits_of(options))
    result:send(ws and record(row, ws) or { why })
  end)
  local peer <close> = listener:accept()
  peer:answer(extension(options))
  play(peer, case.segments)
  if options.finish then options.finish(peer) end
  local lines = answers(peer, options.seconds or SILENCE)
  peer:shutdown() -- the server ends the stream first
  local got = assert(result:receive((options.seconds or SILENCE) * net.slow))
  compare(case, lines, got)
  peer:rest(SILENCE)
end

---Plays frames against a server and a client of cws: in layer 1 in all cuttings
---and ways, over sockets whole, byte by byte and cut at some places.
---@param row bad.row
---@param make fun(role: string): string|string[] the bytes; several inputs
---@param expected string[] lines, as in session.lua
---@param options bad.frames.options?
function M.frames(row, make, expected, options)
  options = options or {}
  row.inputs = 0
  for _, role in ipairs(options.roles or session.roles) do
    local inputs, cases = make(role), {}
    if type(inputs) == "string" then inputs = { inputs } end
    for _, input in ipairs(inputs) do
      if not options.skip_layer1 and net.slow < 20 then -- session_spec.lua is enough there
        session.expect(role, input, expected, { limits = layer1_limits(options) })
        cws.sleep(0)
      end
      local bytes, lines = with_end(role, input, expected, options)
      for _, cutting in ipairs(cuttings(bytes, options.at_most or 6)) do
        cutting.number, cutting.role, cutting.expected = #cases + 1, role, lines
        cases[#cases + 1] = cutting
      end
    end
    row.inputs = row.inputs + #cases
    if role == "server" then
      frames_to_server(row, cases, options)
    else
      for_each(cases, function(case) play_to_client(row, case, options) end)
    end
  end
end

return M
