import Base
import Sync
import Wire

/// How a node speaks with its cloud: how often it pings, how long it gathers, and what it may send.
package struct LinkProfile: Sendable, Hashable {
  package enum Name: String, Sendable, CaseIterable {
    /// A ping each 15 s: a dead peer is known within 45 s on both sides.
    case `default`
    /// A ping each 60 s, and less haste: for links that are paid for by the byte.
    case metered
  }

  package var name: Name
  /// What this side may send, a second.
  package var rates = LinkBudget.Rates()

  package init(_ name: Name = .default) { self.name = name }

  package var ping: Duration { name == .metered ? .seconds(60) : .seconds(15) }

  /// How long entries of a lane wait for others that can travel with them. A status is superseded meanwhile by a newer one.
  package func gather(_ lane: Lane) -> Duration {
    switch (lane, name) {
    case (.status, .default): .milliseconds(100)
    case (.status, .metered): .seconds(1)
    case (.events, .default), (.readings, .default): .seconds(1)
    case (.events, .metered): .seconds(10)
    case (.readings, .metered): .seconds(30)
    case (.replies, _): .zero
    }
  }

  /// What HELLO says of it beside the rest. The default is not said: a node without a profile has it.
  func hello(_ value: Value) -> Value {
    guard name != .default else { return value }
    var value = value
    value["ping"] = .int(ping.milliseconds)
    return value
  }
}
