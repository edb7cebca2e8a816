-- Plays bytes into a session of layer 1 (cws.testing.session) in every way
-- there is and tells what came of it as a list of short lines, so that a case
-- is its bytes and the lines it must give:
--
--   text Hello         a whole message ("binary ..." likewise)
--   ping x, pong x     a control frame
--   close 1000 bye     the peer's close frame
--   fail 1002          the connection is failed
--   > pong x           the frame that the session answers with
local testing = require("cws.testing")

local M = {}

M.roles = { "server", "client" }
M.ways = { "feed", "place", "rest" }

local opcodes = {
  continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10,
}
local names = { [1] = "text", [2] = "binary", [8] = "close", [9] = "ping", [10] = "pong" }

---@param data string
---@param key string four bytes
---@return string
function M.mask(data, key)
  if #data > 4096 then return testing.mask(data, key) end -- has a spec of its own
  local out = {}
  for i = 1, #data do
    out[i] = string.char(data:byte(i) ~ key:byte((i - 1) % 4 + 1))
  end
  return table.concat(out)
end

-- The length field, in its shortest form or in one of `form` bits.
local function length_field(len, mask_bit, form)
  form = form or (len < 126 and 7 or len < 65536 and 16 or 64)
  if form == 7 then
    return string.char(mask_bit | len)
  elseif form == 16 then
    return string.pack(">BI2", mask_bit | 126, len)
  end
  return string.pack(">BI8", mask_bit | 127, len)
end

---@class FrameOptions
---@field fin boolean? default true
---@field rsv integer? RSV1 is 4
---@field masked boolean? default: as the receiver's role demands
---@field key string?
---@field len integer? announced instead of the payload's
---@field form integer? 7, 16 or 64: bits of the length field

