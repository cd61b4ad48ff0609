import Base
import EventLoop
import Glibc
import ObjectLog
import Store

/// A directory of one test; it goes when the test is over.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/skerry-log-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SkerryError(.system, "mkdtemp failed") }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit {
    guard let directory = opendir(path) else { return }
    while let item = readdir(directory) {
      let name = withUnsafeBytes(of: item.pointee.d_name) { raw in
        String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != "." && name != ".." { unlink("\(path)/\(name)") }
    }
    closedir(directory)
    rmdir(path)
  }

  var log: String { path + "/log.db" }
}

func testScheduler() -> any Scheduler { Loop.startShared() }

func readFile(_ path: String) throws -> Bytes {
  let descriptor = open(path, O_RDONLY)
  guard descriptor >= 0 else { throw SkerryError(.system, "cannot open \(path)") }
  defer { close(descriptor) }
  var (bytes, buffer) = (Bytes(), Bytes(repeating: 0, count: 1 << 16))
  while true {
    let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else { return bytes }
    bytes += buffer.prefix(count)
  }
}

extension SQLiteObjectLog {
  func append(_ changes: [Change]) async -> [ChangeResult] {
    await withCheckedContinuation { continuation in append(changes) { continuation.resume(returning: $0) } }
  }

  func put(_ key: String, _ body: Bytes, seal: Bool = false) async -> ChangeResult {
    let change = Change(key: key, guarding: .any, operation: .put(body: body, status: nil, meta: [1]), seal: seal)
    return await append([change])[0]
  }
}

extension ChangeResult {
  var revision: UInt64? { if case .applied(let revision) = self { revision } else { nil } }
  var error: SkerryError? { if case .failed(let error) = self { error } else { nil } }
}
