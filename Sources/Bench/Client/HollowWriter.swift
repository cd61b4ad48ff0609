import API
import Base
import EventLoop
import Transport
import Wire

/// What writers are to do; travels to the worker as a value.
struct WritePlan: Sendable {
  var clients = 1
  /// Objects of each client, written in turn.
  var keys = 100
  var payloadBytes = 1_024
  var namespace = "bench"
  /// The number of the first client, over all workers: it is in its objects' names and payloads.
  var first = 0
  /// Writes that one client has on their way.
  var window = 1

  var value: Value {
    [
      "clients": .int(Int64(clients)), "keys": .int(Int64(keys)), "payload": .int(Int64(payloadBytes)),
      "namespace": .string(namespace), "first": .int(Int64(first)), "window": .int(Int64(window)),
    ]
  }
  init() {}
  init(_ value: Value) {
    func number(_ key: String) -> Int { Int(clamping: value[key].int ?? 0) }
    clients = max(1, number("clients"))
    keys = max(1, number("keys"))
    payloadBytes = number("payload")
    namespace = value["namespace"].string ?? "bench"
    first = number("first")
    window = max(1, number("window"))
  }
}

/// How long and how fast.
struct WriteLoad: Sendable {
  /// Ends after this many writes in all, if not 0.
  var operations = 0
  var duration: Duration = .seconds(10)
  /// Writes a second of all clients together; 0: each client as fast as it is answered.
  var rate = 0.0

  var value: Value {
    [
      "operations": .int(Int64(operations)), "duration": .int(duration.nanosecondCount), "rate": .double(rate),
    ]
  }
  init() {}
  init(_ value: Value) {
    operations = Int(clamping: value["operations"].int ?? 0)
    duration = .nanoseconds(value["duration"].int ?? 0)
    rate = value["rate"].double ?? 0
  }
}

/// Writers of ConfigMaps, each on a session of its own: closed loops, or one open loop at a rate, whose latencies count
/// from when a write was due (coordinated omission).
@LoopActor final class HollowWriters {
  let plan: WritePlan
  private let scheduler: any Scheduler
  private let dialer: HollowDialer
  private(set) var clients: [WriterClient] = []
  private(set) var latency = Latency()
  private(set) var operations = 0
  private(set) var failures = 0
  private(set) var failure = ""
  private(set) var disorder = 0
  /// The newest revision that was answered.
  private(set) var revision: UInt64 = 0
  private var load = WriteLoad()
  private var issued = 0
  private var outstanding = 0
  private var ends: UInt64 = 0
  private var started: UInt64 = 0
  private var next = 0
  private var done: CheckedContinuation<Void, Never>?
  private var ticker: TimerID?

  init(_ plan: WritePlan, _ target: BenchTarget, scheduler: any Scheduler) throws(SkerryError) {
    self.plan = plan
    self.scheduler = scheduler
    dialer = try HollowDialer(target, wire: WireCount(), scheduler: scheduler)
  }

  var now: UInt64 { scheduler.now.nanoseconds }

  /// Connects all clients and makes their objects.
  func prepare() async throws(SkerryError) {
    for index in 0..<plan.clients {
      let client = WriterClient(self, number: plan.first + index)
      client.adopt(try await dialer.dial(slot: 900_000 + plan.first + index))
      clients.append(client)
    }
    for client in clients { try await client.settle() }
    for client in clients { try await client.create(plan.keys) }
  }

  /// Runs the load and answers how long it took.
  func run(_ load: WriteLoad) async -> Duration {
    self.load = load
    (latency, operations, failures, failure, disorder) = (Latency(), 0, 0, "", 0)
    (issued, outstanding) = (0, 0)
    started = now
    ends = started + UInt64(max(0, load.duration.nanosecondCount))
    await withCheckedContinuation { continuation in
      done = continuation
      if load.rate > 0 {
        tick()
      } else {
        for client in clients { for _ in 0..<plan.window { issue(client, due: now) } }
      }
      finishIfDone()
    }
    return .nanoseconds(Int64(now - started))
  }

  private var isOver: Bool { now >= ends || (load.operations > 0 && issued >= load.operations) }

  private func issue(_ client: WriterClient, due: UInt64) {
    guard !isOver, !client.isOver else { return }
    issued += 1
    outstanding += 1
    client.write(due: due)
  }

  /// Issues what is due; a millisecond's grain, with the exact time that each was due at.
  private func tick() {
    let interval = 1e9 / load.rate
    while !isOver {
      let due = started + UInt64(Double(issued) * interval)
      guard due <= now else { break }
      issue(clients[next % clients.count], due: due)
      next += 1
    }
    guard !isOver else { return finishIfDone() }
    ticker = scheduler.schedule(after: .milliseconds(1)) { self.tick() }
  }

  /// A write was answered.
  func answered(_ client: WriterClient, due: UInt64, _ outcome: Result<UInt64, CallError>) {
    outstanding -= 1
    operations += 1
    switch outcome {
    case .success(let answered):
      latency.record(now > due ? now - due : 0)
      if answered <= client.lastRevision { disorder += 1 }
      client.lastRevision = max(client.lastRevision, answered)
      revision = max(revision, answered)
    case .failure(let error): failed(error.message)
    }
    if load.rate == 0 { issue(client, due: now) }
    finishIfDone()
  }

