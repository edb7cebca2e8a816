-- Plays a head into the parser of layer 1 (cws.testing.http) in every cutting
-- and tells what a server, or a client, makes of it.
local testing = require("cws.testing")
local cuts = require("spec.support.session").cuts

local M = {}

M.key = "dGhlIHNhbXBsZSBub25jZQ=="
M.accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

-- Lines to a head. An entry `false` is left out.
---@param lines (string|false)[]
---@return string
function M.head(lines)
  local out = {}
  for _, line in ipairs(lines) do
    if line then
      out[#out + 1] = line .. "\r\n"
    end
  end
  return table.concat(out) .. "\r\n"
end

local upgrade_fields = {
  "Host: good.example", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: " .. M.key,
  "Sec-WebSocket-Version: 13",
}

local answer_fields = { "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: " .. M.accept }

-- The fields with changes: `changes[name]` replaces a field's value (a list:
-- several fields; false: none); the array part is added at the end.
local function changed(fields, changes)
  local out = {}
  for _, field in ipairs(fields) do
    local name = field:match("^[^:]+")
    local change = changes[name]
    if change == nil then
      out[#out + 1] = field
    elseif type(change) == "table" then
      for _, value in ipairs(change) do
        out[#out + 1] = name .. ": " .. value
      end
    elseif change then
      out[#out + 1] = name .. ": " .. change
    end
  end
  return table.move(changes, 1, #changes, #out + 1, out)
end

-- A request with all that an upgrade needs, changed; `line` replaces the
-- request line.
---@param changes table?
---@param line string?
---@return string
function M.upgrade(changes, line)
  local lines = changed(upgrade_fields, changes or {})
  table.insert(lines, 1, line or "GET /ws HTTP/1.1")
  return M.head(lines)
end

-- A 101 answer to M.key, likewise.
---@param changes table?
---@param line string?
---@return string
function M.answer(changes, line)
  local lines = changed(answer_fields, changes or {})
  table.insert(lines, 1, line or "HTTP/1.1 101 Switching Protocols")
  return M.head(lines)
end

-- What came of the parser: "more", "item", or the failure's status and text.
local function parse(kind, segments, limits)
  local http = testing.http(kind, limits)
  local result, scanned, size = "more", 0, 0
  for _, segment in ipairs(segments) do
    result, scanned = http:feed(segment)
    size = size + #segment
    -- what was looked at is not looked at again, but for a CR at the end
    assert(result ~= "more" or scanned >= size - 1, "bytes left for a second look")
    assert(scanned <= size, "more looked at than there was")
  end
  if result == "bad" then
    assert(http:feed("\r\n\r\n") == "bad", "what failed stays failed")
    local status, text = http:failure()
    return http, ("%d %s"):format(status, text)
  end
  return http, result
end

-- The server's decision as a line, "101", "200" or a status with its reason,
-- and what it knows then. /ws upgrades, all other paths answer 200.
---@param segments string[]
---@param limits table?
---@return string outcome, table seen
function M.serve(segments, limits)
  local http, result = parse("request", segments, limits)
  if result ~= "item" then
    return result, {}
  end
  local seen = { head = http:head(), http = http }
  local request, why = http:request()
  if type(request) ~= "table" then
    return ("%d %s"):format(request, why), seen
  end
  seen.request = request
  if request.path ~= "/ws" then
    return "200", seen
  end
  local upgrade
  upgrade, why = http:upgrade()
  if type(upgrade) ~= "table" then
    return ("%d %s"):format(upgrade, why), seen
  end
  seen.upgrade = upgrade
  local same = not upgrade.origin or testing.same_origin(upgrade.origin, request.host)
  return same and "101" or "403", seen
end

-- The client's decision: "101 protocol extensions", another status, or
-- the kind of the error. `offer` is what it asked for.
---@param segments string[]
---@param offer table?
---@param limits table?
---@return string outcome, table seen
function M.dial(segments, offer, limits)
  local http, result = parse("response", segments, limits)
  if result ~= "item" then
    local kind = { ["0"] = "handshake", ["431"] = "limit" }
    local status, why = result:match("^(%d+) (.*)")
    return status and ("%s: %s"):format(kind[status], why) or result, {}
  end
  local seen = { head = http:head(), http = http }
  if seen.head.status ~= 101 then
    return tostring(seen.head.status), seen
  end
  offer = offer or {}
  offer.key = offer.key or M.key
  local protocol, extensions, why = http:check_response(offer)
  if not protocol then
    return ("%s: %s"):format(extensions, why), seen
  end
  seen.protocol, seen.extensions = protocol, extensions
  return "101", seen
end

-- Every cutting must give the same as the whole; returns that.
local function in_all_cuts(bytes, fn)
  local first, details
  cuts(bytes, function(segments, how)
    local outcome, seen = fn(segments)
    first, details = first or outcome, details or seen
    if outcome ~= first then
      error(("whole: %s; %s: %s; of %q"):format(first, how, outcome, bytes:sub(1, 200)), 3)
    end
  end)
  return first, details
end

local function matches(outcome, expected)
  return outcome == expected or outcome:sub(1, #expected + 1) == expected .. " "
    or outcome:sub(1, #expected + 1) == expected .. ":"
end

-- The request must get that: "101", "200", "400", or "400 with this reason".
-- Returns what is known of it.
---@param bytes string
---@param expected string
---@param limits table?
---@return table seen
function M.expect(bytes, expected, limits)
  local outcome, seen = in_all_cuts(bytes, function(segments)
    return M.serve(segments, limits)
  end)
  if not matches(outcome, expected) then
    error(("expected %s, got %s, for %q"):format(expected, outcome, bytes:sub(1, 300)), 2)
  end
  return seen
end

-- Likewise for an answer: "101", "404", "handshake" or "limit".
---@param bytes string
---@param expected string
---@param offer table?
---@return table seen
function M.expect_answer(bytes, expected, offer)
  local outcome, seen = in_all_cuts(bytes, function(segments)
    return M.dial(segments, offer)
  end)
  if not matches(outcome, expected) then
    error(("expected %s, got %s, for %q"):format(expected, outcome, bytes:sub(1, 300)), 2)
  end
  return seen
end

return M
