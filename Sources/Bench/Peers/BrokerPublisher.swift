import Base
import EventLoop
import Transport
import Wire

/// Whoever writes to another product's server; what it is asked for comes from the coordinator.
@LoopActor protocol Publisher: AnyObject {
  func prepare() async throws(SkerryError)
  /// Publishes and answers counts, latencies and time.
  func run(_ params: Value) async throws(SkerryError) -> Value
  func close()
}

/// One publishing connection to a broker.
@LoopActor class BrokerPublisher: Publisher, ByteStreamDelegate {
  /// Messages between two marks: what may be on its way unanswered.
  static let markEvery = 64

  private let dialer: HollowDialer
  let scheduler: any Scheduler
  private let subject: String
  private var stream: (any ByteStream)?
  private var pending: Bytes = []
  private var waiter: CheckedContinuation<Void, Never>?
  private var marks = 0
  private var acknowledgements = 0
  private var refusals = 0
  private var due: [UInt64] = []
  private var latency = Latency()
  private var failure: SkerryError?
  private var sequence: UInt64 = 0

  required init(_ target: BenchTarget, subject: String, scheduler: any Scheduler) throws(SkerryError) {
    dialer = try HollowDialer(target, wire: WireCount(), scheduler: scheduler)
    self.scheduler = scheduler
    self.subject = subject
  }

  func hello() -> Bytes { [] }
  func publish(_ payload: Bytes, subject: String) {}
  /// Asks for a sign that what was sent before was taken.
  func mark() {}
  func publishAcknowledged(_ payload: Bytes, subject: String) {}
  func prepareStream(subject: String) async throws(SkerryError) {}
  func parse(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.count }

  func prepare() async throws(SkerryError) {
    let stream = try await dialer.dial(slot: 800_000)
    self.stream = stream
    stream.delegate = self
    stream.resumeReading()
    send(hello())
    await wait { self.marks > 0 }
    if let failure { throw failure }
    marks = 0
  }

  func send(_ bytes: Bytes) { stream?.write(bytes) }

  func marked() {
    marks += 1
    wake()
  }

  func acknowledged(_ isGood: Bool) {
    if isGood { acknowledgements += 1 } else { refusals += 1 }
    if !due.isEmpty { latency.record(scheduler.now.nanoseconds - min(scheduler.now.nanoseconds, due.removeFirst())) }
    wake()
  }

  private var condition: (@LoopActor () -> Bool)?

  private func wake() {
    guard let waiting = waiter, condition?() ?? true else { return }
    waiter = nil
    condition = nil
    waiting.resume()
  }

  private func wait(_ condition: @escaping @LoopActor () -> Bool) async {
    guard !condition(), failure == nil else { return }
    self.condition = { condition() || self.failure != nil }
    await withCheckedContinuation { waiter = $0 }
  }

  func run(_ params: Value) async throws(SkerryError) -> Value {
    let (events, bytes) = (Int(params["events"].int ?? 0), Int(params["bytes"].int ?? 1_024))
    let rate = params["rate"].double ?? 0
    let start = scheduler.now
    (latency, acknowledgements, refusals, due) = (Latency(), 0, 0, [])
    if params["acknowledged"].bool == true {
      try await prepareStream(subject: subject)
      await acknowledgedLoop(events, bytes, window: Int(params["window"].int ?? 256))
    } else if rate > 0 {
      try await paced(events, bytes, rate, start)
    } else {
      await saturated(events, bytes)
    }
    if let failure { throw failure }
    return [
      "operations": .int(Int64(events)), "nanoseconds": .int((scheduler.now - start).nanosecondCount),
      "acknowledged": .int(Int64(acknowledgements)), "refused": .int(Int64(refusals)), "latency": latency.value,
      "began": .int(Int64(clamping: start.nanoseconds)),
    ]
  }

  private func payload(_ bytes: Int, at time: UInt64) -> Bytes {
    sequence += 1
    return Payload(writer: 0, sequence: sequence, time: time).bytes(bytes)
  }

  private func saturated(_ events: Int, _ bytes: Int) async {
    sequence = 0
    marks = 0
    var asked = 0
    for index in 0..<events where failure == nil {
      publish(payload(bytes, at: scheduler.now.nanoseconds), subject: subject)
      guard (index + 1) % Self.markEvery == 0 else { continue }
      asked += 1
      mark()
      let wanted = asked
      await wait { self.marks >= wanted }
    }
  }

  private func paced(_ events: Int, _ bytes: Int, _ rate: Double, _ start: Instant) async throws(SkerryError) {
    sequence = 0
    for index in 0..<events where failure == nil {
      let time = start.nanoseconds + UInt64(Double(index) / rate * 1e9)
      let now = scheduler.now.nanoseconds
      if time > now {
        do { try await scheduler.sleep(for: .nanoseconds(Int64(time - now))) } catch {
          throw SkerryError(.cancelled, "the publisher was interrupted")
        }
      }
      publish(payload(bytes, at: time), subject: subject)
    }
  }

  private func acknowledgedLoop(_ events: Int, _ bytes: Int, window: Int) async {
    var sent = 0
    while sent < events, failure == nil {
      while sent < events, sent - acknowledgements - refusals < window {
        due.append(scheduler.now.nanoseconds)
        publishAcknowledged(payload(bytes, at: scheduler.now.nanoseconds), subject: subject)
        sent += 1
      }
      let least = sent - window / 2
      await wait { self.acknowledgements + self.refusals >= least }
    }
    await wait { self.acknowledgements + self.refusals >= events }
  }

  func broke(_ reason: String) {
    failure = failure ?? SkerryError(.closed, reason)
    wake()
  }

  func close() {
    stream?.delegate = nil
    stream?.close()
    stream = nil
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    pending.append(contentsOf: bytes)
    let whole = pending
    pending = []
    whole.withUnsafeBytes { raw in
      let used = parse(raw)
      if used < raw.count { pending = Bytes(raw[used...]) }
    }
  }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { broke("the server closed the connection") }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {
    broke(error?.description ?? "the connection ended")
  }
}

@LoopActor enum PublisherCalls {
  static let handlers: [String: Worker.Handler] = [
    "publisher.make": { worker, params in
      let target = try BenchTarget(params["target"])
      let publisher: any Publisher
      switch target.speech {
      case .nats:
        publisher = try NATSPublisher(target, subject: params["subject"].string ?? "", scheduler: worker.scheduler)
      case .mqtt:
        publisher = try MQTTPublisher(target, subject: params["subject"].string ?? "", scheduler: worker.scheduler)
      default: publisher = try EtcdWriters(target, params, scheduler: worker.scheduler)
      }
      worker.publishers[params["id"].int ?? 0] = publisher
      try await publisher.prepare()
      return [:]
    },
    "publisher.run": { worker, params in
      guard let publisher = worker.publishers[params["id"].int ?? 0] else {
        throw SkerryError(.notFound, "a publisher that was never made")
      }
      return try await publisher.run(params)
    },
    "publisher.close": { worker, params in
      worker.publishers.removeValue(forKey: params["id"].int ?? 0)?.close()
      return [:]
    },
  ]
}
