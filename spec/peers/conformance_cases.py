"""The well-known conformance cases for WebSockets (RFC 6455, RFC 7692), by their
usual numbers, with the strict outcome of each. A case is a function that gets an
open rawpeer.Peer and raises Failure."""
import random
import struct

from rawpeer import BINARY, CLOSE, PING, PONG, TEXT, Failure, close_payload

HELLO = "Hello-µ@ßöäüàá-UTF-8!!".encode()
PAUSE = 0.3  # where the usual cases wait 1 s
CASES = {}   # number: (what to do, what to offer or None)
MESSAGES = 4  # of the compression cases, which usually send 1000


def add(number, function, offers=None):
    CASES[number] = function, offers


def add_all(prefix, functions):
    for i, function in enumerate(functions, 1):
        add(f"{prefix}.{i}", function)


# --- 1: framing, 2: pings and pongs, 3: reserved bits, 4: opcodes ------------------

def echo(payload, binary=False, size=0, chop=0, seconds=5):
    def play(p):
        p.send_message(payload, binary, size, chop)
        p.expect(("message", payload, binary), seconds=seconds)
        p.finish()
    return play


def each_size(fill, binary):
    sizes = [0, 125, 126, 127, 128, 65535, 65536]
    return [echo(fill * n, binary) for n in sizes] + [echo(fill * 65536, binary, chop=997)]


add_all("1.1", each_size(b"*", False))
add_all("1.2", each_size(b"\xfe", True))


def ping(payload, chop=0, count=1):
    def play(p):
        payloads = [payload + (b"%d" % i if count > 1 else b"") for i in range(count)]
        p.send(b"".join(p.frame(PING, each) for each in payloads), chop)
        p.expect(*[("pong", each) for each in payloads])
        p.finish()
    return play


def ping_too_long(p):
    p.send(p.frame(PING, b"\xfe" * 126))
    p.fails(1002)


def pong(payload, then_ping=False):
    def play(p):
        p.send(p.frame(PONG, payload))
        if then_ping:
            p.send(p.frame(PING, b"ping"))
            p.expect(("pong", b"ping"))
        p.finish()
    return play


add_all("2", [
    ping(b""), ping(b"Hello, world!"), ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), ping(b"\xfe" * 125),
    ping_too_long, ping(b"\xfe" * 125, chop=1), pong(b""), pong(b"unsolicited pong payload"),
    pong(b"unsolicited pong payload", True), ping(b"payload-", count=10), ping(b"payload-", chop=1, count=10),
])


def bad_frame(opcode, payload=b"", rsv=0, after_text=False, chop=0):
    """What comes before is answered, what comes after is not."""
    def play(p):
        before = p.frame(TEXT, HELLO) if after_text else b""
        after = p.frame(PING) if after_text else b""
        p.send(before + p.frame(opcode, payload, rsv=rsv) + after, chop)
        if after_text:
            p.expect(("message", HELLO, False))
        p.fails(1002)
    return play


add_all("3", [
    bad_frame(TEXT, HELLO, 1), bad_frame(TEXT, HELLO, 2, True), bad_frame(TEXT, HELLO, 3, True, 40),
    bad_frame(TEXT, HELLO, 4, True, 1), bad_frame(BINARY, b"\xff" * 8, 5), bad_frame(PING, HELLO, 6),
    bad_frame(CLOSE, close_payload(1000), 7),
])
for group, first in (("4.1", 3), ("4.2", 11)):
    add_all(group, [
        bad_frame(first), bad_frame(first + 1, b"reserved"), bad_frame(first + 2, after_text=True),
        bad_frame(first + 3, b"reserved", after_text=True), bad_frame(first + 4, b"reserved", 0, True, 1),
    ])

# --- 5: fragmentation -------------------------------------------------------------


def frames(chop, *parts):
    """chop: 0 in one piece, -1 frame by frame, n in pieces of n bytes."""
    def send(p):
        built = [p.frame(*part) for part in parts]
        for each in built if chop < 0 else [b"".join(built)]:
            p.send(each, max(chop, 0))
    return send


