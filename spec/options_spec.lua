local options = require("cws.options")

describe("options.split", function()
  it("parts policy from limits", function()
    local own, limits = options.split({ a = 1, b = 2, c = 3 }, "f", 1, { a = true })
    assert.same({ a = 1 }, own)
    assert.same({ b = 2, c = 3 }, limits)
  end)

  it("gives no limits when there are none", function()
    assert.same({ {} }, { options.split(nil, "f", 1, {}) })
    assert.same({ { a = 1 } }, { options.split({ a = 1 }, "f", 1, { a = true }) })
  end)

  it("raises for what is no table of options", function()
    assert.error_matches(function() options.split(1, "f", 2, {}) end, "bad argument #2 to 'f' %(table expected, got number%)")
    assert.error_matches(function() options.split({ "a" }, "f", 2, {}) end, "bad argument #2 to 'f' %(option names are strings%)")
  end)
end)
