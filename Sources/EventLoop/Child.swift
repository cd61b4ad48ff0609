import Base
import CLibUV
import Glibc

/// A running child process. libuv keeps it until it has exited.
@LoopActor package final class Child: HandleOwner {
  package let pid: Int32
  package let program: String
  /// Set when it has ended.
  package private(set) var exitStatus: ExitStatus?
  /// Our ends of the descriptors that were asked for as `.pipe`, by the child's number; they start paused.
  package let pipes: [Int: any ByteStream]
  package var stdin: (any ByteStream)? { pipes[0] }
  package var stdout: (any ByteStream)? { pipes[1] }
  package var stderr: (any ByteStream)? { pipes[2] }

  private let handle: UnsafeMutablePointer<uv_process_t>
  private var onExit: ((ExitStatus) -> Void)?

  init(
    _ handle: UnsafeMutablePointer<uv_process_t>, program: String, ends: [Int: Int32],
    onExit: @escaping (ExitStatus) -> Void
  ) {
    self.handle = handle
    self.program = program
    self.onExit = onExit
    pid = handle.pointee.pid
    // A descriptor that libuv refuses is closed by `open`: the child then finds its pipe broken.
    var pipes: [Int: any ByteStream] = [:]
    for (number, descriptor) in ends {
      pipes[number] = try? DescriptorStream.open(descriptor, name: "\(program)[\(pid)] descriptor \(number)")
    }
    self.pipes = pipes
    handle.cast(to: uv_handle_t.self).retain(self)
  }

  /// Sends a signal; nothing once it has exited, so that no stranger who got the number is hit.
  package func kill(_ signal: Int32) {
    if exitStatus == nil { uv_process_kill(handle, signal) }
  }

  /// Sends a signal to the process group that a detached child leads.
  package func killGroup(_ signal: Int32) {
    if exitStatus == nil { uv_kill(-pid, signal) }
  }

  fileprivate func exited(_ status: ExitStatus) {
    exitStatus = status
    closeHandle(handle, owner: self)
    let action = onExit
    onExit = nil
    action?(status)
  }

  func handleDidClose() {}
}

func childExited(_ handle: UnsafeMutablePointer<uv_process_t>?, _ code: Int64, _ signal: Int32) {
  let child: Child = owner(handle?.pointee.data)
  let status: ExitStatus = signal != 0 ? .signalled(signal) : .exited(Int32(truncatingIfNeeded: code))
  LoopActor.entered { child.exited(status) }
}

/// The descriptors of a child that is about to start. Pipes are real pipes, not libuv's socket pairs: programs may
/// open them again by way of /dev/stdout.
@LoopActor struct Plumbing {
  /// Ours, by the child's number.
  private(set) var ownEnds: [Int: Int32] = [:]
  var containers: [uv_stdio_container_t] = []
  private var childEnds: [Int32] = []

  mutating func connect(_ ends: [StdioEnd]) throws(SkerryError) {
    for (number, end) in ends.enumerated() {
      switch end {
      case .null: add(UV_IGNORE, -1)
      case .inherit: add(UV_INHERIT_FD, Int32(number))
      case .fd(let descriptor): add(UV_INHERIT_FD, descriptor)
      case .pipe:
        var pair: [Int32] = [-1, -1]
        let status = uv_pipe(&pair, 0, 0)
        guard status == 0 else { throw SkerryError(uv: status, "cannot make a pipe") }
        // The child reads from its descriptor 0 and writes to all others.
        let (own, childs) = number == 0 ? (pair[1], pair[0]) : (pair[0], pair[1])
        ownEnds[number] = own
        childEnds.append(childs)
        add(UV_INHERIT_FD, childs)
      }
    }
  }

  private mutating func add(_ flags: uv_stdio_flags, _ descriptor: Int32) {
    var container = uv_stdio_container_t()
    container.flags = flags
    container.data.fd = descriptor
    containers.append(container)
  }

  func closeChildEnds() { for descriptor in childEnds { close(descriptor) } }
  func closeOwnEnds() { for descriptor in ownEnds.values { close(descriptor) } }
}

/// A null-terminated array of C strings, as exec wants it.
final class CStrings {
  let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  private let count: Int
  init(_ strings: [String]) {
    count = strings.count
    pointers = .allocate(capacity: count + 1)
    for (index, string) in strings.enumerated() { (pointers + index).initialize(to: strdup(string)) }
    (pointers + count).initialize(to: nil)
  }
  deinit {
    for index in 0..<count { free(pointers[index]) }
    pointers.deallocate()
  }
}
