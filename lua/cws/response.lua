-- The answer of a handler that does not upgrade. It is kept until the handler
-- has returned, then sent whole.

local check = require("cws.check")
local core = require("cws.core")
local fields = require("cws.fields")

-- An untouched one is an empty table: a connection that is upgraded keeps it on
-- its handler's stack.
---@class cws.response
---@field status integer 200 when not set
---@field private body string[]?
---@field private fields table<string, { name: string, values: string[] }>?
---@field private order string[]?
---@field private over string? why nothing can be written any more
local Response = { __name = "cws.response", status = 200 }
Response.__index = Response

---@return cws.response
function Response.new()
  return setmetatable({}, Response)
end

---Appends to the body.
---@param ... string|number
---@return true? ok, string? message, cws.kind? kind
function Response:write(...)
  if self.over then return nil, "write: " .. self.over, "usage" end
  local body = self.body or {}
  for i = 1, select("#", ...) do
    local piece = select(i, ...)
    if type(piece) ~= "string" and type(piece) ~= "number" then
      check.type_error(i, "write", "string", piece)
    end
    body[#body + 1] = tostring(piece)
  end
  self.body = body
  return true
end

---Sets a field of the answer (a list of values repeats the field); without a
---value returns what was set.
---@param name string
---@param ... string|string[]|nil
---@return string|string[]|nil
function Response:header(name, ...)
  check.type(1, "header", "string", name)
  local all, lower = self.fields or {}, name:lower()
  if select("#", ...) == 0 then
    local values = all[lower] and all[lower].values
    if not values or #values < 2 then return values and values[1] end
    return table.move(values, 1, #values, 1, {})
  end
  local value = ...
  local values = type(value) == "table" and table.move(value, 1, #value, 1, {}) or { value }
  for _, each in ipairs(values) do
    local problem = fields.problem(name, each)
    if problem then check.argument(core.is_token(name) and 2 or 1, "header", problem) end
  end
  if #values == 0 and value ~= nil and type(value) ~= "table" then
    check.type_error(2, "header", "string", value)
  end
  self:set(name, values)
end

---@private
---@param name string
---@param values string[] none: takes the field away
function Response:set(name, values)
  local all, lower = self.fields or {}, name:lower()
  self.fields, self.order = all, self.order or {}
  if not all[lower] then self.order[#self.order + 1] = lower end
  all[lower] = { name = name, values = values }
end

---Answers with a short text, as Go's http.Error; replaces what was written.
---@param status integer
---@param message? string the reason phrase of the status when left out
---@return true? ok, string? message, cws.kind? kind
function Response:error(status, message)
  if math.type(status) ~= "integer" or status < 200 or status > 999 then
    check.argument(1, "error", "status from 200 to 999 expected")
  end
  if message ~= nil then check.type(2, "error", "string", message) end
  if self.over then return nil, "error: " .. self.over, "usage" end
  self.status = status
  self:set("Content-Type", { "text/plain; charset=utf-8" })
  self:set("X-Content-Type-Options", { "nosniff" })
  self.body = { message or core.reason(status), "\n" }
  return true
end

---Whether anything of an answer was written.
---@return boolean
function Response:is_written()
  return self.body ~= nil
end

---Nothing can be written any more.
---@param why string
function Response:finish(why)
  self.over = why
end

---@param body string
---@return string
local function type_of(body)
  local start = body:sub(1, 512):match("^%s*(<[!%w]*%s*%w*)")
  start = start and start:lower() or ""
  if start:find("^<!doctype html") or start:find("^<html") then return "text/html; charset=utf-8" end
  return utf8.len(body) and "text/plain; charset=utf-8" or "application/octet-stream"
end

---@param self cws.response
---@return string[]
local function list_fields(self)
  local list = {}
  for _, lower in ipairs(self.order or {}) do
    local field = self.fields[lower]
    for _, value in ipairs(field.values) do
      list[#list + 1] = field.name
      list[#list + 1] = value
    end
  end
  return list
end

---Sends it.
---@param req cws.core.request
---@return true? ok, string? message, cws.kind? kind
function Response:send(req)
  local body = table.concat(self.body or {})
  local status = self.status
  if math.type(status) ~= "integer" or status < 200 or status > 999 then
    error("res.status: an integer from 200 to 999 expected", 0)
  end
  local list = list_fields(self)
  if body ~= "" and not (self.fields and self.fields["content-type"]) then
    list[#list + 1] = "Content-Type"
    list[#list + 1] = type_of(body)
  end
  self:finish("the answer was sent")
  return req:respond(status, list, body)
end

return Response
