#!/usr/bin/env python3
"""Measures cws beside its peers, in rounds, and prints one table.

Each server runs alone on core 0, the generator on core 1. In each round every
peer is measured once per scenario, so what disturbs the machine disturbs all;
shown are medians, and ratios of figures from the same rounds.

  bench/run.py [--rounds 5] [--seconds 2] [--only WORD] [--peers cws,floor,bun]
"""
import argparse
import json
import os
import platform
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
LUA = os.environ.get("LUA") or "lua5.4"


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


def compile_c(name, libraries):
    target = os.path.join(OUT, name)
    source = os.path.join(PEERS, name + ".c")
    if name == "wsload":
        source = os.path.join(TOP, "bench", "wsload.c")
    flags = ["-DWITH_TLS", "-DWITH_ZLIB"] if name == "wsload" else []
    done = run(["cc", "-std=gnu11", "-O2", *flags, "-o", target, source, *libraries])
    return target if done.returncode == 0 else None


def build_go():
    if not shutil.which("go"):
        return None
    target = os.path.join(OUT, "gorilla")
    env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="",
               GOCACHE=os.path.join(OUT, "go-cache"))
    done = run(["go", "build", "-o", target, os.path.join(PEERS, "gorilla.go")], env=env)
    return target if done.returncode == 0 else None


def bun():
    script = ["sh", os.path.join("tools", "needs.sh")]
    if shutil.which("npm"):
        run([*script, "node-modules"], cwd=TOP)
    return run([*script, "bun"], cwd=TOP).stdout.strip() or None


def lua_http():
    probe = run([LUA, "-e", 'require("http.server")'], env=lua_http_env())
    return LUA if probe.returncode == 0 else None


def lua_http_env():
    return dict(os.environ, LUA_PATH="/usr/share/lua/5.4/?.lua;/usr/share/lua/5.3/?.lua;"
                "/usr/share/lua/5.4/?/init.lua;/usr/share/lua/5.3/?/init.lua;;")


def peers():
    """Name to (command without the port, environment, features)."""
    table = {}
    env = dict(os.environ, NODE_PATH=MODULES)

    def add(name, found, command, features="", environment=env):
        if found:
            table[name] = (command, environment, features.split())
        else:
            print(f"{name}: left out, it is not installed", file=sys.stderr)

    floor = compile_c("floor", ["-lev", "-lcrypto"])
    add("cws", True, [LUA, os.path.join(PEERS, "cws.lua")], "broadcast deflate")
    add("floor", floor, [floor], "broadcast")
    binary = bun()
    add("bun", binary, [binary, os.path.join(PEERS, "bun.js")], "broadcast deflate")
    node = shutil.which("node") and os.path.exists(os.path.join(MODULES, "ws"))
    add("ws", node, ["node", os.path.join(PEERS, "ws.js")], "broadcast deflate")
    go = build_go()
    add("gorilla", go, [go], "deflate")
    lws = compile_c("lws", ["-lwebsockets"])
    add("lws", lws, [lws])
    python = run(["sh", os.path.join("tools", "needs.sh"), "python"], cwd=TOP).stdout.strip()
    add("python", python, [python, os.path.join(PEERS, "python.py")])
    add("lua-http", lua_http(), [LUA, os.path.join(PEERS, "lua_http.lua")], environment=lua_http_env())
    return table


def scenarios():
    """(name, mode, wsload arguments, feature that a peer needs)."""
    rows = []
    for connections, depth, size in [
        (1, 1, 20), (64, 1, 20), (1000, 1, 20), (64, 16, 20), (8, 256, 20), (1000, 16, 20),
        (64, 1, 1024), (64, 16, 1024), (8, 4, 16384), (64, 16, 16384),
        (1, 1, 1048576), (64, 1, 1048576),
    ]:
        kind = "binary" if size == 1048576 else "text"
        name = f"echo {size} B {kind} {connections} x {depth}"
        rows.append((name, "echo", ["-c", connections, "-p", depth, "-s", size, "-k", kind], ""))
    for kind in ("utf8", "binary"):
        rows.append((f"echo 16384 B {kind} 8 x 4", "echo",
                     ["-c", 8, "-p", 4, "-s", 16384, "-k", kind], ""))
    rows.append(("connect-echo-close 32", "connect", ["-c", 32], ""))
    rows.append(("broadcast 20 B to 1000", "broadcast",
                 ["-c", 1000, "-p", 4, "--pub-path", "/pub"], "broadcast"))
    rows.append(("echo 1024 B deflate 64 x 1", "echo", ["-c", 64, "-p", 1, "-s", 1024, "--deflate"],
                 "deflate"))
    rows.append(("idle 10000", "idle", ["-c", 10000, "--first-echo"], ""))
    return rows


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