def fragmented(chop, with_ping):
    parts = [(TEXT, b"fragment1", False), (0, b"fragment2", True)]
    if with_ping:
        parts.insert(1, (PING, b"ping payload"))

    def play(p):
        frames(chop, *parts)(p)
        if with_ping:
            p.expect(("pong", b"ping payload"))
        p.expect(("message", b"fragment1fragment2", False))
        p.finish()
    return play


def refused(chop, *parts, before=()):
    def play(p):
        frames(chop, *parts)(p)
        p.expect(*before)
        p.fails(1002)
    return play


def with_pauses(chop):
    def play(p):
        frames(chop, (TEXT, b"fragment1", False), (0, b"fragment2", False), (PING, b"pongme 1!"))(p)
        p.expect(("pong", b"pongme 1!"))
        p.quiet(PAUSE)
        frames(chop, (0, b"fragment3", False), (0, b"fragment4", False), (PING, b"pongme 2!"),
               (0, b"fragment5", True))(p)
        p.expect(("pong", b"pongme 2!"), ("message", b"".join(b"fragment%d" % i for i in range(1, 6)), False))
        p.finish()
    return play


LONELY = (0, b"non-continuation payload", True)
UNFINISHED = (0, b"non-continuation payload", False)
WORLD = (TEXT, b"Hello, world!")
TWO = [(TEXT, b"fragment1", False), (0, b"fragment2", True)]
add_all("5", [
    refused(0, (PING, b"fragment1", False), (0, b"fragment2", True)),
    refused(0, (PONG, b"fragment1", False), (0, b"fragment2", True)),
    *[fragmented(chop, False) for chop in (0, -1, 1)], *[fragmented(chop, True) for chop in (0, -1, 1)],
    *[refused(chop, LONELY, WORLD) for chop in (0, -1, 1)],
    *[refused(chop, UNFINISHED, WORLD) for chop in (0, -1, 1)],
    refused(0, *TWO, UNFINISHED, WORLD, before=[("message", b"fragment1fragment2", False)]),
    refused(0, *[UNFINISHED, *TWO] * 2), refused(0, *[LONELY, *TWO] * 2),
    refused(0, (TEXT, b"fragment1", False), (TEXT, b"fragment2", True)), with_pauses(0), with_pauses(-1),
])

# --- 6: UTF-8 ---------------------------------------------------------------------

KOSME = "κόσμε".encode()


def text(payload, size=0):
    """Echoed when it is UTF-8; else it fails with 1007. Byte by byte: at the first
    wrong one, what follows is not needed."""
    def play(p):
        try:
            payload.decode()
            p.send_message(payload, size=size)
            p.expect(("message", payload, False))
            p.finish()
        except UnicodeDecodeError as err:
            sent = payload[:err.start + 3] if size else payload  # at most 3 bytes to see it
            for i in range(0, len(sent), size or len(sent)):
                p.send(p.frame(0 if i else TEXT, sent[i:i + size] if size else sent, not size))
            p.fails(1007)
    return play


def empty_parts(middle):
    def play(p):
        frames(0, (TEXT, b"", False), (0, middle, False), (0, b"", True))(p)
        p.expect(("message", middle, False))
        p.finish()
    return play


def fail_fast(first, second, in_one_frame):
    def play(p):
        if in_one_frame:
            frame = p.frame(TEXT, first + second + b"edited")
            head = len(frame) - len(second) - len(b"edited")
            p.send(frame[:head])
            p.quiet(PAUSE)
            p.send(frame[head:head + len(second)])
        else:
            p.send(p.frame(TEXT, first, False))
            p.quiet(PAUSE)
            p.send(p.frame(0, second, False))
        p.fails(1007)
    return play


BEYOND = b"\xf4\x90\x80\x80"  # a code point over 10FFFF
add_all("6.1", [echo(b""), empty_parts(b""), empty_parts(b"middle frame payload")])
add_all("6.2", [echo(HELLO), echo(HELLO, size=len("Hello-µ@ßöä".encode())), echo(HELLO, size=1),
                echo(KOSME, size=1)])
add_all("6.3", [text(KOSME + b"\xed\xa0\x80edited"), text(KOSME + b"\xed\xa0\x80edited", 1)])
add_all("6.4", [fail_fast(KOSME, BEYOND, False), fail_fast(KOSME + b"\xf4", b"\x90", False),
                fail_fast(KOSME, BEYOND, True), fail_fast(KOSME + b"\xf4", b"\x90", True)])

