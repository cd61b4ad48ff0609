"""A client of the Skerry protocol in Python's standard library, written from proto-spec/ alone.

It shares nothing with the Swift sources, so that it shows whether the contract says enough. Synchronous: one thread
reads the connection and hands what it reads to the streams.

    client = Client.connect("127.0.0.1", 7443, ca="ca.pem", cert="client.pem", key="client.key")
    revision, pods = client.list("pods", namespace="default", limit=100)
    for event in client.watch("pods", after=revision): ...
"""

import collections
import contextlib
import math
import socket
import ssl
import struct
import threading
import time

FRAME_PAYLOAD = 16_376
HELLO, WELCOME, PING, GOAWAY = 1, 2, 3, 4
OPEN, DATA, CREDIT, END, RESET = 16, 17, 18, 19, 20
MORE, REPLY, LAST, IGNORABLE = 0x01, 0x01, 0x02, 0x80
CONTROL, STATUS, TELEMETRY, BULK = 0, 1, 2, 3
EVENTS = {0: "OBJECT", 1: "ADDED", 2: "MODIFIED", 3: "DELETED", 4: "BOOKMARK"}


# --- deterministic CBOR over JSON's data model (README, section 3) ---------------------------------------------------


class Malformed(ValueError):
    """The bytes are not what the contract allows."""


def _head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << (8 * size):
            return bytes([major << 5 | extra]) + number.to_bytes(size, "big")
    raise Malformed("the number is too large")


def _float(value):
    if not math.isfinite(value):
        raise Malformed("NaN and infinity do not exist")
    for first, code in ((0xF9, ">e"), (0xFA, ">f"), (0xFB, ">d")):
        try:
            packed = struct.pack(code, value)
        except OverflowError:
            continue
        if struct.unpack(code, packed)[0] == value:
            return bytes([first]) + packed
    raise Malformed("no float")


def encode(value):
    """The one encoding of a value: None, bool, int, float, str, list or dict with str keys."""
    if value is None:
        return b"\xf6"
    if value is True or value is False:
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        text = value.encode()
        return _head(3, len(text)) + text
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(encode(item) for item in value)
    if isinstance(value, dict):
        pairs = sorted(((key.encode(), item) for key, item in value.items()), key=lambda pair: (len(pair[0]), pair[0]))
        return _head(5, len(pairs)) + b"".join(_head(3, len(key)) + key + encode(item) for key, item in pairs)
    raise Malformed(f"{type(value).__name__} is not in the data model")


