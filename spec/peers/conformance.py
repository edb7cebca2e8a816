#!/usr/bin/env python3
"""Plays the conformance cases against a WebSocket server, or as the server that a
WebSocket client tests itself with. Prints "NUMBER OK" or "NUMBER FAILED why".

  conformance.py client HOST:PORT [--only 5.] [--messages 1000]
  conformance.py server           [--only 5.] [--messages 1000]

As a server it says on which port, and speaks the usual protocol: /getCaseCount,
/runCase?case=N&agent=NAME, /updateReports?agent=NAME, which ends it."""
import argparse
import socket
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True
import conformance_cases as cases  # noqa: E402
import rawpeer  # noqa: E402


def attempt(number, open_peer):
    """The outcome as text. open_peer() may give None: not possible here."""
    peer = None
    try:
        peer = open_peer()
        if peer is None:
            return "UNIMPLEMENTED"
        cases.CASES[number][0](peer)
        return "OK"
    except (rawpeer.Failure, UnicodeDecodeError, OSError) as err:
        return f"FAILED {type(err).__name__}: {err}"
    finally:
        if peer:
            peer.sock.close()


# --- against a server ---------------------------------------------------------------

def offer_text(offers):
    if offers is None:
        return None
    own = ["client_no_context_takeover", "client_max_window_bits"]
    return ", ".join("; ".join(["permessage-deflate", *(part.format("server") for part in wanted), *own])
                     for wanted in offers)


def run_client(address, numbers):
    host, port = address.rsplit(":", 1)

    def one(number):
        offers = cases.CASES[number][1]

        def open_peer():
            peer = rawpeer.connect(host, int(port), "/conformance", offer_text(offers))
            if offers and not peer.deflate:
                peer.sock.close()
                return None
            return peer
        return number, attempt(number, open_peer)

    with ThreadPoolExecutor(8) as pool:
        for number, outcome in pool.map(one, numbers):
            print(number, outcome, flush=True)


# --- as the server ------------------------------------------------------------------

def answer(fields, offers):
    """The parameters to answer with, of the first offer that allows them; None:
    without compression."""
    name, offered = rawpeer.parse_extension(fields.get("sec-websocket-extensions", ""))
    if name != "permessage-deflate":
        return None
    for wanted in offers or []:
        bits = any("bits" in part for part in wanted)
        if not bits or "client_max_window_bits" in offered:
            own = [f"{name}={offered[name]}" for name in offered if name == "server_max_window_bits"]
            forget = [name for name in offered if name == "server_no_context_takeover"]
            return [*own, *forget, *(part.format("client") for part in wanted)]
    return None


def serve_one(sock, numbers, outcomes, over):
    peer, target, fields = rawpeer.accept(sock)
    url = urllib.parse.urlparse(target)
    if url.path == "/runCase":
        number = numbers[int(urllib.parse.parse_qs(url.query)["case"][0]) - 1]

        def open_peer():
            params = answer(fields, cases.CASES[number][1])
            rawpeer.switch(peer, fields, params)
            return None if cases.CASES[number][1] and params is None else peer
        outcomes.append((number, attempt(number, open_peer)))
    else:
        rawpeer.switch(peer, fields)
        if url.path == "/getCaseCount":
            peer.send(peer.frame(rawpeer.TEXT, str(len(numbers)).encode()))
        else:
            over.set()
        outcomes.append((url.path[1:], attempt_finish(peer)))
    peer.sock.close()


def attempt_finish(peer):
    """Whoever closes first, both close with 1000."""
    try:
        peer.send(peer.frame(rawpeer.CLOSE, rawpeer.close_payload(1000)))
        peer.expect(("close", 1000, ""), seconds=2)
        return "OK"
    except (rawpeer.Failure, OSError) as err:
        return f"FAILED {err}"


def run_server(numbers):
    listener = socket.create_server(("127.0.0.1", 0))
    print("listening on", listener.getsockname()[1], flush=True)
    outcomes, over = [], threading.Event()
    while not over.is_set():
        sock, _ = listener.accept()
        serve_one(sock, numbers, outcomes, over)
    for number, outcome in outcomes:
        print(number, outcome)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["client", "server"])
    parser.add_argument("address", nargs="?")
    parser.add_argument("--only", default="", help="cases whose number begins so")
    parser.add_argument("--messages", type=int, default=cases.MESSAGES)
    options = parser.parse_args()
    cases.MESSAGES = options.messages
    numbers = [number for number in cases.CASES if number.startswith(options.only)]
    if options.role == "client":
        run_client(options.address, numbers)
    else:
        run_server(numbers)


main()
