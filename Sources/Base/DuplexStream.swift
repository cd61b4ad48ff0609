/// A bidirectional stream of messages with backpressure, whatever carries it.
@LoopActor package protocol DuplexStream: AnyObject {
  /// The next message from the other side; nil at its end. Throws when the stream broke.
  func receive() async throws(SkerryError) -> Bytes?
  /// Sends one message; suspends while the other side withholds credit.
  func send(_ message: Bytes) async throws(SkerryError)
  /// No more messages from this side.
  func finish()
  /// Ends both directions at once.
  func reset(_ reason: String)
}

/// Carries messages both ways between two streams until both directions have ended, or one breaks: then the other
/// is reset with the reason.
@LoopActor package func join(_ a: any DuplexStream, _ b: any DuplexStream) async {
  let there = spawn { await carry(from: a, to: b) }
  await carry(from: b, to: a)
  await there.value
}

@LoopActor private func carry(from source: any DuplexStream, to sink: any DuplexStream) async {
  do {
    while let message = try await source.receive() { try await sink.send(message) }
    sink.finish()
  } catch {
    source.reset(error.message)
    sink.reset(error.message)
  }
}
