-- Page templates: {{name}} in text and in quoted attributes, {{name:js}} for a
-- whole JavaScript string in a script. A template that would put a value where
-- escaping cannot make it safe does not compile.

local check = require("cws.check")
local escape = require("cws.escape")

-- --- where in a page --------------------------------------------------------

-- Follows the page as far as a placeholder needs it: `where` is "text", "tag",
-- "value" (a quoted attribute), "comment", or the name of an element whose
-- content is not HTML.
---@class cws.template.place
---@field where string
---@field tag string the tag that is open, or was opened last
---@field name string the attribute seen last
---@field wants_value boolean its "=" is there
---@field quote string? what ends its value
---@field script string? the script so far
local Place = {}
Place.__index = Place

local raw_elements = { script = true, style = true }

---@return cws.template.place
local function new_place()
  return setmetatable({ where = "text", tag = "" }, Place)
end

---Each takes the page from `at` on and returns where it went on.
---@type table<string, fun(place: cws.template.place, html: string, at: integer): integer>
local steps = {}

function steps.text(place, html, at)
  local open = html:find("<[%a/!]", at)
  if not open then return #html + 1 end
  if html:sub(open, open + 3) == "<!--" then
    place.where = "comment"
    return open + 4
  end
  local slash, name, stop = html:match("^<([/!]?)(%w*)()", open)
  place.where, place.name, place.wants_value = "tag", "", false
  place.tag = slash == "" and name:lower() or ""
  return stop
end

