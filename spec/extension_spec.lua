-- csrc/proto/extension.h: the grammar of Sec-WebSocket-Extensions, and the
-- negotiation of permessage-deflate in both roles.
local testing = require("cws.testing")
local support = require("spec.support.http")

local D = "permessage-deflate"

after_each(function()
  testing.alloc_fail(0)
end)

-- A fifth of the row's limit where the build is not a slow one.
local limit = os.getenv("CWS_MODE") == "plain" and 0.001 or 0.02

local function seconds(fn)
  local best = math.huge
  for _ = 1, 5 do
    local start = os.clock()
    fn()
    best = math.min(best, os.clock() - start)
  end
  return best
end

describe("grammar:", function()
  local good = {
    "", " \t", ",", " , ,", "a", " a ", "a,b", "a , b", ",a,,b,", "a;b", "a ; b", "a;b=c", "a; b = c ;d", "a;b;b;c",
    "a;b=\"c\"", "a;b=\"c\";d", "a;b=\"c\",d", "a\t;\tb\t=\t\"c\"\t,\td", "!#$%&'*+-.^_`|~0;A=z", "a;b=\"\"",
    "a;b=\"\\c\"", "a;b=\"c\\d\\e\"", "a;a=a,a;a=a",
  }
  local bad = {
    ";", ";a", "a;", "a;;", "a;,", "a;;b", "a,;b", "a b", "a;b c", "a;b=", "a;b=,", "a;b=;c", "a;=", "a;=b", "a=b", "=",
    "a;b=c=d", "a;b=\"", "a;b=\"c", "a;b=\"c\\", "a;b=\"c\\\"", "a;b=\"\\\"\"", "a;b=\"c d\"", "a;b=\"c,d\"",
    "a;b=\"c\"d", "a;b=c\"d\"", "a;b=\"c\"\"d\"", "\"a\"", "a;\"b\"", "a;b=\"\\\\\"", "a;b=\"\\ \"", "a/b", "(a)",
    "a;b=(c)", "a;b=c/d", "a\0", "a;b=\0", "a;b=\"\0\"", "\xE9", "a;b=\"\xE9\"", "a;b=\"\\\xE9\"", "a;b=\"\t\"",
    "permessage-deflate;;",
  }

  it("what it allows is valid", function()
    for _, text in ipairs(good) do
      assert.is_true(testing.extension_valid(text), ("%q"):format(text))
    end
  end)

  it("what it does not is not, B075", function()
    for _, text in ipairs(bad) do
      assert.is_false(testing.extension_valid(text), ("%q"):format(text))
    end
  end)

  it("one malformed element makes the list malformed", function()
    for _, text in ipairs(bad) do
      for _, around in ipairs({ "x, %s", "%s, x", "x;y=\"z\",%s,x" }) do
        local list = around:format((text:gsub("%%", "%%%%")))
        if text ~= "=" or not around:find("^%%s") then
          assert.is_false(testing.extension_valid(list), ("%q"):format(list))
        end
      end
    end
  end)

  it("joined lists are valid when each is", function()
    for _, first in ipairs(good) do
      for _, second in ipairs(good) do
        assert.is_true(testing.extension_valid(first .. ", " .. second))
      end
    end
  end)

  it("endless input costs little, B075", function()
    for _, text in ipairs({
      "a;b=\"" .. ("\\c"):rep(8000), ("a;"):rep(8000), (","):rep(16000), (" "):rep(16000) .. ";", ("a,"):rep(8000),
      "a" .. (";b=\"c\""):rep(2600) .. ";", ("a"):rep(16000) .. " b", "a;b=" .. ("\""):rep(8000),
    }) do
      assert.is_true(seconds(function()
        testing.extension_valid(text)
      end) < limit, text:sub(1, 20))
    end
  end)
end)

-- What our server answers, "" for an upgrade without the extension.
local function negotiate(list, mine)
  assert.is_true(testing.extension_valid(list), list)
  return testing.extension_negotiate(list, mine or {}) or ""
