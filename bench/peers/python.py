# Python's websockets. websockets.py PORT
import asyncio
import sys

import websockets


async def echo(ws, path=None):
    async for message in ws:
        await ws.send(message)


async def main():
    async with websockets.serve(
        echo, "127.0.0.1", int(sys.argv[1]), max_size=2**26, compression=None, ping_interval=None
    ):
        await asyncio.Future()


asyncio.run(main())
