-- cws.connect: the options of a client that are no limits.

local check = require("cws.check")
local core = require("cws.core")
local fields = require("cws.fields")
local options = require("cws.options")

local policy = { protocols = true, headers = true }

---@class cws.connect.options: cws.limits
---@field protocols? string[] offered, in this order
---@field headers? table<string, string|string[]> more fields of the request

---Connects to a ws:// or wss:// URL. A refused upgrade gives nil, message,
---"handshake", the status and the response with the first 1024 bytes of its body.
---@param url string
---@param given? cws.connect.options
---@return cws.ws? ws, cws.core.response|string response, cws.kind? kind, integer? status, cws.core.response? refusal
local function connect(url, given)
  check.type(1, "connect", "string", url)
  local own, limits = options.split(given, "connect", 2, policy)
  local list, problem = fields.list(own.headers)
  if problem then check.option("headers", "connect", problem) end
  if own.protocols ~= nil and type(own.protocols) ~= "table" then
    check.option_type("protocols", "connect", "list of tokens", own.protocols)
  end
  return check.passed("connect", 0, pcall(core.connect, url, own.protocols, list, limits))
end

return connect
