import Base

extension SessionMachine {
  /// Opens a stream; its number is unique in the session. With `last` this side sends no messages.
  package mutating func open(_ message: OpenMessage, last: Bool = false) throws(SkerryError) -> UInt32 {
    guard phase == .ready else { throw SkerryError(.closed, "the session is not open") }
    if let peerGoAway { throw SkerryError(.unavailable, "the peer takes no new calls", cause: peerGoAway.error) }
    guard streams.count - incomingCount < peerLimits.streams else {
      throw SkerryError(.limitExceeded, "\(peerLimits.streams) streams are open, as many as the peer takes")
    }
    guard nextOutgoing < UInt32.max - 1 else {
      throw SkerryError(.unavailable, "the session has no stream numbers left; connect again")
    }
    let payload = message.encoded
    guard payload.count <= peerLimits.message else {
      throw SkerryError(
        .limitExceeded, "a call of \(payload.count) bytes; the peer takes \(peerLimits.message) at most")
    }
    let id = nextOutgoing
    nextOutgoing += 2
    streams[id] = Stream(
      isIncoming: false, credit: limits.initialCredit, priority: message.priority, localEnded: last)
    scheduler.add(id, priority: message.priority, credit: peerLimits.credit, isKnownToPeer: false)
    scheduler.enqueue(id, .open, flags: last ? .last : [], OutgoingMessage(payload))
    return id
  }

  /// True while a message given now would find credit and room; a no is followed by `.writable`.
  package mutating func canSend(_ id: UInt32) -> Bool {
    guard streams[id]?.localEnded == false else { return false }
    return scheduler.canSend(id)
  }

  /// Queues a message; on a stream that is over nothing happens. Throws if the peer does not take one that long.
  package mutating func send(_ id: UInt32, _ message: OutgoingMessage) throws(SkerryError) {
    guard streams[id]?.localEnded == false else { return }
    guard message.count <= peerLimits.message else {
      throw SkerryError(
        .limitExceeded, "a message of \(message.count) bytes; the peer takes \(peerLimits.message) at most")
    }
    scheduler.enqueue(id, .data, message)
  }

  /// Ends our direction behind what is queued. On a stream that the peer opened this is the answer and its end.
  package mutating func finish(_ id: UInt32, _ outcome: Result<Bytes, CallError>) {
    if case .success(let result) = outcome, result != EndMessage.nothing {
      finish(id, head: [], result, [])
    } else {
      enqueueEnd(id, OutgoingMessage(EndMessage(outcome).encoded))
    }
  }

  /// The same with a result in three pieces, which are copied only into the frame. Together they are not `nothing`.
  package mutating func finish(_ id: UInt32, head: Bytes, _ body: Bytes, _ tail: Bytes) {
    enqueueEnd(id, OutgoingMessage(EndMessage.resultHead + head, body, tail))
  }

  private mutating func enqueueEnd(_ id: UInt32, _ message: OutgoingMessage) {
    guard streams[id]?.localEnded == false else { return }
    streams[id]?.localEnded = true
    guard message.count > peerLimits.message else { return scheduler.enqueue(id, .end, message) }
    let error = CallError(
      reason: CallError.limitExceeded, message: "the answer has \(message.count) bytes, above the caller's limit")
    scheduler.enqueue(id, .end, OutgoingMessage(EndMessage(.failure(error)).encoded))
  }

  /// Breaks a stream off, both directions, with whatever waits; nothing is heard of it any more.
  package mutating func reset(_ id: UInt32, _ error: CallError) {
    guard streams[id] != nil else { return }
    let known = scheduler.remove(id)
    forget(id)
    guard known, phase == .ready else { return }
    scheduler.control(Frame(.reset, stream: id, payload: CBOR.encode(error.value)))
  }

  /// Messages worth `cost` (see `WireLimits.cost`) were consumed: the peer may send as much again. It is told once
  /// half of the initial credit has gathered.
  package mutating func consumed(_ id: UInt32, cost: Int) {
    guard let stream = streams[id], !stream.remoteEnded, cost > 0 else { return }
    let gathered = stream.ungranted + cost
    guard gathered * 2 >= limits.initialCredit else {
      streams[id]?.ungranted = gathered
      return
    }
    streams[id]?.ungranted = 0
    let granted = min(gathered, WireLimits.maxCredit - max(stream.credit, 0))
    guard granted > 0 else { return }
    streams[id]?.credit += granted
    var payload: Bytes = []
    payload.append(bigEndian: UInt32(granted))
    scheduler.control(Frame(.credit, stream: id, payload: payload))
  }
}