end

local function negotiates(cases)
  for list, expected in pairs(cases) do
    assert.equal(expected, negotiate(list), list)
  end
end

describe("the server:", function()
  it("takes the offer, or passes it over: still 101, B153", function()
    negotiates({
      [D] = D, ["x-other, " .. D] = D, ["x-other"] = "", [""] = "", [D .. ", " .. D] = D,
      ["x;y=z ,,\t" .. D .. " ,"] = D, ["permessage-deflate2"] = "", ["x-webkit-deflate-frame"] = "",
    })
    support.expect(support.upgrade({ "Sec-WebSocket-Extensions: " .. D .. "; unknown" }), "101")
  end)

  it("unknown, repeated or misused parameters decline an offer, B154", function()
    for _, params in ipairs({
      "unknown", "unknown=1", "server_no_context_takeover=1", "client_no_context_takeover=true",
      "server_no_context_takeover=\"\"", "server_no_context_takeover; server_no_context_takeover",
      "client_no_context_takeover; client_no_context_takeover", "client_max_window_bits; client_max_window_bits",
      "client_max_window_bits; client_max_window_bits=10", "client_max_window_bits=10; client_max_window_bits",
      "client_max_window_bits=10; client_max_window_bits=10", "server_max_window_bits=10; server_max_window_bits=10",
      "server_no_context_takeover; unknown", "unknown; server_no_context_takeover", "Server_No_Context_Takeover",
    }) do
      assert.equal("", negotiate(D .. "; " .. params), params)
      assert.equal(D, negotiate(D .. "; " .. params .. ", " .. D), params)
      assert.equal(D .. "; server_no_context_takeover",
        negotiate(D .. ";" .. params .. ",x," .. D .. ";server_no_context_takeover"))
    end
  end)

  it("window bits that are none decline an offer, B155", function()
    local values = {
      "7", "16", "08", "+10", "-10", "10.0", "abc", "\"\"", "0", "1", "010", "100", "1e1", "0x9", "15a", "a15", "99",
      "255", "256", "264", "4294967306", "18446744073709551626", "\"07\"", "\"16\"", "\"1\\0\"", "1_", "00",
    }
    for _, name in ipairs({ "client_max_window_bits", "server_max_window_bits" }) do
      for _, value in ipairs(values) do
        assert.equal("", negotiate(("%s; %s=%s"):format(D, name, value)), value)
        assert.equal(D, negotiate(("%s; %s=%s, %s"):format(D, name, value, D)), value)
      end
    end
    assert.equal("", negotiate(D .. "; server_max_window_bits"))
    assert.equal(D, negotiate(D .. "; server_max_window_bits, " .. D))
  end)

  it("server_max_window_bits is answered whenever it was offered, RFC 7692 7.1.2.1", function()
    for bits = 9, 15 do
      local answer, agreed = negotiate(D .. "; server_max_window_bits=" .. bits), nil
      assert.equal(D .. "; server_max_window_bits=" .. bits, answer)
      assert.equal(answer, (negotiate(("%s; server_max_window_bits=\"%d\""):format(D, bits))))
      answer, agreed = testing.extension_negotiate(D .. ";server_max_window_bits=" .. bits,
        { server_max_window_bits = 11 })
      assert.equal(math.min(bits, 11), agreed.server_max_window_bits)
      assert.equal(D .. "; server_max_window_bits=" .. math.min(bits, 11), answer)
    end
    assert.equal(D .. "; server_max_window_bits=11", negotiate(D, { server_max_window_bits = 11 }))
  end)

  it("server_max_window_bits=8 is declined, B157", function()
    assert.equal("", negotiate(D .. "; server_max_window_bits=8"))
    assert.equal(D, negotiate(D .. "; server_max_window_bits=8, " .. D))
  end)

  it("client_max_window_bits=8 is accepted: inflate can, B158", function()
    local answer, agreed = testing.extension_negotiate(D .. "; client_max_window_bits=8", {})
    assert.equal(D .. "; client_max_window_bits=8", answer)
    assert.equal(8, agreed.client_max_window_bits)
  end)

  it("client_max_window_bits is told only to a client that knows it, RFC 7692 7.1.2.2", function()
    local mine = { client_max_window_bits = 10 }
    assert.equal(D, negotiate(D, mine))
    assert.equal(D .. "; client_max_window_bits=10", negotiate(D .. "; client_max_window_bits", mine))
    assert.equal(D .. "; client_max_window_bits=10", negotiate(D .. "; client_max_window_bits=15", mine))
    assert.equal(D .. "; client_max_window_bits=9", negotiate(D .. "; client_max_window_bits=9", mine))
    assert.equal(D, negotiate(D .. "; client_max_window_bits"))
    assert.equal(D, negotiate(D .. "; client_max_window_bits=15"))
    local _, agreed = testing.extension_negotiate(D, mine)
    assert.equal(15, agreed.client_max_window_bits)
  end)

  it("no_context_takeover is what either side wants", function()
    for _, mine in ipairs({ false, true }) do
      for _, theirs in ipairs({ false, true }) do
        for _, name in ipairs({ "server_no_context_takeover", "client_no_context_takeover" }) do
          local answer, agreed = testing.extension_negotiate(D .. (theirs and ";" .. name or ""), { [name] = mine })
          assert.equal(D .. ((mine or theirs) and "; " .. name or ""), answer)
          assert.equal(mine or theirs, agreed[name])
        end
      end
    end
  end)

  it("the first acceptable of 100 offers, B159", function()
    local offers = {}
    for i = 1, 98 do
      offers[i] = D .. "; unknown=" .. i
    end
    offers[99] = D .. "; server_max_window_bits=12"
    offers[100] = D
    local list = table.concat(offers, ", ")
    assert.equal(D .. "; server_max_window_bits=12", negotiate(list))
    assert.is_true(seconds(function()
      testing.extension_negotiate(list, {})
    end) < limit)
  end)

  it("an allocation that fails is told", function()
    testing.alloc_fail(1)
    assert.same({ nil, "memory" }, { testing.extension_negotiate(D, {}) })
    testing.alloc_fail(1)
    assert.same({ nil, "memory" }, { testing.extension_offer({}) })
  end)
end)

