import Base

/// Whole messages of one stream as the frames that carry them, at most one write of a connection: what many streams with
/// the same number are sent alike is framed once.
package struct MessageRun: Sendable {
  package let stream: UInt32
  /// DATA frames, one a message.
  package let frames: Bytes
  /// What the messages count against credit.
  package let cost: Int

  /// What became of a run that was offered to a stream.
  package enum Outcome: Sendable {
    /// It is on its way.
    case sent
    /// The stream's credit is too small for all of it now, and grows: `writable` is told.
    case waits
    /// Something waits to leave before it, or it never fits: send its messages one by one.
    case refused
  }

  /// Bytes of a message of `count` bytes in a run.
  package static func bytes(_ count: Int) -> Int { WireLimits.headerBytes + count }

  /// nil if a message does not fit one frame.
  package init?(_ messages: [OutgoingMessage], stream: UInt32) {
    guard messages.allSatisfy({ $0.count <= WireLimits.framePayloadBytes }) else { return nil }
    var out: Bytes = []
    out.reserveCapacity(messages.reduce(0) { $0 + Self.bytes($1.count) })
    for message in messages {
      Frame.appendHeader(.data, flags: [], stream: stream, payloadCount: message.count, to: &out)
      message.append(0..<message.count, to: &out)
    }
    frames = out
    cost = messages.reduce(0) { $0 + WireLimits.cost($1.count) }
    self.stream = stream
  }
}

extension SendScheduler {
  /// Credit that a stream needs to have begun with so that a run may wait for more: its receiver grants what it consumed
  /// once that is half of it, so this much less half is always there again.
  static let waitingCredit = 2 * WireLimits.frameBytes

  /// Takes note of a run that leaves at once, ahead of nothing; unless it is answered `sent`, nothing leaves.
  /// `initial` is the credit that the stream began with.
  mutating func passes(_ run: MessageRun, initial: Int) -> MessageRun.Outcome {
    guard hasNothing else { return .refused }
    let taken = lanes.update(run.stream) { lane -> (MessageRun.Outcome, Priority)? in
      guard let free = lane, free.isKnownToPeer, free.isEmpty else { return nil }
      guard free.credit >= run.cost else {
        guard initial >= Self.waitingCredit, run.cost <= WireLimits.frameBytes else { return nil }
        lane?.wantsToSend = true
        return (.waits, free.priority)
      }
      lane?.credit -= run.cost
      return (.sent, free.priority)
    }
    guard let (outcome, priority) = taken ?? nil else { return .refused }
    if outcome == .sent { sent[priority] += UInt64(run.frames.count) }
    return outcome
  }
}

extension SessionMachine {
  /// Lets a run pass that leaves at once; write its frames if this answers `sent`.
  package mutating func passes(_ run: MessageRun) -> MessageRun.Outcome {
    guard phase == .ready, run.frames.count <= peerLimits.message else { return .refused }
    return scheduler.passes(run, initial: peerLimits.credit)
  }

  /// Notes what `passes` touches beside the machine itself.
  package func note(_ touched: inout WorkingSet) { scheduler.lanes.note(&touched) }
}
