-- JSON messages, with the codec that is installed.

local json = {}

-- { module, function that makes a codec of it }
local candidates = {
  { "cjson", function(cjson)
    return { encode = cjson.encode, decode = cjson.decode, null = cjson.null }
  end },
  { "dkjson", function(dkjson)
    return {
      encode = dkjson.encode,
      null = dkjson.null,
      decode = function(text)
        local value, after, message = dkjson.decode(text, 1, dkjson.null)
        if message then error(message, 0) end
        -- dkjson ends at the end of the value
        local more = text:find("[^ \t\r\n]", after)
        if more then error("something follows the value at byte " .. more, 0) end
        return value
      end,
    }
  end },
}

---@class cws.json.codec
---@field encode fun(value: any): string raises when it cannot
---@field decode fun(text: string): any raises when it cannot
---@field null any what stands for null, if anything does

---The first codec that is installed.
---@param load? fun(name: string): any `require`
---@return cws.json.codec?
function json.find(load)
  for _, candidate in ipairs(candidates) do
    local ok, module = pcall(load or require, candidate[1])
    if ok and type(module) == "table" then return candidate[2](module) end
  end
  return nil
end

local missing = "no JSON codec is installed (install lua-cjson or dkjson, or set cws.json)"

---A message of the codec, fit for `operation: text`.
---@param operation string
---@param message any
---@return nil, string, cws.kind
local function failed(operation, message)
  local text = tostring(message):gsub("^[^%s:]+:%d+: ", ""):gsub("%c", " "):sub(1, 160)
  return nil, operation .. ": " .. text, "usage"
end

---Adds send_json and receive_json to the methods of connections.
---@param methods table
---@param get_codec fun(): cws.json.codec?
function json.install(methods, get_codec)
  ---Sends a value as JSON text.
  ---@param value any
  ---@param timeout? number
  ---@return true? ok, string? message, cws.kind? kind, integer? code
  function methods:send_json(value, timeout)
    local codec = get_codec()
    if not codec then return failed("send_json", missing) end
    local ok, text, why = pcall(codec.encode, value)
    if not ok then return failed("send_json", text) end
    if type(text) ~= "string" then return failed("send_json", why or "the codec gave no string") end
    return self:send(text, "text", timeout)
  end

  ---Receives a message and decodes it. JSON that is not well-formed gives the
  ---kind "usage" and leaves the connection open.
  ---@param timeout? number
  ---@return any value, string? message, cws.kind? kind, integer? code
  function methods:receive_json(timeout)
    local codec = get_codec()
    if not codec then return failed("receive_json", missing) end
    local text, message, kind, code = self:receive(timeout)
    if not text then return nil, message, kind, code end
    local ok, value, why = pcall(codec.decode, text)
    if not ok then return failed("receive_json", value) end
    if value == nil and why ~= nil then return failed("receive_json", why) end
    return value
  end
end

return json
