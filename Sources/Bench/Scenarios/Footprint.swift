import API
import Base
import EventLoop
import Glibc
import Identity
import ObjectModel

extension Scenario {
  static let footprint = Scenario(
    name: "footprint", summary: "memory empty and loaded, an idle edgecore, and how long starts take",
    discussion: """
      PSS of an empty cloudcore; of one that holds 1,000 nodes and 10,000 pods, while the nodes are connected; the start
      after SIGKILL until it serves its objects; PSS, CPU, wake-ups and bytes written of an edgecore that has nothing to
      do.
      """,
    options: [
      Option("nodes", .int(1...100_000), "1000", "hollow edge nodes"),
      Option("pods", .int(0...1_000_000), "10000", "placed on them"),
      Option("idle", .duration(.seconds(1)...(.seconds(3_600))), "10s", "how long idle processes are watched"),
    ], needs: { Needs(connections: $0.int("nodes"), ownServer: true) },
    run: { context, options, recorder in
      let server = try await BenchServer.start(context, options)
      do { try await footprint(context, options, recorder, server) } catch {
        await server.stop()
        throw error
      }
      await server.stop()
    })

  @LoopActor private static func footprint(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    let (nodes, pods) = (options.int("nodes"), options.int("pods"))
    try await context.scheduler.sleep(for: .seconds(1))
    memory("cloudcore, empty", server.probe, recorder, bound: 30)
    try await edge(context, options, recorder, server)
    var plan = FleetPlan()
    plan.kind = .node
    plan.count = nodes
    plan.concurrency = options.int("concurrency")
    let fleet = try await RemoteFleet.make(plan, server.target, pool: context.pool)
    context.progress("footprint: \(nodes) nodes and \(pods) pods")
    try await fleet.connect(options.duration("deadline"))
    let api = try await server.api()
    try await Objects.create(
      api, resource: Pod.resource, (0..<pods).map { Objects.pod("pod-\($0)", node: plan.nodeName($0 % nodes)) })
    let running = try await Objects.wait(context, options.duration("deadline"), each: .seconds(1)) {
      try await Objects.count(api, Pod.resource, fields: "status.phase=Running") >= pods
    }
    guard running else { throw SkerryError(.timeout, "the pods do not run") }
    try await context.scheduler.sleep(for: .seconds(2))
    memory("cloudcore with \(nodes) nodes and \(pods) pods", server.probe, recorder, bound: 120)
    let meter = Meter(server.probe, context.scheduler)
    try await context.scheduler.sleep(for: options.duration("idle"))
    if let used = meter.used {
      recorder.result.add(
        "idle CPU with \(nodes) nodes", Double(used.total) / Double(meter.elapsed.nanosecondCount) * 100, "% of a core")
    }
    await fleet.close()
    context.progress("footprint: SIGKILL and start")
    try await server.crash()
    let start = try await server.launch()
    let answer = context.scheduler.now
    let count = try await Objects.count(try await server.api(), Pod.resource)
    recorder.result.checked += UInt64(count)
    recorder.result.violations += UInt64(pods - min(pods, count))
    recorder.result.add("start after SIGKILL until it serves", start.seconds, "s", bound: 1)
    recorder.result.add("first whole list after it", (context.scheduler.now - answer).seconds, "s")
  }

  @LoopActor private static func memory(
    _ what: String, _ probe: ProcessProbe?, _ recorder: Recorder, bound: Double? = nil
  ) {
    guard let memory = probe?.memory else { return }
    recorder.result.add("PSS of \(what)", Double(memory.pss) / 1_048_576, "MiB", bound: bound)
    recorder.result.add("RSS of \(what)", Double(memory.rss) / 1_048_576, "MiB", .neither)
  }

  /// An edgecore of its own, with nothing to run.
  @LoopActor private static func edge(
    _ context: BenchContext, _ options: Options, _ recorder: Recorder, _ server: BenchServer
  ) async throws {
    guard let program = try? BenchServer.program("edgecore"), let pkiPath = server.target.pki else {
      return recorder.result.note("edgecore is not beside this program: it was not measured")
    }
    let directory = try context.newDirectory("edge")
    let pki = try ClusterPKI.load(directory: pkiPath)
    let key = try KeyPair.generate()
    let certificate = try pki.authority.issue(
      publicKey: key.publicKey, subject: .node("idle-edge"), usage: .client, lifetime: .seconds(86_400),
      now: context.scheduler.wall, random: context.random)
    try Files.write("\(directory)/node.crt", certificate.pem, mode: 0o600)
    try Files.write("\(directory)/node.key", key.pem, mode: 0o600)
    try Files.write("\(directory)/ca.crt", pki.authority.certificate.pem, mode: 0o600)
    let settings = [
      ("node", "idle-edge"), ("cloud", server.target.address.description), ("data", "\(directory)/data"),
      ("ca", "\(directory)/ca.crt"), ("cert", "\(directory)/node.crt"), ("key", "\(directory)/node.key"),
      ("sealing-keys", "\(directory)/sealing.keys"), ("volatile", "\(directory)/volatile"),
      ("socket", "\(directory)/edge.sock"), ("runtime", "process"), ("operations", "127.0.0.1:0"),
      ("ready-file", "\(directory)/ready.json"), ("log-level", "error"),
    ]
    try Files.write(
      "\(directory)/edgecore.yaml", settings.map { "\($0.0): \"\($0.1)\"\n" }.joined(), mode: 0o600)
    let start = context.scheduler.now
    let child = try Subprocess.spawn(
      [program, "--config", "\(directory)/edgecore.yaml"], stderr: .inherit, detached: true, onExit: { _ in })
    context.own(child)
    defer {
      child.kill(SIGKILL)
      context.disown(child)
    }
    let serves = try await Objects.wait(context, .seconds(30), each: .milliseconds(5)) {
      Files.exists("\(directory)/ready.json") || child.exitStatus != nil
    }
    guard serves, child.exitStatus == nil else { throw SkerryError(.unavailable, "edgecore does not come up") }
    recorder.result.add("start of an edgecore", (context.scheduler.now - start).seconds, "s")
    try await context.scheduler.sleep(for: .seconds(3))
    let probe = ProcessProbe(pid: child.pid)
    memory("edgecore, idle", probe, recorder, bound: 15)
    let (wakeUps, written) = (probe.wakeUps, probe.storageWritten)
    let meter = Meter(probe, context.scheduler)
    try await context.scheduler.sleep(for: options.duration("idle"))
    let seconds = meter.elapsed.seconds
    if let used = meter.used {
      recorder.result.add("idle CPU of an edgecore", Double(used.total) / 1e7 / seconds, "% of a core", bound: 0.2)
    }
    recorder.result.add("wake-ups of an idle edgecore", Double(probe.wakeUps - wakeUps) / seconds, "/s", bound: 2)
    recorder.result.add(
      "written by an idle edgecore", Double(probe.storageWritten - written) / seconds * 3_600 / 1_048_576, "MiB/h",
      bound: 1)
  }
}
