import API
import ArgumentParser
import Base
import ObjectModel

extension Environment {
  /// The pod that `NAME`, `pod/NAME` or `deployment/NAME` means: of a workload its first pod that runs.
  func pod(_ word: String) async throws -> Pod {
    let (kind, reference) = try ResourceArguments.single([word], self, default: .pod)
    let object = try await get(reference)
    if kind.resource == Pod.resource { return Pod(object) }
    guard ["deployments.apps", "replicasets.apps"].contains(kind.resource) else {
      throw SkerryError(.invalidArgument, "a \(kind.kind) has no pods; name a pod, a deployment or a replicaset")
    }
    let pods = try await pods(selectedBy: object)
    guard let pod = pods.first(where: { $0.phase == .running }) ?? pods.first else {
      throw SkerryError(.notFound, "\(kind.displayPrefix)/\(object.name) has no pod now")
    }
    return pod
  }

  /// The container that is meant: the one named, else the annotated default, else the first.
  func container(_ name: String?, of pod: Pod) throws(SkerryError) -> String {
    let names = (pod.spec.initContainers + pod.spec.containers).map(\.name)
    if let name {
      guard names.contains(name) else {
        throw SkerryError(
          .notFound, "pod \(pod.name) has no container \"\(name)\"; it has \(names.joined(separator: ", "))")
      }
      return name
    }
    if let annotated = pod.object.annotations["kubectl.kubernetes.io/default-container"], names.contains(annotated) {
      return annotated
    }
    let first = pod.spec.containers.first?.name ?? ""
    if pod.spec.containers.count > 1 {
      let all = pod.spec.containers.map(\.name).joined(separator: ", ")
      console.note("Defaulted container \"\(first)\" out of: \(all)")
    }
    return first
  }
}

struct Logs: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print what a container wrote.",
    discussion: """
      skerry logs web-1 -f
      skerry logs deployment/web -c page --tail 20
      """)
  @OptionGroup var globals: GlobalOptions
  @Flag(name: [.customShort("f"), .long], help: "Go on until the container ends.") var follow = false
  @Option(name: [.customShort("c"), .long], help: "The container.") var container: String?
  @Flag(name: [.customShort("p"), .long], help: "Of the run before.") var previous = false
  @Option(name: .long, help: "Only so many last lines.") var tail: Int64?
  @Flag(name: .long, help: "Each line with its time.") var timestamps = false
  @Argument(help: "POD, or TYPE/NAME.") var pod: String

  func execute(_ environment: Environment) async throws {
    let pod = try await environment.pod(pod)
    var options: Value = ["container": .string(try environment.container(container, of: pod))]
    if follow { options["follow"] = true }
    if previous { options["previous"] = true }
    if timestamps { options["timestamps"] = true }
    if let tail { options["tailLines"] = .int(tail) }
    _ = try await environment.api().connect(
      ObjectReference(resource: Pod.resource, namespace: pod.namespace, name: pod.name), subresource: "log",
      options: options, stream: ConsoleSink(environment.console), caller: environment.caller)
  }
}

/// A stream's far half that only listens: what comes is printed.
@LoopActor final class ConsoleSink: DuplexStream {
  private let console: any Console
  init(_ console: any Console) { self.console = console }
  func receive() async throws(SkerryError) -> Bytes? { nil }
  func send(_ message: Bytes) async throws(SkerryError) { console.write(message) }
  func finish() {}
  func reset(_ reason: String) {}
}

struct Exec: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a command in a container.",
    discussion: """
      skerry exec web-1 -- ls /
      skerry exec -it deployment/web -c web -- sh
      """)
  @OptionGroup var globals: GlobalOptions
  @Flag(name: [.customShort("i"), .customLong("stdin")], help: "Pass standard input on.") var interactive = false
  @Flag(name: [.customShort("t"), .customLong("tty")], help: "Give the command a terminal.") var tty = false
  @Option(name: [.customShort("c"), .long], help: "The container.") var container: String?
  @Argument(help: "POD, or TYPE/NAME.") var pod: String
  @Argument(parsing: .postTerminator, help: "The command, behind --.") var command: [String] = []

  func execute(_ environment: Environment) async throws {
    guard !command.isEmpty else { throw SkerryError(.invalidArgument, "say what to run behind --: exec POD -- ls /") }
    let pod = try await environment.pod(pod)
    let console = environment.console
    var options: Value = [
      "container": .string(try environment.container(container, of: pod)),
      "command": .array(command.map(Value.string)), "stdin": .bool(interactive), "tty": .bool(tty),
    ]
    if tty, let size = console.size {
      options["width"] = .int(Int64(size.width))
      options["height"] = .int(Int64(size.height))
    }
    let restore = tty && interactive ? console.makeRaw() : nil
    defer { restore?() }
    let stream = ExecTerminal(console, reads: interactive, resizes: tty)
    defer { stream.stop() }
    let result = try await environment.api().connect(
      ObjectReference(resource: Pod.resource, namespace: pod.namespace, name: pod.name), subresource: "exec",
      options: options, stream: stream, caller: environment.caller)
    let code = result["exitCode"].int ?? 0
    if code != 0 { throw ExitCode(Int32(truncatingIfNeeded: code)) }
  }
}

/// The terminal's half of an exec stream: keys and sizes go out, output is printed.
@LoopActor final class ExecTerminal: DuplexStream {
  private let console: any Console
  private var reads: Bool
  private var pending: [Bytes] = []
  private var waiter: CheckedContinuation<Void, Never>?
  private var isOver = false
  private var stopResize: (@LoopActor () -> Void)?

  init(_ console: any Console, reads: Bool, resizes: Bool) {
    self.console = console
    self.reads = reads
    if resizes {
      stopResize = console.onResize { [weak self] in
        guard let self, let size = self.console.size else { return }
        self.queue(ExecMessage.resize(width: size.width, height: size.height).message)
      }
    }
    if reads { startReading() }
  }

  /// One read at a time, the next when its bytes were taken: the terminal waits when the command does not read.
  private func startReading() {
    let console = console
    spawn { [weak self] in
      let input = await console.nextInput()
      self?.took(input)
    }
  }

  private func took(_ input: Bytes?) {
    if let input { return queue(ExecMessage.stdin(input).message) }
    reads = false
    queue(ExecMessage.stdinEnd.message)
  }

  private func queue(_ message: Bytes) {
    pending.append(message)
    wake()
  }

  private func wake() {
    let waiting = waiter
    waiter = nil
    waiting?.resume()
  }

  func receive() async throws(SkerryError) -> Bytes? {
    while !isOver {
      if !pending.isEmpty {
        let message = pending.removeFirst()
        if message.first == 0, reads { startReading() }
        return message
      }
      await withCheckedContinuation { waiter = $0 }
    }
    return nil
  }

  func send(_ message: Bytes) async throws(SkerryError) {
    switch ExecMessage(message) {
    case .stdout(let bytes): console.write(bytes)
    case .stderr(let bytes): console.writeError(bytes)
    default: throw SkerryError(.protocolViolation, "the node sent a message that exec does not have")
    }
  }

  func finish() {}
  func reset(_ reason: String) { stop() }

  /// No more input and sizes.
  func stop() {
    isOver = true
    stopResize?()
    stopResize = nil
    wake()
  }
}
