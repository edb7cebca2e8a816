-- How cws gets onto a machine: tools/needs.sh names what is missing, make install
-- puts the module in its place.
local net = require("spec.support.net")
local process = require("spec.support.process")

-- No code of ours is under test here, and make would build without instruments.
if (os.getenv("CWS_MODE") or "plain") ~= "plain" then return end

local function capture(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  pipe:close()
  return (text:gsub("%s+$", ""))
end

describe("tools/needs.sh", function()
  net.guard()
  process.guard()

  local folder

  setup(function()
    folder = capture("mktemp -d")
    for name in ("sh awk cut tr xargs cat sed"):gmatch("%S+") do
      assert(os.execute(("ln -s \"$(command -v %s)\" %s/%s"):format(name, folder, name)))
    end
    assert(os.execute("ln -s /bin/echo " .. folder)) -- a shell's own is no program
    assert(os.execute(("printf '#!/bin/sh\\necho 1000\\n' >%s/id; chmod +x %s/id"):format(folder, folder)))
  end)

  teardown(function()
    os.execute("rm -r " .. folder)
  end)

  -- What a machine without anything says.
  local function tell(id, verb, kernel)
    local file = assert(io.open(folder .. "/os-release", "w"))
    file:write("ID=", id, "\n")
    file:close()
    assert(os.execute(("printf '#!/bin/sh\\necho %s\\n' >%s/uname; chmod +x %s/uname"):format(
      kernel or "Linux", folder, folder)))
    local status, out, err = process.run({ folder .. "/sh", "tools/needs.sh", verb, "build" }, {
      env = { PATH = folder, OS_RELEASE = folder .. "/os-release", CC = "none", LUA = "" },
    })
    assert.equal(1, status)
    assert.equal("", out)
    return err
  end

  net.it("names each thing, its package and the command on Debian", function()
    assert.equal([[
cws cannot go on; missing:
  a C compiler (package: gcc libc6-dev)
  the Lua 5.4 interpreter (package: lua5.4)
  lua.h of Lua 5.4 (package: liblua5.4-dev)
  ev.h of libev (package: libev-dev)
  openssl/ssl.h of OpenSSL 3 (package: libssl-dev)
Get it with:
  Debian, Ubuntu: sudo apt-get install -y --no-install-recommends gcc libc6-dev lua5.4 liblua5.4-dev libev-dev libssl-dev
]], tell("debian", "check"))
  end)

  for id, command in pairs({
    ubuntu = "Debian, Ubuntu: sudo apt%-get install %-y %-%-no%-install%-recommends gcc libc6%-dev lua5%.4 ",
    fedora = "Fedora: +sudo dnf install %-y gcc lua lua%-devel libev%-devel openssl%-devel\n",
    alpine = "Alpine: +sudo apk add gcc musl%-dev lua5%.4 lua5%.4%-dev libev%-dev openssl%-dev\n",
    arch = "Arch: +sudo pacman %-S %-%-needed gcc lua54 libev openssl\n",
  }) do
    net.it("knows " .. id, function()
      local text = tell(id, "check")
      assert.matches(command, text)
      assert.matches("ev%.h of libev %(package: ", text)
    end)
  end

  net.it("knows macOS", function()
    assert.matches("macOS: +brew install gcc lua@5%.4 libev openssl@3\n", tell("", "check", "Darwin"))
  end)

  net.it("gives all commands where it does not know the system", function()
    local text = tell("plan9", "check")
    for _, name in ipairs({ "Debian, Ubuntu", "Fedora", "Alpine", "Arch", "macOS" }) do
      assert.truthy(text:find("\n  " .. name .. ":", 1, true), name)
    end
    assert.matches("\n  ev%.h of libev\n", text)
  end)

  net.it("says it, too, where it may not install", function()
    assert.matches("Get it with:\n  Debian, Ubuntu: sudo apt%-get install", tell("debian", "install"))
  end)
end)

describe("make", function()
  net.guard()
  process.guard()

  local folder

  before_each(function()
    folder = capture("mktemp -d")
  end)
  after_each(function()
    os.execute("rm -r " .. folder)
  end)

  -- The module is built, perhaps with flags that only the outer make knows.
  local function make(...)
    local status, out, err = process.run(
      { "-u", "MAKEFLAGS", "-u", "MFLAGS", "make", "-o", "build/cws/core.so", ... }, { seconds = 60 })
    assert.equal(0, status, err)
    return out
  end

  local function files()
    return capture(("cd %s && find . -type f | grep -v '/cws/[a-z_]*[.]lua$' | sort"):format(folder))
  end

  local function modules(path)
    return capture(("cd %s && ls *.lua"):format(path))
  end

  net.it("installs below DESTDIR and takes it away again", function()
    local out = make("install", "DESTDIR=" .. folder, "PREFIX=/usr")
    assert.matches("installed in /usr/share/lua/5%.4/cws and /usr/lib/lua/5%.4/cws", out)
    assert.equal("./usr/lib/lua/5.4/cws/core.so", files())
    assert.equal(modules("lua/cws"), modules(folder .. "/usr/share/lua/5.4/cws"))
    make("uninstall", "DESTDIR=" .. folder, "PREFIX=/usr")
    assert.equal("", files())
    assert.equal("", capture("find " .. folder .. " -name cws"))
  end, 60)

  net.it("says what to export where that Lua does not look by itself", function()
    local out = make("install", "PREFIX=" .. folder)
    local exports = out:match("\n(  export LUA_PATH=.*)$")
    local status, printed, err = process.run({ "sh", "-c", exports .. [[
      cd / && exec "$LUA" -e 'print(require("cws").versions().cws, package.searchpath("cws.core", package.cpath))']] },
      { env = { LUA = process.lua, LUA_PATH = "", LUA_CPATH = "" } })
    assert.equal(0, status, err)
    assert.matches("^%d+%.%d+%.%d+\t" .. folder:gsub("%p", "%%%0") .. "/lib/lua/5%.4/cws/core%.so\n$", printed)
  end, 60)

  net.it("installs where LuaRocks wants it", function()
    local rock = folder .. "/rocks-5.4/cws/dev-1"
    local out = make("install", "LUADIR=" .. rock .. "/lua", "LIBDIR=" .. rock .. "/lib")
    assert.equal("./rocks-5.4/cws/dev-1/lib/cws/core.so", files())
    assert.equal(modules("lua/cws"), modules(rock .. "/lua/cws"))
    assert.falsy(out:find("export"), out) -- it puts them where Lua looks
  end, 60)

  net.it("has all its verbs in help", function()
    local help = make("help")
    for verb in capture("sed -n 's/^\\([a-z-]*\\):.*/\\1/p' Makefile"):gmatch("[%a-]+") do
      local own = (" all core testing modules force fuzz-targets help "):find(" " .. verb .. " ", 1, true)
      if not own and not verb:find("^setup-") then assert.truthy(help:find("make " .. verb, 1, true), verb) end
    end
  end)
end)

describe("CI", function()
  net.guard()
  process.guard()

  local folder

  before_each(function()
    folder = capture("mktemp -d")
  end)
  after_each(function()
    os.execute("rm -r " .. folder)
  end)

  local function write(name, text)
    local file = assert(io.open(folder .. "/" .. name, "w"))
    file:write(text)
    file:close()
  end

  local function counts(log)
    write("log", log)
    return capture("sh tools/counts.sh " .. folder .. "/log")
  end

  it("reads busted's summary, plain and in colour", function()
    local summary = "12 successes / 2 failures / 1 error / 3 pending : 0.5 seconds\n"
    assert.equal("12 3", counts("●●●\n" .. summary))
    assert.equal("1 0", counts("●\n1 success / 0 failures / 0 errors / 0 pending : 0.1 seconds\n"))
    assert.equal("12 3", counts("●\n" .. summary:gsub("%d+ ", "\27[1m\27[32m%0\27[0m")))
    assert.equal("12 3", counts("●\n" .. summary .. "\nFailure\n99 successes / 0 failures / 0 errors / 0 pending\n"))
    assert.equal("0 0", counts("●●●●\nSegmentation fault\n"))
    assert.equal("0 0", counts(""))
  end)

  -- .ci/run with a make that writes and ends as told.
  local function ci(log, status)
    assert(os.execute(("mkdir -p %s/bin %s/.ci %s/tools && cp .ci/run %s/.ci/ && cp tools/counts.sh %s/tools/"):format(
      folder, folder, folder, folder, folder)))
    write("out", log)
    write("bin/make", ("#!/bin/sh\n[ $1 = test ] || [ $1 = asan ] || exit 0\ncat out\nexit %d\n"):format(status))
    assert(os.execute("chmod +x " .. folder .. "/bin/make"))
    local code, out = process.run({ "sh", ".ci/run" }, {
      cwd = folder, env = { PATH = folder .. "/bin:" .. os.getenv("PATH") },
    })
    return code, out:match("([^\n]*)\n$")
  end

  local good = "●\n5 successes / 0 failures / 0 errors / 0 pending : 1 seconds\n"

  net.it("counts tests and steps", function()
    assert.same({ 0, "14 passed, 0 failed" }, { ci(good, 0) })
  end)

  net.it("fails with a failed test", function()
    assert.same({ 1, "12 passed, 2 failed" }, { ci(good:gsub("5 successes / 0 failures", "4 successes / 1 failure"), 1) })
  end)

  net.it("fails when the run crashes, with or without a summary", function()
    assert.same({ 1, "14 passed, 2 failed" }, { ci(good, 139) })
    assert.same({ 1, "4 passed, 2 failed" }, { ci("●●Segmentation fault\n", 139) })
  end)

  net.it("fails when no test ran", function()
    assert.same({ 1, "4 passed, 2 failed" }, { ci("0 successes / 0 failures / 0 errors / 0 pending : 0 seconds\n", 0) })
    assert.same({ 1, "4 passed, 2 failed" }, { ci("", 0) })
  end)
end)
