#!/usr/bin/env python3
"""Measures cws beside its peers, in rounds, and prints one table.

Each server runs alone on core 0, the generator on core 1. In each round every
peer is measured once per scenario, so what disturbs the machine disturbs all;
shown are medians, and medians of the ratios of figures from the same round.
Everything goes to bench/results.json.

  make bench                                  the scenarios with targets
  make bench ARGS='--only "64 x 16,idle" --peers cws,bun --rounds 3'
  make bench ARGS='--matrix --peers cws'      sizes x connections x in flight
"""
import argparse
import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(TOP, "build", "bench")
MODULES = os.path.join(TOP, "build", "node_modules")
PEERS = os.path.join(TOP, "bench", "peers")
WSLOAD = os.path.join(OUT, "wsload")
LUA = os.environ.get("LUA") or "lua5.4"
MIB = 1048576


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def first_line(command, **more):
    done = run(command, **more)
    return ((done.stdout or done.stderr).strip().splitlines() or ["?"])[0]


# --- the peers ---------------------------------------------------------------


def compile_c(source, libraries, flags=()):
    target = os.path.join(OUT, os.path.basename(source)[:-2])
    done = run(["cc", "-std=gnu11", "-O2", *flags, "-o", target, os.path.join(TOP, "bench", source), *libraries])
    return target if done.returncode == 0 else None


def build_go():
    if not shutil.which("go"):
        return None
    target = os.path.join(OUT, "gorilla")
    env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="",
               GOCACHE=os.path.join(OUT, "go-cache"))
    done = run(["go", "build", "-o", target, os.path.join(PEERS, "gorilla.go")], env=env)
    return target if done.returncode == 0 else None


def needs(*words):
    """What tools/needs.sh says, or None."""
    return run(["sh", os.path.join("tools", "needs.sh"), *words], cwd=TOP).stdout.strip() or None


def package_version(name):
    with open(os.path.join(MODULES, name, "package.json"), encoding="utf-8") as file:
        return json.load(file)["version"]


# lua-http's own modules are installed for Lua 5.1 and 5.3 only, but run here.
LUA_HTTP = dict(os.environ, LUA_PATH=";".join(
    f"/usr/share/lua/{v}/?{end}" for v in ("5.4", "5.3", "5.2", "5.1") for end in (".lua", "/init.lua")) + ";;")


def find_peers():
    """Name to command (the port comes last), environment, features, version."""
    table = {}

    def add(name, found, command, features="", env=None, version=None):
        if not found:
            print(f"{name}: left out, it is not installed", file=sys.stderr)
            return
        table[name] = {"command": command, "env": env or os.environ, "features": features.split(),
                       "version": version() if version else ""}

    add("cws", True, [LUA, os.path.join(PEERS, "cws.lua")], "broadcast deflate",
        version=lambda: first_line(["git", "describe", "--always", "--dirty"], cwd=TOP))
    floor = compile_c("peers/floor.c", ["-lev", "-lcrypto"])
    add("floor", floor, [floor], "broadcast")
    if shutil.which("npm"):
        needs("node-modules")
    bun = needs("bun")
    add("bun", bun, [bun, os.path.join(PEERS, "bun.js")], "broadcast deflate",
        version=lambda: package_version("bun"))
    node = shutil.which("node") and os.path.exists(os.path.join(MODULES, "ws"))
    add("ws", node, ["node", os.path.join(PEERS, "ws.js")], "broadcast deflate",
        env=dict(os.environ, NODE_PATH=MODULES),
        version=lambda: package_version("ws") + " on node " + first_line(["node", "--version"]))
    go = build_go()
    add("gorilla", go, [go], "deflate", version=lambda: first_line(
        ["dpkg-query", "-W", "-f", "${Version}", "golang-github-gorilla-websocket-dev"])
        + " on " + first_line(["go", "version"]))
    lws = compile_c("peers/lws.c", ["-lwebsockets"])
    add("lws", lws, [lws], version=lambda: first_line(["pkg-config", "--modversion", "libwebsockets"]))
    python = needs("python")
    add("python", python, [python, os.path.join(PEERS, "python.py")], version=lambda: first_line(
        [python, "-c", "import websockets.version as v; print(v.version)"]))
    lua_http = run([LUA, "-e", 'require("http.server")'], env=LUA_HTTP).returncode == 0
    add("lua-http", lua_http, [LUA, os.path.join(PEERS, "lua_http.lua")], env=LUA_HTTP, version=lambda: first_line(
        [LUA, "-e", 'print(require("http.version").version)'], env=LUA_HTTP))
    return table


# --- what is measured --------------------------------------------------------


