-- A generator of our own: math.random belongs to the program.

local core = require("cws.core")

local seed

---For choices that nobody gains from guessing.
---@param n integer
---@return integer from 1 to n
local function random(n)
  if not seed then
    local seconds, nanoseconds = core.time()
    seed = seconds ~ (nanoseconds << 20)
  end
  seed = seed * 6364136223846793005 + 1442695040888963407
  return (seed >> 33) % n + 1
end

return random
