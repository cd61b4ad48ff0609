#!/usr/bin/env python3
"""Writes benchmarks/RESULTS.md from the JSON results of skerry-bench: bench_results.py RESULT.json... > RESULTS.md

Of a figure that stands in several results the first one counts. Every promise is told as it is, also one that is missed.
"""
import json
import re
import sys

# What is promised: the row, what is measured, where it stands (scenario, figure), and its limit: a number, or a function
# of the other figures. "<" means at most, ">" at least.
HANDSHAKE = ("floor", "CPU of a full handshake")
ETCD = "etcd"


def times(factor, place):
    return lambda get: (lambda value: None if value is None else factor * value)(get(place))


def plus(summand, place):
    return lambda get: (lambda value: None if value is None else value + summand)(get(place))


PROMISES = [
    ("session memory", "an idle session with streams and a watch, floor + 1.5 KiB",
     ("sessions", "memory of an idle session with its streams and a watch"), "<",
     plus(1.5, ("floor", "memory of an idle session"))),
    ("handshakes", "CPU of a full handshake, 1.15 times the floor", ("sessions", "CPU of a full handshake"), "<",
     times(1.15, HANDSHAKE)),
    ("handshakes", "CPU of a handshake of who returns, 1.15 times the floor",
     ("sessions", "CPU of a handshake of who returns"), "<", times(1.15, HANDSHAKE)),
    ("fan-out", "CPU of a delivery, saturated", ("fanout", "CPU of a delivery, saturated"), "<", 3),
    ("fan-out", "CPU of a paced delivery, 1.2 times the floor", ("fanout", "CPU of a delivery, paced"), "<",
     times(1.2, ("floor", "CPU of a paced delivery"))),
    ("fan-out", "deliveries a second, 4 times NATS", ("fanout", "deliveries, saturated"), ">",
     times(4, ("nats", "deliveries, saturated"))),
    ("paced fan-out", "p99 latency, 1.4 times the floor", ("fanout", "latency, paced p99"), "<",
     times(1.4, ("floor", "latency, paced p99"))),
    ("one ConfigMap", "on all 1,000 edge nodes", ("fanout", "one ConfigMap on all edge nodes within"), "<", 0.5),
    ("one ConfigMap", "CPU of a delivery", ("fanout", "CPU of a delivery to an edge node"), "<", 60),
    ("joining", "10,000 nodes connected and registered", ("sessions", "nodes connected and registered within"), "<", 60),
    ("durable writes", "1 client, 2 times etcd", ("write", "durable writes, 1 clients"), ">",
     times(2, (ETCD, "durable writes, 1 clients"))),
    ("durable writes", "64 clients, 4 times etcd", ("write", "durable writes, 64 clients"), ">",
     times(4, (ETCD, "durable writes, 64 clients"))),
    ("durable writes", "64 clients, 2 times etcdctl check perf", ("write", "durable writes, 64 clients"), ">",
     times(2, (ETCD, "check perf, writes"))),
    ("durable writes", "p99 with 1 client, below etcd's", ("write", "latency, 1 clients p99"), "<",
     times(1, (ETCD, "latency, 1 clients p99"))),
    ("durable writes", "p99 with 64 clients, below etcd's", ("write", "latency, 64 clients p99"), "<",
     times(1, (ETCD, "latency, 64 clients p99"))),
    ("watchers", "deliveries a CPU second to 1,000, 8 times etcd", ("watch", "deliveries a CPU second"), ">",
     times(8, (ETCD, "deliveries a CPU second"))),
    ("reconnect storm", "10,000 nodes back and in sync", ("storm", "all nodes back and in sync within"), "<", 30),
    ("reconnect storm", "nodes reported NotReady", ("storm", "nodes reported NotReady"), "<", 0),
    ("reconnect storm", "nodes that needed a snapshot", ("storm", "nodes that needed a snapshot"), "<", 0),
    ("pods", "created, placed and told Running", ("schedule", "pods a second, end to end"), ">", 1_000),
    ("upstream", "readings stored", ("upstream", "readings stored"), ">", 500_000),
    ("upstream", "status updates stored", ("upstream", "status updates stored"), ">", 10_000),
    ("upstream", "CPU of a reading, a fifth of JetStream's", ("upstream", "CPU of a reading"), "<",
     times(0.2, ("nats", "CPU of an acknowledged small message"))),
]


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def spread(figure):
    low, high = figure["min"], figure["max"]
    return number(figure["median"]) if len(figure["values"]) < 2 else (
        f"{number(figure['median'])} ({number(low)} to {number(high)})")


