import Base
import ContainerRuntime

extension RuntimeConformance {
  package func pullsAnImageOnce() async throws {
    let first = try await runtime.pull(world.image, policy: .ifNotPresent, credentials: nil)
    try require(first.digest.hasPrefix("sha256:"), "a digest is \(first.digest)")
    try require(first.references.contains(world.image), "the image does not know the name it was pulled by")
    let again = try await runtime.pull(world.image, policy: .always, credentials: nil)
    try require(first.digest == again.digest, "the same image has two digests")
    let held = try await runtime.pull(world.image, policy: .never, credentials: nil)
    try require(first.digest == held.digest, "an image that is here was not found")
    try require(try await runtime.images().count { $0.digest == first.digest } == 1, "the image is not listed once")
    try await refused(.notFound, what: "an absent image with policy Never") { () throws(SkerryError) in
      try await self.runtime.pull("registry.invalid/none:1", policy: .never, credentials: nil)
    }
  }

  package func runsToAnEnd() async throws {
    let sandbox = try await sandbox()
    let failing = try await started(.printsAndFails, in: sandbox)
    try await waitForEvent(failing.id)
    let end = try await status(failing.id)
    try require(end.state == .exited(code: 7, reason: "Error"), "exit 7 became \(end.state)")
    let (started, finished) = (end.startedAt ?? WallTime(seconds: 0), end.finishedAt ?? WallTime(seconds: 0))
    try require(started.nanoseconds > 0 && end.createdAt <= started, "the start time is \(started)")
    // A file system's clock may lag a few milliseconds behind.
    try require(finished + .milliseconds(50) >= started, "it finished at \(finished), before its start \(started)")
    try require(end.labels == failing.labels && end.image == failing.image, "labels or image got lost")
    let lines = try world.log(end)
    try require(Set(lines) == ["stdout one", "stderr two"], "the log holds \(lines)")

    let fine = try await self.started(.succeeds, in: sandbox)
    try await waitForEvent(fine.id)
    let state = try await status(fine.id).state
    try require(state == .exited(code: 0, reason: "Completed"), "exit 0 became \(state)")
    try await runtime.removeSandbox(sandbox.id)
  }

  /// One pod's part of the listings, also after a restart, and nothing of it once it is removed.
  package func findsWhatAPodHas() async throws {
    let (mine, other) = (try await sandbox(), try await sandbox())
    let container = try await started(.obeysStop, in: mine)
    let foreign = try await started(.obeysStop, in: other)
    for again in [false, true] {
      if again { try await restart() }
      let sandboxes = try await runtime.sandboxes(ofPod: mine.podUID)
      try require(sandboxes.map(\.id) == [mine.id], "the pod's sandboxes are \(sandboxes.map(\.id))")
      let containers = try await runtime.containers(ofPod: mine.podUID)
      try require(containers == [try await status(container.id)], "the pod's containers are \(containers.map(\.id))")
    }
    try await runtime.removeSandbox(mine.id)
    try require(try await runtime.sandboxes(ofPod: mine.podUID).isEmpty, "a removed sandbox is found by its pod")
    try require(try await runtime.containers(ofPod: mine.podUID).isEmpty, "a removed container is found by its pod")
    let left = try await runtime.containers(ofPod: other.podUID).map(\.id)
    try require(left == [foreign.id], "the other pod's containers are \(left)")
    try await runtime.removeSandbox(other.id)
  }

  package func tellsOfAStartThatFailed() async throws {
    let sandbox = try await sandbox()
    let config = try await container(.isMissing, in: sandbox)
    try await refused(.system, .notFound, .invalidArgument, what: "a missing program") { () throws(SkerryError) in
      try await self.runtime.startContainer(config.id)
    }
    let state = try await status(config.id).state
    try require(state == .exited(code: 128, reason: "StartError"), "after a start that failed it is \(state)")
    try await runtime.removeContainer(config.id)
    try await runtime.removeSandbox(sandbox.id)
  }

  package func repeatsAreHarmless() async throws {
    let sandbox = try await sandbox()
    let first = try await runtime.runSandbox(sandbox)
    let again = try await runtime.runSandbox(sandbox)
    try require(first == again, "running a sandbox again changed it")
    let config = try await container(.obeysStop, in: sandbox)
    try await runtime.createContainer(config)
    try await runtime.startContainer(config.id)
    let pid = try await pid(config.id)
    try await runtime.startContainer(config.id)
    try await runtime.createContainer(config)
    let after = try await self.pid(config.id)
    try require(pid == after, "a repeated start gave another process")
    for _ in 0..<2 { try await runtime.stopContainer(config.id, grace: .seconds(10)) }
    for _ in 0..<2 { try await runtime.removeContainer(config.id) }
    for _ in 0..<2 { try await runtime.stopSandbox(sandbox.id) }
    let stopped = try await runtime.sandboxes().first { $0.id == sandbox.id }
    try require(stopped?.ready == false, "a stopped sandbox is gone or ready")
    for _ in 0..<2 { try await runtime.removeSandbox(sandbox.id) }
    try require(try await !runtime.sandboxes().contains { $0.id == sandbox.id }, "a removed sandbox is listed")
    try await runtime.stopContainer("never-was", grace: .zero)
    try await runtime.removeContainer("never-was")
    try await runtime.stopSandbox("never-was")
    try await runtime.removeSandbox("never-was")
  }

