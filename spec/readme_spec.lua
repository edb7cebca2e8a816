-- What the README shows is what happens.
local core = require("cws.core")
local cws = require("cws")
local docs = require("spec.support.docs")
local net = require("spec.support.net")
local process = require("spec.support.process")

local blocks = docs.blocks("README.md")

-- The n-th block of a language below a heading.
local function block(heading, language, n)
  for _, each in ipairs(blocks) do
    if each.heading == heading and each.language == language then
      n = (n or 1) - 1
      if n == 0 then return each end
    end
  end
  error(("README.md: no block of %s below %s"):format(language, heading))
end

-- Numbers differ from run to run.
local function shape(text)
  return (text:gsub("%d+", "N"))
end

local function count_lines(text)
  return select(2, text:gsub("\n", ""))
end

describe("README.md", function()
  net.guard()
  process.guard()

  it("has its parts in order", function()
    local parts = {}
    for heading in docs.read("README.md"):gmatch("\n## ([^\n]*)") do
      parts[#parts + 1] = heading
    end
    assert.same({
      "Run it", "An echo server", "An echo client", "Use it in your own program", "What it does", "Rules",
      "Limits and defaults", "Troubleshooting", "Licence",
    }, parts)
  end)

  it("links to what is there", function()
    for target in docs.read("README.md"):gmatch("%]%(([^)#:]+)[^)]*%)") do
      assert.truthy(os.execute("test -e '" .. target .. "'"), target)
    end
  end)

  it("names verbs that make knows", function()
    local makefile = docs.read("Makefile")
    local verbs = 0
    for _, each in ipairs(blocks) do
      for verb in (each.language == "sh" and each.text or ""):gmatch("%f[%w]make (%l[%w-]*)") do
        assert.truthy(makefile:find("\n" .. verb:gsub("%-", "%%-") .. ":", 1), verb)
        verbs = verbs + 1
      end
    end
    assert.truthy(verbs >= 5)
    assert.equal("apt-get install -y make && make run\n", block("Run it", "sh").text)
    assert.equal("make test\n", block("Run it", "sh", 3).text)
  end)

  -- --- the examples of the checkout -----------------------------------------

  net.it("shows what the server writes", function()
    local _, built = process.run({ "sh", "tools/built.sh", os.getenv("CWS_BUILD"), process.lua, "yes" })
    local port = process.free_port()
    local server = process.start({ process.lua, "examples/server.lua", "-addr", "localhost:" .. port })
    server:expect("listening")
    server:kill("INT")
    assert.equal(0, server:wait())
    built = built:gsub("built %S+/cws", "built build/cws")
    assert.equal(shape(block("Run it", "text").text), shape(built .. server:err()))
  end)

  net.it("shows what the client writes", function()
    local address = "localhost:" .. process.free_port()
    local server = process.start({ process.lua, "examples/server.lua", "-addr", address })
    server:expect("listening")
    local client = process.start({ process.lua, "examples/client.lua", "-addr", address }, { env = { TZ = "UTC" } })
    client:expect("recv.*recv")
    client:kill("INT")
    assert.equal(0, client:wait())
    assert.equal(shape(block("Run it", "text", 2).text), shape(client:err()))
  end)

  it("shows how busted ends", function()
    assert.matches("^%d+ successes / 0 failures / 0 errors / 0 pending : [%d.]+ seconds\n$",
      block("Run it", "text", 3).text)
  end)

  -- --- its own programs -----------------------------------------------------

  net.it("has a server and a client that talk to each other", function()
    local server_block, client_block = block("An echo server", "lua"), block("An echo client", "lua")
    assert.equal(10, count_lines(server_block.text))
    assert.equal(8, count_lines(client_block.text))
    local address = "127.0.0.1:" .. process.free_port()
    local server = docs.start(server_block, address)
    docs.wait_for(address)
    local client = docs.start(client_block, address)
    assert.equal(0, client:wait(), client:err())
    assert.equal(block("An echo client", "text").text, client:out())
    server:kill("INT")
    assert.equal(0, server:wait(), server:err())
    assert.equal("", server:err())
    os.remove(server.path)
    os.remove(client.path)
  end)

  net.it("says how to use the checkout from elsewhere", function()
    local script = block("Use it in your own program", "sh").text
    local commands, n = script:gsub("^make\n", "") -- it is built, perhaps with other flags
    assert.equal(1, n)
    commands = commands:gsub("lua5%.4", process.lua .. " ")
    local status, out, err = process.run({ "sh", "-c", commands }, { env = { LUA_PATH = "", LUA_CPATH = "" } })
    assert.equal(0, status, err)
    assert.equal(block("Use it in your own program", "text").text, out)
    assert.equal(cws._VERSION .. "\n", out)
  end)

  -- --- tables ---------------------------------------------------------------

  it("has the limits of the code", function()
    assert.same({}, docs.wrong_defaults("README.md", "option | default"))
  end)

  it("explains messages that cws has", function()
    local sources = {}
    for path in io.popen("ls lua/cws/*.lua csrc/*.c csrc/*/*.c tools/*.sh examples/*.lua"):lines() do
      sources[#sources + 1] = docs.read(path)
    end
    local source = table.concat(sources, "\n"):gsub('"%s*\n%s*"', ""):gsub("`", "")
    for _, row in ipairs(docs.rows("README.md", "message")) do
      local message = row[1]:gsub("`", "")
      local what = message:gsub("^%w+: ", ""):gsub(" ?…", ""):gsub(" 404 Not Found", "")
      local foreign = message:find("^E: ") or message:find("^module") or message:find("address already")
        or message:find("refused") or message:find("^websocket: ")
      if message:find("Lua 5.3") then what = "cws needs Lua 5.4, but this is " end
      if not foreign then assert.truthy(source:find(what, 1, true), message) end
    end
  end)

  it("names the close codes' texts in what it explains", function()
    for code, text in docs.read("README.md"):gmatch("websocket: close (%d+) %(([^)]*)%)") do
      assert.equal(cws.close_codes[tonumber(code)], text)
    end
    assert.truthy(core.defaults)
  end)
end)