INCOMPLETE = [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
              b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"]


def spaced(first, last):
    return b"".join(bytes([i, 32]) for i in range(first, last))


def surrogate(code):
    return chr(code).encode("utf-8", "surrogatepass")


# Groups and sequences as in Markus Kuhn's stress test.
SEQUENCES = {
    "6.5": [s.encode() for s in ("hello$world", "hello¢world", "hello€world", "hello𤭢world")] + [KOSME],
    "6.6": [KOSME[:i] for i in range(1, 12)],
    "6.7": [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    "6.8": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.9": [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    "6.10": [b"\xf7\xbf\xbf\xbf", b"\xfb" + b"\xbf" * 4, b"\xfd" + b"\xbf" * 5],
    "6.11": [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", BEYOND],
    "6.12": [b"\x80", b"\xbf", *[(b"\x80\xbf" * 4)[:n] for n in range(2, 7)], bytes(range(0x80, 0xc0))],
    "6.13": [spaced(0xc0, 0xe0), spaced(0xe0, 0xf0), spaced(0xf0, 0xf8), spaced(0xf8, 0xfc), spaced(0xfc, 0xfe)],
    "6.14": INCOMPLETE,
    "6.15": [b"".join(INCOMPLETE)],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "6.17": [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
    "6.18": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    "6.19": [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
    "6.20": [surrogate(c) for c in (0xd800, 0xdb7f, 0xdb80, 0xdbff, 0xdc00, 0xdf80, 0xdfff)],
    "6.21": [surrogate(a) + surrogate(b) for a in (0xd800, 0xdb7f, 0xdb80, 0xdbff) for b in (0xdc00, 0xdfff)],
    "6.22": [chr(plane << 16 | low).encode() for plane in range(17) for low in (0xfffe, 0xffff)],
    "6.23": [chr(c).encode() for c in range(0xfff9, 0x10000)],
}
for group, sequences in SEQUENCES.items():
    add_all(group, [text(sequence) for sequence in sequences])

# --- 7: closing -------------------------------------------------------------------


def closes(payload, code, before=(), after=(), message=None):
    """A message before the close frame is echoed before the answer, which has the
    same code, and the same reason or none; what comes after is not looked at."""
    def play(p):
        parts = [*before, (CLOSE, payload), *after]
        p.send(b"".join(p.frame(*part) for part in parts))
        if message:
            p.expect(message)
        event = p.event()
        if event[:2] != ("close", code) or event[2] not in ("", payload[2:].decode()):
            raise Failure(f"expected a close frame with {code}, got {event[:2]}")
        p.end()
    return play


def close_fails(payload, code=1002):
    def play(p):
        p.send(p.frame(CLOSE, payload))
        p.fails(code)
    return play


def close_after_much(p):
    """Informational: the echo may come, whole, or not at all."""
    payload = b"BAsd7&jh23" * 26214
    p.send(p.frame(TEXT, payload) + p.frame(CLOSE, close_payload(1000)) + p.frame(PING))
    event = p.event()
    if event == ("message", payload, False):
        event = p.event()
    if event != ("close", 1000, ""):
        raise Failure(f"expected a close frame, got {event[:2]}")
    p.end()


def close_beyond(payload):
    """Informational: a code over 4999 is answered with itself, or fails."""
    def play(p):
        p.send(p.frame(CLOSE, payload))
        p.fails(1002)
    return play


NORMAL = close_payload(1000)
add_all("7.1", [
    closes(NORMAL, 1000, before=[(TEXT, b"Hello World!")], message=("message", b"Hello World!", False)),
    closes(NORMAL, 1000, after=[(CLOSE, NORMAL)]), closes(NORMAL, 1000, after=[(PING, b"")]),
    closes(NORMAL, 1000, after=[(TEXT, b"Hello World!")]),
    closes(NORMAL, 1000, before=[(TEXT, b"fragment1", False)], after=[(0, b"fragment2", True)]),
    close_after_much,
])
add_all("7.3", [
    closes(b"", None), close_fails(b"a"), closes(NORMAL, 1000), closes(NORMAL + b"Hello World!", 1000),
    closes(NORMAL + b"*" * 123, 1000), close_fails(NORMAL + b"*" * 124),
])
add_all("7.5", [close_fails(NORMAL + KOSME + b"\xed\xa0\x80edited", 1007)])
add_all("7.7", [closes(close_payload(c), c) for c in
                (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)])
add_all("7.9", [close_fails(close_payload(c)) for c in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)])
add_all("7.13", [close_beyond(close_payload(5000)), close_beyond(struct.pack(">I", 65536))])

# --- 9: large and many, 10: the sender's fragments ----------------------------------

KIB, MIB = 1 << 10, 1 << 20


def many(size, binary):
    def play(p):
        payload = (b"\xfe" if binary else b"*") * size
        for _ in range(1000):
            p.send_message(payload, binary)
            p.expect(("message", payload, binary))
        p.finish()
    return play


for binary in (False, True):
    fill, second = b"\xfe" if binary else b"*", 2 if binary else 1
    large = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB]
    add_all(f"9.{second}", [echo(fill * size, binary, seconds=30) for size in large])
    parts = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB]
    add_all(f"9.{second + 2}", [echo(fill * 4 * MIB, binary, size, seconds=30) for size in parts])
    add_all(f"9.{second + 4}", [echo(fill * MIB, binary, 0, 64 << i, 30) for i in range(6)])
    add_all(f"9.{second + 6}", [many(size, binary) for size in (0, 16, 64, 256, 1024, 4096)])
add("10.1.1", echo(b"*" * 65536, size=1300))

# --- 12: compression of different data, 13: of one with different parameters --------

DICE = random.Random(7)
WORDS = ["".join(DICE.choices("etaoinshrdlucmß", k=DICE.randint(2, 9))) for _ in range(900)]


def prose(size):
    return " ".join(DICE.choices(WORDS, k=size // 6)).encode()


DATA = {
    1: (b"".join(b'{"id": %d, "name": "%s", "on": true},\n' % (i, WORDS[i % 900].encode()) for i in range(5000)), False),
    2: (bytes(int(128 + 100 * ((x * x + i) % 97) / 97) & 0xf8 for i in range(256) for x in range(512)), True),
    3: (prose(222218), True),
    4: (b"".join(b'<p class="c%d">%s</p>\n' % (i % 7, WORDS[i % 900].encode()) for i in range(8000)), False),
    5: (DICE.randbytes(262144) if hasattr(DICE, "randbytes") else bytes(DICE.choices(range(256), k=262144)), True),
}
SIZES = [(16, 0), (64, 0), (256, 0), (1024, 0), (4096, 0), (8192, 0), (16384, 0), (32768, 0), (65536, 0),
         (131072, 0), (8192, 256), (16384, 256), (32768, 256), (65536, 256), (131072, 256), (131072, 1024),
         (131072, 4096), (131072, 32768)]


def pieces(data, binary, size):
    """Messages of that size, from everywhere in the data; text is cut at code
    points."""
    for i in range(MESSAGES):
        at = i * size % max(1, len(data) - size)
        piece = data[at:at + size]
        yield piece if binary else piece.decode(errors="ignore").encode()


def compressed(kind, size, fragment):
    data, binary = DATA[kind]

    def play(p):
        for piece in pieces(data, binary, size):
            p.send_message(piece, binary, fragment)
            p.expect(("message", piece, binary), seconds=20)
        p.finish()
    return play


def offer(forget, bits):
    """What the other side of the connection is asked for: to forget after each
    message, to keep to a window of so many bits."""
    return [f"{{}}_no_context_takeover"] * forget + [f"{{}}_max_window_bits={bits}"] * bool(bits)


PLAIN = [offer(False, 0)]
ASKED = [PLAIN, [offer(True, 0)], [offer(False, 9)], [offer(False, 15)], [offer(True, 9)], [offer(True, 15)],
         [offer(True, 9), offer(True, 0), offer(False, 0)]]
for kind in DATA:
    for i, (size, fragment) in enumerate(SIZES, 1):
        add(f"12.{kind}.{i}", compressed(kind, size, fragment), PLAIN)
for group, offers in enumerate(ASKED, 1):
    for i, (size, fragment) in enumerate(SIZES, 1):
        add(f"13.{group}.{i}", compressed(1, size, fragment), offers)
