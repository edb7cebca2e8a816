local net = require("spec.support.net")
local core = require("cws.core")

describe("the module", function()
  net.guard()

  net.it("is the same when it is loaded again, and what is open lives on", function()
    local server, url = net.serve({ ["/"] = function(req)
      local ws = req:upgrade()
      for message in ws:each() do
        ws:send(message)
      end
    end })
    local loaded = package.loaded["cws.core"]
    package.loaded["cws.core"] = nil
    local again = require("cws.core")
    package.loaded["cws.core"] = loaded
    assert.equal(core, again)
    collectgarbage()
    collectgarbage()
    local ws = assert(require("cws").connect(url .. "/"))
    assert(ws:send("still here"))
    assert.equal("still here", (ws:receive(5)))
    ws:close()
    server:stop(0)
  end)

  it("tells the versions of all it is made of", function()
    local cws = require("cws")
    local versions = cws.versions()
    assert.matches("^5%.4", versions.lua)
    assert.matches("^4%.", versions.libev)
    assert.matches("^3%.", versions.openssl)
    assert.equal("cws " .. versions.cws, cws._VERSION)
  end)

  it("has a clock that starts with it and one that is the wall's", function()
    local cws = require("cws")
    local before = cws.now()
    local seconds, nanoseconds = cws.time()
    assert.is_true(before >= 0 and cws.now() >= before)
    assert.is_true(math.abs(seconds - os.time()) <= 1)
    assert.is_true(nanoseconds >= 0 and nanoseconds < 1000000000)
  end)
end)
