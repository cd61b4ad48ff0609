import Base
import EventLoop
import Glibc
import Testing

@Suite struct ProcessSettingsTests {
  @Test func theCommandLineStandsOverTheFile() throws {
    var template = Array("/tmp/skerry-settings-XXXXXX".utf8CString)
    let descriptor = template.withUnsafeMutableBufferPointer { buffer in buffer.baseAddress.map { mkstemp($0) } ?? -1 }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { unlink(path) }
    let text = "# the node's\nsocket: /run/a.sock\nlog-level: debug\n"
    #expect(write(descriptor, text, text.utf8.count) == text.utf8.count)
    close(descriptor)
    var settings = try Settings(arguments: ["--config", path, "--socket=/run/b.sock", "--data", "/d", "--set", "a=b=c"])
    #expect(try settings.string("socket") == "/run/b.sock")
    #expect(try settings.string("log-level") == "debug")
    #expect(try settings.string("data") == "/d")
    #expect(try settings.string("a") == "b=c")
    try settings.finish()
  }

  @Test func mistakesAreToldInWords() throws {
    for (arguments, words) in [
      (["socket"], "unexpected argument socket"), (["--socket"], "--socket needs a value"),
      (["--config", "/nonexistent/file"], "/nonexistent/file"), (["--set", "x"], "--set takes KEY=VALUE, not \"x\""),
      (["--"], "unexpected argument --"),
    ] {
      let error = #expect(throws: SkerryError.self) { try Settings(arguments: arguments) }
      #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }
    var settings = try Settings(arguments: ["--colour", "red"])
    _ = try settings.string("socket")
    let error = #expect(throws: SkerryError.self) { try settings.finish() }
    #expect(error?.message.contains("colour") == true)
  }
}
