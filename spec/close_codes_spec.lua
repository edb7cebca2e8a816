local codes = require("cws.close_codes")

describe("close codes", function()
  it("have gorilla's numbers by name", function()
    local expected = {
      normal_closure = 1000, going_away = 1001, protocol_error = 1002, unsupported_data = 1003,
      no_status_received = 1005, abnormal_closure = 1006, invalid_frame_payload_data = 1007,
      policy_violation = 1008, message_too_big = 1009, mandatory_extension = 1010,
      internal_server_error = 1011, service_restart = 1012, try_again_later = 1013, bad_gateway = 1014,
      tls_handshake = 1015,
    }
    local names = {}
    for key, value in pairs(codes) do
      if type(key) == "string" then names[key] = value end
    end
    assert.same(expected, names)
  end)

  it("have a text for each number", function()
    for key, value in pairs(codes) do
      if type(key) == "string" then assert.equal("string", type(codes[value]), key) end
    end
    assert.equal("normal", codes[1000])
    assert.equal("abnormal closure", codes[1006])
    assert.equal("TLS handshake error", codes[1015])
    assert.is_nil(codes[1004])
  end)
end)
