import Synchronization

/// A monotonic counter. Safe from any thread; one atomic add.
package final class Counter: Sendable {
  private let value = Atomic<UInt64>(0)
  package init() {}
  package func add(_ amount: UInt64 = 1) { value.wrappingAdd(amount, ordering: .relaxed) }
  package var current: UInt64 { value.load(ordering: .relaxed) }
}

/// A value that goes up and down. Safe from any thread.
package final class Gauge: Sendable {
  private let value = Atomic<Int64>(0)
  package init() {}
  package func set(_ new: Int64) { value.store(new, ordering: .relaxed) }
  package func add(_ amount: Int64) { value.wrappingAdd(amount, ordering: .relaxed) }
  package var current: Int64 { value.load(ordering: .relaxed) }
}

/// The metrics of one daemon, printed as Prometheus text (exposition format 0.0.4).
///
/// A name with its labels is registered once and held by whoever counts; nothing is looked up on a hot path.
package final class Metrics: Sendable {
  /// Series a daemon may register; beyond it registration answers an unregistered metric, so that a peer who can
  /// choose label values cannot fill memory.
  package static let maxSeries = 20_000

  private enum Kind: Sendable {
    case counter(Counter)
    case gauge(Gauge)
    case sample(@Sendable () -> Double)
  }
  private struct Family: Sendable {
    var help: String
    var type: String
    var series: [(labels: String, kind: Kind)] = []
  }
  private struct State: Sendable {
    var families: [String: Family] = [:]
    var count = 0
  }
  private let state = Mutex(State())

  package init() {}

  /// The counter of that name and labels, made at the first call. By convention the name ends in `_total`.
  package func counter(_ name: String, _ help: String, _ labels: [(String, String)] = []) -> Counter {
    if case .counter(let counter) = register(name, help, "counter", labels, { .counter(Counter()) }) { return counter }
    return Counter()
  }

  package func gauge(_ name: String, _ help: String, _ labels: [(String, String)] = []) -> Gauge {
    if case .gauge(let gauge) = register(name, help, "gauge", labels, { .gauge(Gauge()) }) { return gauge }
    return Gauge()
  }

  /// A gauge that is read when the metrics are printed.
  package func sample(
    _ name: String, _ help: String, _ labels: [(String, String)] = [], _ read: @escaping @Sendable () -> Double
  ) {
    _ = register(name, help, "gauge", labels) { .sample(read) }
  }

  private func register(
    _ name: String, _ help: String, _ type: String, _ labels: [(String, String)], _ make: () -> Kind
  ) -> Kind {
    let text = labels.map { "\($0)=\"\(Self.escape($1))\"" }.joined(separator: ",")
    return state.withLock { state in
      var family = state.families[name] ?? Family(help: help, type: type)
      if let found = family.series.first(where: { $0.labels == text }) { return found.kind }
      let kind = make()
      guard state.count < Self.maxSeries else { return kind }
      state.count += 1
      family.series.append((text, kind))
      state.families[name] = family
      return kind
    }
  }

  private static func escape(_ label: String) -> String {
    var out = ""
    for character in label {
      switch character {
      case "\\": out += "\\\\"
      case "\"": out += "\\\""
      case "\n": out += "\\n"
      default: out.append(character)
      }
    }
    return out
  }

  /// All families, sorted by name, in Prometheus text format.
  package func text() -> String {
    let families = state.withLock { $0.families }
    var out = ""
    for (name, family) in families.sorted(by: { $0.key < $1.key }) {
      out += "# HELP \(name) \(family.help)\n# TYPE \(name) \(family.type)\n"
      for (labels, kind) in family.series {
        let value =
          switch kind {
          case .counter(let counter): "\(counter.current)"
          case .gauge(let gauge): "\(gauge.current)"
          case .sample(let read): "\(read())"
          }
        out += labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
      }
    }
    return out
  }
}
