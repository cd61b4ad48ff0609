import Base
import EventLoop
import Glibc
import Logging
import Testing

@testable import ContainerRuntime

/// Crashes at any moment, restarts, and what is left at the end.
@Suite(.enabled(if: canRunContainers, whyNot)) struct OCIRecoveryTests {
  @Test func nothingIsLostWhileNobodyWatches() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let printing = try await world.run("sleep 0.2; seq 1 10000; exit 7", in: pod)
      let staying = try await world.run("sleep 60", in: pod)
      let before = try await world.status(staying)
      world.runtime.close()
      let exit = "\(world.runtime.layout.exits)/\(printing)"
      try await world.eventually("the exit file") { Files.exists(exit) }
      try await world.restart()
      let end = try await world.end(printing)
      #expect(end.code == 7)
      let isWhole = end.lines == (1...10_000).map { "stdout \($0)" }
      #expect(isWhole, "\(end.lines.count) lines, the last \(end.lines.last ?? "")")
      let status = try await world.status(printing)
      #expect(try #require(status.finishedAt) > (try #require(status.startedAt)))
      #expect(try await world.status(staying) == before)
    }
  }

  @Test func logsRotateWithoutLoss() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let volume = "\(world.root)/volume"
      try Files.makeDirectory(volume)
      let id = try await world.run(
        "i=0; while [ ! -e /volume/enough ]; do i=$((i+1)); echo line $i; usleep 1000; done", in: pod
      ) { $0.mounts = [Mount(hostPath: volume, containerPath: "/volume", readOnly: true)] }
      let log = try await world.status(id).logPath
      let control = "\(world.runtime.layout.bundle(id))/ctl"
      for round in 1...3 {
        try await world.eventually("rotation \(round)") {
          try LogRotation.rotateIfLarge(log, control: control, maxBytes: 5_000)
        }
        // conmon opens the new file when it has read the message.
        try await world.eventually("the new log file") { Files.exists(log) }
      }
      try Files.write("\(volume)/enough", "")
      _ = try await world.end(id)
      let texts = ["\(log).3", "\(log).2", "\(log).1", log].map { Files.readText($0) ?? "" }
      let lines = CRILog.lines(texts.joined())
      #expect(lines.count > 100)
      let isWhole = lines == (1...lines.count).map { "stdout line \($0)" }
      #expect(isWhole, "\(lines.count) lines, the last \(lines.last ?? "")")
    }
  }

  @Test func whatWasOnlyCreatedDoesNotOutliveTheProcess() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.create("true", in: pod)
      try await world.restart()
      #expect(try await world.runtime.containers().isEmpty)
      #expect(!Mounts.below("\(world.root)/data").contains { $0.contains(id) })
    }
  }

  @Test func aRebootLeavesRecordsAndNoPromises() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.run("sleep 60", in: pod)
      let layout = world.runtime.layout
      world.runtime.close()
      // What a reboot takes: processes, mounts, namespaces.
      for pid in Cgroups.processes(layout.cgroupParent) { kill(pid, SIGKILL) }
      try await Processes.killMarked("\(layout.monitorMark.name)=\(layout.monitorMark.value)", world.loop)
      try Mounts.detach(layout.root)
      try Mounts.detach(layout.volatile)
      try? Files.removeFile(layout.exitFile(id))
      try await world.restart()
      #expect(try await world.status(id).state == .unknown)
      #expect(try await world.runtime.sandboxes().map(\.ready) == [false])
      #expect(Self.heldAddresses(layout).isEmpty)
      try await world.runtime.removeContainer(id)
      let again = try await world.runtime.runSandbox(
        SandboxConfig(
          id: pod.id, podName: "pod", podNamespace: "default", podUID: pod.podUID, hostname: "pod",
          logDirectory: "\(world.root)/logs/\(pod.id)"))
      #expect(again.ready && again.addresses.count == 1)
    }
  }

  private static func heldAddresses(_ layout: RuntimeLayout) -> [String] {
    Files.list("\(layout.addresses)/\(layout.networkName)").filter { $0.first?.isNumber == true }
  }

  @Test func secretsOfTheEnvironmentReachNoDisk() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let canary = "canary-\(SystemRandom().bytes(8).hex)"
      let id = try await world.run("sleep 60; echo $0", in: pod) {
        $0.environment = [("TOKEN", canary)]
        $0.arguments = [canary]
      }
      #expect(try await world.pid(id) > 0)
      let found = try await Subprocess.run(
        ["grep", "-rl", "--exclude-dir=proc", canary, world.root], deadline: .seconds(30))
      #expect(found.outputText == "")
    }
  }

  @Test func tearDownLeavesNothingAndNeedsOnlyTheDirectory() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox(ports: [PortMapping(hostPort: 19_753, containerPort: 80, transport: "tcp")])
      let id = try await world.run("trap '' TERM; while :; do sleep 1; done", in: pod)
      let pid = try await world.pid(id)
      let layout = world.runtime.layout
      world.runtime.close()
      try await OCIWorld.make(world.root, world.loop).tearDown()
      #expect(Processes.startTicks(pid) == nil)
      #expect(Processes.marked("\(layout.monitorMark.name)=\(layout.monitorMark.value)").isEmpty)
      #expect(Mounts.below(layout.root).isEmpty && Mounts.below(layout.volatile).isEmpty)
      #expect(!Files.exists(layout.volatile))
      #expect(!Files.exists("/sys/class/net/\(layout.bridge)"))
      #expect(!Cgroups.hierarchies().contains { Files.exists("\($0)\(layout.cgroupParent)") })
      let rules = try await Subprocess.run(["iptables-save"], deadline: .seconds(10))
      #expect(!rules.outputText.contains(layout.networkName))
      #expect(Self.heldAddresses(layout).isEmpty)
    }
  }

  /// A child process is killed at moments all along making, running, stopping and removing a pod. Whatever the moment,
  /// the next start finds records and machine in agreement.
  @Test func killedAnywhereRecordsAndMachineAgree() async throws {
    let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
    let image = try await onLoop { try await OCIWorld.image() }
    for round in 0..<16 {
      await #expect(processExitsWith: .signal(SIGKILL)) {
        [root = root as String, image = image as String, round = round as Int] in
        do {
          try await OCIRecoveryTests.liveAndDie(root, image, round)
        } catch {
          try Files.write("\(root)/why-\(round)", "\(error)")
          exit(1)
        }
      }
      #expect(Files.readText("\(root)/why-\(round)") == nil)
    }
    try await onLoop {
      let loop = try #require(LoopActor.executor as? Loop)
      let runtime = try OCIWorld.make(root, loop)
      try await runtime.recover()
      try await OCIRecoveryTests.agree(runtime, loop)
      for sandbox in try await runtime.sandboxes() { try await runtime.removeSandbox(sandbox.id) }
      #expect(Processes.marked("\(runtime.layout.monitorMark.name)=\(runtime.layout.monitorMark.value)").isEmpty)
      #expect(Self.heldAddresses(runtime.layout).isEmpty)
      #expect(Mounts.below(runtime.layout.containers).isEmpty)
      let rules = try await Subprocess.run(["iptables-save", "-t", "nat"], deadline: .seconds(10))
      #expect(!rules.outputText.contains(runtime.layout.networkName))
      try await runtime.tearDown()
      try Files.removeTree(root)
    }
  }

  /// Recovers, then makes a pod and takes it down until it is killed.
  private static func liveAndDie(_ root: String, _ image: String, _ round: Int) async throws {
    try await onLoop {
      let loop = try #require(LoopActor.executor as? Loop)
      let runtime = try OCIWorld.make(root, loop)
      try await runtime.recover()
      try await agree(runtime, loop)
      let digest = try await runtime.pull(image, policy: .ifNotPresent, credentials: nil).digest
      loop.schedule(after: .milliseconds(Int64(20 + round * 45))) { kill(getpid(), SIGKILL) }
      let (id, script) = ("s\(round)", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
      _ = try await runtime.runSandbox(
        SandboxConfig(
          id: id, podName: "p", podNamespace: "n", podUID: "u", hostname: "h", logDirectory: "\(root)/logs/\(round)"))
      for name in ["a", "b"] {
        try await runtime.createContainer(
          ContainerConfig(
            id: "\(name)\(round)", sandboxID: id, name: name, attempt: 0, image: digest,
            command: ["/bin/sh", "-c", script]))
        try await runtime.startContainer("\(name)\(round)")
      }
      try await runtime.stopContainer("a\(round)", grace: .seconds(1))
      try await runtime.removeContainer("a\(round)")
      if round % 2 == 0 { try await runtime.removeSandbox(id) }
      try await loop.sleep(for: .seconds(10))
    }
  }

  /// A process that was being killed at the moment of the crash may end just after the start.
  @LoopActor private static func agree(_ runtime: OCIRuntime, _ loop: Loop) async throws {
    let end = loop.now + .seconds(5)
    while true {
      do { return try checkAgreement(runtime) } catch { if loop.now > end { throw error } }
      try await loop.sleep(for: .milliseconds(20))
    }
  }

  /// Every running record has its process, every process under our cgroup a running record, every overlay a record,
  /// and nothing is half-way.
  @LoopActor private static func checkAgreement(_ runtime: OCIRuntime) throws {
    let layout = runtime.layout
    var running: Set<Int32> = []
    for record in runtime.supervisor.records.values {
      try hold(record.phase != .starting && record.phase != .created, "\(record)")
      guard record.phase == .running else { continue }
      guard let pid = record.pid else { return try hold(false, "\(record)") }
      try hold(Processes.isAlive(pid, startTicks: record.startTicks), "\(record)")
      running.insert(pid)
    }
    let first = Cgroups.processes(layout.cgroupParent).filter { pid in
      // The first process of a container has conmon as its parent; others are its children.
      (Files.readText("/proc/\(pid)/status") ?? "").contains("\nNSpid:\t\(pid)\t1\n")
    }
    try hold(first == running, "\(first) run, \(running) are recorded")
    let overlays = Set(Mounts.below(layout.containers).map { $0.parentPath })
    try hold(
      overlays.allSatisfy { path in runtime.supervisor.records.keys.contains { path.hasSuffix("/\($0)") } },
      "\(overlays)")
    try hold(
      heldAddresses(layout).count == runtime.sandboxStore.records.values.count { $0.phase == .ready }, "addresses")
  }

  private static func hold(_ condition: Bool, _ what: String) throws {
    if !condition { throw SkerryError(.internal, "records and machine disagree: \(what)") }
  }

  /// A child process is killed at 50 moments of making a sandbox; its helpers live on as orphans. Each next child
  /// recovers first. No address, interface, namespace or rule may be lost to us.
  @Test(arguments: [50]) func killedInsideCNIAddLosesNoAddress(times: Int) async throws {
    let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
    for round in 0..<times {
      let milliseconds = round * 3
      await #expect(processExitsWith: .signal(SIGKILL)) {
        [root = root as String, round = round as Int, milliseconds = milliseconds as Int] in
        try await onLoop {
          let loop = try #require(LoopActor.executor as? Loop)
          let runtime = try OCIWorld.make(root, loop)
          try await runtime.recover()
          loop.schedule(after: .milliseconds(Int64(milliseconds))) { kill(getpid(), SIGKILL) }
          _ = try await runtime.runSandbox(
            SandboxConfig(
              id: "s\(round)", podName: "p", podNamespace: "n", podUID: "u", hostname: "h",
              logDirectory: "\(root)/logs"))
          // It was quicker than the kill; that sandbox stays, and is removed below.
          try await loop.sleep(for: .seconds(10))
        }
      }
    }
    try await onLoop {
      let loop = try #require(LoopActor.executor as? Loop)
      let runtime = try OCIWorld.make(root, loop)
      try await runtime.recover()
      let sandboxes = try await runtime.sandboxes()
      #expect(sandboxes.contains { !$0.ready } && sandboxes.count > 1)
      let ready = sandboxes.filter(\.ready)
      #expect(Self.heldAddresses(runtime.layout) == ready.flatMap(\.addresses).sorted())
      let ports = Files.list("/sys/class/net/\(runtime.layout.bridge)/brif")
      #expect(ports.count == ready.count)
      for sandbox in sandboxes { try await runtime.removeSandbox(sandbox.id) }
      #expect(Self.heldAddresses(runtime.layout).isEmpty)
      #expect(Files.list(runtime.layout.namespaces).isEmpty)
      let rules = try await Subprocess.run(["iptables-save", "-t", "nat"], deadline: .seconds(10))
      #expect(!rules.outputText.contains(runtime.layout.networkName))
      try await runtime.tearDown()
      try Files.removeTree(root)
    }
  }
}
