"""A decoder of packed readings, written from proto-spec/readings.md alone."""

import struct

MASK = (1 << 64) - 1


def signed64(value):
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


class Bits:
    def __init__(self, data):
        self.data, self.at = data, 0

    def bits(self, count):
        value = 0
        for _ in range(count):
            if self.at >= len(self.data) * 8:
                raise ValueError("the end comes too soon")
            value = value << 1 | self.data[self.at >> 3] >> (7 - (self.at & 7)) & 1
            self.at += 1
        return value

    def number(self, k):
        width = 0
        while width < 64 and self.bits(1):
            width += 1
        if width + k > 64:
            raise ValueError("a number of more than 64 bits")
        high = (1 << (width - 1) | self.bits(width - 1)) if width else 0
        return high << k | self.bits(k)

    def signed(self, k):
        value = self.number(k)
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def text(self):
        return bytes(self.bits(8) for _ in range(self.number(4))).decode()

    def finish(self):
        left = len(self.data) * 8 - self.at
        if left >= 8 or self.bits(left):
            raise ValueError("bytes behind the end")


class Sort:
    """Columns of one sort: a later one may have the shape of the one before."""

    def __init__(self):
        self.shape = None

    def column(self, bits, count):
        if count == 0:
            return []
        if self.shape is None or not bits.bits(1):
            order, k, step = bits.bits(1), bits.bits(6), bits.signed(6)
            self.shape = order, k, step, bits.bits(6) if order else 0
        order, k, step, first = self.shape
        if order == 0:
            return [signed64(step + bits.signed(k)) for _ in range(count)]
        values = [bits.signed(first)]
        for _ in range(count - 1):
            values.append(signed64(values[-1] + step + bits.signed(k)))
        return values


def runs(bits, count, order, read):
    """Lists `count` elements that come in runs."""
    found = []
    while len(found) < count:
        element, length = read(bits, order)
        if len(found) + length > count:
            raise ValueError("a run that is too long")
        found += [element] * length
    return found


def row_order(bits, count, series):
    if series == 1:
        return [0] * count
    rows, after, fresh = [], {}, 0

    def expected():
        if rows and rows[-1] in after:
            return after[rows[-1]]
        return fresh if fresh < series else 0

    def add(local):
        nonlocal fresh
        if rows:
            after[rows[-1]] = local
        rows.append(local)
        fresh = max(fresh, local + 1)

    while len(rows) < count:
        for _ in range(bits.number(4)):
            add(expected())
        if len(rows) < count:
            add(bits.number(2))
    return rows


def real(integer, form):
    if form < 10:
        return integer / 10.0**form
    width = 32 if form == 10 else 64
    pattern = integer & ((1 << width) - 1)
    if integer < 0:
        pattern ^= (1 << (width - 1)) - 1
    return struct.unpack(">f" if form == 10 else ">d", pattern.to_bytes(width // 8, "big"))[0]


class Values:
    def __init__(self):
        self.kind, self.form, self.integers, self.reals = None, None, Sort(), Sort()

    def series(self, bits, count):
        if bits.bits(1):
            kinds = [self.kind] * count
        else:
            pieces = 0

            def read(bits, _):
                nonlocal pieces
                pieces += 1
                return bits.bits(3), bits.number(4) + 1

            kinds = runs(bits, count, None, read)
            self.kind = kinds[0] if pieces == 1 else None
        found = {0: [None] * kinds.count(0), 1: self.bools(bits, kinds.count(1))}
        found[2] = self.integers.column(bits, kinds.count(2))
        found[3] = self.doubles(bits, kinds.count(3))
        found[4] = self.texts(bits, kinds.count(4))
        return [found[kind].pop(0) for kind in kinds]

    @staticmethod
    def bools(bits, count):
        lengths = []
        while sum(lengths) < count:
            lengths.append(bits.number(2) + 1)
        value = bool(bits.bits(1)) if count else False
        found = []
        for length in lengths:
            found += [value] * length
            value = not value
        return found

    def doubles(self, bits, count):
        if count == 0:
            return []
        if self.form is None or not bits.bits(1):
            self.form = bits.bits(4)
        return [real(integer, self.form) for integer in self.reals.column(bits, count)]

    @staticmethod
    def texts(bits, count):
        words, found = [], []
        for _ in range(count):
            back = bits.number(1)
            if back == 0:
                words.append(bits.text())
            found.append(words[-back] if back else words[-1])
        return found


def decode(data):
    """Rows of a block: [series, time, value, fault]."""
    bits = Bits(data)
    if bits.bits(8) != 1:
        raise ValueError("another version")
    count = bits.number(8)
    if count > 4096:
        raise ValueError("too many rows")
    if count == 0:
        bits.finish()
        return []
    ids, last = [], 0
    for _ in range(bits.number(3) + 1):
        last = (last + 1 + bits.signed(0)) & MASK
        ids.append(last)
    order = row_order(bits, count, len(ids))
    sizes = [order.count(local) for local in range(len(ids))]
    sort = Sort()
    if bits.bits(1):
        base = bits.signed(41)
        columns = [[signed64(base + time) for time in sort.column(bits, size)] for size in sizes]
        times = [columns[local].pop(0) for local in order]
    else:
        times = sort.column(bits, count)
    faults = [""] * count
    if bits.bits(1):
        words = []

        def read(bits, _):
            length = bits.number(3) + 1
            index = bits.number(1)
            if index == len(words):
                words.append(bits.text())
            return words[index], length

        faults = runs(bits, count, None, read)
    values = Values()
    columns = [values.series(bits, size) for size in sizes]
    bits.finish()
    return [[ids[local], time, columns[local].pop(0), fault] for local, time, fault in zip(order, times, faults)]
