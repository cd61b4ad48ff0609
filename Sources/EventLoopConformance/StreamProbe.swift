import Base
import EventLoop

/// A delegate that keeps what it hears and lets a test wait for it.
@LoopActor package final class StreamProbe: ByteStreamDelegate {
  package let stream: any ByteStream
  package private(set) var received: Bytes = []
  package private(set) var drains = 0
  package private(set) var ended = false
  package private(set) var closed = false
  package private(set) var error: SkerryError?
  /// Calls that came after `streamDidClose`, which there must be none of.
  package private(set) var lateCalls = 0
  /// Called with each arrival, before anybody who waits.
  package var onBytes: ((UnsafeRawBufferPointer) -> Void)?

  private let scheduler: any Scheduler
  private var waiters: [(condition: () -> Bool, continuation: CheckedContinuation<Bool, Never>, id: Int)] = []
  private var nextWaiter = 0

  /// Becomes the stream's delegate and starts the reads.
  package init(_ stream: any ByteStream, on scheduler: any Scheduler, reading: Bool = true) {
    self.stream = stream
    self.scheduler = scheduler
    stream.delegate = self
    if reading { stream.resumeReading() }
  }

  package var text: String { String(decoding: received, as: UTF8.self) }

  /// Waits until `condition` holds; throws `timeout` with `what` if it does not come about.
  package func wait(
    _ what: String, within deadline: Duration = .seconds(20), until condition: @escaping (StreamProbe) -> Bool
  ) async throws(SkerryError) {
    if condition(self) { return }
    let id = nextWaiter
    nextWaiter += 1
    let timer = scheduler.schedule(after: deadline) { [self] in
      guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
      waiters.remove(at: index).continuation.resume(returning: false)
    }
    let held = await withCheckedContinuation { continuation in
      waiters.append(({ condition(self) }, continuation, id))
    }
    scheduler.cancel(timer)
    if !held {
      throw SkerryError(
        .timeout,
        "\(what) did not come about: \(received.count) bytes, ended \(ended), closed \(closed), error \(error.map(\.description) ?? "none")"
      )
    }
  }

  private func heard() {
    if closed { lateCalls += 1 }
    changed()
  }

  private func changed() {
    let ready = waiters.filter { $0.condition() }
    waiters.removeAll { waiter in ready.contains { $0.id == waiter.id } }
    for waiter in ready { waiter.continuation.resume(returning: true) }
  }

  package func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    received.append(contentsOf: bytes)
    onBytes?(bytes)
    heard()
  }
  package func streamDidDrain(_ stream: any ByteStream) {
    drains += 1
    heard()
  }
  package func streamReceivedEnd(_ stream: any ByteStream) {
    ended = true
    heard()
  }
  package func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    if closed { lateCalls += 1 }
    closed = true
    self.error = error
    changed()
  }
}
