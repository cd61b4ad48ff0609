import Base
import Glibc

/// A simulator process of our own and what it prints.
final class ChildOutput {
  private let process: pid_t
  private let output: Int32
  private var text: Bytes = []

  /// Starts this program again with other arguments.
  init(_ arguments: [String]) throws(SkerryError) {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else {
      throw SkerryError(.system, "cannot make a pipe: \(String(cString: strerror(errno)))")
    }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    defer { posix_spawn_file_actions_destroy(&actions) }
    var raw: [UnsafeMutablePointer<CChar>?] = (["skerry-simulate"] + arguments).map { strdup($0) }
    defer { for word in raw { free(word) } }
    raw.append(nil)
    var started: pid_t = 0
    let code = posix_spawn(&started, "/proc/self/exe", &actions, nil, raw, environ)
    close(ends[1])
    guard code == 0 else {
      close(ends[0])
      throw SkerryError(.system, "cannot start a worker: \(String(cString: strerror(code)))")
    }
    process = started
    output = ends[0]
  }

  deinit { close(output) }

  /// Waits until some of them have something to say, and tells which.
  static func ready(_ children: [ChildOutput]) -> [Int] {
    var polls = children.map { pollfd(fd: $0.output, events: Int16(POLLIN), revents: 0) }
    _ = poll(&polls, nfds_t(polls.count), -1)
    return polls.indices.filter { polls[$0].revents != 0 }
  }

  /// Whole lines that came; nil at the end.
  func read() -> [String]? {
    var buffer = Bytes(repeating: 0, count: 65_536)
    let count = Glibc.read(output, &buffer, buffer.count)
    guard count > 0 else { return nil }
    text += buffer[0..<count]
    var lines: [String] = []
    while let end = text.firstIndex(of: 0x0a) {
      lines.append(String(decoding: text[..<end], as: UTF8.self))
      text.removeSubrange(...end)
    }
    return lines
  }

  /// The status that it ended with: 0 is well.
  func wait() -> Int32 {
    var status: Int32 = 0
    waitpid(process, &status, 0)
    return status
  }
}
