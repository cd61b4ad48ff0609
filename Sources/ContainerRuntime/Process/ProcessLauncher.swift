import Base
import EventLoop
import Glibc
import ObjectModel

/// Processes of the machine in the place of containers, for where there are no privileges.
///
/// conmon keeps their output and exit code exactly as it does for runc's containers: the "runtime" it calls is a
/// small shell script, which leaves a process waiting at a FIFO. The process leads a session of its own and carries
/// a mark in its environment, by which its children are found when it is killed.
@LoopActor final class ProcessLauncher: Launcher {
  private let layout: RuntimeLayout
  private let scheduler: any Scheduler

  init(_ layout: RuntimeLayout, scheduler: any Scheduler) {
    self.layout = layout
    self.scheduler = scheduler
  }

  /// In the environment of a container's processes: the container's token.
  nonisolated static let mark = "SKERRY_PROCESS"

  /// Not in shared memory, from where machines may forbid to run programs; it holds nothing secret.
  var runtimeProgram: String { "\(layout.root)/create" }
  var runtimeArguments: [String] { [] }

  /// Called as `create --bundle B --pid-file P ID`. The process is a child that this script leaves to conmon, which
  /// adopts orphans. It opens the FIFO for reading and writing: an open for reading alone would block it in the
  /// kernel where no shell trap runs.
  nonisolated static let script = """
    #!/bin/sh
    bundle= pid=
    while [ $# -gt 0 ]; do
      case "$1" in
        --bundle) bundle=$2; shift ;;
        --pid-file) pid=$2; shift ;;
      esac
      shift
    done
    [ -p "$bundle/go" ] || mkfifo -m 600 "$bundle/go" || exit 1
    setsid sh "$bundle/run" &
    echo $! >"$pid"

    """

  /// Makes the script that conmon calls, and the directory for bundles, which only we may read.
  func begin() async throws(SkerryError) {
    let (program, layout) = (runtimeProgram, layout)
    try await blocking { () throws(SkerryError) in
      try Files.makeDirectory(layout.volatile, mode: 0o700)
      var info = stat()
      // Shared memory is open to all: somebody else may have made a directory of that name to read along.
      guard lstat(layout.volatile, &info) == 0, info.st_mode & S_IFMT == S_IFDIR, info.st_uid == getuid(),
        info.st_mode & 0o077 == 0
      else {
        throw SkerryError(.system, "\(layout.volatile) is not a directory of ours alone; remove it")
      }
      try Files.makeDirectory(layout.bundles, mode: 0o700)
      try Files.write(program, Self.script, mode: 0o700)
    }
  }

  func prepare(_ config: ContainerConfig, _ record: ContainerRecord) async throws(SkerryError) {
    guard let name = config.command.first else {
      throw SkerryError(
        .invalidArgument,
        "container \(config.name): the process runtime runs programs of this machine, so the pod must name a command")
    }
    let program = name.contains("/") ? name : Tool.find(name) ?? name
    let (bundle, enter) = (layout.bundle(record.id), Self.enter(config, token: record.token))
    let run = Self.run([program] + config.command.dropFirst() + config.arguments)
    try await blocking { () throws(SkerryError) in
      try Files.makeDirectory(bundle, mode: 0o700)
      try Files.write("\(bundle)/enter", enter, mode: 0o600)
      try Files.write("\(bundle)/run", run, mode: 0o600)
      // conmon looks for a configuration file, though it does not read it.
      try Files.write("\(bundle)/config.json", "{}", mode: 0o600)
    }
    programs[record.id] = program
  }

  /// Becomes its arguments, with the container's environment and directory.
  private static func enter(_ config: ContainerConfig, token: String) -> String {
    var words = ["env", "-i", "PATH=\(Tool.searchPath)", "\(mark)=\(token)"]
    words += config.environment.map { "\($0.key)=\($0.value)" }
    let directory = config.workingDirectory.isEmpty ? "/" : config.workingDirectory
    return "cd \(quoted(directory)) || exit 128\nexec \(words.map(quoted).joined(separator: " ")) \"$@\"\n"
  }

  /// The process before its start: it waits at the FIFO and becomes the program.
  private static func run(_ argv: [String]) -> String {
    """
    bundle=${0%/run}
    read -r word 3<>"$bundle/go" <&3
    rm -f "$bundle/go"
    exec sh "$bundle/enter" \(argv.map(quoted).joined(separator: " "))

    """
  }

  /// One word of the shell, whatever is in it.
  nonisolated static func quoted(_ word: String) -> String {
    "'\(word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''"))'"
  }

  func start(_ record: ContainerRecord) async throws(SkerryError) {
    let fifo = "\(layout.bundle(record.id))/go"
    let program = try await program(of: record)
    guard access(program, X_OK) == 0, !Files.isDirectory(program) else {
      throw SkerryError(.notFound, "\(program) is not a program of this machine")
    }
    let file = open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC)
    guard file >= 0 else { throw Files.failure("open", fifo) }
    // The bytes go with the last who has the FIFO open: it stays open until the process has read and removed it.
    defer { close(file) }
    guard write(file, "go\n", 3) == 3 else { throw Files.failure("write", fifo) }
    let started = try await poll(scheduler, every: .milliseconds(2), rounds: Self.startPolls) {
      () throws(SkerryError) in !Files.exists(fifo)
    }
    guard started else { throw SkerryError(.timeout, "the process did not start within 10 seconds") }
  }

  private nonisolated static let startPolls = 5_000

  private func program(of record: ContainerRecord) async throws(SkerryError) -> String {
    guard let program = programs[record.id] else {
      throw SkerryError(.internal, "container \(record.id) was not prepared")
    }
    return program
  }
  private var programs: [String: String] = [:]

  func hasStarted(_ record: ContainerRecord) async throws(SkerryError) -> Bool {
    !Files.exists("\(layout.bundle(record.id))/go")
  }

  func signal(_ record: ContainerRecord, _ signal: Int32) async throws(SkerryError) {
    guard let pid = record.pid, Processes.isAlive(pid, startTicks: record.startTicks) else { return }
    // The stop signal goes to the first process, as in a container; SIGKILL to all that it started.
    guard signal == SIGKILL else {
      kill(pid, signal)
      return
    }
    kill(-pid, SIGKILL)
    let mark = "\(Self.mark)=\(record.token)"
    try await Processes.killMarked(mark, scheduler)
  }

  func discard(id: String) async throws(SkerryError) {
    programs[id] = nil
    let bundle = layout.bundle(id)
    let token = try await blocking { () throws(SkerryError) -> String? in
      let script = Files.readText("\(bundle)/enter") ?? ""
      guard let range = script.firstRange(of: "'\(Self.mark)=") else { return nil }
      return String(script[range.upperBound...].prefix { $0 != "'" })
    }
    if let token { try await Processes.killMarked("\(Self.mark)=\(token)", scheduler) }
    try await blocking { () throws(SkerryError) in try Files.removeTree(bundle) }
  }

  func execArguments(_ record: ContainerRecord, _ request: ExecRequest) -> [String] {
    ["sh", "\(layout.bundle(record.id))/enter"] + request.command
  }

  func knownIDs() async throws(SkerryError) -> [String] { Files.list(layout.bundles) }
}
