import Base
import EventLoop
import EventLoopConformance
import Glibc
import Testing

@Suite struct SubprocessTests {
  @Test func outputsAndStatusComeBack() async throws {
    try await onLoop {
      let result = try await Subprocess.run(
        ["sh", "-c", "echo out; echo err >&2; exit 7"], deadline: .seconds(20))
      #expect(result.status == .exited(7))
      #expect(result.outputText == "out\n")
      #expect(result.errorText == "err\n")
    }
  }

  @Test func inputEnvironmentAndDirectoryReachTheChild() async throws {
    try await onLoop {
      let input = StreamConformance.pattern(300_000)
      let result = try await Subprocess.run(
        ["/bin/sh", "-c", "cat; echo $FRUIT >&2; pwd >&2; echo again >/dev/stderr"],
        environment: ["FRUIT": "pear", "PATH": "/bin:/usr/bin"], directory: "/usr", input: input, deadline: .seconds(20)
      )
      #expect(result.output == input)
      #expect(result.errorText == "pear\n/usr\nagain\n")
    }
  }

  @Test func aProgramThatDoesNotReadItsInputIsNoError() async throws {
    try await onLoop {
      let result = try await Subprocess.run(
        ["true"], input: Bytes(repeating: 1, count: 1 << 20), deadline: .seconds(20))
      #expect(result.status.isSuccess)
    }
  }

  @Test func theDeadlineKillsTheWholeGroup() async throws {
    try await onLoop {
      let start = Loop.startShared().now
      let error = await #expect(throws: SkerryError.self) {
        _ = try await Subprocess.run(["sh", "-c", "sleep 100 & sleep 100"], deadline: .milliseconds(100))
      }
      #expect(error?.code == .timeout)
      #expect(Loop.startShared().now - start < .seconds(15))
    }
  }

  @Test func cancellingTheTaskKills() async throws {
    try await onLoop {
      let task = spawn { () -> SkerryError.Code? in
        do throws(SkerryError) {
          _ = try await Subprocess.run(["sleep", "100"], deadline: .seconds(50))
          return nil
        } catch {
          return error.code
        }
      }
      // A few turns, so that the program runs.
      for _ in 0..<5 { try await Loop.startShared().sleep(for: .zero) }
      task.cancel()
      #expect(await task.value == .cancelled)
    }
  }

  @Test func tooMuchOutputIsRefused() async throws {
    try await onLoop {
      let error = await #expect(throws: SkerryError.self) {
        _ = try await Subprocess.run(["cat", "/dev/zero"], outputLimit: 1000, deadline: .seconds(20))
      }
      #expect(error?.code == .limitExceeded)
    }
  }

  @Test func aDaemonLeftBehindDoesNotHoldTheAnswer() async throws {
    try await onLoop {
      let start = Loop.startShared().now
      let result = try await Subprocess.run(["sh", "-c", "sleep 20 & echo $!"], deadline: .seconds(19))
      #expect(Loop.startShared().now - start < .seconds(10))
      let pid = Int32(result.outputText.dropLast()) ?? 0
      #expect(pid > 0 && kill(pid, SIGKILL) == 0)
    }
  }

  @Test func aMissingProgramIsNamed() async throws {
    try await onLoop {
      let error = await #expect(throws: SkerryError.self) {
        _ = try await Subprocess.run(["/no/such/program"], deadline: .seconds(5))
      }
      #expect(error?.message.contains("/no/such/program") == true)
    }
  }

  @Test func aChildTalksOverPipesAndExtraDescriptors() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let ended = Ended()
      let child = try Subprocess.spawn(
        ["sh", "-c", "read line; echo got $line; echo extra >&4; exec sleep 100"], stdin: .pipe, stdout: .pipe,
        extra: [.null, .pipe], detached: true, onExit: { ended.status = $0 })
      let output = StreamProbe(try #require(child.stdout), on: loop)
      let extra = StreamProbe(try #require(child.pipes[4]), on: loop)
      child.stdin?.write(Array("hello\n".utf8))
      try await output.wait("the line") { $0.text == "got hello\n" }
      try await extra.wait("the extra descriptor") { $0.text == "extra\n" }
      #expect(getpgid(child.pid) == child.pid)
      child.kill(SIGTERM)
      try await output.wait("the end") { $0.ended }
      while ended.status == nil { try await loop.sleep(for: .milliseconds(1)) }
      #expect(child.exitStatus == .signalled(SIGTERM))
      child.kill(SIGKILL)
      for stream in child.pipes.values { stream.close() }
    }
  }

  @Test(.enabled(if: geteuid() == 0, "only root may become another user"))
  func aChildMayRunAsAnotherUser() async throws {
    try await onLoop {
      let result = try await Subprocess.run(["id"], deadline: .seconds(10), uid: 65534, gid: 65534)
      #expect(result.outputText.hasPrefix("uid=65534"))
      #expect(result.outputText.contains("gid=65534"))
    }
  }
}

@LoopActor private final class Ended { var status: EventLoop.ExitStatus? }
