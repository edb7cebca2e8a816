#!/usr/bin/env python3
"""Draws the pictures of docs/performance.md: where a message's time goes.

docs/where.svg: CPU time. Each server runs alone on core 0 under perf, the
generator on core 1; the time of a message is the one that wsload sees in the
kernel's accounting, divided as perf's samples fall on the kernel, cws, the
interpreter and the libraries. Needs perf (Debian: linux-perf) and the right to
use it.
docs/instructions.svg: what bench/instructions.txt says, library by library.

  python3 bench/pictures.py
"""
import os
import subprocess
import sys
import tempfile
import time
from xml.sax.saxutils import escape

import run as bench

SCENARIOS = [("20 B, 64 × 1", bench.echo(64, 1, 20)), ("20 B, 1,000 × 1", bench.echo(1000, 1, 20)),
             ("20 B, 64 × 16", bench.echo(64, 16, 20)), ("20 B, 8 × 256", bench.echo(8, 256, 20)),
             ("16 KiB text, 8 × 4", bench.echo(8, 4, 16384)), ("16 KiB UTF-8, 8 × 4", bench.echo(8, 4, 16384, "utf8")),
             ("1 MiB binary, 1 × 1", bench.echo(1, 1, bench.MIB, "binary"))]
COUNTED = {"echo-20": "20 B, one in flight", "echo-20-batch-16": "20 B, 16 in flight", "echo-16k-ascii": "16 KiB ASCII",
           "echo-16k-utf8": "16 KiB UTF-8", "echo-1k-deflate": "1 KiB deflated", "connect-echo-close": "connect, echo, close",
           "broadcast-100": "broadcast, a delivery"}
PARTS = [("kernel", "#8a8f98"), ("cws", "#3b7dd8"), ("Lua", "#7a5bb5"), ("libc", "#d08a35"), ("libev", "#3a9d7a"),
         ("zlib", "#7d8b3a"), ("crypto", "#a0522d"), ("floor", "#b0413e"), ("other", "#b9b9b9")]
LEFT, WIDTH, HEIGHT, GAP = 190, 560, 22, 12


def part_of(thing):
    """The part that an object of perf's report belongs to."""
    for word, part in (("kernel", "kernel"), ("core.so", "cws"), ("lua", "Lua"), ("libev", "libev"), ("libc.", "libc"),
                       ("libz", "zlib"), ("libcrypto", "crypto"), ("floor", "floor")):
        if word in thing:
            return part
    return "other"


def sampled(pid, seconds):
    """Perf's samples of a process, part by part, as shares of 1."""
    with tempfile.NamedTemporaryFile() as data:
        done = bench.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "4000", "-p", str(pid), "-o", data.name, "--",
                          "sleep", str(seconds)])
        if done.returncode != 0:
            sys.exit("pictures: perf record: " + done.stderr.strip()[-300:])
        lines = bench.run(["perf", "report", "-i", data.name, "--stdio", "-q", "--sort", "dso"]).stdout.splitlines()
    shares = {}
    for line in lines:
        words = line.split()
        if len(words) == 2 and words[0].endswith("%"):
            part = part_of(words[1])
            shares[part] = shares.get(part, 0) + float(words[0][:-1]) / 100
    return shares


def measure(peer, scenario, port):
    """Nanoseconds of a message, part by part."""
    server = subprocess.Popen(["taskset", "-c", "0", *peer["command"], str(port)], env=peer["env"], cwd=bench.TOP,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not bench.wait_for(port, server):
            sys.exit(f"pictures: {peer['command'][0]} does not listen")
        load = [bench.WSLOAD, "--json", "--cpu", "1", "--pid", str(server.pid), "-d", "4", "-w", "0.5",
                *map(str, scenario["arguments"]), scenario["mode"], f"ws://127.0.0.1:{port}/echo"]
        with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as wsload:
            time.sleep(1)
            shares = sampled(server.pid, 3)
            out, _ = wsload.communicate()
        if wsload.returncode != 0:
            sys.exit("pictures: wsload failed: " + out)
        whole = bench.json.loads(out)["server_cpu_ns_per_msg"]
        return {part: share * whole for part, share in shares.items()}
    finally:
        server.kill()
        server.wait()


def counted():
    """Instructions of each scenario that is drawn, part by part."""
    rows, parts = [], {}
    with open(os.path.join(bench.TOP, "bench", "instructions.txt"), encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if line.startswith("\t"):
                part = part_of(words[0].split(":")[0])
                parts[part] = parts.get(part, 0) + float(words[1])
                parts["other"] -= float(words[1])  # what is left
            elif words and not line.startswith("#"):
                parts = {"other": float(words[1])}
                if words[0] in COUNTED:
                    rows.append((COUNTED[words[0]], parts))
    return rows


def bar(y, title, parts, scale, unit):
    """One bar, its parts with their share, the whole behind it."""
    whole = sum(parts.values())
    yield f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(title)}</text>'
    x = LEFT
    for name, colour in PARTS:
        wide = parts.get(name, 0) * scale
        if wide < 0.5:
            continue
        yield (f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{HEIGHT}" fill="{colour}">'
               f"<title>{name}: {parts[name]:,.0f}{unit}</title></rect>")
        if wide > 30:
            yield (f'<text x="{x + wide / 2:.1f}" y="{y + 15}" text-anchor="middle" fill="white" font-size="11">'
                   f"{100 * parts[name] / whole:.0f} %</text>")
        x += wide
    yield f'<text x="{x + 8:.1f}" y="{y + 16}">{whole:,.0f}{unit}</text>'


def legend(y, names):
    x = LEFT
    for name, colour in PARTS:
        if name not in names:
            continue
        yield f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colour}"/>'
        yield f'<text x="{x + 20}" y="{y + 12}">{name}</text>'
        x += 78


def draw(name, groups, unit):
    """An SVG. Each group of bars has one scale."""
    y, lines, names = 16, [], set()
    for group in groups:
        scale = WIDTH / max(sum(parts.values()) for _, parts in group)
        for title, parts in group:
            lines += bar(y, title, parts, scale, unit)
            names |= {part for part, value in parts.items() if value * scale >= 0.5}
            y += HEIGHT + 2
        y += GAP - 2
    lines += legend(y, names)
    with open(os.path.join(bench.TOP, "docs", name), "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="880" height="{y + 30}" '
                   'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n')
        file.write("\n".join(lines) + "\n</svg>\n")


def main():
    draw("instructions.svg", [[row] for row in counted()], "")
    bench.prepare()
    peers = bench.find_peers()
    if "floor" not in peers:
        sys.exit("pictures: floor does not compile")
    groups = []
    for number, (title, scenario) in enumerate(SCENARIOS):
        groups.append([(title if name == "cws" else name, measure(peers[name], scenario, 21000 + 2 * number + i))
                       for i, name in enumerate(("cws", "floor"))])
        print(*(f"{t}: { {k: round(v) for k, v in parts.items()} }" for t, parts in groups[-1]), file=sys.stderr)
    draw("where.svg", groups, " ns")


main()
