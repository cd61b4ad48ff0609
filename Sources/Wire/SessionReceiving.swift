import Base

extension SessionMachine {
  /// Bytes arrived. What the peer did wrong ends the session: the last action is `.close` then.
  package mutating func receive(_ input: UnsafeRawBufferPointer, at now: Instant) -> [SessionAction] {
    guard phase == .waiting || phase == .ready else { return [] }
    lastHeard = now
    var frames: [Frame] = []
    do throws(SkerryError) {
      unsafe try decoder.decode(input, into: &frames)
      for frame in frames where phase != .closed { try handle(frame, at: now) }
    } catch {
      fail(error)
    }
    return taken()
  }

  /// The same for bytes in an array.
  package mutating func receive(_ input: Bytes, at now: Instant) -> [SessionAction] {
    unsafe input.withUnsafeBytes { raw in unsafe receive(raw, at: now) }
  }

  private mutating func fail(_ error: SkerryError) {
    let reason =
      switch error.code {
      case .unsupportedVersion: GoAway.unsupportedVersion
      case .limitExceeded: GoAway.limitExceeded
      default: GoAway.protocolViolation
      }
    end(GoAway(reason: reason, message: error.description), error)
  }

  private mutating func handle(_ frame: Frame, at now: Instant) throws(SkerryError) {
    guard frame.type.isKnown else {
      if frame.flags.contains(.ignorable) { return }
      throw violation("frame type \(frame.type.rawValue) is unknown and not marked ignorable")
    }
    received[frame.stream == 0 ? .control : streams[frame.stream]?.priority ?? .control] +=
      UInt64(WireLimits.headerBytes + frame.payload.count)
    guard frame.type.belongsToConnection == (frame.stream == 0) else {
      throw violation("frame type \(frame.type.rawValue) on stream \(frame.stream)")
    }
    if frame.type == .goAway { return try handleGoAway(GoAway(frame.payload)) }
    guard phase == .ready else { return try handleHandshake(frame, at: now) }
    switch frame.type {
    case .ping: try handlePing(frame)
    case .open: try handleOpen(frame)
    case .data: try handleData(frame)
    case .credit: try handleCredit(frame)
    case .end: try handleEnd(frame)
    case .reset: try handleReset(frame)
    default: throw violation("a second handshake")
    }
  }

  // MARK: connection

  private mutating func handleHandshake(_ frame: Frame, at now: Instant) throws(SkerryError) {
    switch (role, frame.type) {
    case (.server, .hello):
      let hello = try Hello(frame.payload)
      guard hello.versions.contains(where: Hello.supportedVersions.contains) else {
        throw SkerryError(
          .unsupportedVersion,
          "HELLO offers versions \(hello.versions); this side speaks \(Hello.supportedVersions)")
      }
      actions.append(.hello(hello))
    case (.client, .welcome):
      let welcome = try Welcome(frame.payload)
      peerLimits = welcome.limits
      features = Set(welcome.features).intersection(configuration.features)
      sessionID = welcome.session
      peerTime = welcome.time
      reconnectSpread = welcome.spread
      interval = welcome.ping
      nextPing = now + interval
      phase = .ready
      actions.append(.ready(peerHello: welcome.hello))
    default: throw violation("frame type \(frame.type.rawValue) before the handshake")
    }
  }

  private mutating func handleGoAway(_ goAway: GoAway) throws(SkerryError) {
    guard peerGoAway == nil else { return }
    peerGoAway = goAway
    if phase == .ready { actions.append(.goAway(goAway)) } else { end(nil, goAway.error) }
  }

  private mutating func handlePing(_ frame: Frame) throws(SkerryError) {
    var reader = CBORReader(frame.payload)
    let position: UInt64
    do {
      position = try reader.uint()
      try reader.finish()
    } catch {
      throw SkerryError(.protocolViolation, "PING cannot be read", cause: error)
    }
    let isAnswer = frame.flags.contains(.reply)
    guard isAnswer == (role == .client) else { throw violation("only the connecting side pings") }
    if isAnswer {
      asked = nil
      toldMissed = false
    } else {
      try checkControlQueue()
    }
    actions.append(.ping(position: position, isAnswer: isAnswer))
  }

  /// Whoever makes us answer also has to read.
  func checkControlQueue() throws(SkerryError) {
    guard scheduler.controlBytes <= limits.controlQueueBytes else {
      throw SkerryError(.limitExceeded, "the peer asks and does not read: \(scheduler.controlBytes) bytes wait for it")
    }
  }

  // MARK: streams

  private func isIncoming(_ id: UInt32) -> Bool { id.isMultiple(of: 2) == (role == .client) }

  /// True if the stream was there and is over: frames that crossed its end are skipped.
  private func isOver(_ id: UInt32) throws(SkerryError) -> Bool {
    if streams[id] != nil { return false }
    guard isIncoming(id) ? id <= highestIncoming : id < nextOutgoing else {
      throw violation("a frame on stream \(id), which was never opened")
    }
    return true
  }

