import Base
import Wire

/// What the hub knows of nodes' links, in memory only: bytes by class, what waits on the node, where its slice stood.
///
/// High-rate facts are no log entries; a hub that starts anew counts anew.
@LoopActor package final class NodeLinks {
  /// Nodes that are remembered; beyond it new ones are not.
  static let maxNodes = 100_000

  package struct Link: Sendable {
    /// From and to the node since midnight, UTC.
    package var up = TrafficCount()
    package var down = TrafficCount()
    /// The day that they count, in days since 1970.
    var day: Int64 = 0
    /// Entries of the node's outbox that were not applied at its last ping.
    package var waiting: UInt64 = 0
    /// Since when some have waited at every ping.
    package var waitingSince: Instant?
    /// Where the slice stood when the last session ended.
    package var leftAt: UInt64?
  }

  private var links: [String: Link] = [:]
  private var counters: [(priority: Priority, up: Counter, down: Counter)] = []

  package init(_ metrics: Metrics) {
    let name = "skerry_hub_link_bytes_total"
    let help = "Bytes of frames on the links with all nodes."
    for priority in Priority.allCases {
      counters.append(
        (
          priority, metrics.counter(name, help, [("class", "\(priority)"), ("direction", "up")]),
          metrics.counter(name, help, [("class", "\(priority)"), ("direction", "down")])
        ))
    }
  }

  /// Changes what is known of a node.
  private func update(_ node: String, _ body: (inout Link) -> Void) {
    guard links[node] != nil || links.count < Self.maxNodes else { return }
    body(&links[node, default: Link()])
  }

  func count(_ node: String, sent: TrafficCount, received: TrafficCount, wall: WallTime) {
    for (priority, up, down) in counters {
      up.add(received[priority])
      down.add(sent[priority])
    }
    update(node) { link in
      Self.turn(&link, wall)
      link.up += received
      link.down += sent
    }
  }

  private static func turn(_ link: inout Link, _ wall: WallTime) {
    let day = wall.seconds / 86_400
    guard link.day != day else { return }
    link.day = day
    link.up = TrafficCount()
    link.down = TrafficCount()
  }

  func waits(_ node: String, _ waiting: UInt64, at now: Instant) {
    update(node) { link in
      link.waiting = waiting
      link.waitingSince = waiting == 0 ? nil : link.waitingSince ?? now
    }
  }

  func left(_ node: String, at cursor: UInt64) { update(node) { $0.leftAt = cursor } }

  package func link(_ node: String, wall: WallTime) -> Link {
    var link = links[node] ?? Link()
    Self.turn(&link, wall)
    return link
  }
}
