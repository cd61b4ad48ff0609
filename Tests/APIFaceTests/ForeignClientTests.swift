import API
import APIFace
import Base
import EventLoop
import Foundation
import ObjectModel
import Testing
import Transport
import Wire

/// A client in another language, written from proto-spec alone, against the face on a real socket.
@Suite(.timeLimit(.minutes(2))) struct ForeignClientTests {
  @Test func aClientWrittenFromTheSpecAloneIsServed() async throws {
    let directory = try #require(Self.temporaryDirectory())
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let script = "/\(root)/Tests/ForeignClient/face_script.py"
    let result = try await onLoop {
      let path = directory + "/api.sock"
      let service = APIService(api: Self.world(), scheduler: Loop.startShared())
      let listener = try UnixListener.listen(path: path) { stream in
        let session = Session(
          stream: stream, role: .server, hello: .null, scheduler: Loop.startShared(), random: SystemRandom())
        service.attach(session, caller: Caller(user: "jane", groups: [], node: nil, origin: .edgeSocket))
        session.start()
      }
      defer { listener.close() }
      return try await Subprocess.run(["python3", script, path], deadline: .seconds(90))
    }
    #expect(result.status == .exited(0), "\(result.outputText)\(result.errorText)")
    #expect(result.outputText.hasSuffix("done\n"))
  }

  /// A directory whose path is short enough for a socket.
  static func temporaryDirectory() -> String? {
    let path = NSTemporaryDirectory() + "/sk-" + SystemRandom().bytes(4).hex
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }

  /// 50 pods; as soon as the ConfigMap `go` is made, one of them changes 3,000 times.
  @LoopActor static func world() -> FakeAPI {
    let api = FakeAPI()
    for number in 0..<50 {
      let name = "p" + (number < 10 ? "0" : "") + String(number)
      api.put(
        ObjectReference(resource: "pods", namespace: "default", name: name),
        ["kind": "Pod", "spec": ["n": .int(Int64(number))], "status": ["phase": "Running"]])
    }
    api.onCreate = { [weak api] reference in
      guard reference.name == "go" else { return }
      for number in 0..<3_000 {
        let filler = Value.string(String(repeating: "y", count: 1_000))
        api?.put(
          ObjectReference(resource: "pods", namespace: "default", name: "p00"),
          ["kind": "Pod", "spec": ["n": .int(Int64(number)), "filler": filler]])
      }
    }
    return api
  }
}
