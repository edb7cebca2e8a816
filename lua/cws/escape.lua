-- Escaping for pages: text in HTML, strings in JavaScript.

local check = require("cws.check")

local escape = {}

-- The entities that Go's html/template writes; both quotes, so that the result
-- fits attributes in either.
local entities = {
  ["&"] = "&amp;",
  ["<"] = "&lt;",
  [">"] = "&gt;",
  ['"'] = "&#34;",
  ["'"] = "&#39;",
  ["\0"] = "\u{FFFD}",
}

---For text and for quoted attributes.
---@param text string|number
---@return string
function escape.html(text)
  if type(text) ~= "string" and type(text) ~= "number" then
    check.type_error(1, "html", "string", text)
  end
  return (tostring(text):gsub("[&<>\"'%z]", entities))
end

---@param char string
---@return string
local function unicode(char)
  return ("\\u%04X"):format(utf8.codepoint(char))
end

---A complete JavaScript string, with its quotes. `<`, `>`, `&` and both quotes
---become \uXXXX: nothing in it can end a script element or an attribute.
---@param text string|number
---@return string
function escape.js(text)
  if type(text) ~= "string" and type(text) ~= "number" then
    check.type_error(1, "js", "string", text)
  end
  -- U+2028 and U+2029 end a line in older JavaScript
  local body = tostring(text)
    :gsub("[%c\\<>&\"']", unicode)
    :gsub("\u{2028}", "\\u2028")
    :gsub("\u{2029}", "\\u2029")
  return '"' .. body .. '"'
end

return escape
