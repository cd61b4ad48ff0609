"""A node of the Skerry protocol in Python's standard library, written from proto-spec/sync.md alone: reads a slice and
sends lane entries over a session of skerry_client."""

import os
import pathlib
import struct

from skerry_client import STATUS, Decoder, Malformed, _head, encode


def encode_message(value):
    """The messages of slices and lanes: arrays with byte strings inside."""
    if isinstance(value, (bytes, bytearray)):
        return _head(2, len(value)) + bytes(value)
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(encode_message(item) for item in value)
    return encode(value)


class MessageDecoder(Decoder):
    def item(self, depth=0):
        if self.at < len(self.data) and self.data[self.at] >> 5 == 2:
            # The head of a byte string is that of a text but for its major type.
            start = self.at
            first = self.take(1)[0] & 31
            length = first if first < 24 else int.from_bytes(self.take(1 << (first - 24)), "big")
            if _head(2, length) != self.data[start : self.at]:
                raise Malformed("not the shortest head")
            return bytes(self.take(length))
        return super().item(depth)


def decode_message(data):
    decoder = MessageDecoder(bytes(data))
    value = decoder.item()
    if decoder.at != len(data):
        raise Malformed("bytes behind the message")
    return value


def digest(pairs):
    """The digest of (key, revision) pairs: two FNV-1a runs, mixed by SplitMix64, summed."""
    mask = (1 << 64) - 1

    def mix(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    high = low = 0
    for key, revision in pairs:
        a, b = 0xCBF29CE484222325, 0x6C62272E07BB0142
        for byte in key.encode() + b"\xff" + struct.pack(">Q", revision):
            a = ((a ^ byte) * 0x100000001B3) & mask
            b = ((b ^ byte) * 0x100000001B3) & mask
        high, low = (high + mix(a)) & mask, (low + mix(b)) & mask
    return struct.pack(">QQ", high, low)


DICTIONARY = pathlib.Path(__file__).resolve().parents[2] / "proto-spec" / "vectors" / "dictionary.hex"


def unpack(item, limit=64 << 10):
    """The item behind a packed one (section 7); one that is not packed is passed on."""
    if not item or item[0] != 0:
        return item
    count = shift = 0
    at = 1
    while True:
        count |= (item[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if item[at - 1] < 0x80:
            break
    if count > limit:
        raise Malformed("the packed item claims too much")
    out = bytearray(bytes.fromhex(DICTIONARY.read_text()))
    start = len(out)
    while at < len(item):
        token = item[at]
        at += 1
        if token < 0x80:
            out += item[at : at + token + 1]
            at += token + 1
            continue
        distance = ((token & 15) << 8 | item[at]) + 1
        at += 1
        length = (token >> 4 & 7) + 3
        while length > 9:
            length += item[at]
            at += 1
            if item[at - 1] < 255:
                break
        for _ in range(length):
            out.append(out[-distance])
    if len(out) - start != count:
        raise Malformed("the packed item is not as long as it says")
    return bytes(out[start:])


class Slice:
    """A node's replica, in memory: key -> (revision, sealed)."""

    def __init__(self, client, held=None, cursor=None):
        self.held, self.position = dict(held or {}), 0
        params = {"digest": digest((key, entry[0]) for key, entry in self.held.items()).hex()}
        if cursor:
            params.update(log=cursor[0], epoch=cursor[1], position=cursor[2])
        self.stream = client.open("slice", params, last=False, priority=STATUS)
        self.snapshots, self.inventories, self.cursor = 0, 0, cursor
        self.named, self.complete = None, False

    def step(self, timeout=30):
        """Applies one message; answers its name."""
        message = decode_message(self.stream.receive(timeout))
        tag, rest = message[0], message[1:]
        if tag in (1, 2):
            log, epoch, self.position = rest
            self.cursor = (log.hex(), epoch, self.position)
            self.complete = tag == 1
            if tag == 2:
                self.snapshots, self.named = self.snapshots + 1, set()
            return "resume" if tag == 1 else "begin"
        if tag == 3:
            self.named.add(self.put(rest[0]))
            return "object"
        if tag == 4:
            self.named.add(rest[0])
            return "keep"
        if tag == 5:
            self.held = {key: entry for key, entry in self.held.items() if key in self.named}
            self.complete = True
            self.moved(rest[0])
            return "end"
        if tag == 6:
            for entry in rest[1]:
                if isinstance(entry, str):
                    self.held.pop(entry, None)
                elif isinstance(entry, list) and len(entry) == 3:
                    self.held[entry[0]] = (max(self.held[entry[0]][0], entry[1]), self.held[entry[0]][1])
                else:
                    self.put(entry)
            self.moved(rest[0])
            return "position"
        if tag == 7:
            self.inventories += 1
            pairs = sorted((key, entry[0]) for key, entry in self.held.items())
            for start in range(0, len(pairs), 500):
                self.stream.send(encode_message(pairs[start : start + 500]))
            self.stream.send(encode_message([]))
            return "inventory"
        raise Malformed(f"slice message {tag} is unknown")

    def put(self, object):
        if isinstance(object, bytes):
            object = decode_message(unpack(object))
        key, _, _, _, body_revision, status_revision, _, sealed = object
        self.held[key] = (max(body_revision, status_revision), sealed)
        return key

    def moved(self, position):
        self.position = position
        self.cursor = (self.cursor[0], self.cursor[1], position)

    def until(self, condition):
        while not (self.complete and condition(self)):
            self.step()


class Lane:
    """One lane of one incarnation of its own."""

    def __init__(self, client, name):
        self.incarnation, self.number = os.urandom(16), 0
        self.stream = client.open(
            "lane", {"lane": name, "incarnations": [self.incarnation.hex()]}, last=False, priority=STATUS)
        tag, cursors = decode_message(self.stream.receive())
        # An incarnation that the stream was opened with stands as its place.
        self.cursors = [tag, [[self.incarnation if name == 0 else name, number] for name, number in cursors]]

    def send(self, *payloads):
        """Sends the maps as one batch; the answer: (number, refused)."""
        entries = [[self.number + index + 1, encode(payload)] for index, payload in enumerate(payloads)]
        through = self.number + len(payloads)
        return self.batch(self.number, through, entries)

    def batch(self, after, through, entries):
        self.stream.send(encode_message([2, self.incarnation, after, through, entries, False]))
        tag, incarnation, number, refused = decode_message(self.stream.receive())
        if tag != 3 or incarnation not in (0, self.incarnation):
            raise Malformed("the answer is not about this batch")
        self.number = number
        return number, refused
