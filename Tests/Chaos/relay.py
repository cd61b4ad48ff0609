#!/usr/bin/env python3
"""A WAN between programs: forwards TCP connections with latency, jitter, bandwidth, stalls and cuts, each direction on
its own. Standard library only.

Commands are JSON lines on stdin, each answered by one line on stdout; it ends with its stdin.

    {"do": "open", "link": "n1", "listen": ["10.77.1.1", 6443], "target": ["10.77.0.2", 6443]}
    {"do": "set", "link": "n1", "up": {"delay": 0.05, "jitter": 0.02, "rate": 20000, "stalled": false}, "down": {...}}
    {"do": "cut", "link": "n1"}                    resets every connection
    {"do": "refuse", "link": "n1", "refuse": true} resets also every new one
    {"do": "stats"}                                bytes and connections by link

`rate` is in bytes a second and 0 for no bound; `up` is what comes from whoever connected.
"""
import asyncio
import json
import random
import socket
import struct
import sys

CHUNK = 16 << 10
# What may be under way in one direction of one connection; beyond it nothing more is read.
WINDOW = 256 << 10


class Direction:
    def __init__(self):
        self.delay = self.jitter = 0.0
        self.rate = 0
        self.stalled = False
        self.bytes = 0
        self.free = 0.0  # when the wire is free again

    def set(self, **what):
        for name, value in what.items():
            if not hasattr(self, name):
                raise ValueError(f"a direction has no {name}")
            setattr(self, name, value)

    def arrival(self, now, count):
        """When bytes that leave now are there: the wire's time in line, then the way."""
        start = max(now, self.free)
        self.free = start + (count / self.rate if self.rate else 0.0)
        return self.free + self.delay + random.uniform(0, self.jitter)


class Link:
    def __init__(self, target):
        self.target = target
        self.up, self.down = Direction(), Direction()
        self.refuse = False
        self.connections = 0
        self.open = set()

    async def serve(self, reader, writer):
        self.connections += 1
        if self.refuse:
            return reset(writer)
        try:
            other_reader, other_writer = await asyncio.open_connection(*self.target)
        except OSError:
            return reset(writer)
        pair = (writer, other_writer)
        self.open.add(pair)
        try:
            await asyncio.gather(
                self.pump(reader, other_writer, self.up), self.pump(other_reader, writer, self.down))
        except (OSError, asyncio.CancelledError):
            pass  # the connection broke, or the relay ends
        finally:
            self.open.discard(pair)
            for end in pair:
                reset(end)

    async def pump(self, reader, writer, direction):
        """Takes what comes and hands it on, in order, when it has arrived."""
        loop = asyncio.get_running_loop()
        waiting, under_way = asyncio.Queue(), 0
        room = asyncio.Event()

        async def deliver():
            nonlocal under_way
            last = 0.0
            while True:
                when, data = await waiting.get()
                last = max(last, when)
                if last > loop.time():
                    await asyncio.sleep(last - loop.time())
                while direction.stalled:
                    await asyncio.sleep(0.02)
                if data is None:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(data)
                direction.bytes += len(data)
                await writer.drain()
                under_way -= len(data)
                room.set()

        async def take():
            nonlocal under_way
            while True:
                while under_way >= WINDOW or direction.stalled:
                    room.clear()
                    if direction.stalled:
                        await asyncio.sleep(0.02)
                    else:
                        await room.wait()
                data = await reader.read(CHUNK)
                under_way += len(data)
                waiting.put_nowait((direction.arrival(loop.time(), len(data)), data or None))
                if not data:
                    return

        await asyncio.gather(take(), deliver())

    def cut(self):
        for pair in list(self.open):
            for end in pair:
                reset(end)


def reset(writer):
    """Ends a connection by RST, as a middlebox does."""
    opened = writer.get_extra_info("socket")
    try:
        if opened is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    writer.transport.abort()


class Relay:
    def __init__(self):
        self.links = {}
        self.servers = []

    async def handle(self, command):
        what = command["do"]
        if what == "open":
            link = self.links[command["link"]] = Link(command["target"])
            self.servers.append(await asyncio.start_server(link.serve, *command["listen"], backlog=256))
        elif what == "set":
            link = self.links[command["link"]]
            link.up.set(**command.get("up", {}))
            link.down.set(**command.get("down", {}))
        elif what == "cut":
            self.links[command["link"]].cut()
        elif what == "refuse":
            link = self.links[command["link"]]
            link.refuse = command["refuse"]
            if link.refuse:
                link.cut()
        elif what == "stats":
            return {
                name: {"up": link.up.bytes, "down": link.down.bytes, "connections": link.connections,
                       "open": len(link.open)}
                for name, link in self.links.items()}
        else:
            raise ValueError(f"no command {what}")
        return {}


async def main():
    relay = Relay()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            answer = await relay.handle(json.loads(line))
        except (OSError, ValueError, KeyError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
