-- req:upgrade: the policy of an upgrade (origins, subprotocols, fields). The
-- checks of the protocol itself are in C.

local check = require("cws.check")
local core = require("cws.core")
local fields = require("cws.fields")
local options = require("cws.options")

local upgrade = {}

local policy = { origins = true, protocols = true, headers = true }

---@alias cws.origins
---| "same" no Origin, or the same host and port as Host (the default)
---| "any"
---| string[] patterns as well: "https://*.example.com", "example.com:8080"
---| fun(origin: string?, req: cws.request): boolean

---@alias cws.protocols
---| string[] the first of these that the client offers
---| fun(offered: string[], req: cws.request): string?

---@class cws.upgrade.options: cws.limits
---@field origins? cws.origins
---@field protocols? cws.protocols
---@field headers? table<string, string|string[]>

-- --- origins ----------------------------------------------------------------

---Whether "*" in the pattern can stand for characters that make it the text. Each
---part is taken where it is found first: no Origin is looked through twice, as
---Lua's patterns would with several stars.
---@param text string
---@param pattern string
---@return boolean
local function matches_stars(text, pattern)
  local first, rest, last = pattern:match("^([^*]*)%*(.-)([^*]*)$")
  if not first then return text == pattern end
  if text:sub(1, #first) ~= first then return false end
  local at = #first + 1
  for part in rest:gmatch("[^*]+") do
    local _, stop = text:find(part, at, true)
    if not stop then return false end
    at = stop + 1
  end
  local tail = #text - #last + 1
  return tail >= at and text:sub(tail) == last
end

---Patterns with a scheme are compared with all of Origin, others with its host
---and port.
---@param origin string
---@param patterns string[]
---@return boolean
local function matches(origin, patterns)
  local scheme, authority = origin:lower():match("^([%w+.-]+)://([^/]*)$")
  for _, pattern in ipairs(patterns) do
    local its_scheme, rest = pattern:lower():match("^(.-)://(.*)$")
    if not its_scheme then
      if matches_stars(authority or "", pattern:lower()) then return true end
    elseif scheme and matches_stars(scheme, its_scheme) and matches_stars(authority, rest) then
      return true
    end
  end
  return false
end

---@param req cws.core.request
---@param origins cws.origins?
---@return boolean
local function is_allowed(req, origins)
  if origins == "any" then return true end
  if type(origins) == "function" then return not not origins(req:header("origin"), req) end
  if req:same_origin() then return true end
  if type(origins) ~= "table" then return false end
  return matches(req:header("origin") or "", origins)
end

-- --- subprotocols -----------------------------------------------------------

---@param list string[]
---@param name string
local function contains(list, name)
  for _, each in ipairs(list) do
    if each == name then return true end
  end
  return false
end

---@param req cws.core.request
---@param protocols cws.protocols?
---@return string?
local function choose(req, protocols)
  if not protocols then return nil end
  local offered = req:offered_protocols()
  if type(protocols) == "function" then
    local chosen = protocols(offered, req)
    if chosen and not contains(offered, chosen) then
      check.option("protocols", "upgrade", "the function chose what was not offered", 3)
    end
    return chosen or nil
  end
  for _, name in ipairs(protocols) do
    if contains(offered, name) then return name end
  end
  return nil
end

-- --- options ----------------------------------------------------------------

---@param list any
---@param is fun(text: string): boolean
local function is_list_of(list, is)
  if type(list) ~= "table" then return false end
  for key, value in pairs(list) do
    if math.type(key) ~= "integer" or type(value) ~= "string" or not is(value) then return false end
  end
  return true
end

local function is_origin(text)
  return text ~= "" and not text:find("[%c%s]")
end

---@param own cws.upgrade.options
---@return string[]? fields
local function check_policy(own)
  local origins, protocols = own.origins, own.protocols
  if origins ~= nil and origins ~= "same" and origins ~= "any" and type(origins) ~= "function"
    and not is_list_of(origins, is_origin) then
    check.option("origins", "upgrade", "\"same\", \"any\", a list of patterns or a function expected", 3)
  elseif protocols ~= nil and type(protocols) ~= "function" and not is_list_of(protocols, core.is_token) then
    check.option("protocols", "upgrade", "list of tokens or function expected", 3)
  end
  local list, problem = fields.list(own.headers)
  if problem then check.option("headers", "upgrade", problem, 3) end
  return list
end

-- --- upgrading --------------------------------------------------------------

local texts = {
  [403] = "Forbidden",
}

---@param req cws.core.request
---@param status integer
---@param message string
---@return nil, string, cws.kind, integer
local function refuse(req, status, message)
  core.response(req, false):finish("the upgrade was refused")
  req:respond(status, { "Content-Type", "text/plain; charset=utf-8" }, (texts[status] or core.reason(status)) .. "\n")
  return nil, message, "handshake", status
end

---Why the handler cannot upgrade the request any more; C knows when its time
---was over.
---@param req cws.core.request
---@return string?
local function too_late(req)
  local res = core.response(req)
  if not res then return "upgrade: the request is answered already" end
  if res:is_written() then return "upgrade: the handler has written an answer already" end
  return nil
end

---@param req cws.core.request
---@param given cws.upgrade.options?
---@return cws.ws? ws, string? message, cws.kind? kind, integer? status
local function upgrade_request(req, given)
  local own, limits = options.split(given, "upgrade", 1, policy, 2)
  local list = check_policy(own)
  local late = too_late(req)
  if late then return nil, late, "usage" end
  local ok, message, kind, status = req:check_upgrade()
  if not ok then
    if not status then return nil, message, kind end
    return refuse(req, status, message --[[@as string]])
  end
  if not is_allowed(req, own.origins) then
    return refuse(req, 403, "handshake: the Origin is not allowed")
  end
  local protocol = choose(req, own.protocols)
  late = too_late(req) -- a function of the options may have waited
  if late then return nil, late, "usage" end
  local res = core.response(req)
  local ws, why, what, code = check.passed("upgrade", 2, pcall(req.switch, req, protocol, list, limits))
  res:finish(ws and "the request was upgraded" or "the upgrade failed")
  if not ws then return nil, why, what, code end
  return ws
end

---Adds `upgrade` to the methods of requests: a function of C, which does without
---the one above when there are no options and nothing is in the way.
---@param methods table
function upgrade.install(methods)
  methods.upgrade = core.upgrader(upgrade_request)
end

return upgrade
