import Base
import BenchFloor
import EventLoop
import Glibc
import Identity
import Transport

extension Scenario {
  static let floor = Scenario(
    name: "floor", summary: "what this machine can do at all: bare OpenSSL, a bare loop, bare SQLite",
    discussion: """
      A process with nothing but libuv and OpenSSL sessions, set up as Transport does it, is joined by the same clients
      as the other scenarios: memory of an idle session, CPU of a full handshake, CPU of a delivery for one event a
      record and for several, latency of paced events. SQLite commits rows in groups with full sync. Every other figure
      is to be read beside these.
      """,
    options: [
      Option("sessions", .int(1...200_000), "10000", "idle TLS sessions, and receivers of events"),
      Option("bytes", .bytes(64...16_000), "1KiB", "of an event"),
      Option("events", .int(1...100_000), "24", "to each session, for each number of events a record"),
      Option("rate", .rate(0.1...1_000), "2", "paced events a second"),
      Option("pace", .duration(.seconds(1)...(.seconds(3_600))), "10s", "how long events are paced"),
      Option("rows", .int(1...10_000_000), "20000", "rows that SQLite commits, 100 a commit"),
    ], needs: { Needs(connections: $0.int("sessions"), noServer: true) },
    run: { context, options, recorder in try await FloorRun(context, options, recorder).run() })
}

/// The floor's server process and its clients.
@LoopActor final class FloorRun: ByteStreamDelegate {
  private let context: BenchContext
  private let options: Options
  private let recorder: Recorder
  private var child: Child?
  private var text: Bytes = []
  private var lines: [String] = []
  private var waiter: CheckedContinuation<Void, Never>?

  init(_ context: BenchContext, _ options: Options, _ recorder: Recorder) {
    self.context = context
    self.options = options
    self.recorder = recorder
  }

  func run() async throws {
    let directory = try context.newDirectory("floor")
    let pki = try ClusterPKI.create(
      directory: directory, hosts: [], now: context.scheduler.wall, random: context.random)
    let client = try pki.issueClient(name: "bench", role: "view", now: context.scheduler.wall, random: context.random)
    let port = try await start(directory)
    defer { stop() }
    let target = BenchTarget(
      address: HostPort(host: "127.0.0.1", port: port), caPEM: pki.authority.certificate.pem,
      client: TLSCredentials(certificatePEM: client.certificatePEM, keyPEM: client.keyPEM), speech: .frames)
    try await sessions(target)
    try store(directory)
    try? Files.removeTree(directory)
  }

  // MARK: the server process

  private func start(_ directory: String) async throws(SkerryError) -> Int {
    guard let own = Files.linkTarget("/proc/self/exe") else { throw SkerryError(.system, "/proc is not mounted") }
    let child = try Subprocess.spawn(
      [own, "floor-server", "--pki", directory], stdin: .pipe, stdout: .pipe, stderr: .inherit, detached: true
    ) { [weak self] _ in self?.wake() }
    self.child = child
    context.own(child)
    child.stdout?.delegate = self
    child.stdout?.resumeReading()
    let line = try await answer(.seconds(30))
    guard let port = line.split(separator: " ").last.flatMap({ Int($0) }) else {
      throw SkerryError(.unavailable, "the floor's server said \"\(line)\"")
    }
    return port
  }

  private func stop() {
    guard let child else { return }
    child.stdin?.write(Bytes("quit\n".utf8))
    child.kill(SIGKILL)
    context.disown(child)
  }

  private func order(_ text: String, _ patience: Duration) async throws(SkerryError) -> Int {
    child?.stdin?.write(Bytes((text + "\n").utf8))
    let line = try await answer(patience)
    guard let number = line.split(separator: " ").last.flatMap({ Int($0) }) else {
      throw SkerryError(.unavailable, "the floor's server answered \"\(line)\" to \"\(text)\"")
    }
    return number
  }

  private func answer(_ patience: Duration) async throws(SkerryError) -> String {
    let deadline = context.scheduler.now + patience
    let timer = context.scheduler.schedule(after: patience) { self.wake() }
    defer { context.scheduler.cancel(timer) }
    while lines.isEmpty {
      guard context.scheduler.now < deadline, child?.exitStatus == nil else {
        throw SkerryError(.timeout, "the floor's server does not answer")
      }
      await withCheckedContinuation { waiter = $0 }
    }
    return lines.removeFirst()
  }

  private func wake() {
    waiter?.resume()
    waiter = nil
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    text.append(contentsOf: bytes)
    while let end = text.firstIndex(of: UInt8(ascii: "\n")) {
      lines.append(String(decoding: text[..<end], as: UTF8.self))
      text.removeSubrange(...end)
    }
    wake()
  }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { wake() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) { wake() }