describe("the client:", function()
  it("offers what it wishes", function()
    for expected, wish in pairs({
      [D .. "; client_max_window_bits"] = {},
      [D] = { client_max_window_bits = 0 },
      [D .. "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9"
        .. "; client_max_window_bits=10"] = {
        server_no_context_takeover = true, client_no_context_takeover = true, server_max_window_bits = 9,
        client_max_window_bits = 10,
      },
    }) do
      assert.equal(expected, testing.extension_offer(wish))
    end
  end)

  local function check(answer, offered)
    return testing.extension_check(answer, offered)
  end

  local function fails(answer, offered, pattern)
    local agreed, kind, why = check(answer, offered)
    assert.is_nil(agreed, answer)
    assert.equal("handshake", kind)
    assert.truthy(why:find(pattern), why)
  end

  it("takes no extension for an answer", function()
    for _, list in ipairs({ "", " ", ",", " ,, " }) do
      assert.is_false(check(list, {}))
      assert.is_false(check(list, nil))
    end
  end)

  it("refuses what was not offered, B093", function()
    fails(D, nil, "not offered")
    fails("x", nil, "not offered")
    fails("x", {}, "not offered")
    fails("x-webkit-deflate-frame", {}, "not offered")
    fails("x, " .. D, {}, "not offered")
    fails(D .. ", x", {}, "more than one")
  end)

  it("refuses what the grammar does not allow", function()
    for _, answer in ipairs({ ";", D .. ";", D .. ";;", D .. "; server_max_window_bits=", D .. " x", D .. ", ;",
      D .. "; server_max_window_bits=\"10", D .. ",\"" }) do
      local agreed, kind = check(answer, {})
      assert.is_nil(agreed, answer)
      assert.equal("handshake", kind)
    end
  end)

  it("refuses unknown, repeated, misused parameters, and the extension twice, B161", function()
    for _, params in ipairs({
      "unknown", "server_no_context_takeover=1", "server_no_context_takeover; server_no_context_takeover",
      "client_no_context_takeover; client_no_context_takeover", "server_max_window_bits", "server_max_window_bits=7",
      "server_max_window_bits=16", "server_max_window_bits=08", "server_max_window_bits=\"\"",
      "client_max_window_bits=10; client_max_window_bits=10", "client_max_window_bits=\"1\\0\"",
    }) do
      fails(D .. "; " .. params, {}, "bad parameters")
    end
    fails(D .. ", " .. D, {}, "more than one")
  end)

  it("client_max_window_bits must have been offered, with a value that is not larger, B161", function()
    fails(D .. "; client_max_window_bits=10", { client_max_window_bits = 0 }, "was not offered")
    fails(D .. "; client_max_window_bits", {}, "without a value")
    fails(D .. "; client_max_window_bits=11", { client_max_window_bits = 10 }, "larger than")
    assert.equal(10, check(D .. "; client_max_window_bits=10", { client_max_window_bits = 10 }).client_max_window_bits)
    assert.equal(9, check(D .. "; client_max_window_bits=9", { client_max_window_bits = 10 }).client_max_window_bits)
    assert.equal(15, check(D .. "; client_max_window_bits=15", {}).client_max_window_bits)
    assert.equal(10, check(D, { client_max_window_bits = 10 }).client_max_window_bits)
    assert.equal(15, check(D, { client_max_window_bits = 0 }).client_max_window_bits)
  end)

  it("client_max_window_bits=8 is agreed to", function() -- how to keep to it is deflate's matter
    assert.equal(8, check(D .. "; client_max_window_bits=8", {}).client_max_window_bits)
  end)

  it("server_max_window_bits and server_no_context_takeover must be agreed to as asked", function()
    fails(D, { server_max_window_bits = 10 }, "server_max_window_bits")
    fails(D .. "; server_max_window_bits=11", { server_max_window_bits = 10 }, "server_max_window_bits")
    assert.equal(9, check(D .. "; server_max_window_bits=9", { server_max_window_bits = 10 }).server_max_window_bits)
    fails(D, { server_no_context_takeover = true }, "server_no_context_takeover")
    assert.is_true(check(D .. "; server_no_context_takeover",
      { server_no_context_takeover = true }).server_no_context_takeover)
  end)

  it("the server may say more than was asked", function()
    assert.same({
      server_no_context_takeover = true, client_no_context_takeover = true, server_max_window_bits = 8,
      client_max_window_bits = 9,
    }, check(D .. ";server_no_context_takeover;client_no_context_takeover;server_max_window_bits=8;"
      .. "client_max_window_bits=\"9\"", {}))
  end)

  it("and our server agree on the same, whatever both want", function()
    local flags = { false, true }
    local count = 0
    for _, a in ipairs(flags) do
      for _, b in ipairs(flags) do
        for server = 9, 15 do
          for _, client in ipairs({ 0, 9, 10, 12, 15 }) do
            local wish = {
              server_no_context_takeover = a, client_no_context_takeover = b, server_max_window_bits = server,
              client_max_window_bits = client,
            }
            local offer = testing.extension_offer(wish)
            for own = 9, 15, 2 do
              local mine = {
                server_no_context_takeover = b, client_no_context_takeover = a, server_max_window_bits = own,
                client_max_window_bits = 23 - own,
              }
              local answer, agreed = testing.extension_negotiate(offer, mine)
              assert.is_true(agreed.server_max_window_bits <= math.min(server, own))
              assert.same(agreed, check(answer, wish))
              count = count + 1
            end
          end
        end
      end
    end
    assert.equal(4 * 7 * 5 * 4, count)
  end)
end)