def measure(wsload, peer, port, scenario, seconds):
    name, mode, arguments, feature = scenario
    command, env, features = peer
    deflate = ["--deflate"] if feature == "deflate" else []
    server = subprocess.Popen(["taskset", "-c", "0", *command, str(port), *deflate], env=env, cwd=TOP,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not wait_for(port, server):
            return None
        path = "/sub" if mode == "broadcast" else "/echo"
        done = run([wsload, "--json", "--cpu", "1", "--pid", str(server.pid), "-d", str(seconds), "-w",
                    "0.5", *map(str, arguments), mode, f"ws://127.0.0.1:{port}{path}"], timeout=120)
        if done.returncode != 0:
            print(f"  {name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return json.loads(done.stdout) if done.returncode == 0 else None
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def figure(result, mode):
    if mode == "idle":
        return result.get("rss_bytes_per_connection")
    for key in ("server_cpu_ns_per_msg", "server_cpu_ns_per_cycle", "server_cpu_ns_per_delivery"):
        if key in result:
            return result[key]
    return None


def versions():
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return {"machine": cpu, "cores": os.cpu_count(), "kernel": platform.release()}


def table_row(name, mode, figures, names):
    medians = {n: statistics.median(figures[n]) for n in names if figures.get(n)}
    ours = medians.get("cws")
    cells = []
    for n in names:
        value = medians.get(n)
        if value is None:
            cells.append("–")
        elif n == "cws" or not ours:
            cells.append(f"{value:.0f}")
        else:
            cells.append(f"{value:.0f} ({ours / value:.2f})")
    unit = "B" if mode == "idle" else "ns"
    return f"| {name} ({unit}) | " + " | ".join(cells) + " |", medians


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2)
    options.add_argument("--only", default="")
    options.add_argument("--peers", default="")
    args = options.parse_args()
    os.makedirs(OUT, exist_ok=True)
    wsload = compile_c("wsload", ["-lssl", "-lcrypto", "-lz"])
    if not wsload:
        sys.exit("bench: wsload does not compile (libssl-dev and zlib1g-dev are needed)")
    table = peers()
    if args.peers:
        table = {n: p for n, p in table.items() if n in args.peers.split(",")}
    rows = [s for s in scenarios() if args.only in s[0]]
    results = {s[0]: {n: [] for n in table} for s in rows}
    raw = []
    port = 21000
    for number in range(args.rounds):
        for scenario in rows:
            for name, peer in table.items():
                if scenario[3] and scenario[3] not in peer[2]:
                    continue
                port = 21000 + (port - 20999) % 9000
                result = measure(wsload, peer, port, scenario, args.seconds)
                value = result and figure(result, scenario[1])
                if value is not None:
                    results[scenario[0]][name].append(value)
                    raw.append({"round": number, "scenario": scenario[0], "peer": name, **result})
            print(f"round {number + 1}: {scenario[0]}", file=sys.stderr)
    names = list(table)
    print("| server CPU per message (ratio: cws to it) | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    medians = {}
    for scenario in rows:
        line, medians[scenario[0]] = table_row(scenario[0], scenario[1], results[scenario[0]], names)
        print(line)
    with open(os.path.join(TOP, "bench", "results.json"), "w", encoding="utf-8") as out:
        json.dump({"versions": versions(), "rounds": args.rounds, "seconds": args.seconds,
                   "medians": medians, "raw": raw}, out, indent=1)


main()
