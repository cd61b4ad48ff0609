import Base
import CloudControllers
import Wire

/// What is set for groups of nodes, by the value of their label `skerry.io/group`: lines of the configuration's `groups`,
///
/// ```
/// groups:
///   - remote grace=3m eviction=never budget=8KiB budget-bulk=1KiB
/// ```
struct NodeGroups: Sendable {
  private(set) var lifecycle: [String: NodeLifecycleDecision.Settings.Group] = [:]
  /// What cloudcore may send to each node of a group, bytes a second.
  private(set) var rates: [String: LinkBudget.Rates] = [:]

  init(_ lines: [String]) throws(SkerryError) {
    for line in lines {
      let words = line.split(separator: " ").map(String.init)
      guard let name = words.first, !name.contains("="), lifecycle[name] == nil else {
        throw Self.failure(line, "begins with the name of a group that has no line yet")
      }
      var group = NodeLifecycleDecision.Settings.Group()
      var rates = LinkBudget.Rates()
      for word in words.dropFirst() {
        let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2, try Self.set(parts[0], parts[1], &group, &rates, line) else {
          throw Self.failure(
            line, "says \(word); known are grace=, eviction=, budget=, budget-status=, budget-telemetry=, budget-bulk=")
        }
      }
      lifecycle[name] = group
      if !rates.isUnlimited { self.rates[name] = rates }
    }
  }

  private static func failure(_ line: String, _ why: String) -> SkerryError {
    SkerryError(.invalidArgument, "groups: \"\(line)\" \(why)")
  }

  /// False for a word that is not known.
  private static func set(
    _ key: String, _ value: String, _ group: inout NodeLifecycleDecision.Settings.Group,
    _ rates: inout LinkBudget.Rates,
    _ line: String
  ) throws(SkerryError) -> Bool {
    func duration() throws(SkerryError) -> Duration {
      guard let found = Settings.duration(value) else {
        throw failure(line, "says \(value), which is no duration like 90s")
      }
      return found
    }
    func rate() throws(SkerryError) -> Int {
      guard let found = Settings.bytes(value), found > 0 else {
        throw failure(line, "says \(value), which is no size like 8KiB")
      }
      return Int(min(found, 1 << 40))
    }
    switch key {
    case "grace": group.grace = try duration()
    case "eviction":
      group.eviction = value == "never" ? .never : value == "default" ? .standard : .after(try duration())
    case "budget": rates.total = try rate()
    case "budget-status": rates.classes[.status] = try rate()
    case "budget-telemetry": rates.classes[.telemetry] = try rate()
    case "budget-bulk": rates.classes[.bulk] = try rate()
    default: return false
    }
    return true
  }
}
