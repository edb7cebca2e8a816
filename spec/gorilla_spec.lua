-- docs/gorilla.md: every exported name of gorilla/websocket has a row, and what
-- the rows say to write runs.
local docs = require("spec.support.docs")
local net = require("spec.support.net")
local process = require("spec.support.process")

local PATH = "docs/gorilla.md"

-- go doc -all github.com/gorilla/websocket, version 1.5
local names = [[
CloseNormalClosure CloseGoingAway CloseProtocolError CloseUnsupportedData CloseNoStatusReceived
CloseAbnormalClosure CloseInvalidFramePayloadData ClosePolicyViolation CloseMessageTooBig
CloseMandatoryExtension CloseInternalServerErr CloseServiceRestart CloseTryAgainLater CloseTLSHandshake
TextMessage BinaryMessage CloseMessage PingMessage PongMessage
DefaultDialer ErrBadHandshake ErrCloseSent ErrReadLimit
FormatCloseMessage IsCloseError IsUnexpectedCloseError IsWebSocketUpgrade JoinMessages ReadJSON Subprotocols
WriteJSON
BufferPool BufferPool.Get BufferPool.Put
CloseError CloseError.Code CloseError.Text CloseError.Error
Conn NewClient Upgrade
Conn.Close Conn.CloseHandler Conn.EnableWriteCompression Conn.LocalAddr Conn.NextReader Conn.NextWriter
Conn.PingHandler Conn.PongHandler Conn.ReadJSON Conn.ReadMessage Conn.RemoteAddr Conn.SetCloseHandler
Conn.SetCompressionLevel Conn.SetPingHandler Conn.SetPongHandler Conn.SetReadDeadline Conn.SetReadLimit
Conn.SetWriteDeadline Conn.Subprotocol Conn.UnderlyingConn Conn.WriteControl Conn.WriteJSON
Conn.WriteMessage Conn.WritePreparedMessage
Dialer Dialer.NetDial Dialer.NetDialContext Dialer.NetDialTLSContext Dialer.Proxy Dialer.TLSClientConfig
Dialer.HandshakeTimeout Dialer.ReadBufferSize Dialer.WriteBufferSize Dialer.WriteBufferPool
Dialer.Subprotocols Dialer.EnableCompression Dialer.Jar Dialer.Dial Dialer.DialContext
HandshakeError HandshakeError.Error
PreparedMessage NewPreparedMessage
Upgrader Upgrader.HandshakeTimeout Upgrader.ReadBufferSize Upgrader.WriteBufferSize Upgrader.WriteBufferPool
Upgrader.Subprotocols Upgrader.Error Upgrader.CheckOrigin Upgrader.EnableCompression Upgrader.Upgrade
]]

-- The rows of all its tables, with their line.
local function rows()
  local list, number = {}, 0
  for line in docs.read(PATH):gmatch("([^\n]*)\n") do
    number = number + 1
    local name, snippet = line:match("^| (`.-`[^|]*) | `(.-)` |")
    if line:find("^| `") then
      assert(snippet, PATH .. ":" .. number .. ": no snippet")
      list[#list + 1] = {
        path = PATH, line = number, name = name, text = snippet .. "\n", note = "answered", language = "lua",
      }
    end
  end
  return list
end

describe(PATH, function()
  net.guard()
  process.guard()

  it("has every exported name", function()
    local text = docs.read(PATH)
    for name in names:gmatch("%S+") do
      assert.truthy(text:find("`" .. name .. "`", 1, true), name)
    end
  end)

  for _, row in ipairs(rows()) do
    net.it(row.name .. " runs", function()
      docs.run(row)
    end)
  end

  for _, block in ipairs(docs.blocks(PATH)) do
    if block.language == "lua" then
      net.it(("runs: line %d"):format(block.line), function() docs.run(block) end)
    end
  end

  net.it("knows the names that Go's own documentation has, where that is here", function()
    if not process.exists("go") then return end
    local status, out = process.run({ "go", "doc", "-all", "github.com/gorilla/websocket" },
      { env = { GO111MODULE = "off", GOPATH = "/usr/share/gocode", GOFLAGS = "" }, seconds = 60 })
    if status ~= 0 then return end
    local known = {}
    for name in names:gmatch("%S+") do
      known[name] = true
    end
    for line in out:gmatch("[^\n]+") do
      local receiver, method = line:match("^func %(%w+ %*?(%u%w*)%) (%u%w*)")
      local name = method and receiver .. "." .. method or line:match("^func (%u%w*)") or line:match("^type (%u%w*)")
      if name then assert.truthy(known[name], name) end
    end
  end)
end)