function steps.comment(place, html, at)
  local _, stop = html:find("-->", at, true)
  if stop then place.where = "text" end
  return (stop or #html) + 1
end

function steps.tag(place, html, at)
  local stop, char = html:match("()([>\"'=%s/])", at)
  if not stop then return #html + 1 end
  if stop > at then place.name, place.wants_value = html:sub(at, stop - 1), false end
  if char == ">" then
    place.where = raw_elements[place.tag] and place.tag or "text"
    place.script = ""
  elseif char == "=" then
    place.wants_value = true
  elseif char == "/" then
    place.wants_value = false
  elseif char:find("[\"']") and place.wants_value then
    place.where, place.quote = "value", char
  end
  return stop + 1
end

function steps.value(place, html, at)
  local stop = html:find(place.quote, at, true)
  if stop then place.where, place.wants_value = "tag", false end
  return (stop or #html) + 1
end

---@param name string
local function raw_step(name)
  local close = "</" .. name
  return function(place, html, at)
    local stop = html:lower():find(close, at, true)
    place.script = place.script .. html:sub(at, (stop or #html + 1) - 1)
    if not stop then return #html + 1 end
    place.where, place.tag = "tag", ""
    return stop + #close
  end
end

steps.script = raw_step("script")
steps.style = raw_step("style")

---@param html string
function Place:follow(html)
  local at = 1
  while at <= #html do
    at = steps[self.where](self, html, at)
  end
  if self.where == "text" and html:find("<[/!]?$") then self.where = "tag" end
end

-- --- where in a script ------------------------------------------------------

-- A slash after one of these begins a regular expression, not a division.
local before_regex = "[%(,=:%[!&|%?{};%+%-%*%%~^<>]$"

---The position after a string, comment or regular expression that begins at
---`at`; nil when the script ends inside it.
---@param script string
---@param at integer
---@return integer? stop, string? inside
local function skip_token(script, at)
  local two, one = script:sub(at, at + 1), script:sub(at, at)
  if two == "//" then
    return script:find("\n", at, true), "a comment"
  elseif two == "/*" then
    local _, stop = script:find("*/", at + 2, true)
    return stop and stop + 1, "a comment"
  end
  local i = at + 1
  local in_class = false
  while i <= #script do
    local char = script:sub(i, i)
    if char == "\\" then
      i = i + 1
    elseif one == "/" and char == "[" then
      in_class = true
    elseif one == "/" and char == "]" then
      in_class = false
    elseif (char == one and not in_class) or (char == "\n" and one ~= "`") then
      return i + 1
    end
    i = i + 1
  end
  return nil, one == "/" and "a regular expression" or "a string"
end

---@param script string
---@param at integer
---@return boolean
local function begins_regex(script, at)
  local before = script:sub(1, at - 1):gsub("%s+$", "")
  local word = before:match("([%a_$][%w_$]*)$")
  return before == "" or before:find(before_regex) ~= nil or word == "return" or word == "typeof" or word == "case"
end

---What the end of a script is inside of: a string, a comment, ...
---@param script string
---@return string?
local function inside(script)
  local at = 1
  while true do
    local start = script:find("[\"'`/]", at)
    if not start then return nil end
    local two = script:sub(start, start + 1)
    if script:sub(start, start) == "/" and two ~= "//" and two ~= "/*" and not begins_regex(script, start) then
      at = start + 1
    else
      local stop, what = skip_token(script, start)
      if not stop then return what end
      at = stop
    end
  end
end

-- --- compiling --------------------------------------------------------------

---Why a placeholder cannot stand at a place; nil when it can.
---@param place cws.template.place
---@param filter string
---@return string?
local function problem(place, filter)
  local where, attribute = place.where, (place.name or ""):lower()
  if where == "script" then
    if filter ~= "js" then return "in a script only {{name:js}} is safe" end
    local what = inside(place.script)
    return what and ("{{name:js}} is a whole string and cannot stand inside " .. what)
  elseif filter == "js" then
    return "{{name:js}} is only for scripts"
  elseif where == "tag" then
    return "an attribute with a placeholder needs quotes around its value"
  elseif where == "comment" or where == "style" then
    return "a placeholder in a " .. where .. " is not safe"
  elseif where == "value" and (attribute:find("^on") or attribute == "style" or attribute == "srcdoc") then
    return ("a placeholder in the attribute '%s' is not safe"):format(attribute)
  end
  return nil
end

---@param text string
---@param at integer
---@param why string
local function fail(text, at, why)
  local _, lines = text:sub(1, at):gsub("\n", "")
  check.argument(1, "template", ("line %d: %s"):format(lines + 1, why), 3)
end

local filters = { [""] = escape.html, js = escape.js }

---@param text string
---@return (string|{ name: string, filter: fun(text: string): string })[]
local function parse(text)
  local parts, place, at = {}, new_place(), 1
  while true do
    local start = text:find("{{", at, true)
    local literal = text:sub(at, (start or #text + 1) - 1)
    parts[#parts + 1] = literal
    if not start then return parts end
    place:follow(literal)
    local name, filter, stop = text:match("^{{%s*([%a_][%w_]*):?(%w*)%s*}}()", start)
    if not name or not filters[filter] then
      fail(text, start, "{{name}} or {{name:js}} expected")
    end
    local why = problem(place, filter)
    if why then fail(text, start, why) end
    if place.where == "script" then place.script = place.script .. '""' end
    parts[#parts + 1] = { name = name, filter = filters[filter] }
    at = stop
  end
end

---Compiles a page: the function returned puts values in.
---
---    local page = cws.template("<p>Hello {{name}}</p>")
---    res:write(page{ name = "you" })
---
---It escapes; it does not judge URLs: check what goes into href or src.
---@param text string
---@return fun(values: table<string, string|number>): string
local function template(text)
  check.type(1, "template", "string", text)
  local parts = parse(text)
  return function(values)
    check.type(1, "template", "table", values)
    local out = {}
    for i, part in ipairs(parts) do
      if type(part) == "table" then
        local value = values[part.name]
        if type(value) ~= "string" and type(value) ~= "number" then
          check.argument(1, "template", ("string expected for '%s', got %s"):format(part.name, type(value)))
        end
        part = part.filter(value)
      end
      out[i] = part
    end
    return table.concat(out)
  end
end

return template
