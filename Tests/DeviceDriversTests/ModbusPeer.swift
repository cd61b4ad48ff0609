#if Devices
  import Base
  import Glibc
  import Testing

  /// A pymodbus server in a process of its own (Tests/Peers/modbus_peer.py), which ends with its standard input.
  final class ModbusPeer: Sendable {
    let port: Int
    let log: String
    private let pid: pid_t
    private let stdin: Int32
    private let directory: String

    static let root: String = {
      // …/Tests/DeviceDriversTests/ModbusPeer.swift
      let parts = #filePath.split(separator: "/").dropLast(3)
      return "/" + parts.joined(separator: "/")
    }()
    /// The interpreter with pymodbus, made by scripts/venv.sh; another by SKERRY_PYTHON.
    static let python: String = getenv("SKERRY_PYTHON").map { String(cString: $0) } ?? root + "/.venv/bin/python"
    static let isAvailable = access(python, X_OK) == 0

    struct Failure: Error { let words: String }

    init(arguments: [String] = []) throws {
      var template = Array("/tmp/skerry-modbus-XXXXXX".utf8CString)
      directory = template.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress, let made = mkdtemp(base) else { return "/nonexistent" }
        return String(cString: made)
      }
      log = directory + "/log"
      var (input, output): ([Int32], [Int32]) = ([0, 0], [0, 0])
      guard pipe(&input) == 0, pipe(&output) == 0 else { throw Failure(words: "pipe") }
      for descriptor in input + output { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
      var actions = posix_spawn_file_actions_t()
      posix_spawn_file_actions_init(&actions)
      posix_spawn_file_actions_adddup2(&actions, input[0], 0)
      posix_spawn_file_actions_adddup2(&actions, output[1], 1)
      defer { posix_spawn_file_actions_destroy(&actions) }
      let argv = [Self.python, Self.root + "/Tests/Peers/modbus_peer.py", "--log", log] + arguments
      var raw: [UnsafeMutablePointer<CChar>?] = argv.map { strdup($0) } + [nil]
      defer { for pointer in raw { free(pointer) } }
      var child: pid_t = 0
      let status = posix_spawn(&child, Self.python, &actions, nil, &raw, nil)
      close(input[0])
      close(output[1])
      guard status == 0 else { throw Failure(words: "cannot start \(Self.python)") }
      (pid, stdin) = (child, input[1])
      var line: [UInt8] = []
      var byte: UInt8 = 0
      while read(output[0], &byte, 1) == 1, byte != 10 { line.append(byte) }
      close(output[0])
      let digits = String(decoding: line, as: UTF8.self).filter(\.isNumber)
      port = Int(digits) ?? 0
      guard port > 0 else {
        throw Failure(words: "the peer said \(String(decoding: line, as: UTF8.self)): is pymodbus installed?")
      }
    }

    deinit { stop() }

    private func stop() {
      close(stdin)
      kill(pid, SIGTERM)
      var status: Int32 = 0
      waitpid(pid, &status, 0)
      unlink(log)
      rmdir(directory)
    }

    /// The requests that the peer has served: its log, a line each.
    func served() -> [String] {
      guard let file = fopen(log, "r") else { return [] }
      defer { fclose(file) }
      var text: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 65536)
      while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { text += buffer[0..<count] }
      return String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
    }
  }

  /// A port on which nobody listens: bound and closed again.
  func unusedPort() -> Int {
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
#endif
