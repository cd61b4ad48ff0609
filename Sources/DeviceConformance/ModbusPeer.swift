import Base
import Glibc
import Synchronization

/// A pymodbus server in a process of its own (Tests/Peers/modbus_peer.py), which ends with its standard input.
package final class ModbusPeer: Sendable {
  /// Where it listens; 0 on a serial line.
  package let port: Int
  /// The serial line's device; empty over TCP.
  package let path: String
  package let log: String
  private let pid: pid_t
  private let stdin: Int32
  private let stopped = Atomic(false)
  private let directory: String

  /// The repository: where the peer and its interpreter lie.
  package static let root: String = {
    // …/Sources/DeviceConformance/ModbusPeer.swift
    let parts = #filePath.split(separator: "/").dropLast(3)
    return "/" + parts.joined(separator: "/")
  }()
  /// The interpreter with pymodbus, made by scripts/venv.sh; another by SKERRY_PYTHON.
  package static let python: String = getenv("SKERRY_PYTHON").map { String(cString: $0) } ?? root + "/.venv/bin/python"
  package static let isAvailable = access(python, X_OK) == 0

  package struct Failure: Error { package let words: String }

  /// Starts it and waits until it listens.
  package init(arguments: [String] = []) throws {
    var template = Array("/tmp/skerry-modbus-XXXXXX".utf8CString)
    directory = template.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress, let made = mkdtemp(base) else { return "/nonexistent" }
      return String(cString: made)
    }
    log = directory + "/log"
    var (input, output): ([Int32], [Int32]) = ([0, 0], [0, 0])
    // Sockets and not pipes, since these can be made so that no other child inherits them: a peer's input ends with us.
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &input) == 0, socketpair(AF_UNIX, kind, 0, &output) == 0 else {
      throw Failure(words: "no sockets for the peer")
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, input[0], 0)
    posix_spawn_file_actions_adddup2(&actions, output[1], 1)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // Whatever the test runner's thread blocks, the peer is to hear its end.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var mask = sigset_t()
    sigemptyset(&mask)
    posix_spawnattr_setsigmask(&attributes, &mask)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    let argv = [Self.python, Self.root + "/Tests/Peers/modbus_peer.py", "--log", log] + arguments
    var raw: [UnsafeMutablePointer<CChar>?] = argv.map { strdup($0) } + [nil]
    defer { for pointer in raw { free(pointer) } }
    var child: pid_t = 0
    let status = posix_spawn(&child, Self.python, &actions, &attributes, &raw, nil)
    close(input[0])
    close(output[1])
    guard status == 0 else { throw Failure(words: "cannot start \(Self.python)") }
    (pid, stdin) = (child, input[1])
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while read(output[0], &byte, 1) == 1, byte != 10 { line.append(byte) }
    close(output[0])
    // {"port": 1502} or {"path": "/dev/pts/5"}
    let said = String(decoding: line, as: UTF8.self)
    path = said.split(separator: "\"").first { $0.hasPrefix("/") }.map(String.init) ?? ""
    port = path.isEmpty ? Int(said.filter(\.isNumber)) ?? 0 : 0
    guard port > 0 || !path.isEmpty else {
      throw Failure(words: "the peer said \(String(decoding: line, as: UTF8.self)): is pymodbus installed?")
    }
  }

  deinit { stop() }

  /// Ends it; a second call does nothing.
  package func stop() {
    guard !stopped.exchange(true, ordering: .relaxed) else { return }
    close(stdin)
    kill(pid, SIGTERM)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    unlink(log)
    rmdir(directory)
  }

  /// The requests that the peer has served: its log, a line each.
  package func served() -> [String] {
    guard let file = fopen(log, "r") else { return [] }
    defer { fclose(file) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { text += buffer[0..<count] }
    return String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
  }
}

/// A port on which nobody listens: bound and closed again.
package func unusedPort() -> Int {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  return withUnsafeMutablePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
      bind(descriptor, raw, length)
      getsockname(descriptor, raw, &length)
    }
    return Int(UInt16(bigEndian: pointer.pointee.sin_port))
  }
}
