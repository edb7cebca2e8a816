-- The examples of the reference run, its tables are those of the code.
local core = require("cws.core")
local docs = require("spec.support.docs")
local net = require("spec.support.net")
local process = require("spec.support.process")

describe("docs/api.md", function()
  net.guard()
  process.guard()

  for _, block in ipairs(docs.blocks("docs/api.md")) do
    net.it(("runs: %s (line %d)"):format(block.heading, block.line), function()
      assert.equal("lua", block.language)
      if docs.is_program(block) then docs.run_program(block) else docs.run(block) end
    end)
  end

  it("has an example for every function", function()
    local examples = {}
    for _, block in ipairs(docs.blocks("docs/api.md")) do
      examples[block.heading] = true
    end
    for heading in docs.read("docs/api.md"):gmatch("\n### ([^\n]*)") do
      assert.truthy(examples[heading], heading)
    end
  end)

  it("lists the options there are", function()
    local listed = {}
    for _, row in ipairs(docs.rows("docs/api.md", "option | of what")) do
      listed[row[1]:match("^`([%w_]+)`$")] = true
    end
    for name in pairs(core.defaults) do
      assert.truthy(listed[name], name)
      listed[name] = nil
    end
    assert.same({}, listed)
  end)

  it("has the defaults of compression", function()
    local listed = {}
    for _, row in ipairs(docs.rows("docs/api.md", "option in `compression` | default")) do
      listed[row[1]:match("^`([%w_]+)`$")] = row[2]:match("%w+")
    end
    for name, value in pairs(core.defaults.compression) do
      assert.equal(tostring(value), listed[name], name)
      listed[name] = nil
    end
    assert.same({}, listed)
  end)

  it("lists the kinds there are", function()
    local listed = {}
    for _, row in ipairs(docs.rows("docs/api.md", "kind")) do
      for kind in row[1]:gmatch("`(%w+)`") do
        listed[kind] = true
      end
    end
    local count = 0
    for kind in docs.read("lua/cws/core_meta.lua"):match("@alias cws.kind ([^\n]*)"):gmatch('"(%w+)"') do
      assert.truthy(listed[kind], kind)
      count = count + 1
    end
    assert.equal(14, count)
  end)
end)

describe("SECURITY.md", function()
  it("has the limits of the code", function()
    -- compression is no limit
    assert.same({ "compression: not listed" }, docs.wrong_defaults("SECURITY.md", "limit | default"))
  end)
end)
