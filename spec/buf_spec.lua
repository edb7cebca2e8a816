-- csrc/proto/buf.h: what goes in comes out, memory is moved rather than grown,
-- and a failed allocation leaves the content alone.
local testing = require("cws.testing")

local function filled(text)
  local buf = testing.buf()
  assert.is_true(buf:append(text))
  return buf
end

local function sizes(buf)
  return { buf:sizes() } -- before the content, in it, of memory
end

after_each(function()
  testing.alloc_fail(0)
end)

describe("buf:", function()
  it("the zero value is empty and usable", function()
    local buf = testing.buf()
    assert.equal("", buf:bytes())
    assert.same({ 0, 0, 0 }, sizes(buf))
    assert.is_true(buf:append(""))
    assert.same({ 0, 0, 0 }, sizes(buf))
    buf:clear()
    buf:consume(0)
    buf:free()
    assert.is_true(buf:append("a"))
    assert.equal("a", buf:bytes())
  end)

  it("keeps what is appended, whatever the sizes", function()
    local buf, expected = testing.buf(), {}
    for size = 0, 600, 7 do
      local text = string.char(size % 256):rep(size)
      expected[#expected + 1] = text
      buf:append(text)
    end
    assert.equal(table.concat(expected), buf:bytes())
  end)

  it("consumes from the front and forgets the place when it is empty", function()
    local buf = filled("abcdef")
    buf:consume(2)
    assert.equal("cdef", buf:bytes())
    assert.equal(2, sizes(buf)[1])
    buf:consume(4)
    assert.same({ 0, 0, 256 }, sizes(buf))
  end)

  it("clear keeps the memory, free gives it back", function()
    local buf = filled(("x"):rep(1000))
    buf:clear()
    assert.same({ 0, 0, 1024 }, sizes(buf))
    buf:free()
    assert.same({ 0, 0, 0 }, sizes(buf))
    buf:free()
  end)

  it("doubles: appending is linear", function()
    local buf = testing.buf()
    testing.alloc_fail(0)
    for _ = 1, 16384 do
      buf:append("x")
    end
    assert.equal(7, testing.alloc_fail(0)) -- 256, 512 ... 16384
    assert.same({ 0, 16384, 16384 }, sizes(buf))
  end)

  it("moves to the front instead of growing when half of it is free there", function()
    local buf = filled(("x"):rep(255) .. "y")
    buf:consume(128)
    testing.alloc_fail(0)
    buf:append("z")
    assert.equal(0, testing.alloc_fail(0))
    assert.same({ 0, 129, 256 }, sizes(buf))
    assert.equal(("x"):rep(127) .. "yz", buf:bytes())
  end)

  it("grows instead of moving when less is free there: each byte moves once at most", function()
    local buf = filled(("x"):rep(256))
    buf:consume(127)
    buf:append("z")
    assert.same({ 127, 130, 512 }, sizes(buf))
    assert.equal(("x"):rep(129) .. "z", buf:bytes())
  end)

  it("a queue that never empties stays small", function()
    local buf, held = filled("0123456789"), "0123456789"
    for i = 1, 20000 do
      local text = ("%03d"):format(i % 1000)
      buf:append(text)
      held = (held .. text):sub(4)
      buf:consume(3)
    end
    assert.equal(held, buf:bytes())
    assert.equal(256, sizes(buf)[3])
  end)

  it("room is there before it is used, and lost when it is not", function()
    local buf = filled("abc")
    assert.is_true(buf:room(1000, "def"))
    assert.equal("abcdef", buf:bytes())
    assert.is_true(sizes(buf)[3] >= 1003)
    assert.is_true(buf:room(5))
    assert.equal("abcdef", buf:bytes())
    assert.is_true(testing.buf():room(0))
  end)

  it("a size that would wrap is out of memory", function()
    local buf = filled("abcdef")
    assert.is_false(buf:room(-1)) -- SIZE_MAX
    assert.is_false(buf:room(-6))
    buf:consume(2)
    for more = -6, -1 do
      assert.is_false(buf:room(more), "with bytes before it, " .. more)
    end
    assert.equal("cdef", buf:bytes())
  end)

  it("on a failed allocation the content is as it was", function()
    local buf = filled(("x"):rep(256))
    buf:consume(10)
    testing.alloc_fail(1)
    assert.same({ nil, "memory" }, { buf:append("y") })
    assert.equal(("x"):rep(246), buf:bytes())
    testing.alloc_fail(1)
    assert.is_false(buf:room(5000))
    assert.is_true(buf:append("y"))
    assert.equal(("x"):rep(246) .. "y", buf:bytes())
    testing.alloc_fail(1)
    assert.same({ nil, "memory" }, { testing.buf():append("y") })
  end)
end)