  private mutating func handleOpen(_ frame: Frame) throws(SkerryError) {
    let id = frame.stream
    guard isIncoming(id) else { throw violation("OPEN of stream \(id), which is not the peer's to open") }
    if id > highestIncoming {
      highestIncoming = id
      guard incomingCount < limits.streams, !sentGoAway else { return try refuse(id) }
      incomingCount += 1
      streams[id] = Stream(isIncoming: true, credit: limits.initialCredit, priority: .control, isOpening: true)
    } else if try isOver(id) {
      return
    }
    guard streams[id]?.isOpening == true else { throw violation("a second OPEN of stream \(id)") }
    if streams[id]?.partial == nil, frame.flags.contains(.last) { streams[id]?.remoteEnded = true }
    guard let payload = try assemble(frame) else { return }
    let open = try OpenMessage(payload)
    streams[id]?.isOpening = false
    streams[id]?.priority = open.priority
    scheduler.add(id, priority: open.priority, credit: peerLimits.credit, isKnownToPeer: true)
    actions.append(.opened(stream: id, open))
    if streams[id]?.remoteEnded == true { actions.append(.ended(stream: id, .success(EndMessage.nothing))) }
  }

  private mutating func refuse(_ id: UInt32) throws(SkerryError) {
    try checkControlQueue()
    let error =
      sentGoAway
      ? CallError(reason: CallError.disconnected, message: "this side is going away; open the stream elsewhere")
      : CallError(reason: CallError.limitExceeded, message: "more than \(limits.streams) streams are open")
    scheduler.control(Frame(.reset, stream: id, payload: CBOR.encode(error.value)))
  }

  /// The whole message that this frame ends, or nil while more is to come.
  private mutating func assemble(_ frame: Frame) throws(SkerryError) -> Bytes? {
    let id = frame.stream
    let more = frame.flags.contains(.more)
    guard let partial = streams[id]?.partial else {
      guard more else { return frame.payload }
      assembling += frame.payload.count
      streams[id]?.partial = (frame.type, frame.payload)
      return nil
    }
    guard partial.type == frame.type else { throw violation("a message on stream \(id) was broken off by another") }
    guard partial.bytes.count + frame.payload.count <= limits.messageBytes else {
      throw SkerryError(
        .limitExceeded, "a message on stream \(id) is longer than the limit of \(limits.messageBytes) bytes")
    }
    assembling += frame.payload.count
    guard assembling <= limits.assemblyBytes else {
      throw SkerryError(.limitExceeded, "unfinished messages hold more than \(limits.assemblyBytes) bytes")
    }
    streams[id]?.partial?.bytes.append(contentsOf: frame.payload)
    guard !more else { return nil }
    let bytes = streams[id]?.partial?.bytes ?? []
    streams[id]?.partial = nil
    assembling -= bytes.count
    return bytes
  }

  private mutating func handleData(_ frame: Frame) throws(SkerryError) {
    let id = frame.stream
    if try isOver(id) { return }
    guard let stream = streams[id], !stream.isOpening, !stream.remoteEnded else {
      throw violation("DATA on stream \(id) outside its open time")
    }
    guard stream.partial != nil || stream.credit > 0 else {
      throw violation("a message on stream \(id) without credit")
    }
    guard let message = try assemble(frame) else { return }
    streams[id]?.credit -= WireLimits.cost(message.count)
    actions.append(.message(stream: id, message))
  }

  private mutating func handleCredit(_ frame: Frame) throws(SkerryError) {
    guard frame.payload.count == 4 else { throw violation("CREDIT of \(frame.payload.count) bytes; expected 4") }
    if try isOver(frame.stream) { return }
    let bytes = Int(frame.payload.bigEndian(at: 0, as: UInt32.self))
    var writable = false
    guard bytes > 0, scheduler.credit(frame.stream, bytes, writable: &writable) else {
      throw violation("CREDIT of \(bytes) on stream \(frame.stream)")
    }
    if writable { actions.append(.writable(stream: frame.stream)) }
  }

  private mutating func handleEnd(_ frame: Frame) throws(SkerryError) {
    let id = frame.stream
    if try isOver(id) { return }
    guard let stream = streams[id], !stream.isOpening, !stream.remoteEnded else {
      throw violation("END on stream \(id) outside its open time")
    }
    guard let payload = try assemble(frame) else { return }
    let end = try EndMessage(payload)
    streams[id]?.remoteEnded = true
    actions.append(.ended(stream: id, end.outcome))
    // The accepting side's END is the answer: nothing that the opener still says matters.
    if !stream.isIncoming { forget(id) }
  }

  private mutating func handleReset(_ frame: Frame) throws(SkerryError) {
    let id = frame.stream
    if try isOver(id) { return }
    let error: CallError
    do { error = CallError(try CBOR.decode(frame.payload)) } catch {
      throw SkerryError(.protocolViolation, "RESET cannot be read", cause: error)
    }
    let wasTold = streams[id]?.isOpening == false
    forget(id)
    if wasTold { actions.append(.broken(stream: id, error)) }
  }

  /// Drops a stream from both directions.
  mutating func forget(_ id: UInt32) {
    guard let stream = streams.removeValue(forKey: id) else { return }
    assembling -= stream.partial?.bytes.count ?? 0
    if stream.isIncoming { incomingCount -= 1 }
    scheduler.remove(id)
  }
}
