-- csrc/proto/http.h: heads of requests and responses, RFC 9112 as strictly as
-- it allows. Every head is fed whole, cut at every byte, and byte by byte.
local testing = require("cws.testing")
local support = require("spec.support.http")
local head, expect = support.head, support.expect

-- A request for "/" with these lines after the request line.
local function with(...)
  return head({ "GET / HTTP/1.1", "Host: a", ... })
end

local function all(list, expected)
  for _, bytes in ipairs(list) do
    expect(bytes, expected)
  end
end

local function lines_of(list)
  local out = {}
  for i, line in ipairs(list) do
    out[i] = head({ line, "Host: a" })
  end
  return out
end

describe("request line:", function()
  it("its parts are found", function()
    local seen = expect("GET /a/b?c=d HTTP/1.1\r\nHost: h\r\n\r\n", "200")
    assert.same({
      method = "GET", target = "/a/b?c=d", minor = 1, fields = { "Host", "h" }, size = 34,
    }, seen.head)
  end)

  it("one empty line before it is skipped, B007", function()
    local seen = expect("\r\n" .. with(), "200")
    assert.equal("GET", seen.head.method)
    assert.equal(#with() + 2, seen.head.size)
    expect("\r\n" .. support.upgrade(), "101")
    expect("\r\n\r\n" .. with(), "400")
    expect("\n" .. with(), "400")
    expect("\r" .. with(), "400")
  end)

  it("a response has no empty line before it", function()
    support.expect_answer("\r\n" .. support.answer(), "handshake")
  end)

  it("HTTP/1.0 needs no Host, B013", function()
    local seen = expect("GET / HTTP/1.0\r\n\r\n", "200")
    assert.equal(0, seen.head.minor)
    assert.equal("", seen.request.host)
  end)

  it("HTTP/1.2 is treated as 1.1, B015", function()
    expect(support.upgrade({}, "GET /ws HTTP/1.2"), "101")
    expect(support.upgrade({}, "GET /ws HTTP/1.9"), "101")
  end)

  it("a malformed version is refused, B017", function()
    all(lines_of({
      "GET / http/1.1", "GET / HTTP/1.", "GET / HTTP/11.1", "GET / HTTP/1,1", "GET / HTTP/1.11", "GET / HTTP/1.1 ",
      "GET / HTTP/a.1", "GET / HTTP/1.a", "GET / HTTP/.1", "GET / HTTP/1", "GET / HTTP", "GET / ", "GET /",
      "GET / HTTP/1.1\t", "GET / HTTPS/1.1", "GET / HTTP /1.1", "GET / \0TTP/1.1", "GET / HTTP/-1.1",
    }), "400")
  end)

  it("another major version is not supported, B011", function()
    expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505")
    all(lines_of({ "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.1" }), "505")
  end)

  it("the method is a token and one space follows each part", function()
    all(lines_of({
      "", "GET", "GET ", " GET / HTTP/1.1", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/\tHTTP/1.1",
      "GET\t/ HTTP/1.1", "G(T / HTTP/1.1", "G\0T / HTTP/1.1", "G\xC3\xA9T / HTTP/1.1", "GET: / HTTP/1.1",
      "/ HTTP/1.1", "GET HTTP/1.1", "\"GET\" / HTTP/1.1",
    }), "400")
  end)

  it("an unknown method is not implemented, B018", function()
    expect(support.upgrade({}, "FOO /ws HTTP/1.1"), "501")
    expect(support.upgrade({}, "get /ws HTTP/1.1"), "501")
    expect(support.upgrade({}, "!#$%&'*+-.^_`|~09 /ws HTTP/1.1"), "501")
  end)

  it("a method of 9 000 letters is over the limit, B021", function()
    expect(head({ ("G"):rep(9000) .. " / HTTP/1.1", "Host: a" }), "414")
    expect(head({ ("G"):rep(8000) .. " / HTTP/1.1", "Host: a" }), "501")
  end)

  it("the target has visible ASCII only, B027", function()
    for byte = 0, 255 do
      local line = "GET /a" .. string.char(byte) .. "b HTTP/1.1"
      local fine = byte > 0x20 and byte < 0x7F and byte ~= ("%"):byte() and byte ~= ("#"):byte()
      expect(head({ line, "Host: a" }), fine and "200" or "400")
    end
  end)

  it("8 192 bytes are served, one more is too long, B029", function()
    local function line(n)
      return "GET /" .. ("a"):rep(n - #"GET / HTTP/1.1") .. " HTTP/1.1"
    end
    expect(head({ line(8000), "Host: a" }), "200")
    expect(head({ line(8192), "Host: a" }), "200")
    expect(head({ line(8193), "Host: a" }), "414")
    expect("\r\n" .. head({ line(8192), "Host: a" }), "200")
    expect("\r\n" .. head({ line(8193), "Host: a" }), "414")
    expect(line(8192), "more")
    expect(line(8193), "414") -- without waiting for the end of the line
    expect(line(8192) .. "\r", "more")
  end)

  it("the limit is that of the options", function()
    expect(head({ "GET / HTTP/1.1", "Host: a" }), "200", { line = 14 })
    expect(head({ "GET / HTTP/1.1", "Host: a" }), "414", { line = 13 })
  end)
end)

describe("what is no HTTP:", function()
  it("random bytes are refused at the first limit reached, B009", function()
    math.randomseed(1)
    for _ = 1, 20 do
      local bytes = {}
      for i = 1, 256 do
        bytes[i] = string.char((math.random(0, 254) + 11) % 256) -- any but LF
      end
      local outcome = support.serve({ table.concat(bytes) .. ("x"):rep(16384) })
      assert.truthy(outcome:find("^4[01][04] "), outcome)
    end
    expect(("x"):rep(256) .. ("y"):rep(16384), "414")
  end)

  it("a TLS hello is known by its first byte, B010", function()
    for cut = 1, 8 do
      local outcome = support.serve({ ("\x16\x03\x01\x02\x00\x01\x00\x01"):sub(1, cut) })
      assert.equal("400 not HTTP", outcome)
    end
    expect("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400")
  end)

  it("nothing that a request cannot begin with waits for more", function()
    for byte = 0, 255 do
      local char = string.char(byte)
      local fine = testing.is_token(char) or char == "\r"
      assert.equal(fine, support.serve({ char }) == "more", char)
    end
  end)
end)

describe("lines:", function()
  it("bare LF is refused, B034", function()
    expect("GET / HTTP/1.1\nHost: a\n\n", "400")
    expect("GET / HTTP/1.1\r\nHost: a\n\r\n", "400")
    expect("GET / HTTP/1.1\r\nHost: a\r\n\n", "400")
    expect("GET / HTTP/1.1\nHost: a\r\n\r\n", "400")
  end)

  it("bare CR is refused, B035", function()
    all({
      "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
      "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", "GET / HTTP/1.1\rHost: a\r\r",
      "GET / HTTP/1.1\r\nHost: a\r\nX:\r\rY: b\r\n\r\n",
    }, "400")
  end)

  it("bytes of a request that follows are left alone, B057 B058 B059", function()
    local first = with()
    for _, rest in ipairs({ with(), "\x81\x85\0\0\0\0Hello", "\r\n", "\0", "x" }) do
      local seen = expect(first .. rest, "200")
      assert.equal(#first, seen.head.size)
    end
    expect(support.upgrade() .. "\x81\x85\0\0\0\0Hello", "101")
    expect(support.upgrade({ ["Sec-WebSocket-Version"] = "77" }) .. "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n", "426")
  end)
end)

describe("field lines:", function()
  it("names and values, without white space around them", function()
    local seen = expect(with("A:b", "C: d", "E:\t f \t", "g-H!#$%&'*+.^_`|~0:i", "J: k l\tm"), "200")
    assert.same({
      "Host", "a", "A", "b", "C", "d", "E", "f", "g-H!#$%&'*+.^_`|~0", "i", "J", "k l\tm",
    }, seen.head.fields)
  end)

  it("HTAB inside and bytes from 0x80 on are opaque, B037", function()
    local value = { "x" }
    for byte = 0x80, 0xFF do
      value[#value + 1] = string.char(byte)
    end
    local text = table.concat(value) .. "\tx"
    local seen = expect(with("X: " .. text), "200")
    assert.equal(text, seen.head.fields[4])
    expect(with("Origin: \x80\xff"), "200")
  end)

  it("empty values are fine, B038", function()
    for _, line in ipairs({ "X-Empty:", "X-Empty: ", "X-Empty:\t \t", "X-Empty:" .. (" "):rep(300) }) do
      local seen = expect(with(line), "200")
      assert.same({ "Host", "a", "X-Empty", "" }, seen.head.fields)
    end
  end)

  it("no space before the colon, B039", function()
    expect(head({ "GET / HTTP/1.1", "Host : a" }), "400")
    expect(head({ "GET / HTTP/1.1", "Host\t: a" }), "400")
    expect(with("X : y"), "400")
  end)

  it("no line folding, no space before the first name, B041", function()
    expect(head({ "GET / HTTP/1.1", " Host: a" }), "400")
    expect(head({ "GET / HTTP/1.1", "\tHost: a" }), "400")
    expect(with("X: a", " b"), "400")
    expect(with("X: a", "\tb: c"), "400")
    expect(with(" "), "400")
  end)

  it("a name is a token and there is a colon, B042", function()
    all({ with(": a"), with("X"), with("X y"), with("("), with("no colon at all") }, "400")
    for byte = 0, 255 do
      local char = string.char(byte)
      if char ~= ":" then
        expect(with("X" .. char .. "Y: a"), testing.is_token(char) and "200" or "400")
      end
    end
    all({ with("X[: a"), with("(X): a"), with("\"X\": a"), with("X Y: a"), with("X\x80: a"), with("\u{E9}: a") }, "400")
  end)

  it("a value has no control bytes", function()
    for byte = 0, 255 do
      local fine = byte == 9 or byte >= 0x20 and byte ~= 0x7F
      expect(with("X: a" .. string.char(byte) .. "b"), fine and "200" or "400")
    end
    expect(with("Sec-WebSocket-Protocol: a\x01"), "400")
  end)

  it("100 are served, more are too many, B046", function()
    local function fields(n)
      local lines = { "GET / HTTP/1.1", "Host: a" }
      for i = 2, n do
        lines[i + 1] = "X: " .. i
      end
      return head(lines)
    end
    expect(fields(100), "200")
    expect(fields(101), "431")
    expect(fields(2000), "431")
    expect(fields(3), "200", { fields = 3 })
    expect(fields(4), "431", { fields = 3 })
    expect(fields(101), "431", { fields = 1000 }) -- never more than the parser has room for
  end)

  it("100 equal names are kept, and found, B258", function()
    local lines = { "GET / HTTP/1.1" }
    for i = 1, 99 do
      lines[#lines + 1] = "same: " .. i
    end
    lines[#lines + 1] = "Host: a"
    local seen = expect(head(lines), "200")
    assert.equal("42", seen.http:find("Same", 41))
    assert.is_nil(seen.http:find("same", 99))
  end)

  it("16 384 bytes are served, one more is too large, B047 B049", function()
    local function request(bytes)
      local line = "GET / HTTP/1.1\r\n"
      local fields = "Host: a\r\n"
      while #fields + 1000 < bytes do
        fields = fields .. "X: " .. ("x"):rep(500) .. "\r\n"
      end
      return line .. fields .. "Y: " .. ("y"):rep(bytes - #fields - 5) .. "\r\n", line
    end
    local full, line = request(16384)
    assert.equal(16384, #full - #line)
    expect(full .. "\r\n", "200")
    expect(full, "more")
    expect(full .. "\r", "more")
    expect(full .. "X", "431") -- at the first byte too many
    expect((request(16385)), "431")
    expect(request(16385) .. "\r\n", "431")
    expect(("\r\n") .. full .. "\r\n", "200")
    expect(line .. "X: " .. ("x"):rep(16384), "431")
    expect(line .. "Host: a\r\n" .. ("X"):rep(20000), "431")
    expect(with(), "200", { header = 9 })
    expect(with(), "431", { header = 8 })
  end)

  it("which limit breaks first does not depend on the cut", function()
    local line = "GET / HTTP/1.1\r\nHost: a\r\n"
    expect("GET /" .. ("a"):rep(9000) .. "\r HTTP/1.1\r\n", "414")
    expect(line .. "X: " .. ("x"):rep(20000) .. "\ry\r\n\r\n", "431")
    expect(line .. "X: " .. ("x"):rep(16384 - 9 - 3) .. "\ry\r\n\r\n", "400") -- a bare CR within the limit
    expect(line .. "X: " .. ("x"):rep(16384 - 9 - 3 - 1) .. "\n\r\n", "431")
  end)
end)

describe("parsing is linear, B005:", function()
  local function longest()
    local lines = { "GET /" .. ("a"):rep(8000) .. " HTTP/1.1", "Host: a" }
    for _ = 1, 98 do
      lines[#lines + 1] = "X: " .. ("x"):rep(155)
    end
    return head(lines)
  end

  it("each byte is looked at once, and so is a line when it is whole", function()
    local bytes = longest()
    local http, fed, outcome = testing.http("request"), 0, nil
    for i = 1, #bytes, 16 do
      local result, scanned = http:feed(bytes:sub(i, i + 15))
      fed, outcome = math.min(fed + 16, #bytes), result
      assert.is_true(scanned >= fed - 1)
    end
    assert.equal("item", outcome)
  end)

  it("24 KiB of head byte by byte take less than 20 ms", function()
    local bytes, best = longest(), math.huge
    local limit = os.getenv("CWS_MODE") == "plain" and 0.02 or 0.4
    for _ = 1, 5 do -- the best of some: the machine does other things
      local start = os.clock()
      assert.equal("item", testing.http_bytewise("request", nil, bytes))
      best = math.min(best, os.clock() - start)
    end
    assert.is_true(best < limit, best .. " s")
  end)
end)

describe("status line:", function()
  local function answer(line)
    return support.answer({}, line)
  end

  it("its parts are found", function()
    local seen = support.expect_answer("HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n", "404")
    assert.same({ status = 404, reason = "Not Found", minor = 1, fields = { "A", "b" }, size = 32 }, seen.head)
  end)

  it("the reason may be empty or missing, or any text", function()
    assert.equal("", support.expect_answer("HTTP/1.1 200 \r\n\r\n", "200").head.reason)
    assert.equal("", support.expect_answer("HTTP/1.1 200\r\n\r\n", "200").head.reason)
    assert.equal(" a\t\xE9 ", support.expect_answer("HTTP/1.0 200  a\t\xE9 \r\n\r\n", "200").head.reason)
  end)

  it("every status from 100 to 599 is read, B083", function()
    for _, status in ipairs({ 100, 103, 199, 200, 204, 301, 307, 401, 403, 404, 426, 500, 503, 599 }) do
      support.expect_answer(("HTTP/1.1 %d x\r\n\r\n"):format(status), tostring(status))
    end
  end)

  it("a malformed one fails the handshake, B086", function()
    for _, line in ipairs({
      "HTTP/1.1 1010 x", "HTTP/1.1 99 x", "HTTP/1.1 abc", "HTTP/2 101", "HTTP/2.0 101 x", "HTTP/3.1 101 x",
      "SSH-2.0-x", "",
      "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 10", "HTTP/1.1  101 x", "HTTP/1.1\t101 x", "HTTP/1.1 101\tx", "http/1.1 101 x",
      "HTTP/1.1 +10 x", "HTTP/1.1 1 1 x", "HTTP/1.1 101x", "HTTP/1.10 101 x", "HTTP/1.1 000 x", "HTTP/1.1 099 x",
      "HTTP/1.1 600 x", "HTTP/1.1 999 x", "HTTP/1.1 101 a\0b", "HTTP/1.1 101 a\x7f", "HTTP/1.1 101 \x1b[1m",
      "ICY 200 OK", "GET / HTTP/1.1", " HTTP/1.1 101 x", "\xEF\xBB\xBFHTTP/1.1 101 x", "HTTP/1.1 101 a\rb",
      "HTTP/1.0 101 x",
    }) do
      support.expect_answer(answer(line), "handshake")
    end
  end)

  it("bare LF, folding, NUL, space before the colon fail the handshake, B098", function()
    local bytes = answer()
    for _, bad in ipairs({
      (bytes:gsub("\r\n", "\n")), answer("HTTP/1.1 101 x\r\nA: b\r\n c"), answer("HTTP/1.1 101 x\r\nA: b\0c"),
      answer("HTTP/1.1 101 x\r\nA : b"), answer("HTTP/1.1 101 x\n"), answer("HTTP/1.1 101 x\r\n A: b"),
      answer("HTTP/1.1 101 x\r\nA"),
    }) do
      support.expect_answer(bad, "handshake")
    end
  end)

  it("limits are limits: fields, bytes, the line itself, B094", function()
    local lines = {}
    for i = 1, 97 do
      lines[i] = "X: " .. i
    end
    support.expect_answer(support.answer(lines), "101") -- 100 fields
    lines[98] = "X: 98"
    support.expect_answer(support.answer(lines), "limit")
    support.expect_answer(support.answer({ "X: " .. ("x"):rep(16384) }), "limit")
    support.expect_answer("HTTP/1.1 101 x\r\n" .. ("X: y\r\n"):rep(4000), "limit")
    support.expect_answer("HTTP/1.1 101 " .. ("x"):rep(8192 - 13), "more")
    support.expect_answer("HTTP/1.1 101 " .. ("x"):rep(8192 - 13 + 1), "limit")
    support.expect_answer(answer("HTTP/1.1 101 " .. ("x"):rep(9000)), "limit")
  end)

  it("interim answers end where the next begins, B085", function()
    local interim = { "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" }
    local rest = table.concat(interim) .. support.answer()
    for _, one in ipairs(interim) do
      local seen = support.expect_answer(rest, one:match("%d%d%d"))
      assert.equal(#one, seen.head.size)
      rest = rest:sub(#one + 1)
    end
    support.expect_answer(rest, "101")
  end)

  it("frames after it are left alone, B099", function()
    local bytes = support.answer()
    local seen = support.expect_answer(bytes .. "\x81\x01a\x81\x01b\x81\x01c", "101")
    assert.equal(#bytes, seen.head.size)
  end)
end)

describe("looking up:", function()
  local http = testing.http("request")
  http:feed(head({ "GET / HTTP/1.1", "Host: a", "X-A: 1", "x-a: 2, Three ,,\t four", "X-AB: 5", "X-a: b c", "Y:" }))

  it("fields by name without case, in their order", function()
    assert.equal("1", http:find("X-A"))
    assert.equal("2, Three ,,\t four", http:find("x-A", 1))
    assert.equal("b c", http:find("x-a", 2))
    assert.is_nil(http:find("x-a", 3))
    assert.is_nil(http:find("X-"))
    assert.equal("", http:find("y"))
  end)

  it("tokens in all fields of a name", function()
    for token, there in pairs({
      ["1"] = true, ["2"] = true, three = true, FOUR = true, ["5"] = false, b = false, c = false, [""] = false,
    }) do
      assert.equal(there, http:has_token("X-A", token), token)
    end
    assert.is_false(http:has_token("Z", "a"))
  end)

  it("compares letters without case, and nothing else", function()
    for a = 0, 255 do
      local char = string.char(a)
      for _, b in ipairs({ "a", "Z", "@", "[", "`", "{", "5", "-", "\xC1", "\xE1" }) do
        local letters = char:find("^[a-zA-Z]$") and b:find("^[a-zA-Z]$")
        local same = letters and char:lower() == b:lower() or char == b
        assert.equal(same and true or false, testing.http_equal(char, b))
      end
    end
    assert.is_true(testing.http_equal("", ""))
    assert.is_false(testing.http_equal("a", ""))
    assert.is_false(testing.http_equal("", "a"))
    assert.is_false(testing.http_equal("ab", "a"))
    assert.is_false(testing.http_equal("a\0", "a"))
  end)

  it("tokens and values are what RFC 9110 5.6.2 and 5.5 say", function()
    for byte = 0, 255 do
      local char = string.char(byte)
      local tchar = char:find("^[%w!#$%%&'*+%-.^_`|~]$") ~= nil and byte < 0x80
      assert.equal(tchar, testing.is_token(char), char)
      assert.equal(byte == 9 or byte >= 0x20 and byte ~= 0x7F, testing.is_value(char), char)
    end
    assert.is_false(testing.is_token(""))
    assert.is_true(testing.is_value(""))
    assert.is_false(testing.is_token("a b"))
  end)

  it("walks lists: empty elements are skipped, malformed ones told", function()
    for text, elements in pairs({
      [""] = {}, [" \t"] = {}, [",,, ,"] = {}, ["a"] = { "a" }, [" a "] = { "a" }, ["a,b"] = { "a", "b" },
      [",a,,\tb\t, c ,"] = { "a", "b", "c" }, ["a b"] = { false }, ["a b, c"] = { false, "c" },
      ["a;q=1, b"] = { false, "b" }, ["\"a\", b"] = { false, "b" }, ["(x)"] = { false }, ["a\xE9"] = { false },
    }) do
      assert.same(elements, testing.http_list(text), text)
    end
  end)
end)

describe("writing:", function()
  it("dates are IMF-fixdates", function()
    assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", testing.http_date(784111777)) -- RFC 9110 5.6.7
    assert.equal("Thu, 01 Jan 1970 00:00:00 GMT", testing.http_date(0))
    assert.equal("Thu, 29 Feb 2024 23:59:59 GMT", testing.http_date(1709251199))
    assert.equal("Fri, 31 Dec 9999 23:59:59 GMT", testing.http_date(253402300799))
    for _, time in ipairs({ -1, math.maxinteger, math.mininteger, 253402300800 }) do
      assert.equal(29, #testing.http_date(time))
    end
  end)

  it("reasons are the standard ones, or empty", function()
    assert.equal("Switching Protocols", testing.http_reason(101))
    assert.equal("Upgrade Required", testing.http_reason(426))
    assert.equal("Request Header Fields Too Large", testing.http_reason(431))
    assert.equal("", testing.http_reason(299))
    assert.equal("", testing.http_reason(-1))
  end)
end)
