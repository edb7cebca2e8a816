local closed = require("cws.closed")

describe("is_close", function()
  it("is true for a close with one of the codes", function()
    assert.is_true(closed.is_close("closed", 1000, 1000))
    assert.is_true(closed.is_close("closed", 1001, 1000, 1001))
    assert.is_false(closed.is_close("closed", 1002, 1000, 1001))
    assert.is_false(closed.is_close("closed", 1000))
    assert.is_false(closed.is_close("timeout", 1000, 1000))
    assert.is_false(closed.is_close(nil, nil, 1000))
  end)

  it("raises when a code is no integer", function()
    assert.error_matches(function() closed.is_close("closed", 1000, "1000") end,
      "bad argument #3 to 'is_close' %(integer expected, got string%)")
    assert.error_matches(function() closed.is_close("closed", 1000, 1000, nil) end, "#4 .*got no value")
  end)
end)

describe("is_unexpected_close", function()
  it("is true for a close with none of the codes", function()
    assert.is_true(closed.is_unexpected_close("closed", 1006, 1000, 1001))
    assert.is_true(closed.is_unexpected_close("closed", 1006))
    assert.is_false(closed.is_unexpected_close("closed", 1000, 1000, 1001))
    assert.is_false(closed.is_unexpected_close("timeout", nil, 1000))
    assert.is_false(closed.is_unexpected_close("closed", nil, 1000)) -- a closed channel has no code
  end)

  it("raises when a code is no integer", function()
    assert.error_matches(function() closed.is_unexpected_close("closed", 1000, 1.5) end,
      "bad argument #3 to 'is_unexpected_close' %(integer expected, got number%)")
  end)
end)
