import Base
import CLibUV
import Glibc

/// How a process ended.
package enum ExitStatus: Sendable, Hashable, CustomStringConvertible {
  case exited(Int32)
  case signalled(Int32)
  package var isSuccess: Bool { self == .exited(0) }
  package var description: String {
    switch self {
    case .exited(let code): "exit status \(code)"
    case .signalled(let signal): "killed by signal \(signal)"
    }
  }
}

/// What a child's descriptor is joined to.
package enum StdioEnd: Sendable, Hashable {
  /// /dev/null; as an extra descriptor: closed.
  case null
  /// Ours of the same number.
  case inherit
  /// That descriptor of ours, which stays ours to close.
  case fd(Int32)
  /// A pipe whose other end is a stream of the `Child`.
  case pipe
}

/// Child processes.
@LoopActor package enum Subprocess {
  /// Starts a program and does not wait for it.
  ///
  /// - Parameters:
  ///   - argv: the program, looked up in PATH if it has no slash, and its arguments.
  ///   - environment: all of the child's environment; ours if nil.
  ///   - extra: what the child finds at descriptors 3, 4, …
  ///   - detached: a session and process group of its own, so that signals to ours do not reach it.
  ///   - uid: the user to become (it drops all supplementary groups); needs root.
  ///   - onExit: called once, in a later turn.
  package static func spawn(
    _ argv: [String], environment: [String: String]? = nil, directory: String? = nil, stdin: StdioEnd = .null,
    stdout: StdioEnd = .null, stderr: StdioEnd = .null, extra: [StdioEnd] = [], detached: Bool = false,
    uid: UInt32? = nil, gid: UInt32? = nil, onExit: @escaping (ExitStatus) -> Void
  ) throws(SkerryError) -> Child {
    guard let program = argv.first else { throw SkerryError(.invalidArgument, "no program to start was given") }
    var plumbing = Plumbing()
    defer { plumbing.closeChildEnds() }
    do {
      try plumbing.connect([stdin, stdout, stderr] + extra)
    } catch {
      plumbing.closeOwnEnds()
      throw error
    }
    let arguments = CStrings(argv)
    let variables = environment.map { CStrings($0.map { "\($0)=\($1)" }.sorted()) }
    let file = CStrings([program, directory ?? ""])
    var options = uv_process_options_t()
    options.exit_cb = childExited
    options.file = UnsafePointer(file.pointers[0])
    options.args = arguments.pointers
    options.env = variables?.pointers ?? skerry_environment()
    if directory != nil { options.cwd = UnsafePointer(file.pointers[1]) }
    if detached { options.flags |= UV_PROCESS_DETACHED.rawValue }
    if let uid {
      options.flags |= UV_PROCESS_SETUID.rawValue
      options.uid = uid
    }
    if let gid {
      options.flags |= UV_PROCESS_SETGID.rawValue
      options.gid = gid
    }
    let process = allocated(uv_process_t())
    let status = plumbing.containers.withUnsafeMutableBufferPointer { containers in
      options.stdio = containers.baseAddress
      options.stdio_count = Int32(containers.count)
      return withExtendedLifetime((arguments, variables, file)) { uv_spawn(Loop.current.uv, process, &options) }
    }
    guard status == 0 else {
      plumbing.closeOwnEnds()
      closeHandle(process, owner: Forgotten.shared)
      throw SkerryError(uv: status, "cannot start \(program)\(directory.map { " in \($0)" } ?? "")")
    }
    return Child(process, program: program, ends: plumbing.ownEnds, onExit: onExit)
  }
}
