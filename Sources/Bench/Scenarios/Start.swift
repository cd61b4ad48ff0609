import API
import Base
import EventLoop
import Glibc
import ObjectModel
import Transport

extension Scenario {
  static let start = Scenario(
    name: "start", summary: "how long starts take: a whole cluster from nothing, and cloudcore after a crash",
    discussion: """
      `skerry up` in an empty directory, until it has said that both nodes are Ready, and from its start until a pod that
      is made then runs. Pods run as `--runtime` says: with runc if that can be, else as processes of this machine; an
      image that is named must be there already. Then a cloudcore that holds many objects is killed (SIGKILL) and
      started: until it says that it serves, and until a new connection has had an answer. All objects must be there.
      """,
    options: [
      Option("objects", .int(0...10_000_000), "10000", "ConfigMaps that cloudcore holds when it is killed"),
      Option("bytes", .bytes(0...900_000), "1KiB", "of each"),
    ] + EdgeRuntime.options,
    needs: {
      Needs(
        diskBytes: (256 << 20) + $0.int("objects") * ($0.bytes("bytes") + 2_048) * 2, ownServer: true,
        programs: ["skerry", "edgecore", "devicecore", "device-modbus", "modbus-simulator"])
    },
    flaw: { EdgeRuntime.flaw($0) },
    run: { context, options, recorder in
      try await wholeCluster(context, options, recorder)
      let server = try await BenchServer.start(context, options)
      do { try await afterCrash(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func wholeCluster(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder
  ) async throws {
    let runtime = EdgeRuntime(options)
    recorder.result.note(runtime.note)
    context.progress("start: skerry up")
    let began = context.scheduler.now
    let cluster = try await LocalUp.start(context, runtime)
    recorder.result.add(
      "skerry up until two nodes are Ready", (context.scheduler.now - began).seconds, "s", bound: 3)
    let api = try await cluster.api()
    let watch = try await PodWatch.open(api, namespace: LocalUp.namespace, context)
    _ = try await api.create(
      resource: Pod.resource, namespace: LocalUp.namespace,
      object: runtime.idlePod("first", namespace: LocalUp.namespace),
      caller: .bench)
    _ = try await watch.wait(1, .seconds(60))
    recorder.result.add(
      "skerry up until the first pod runs", (context.scheduler.now - began).seconds, "s", bound: 5)
    recorder.result.checked += UInt64(watch.running.count)
    recorder.result.violations += watch.violations
    await cluster.stop()
  }

  @LoopActor private static func afterCrash(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let objects = options.int("objects")
    context.progress("start: cloudcore gets \(objects) objects")
    let bytes = options.bytes("bytes")
    try await Objects.create(
      try await server.api(), resource: ConfigMap.resource,
      (0..<objects).map { Objects.configMap("object-\($0)", bytes: bytes) })
    context.progress("start: SIGKILL, and again")
    try await server.crash()
    let began = context.scheduler.now
    let took = try await server.launch()
    _ = try await server.position()
    let what = "cloudcore with \(objects) objects after SIGKILL"
    recorder.result.add("\(what), until it serves", took.seconds, "s")
    recorder.result.add(
      "\(what), until it has answered", (context.scheduler.now - began).seconds, "s",
      bound: objects <= 10_000 ? 1 : nil)
    let found = try await Objects.count(
      try await server.api(), ConfigMap.resource, fields: "metadata.namespace=\(BenchServer.namespace)")
    recorder.result.checked += UInt64(found)
    recorder.result.violations += UInt64(objects - min(objects, found))
  }
}

/// A `skerry up` in a directory of its own.
@LoopActor final class LocalUp {
  nonisolated static let namespace = "default"
  static let patience = Duration.seconds(90)

  private let context: BenchContext
  private let directory: String
  private let program: String
  private var child: Child?
  private var session: Session?
  private var cleanup: Int?
  private var address = HostPort(host: "127.0.0.1", port: 0)

  /// Returns once it has said that the cluster is ready.
  static func start(_ context: BenchContext, _ runtime: EdgeRuntime) async throws -> LocalUp {
    let up = LocalUp(context, try context.newDirectory("up"), try BenchServer.program("skerry"))
    up.cleanup = context.atEnd { await up.stop() }
    try await up.launch(runtime)
    return up
  }

  private init(_ context: BenchContext, _ directory: String, _ program: String) {
    self.context = context
    self.directory = directory
    self.program = program
  }

  private func launch(_ runtime: EdgeRuntime) async throws {
    let (ready, log) = ("\(directory)/ready.json", "\(directory)/up.log")
    let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw Files.failure("open", log) }
    defer { Glibc.close(output) }
    let child = try Subprocess.spawn(
      [program, "up", "--data", directory, "--ready-file", ready, "--runtime", runtime.name], stdout: .fd(output),
      stderr: .fd(output), detached: true, onExit: { _ in })
    self.child = child
    context.own(child)
    let serves = try await Objects.wait(context, Self.patience, each: .milliseconds(2)) {
      Files.exists(ready) || child.exitStatus != nil
    }
    guard serves, child.exitStatus == nil else {
      let last = (Files.readText(log) ?? "").split(separator: "\n").last ?? "it said nothing"
      throw SkerryError(.unavailable, "skerry up does not come up: \(last)")
    }
    let told = try JSON.parse(try Files.read(ready))
    address = try HostPort(told["api"].string ?? "")
  }

  /// The API as its administrator.
  func api() async throws -> any API {
    func text(_ name: String) throws -> String {
      String(decoding: try Files.read("\(directory)/pki/\(name)"), as: UTF8.self)
    }
    let target = BenchTarget(
      address: address, caPEM: try text("ca.crt"),
      client: TLSCredentials(certificatePEM: try text("admin.crt"), keyPEM: try text("admin.key")))
    let (session, api) = try await BenchServer.connect(target, context)
    self.session = session
    return api
  }

  /// Ends the cluster; what a killed `up` would leave, `down` removes.
  func stop() async {
    if let cleanup { context.forget(cleanup) }
    cleanup = nil
    session?.close()
    session = nil
    guard let child else { return }
    self.child = nil
    child.kill(SIGTERM)
    let deadline = context.scheduler.now + .seconds(30)
    while child.exitStatus == nil, context.scheduler.now < deadline {
      try? await context.scheduler.sleep(for: .milliseconds(5))
    }
    child.kill(SIGKILL)
    context.disown(child)
    if child.exitStatus != .exited(0) {
      _ = try? await Subprocess.run([program, "down", "--data", directory], deadline: .seconds(120))
    }
    try? Files.removeTree(directory)
  }
}
