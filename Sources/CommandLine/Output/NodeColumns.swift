import API
import Base
import ObjectModel

/// What `get nodes -o wide` shows beside the object's columns: the node's link as the hub knows it.
@LoopActor struct NodeColumns {
  static let headers = ["Last-Seen", "Behind", "Waiting", "Bytes-Today"]
  private let reports: Value

  /// Asks the cloud; a server that has no links (an edge) leaves the columns empty.
  init(_ environment: Environment) async {
    let reference = ObjectReference(resource: Node.resource, name: "")
    let answer = try? await environment.api().connect(
      reference, subresource: "links", options: [:], stream: nil, caller: environment.caller)
    reports = answer?["nodes"] ?? .null
  }

  func cells(_ node: String) -> [String] {
    let report = reports[node]
    func number(_ key: String) -> Int64? { report[key].int }
    let seen = number("lastSeenSeconds").map { report["connected"].bool == true ? "\($0)s" : "\($0)s (away)" }
    let waiting = number("waiting").map { count in
      number("waitingSeconds").map { "\(count) (\($0)s)" } ?? "\(count)"
    }
    return [
      seen ?? "<unknown>", number("behind").map(String.init) ?? "<unknown>", waiting ?? "<unknown>",
      number("bytesToday").map(Self.size) ?? "<unknown>",
    ]
  }

  /// `831B`, `12.4KiB`.
  static func size(_ bytes: Int64) -> String {
    guard bytes >= 1024 else { return "\(bytes)B" }
    var tenths = bytes * 10 / 1024
    var unit = "KiB"
    for next in ["MiB", "GiB", "TiB"] where tenths >= 10_240 {
      tenths /= 1024
      unit = next
    }
    return "\(tenths / 10).\(tenths % 10)\(unit)"
  }
}
