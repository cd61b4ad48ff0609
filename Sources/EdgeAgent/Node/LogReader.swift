import API
import Base
import ContainerRuntime
import EventLoop
import Glibc

/// What a reader of a container's log wants.
package struct LogOptions: Sendable, Hashable {
  package var container = ""
  package var follow = false
  package var previous = false
  /// Only the last lines; nil: all that is kept.
  package var tailLines: Int?
  /// Put the time in front of each line.
  package var timestamps = false
  package init() {}
  package init(_ options: Value) {
    container = options["container"].string ?? ""
    follow = options["follow"].bool ?? false
    previous = options["previous"].bool ?? false
    tailLines = options["tailLines"].int.map { Int(clamping: max(0, $0)) }
    timestamps = options["timestamps"].bool ?? false
  }
}

/// Turns lines of a CRI log (`<time> stdout|stderr F|P <text>`) into what the container wrote. Pure.
/// Source: https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
package struct LogLines: Sendable {
  private var partial: Bytes = []
  private let timestamps: Bool
  private var continues = false
  package init(timestamps: Bool) { self.timestamps = timestamps }

  /// The text of all whole lines that `bytes` completes.
  package mutating func take(_ bytes: Bytes) -> Bytes {
    var out: Bytes = []
    partial += bytes
    var start = 0
    while let end = partial[start...].firstIndex(of: 0x0a) {
      append(partial[start..<end], to: &out)
      start = end + 1
    }
    partial.removeFirst(start)
    return out
  }

  private mutating func append(_ line: ArraySlice<UInt8>, to out: inout Bytes) {
    let fields = line.split(separator: 0x20, maxSplits: 3, omittingEmptySubsequences: false)
    guard fields.count == 4 else { return }
    if timestamps, !continues {
      out += fields[0]
      out.append(0x20)
    }
    out += fields[3]
    continues = fields[2].first == UInt8(ascii: "P")
    if !continues { out.append(0x0a) }
  }
}

/// Reads a container's log files, over rotations, as far as they go and on while the container runs.
@LoopActor package final class LogReader {
  /// Bytes read at a time.
  nonisolated static let chunk = 64 * 1024
  /// How often a followed log is looked at. Only while somebody follows it.
  static let pollInterval = Duration.milliseconds(200)

  private let path: String
  private let options: LogOptions
  private let scheduler: any Scheduler
  private let isRunning: @LoopActor () async -> Bool

  package init(
    path: String, options: LogOptions, scheduler: any Scheduler, isRunning: @escaping @LoopActor () async -> Bool
  ) {
    self.path = path
    self.options = options
    self.scheduler = scheduler
    self.isRunning = isRunning
  }

  /// Sends the log to `send` until its end; with `follow` until the container has ended.
  package func run(send: (Bytes) async throws(SkerryError) -> Void) async throws(SkerryError) {
    var lines = LogLines(timestamps: options.timestamps)
    var file = LogFile(path: path)
    defer { file.close() }
    if let count = options.tailLines {
      let text = try await tail(count)
      if !text.isEmpty { try await send(text) }
      try file.openAtEnd()
    } else {
      for old in oldFiles() { try await copy(old, &lines, send) }
      try file.open()
    }
    while true {
      // Asked before reading: what an ended container wrote is all there.
      let running = options.follow ? await isRunning() : false
      while true {
        let (bytes, next) = try await read(file)
        file = next
        if bytes.isEmpty { break }
        let text = lines.take(bytes)
        if !text.isEmpty { try await send(text) }
      }
      if file.wasRotated { continue }
      guard running else { return }
      do { try await scheduler.sleep(for: Self.pollInterval) } catch {
        throw SkerryError(.cancelled, "the log is no longer followed")
      }
    }
  }

  private func oldFiles() -> [String] {
    stride(from: 9, through: 1, by: -1).map { "\(path).\($0)" }.filter { Files.exists($0) }
  }

  private func copy(_ path: String, _ lines: inout LogLines, _ send: (Bytes) async throws(SkerryError) -> Void)
    async throws(SkerryError)
  {
    var file = LogFile(path: path)
    try file.open()
    defer { file.close() }
    while true {
      let (bytes, next) = try await read(file)
      file = next
      if bytes.isEmpty { return }
      let text = lines.take(bytes)
      if !text.isEmpty { try await send(text) }
    }
  }

  private func read(_ file: LogFile) async throws(SkerryError) -> (Bytes, LogFile) {
    do {
      return try await offload {
        var copy = file
        let bytes = try copy.read()
        return (bytes, copy)
      }
    } catch {
      throw SkerryError(.system, "the log \(path) cannot be read", cause: error)
    }
  }

  /// The text of the last lines, from as many files as it takes.
  private func tail(_ count: Int) async throws(SkerryError) -> Bytes {
    let (files, timestamps) = (oldFiles() + [path], options.timestamps)
    do {
      return try await offload {
        var text: Bytes = []
        for file in files.reversed() {
          var lines = LogLines(timestamps: timestamps)
          text = lines.take((try? Files.read(file, limit: 64 << 20)) ?? []) + text
          if text.count(where: { $0 == 0x0a }) > count { break }
        }
        return lastLines(text, count)
      }
    } catch {
      throw SkerryError(.system, "the log \(path) cannot be read", cause: error)
    }
  }
}

/// The last `count` lines of a text that ends with a line break.
private func lastLines(_ text: Bytes, _ count: Int) -> Bytes {
  guard count > 0 else { return [] }
  var seen = 0
  for index in text.indices.reversed() where text[index] == 0x0a {
    seen += 1
    if seen > count { return Bytes(text[(index + 1)...]) }
  }
  return text
}

/// An open log file and the place in it; notices when another file took its name.
private struct LogFile: Sendable {
  let path: String
  private var descriptor: Int32 = -1
  private(set) var wasRotated = false

  init(path: String) { self.path = path }

  mutating func open() throws(SkerryError) {
    descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 || errno == ENOENT else { throw Files.failure("open", path) }
  }

  mutating func openAtEnd() throws(SkerryError) {
    try open()
    if descriptor >= 0 { lseek(descriptor, 0, SEEK_END) }
  }

  /// The next bytes; empty at the end for now.
  mutating func read() throws(SkerryError) -> Bytes {
    wasRotated = false
    if descriptor < 0 { try open() }
    guard descriptor >= 0 else { return [] }
    var buffer = Bytes(repeating: 0, count: LogReader.chunk)
    let count = Glibc.read(descriptor, &buffer, buffer.count)
    guard count >= 0 else { throw Files.failure("read", path) }
    if count == 0 { followRotation() }
    return Bytes(buffer[0..<max(0, count)])
  }

  private mutating func followRotation() {
    var mine = stat()
    var named = stat()
    guard fstat(descriptor, &mine) == 0, stat(path, &named) == 0, mine.st_ino != named.st_ino else { return }
    close()
    wasRotated = true
  }

  mutating func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }
}
