import Base
import Transport
import Wire

/// The link's bytes by class and direction as metrics.
@LoopActor final class LinkTraffic {
  private var session: Session?
  /// What was counted of the session so far.
  private var counted = (sent: TrafficCount(), received: TrafficCount())
  private var counters: [(priority: Priority, sent: Counter, received: Counter)] = []

  init(_ metrics: Metrics) {
    let name = "skerry_link_bytes_total"
    let help = "Bytes of frames on the link with the cloud."
    for priority in Priority.allCases {
      let word = "\(priority)"
      counters.append(
        (
          priority, metrics.counter(name, help, [("class", word), ("direction", "up")]),
          metrics.counter(name, help, [("class", word), ("direction", "down")])
        ))
    }
  }

  /// Another session, or nil: it ended.
  func follow(_ session: Session?) {
    count()
    self.session?.onTraffic = nil
    self.session = session
    counted = (TrafficCount(), TrafficCount())
    session?.onTraffic = { [weak self] in self?.count() }
  }

  private func count() {
    guard let session else { return }
    for (priority, sent, received) in counters {
      sent.add(session.sent[priority] - counted.sent[priority])
      received.add(session.received[priority] - counted.received[priority])
    }
    counted = (session.sent, session.received)
  }
}
