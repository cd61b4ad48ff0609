import Base
import Wire

/// Events in a row that many watches see alike: made once, and framed once for all streams of the same number.
@LoopActor package final class EventRun {
  /// Events together that fit one write of a connection.
  package static let maxBytes = WireLimits.frameBytes

  package let events: [WatchEvent]
  private let messages: [OutgoingMessage]
  private var framed: MessageRun?

  package init(_ events: [WatchEvent]) {
    self.events = events
    messages = events.map { event in
      let (head, body, tail) = ItemMessage.pieces(event)
      return OutgoingMessage(head, body, tail)
    }
  }

  /// What an event takes of `maxBytes`.
  package static func bytes(_ event: WatchEvent) -> Int {
    let (head, body, tail) = ItemMessage.pieces(event)
    return MessageRun.bytes(head.count + body.count + tail.count)
  }

  /// The frames on a stream; nil if an event does not fit a frame.
  package func framed(for stream: UInt32) -> MessageRun? {
    if let framed, framed.stream == stream { return framed }
    framed = MessageRun(messages, stream: stream)
    return framed
  }
}