def echo(connections, depth, size, kind="text", limits=None):
    name = f"echo {size} B {kind} {connections} x {depth}"
    return {"name": name, "mode": "echo", "needs": "", "limits": limits or {},
            "arguments": ["-c", connections, "-p", depth, "-s", size, "-k", kind]}


def special(name, mode, arguments, needs="", limits=None):
    return {"name": name, "mode": mode, "arguments": arguments, "needs": needs, "limits": limits or {}}


# From 64 connections on every echo is held against these.
MANY = {"gorilla": 0.85, "lws": 0.90, "ws": 0.55, "lua-http": 0.35}


def scenarios():
    """With the largest ratio, cws to the peer, that is meant to hold."""
    return [
        echo(1, 1, 20),
        echo(10, 1, 20),
        echo(64, 1, 20, limits={"floor": 1.10, **MANY}),
        echo(1000, 1, 20, limits={"floor": 1.10, **MANY}),
        echo(10000, 1, 20, limits=MANY),
        echo(64, 16, 20, limits={"floor": 1.50, "bun": 0.80, **MANY}),
        echo(8, 256, 20, limits={"bun": 0.70}),
        echo(64, 1, 1024, limits=MANY),
        echo(64, 16, 1024, limits=MANY),
        echo(8, 4, 16384, limits={"floor": 1.75, "bun": 0.55}),
        echo(64, 16, 16384, limits={"floor": 1.75, "bun": 0.55, **MANY}),
        echo(8, 4, 16384, "utf8", limits={"floor": 2.0, "bun": 0.20}),
        echo(8, 4, 16384, "binary"),
        echo(1, 1, MIB, "binary", limits={"floor": 1.65, "bun": 0.60}),
        echo(64, 1, MIB, "binary", limits={"floor": 1.65, "bun": 0.60, **MANY}),
        special("connect-echo-close 32", "connect", ["-c", 32], limits={"bun": 1.00}),
        special("broadcast 20 B to 1000", "broadcast", ["-c", 1000, "-p", 4, "--pub-path", "/pub"], "broadcast",
                {"bun": 0.95}),
        special("deflate echo 1024 B 64 x 1", "echo", ["-c", 64, "-p", 1, "-s", 1024, "--deflate"], "deflate",
                {"bun": 1.00}),
        special("deflate takeover echo 1024 B 64 x 1", "echo", ["-c", 64, "-p", 1, "-s", 1024, "--takeover"],
                "deflate", {"bun": 1.00}),
        special("idle 10000", "idle", ["-c", 10000]),
        special("idle 10000 after an echo", "idle", ["-c", 10000, "--first-echo"], limits={"RSS": 2048}),
    ]


def matrix():
    """All of it, where what is in flight is at most 64 MiB."""
    return [echo(connections, depth, size, kind)
            for size in (20, 1024, 16384, MIB) for connections in (1, 64, 1000) for depth in (1, 16, 256)
            for kind in ("text", "utf8", "binary") if connections * depth * size <= 64 * MIB]


# --- measuring ---------------------------------------------------------------

servers = 0