-- A frame as the peer of a session of that role sends it.
---@param role string "server" or "client"
---@param opcode string|integer
---@param data string?
---@param options FrameOptions?
---@return string
function M.frame(role, opcode, data, options)
  data, options = data or "", options or {}
  opcode = opcodes[opcode] or opcode
  local masked = options.masked
  if masked == nil then
    masked = role == "server"
  end
  local first = opcode | (options.rsv or 0) << 4 | (options.fin == false and 0 or 0x80)
  local head = string.char(first)
    .. length_field(options.len or #data, masked and 0x80 or 0, options.form)
  if not masked then
    return head .. data
  end
  local key = options.key or "\x37\xfa\x21\x3d"
  return head .. key .. M.mask(data, key)
end

---@param role string
---@param code integer?
---@param reason string?
---@return string
function M.close(role, code, reason)
  return M.frame(role, "close", code and string.pack(">I2", code) .. (reason or "") or "")
end

-- Takes one frame that a session of that role has sent: it must be masked or
-- not as 5.1 says. Returns what it is and the bytes after it.
---@param role string
---@param bytes string
---@return { opcode: integer, fin: boolean, rsv: integer, data: string, key: string }
---@return string rest
function M.unframe(role, bytes)
  local first, second, at = string.unpack("BB", bytes)
  local masked, len = second & 0x80 ~= 0, second & 0x7F
  assert(masked == (role == "client"), "mask bit of a frame that was sent")
  if len == 126 then
    len, at = string.unpack(">I2", bytes, at)
    assert(len >= 126, "16-bit length for a short frame")
  elseif len == 127 then
    len, at = string.unpack(">I8", bytes, at)
    assert(len >= 65536, "64-bit length for a short frame")
  end
  local key = ""
  if masked then
    key, at = bytes:sub(at, at + 3), at + 4
  end
  local data = bytes:sub(at, at + len - 1)
  assert(#data == len, "payload of a frame that was sent")
  return {
    opcode = first & 15, fin = first & 0x80 ~= 0, rsv = first >> 4 & 7,
    data = masked and M.mask(data, key) or data, key = key,
  }, bytes:sub(at + len)
end

local function close_text(data)
  return #data == 0 and "" or tostring(string.unpack(">I2", data))
end

-- The answer to an event as a line. The reason of a FAIL is only checked.
local function answer_line(role, event)
  local frame, rest = M.unframe(role, event.answer)
  assert(rest == "" and frame.fin and frame.rsv == 0)
  if event.type ~= "fail" then
    local data = frame.opcode == 8 and close_text(frame.data) or frame.data
    return ("> %s %s"):format(names[frame.opcode], data)
  end
  local reason = frame.data:sub(3)
  assert(reason == event.data, "reason of the close frame")
  assert(reason:find("^[%w ,'%-]+$") and #reason < 60, "a short ASCII reason")
  return ("> close %s"):format(close_text(frame.data))
end

local function event_line(event)
  local kind = event.type
  if kind == "message" then
    return ("%s %s"):format(names[event.opcode], event.data)
  elseif kind == "close" then
    return ("close %d %s"):format(event.code, event.data)
  elseif kind == "fail" then
    return ("fail %d"):format(event.code)
  elseif kind == "memory" then
    return kind
  end
  return ("%s %s"):format(kind, event.data)
end

-- Pieces of one message become one line: "text <joined>" when it is complete,
-- "text... <joined>" when something else, or nothing, came after them.
local function add_piece(lines, open, event)
  if not open then
    open = { data = "", name = names[event.opcode] }
  end
  open.data = open.data .. event.data
  if event.fin then
    lines[#lines + 1] = open.name .. " " .. open.data
    return nil
  end
  return open
end

---@param role string
---@param events table[]
---@return string[]
function M.lines(role, events)
  local lines, open = {}, nil
  for _, event in ipairs(events) do
    assert(not event.answer_error, event.answer_error)
    if event.type == "piece" then
      assert(#event.data <= 65536, "a piece is at most 64 KiB")
      open = add_piece(lines, open, event)
    else
      lines[#lines + 1] = event_line(event):gsub("%s+$", "")
    end
    if event.answer then
      lines[#lines + 1] = answer_line(role, event):gsub("%s+$", "")
    end
  end
  if open then
    lines[#lines + 1] = open.name .. "... " .. open.data
  end
  return lines
end

-- Calls fn with lists of segments: whole, cut in two at every byte (over 512
-- bytes: at 64 spread places), byte by byte.
---@param bytes string
---@param fn fun(segments: string[], how: string)
function M.cuts(bytes, fn)
  fn({ bytes }, "whole")
  local step = #bytes > 512 and #bytes / 64 or 1
  local at = 1.0
  while at < #bytes do
    local cut = math.floor(at)
    fn({ bytes:sub(1, cut), bytes:sub(cut + 1) }, "cut at " .. cut)
    at = at + step
  end
  local single = {}
  for i = 1, #bytes do
    single[i] = bytes:sub(i, i)
  end
  fn(single, "byte by byte")
end

---@class PlayOptions
---@field limits table? of testing.session
---@field before fun(session: table)? called first
---@field after fun(session: table, how: string)? called last

---@param role string
---@param options PlayOptions
---@param segments string[]
---@param way string
---@return table session
---@return string[] lines
function M.play(role, options, segments, way)
  local session = assert(testing.session(role, options.limits))
  if options.before then
    options.before(session)
  end
  local events = {}
  for _, segment in ipairs(segments) do
    local more = session:feed(segment, way)
    table.move(more, 1, #more, #events + 1, events)
  end
  return session, M.lines(role, events)
end

-- Plays the bytes in all cuttings and all ways, in a session of that role;
-- each must give exactly `expected`.
---@param role string
---@param bytes string
---@param expected string[]
---@param options PlayOptions?
function M.expect(role, bytes, expected, options)
  options = options or {}
  local want = table.concat(expected, "\n")
  M.cuts(bytes, function(segments, how)
    for _, way in ipairs(M.ways) do
      local session, lines = M.play(role, options, segments, way)
      local got = table.concat(lines, "\n")
      if got ~= want then
        error(("as %s, %s, %s: expected %q, got %q"):format(role, how, way, want, got), 2)
      end
      if options.after then
        options.after(session, how)
      end
      session:free()
    end
  end)
end

return M