  package func stopsWithGrace() async throws {
    let sandbox = try await sandbox()
    let obeying = try await started(.obeysStop, in: sandbox)
    try await waitForOutput(obeying.id)
    let began = world.scheduler.now
    try await runtime.stopContainer(obeying.id, grace: .seconds(30))
    try require(world.scheduler.now - began < .seconds(15), "a container that obeys was not awaited, but its grace")
    let end = try await status(obeying.id).state
    try require(end == .exited(code: 3, reason: "Error"), "its own exit code 3 became \(end)")

    let ignoring = try await started(.ignoresStop, in: sandbox)
    try await waitForOutput(ignoring.id)
    try await runtime.stopContainer(ignoring.id, grace: .milliseconds(300))
    let killed = try await status(ignoring.id).state
    try require(killed == .exited(code: 137, reason: "Error"), "a killed container is \(killed)")
    try await runtime.removeSandbox(sandbox.id)
  }

  package func refusesWhatCannotBe() async throws {
    let sandbox = try await sandbox()
    let config = try await started(.obeysStop, in: sandbox)
    let runtime = runtime
    try await refused(.conflict, what: "removing a running container") { () throws(SkerryError) in
      try await runtime.removeContainer(config.id)
    }
    try await refused(.notFound, what: "starting a container that is not") { () throws(SkerryError) in
      try await runtime.startContainer("never-was")
    }
    var stray = config
    stray.id = fresh("container")
    stray.sandboxID = "never-was"
    let homeless = stray
    try await refused(.notFound, what: "a container in no sandbox") { () throws(SkerryError) in
      try await runtime.createContainer(homeless)
    }
    stray.sandboxID = sandbox.id
    stray.image = "sha256:\(String(repeating: "0", count: 64))"
    let imageless = stray
    try await refused(.notFound, what: "a container without its image") { () throws(SkerryError) in
      try await runtime.createContainer(imageless)
    }
    try await refused(.conflict, what: "removing an image in use") { () throws(SkerryError) in
      try await runtime.removeImage(config.image)
    }
    try await runtime.stopContainer(config.id, grace: .seconds(10))
    try await refused(.conflict, what: "starting a container again") { () throws(SkerryError) in
      try await runtime.startContainer(config.id)
    }
    try await refused(.conflict, what: "a command in an exited container") { () throws(SkerryError) in
      try await runtime.exec(config.id, ExecRequest(command: ["true"]))
    }
    try await refused(.conflict, what: "figures of an exited container") { () throws(SkerryError) in
      try await runtime.stats(config.id)
    }
    try await runtime.removeSandbox(sandbox.id)
  }

  /// In the fake: its `execBehavior` prints `out` and `err` and exits 9, or echoes, by the request's `stdin`.
  package nonisolated static let printingCommand = ["/bin/sh", "-c", "echo out; echo err >&2; exit 9"]
  package nonisolated static let echoingCommand = ["/bin/sh", "-c", "cat"]

  package func runsCommands() async throws {
    let sandbox = try await sandbox()
    let config = try await started(.obeysStop, in: sandbox)
    let printing = try await runtime.exec(config.id, ExecRequest(command: Self.printingCommand))
    var outputs: [Int: String] = [:]
    while let (stream, bytes) = try await printing.receive() {
      outputs[stream, default: ""] += String(decoding: bytes, as: UTF8.self)
    }
    try require(outputs == [1: "out\n", 2: "err\n"], "a command printed \(outputs)")
    let code = try await printing.exitCode()
    try require(code == 9, "a command's exit code 9 became \(code)")

    let echoing = try await runtime.exec(config.id, ExecRequest(command: Self.echoingCommand, stdin: true))
    try await echoing.write(Bytes("over and out\n".utf8))
    var echoed = ""
    while echoed.utf8.count < 13, let (_, bytes) = try await echoing.receive() {
      echoed += String(decoding: bytes, as: UTF8.self)
    }
    echoing.closeInput()
    while try await echoing.receive() != nil {}
    let end = try await echoing.exitCode()
    try require(echoed == "over and out\n" && end == 0, "an echoing command said \(echoed) and exited \(end)")

    let figures = try await runtime.stats(config.id)
    try require(figures.memoryBytes > 0, "a running container uses no memory")
    try await runtime.removeSandbox(sandbox.id)
  }

  package func removesWhatASandboxHolds() async throws {
    let sandbox = try await sandbox()
    let first = try await started(.ignoresStop, in: sandbox)
    let second = try await container(.succeeds, in: sandbox)
    try await runtime.removeSandbox(sandbox.id)
    let left = try await runtime.containers().map(\.id)
    try require(!left.contains(first.id) && !left.contains(second.id), "containers outlived their sandbox")
  }

  package func outlivesItsUser() async throws {
    let sandbox = try await sandbox()
    let config = try await started(.obeysStop, in: sandbox)
    let before = try await status(config.id)
    let whole = try await runtime.sandboxes().first { $0.id == sandbox.id }
    try await restart()
    let after = try await status(config.id)
    try require(before == after, "over a restart \(before) became \(after)")
    let wholeAfter = try await runtime.sandboxes().first { $0.id == sandbox.id }
    try require(whole == wholeAfter, "over a restart the sandbox changed")
    try await runtime.stopContainer(config.id, grace: .seconds(10))
    try await waitForEvent(config.id)
    try await runtime.removeSandbox(sandbox.id)
  }

  package func noticesExitsWhileAway() async throws {
    let sandbox = try await sandbox()
    let config = try await started(.waitsForRelease, in: sandbox)
    let before = try await status(config.id)
    runtime.onEvent = nil
    try world.release(config.id)
    // Nobody listens: its end shows in the log, which its monitor writes.
    try await eventually("the last line") { try world.log(before).contains("stdout released") }
    try await restart()
    try await eventually("its end") { try await status(config.id).state == .exited(code: 5, reason: "Error") }
    let after = try await status(config.id)
    try require(after.startedAt == before.startedAt && after.finishedAt != nil, "its times got lost: \(after)")
    try await runtime.removeSandbox(sandbox.id)
  }
}