  func failed(_ message: String) {
    failures += 1
    if failure.isEmpty { failure = message }
  }

  func lost(_ outstanding: Int) {
    self.outstanding -= outstanding
    finishIfDone()
  }

  private func finishIfDone() {
    guard outstanding == 0, isOver || clients.allSatisfy(\.isOver), let waiting = done else { return }
    done = nil
    waiting.resume()
  }

  func close() { for client in clients { client.close() } }

  var report: Value {
    [
      "operations": .int(Int64(operations)), "failures": .int(Int64(failures)), "failure": .string(failure),
      "disorder": .int(Int64(disorder)), "latency": latency.value, "revision": .int(Int64(clamping: revision)),
    ]
  }
}

/// One writing client on a session of its own.
@LoopActor final class WriterClient: HollowLinkOwner {
  private unowned let writers: HollowWriters
  private let number: Int
  private let prefix: String
  private var link: HollowLink?
  private var update: WriteTemplate
  private var sequence: UInt64 = 0
  private var waiting: [UInt32: UInt64] = [:]
  private var creating = 0
  private var created: CheckedContinuation<Void, Never>?
  private var ready: CheckedContinuation<Void, Never>?
  private var failure: SkerryError?
  var lastRevision: UInt64 = 0
  private(set) var isOver = false

  init(_ writers: HollowWriters, number: Int) {
    self.writers = writers
    self.number = number
    prefix = "w\(number)-"
    update = WriteTemplate(
      method: CallMethod.update, resource: "configmaps", namespace: writers.plan.namespace, prefix: prefix,
      payloadBytes: writers.plan.payloadBytes)
  }

  func adopt(_ stream: any ByteStream) {
    let link = HollowLink(stream, owner: self, index: number)
    self.link = link
    link.start(hello: ["role": "client", "agent": "skerry-bench"], time: WallTime(seconds: 0))
  }

  func settle() async throws(SkerryError) {
    if let link, !link.isReady, !link.isOver { await withCheckedContinuation { ready = $0 } }
    if let failure { throw failure }
  }

  /// Makes the client's objects, many at a time.
  func create(_ keys: Int) async throws(SkerryError) {
    var template = WriteTemplate(
      method: CallMethod.create, resource: "configmaps", namespace: writers.plan.namespace, prefix: prefix,
      payloadBytes: writers.plan.payloadBytes)
    for start in stride(from: 0, to: keys, by: 100) {
      link?.together {
        for key in start..<min(start + 100, keys) {
          creating += 1
          let content = Payload(writer: UInt32(number), sequence: 0, time: writers.now)
          if let id = link?.open(CallMethod.create, template.fill(key: key, content), priority: .control) {
            waiting[id] = 0
          }
        }
      }
      await withCheckedContinuation { created = $0 }
      if let failure { throw failure }
    }
  }

  /// Writes the next object in turn.
  func write(due: UInt64) {
    sequence += 1
    let content = Payload(writer: UInt32(number), sequence: sequence, time: due)
    let params = update.fill(key: Int(sequence) % writers.plan.keys, content)
    if let id = link?.open(CallMethod.update, params, priority: .control) { waiting[id] = due }
  }

  func close() {
    isOver = true
    link?.close()
  }

  func linkIsReady(_ link: HollowLink) {
    ready?.resume()
    ready = nil
  }

  func link(_ link: HollowLink, stream: UInt32, message: UnsafeRawBufferPointer) {}

  func link(_ link: HollowLink, stream: UInt32, ended: UnsafeRawBufferPointer) {
    guard let due = waiting.removeValue(forKey: stream) else { return }
    let outcome = Self.outcome(ended)
    guard creating > 0 else { return writers.answered(self, due: due, outcome) }
    creating -= 1
    if case .failure(let error) = outcome {
      failure = SkerryError(.unavailable, "an object could not be made: \(error.message)")
    }
    if creating == 0 {
      created?.resume()
      created = nil
    }
  }

  /// The answer's revision.
  private static func outcome(_ bytes: UnsafeRawBufferPointer) -> Result<UInt64, CallError> {
    guard bytes.count > 0 else {
      return .failure(CallError(reason: CallError.cancelled, message: "the call was reset"))
    }
    // `{"r": item}` in deterministic CBOR: a map of one, a text of one letter.
    if bytes.count > 3, bytes[0] == 0xa1, bytes[1] == 0x61, bytes[2] == UInt8(ascii: "r"),
      let head = ItemHead(UnsafeRawBufferPointer(rebasing: bytes[3...]))
    {
      return .success(head.revision)
    }
    do throws(SkerryError) {
      switch try EndMessage(Bytes(bytes)).outcome {
      case .failure(let error): return .failure(error)
      case .success: return .failure(CallError(reason: "InternalError", message: "the answer is no object"))
      }
    } catch {
      return .failure(CallError(reason: "InternalError", message: "\(error)"))
    }
  }

  func linkIsOver(_ link: HollowLink, _ error: SkerryError?) {
    isOver = true
    failure = error ?? SkerryError(.closed, "the session ended")
    let lost = waiting.count
    waiting = [:]
    ready?.resume()
    ready = nil
    created?.resume()
    created = nil
    if creating == 0 {
      for _ in 0..<lost { writers.failed(failure?.description ?? "") }
      writers.lost(lost)
    }
    creating = 0
  }
}
