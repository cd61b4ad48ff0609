import Base
import EventLoop
import Glibc
import Identity
import Synchronization
import Testing

/// What this process asks of the file system while it is recorded: `sync a.new`, `rename a.new a`, `link a.new a`.
///
/// The functions below stand before the C library's for whatever is linked into this program.
private enum Recorder {
  static let calls = Mutex<[String]?>(nil)

  static func note(_ call: @autoclosure () -> String) {
    calls.withLock { if $0 != nil { $0?.append(call()) } }
  }

  static func original(_ name: String) -> UnsafeMutableRawPointer {
    // RTLD_NEXT, a cast that Swift does not import.
    guard let found = dlsym(UnsafeMutableRawPointer(bitPattern: -1), name) else {
      preconditionFailure("the C library has no \(name)")
    }
    return found
  }

  static func path(_ descriptor: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/fd/\(descriptor)", &buffer, buffer.count)
    return String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

private typealias OneDescriptor = @convention(c) (Int32) -> Int32
private typealias TwoNames = @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>) -> Int32

@_cdecl("fsync") public func recordedSync(_ descriptor: Int32) -> Int32 {
  Recorder.note("sync \(Recorder.path(descriptor))")
  return unsafeBitCast(Recorder.original("fsync"), to: OneDescriptor.self)(descriptor)
}

@_cdecl("rename") public func recordedRename(_ old: UnsafePointer<CChar>, _ new: UnsafePointer<CChar>) -> Int32 {
  Recorder.note("rename \(String(cString: old)) \(String(cString: new))")
  return unsafeBitCast(Recorder.original("rename"), to: TwoNames.self)(old, new)
}

@_cdecl("link") public func recordedLink(_ old: UnsafePointer<CChar>, _ new: UnsafePointer<CChar>) -> Int32 {
  Recorder.note("link \(String(cString: old)) \(String(cString: new))")
  return unsafeBitCast(Recorder.original("link"), to: TwoNames.self)(old, new)
}

/// Files that are not SQLite's: written beside their place, synced, renamed, and then the directory is synced.
@Suite struct DurableFilesTests {
  /// The calls of `body` with the directory's path taken out; draft names of processes are shown as `N.new`.
  private func calls(_ directory: String, _ body: () throws -> Void) throws -> [String] {
    Recorder.calls.withLock { $0 = [] }
    defer { Recorder.calls.withLock { $0 = nil } }
    try body()
    return Recorder.calls.withLock { $0 ?? [] }.map {
      $0.replacing(directory, with: "").replacing("\(getpid()).new", with: "N.new")
    }
  }

  private func inDirectory(_ body: (String) async throws -> Void) async throws {
    let path = "/tmp/skerry-durable-\(SystemRandom().bytes(8).hex)"
    try Files.makeDirectory(path)
    defer { try? Files.removeTree(path) }
    try await body(path)
  }

  @Test func filesAreReplacedDurably() async throws {
    try await inDirectory { directory in
      let calls = try calls(directory) {
        try Files.writeDurably("\(directory)/a", [1])
        try Files.rename("\(directory)/a", to: "\(directory)/b")
        try PrivateFile.write([1], path: "\(directory)/key")
        try PrivateFile.write([2], path: "\(directory)/other", replacing: false)
      }
      #expect(
        calls == [
          "sync /a.new", "rename /a.new /a", "sync ", "rename /a /b", "sync ",
          "sync /key.N.new", "rename /key.N.new /key", "sync ",
          "sync /other.N.new", "link /other.N.new /other", "sync ",
        ])
    }
  }

  @Test func directoriesOfDatabasesAreMadeDurably() async throws {
    try await inDirectory { directory in
      let calls = try calls(directory) { try Files.makeDirectory("\(directory)/a/b", durably: true) }
      #expect(calls == ["sync ", "sync /a"])
    }
  }
}