  // MARK: what is measured

  private func sessions(_ target: BenchTarget) async throws {
    guard let child else { return }
    let probe = ProcessProbe(pid: child.pid)
    var plan = FleetPlan()
    plan.kind = .client
    plan.count = options.int("sessions")
    plan.concurrency = options.int("concurrency")
    plan.payloadBytes = options.bytes("bytes")
    context.progress("floor: \(plan.count) bare TLS sessions")
    let fleet = try await RemoteFleet.make(plan, target, pool: context.pool)
    let before = probe.memory
    let handshakes = Meter(probe, context.scheduler)
    try await fleet.connect(options.duration("deadline"))
    recorder.result.add(cpu: "CPU of a full handshake", handshakes, operations: Double(plan.count))
    _ = try await order("echo", .seconds(60))
    _ = try await fleet.await(events: 1, patience: options.duration("deadline"))
    let memory = probe.memory
    recorder.result.add(
      "memory of an idle session", Double(memory.pss - before.pss) / Double(plan.count) / 1024, "KiB")
    try await fleet.reset(restart: true)
    for perRecord in [1, 4, 8, 15] where perRecord * (options.bytes("bytes") + 8) <= 16_384 {
      try await deliver(perRecord, fleet, probe)
    }
    try await pace(fleet, probe)
    await fleet.close()
  }

  private func deliver(_ perRecord: Int, _ fleet: RemoteFleet, _ probe: ProcessProbe) async throws {
    let events = max(options.int("events"), perRecord)
    context.progress("floor: \(events) events, \(perRecord) a record")
    let meter = Meter(probe, context.scheduler)
    let sent = try await order("send \(events) \(perRecord) \(options.bytes("bytes"))", options.duration("deadline"))
    let report = try await fleet.await(events: events, patience: options.duration("deadline"))
    recorder.result.check(report.tally)
    recorder.result.add(cpu: "CPU of a delivery, \(perRecord) a record", meter, operations: Double(sent))
    let seconds = Double(report.lastDelivery - meter.began) / 1e9
    recorder.result.add("deliveries, \(perRecord) a record", Double(sent) / seconds, "/s", .higher)
    try await fleet.reset(restart: true)
  }

  private func pace(_ fleet: RemoteFleet, _ probe: ProcessProbe) async throws {
    let rate = options.double("rate")
    let events = max(1, Int(options.duration("pace").seconds * rate))
    context.progress("floor: \(events) paced events")
    try await fleet.reset(restart: true, busyPolls: true)
    let meter = Meter(probe, context.scheduler)
    let sent = try await order(
      "pace \(events) \(options.bytes("bytes")) \(Int(1_000 / rate))",
      options.duration("pace") + options.duration("deadline"))
    let report = try await fleet.await(events: events, patience: options.duration("deadline"))
    recorder.result.check(report.tally)
    recorder.result.add(cpu: "CPU of a paced delivery", meter, operations: Double(sent))
    recorder.result.add("latency, paced", report.tally.latency)
  }

  private func store(_ directory: String) throws(SkerryError) {
    context.progress("floor: SQLite commits \(options.int("rows")) rows")
    let scheduler = context.scheduler
    for (perCommit, rows) in [(1, options.int("rows") / 20), (100, options.int("rows"))] {
      let result = try FloorStore.commit(
        path: "\(directory)/floor-\(perCommit).db", rows: max(1, rows), bytes: options.bytes("bytes"),
        perCommit: perCommit, limit: 30_000_000_000
      ) { scheduler.now.nanoseconds }
      recorder.result.add(
        "SQLite rows, \(perCommit) a commit", Double(result.rows) / (Double(result.nanoseconds) / 1e9), "/s", .higher)
    }
  }
}

/// The floor's server as a program of its own: `skerry-bench floor-server --pki DIR`.
enum FloorProgram {
  static func run(pki directory: String) throws(SkerryError) {
    _ = Machine.raiseFileLimit()
    let pki = try ClusterPKI.load(directory: directory)
    let server = try FloorServer(
      certificatePEM: pki.serverCertificatePEM, keyPEM: pki.serverKeyPEM,
      authorityPEM: pki.authority.certificate.pem
    ) { sequence, bytes, now in
      // A DATA frame on stream 1, so that the clients read it as they read any event.
      let payload = Payload(writer: 0, sequence: max(1, sequence), time: now).bytes(bytes)
      var frame: Bytes = []
      frame.reserveCapacity(payload.count + 8)
      frame.append(bigEndian: UInt16(payload.count))
      frame += [17, 0, 0, 0, 0, 1]
      return frame + payload
    }
    try server.run()
  }
}