class Decoder:
    """Reads items and refuses every spelling but the deterministic one."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if len(self.data) - self.at < count:
            raise Malformed("the input ends inside an item")
        self.at += count
        return self.data[self.at - count : self.at]

    def item(self, depth=0):
        if depth > 64:
            raise Malformed("nested too deep")
        first = self.take(1)[0]
        major, short = first >> 5, first & 31
        if major == 7:
            return self.simple(first)
        if short > 27:
            raise Malformed("indefinite length or reserved head")
        number = short
        if short >= 24:
            size = 1 << (short - 24)
            number = int.from_bytes(self.take(size), "big")
            if number < (24 if size == 1 else 1 << (4 * size)):
                raise Malformed("not the shortest head")
        if major == 0:
            return number
        if major == 1:
            if number >= 1 << 63:
                raise Malformed("the integer does not fit 64 signed bits")
            return -1 - number
        if major == 3:
            try:
                return self.take(number).decode("utf-8", "strict")
            except UnicodeDecodeError as error:
                raise Malformed("the text is not UTF-8") from error
        if major == 4:
            if number > len(self.data) - self.at:
                raise Malformed("the input ends inside an array")
            return [self.item(depth + 1) for _ in range(number)]
        if major == 5:
            return self.map(number, depth)
        raise Malformed("byte strings and tags are not allowed")

    def map(self, count, depth):
        result, last = {}, None
        for _ in range(count):
            key = self.item(depth + 1)
            if not isinstance(key, str):
                raise Malformed("a key is no text")
            order = (len(key.encode()), key.encode())
            if last is not None and order <= last:
                raise Malformed("keys are repeated or out of order")
            last = order
            result[key] = self.item(depth + 1)
        return result

    def simple(self, first):
        if first in (0xF4, 0xF5, 0xF6):
            return {0xF4: False, 0xF5: True, 0xF6: None}[first]
        codes = {0xF9: (">e", 2), 0xFA: (">f", 4), 0xFB: (">d", 8)}
        if first not in codes:
            raise Malformed("this simple value is not allowed")
        code, size = codes[first]
        value = struct.unpack(code, self.take(size))[0]
        if _float(value)[0] != first:
            raise Malformed("not the shortest float")
        return value


def decode(data):
    """The value of exactly one item. Positions use all 64 bits, so unsigned integers above 2^63 are let through."""
    decoder = Decoder(bytes(data))
    value = decoder.item()
    if decoder.at != len(data):
        raise Malformed("bytes behind the item")
    return value


# --- frames (section 2) ----------------------------------------------------------------------------------------------

Frame = collections.namedtuple("Frame", "type flags stream payload")


def frame(type, stream=0, payload=b"", flags=0):
    if len(payload) > FRAME_PAYLOAD:
        raise Malformed("the payload does not fit a frame")
    return struct.pack(">HBBI", len(payload), type, flags, stream) + payload


def frames_of(type, stream, message, flags=0):
    """A message in as many frames as it takes; `flags` are on the first."""
    parts = [message[i : i + FRAME_PAYLOAD] for i in range(0, len(message), FRAME_PAYLOAD)] or [b""]
    out = b""
    for index, part in enumerate(parts):
        more = MORE if index + 1 < len(parts) else 0
        out += frame(type, stream, part, (flags if index == 0 else 0) | more)
    return out


def cut(data):
    """The frames at the start of `data`, and what is left."""
    found, at = [], 0
    while len(data) - at >= 8:
        length, type, flags, stream = struct.unpack_from(">HBBI", data, at)
        if length > FRAME_PAYLOAD:
            raise Malformed("a frame is above the limit")
        if len(data) - at - 8 < length:
            break
        found.append(Frame(type, flags, stream, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found, data[at:]


# --- session (sections 4 to 9) ---------------------------------------------------------------------------------------


class CallFailed(Exception):
    """An error of section 11."""

    def __init__(self, reason, message, details=None):
        super().__init__(f"{reason}: {message}")
        self.reason, self.message, self.details = reason, message, details

    @classmethod
    def of(cls, error):
        return cls(error.get("reason", "InternalError"), error.get("message", ""), error.get("details"))


class Stream:
    """One call: messages both ways and an END."""

    def __init__(self, client, number, grant):
        self.client, self.number, self.grant = client, number, grant
        self.messages = collections.deque()
        self.partial, self.partial_end = b"", b""
        self.credit = client.peer_credit
        self.ended, self.result, self.error = False, None, None

    def receive(self, timeout=30):
        """The next message; None at the end. Raises what the call failed with."""
        with self.client.changed:
            self.client.wait(lambda: self.messages or self.ended, timeout)
            if self.messages:
                message = self.messages.popleft()
                if self.grant and not self.ended:
                    self.give(max(16, len(message)))
                return message
            if self.error:
                raise self.error
            return None

    def give(self, credit):
        """Lets the other side send `credit` more bytes of messages."""
        self.client.write(frame(CREDIT, self.number, struct.pack(">I", credit)))

    def send(self, message, timeout=30):
        with self.client.changed:
            self.client.wait(lambda: self.credit > 0 or self.ended, timeout)
            if self.ended:
                raise self.error or CallFailed("Cancelled", "the stream is over")
            self.credit -= max(16, len(message))
        self.client.write(frames_of(DATA, self.number, message))

    def finish(self):
        self.client.write(frame(END, self.number, encode({})))

    def cancel(self):
        with self.client.changed:
            self.client.streams.pop(self.number, None)
            if self.ended:
                return
            self.ended = True
        self.client.write(frame(RESET, self.number, encode({"reason": "Cancelled", "message": "enough"})))

    def answer(self, timeout=30):
        """The result in END."""
        with self.client.changed:
            self.client.wait(lambda: self.ended, timeout)
            if self.error:
                raise self.error
            return self.result


class Client:
    """One session, the connecting side."""

    def __init__(self, connection, credit=65_536, agent="skerry-foreign/1", hello=None, versions=(1,)):
        self.connection = connection
        self.changed = threading.Condition(threading.RLock())
        self.writing = threading.Lock()
        self.streams, self.next_stream, self.credit = {}, 1, credit
        self.closed, self.failure, self.going_away, self.pongs = False, None, None, []
        self.peer_credit = 65_536
        self.write(frame(HELLO, payload=encode({
            "v": list(versions), "f": [], "agent": agent, "time": int(time.time() * 1000), "credit": credit,
            "limits": {"message": 4 << 20, "streams": 16}, "hello": hello,
        })))
        self.rest = b""
        try:
            self.welcome = self.handshake()
        except BaseException:
            connection.close()
            raise
        self.peer_credit = self.welcome.get("credit", 65_536)
        self.reader = threading.Thread(target=self.read_loop, daemon=True)
        self.reader.start()
        threading.Thread(target=self.ping_loop, daemon=True).start()

    @classmethod
    def connect(cls, host, port, ca, cert=None, key=None, server_name=None, timeout=10, alpn="skerry/1", **options):
        """Over TLS 1.3; `server_name` is None where the server's certificate is checked by its CA alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(ca)
        context.check_hostname = server_name is not None
        context.set_alpn_protocols([alpn])
        if cert:
            context.load_cert_chain(cert, key)
        plain = socket.create_connection((host, port), timeout)
        try:
            connection = context.wrap_socket(plain, server_hostname=server_name)
        except BaseException:
            plain.close()
            raise
        if connection.selected_alpn_protocol() != alpn:
            connection.close()
            raise Malformed(f"the server does not speak {alpn}")
        return cls(connection, **options)

    @classmethod
    def connect_unix(cls, path, timeout=10, **options):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(path)
        return cls(connection, **options)

    # connection

    def write(self, data):
        with self.writing:
            self.connection.sendall(data)

    def handshake(self):
        while True:
            frames, self.rest = cut(self.rest)
            for index, found in enumerate(frames):
                if found.type == WELCOME:
                    self.rest = b"".join(frame(f.type, f.stream, f.payload, f.flags) for f in frames[index + 1 :]) + self.rest
                    self.connection.settimeout(None)
                    return decode(found.payload)
                if found.type == GOAWAY:
                    raise CallFailed.of(decode(found.payload))
                if not found.flags & IGNORABLE:
                    raise Malformed(f"frame type {found.type} before WELCOME")
            data = self.connection.recv(65_536)
            if not data:
                raise ConnectionError("the server closed the connection before WELCOME")
            self.rest += data

    def read_loop(self):
        try:
            while True:
                frames, self.rest = cut(self.rest)
                with self.changed:
                    for found in frames:
                        self.handle(found)
                    self.changed.notify_all()
                data = self.connection.recv(65_536)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self.rest += data
        except (OSError, ValueError) as error:
            self.fail(error)
        finally:
            self.connection.close()

    def fail(self, error):
        with self.changed:
            if self.closed:
                return
            self.closed, self.failure = True, error
            for stream in self.streams.values():
                stream.ended, stream.error = True, CallFailed("Disconnected", str(self.going_away or error))
            self.changed.notify_all()
        # The reader closes the socket: closed under it, its number could be a new connection's while it still reads.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def handle(self, found):
        if found.type == PING:
            if not found.flags & REPLY:
                raise Malformed("a server does not ping")
            self.pongs.append(decode(found.payload))
        elif found.type == GOAWAY:
            self.going_away = decode(found.payload)
        elif found.type in (DATA, CREDIT, END, RESET):
            stream = self.streams.get(found.stream)
            if stream is None:
                return  # over already; frames that cross the end are skipped
            self.handle_stream(stream, found)
        elif not found.flags & IGNORABLE:
            raise Malformed(f"frame type {found.type} is unknown")

    def handle_stream(self, stream, found):
        if found.type == CREDIT:
            stream.credit += struct.unpack(">I", found.payload)[0]
        elif found.type == DATA:
            stream.partial += found.payload
            if not found.flags & MORE:
                stream.messages.append(stream.partial)
                stream.partial = b""
        elif found.type == END:
            stream.partial_end += found.payload
            if not found.flags & MORE:
                end = decode(stream.partial_end)
                stream.result = end.get("r")
                self.over(stream, CallFailed.of(end["e"]) if "e" in end else None)
        else:
            self.over(stream, CallFailed.of(decode(found.payload)))

    def over(self, stream, error):
        stream.ended, stream.error = True, error
        del self.streams[stream.number]

    def wait(self, condition, timeout):
        if not self.changed.wait_for(lambda: condition() or self.closed, timeout):
            raise TimeoutError(f"nothing came within {timeout} s")
        if self.closed and not condition():
            raise ConnectionError(str(self.failure))

    def ping(self):
        self.write(frame(PING, payload=encode(0)))

    def ping_loop(self):
        interval = self.welcome.get("ping", 15_000) / 1000
        while not self.closed:
            time.sleep(interval)
            try:
                self.ping()
            except OSError as error:
                return self.fail(error)

    def close(self):
        with contextlib.suppress(OSError):
            self.write(frame(GOAWAY, payload=encode({"delay": 0, "reason": "shutdown", "message": ""})))
        self.fail(ConnectionError("closed here"))
        self.reader.join(10)

    # calls (section 10)

    def open(self, method, params, last=True, priority=CONTROL, grant=True):
        with self.changed:
            if self.closed:
                raise ConnectionError(str(self.failure))
            stream = Stream(self, self.next_stream, grant)
            self.streams[stream.number] = stream
            self.next_stream += 2
            message = encode({"m": method, "p": params, "c": priority})
            self.write(frames_of(OPEN, stream.number, message, LAST if last else 0))
        return stream

    def call(self, method, **params):
        return self.open(method, {key: value for key, value in params.items() if value not in (None, "", 0)}).answer()

    def get(self, resource, name, namespace=""):
        return joined(self.call("get", resource=resource, namespace=namespace, name=name))

    def create(self, resource, object, namespace=""):
        return joined(self.call("create", resource=resource, namespace=namespace, object=object))

    def update(self, resource, name, object, namespace="", sub=""):
        return joined(self.call("update", resource=resource, namespace=namespace, name=name, object=object, sub=sub))

    def patch(self, resource, name, patch, namespace="", sub="", type="application/merge-patch+json"):
        return joined(self.call(
            "patch", resource=resource, namespace=namespace, name=name, patch=patch, sub=sub, type=type))

    def delete(self, resource, name, namespace="", grace=None):
        params = {"resource": resource, "name": name}
        if namespace:
            params["namespace"] = namespace
        if grace is not None:
            params["grace"] = grace
        return joined(self.open("delete", params).answer())

    def list_page(self, resource, namespace="", labels="", fields="", limit=0, **more):
        """One page: its items, and END's result."""
        params = {"resource": resource, "namespace": namespace, "labels": labels, "fields": fields, "limit": limit}
        params.update({"continue": more.get("continuation", ""), "revision": more.get("revision", 0)})
        stream = self.open("list", {key: value for key, value in params.items() if value}, priority=STATUS)
        items = []
        while (message := stream.receive()) is not None:
            items.append(joined(decode(message)))
        return items, stream.answer()

    def list(self, resource, **selection):
        """All pages: the revision they are at, and the objects."""
        items, result = self.list_page(resource, **selection)
        while result.get("continue"):
            page, result = self.list_page(resource, continuation=result["continue"], **selection)
            items += page
        return result["revision"], items

    def watch(self, resource, namespace="", labels="", fields="", after=None, grant=True):
        params = {"resource": resource, "namespace": namespace, "labels": labels, "fields": fields}
        params = {key: value for key, value in params.items() if value}
        if after is not None:
            params["after"] = after
        return Watch(self.open("watch", params, priority=STATUS, grant=grant), after or 0)

    def connect_call(self, resource, name, sub, namespace="", options=None, stream=False, priority=CONTROL):
        params = {"resource": resource, "sub": sub}
        for key, value in (("namespace", namespace), ("name", name), ("options", options), ("stream", stream)):
            if value:
                params[key] = value
        return self.open("connect", params, last=not stream, priority=priority)

    def log(self, pod, namespace="default", **options):
        """The log's bytes as they come."""
        stream = self.connect_call("pods", pod, "log", namespace, options, stream=True, priority=BULK)
        stream.finish()
        while (message := stream.receive(timeout=60)) is not None:
            yield message


def joined(item):
    """The whole object of an item, as a client shows it; None for a bookmark."""
    _, _, revision, body, status = item
    if body is None:
        return None
    body = dict(body)
    body["metadata"] = dict(body.get("metadata", {}), resourceVersion=str(revision))
    if status is not None:
        body["status"] = status
    return body


class Watch:
    """Events of a watch, with the position from which a later one resumes."""

    def __init__(self, stream, position):
        self.stream, self.position = stream, position

    def next(self, timeout=30):
        """(kind, object); None when the watch is over without an error."""
        message = self.stream.receive(timeout)
        if message is None:
            return None
        item = decode(message)
        self.position = max(self.position, item[1])
        return EVENTS[item[0]], joined(item)

    def __iter__(self):
        while (event := self.next()) is not None:
            yield event

    def cancel(self):
        self.stream.cancel()