def wait_for(port, process):
    for _ in range(200):
        if process.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def measure(peer, scenario, seconds):
    """wsload's figures, or None with a word on standard error."""
    global servers
    port = 21000 + servers % 9000
    servers += 1
    command = ["taskset", "-c", "0", *peer["command"], str(port)]
    command += [a for a in scenario["arguments"] if a in ("--deflate", "--takeover")]
    server = subprocess.Popen(command, env=peer["env"], cwd=TOP, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        if not wait_for(port, server):
            print(f"  {scenario['name']}: {peer['command'][0]} does not listen", file=sys.stderr)
            return None
        path = "/sub" if scenario["mode"] == "broadcast" else "/echo"
        done = run([WSLOAD, "--json", "--cpu", "1", "--pid", str(server.pid), "-d", str(seconds), "-w",
                    str(seconds / 3), *map(str, scenario["arguments"]), scenario["mode"],
                    f"ws://127.0.0.1:{port}{path}"], timeout=120)
        if done.returncode == 0:
            return json.loads(done.stdout)
        print(f"  {scenario['name']}: {peer['command'][0]}: {done.stderr.strip()[-200:]}", file=sys.stderr)
    except subprocess.TimeoutExpired:
        print(f"  {scenario['name']}: {peer['command'][0]}: took too long", file=sys.stderr)
    finally:
        server.kill()
        server.wait()
    return None


def figure(result, mode):
    if mode == "idle":
        return result.get("rss_bytes_per_connection")
    return result.get("server_cpu_ns_per_msg")


def median(values):
    return statistics.median(values) if values else None


class Row:
    """One scenario: what each round gave for each peer."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.rounds = []

    def play(self, peers, seconds):
        results = {name: measure(peer, self.scenario, seconds) for name, peer in peers.items()
                   if not self.scenario["needs"] or self.scenario["needs"] in peer["features"]}
        self.rounds.append({name: result for name, result in results.items() if result})

    def figures(self, name):
        return [figure(r[name], self.scenario["mode"]) for r in self.rounds if name in r]

    def value(self, name):
        return median(self.figures(name))

    def ratio(self, name):
        mode = self.scenario["mode"]
        return median([figure(r["cws"], mode) / figure(r[name], mode) for r in self.rounds
                       if "cws" in r and name in r and figure(r[name], mode)])

    def other(self, key):
        return median([r["cws"][key] for r in self.rounds if "cws" in r and key in r["cws"]])

    def latency(self, key):
        return median([r["cws"]["latency_us"][key] for r in self.rounds if "cws" in r])

    def missed(self):
        for name, limit in self.scenario["limits"].items():
            got = self.value("cws") if name == "RSS" else self.ratio(name)
            if got is not None and got > limit:
                yield f"{self.scenario['name']}: {got:.2f} to {name}, meant to be at most {limit:.2f}"

    def summary(self, names):
        return {"scenario": self.scenario["name"], "unit": self.unit(),
                "median": {n: self.value(n) for n in names},
                "ratio": {n: self.ratio(n) for n in names if n != "cws"},
                "rounds": self.rounds}

    def unit(self):
        return "B per connection" if self.scenario["mode"] == "idle" else "ns"

    def cells(self, names):
        yield f"{self.scenario['name']} ({'B' if self.scenario['mode'] == 'idle' else 'ns'})"
        for name in names:
            value, ratio = self.value(name), None if name == "cws" else self.ratio(name)
            yield "–" if value is None else f"{value:.0f}" + (f" ({ratio:.2f})" if ratio else "")
        for key in ("p50", "p99"):
            yield f"{self.latency(key):.0f}" if self.latency(key) is not None else "–"
        rate = self.other("msgs_per_s")
        yield f"{rate:.0f}" if rate else "–"
        memory = self.other("server_peak_rss_kb")
        yield f"{memory / 1024:.1f}" if memory else "–"


def versions(peers):
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    parts = run([LUA, "-e", 'package.path = "lua/?.lua;lua/?/init.lua;" .. package.path\n'
                 'package.cpath = "build/?.so;" .. package.cpath\n'
                 'for k, v in pairs(require("cws").versions()) do print(k .. "=" .. tostring(v)) end'], cwd=TOP)
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "compiler": first_line(["cc", "--version"]),
            "cws": dict(line.split("=", 1) for line in parts.stdout.splitlines()),
            "peers": {name: peer["version"] for name, peer in peers.items()}}


def read_options():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.5, help="measured, after a third of it to warm up")
    options.add_argument("--only", default="", help="scenarios that contain one of these words, with commas between")
    options.add_argument("--peers", default="", help="these peers only, with commas between; cws is one")
    options.add_argument("--matrix", action="store_true", help="all sizes, numbers and kinds")
    options.add_argument("--out", default=os.path.join(TOP, "bench", "results.json"))
    return options.parse_args()


def report(rows, names, out, about):
    print("| server CPU (cws to it) | " + " | ".join(names) + " | p50 µs | p99 µs | msg/s | peak MiB |")
    print("| --- |" + " --: |" * (len(names) + 4))
    for row in rows:
        print("| " + " | ".join(row.cells(names)) + " |")
    for row in rows:
        for line in row.missed():
            print("missed:", line)
    with open(out, "w", encoding="utf-8") as file:
        json.dump({**about, "rows": [row.summary(names) for row in rows]}, file, indent=1)
        file.write("\n")


def prepare():
    """All descriptors that this process may have, and wsload."""
    os.makedirs(OUT, exist_ok=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended
    if not compile_c("wsload.c", ["-lssl", "-lcrypto", "-lz"], ["-DWITH_TLS", "-DWITH_ZLIB"]):
        sys.exit("bench: wsload does not compile (libssl-dev and zlib1g-dev are needed)")


def main():
    args = read_options()
    prepare()
    peers = find_peers()
    if args.peers:
        peers = {name: peer for name, peer in peers.items() if name in args.peers.split(",")}
    words = args.only.split(",")
    rows = [Row(s) for s in (matrix() if args.matrix else scenarios()) if any(w in s["name"] for w in words)]
    for number in range(args.rounds):
        for row in rows:
            row.play(peers, args.seconds)
            shown = " ".join(f"{n} {row.figures(n)[-1]:.0f}" for n in row.rounds[-1])
            print(f"round {number + 1}: {row.scenario['name']}: {shown}", file=sys.stderr)
    report(rows, list(peers), args.out, {"rounds": args.rounds, "seconds": args.seconds, **versions(peers)})


if __name__ == "__main__":
    main()
