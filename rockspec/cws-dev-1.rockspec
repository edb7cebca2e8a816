rockspec_format = "3.0"
package = "cws"
version = "dev-1"
source = {
  url = "git+https://github.com/cws/cws.git",
}
description = {
  summary = "WebSocket server and client: a C core on libev, one coroutine per connection",
  detailed = [[
    RFC 6455 and RFC 7692 in full, both roles, with keepalive, back-pressure
    and limits. Programs read top to bottom as with Go's gorilla/websocket.
  ]],
  license = "MIT",
  labels = { "websocket", "network", "server", "client", "async" },
}
supported_platforms = { "unix" }
dependencies = {
  "lua >= 5.4, < 5.5",
}
external_dependencies = {
  EV = {
    header = "ev.h",
    library = "ev",
  },
  OPENSSL = {
    header = "openssl/ssl.h",
    library = "ssl",
  },
}
build = {
  type = "make",
  build_target = "core",
  install_target = "install",
  build_variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LUA = "$(LUA)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    EV_INCDIR = "$(EV_INCDIR)",
    EV_LIBDIR = "$(EV_LIBDIR)",
    OPENSSL_INCDIR = "$(OPENSSL_INCDIR)",
    OPENSSL_LIBDIR = "$(OPENSSL_LIBDIR)",
  },
  install_variables = {
    LUA = "$(LUA)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    EV_INCDIR = "$(EV_INCDIR)",
    EV_LIBDIR = "$(EV_LIBDIR)",
    OPENSSL_INCDIR = "$(OPENSSL_INCDIR)",
    OPENSSL_LIBDIR = "$(OPENSSL_LIBDIR)",
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
  },
}