def command_option(command, name):
    return command[command.index(name) + 1] if name in command else None


def main(paths):
    results = [json.load(open(path, encoding="utf-8")) for path in paths]
    scenarios = {}
    for result in results:
        for scenario in result["scenarios"]:
            scenarios.setdefault(scenario["name"], scenario)
    figures = {(s["name"], f["name"]): f for s in scenarios.values() for f in s["figures"]}

    def median(place):
        return figures[place]["median"] if place in figures else None

    machine = results[0]["machine"]
    print("# Results\n")
    print("What a full run printed: medians, with minimum and maximum where there were several interleaved runs.")
    print("[METHOD.md](METHOD.md) says how it is measured. Written by `scripts/bench_results.py`.\n")
    print(f"* Machine: {machine['processor']}, {machine['cores']} cores, "
          f"{machine['memory'] / 2**30:.0f} GiB, {machine['system']}, Linux {machine['kernel'].split('-')[0]}; a virtual "
          "machine, clients and servers on the same cores, loopback")
    for result in results:
        what, runs = result["command"][1], command_option(result["command"], "--runs") or "1"
        print(f"* Commit {result['commit']}, {result['started']}: `make release && RUNS={runs} scripts/bench.sh {what}`")
    print("\n## What is promised\n")
    print("| row | what | measured | limit | |\n|---|---|---|---|---|")
    for row, what, place, sense, limit in PROMISES:
        bound = limit(median) if callable(limit) else limit
        figure = figures.get(place)
        if figure is None or bound is None:
            verdict = "not measured"
        elif figure["median"] <= bound if sense == "<" else figure["median"] >= bound:
            verdict = "reached"
        else:
            ratio = figure["median"] / bound if sense == "<" else bound / max(figure["median"], 1e-9)
            verdict = f"**missed** by {100 * (ratio - 1):.0f} %" if bound else "**missed**"
        unit = figure["unit"] if figure else ""
        print(f"| {row} | {what} | {spread(figure) if figure else '–'} {unit} | "
              f"{'at most' if sense == '<' else 'at least'} {number(bound)} {unit} | {verdict} |")
    extra = [(s, f) for s in scenarios.values() for f in s["figures"]
             if f.get("bound") is not None and not any(p[2] == (s["name"], f["name"]) for p in PROMISES)]
    for scenario, figure in extra:
        worse = figure["median"] < figure["bound"] if figure["better"] == "higher" else figure["median"] > figure["bound"]
        print(f"| {scenario['name']} | {figure['name']} | {spread(figure)} {figure['unit']} | "
              f"{'at least' if figure['better'] == 'higher' else 'at most'} {number(figure['bound'])} "
              f"{figure['unit']} | {'**missed**' if worse else 'reached'} |")
    print("\n## All figures\n")
    for scenario in scenarios.values():
        print(f"### {scenario['name']}\n\n| | median | min | max | |\n|---|---:|---:|---:|---|")
        for figure in scenario["figures"]:
            print(f"| {figure['name']} | {number(figure['median'])} | {number(figure['min'])} | "
                  f"{number(figure['max'])} | {figure['unit']} |")
        print(f"\n{scenario['checked']:,} events checked, violations {scenario.get('violations', 0)}.", end="")
        for note in scenario.get("notes", []) + scenario.get("failures", []):
            print(" " + re.sub(r"/\S*?/(\.build/)", r"\1", note) + ".", end="")
        print("\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
