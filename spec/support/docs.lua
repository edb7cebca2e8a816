-- The code in the documentation: blocks are taken out of the Markdown files and
-- run as a reader would run them.
--
--   A block that requires "cws" is a program of its own: `docs.start` runs it.
--   Any other is a piece: `docs.run` gives it `cws`, `url` (an echo server's) and,
--   when it uses them, `ws` (a connection to that server) or `req` and `res` (it
--   then runs in the handler of a real upgrade). `--> text` at the end of a line
--   is what that line prints.
local assert = require("luassert")
local core = require("cws.core")
local cws = require("cws")
local net = require("spec.support.net")
local process = require("spec.support.process")

local M = {}

---@param path string
---@return string
function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

---@class docs.block
---@field path string
---@field line integer of its first line of code
---@field language string the first word behind the fence
---@field note string the other words
---@field heading string the last heading before it
---@field text string

---The fenced blocks of a file, in order.
---@param path string
---@return docs.block[]
function M.blocks(path)
  local blocks, block, heading, number = {}, nil, "", 0
  for line in M.read(path):gmatch("([^\n]*)\n") do
    number = number + 1
    local language, note = line:match("^```(%w*) ?(.*)$")
    if block and language then
      block.text = table.concat(block, "\n") .. "\n"
      blocks[#blocks + 1], block = block, nil
    elseif language then
      block = { path = path, line = number + 1, language = language, note = note, heading = heading }
    elseif block then
      block[#block + 1] = line
    else
      heading = line:match("^#+ (.*)$") or heading
    end
  end
  assert(not block, path .. ": a block without an end")
  return blocks
end

---The rows of the table that begins with a header cell: lists of their cells.
---@param path string
---@param header string
---@return string[][]
function M.rows(path, header)
  local _, stop = M.read(path):find("\n| " .. header .. " |[^\n]*\n|[-| ]+|\n")
  assert(stop, path .. ": no table of " .. header)
  local rows = {}
  for line in M.read(path):sub(stop + 1):gmatch("([^\n]*)\n") do
    if line:sub(1, 1) ~= "|" then break end
    local row = {}
    for cell in line:gsub("\\|", "\1"):gmatch("|%s*([^|]*)") do
      row[#row + 1] = (cell:gsub("\1", "|"):gsub("%s+$", ""))
    end
    row[#row] = nil -- what stands behind the last bar
    rows[#rows + 1] = row
  end
  return rows
end

local units = { s = 1, B = 1, KiB = 1024, MiB = 1024 * 1024 }

---"64 KiB", "10 s", "none", "100"
---@param text string
---@return number?
local function value_of(text)
  local number, unit = text:match("^([%d.]+) ?(%a*)$")
  if text == "none" then return math.huge end
  if text == "descriptors − 32" then return 0 end
  return number and tonumber(number) * (units[unit] or 1)
end

---What a table of options and their defaults does not say as the code does.
---@param path string
---@param header string
---@return string[]
function M.wrong_defaults(path, header)
  local wrong, listed = {}, {}
  for _, row in ipairs(M.rows(path, header)) do
    for name in row[1]:gmatch("`([%w_]+)`") do
      listed[name] = true
      local value = core.defaults[name]
      if name ~= "compression" and value ~= value_of(row[2]) then -- that is a table of its own
        wrong[#wrong + 1] = ("%s: %s, but it is %s"):format(name, row[2], tostring(value))
      end
    end
  end
  for name in pairs(core.defaults) do
    if not listed[name] then wrong[#wrong + 1] = name .. ": not listed" end
  end
  return wrong
end

---What the lines of a block say they print.
---@param text string
---@return string[]
local function promised(text)
  local lines = {}
  for line in text:gmatch("%-%->%s*([^\n]*)") do
    lines[#lines + 1] = line
  end
  return lines
end

---@param block docs.block
---@return boolean
function M.is_program(block)
  return block.text:find('require("cws")', 1, true) ~= nil
end

-- --- pieces -----------------------------------------------------------------

-- No codec need be installed: one for flat objects of strings.
local codec = {
  encode = function(value)
    local parts = {}
    for name, text in pairs(value) do
      parts[#parts + 1] = ('"%s":"%s"'):format(name, text)
    end
    return "{" .. table.concat(parts, ",") .. "}"
  end,
  decode = function(text)
    local value = {}
    for name, field in text:gmatch('"([^"]*)":"([^"]*)"') do
      value[name] = field
    end
    return value
  end,
}

---@param block docs.block
---@param given table
---@return string[] printed
local function call(block, given)
  local printed = {}
  given.cws = cws
  given.print = function(...)
    local parts = table.pack(...)
    for i = 1, parts.n do
      parts[i] = tostring(parts[i])
    end
    printed[#printed + 1] = table.concat(parts, " ")
  end
  -- the lines of an error are those of the file
  local chunk = assert(load(("\n"):rep(block.line - 1) .. block.text, "@" .. block.path, "t",
    setmetatable(given, { __index = _G })))
  chunk()
  return printed
end

local function uses(block, name)
  local text = block.text:gsub("function[^\n]-%b()[^\n]*\n.-\nend", ""):gsub("%w+://", "")
  return text:find("%f[%w_]" .. name .. "%f[^%w_]") ~= nil
end

local function echo(req)
  local ws = req:upgrade({ protocols = { "chat" }, compression = true })
  if not ws then return end
  for message, type in ws:each() do
    ws:send(message, type)
  end
end

---Runs a piece in the handler of an upgrade; the client sends `first` and closes.
local function run_in_handler(block, first)
  local ok, result
  local server, url = net.serve({
    ["/"] = function(req, res)
      ok, result = xpcall(call, debug.traceback, block, { req = req, res = res })
    end,
  })
  local client = cws.connect(url .. "/", { protocols = { "chat" }, compression = true })
  if client then
    client:send(first)
    client:close()
  end
  server:stop(1)
  return ok, result
end

---Runs a piece beside an echo server.
local function run_with_url(block, first)
  local server, url = net.serve({ ["/echo"] = echo })
  local given = { url = url .. "/echo" }
  if uses(block, "ws") then
    given.ws = assert(cws.connect(given.url, { protocols = { "chat" }, compression = true }))
    if block.note == "answered" then given.ws:send(first) end
  end
  local ok, result = xpcall(call, debug.traceback, block, given)
  if given.ws then given.ws:terminate() end
  server:stop(0)
  return ok, result
end

---Runs a piece in a task and compares what it prints with what it promises. A
---block with the word "answered" finds a message waiting on `ws`.
---@param block docs.block
function M.run(block)
  local first = '{"name":"Hello"}'
  local before = cws.json
  cws.json = cws.json or codec
  net.log() -- what pieces log is not for who reads the test's output
  local run = (uses(block, "req") or uses(block, "res")) and run_in_handler or run_with_url
  local ok, result = run(block, first)
  cws.json = before
  if not ok then error(result, 0) end
  local expected = promised(block.text)
  if expected[1] then assert.same(expected, result) end
end

-- --- programs ---------------------------------------------------------------

---Starts a program under Lua; "localhost:8080" in it becomes `address`.
---@param block docs.block
---@param address string
---@return spec.process
function M.start(block, address)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write((block.text:gsub("localhost:8080", address)))
  file:close()
  local program = process.start({ process.lua, path })
  program.path = path
  return program
end

---Waits until something listens there.
---@param address string
function M.wait_for(address)
  local until_ = cws.now() + 10 * net.slow
  while true do
    local ws, message, kind = cws.connect("ws://" .. address .. "/")
    if ws then ws:terminate() end
    if ws or kind == "handshake" then return end
    if cws.now() > until_ then error(message, 0) end
    cws.sleep(0.02)
  end
end

---Runs a program: a server until it listens and is interrupted, another to its
---end against an echo server. It must end with status 0.
---@param block docs.block
function M.run_program(block)
  local address = "127.0.0.1:" .. process.free_port()
  local serves = block.text:find("serve", 1, true)
  local server = not serves and assert(cws.listen(address))
  if server then server:handle("/echo", echo) end
  local program = M.start(block, address)
  if serves then
    M.wait_for(address)
    program:kill("INT")
  end
  local status = program:wait()
  os.remove(program.path)
  if server then server:stop(0) end
  assert.equal(0, status, program:err())
  local expected = promised(block.text)
  if expected[1] then
    assert.equal(table.concat(expected, "\n") .. "\n", (program:out():gsub("\t", " ")))
  end
end

return M
