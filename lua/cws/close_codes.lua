-- The close codes of RFC 6455, section 7.4.1, and of the IANA registry.

---By name the number, by number the text.
---@class cws.close_codes
---@field normal_closure 1000
---@field going_away 1001
---@field protocol_error 1002
---@field unsupported_data 1003
---@field no_status_received 1005 never on the wire
---@field abnormal_closure 1006 never on the wire
---@field invalid_frame_payload_data 1007
---@field policy_violation 1008
---@field message_too_big 1009
---@field mandatory_extension 1010
---@field internal_server_error 1011
---@field service_restart 1012
---@field try_again_later 1013
---@field bad_gateway 1014
---@field tls_handshake 1015 never on the wire
---@field [integer] string
local codes = {
  normal_closure = 1000,
  going_away = 1001,
  protocol_error = 1002,
  unsupported_data = 1003,
  no_status_received = 1005,
  abnormal_closure = 1006,
  invalid_frame_payload_data = 1007,
  policy_violation = 1008,
  message_too_big = 1009,
  mandatory_extension = 1010,
  internal_server_error = 1011,
  service_restart = 1012,
  try_again_later = 1013,
  bad_gateway = 1014,
  tls_handshake = 1015,

  [1000] = "normal",
  [1001] = "going away",
  [1002] = "protocol error",
  [1003] = "unsupported data",
  [1005] = "no status",
  [1006] = "abnormal closure",
  [1007] = "invalid payload data",
  [1008] = "policy violation",
  [1009] = "message too big",
  [1010] = "mandatory extension missing",
  [1011] = "internal server error",
  [1012] = "service restart",
  [1013] = "try again later",
  [1014] = "bad gateway",
  [1015] = "TLS handshake error",
}

return codes
