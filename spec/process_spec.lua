-- spec/support/process.lua: what the other specs rely on.
local cws = require("cws")
local process = require("spec.support.process")
local net = require("spec.support.net")

describe("a process", function()
  net.guard()
  process.guard()

  net.it("gives its outputs and its status", function()
    local status, out, err = process.run({ "sh", "-c", "echo $A; pwd; echo b >&2; exit 3" }, {
      env = { A = "a c" }, cwd = "/",
    })
    assert.same({ 3, "a c\n/\n", "b\n" }, { status, out, err })
  end)

  net.it("tells the signal that ended it, and has SIGINT as a terminal leaves it", function()
    local p = process.start({ "sh", "-c", "echo ready; exec sleep 60" })
    p:expect("ready")
    assert.falsy(p:ended())
    p:kill("INT")
    assert.equal(-2, p:wait())
  end)

  net.it("that does not write or end fails with what it wrote", function()
    local p = process.start({ "sh", "-c", "echo other; exec sleep 60" })
    p:expect("other")
    local ok, message = pcall(p.expect, p, "this", 0.1)
    assert.falsy(ok)
    assert.matches("does not write this.*stdout: other", message)
    assert.matches("does not end", select(2, pcall(p.wait, p, 0.1)))
  end)

  net.it("that ended is not waited for", function()
    local p = process.start({ "true" })
    assert.matches("ended without writing x", select(2, pcall(p.expect, p, "x")))
  end)

  net.it("that is not there says so", function()
    assert.equal(127, (process.run({ "cws-no-such-program" })))
    assert.falsy(process.exists("cws-no-such-program"))
    assert.truthy(process.exists("sh"))
  end)

  -- Gone, or a zombie that waits for whoever is process 1.
  local function has_ended(pid)
    local file = io.open("/proc/" .. pid .. "/stat")
    local state = file and file:read("a"):match("%) (%u)") or "Z"
    if file then file:close() end
    return state == "Z" or state == "X"
  end

  local function wait_for_end(pid)
    for _ = 1, 100 do
      if has_ended(pid) then return end
      cws.sleep(0.01)
    end
    error("it lives")
  end

  local left
  net.it("may be left", function()
    left = process.start({ "sh", "-c", "sleep 60 & echo $!; wait" })
    left.child = left:expect("%d+")
  end)

  net.it("and is ended by the guard, with what it started", function()
    assert.equal(-9, left.status)
    wait_for_end(left.child)
  end)

  net.it("may end before what it started", function()
    left = process.start({ "sh", "-c", "sleep 60 & echo $!" })
    left.child = left:expect("%d+")
    assert.equal(0, left:wait())
    assert.falsy(has_ended(left.child))
  end)

  net.it("and that is ended by the guard", function() wait_for_end(left.child) end)
end)
