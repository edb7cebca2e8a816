"""A WebSocket peer on a plain socket: sends what it is told to, also what no
WebSocket would send, and is strict about what it receives. Knows nothing of
cws. Used by conformance.py."""
import base64
import hashlib
import os
import socket
import struct
import time
import zlib

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Failure(Exception):
    """The other side did what it must not do, or not what it must."""


def mask(data, key):
    if not data:
        return b""
    keys = (key * (len(data) // 4 + 1))[:len(data)]
    masked = int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")
    return masked.to_bytes(len(data), "little")


def close_payload(code=None, reason=b""):
    return b"" if code is None else struct.pack(">H", code) + reason


def short(data):
    return data if len(data) <= 24 else data[:24] + b"... %d bytes" % len(data)


class Deflate:
    """permessage-deflate as agreed: with windows exactly as large as that, and
    forgetting what is to be forgotten, so that a peer who does not is found."""

    def __init__(self, send_bits, send_forgets, receive_bits, receive_forgets):
        self.send_bits, self.send_forgets = send_bits, send_forgets
        self.receive_bits, self.receive_forgets = receive_bits, receive_forgets
        self.deflater = self.inflater = None

    def deflate(self, data):
        if self.send_forgets or not self.deflater:
            self.deflater = zlib.compressobj(wbits=-self.send_bits)
        return (self.deflater.compress(data) + self.deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def inflate(self, data):
        if self.receive_forgets or not self.inflater:
            self.inflater = zlib.decompressobj(wbits=-self.receive_bits)
        try:
            return self.inflater.decompress(data + b"\x00\x00\xff\xff")
        except zlib.error as err:
            raise Failure(f"does not inflate: {err}")


class Peer:
    def __init__(self, sock, is_client, buffered=b""):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.is_client = sock, is_client
        self.buffer = bytearray(buffered)
        self.deflate = None
        self.message = None  # of a fragmented message: opcode, compressed, payload
        self.keys = set()
        self.ended = None  # "eof" or "reset"

    # --- sending ---------------------------------------------------------------

    def frame(self, opcode, payload=b"", fin=True, rsv=0):
        head = bytes([(fin << 7) | (rsv << 4) | opcode])
        bit = 0x80 if self.is_client else 0
        if len(payload) < 126:
            head += bytes([bit | len(payload)])
        elif len(payload) < 65536:
            head += struct.pack(">BH", bit | 126, len(payload))
        else:
            head += struct.pack(">BQ", bit | 127, len(payload))
        if not self.is_client:
            return head + payload
        key = os.urandom(4)
        return head + key + mask(payload, key)

    def send(self, data, chop=0):
        """In pieces of `chop` bytes, each a segment of its own."""
        if not chop:
            self.sock.sendall(data)
        for at in range(0, len(data) if chop else 0, chop or 1):
            self.sock.sendall(data[at:at + chop])

    def send_message(self, payload, binary=False, size=0, chop=0):
        """In frames of `size` bytes; compressed where that was agreed."""
        rsv = 0
        if self.deflate:
            payload, rsv = self.deflate.deflate(payload), 4
        size = size or len(payload) or 1
        frames, opcode = [], BINARY if binary else TEXT
        for at in range(0, len(payload) or 1, size):
            last = at + size >= len(payload)
            frames.append(self.frame(opcode, payload[at:at + size], last, rsv))
            opcode = rsv = 0
        self.send(b"".join(frames), chop)

    # --- receiving -------------------------------------------------------------

    def more(self, deadline):
        """False at the end of the stream, or at the deadline."""
        self.sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self.sock.recv(1 << 18)
        except socket.timeout:
            return False
        except ConnectionError:
            self.ended = "reset"
            return False
        finally:
            self.sock.settimeout(10)
        self.buffer += data
        if not data:
            self.ended = "eof"
        return bool(data)

    def take(self, count, deadline):
        while len(self.buffer) < count:
            if not self.more(deadline):
                return None
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def receive_frame(self, deadline):
        head = self.take(2, deadline)
        if head is None:
            return None
        fin, rsv, opcode = head[0] >> 7, head[0] >> 4 & 7, head[0] & 15
        masked, length = head[1] >> 7, head[1] & 127
        if masked == self.is_client:
            raise Failure("masked frame" if masked else "frame without a mask")
        if length > 125:
            data = self.take(2 if length == 126 else 8, deadline)
            smallest = 126 if length == 126 else 65536
            length = int.from_bytes(data or b"", "big")
            if data is None or length < smallest:
                raise Failure("length not in its shortest form, or cut")
        key = self.take(4, deadline) if masked else None
        payload = self.take(length, deadline)
        if payload is None or masked and key is None:
            raise Failure("frame is cut")
        if masked:
            self.keys.add(key)
            payload = mask(payload, key)
        return fin, rsv, opcode, payload

    def join(self, fin, rsv, opcode, payload):
        """The message of which this is the last frame."""
        if opcode and self.message:
            raise Failure("data frame inside a fragmented message")
        if opcode:
            self.message = [opcode, rsv == 4, []]
        elif not self.message:
            raise Failure("continuation of nothing")
        if rsv and not (opcode and rsv == 4 and self.deflate):
            raise Failure(f"reserved bits {rsv}")
        self.message[2].append(payload)
        if not fin:
            return None
        opcode, compressed, parts = self.message
        self.message = None
        payload = b"".join(parts)
        if compressed:
            payload = self.deflate.inflate(payload)
        if opcode == TEXT:
            payload.decode()
        return "message", payload, opcode == BINARY

    def event(self, seconds=5):
        """What comes next: ("message", payload, binary), ("ping", payload),
        ("pong", payload), ("close", code or None, reason), ("eof",),
        ("reset",), ("nothing",)."""
        deadline = time.monotonic() + seconds
        while True:
            got = self.receive_frame(deadline)
            if got is None:
                return (self.ended or "nothing",)
            fin, rsv, opcode, payload = got
            if opcode in (0, TEXT, BINARY):
                event = self.join(fin, rsv, opcode, payload)
                if event:
                    return event
                continue
            if not fin or rsv or len(payload) > 125:
                raise Failure("malformed control frame")
            if opcode in (PING, PONG):
                return "ping" if opcode == PING else "pong", payload
            if opcode != CLOSE or len(payload) == 1:
                raise Failure(f"opcode {opcode}, {len(payload)} bytes")
            code = struct.unpack(">H", payload[:2])[0] if payload else None
            return "close", code, payload[2:].decode()

    # --- what has to happen ----------------------------------------------------

    def expect(self, *events, seconds=5):
        for wanted in events:
            got = self.event(seconds)
            if got != wanted:
                shown = [[short(x) if isinstance(x, bytes) else x for x in e] for e in (wanted, got)]
                raise Failure(f"expected {shown[0]}, got {shown[1]}")

    def quiet(self, seconds):
        """Nothing happens, the connection stays open."""
        self.expect(("nothing",), seconds=seconds)

    def finish(self, code=1000):
        """Closes: the same code comes back, nothing before and nothing after."""
        self.send(self.frame(CLOSE, close_payload(code)))
        self.expect(("close", code, ""), seconds=2)
        self.end()

    def end(self):
        """After both close frames: the server ends the stream, within 1 s; a
        client waits for that, and then does the same. No byte comes."""
        if not self.is_client:
            self.more(time.monotonic() + 0.005)
            if self.ended:
                raise Failure("the client ends the stream before the server")
            self.sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 1
        while self.more(deadline):
            pass
        if self.buffer:
            raise Failure(f"{len(self.buffer)} bytes after the close frame")
        if self.ended != "eof":
            raise Failure(f"after the closing handshake: {self.ended or 'not closed'}")

    def fails(self, code, seconds=1):
        """The other side fails the connection with this code, at once."""
        event = self.event(seconds)
        if event[0] != "close" or event[1] != code:
            raise Failure(f"expected it to fail with {code}, got {event[:2]}")
        if not 0 < len(event[2]) < 124 or not event[2].isascii():
            raise Failure(f"reason {event[2]!r}")
        try:
            self.send(self.frame(CLOSE, close_payload(code)))
        except ConnectionError:
            raise Failure("the stream was reset")
        self.end()


# --- handshakes ------------------------------------------------------------------

def accept_key(key):
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def read_head(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise Failure("the stream ends inside the head")
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        name, value = line.split(":", 1)
        fields.setdefault(name.lower(), []).append(value.strip())
    return lines[0], {name: ", ".join(values) for name, values in fields.items()}, rest


def parse_extension(text):
    """The first element of a list: its name and its parameters."""
    parts = [part.strip() for part in text.split(",")[0].split(";")]
    params = {}
    for part in parts[1:]:
        name, _, value = part.partition("=")
        params[name.strip()] = value.strip().strip('"')
    return parts[0], params


def agreed(params, is_client):
    server = int(params.get("server_max_window_bits") or 15), "server_no_context_takeover" in params
    client = int(params.get("client_max_window_bits") or 15), "client_no_context_takeover" in params
    return Deflate(*client, *server) if is_client else Deflate(*server, *client)


def connect(host, port, path="/", offer=None):
    """A client's end of an open WebSocket."""
    sock = socket.create_connection((host, port), timeout=10)
    key = base64.b64encode(os.urandom(16))
    extension = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
    sock.sendall((f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                  f"Connection: Upgrade\r\nSec-WebSocket-Key: {key.decode()}\r\n"
                  f"Sec-WebSocket-Version: 13\r\n{extension}\r\n").encode())
    status, fields, rest = read_head(sock)
    if " 101 " not in status or fields.get("sec-websocket-accept") != accept_key(key).decode():
        raise Failure(f"handshake: {status}")
    peer = Peer(sock, True, rest)
    answer = fields.get("sec-websocket-extensions")
    if answer:
        name, params = parse_extension(answer)
        if name != "permessage-deflate" or not offer:
            raise Failure(f"not offered: {answer}")
        peer.deflate = agreed(params, True)
    return peer


def accept(sock):
    """A server's end: its peer, before it answered, and the request's target and
    fields."""
    sock.settimeout(10)
    line, fields, rest = read_head(sock)
    return Peer(sock, False, rest), line.split(" ")[1], fields


def switch(peer, fields, answer=None):
    """Answers 101, with these parameters of permessage-deflate (None: without)."""
    extension = ""
    if answer is not None:
        extension = "Sec-WebSocket-Extensions: " + "; ".join(["permessage-deflate", *answer]) + "\r\n"
        peer.deflate = agreed(dict(part.partition("=")[::2] for part in answer), False)
    key = accept_key(fields["sec-websocket-key"].encode()).decode()
    peer.sock.sendall((f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       f"Sec-WebSocket-Accept: {key}\r\n{extension}\r\n").encode())
