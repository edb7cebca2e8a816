-- The pages of the examples in a real browser. It leaves two screenshots:
-- build/page.png and build/chat.png.
local net = require("spec.support.net")
local process = require("spec.support.process")

local chromium = os.getenv("CWS_CHROMIUM")
local here = chromium and chromium ~= "" and process.exists("node")

local function test(name, fn)
  if here then return net.it(name, fn, 60) end
  return pending(name .. ": no Chromium or no node")
end

local function start_server(name)
  local server = process.start({ process.lua, "examples/" .. name .. ".lua", "-addr", "localhost:0" })
  return server, server:expect("^listening on (http://localhost:%d+/) ")
end

local function visit(...)
  return process.start({ "node", "spec/peers/page.js", ... })
end

-- What it saw, without errors.
local function seen(browser)
  local status = browser:wait(30)
  assert.same({ 0, "" }, { status, browser:err() })
  return browser:out()
end

describe("in Chromium", function()
  net.guard()
  process.guard()

  test("the echo page opens, sends, shows the response, closes (build/page.png)", function()
    local server, url = start_server("server")
    local browser = visit("echo", url, "build/page.png")
    browser:expect("stop the server\n", 30)
    server:kill("INT")
    assert.equal(0, server:wait(1.5))
    assert.equal([[
status 200 title cws echo lang en
stop the server
OPEN
SEND: Hello world!
RESPONSE: Hello world!
SEND: <b>bold</b> & "quoted" ü
RESPONSE: <b>bold</b> & "quoted" ü
CLOSE
OPEN
CLOSE
ERROR: the connection failed
CLOSE
]], seen(browser))
    assert.equal("recv: Hello world!\nrecv: <b>bold</b> & \"quoted\" ü\nread: websocket: close 1005 (no status)\n"
      .. "read: websocket: close 1001 (going away)\n", (server:err():gsub("^listening [^\n]*\n", "")))
  end)

  test("two visitors of the chat see what each says (build/chat.png)", function()
    local server, url = start_server("chat")
    local browser = visit("chat", url, "build/chat.png")
    browser:expect("stop the server\n", 30)
    server:kill("INT")
    assert.equal(0, server:wait(1.5))
    local visitor = "33 Hello, is anybody here? Yes: <i>me</i> & ü empty\nscrolled true\n"
    assert.equal(("status 200 title cws chat lang en\n"):rep(2) .. "stop the server\n" .. visitor:rep(2), seen(browser))
  end)

  test("messages of several sizes are compressed both ways", function()
    local agreed
    local server, url = net.serve({
      ["/"] = function(_, res)
        res:header("Content-Type", "text/html")
        res:write("<!DOCTYPE html><html lang=en><link rel=icon href=data:,><title>deflate</title>")
      end,
      ["/deflate"] = function(req)
        agreed = req:header("sec-websocket-extensions")
        local ws = assert(req:upgrade({ compression = { threshold = 1 } }))
        for message, type in ws:each() do
          ws:send(message, type)
        end
      end,
    })
    local browser = visit("deflate", (url:gsub("^ws", "http")) .. "/")
    local out = seen(browser)
    server:stop(0)
    assert.matches("permessage%-deflate", agreed)
    assert.equal("status 200 title deflate lang en\npermessage-deflate\n4000 true\n",
      (out:gsub("deflate; [^\n]*", "deflate")))
  end)
end)
