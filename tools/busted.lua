-- Starts busted under the Lua that runs this file: the `busted` command runs
-- under whatever `lua` is.
require("busted.runner")({ standalone = false })
