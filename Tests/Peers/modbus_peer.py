#!/usr/bin/env python3
"""A Modbus server from other hands (pymodbus) for the device tests: over TCP, or with --serial over a serial line.

It prints {"port": N}, or {"path": "/dev/pts/N"} with --serial, once it listens, answers until its standard input ends, and appends one JSON line for each
request that it served to --log: {"n": 1, "t": 1700000000.1, "op": "read", "table": "holding", "address": 0,
"values": [1]}, with `t` in seconds since 1970.

Holding registers   0       counts up by one at each read that touches it (wraps at 65536)
                    2, 3    float32 21.3, most significant word first
                    4, 5    int32 -2, least significant word first
                    6..9    uint64 0xffffffffffffffff
                    10      setpoint, writable, 200
                    11      int16 -5
                    12      bits 0xabcd, writable
                    13, 14  text "Spin", writable
                    15, 16  float32 writable, 0
                    20, 22  7 and 9; 21 is not there (illegal address)
                    30      answers only after --stall seconds
                    40      writable, but halves what is written to it
                    100 …   as many as --counters says, each of which counts up at each read that touches it
Input registers     0..9    100..109
Coils               0..15   every third is on, writable
Discrete inputs     0..15   every second is on
"""
import argparse
import asyncio
import json
import os
import pty
import sys
import time
import tty

from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

TABLES = {1: "coil", 5: "coil", 15: "coil", 2: "discrete", 3: "holding", 6: "holding", 16: "holding", 4: "input"}


def registers(address, values):
    return SimData(address, values=values, datatype=DataType.REGISTERS)


COUNTERS = 100


def device(action, counters):
    holding = [
        registers(0, [0]),
        registers(2, [0x41AA, 0x6666, 0xFFFE, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 200, 0xFFFB, 0xABCD]),
        registers(13, [0x5370, 0x696E, 0, 0]),
        registers(20, [7]),
        registers(22, [9]),
        registers(30, [1]),
        registers(40, [0]),
    ]
    if counters:
        holding.append(registers(COUNTERS, [0] * counters))
    coils = [SimData(0, values=[i % 3 == 0 for i in range(16)], datatype=DataType.BITS)]
    discrete = [SimData(0, values=[i % 2 == 0 for i in range(16)], datatype=DataType.BITS)]
    inputs = [registers(0, list(range(100, 110)))]
    return SimDevice(1, simdata=(coils, discrete, holding, inputs), action=action)


class Line:
    """A serial line: two pseudo-terminals whose masters are joined, as a null modem joins two ports."""

    def __init__(self):
        self.ends = [pty.openpty(), pty.openpty()]
        self.paths = [os.ttyname(slave) for _, slave in self.ends]
        loop = asyncio.get_running_loop()
        for (master, slave), (other, _) in (self.ends, self.ends[::-1]):
            # Whoever opens the port sets it up as it needs; until then nothing is echoed or edited.
            tty.setraw(slave)
            loop.add_reader(master, self.carry, master, other)

    @staticmethod
    def carry(source, target):
        os.write(target, os.read(source, 4096))


async def serve(arguments):
    log = open(arguments.log, "a", buffering=1) if arguments.log else None
    served = 0

    async def action(function, start, address, count, current, written):
        nonlocal served
        table = TABLES.get(function)
        at = address - start
        if table == "holding" and written is None and address <= 0 < address + count:
            current[at] = (current[at] + 1) % 65536
        if table == "holding" and written is None:
            for register in range(max(address, COUNTERS), min(address + count, COUNTERS + arguments.counters)):
                current[register - start] = (current[register - start] + 1) % 65536
        if table == "holding" and address == 30:
            await asyncio.sleep(arguments.stall)
        if table == "holding" and address == 40 and written is not None:
            written[0] //= 2
        served += 1
        if log:
            values = list(current[at : at + count]) if written is None else list(written)
            line = {"n": served, "t": round(time.time(), 3), "op": "read" if written is None else "write"}
            line |= {"table": table, "address": address, "values": [int(v) for v in values]}
            log.write(json.dumps(line) + "\n")
        return None

    if arguments.serial:
        line = Line()
        server = ModbusSerialServer(
            device(action, arguments.counters), port=line.paths[1], baudrate=arguments.baud, stopbits=arguments.stop)
        await server.serve_forever(background=True)
        where = {"path": line.paths[0]}
    else:
        server = ModbusTcpServer(device(action, arguments.counters), address=(arguments.host, arguments.port))
        await server.serve_forever(background=True)
        where = {"port": server.transport.sockets[0].getsockname()[1]}
    print(json.dumps(where), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--serial", action="store_true", help="serve RTU on a pseudo-terminal instead of TCP")
    parser.add_argument("--baud", type=int, default=9600)
    parser.add_argument("--stop", type=int, default=1)
    parser.add_argument("--log", help="append one JSON line a request to this file")
    parser.add_argument("--counters", type=int, default=0)
    parser.add_argument("--stall", type=float, default=2.0)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
