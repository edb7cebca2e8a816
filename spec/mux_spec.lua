local Mux = require("cws.mux")

local function a() end
local function b() end
local function c() end

describe("mux", function()
  it("matches a pattern without a slash at its end exactly", function()
    local mux = Mux.new()
    mux:handle("/echo", a)
    assert.equal(a, (mux:match("/echo")))
    for _, path in ipairs({ "/echo/", "//echo", "/./echo", "/ECHO", "/echo;x", "/ech", "/echoo", "/", "", "*" }) do
      assert.is_nil((mux:match(path)))
    end
  end)

  it("matches by the longest prefix that ends in a slash", function()
    local mux = Mux.new()
    mux:handle("/", a)
    mux:handle("/images/thumbnails/", c)
    mux:handle("/images/", b)
    assert.equal(a, (mux:match("/")))
    assert.equal(a, (mux:match("/images")))
    assert.equal(b, (mux:match("/images/")))
    assert.equal(b, (mux:match("/images/x.png")))
    assert.equal(c, (mux:match("/images/thumbnails/x.png")))
  end)

  it("prefers an exact pattern", function()
    local mux = Mux.new()
    mux:handle("/a/", a)
    mux:handle("/a/b", b)
    assert.equal(b, (mux:match("/a/b")))
    assert.equal(a, (mux:match("/a/b/")))
    assert.same({ a, "/a/" }, { mux:match("/a/b/") })
  end)

  it("takes magic characters as they are", function()
    local mux = Mux.new()
    mux:handle("/a.b", a)
    mux:handle("/%d/", b)
    assert.is_nil((mux:match("/axb")))
    assert.is_nil((mux:match("/1/")))
    assert.equal(b, (mux:match("/%d/x")))
  end)

  it("raises for a pattern twice, for none, for no function", function()
    local mux = Mux.new()
    mux:handle("/a", a)
    assert.error_matches(function() mux:handle("/a", b) end, "pattern '/a' has a handler already")
    assert.error_matches(function() mux:handle("a", b) end, "pattern 'a' does not begin with '/'")
    assert.error_matches(function() mux:handle("", b) end, "does not begin with '/'")
    assert.error_matches(function() mux:handle("/b") end, "#2 to 'handle' %(function expected, got no value%)")
    assert.error_matches(function() mux:handle(1, b) end, "#1 to 'handle' %(string expected, got number%)")
    assert.equal(a, (mux:match("/a")))
  end)
end)
