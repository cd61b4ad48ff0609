import Base

/// Skerry beside its floor and beside other products, from one run.
enum Ratios {
  struct Row: Sendable {
    var what: String
    var own: Double
    var other: Double
    var peer: String
    var unit: String
    /// own over other, or other over own where more is better: above 1 is never better.
    var ratio: Double
    var promise: String
  }

  /// What is compared: a figure of ours, one of theirs, and what is promised of the ratio.
  private struct Pair {
    var what: String
    var own: (String, String)
    var peer: String
    var other: (String, String)
    var more: Bool
    var promise: String = ""
  }

  private static let pairs: [Pair] = [
    Pair(
      what: "CPU of a full handshake", own: ("sessions", "CPU of a full handshake"), peer: "floor",
      other: ("floor", "CPU of a full handshake"), more: false, promise: "at most 1.15"),
    Pair(
      what: "CPU of a handshake of who returns", own: ("sessions", "CPU of a handshake of who returns"), peer: "floor",
      other: ("floor", "CPU of a full handshake"), more: false, promise: "at most 1.15"),
    Pair(
      what: "memory of an idle session", own: ("sessions", "memory of an idle session with its streams and a watch"),
      peer: "floor", other: ("floor", "memory of an idle session"), more: false, promise: "floor + 1.5 KiB"),
    Pair(
      what: "CPU of a delivery, paced", own: ("fanout", "CPU of a delivery, paced"), peer: "floor",
      other: ("floor", "CPU of a paced delivery"), more: false, promise: "at most 1.2"),
    Pair(
      what: "latency of paced events, p99", own: ("fanout", "latency, paced p99"), peer: "floor",
      other: ("floor", "latency, paced p99"), more: false, promise: "at most 1.4"),
    Pair(
      what: "memory of an idle session", own: ("sessions", "memory of an idle session with its streams and a watch"),
      peer: "Mosquitto", other: ("mosquitto", "memory of an idle session"), more: false),
    Pair(
      what: "memory of an idle session", own: ("sessions", "memory of an idle session with its streams and a watch"),
      peer: "NATS", other: ("nats", "memory of an idle session"), more: false),
    Pair(
      what: "CPU of a full handshake", own: ("sessions", "CPU of a full handshake"), peer: "NATS",
      other: ("nats", "CPU of a full handshake"), more: false),
    Pair(
      what: "CPU of a full handshake", own: ("sessions", "CPU of a full handshake"), peer: "Mosquitto",
      other: ("mosquitto", "CPU of a full handshake"), more: false),
    Pair(
      what: "deliveries, saturated", own: ("fanout", "deliveries, saturated"), peer: "NATS",
      other: ("nats", "deliveries, saturated"), more: true, promise: "at least 4 times"),
    Pair(
      what: "CPU of a delivery, saturated", own: ("fanout", "CPU of a delivery, saturated"), peer: "NATS",
      other: ("nats", "CPU of a delivery, saturated"), more: false),
    Pair(
      what: "CPU of a delivery, saturated", own: ("fanout", "CPU of a delivery, saturated"), peer: "Mosquitto",
      other: ("mosquitto", "CPU of a delivery, saturated"), more: false),
    Pair(
      what: "latency of paced events, p99", own: ("fanout", "latency, paced p99"), peer: "NATS",
      other: ("nats", "latency, paced p99"), more: false),
    Pair(
      what: "latency of paced events, p99", own: ("fanout", "latency, paced p99"), peer: "Mosquitto",
      other: ("mosquitto", "latency, paced p99"), more: false),
    Pair(
      what: "durable writes, 1 client", own: ("write", "durable writes, 1 clients"), peer: "etcd",
      other: ("etcd", "durable writes, 1 clients"), more: true, promise: "at least 2 times"),
    Pair(
      what: "durable writes, 64 clients", own: ("write", "durable writes, 64 clients"), peer: "etcd",
      other: ("etcd", "durable writes, 64 clients"), more: true, promise: "at least 4 times"),
    Pair(
      what: "durable writes, 64 clients", own: ("write", "durable writes, 64 clients"), peer: "etcdctl check perf",
      other: ("etcd", "check perf, writes"), more: true, promise: "at least 2 times"),
    Pair(
      what: "p99 of a write, 1 client", own: ("write", "latency, 1 clients p99"), peer: "etcd",
      other: ("etcd", "latency, 1 clients p99"), more: false, promise: "below 1"),
    Pair(
      what: "p99 of a write, 64 clients", own: ("write", "latency, 64 clients p99"), peer: "etcd",
      other: ("etcd", "latency, 64 clients p99"), more: false, promise: "below 1"),
    Pair(
      what: "deliveries a CPU second, 1,000 watchers", own: ("watch", "deliveries a CPU second"), peer: "etcd",
      other: ("etcd", "deliveries a CPU second"), more: true, promise: "at least 8 times"),
    Pair(
      what: "acknowledged readings a CPU second", own: ("upstream", "CPU of a reading"), peer: "JetStream",
      other: ("nats", "CPU of an acknowledged small message"), more: false, promise: "at most 0.2"),
  ]

  static func rows(_ scenarios: [ScenarioResult]) -> [Row] {
    func figure(_ place: (String, String)) -> Figure? {
      scenarios.first { $0.name == place.0 }?.figures.first { $0.name == place.1 }
    }
    return pairs.compactMap { pair in
      guard let own = figure(pair.own), let other = figure(pair.other), other.median != 0 else { return nil }
      return Row(
        what: pair.what, own: own.median, other: other.median, peer: pair.peer, unit: own.unit,
        ratio: own.median / other.median, promise: pair.promise)
    }
  }

  static func print(_ rows: [Row]) -> String {
    "Skerry beside them, in one run\n"
      + TextTable.columns(
        [["", "Skerry", "other", "ratio", "", "", ""]]
          + rows.map {
            [
              $0.what, Numbers.short($0.own), Numbers.short($0.other), Numbers.fixed($0.ratio, 2), $0.unit, $0.peer,
              $0.promise,
            ]
          })
  }
}
