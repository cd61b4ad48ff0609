#!/usr/bin/env python3
"""Watches one key space of etcd over gRPC, many times over, and tells what arrived.

    etcd_watch.py --endpoint localhost:2379 --ca ca.crt --prefix watched/ --streams 1000 --connections 1000

Each stream is a Watch call of its own; with fewer connections than streams several share one. The messages are encoded
here by hand (etcd's rpc.proto, WatchRequest and WatchResponse), so that grpcio is all it needs. Prints a line of JSON
when every watch stands, {"ready": STREAMS}, and then five times a second {"events": N, "responses": N, "last": NS,
"errors": N}: events over all streams, the messages that they came in, and when the last came (CLOCK_MONOTONIC). Ends
when its standard input does.
"""

import argparse
import asyncio
import json
import sys
import time

import grpc

WATCH = "/etcdserverpb.Watch/Watch"
LENGTH_DELIMITED = 2
# Fields of WatchResponse.
CREATED, CANCELED, EVENTS = 3, 4, 11


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, content):
    """A field of bytes."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(content)) + content


def watch_request(prefix):
    """WatchRequest.create_request (1), a WatchCreateRequest of key (1) and range_end (2): everything below a prefix."""
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    return field(1, field(1, prefix) + field(2, end))


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def watch_response(data):
    """(created, canceled, number of events) of an encoded WatchResponse."""
    created = canceled = False
    events = at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == LENGTH_DELIMITED:
            length, at = read_varint(data, at)
            at += length
            events += number == EVENTS
        elif kind == 0:
            value, at = read_varint(data, at)
            if number == CREATED:
                created = bool(value)
            elif number == CANCELED:
                canceled = bool(value)
        else:
            raise ValueError(f"a WatchResponse has no field of kind {kind}")
    if at > len(data):
        raise ValueError("a WatchResponse ends too early")
    return created, canceled, events


class Watches:
    def __init__(self, options):
        self.options = options
        self.standing = self.events = self.responses = self.errors = self.last = 0
        self.all_stand = asyncio.Event()

    async def watch(self, channel):
        call = channel.stream_stream(WATCH)()
        try:
            await call.write(watch_request(self.options.prefix.encode()))
            while (data := await call.read()) is not grpc.aio.EOF:
                created, canceled, events = watch_response(data)
                if canceled:
                    break
                if created:
                    self.standing += 1
                    if self.standing == self.options.streams:
                        self.all_stand.set()
                if events:
                    self.events += events
                    self.responses += 1
                    self.last = time.monotonic_ns()
        except (grpc.aio.AioRpcError, ValueError) as error:
            print(f"etcd_watch.py: {error}", file=sys.stderr)
        # A watch that ends by itself misses what comes after.
        self.errors += 1
        self.all_stand.set()

    def report(self):
        return {"events": self.events, "responses": self.responses, "last": self.last, "errors": self.errors}


def channels(options):
    with open(options.ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    # A pool of its own for each: grpc would join channels with the same arguments into one connection.
    settings = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    return [grpc.aio.secure_channel(options.endpoint, credentials, settings) for _ in range(options.connections)]


async def main(options):
    watches = Watches(options)
    opened = channels(options)
    tasks = [asyncio.create_task(watches.watch(opened[number % len(opened)])) for number in range(options.streams)]
    await asyncio.wait_for(watches.all_stand.wait(), options.patience)
    if watches.errors:
        raise SystemExit("etcd_watch.py: a watch ended before all stood")
    print(json.dumps({"ready": watches.standing}), flush=True)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not ended.done():
        await asyncio.wait([ended], timeout=0.2)
        print(json.dumps(watches.report()), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(channel.close(None) for channel in opened))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="HOST:PORT, by a name of the server's certificate")
    parser.add_argument("--ca", required=True, help="the CA of that certificate")
    parser.add_argument("--prefix", required=True, help="of the keys that are watched")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--patience", type=float, default=60, help="seconds until all watches must stand")
    options = parser.parse_args()
    if not options.prefix or options.streams < 1 or options.connections < 1:
        parser.error("--prefix, --streams and --connections cannot be empty or below 1")
    return options


if __name__ == "__main__":
    asyncio.run(main(arguments()))
