import Base
import EventLoop
import EventLoopConformance
import Glibc
import Testing

/// Waits for the first connection of a listener.
@LoopActor func accepted(_ listener: StreamListener) async -> any ByteStream {
  await withCheckedContinuation { continuation in
    listener.onAccept = { stream in
      listener.onAccept = nil
      continuation.resume(returning: stream)
    }
  }
}

/// A path for one socket in a directory of its own, which goes with the body.
@LoopActor func withSocketPath(_ body: @LoopActor (String) async throws -> Void) async throws {
  var template = Array("/tmp/skerry-test-XXXXXX".utf8CString)
  let directory = try #require(mkdtemp(&template).map { String(cString: $0) })
  defer {
    unlink(directory + "/s")
    rmdir(directory)
  }
  try await body(directory + "/s")
}

@Suite struct StreamTests {
  @Test func tcpConforms() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      let suite = StreamConformance(on: loop) {
        let client = try await TCPStream.connect(to: HostPort(host: "localhost", port: listener.boundPort))
        return (client, await accepted(listener))
      }
      try await suite.runAll()
      listener.close()
    }
  }

  @Test func tcpConformsOverIPv6() async throws {
    try await onLoop {
      let listener = try TCPListener.listen(host: "::1", port: 0)
      let suite = StreamConformance(on: Loop.startShared()) {
        let client = try await TCPStream.connect(to: HostPort("[::1]:\(listener.boundPort)"))
        return (await accepted(listener), client)
      }
      try await suite.carriesBytesBothWays()
      listener.close()
    }
  }

  @Test func unixSocketsConform() async throws {
    try await onLoop {
      try await withSocketPath { path in
        let listener = try UnixListener.listen(path: path)
        let suite = StreamConformance(on: Loop.startShared()) {
          let client = try await UnixStream.connect(path: path)
          return (client, await accepted(listener))
        }
        try await suite.runAll()
        listener.close()
        #expect(access(path, F_OK) != 0)
      }
    }
  }

  @Test func memoryStreamsConform() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let suite = StreamConformance(on: loop) {
        let pair = MemoryStream.pair(on: loop)
        return (pair.first, pair.second)
      }
      try await suite.runAll()
      let delayed = StreamConformance(on: loop) {
        let pair = MemoryStream.pair(on: loop, capacity: 1 << 20)
        pair.first.delay = .milliseconds(1)
        return (pair.first, pair.second)
      }
      try await delayed.runAll()
    }
  }

  @Test func aResetMemoryLinkClosesBothEndsWithAnError() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let pair = MemoryStream.pair(on: loop)
      let (a, b) = (StreamProbe(pair.first, on: loop), StreamProbe(pair.second, on: loop))
      pair.first.reset()
      try await a.wait("the close") { $0.closed }
      try await b.wait("the close") { $0.closed }
      #expect(a.error != nil && b.error != nil)
    }
  }

  @Test func aBlackHoleSwallowsSilently() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let pair = MemoryStream.pair(on: loop, capacity: 10)
      let (a, b) = (StreamProbe(pair.first, on: loop), StreamProbe(pair.second, on: loop))
      pair.first.isBlackHole = true
      pair.first.write(Bytes(repeating: 1, count: 30))
      pair.first.close()
      try await a.wait("the close") { $0.closed }
      for _ in 0..<20 { try await loop.sleep(for: .zero) }
      #expect(b.received.isEmpty && !b.ended && !b.closed)
      pair.second.close()
      try await b.wait("the close") { $0.closed }
    }
  }

  @Test func peersOfAUnixSocketAreKnownFromTheKernel() async throws {
    try await onLoop {
      try await withSocketPath { path in
        let listener = try UnixListener.listen(path: path)
        let client = try await UnixStream.connect(path: path)
        let server = await accepted(listener)
        #expect(server.peer.credentials == UnixCredentials(pid: getpid(), uid: getuid(), gid: getgid()))
        var info = stat()
        stat(path, &info)
        #expect(info.st_mode & 0o777 == 0o600)
        client.close()
        server.close()
        listener.close()
      }
    }
  }

  @Test func aStaleSocketFileIsReplacedAndALiveOneIsNot() async throws {
    try await onLoop {
      try await withSocketPath { path in
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
          }
        }
        #expect(bound == 0)
        close(descriptor)
        let listener = try UnixListener.listen(path: path)
        #expect(throws: SkerryError.self) { try UnixListener.listen(path: path) }
        let client = try await UnixStream.connect(path: path)
        client.close()
        listener.close()
      }
    }
  }

  @Test func aSocketPathThatIsTooLongIsRefusedWithItsLength() async throws {
    let path = "/tmp/" + String(repeating: "x", count: 120)
    let message = try await onLoop {
      do throws(SkerryError) {
        _ = try UnixListener.listen(path: path)
        return ""
      } catch {
        return error.message
      }
    }
    #expect(message.contains("125 bytes"))
  }

  @Test func aPortInUseIsNamed() async throws {
    try await onLoop {
      let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      let error = #expect(throws: SkerryError.self) {
        _ = try TCPListener.listen(host: "127.0.0.1", port: listener.boundPort)
      }
      #expect(error?.code == .alreadyExists)
      #expect(error?.message.contains("in use") == true)
      listener.close()
    }
  }

  @Test func nobodyListeningIsUnavailable() async throws {
    try await onLoop {
      let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
      let port = listener.boundPort
      listener.close()
      let error = await #expect(throws: SkerryError.self) {
        _ = try await TCPStream.connect(to: HostPort(host: "127.0.0.1", port: port))
      }
      #expect(error?.code == .unavailable)
      let unknown = await #expect(throws: SkerryError.self) {
        _ = try await TCPStream.connect(to: HostPort(host: "no-such-host.invalid", port: 1))
      }
      #expect(unknown?.code == .unavailable)
    }
  }

  @Test func aConnectAttemptIsCancelledWithItsTask() async throws {
    try await onLoop {
      // TEST-NET-1 answers nobody (RFC 5737); where a network refuses it at once the error is another one.
      let task = spawn { () -> SkerryError? in
        do throws(SkerryError) {
          _ = try await TCPStream.connect(to: HostPort(host: "192.0.2.1", port: 9), timeout: .seconds(30))
          return nil
        } catch {
          return error
        }
      }
      // A few turns, so that the attempt is under way.
      for _ in 0..<5 { try await Loop.startShared().sleep(for: .zero) }
      task.cancel()
      let error = await task.value
      #expect(error != nil && error?.code != .timeout)
    }
  }

  @Test func datagramsGoAndCome() async throws {
    try await onLoop {
      let (a, b) = (try UDPSocket(host: "127.0.0.1", port: 0), try UDPSocket(host: "127.0.0.1", port: 0))
      let sent = Bytes(repeating: 7, count: 1200)
      let (bytes, sender) = await withCheckedContinuation { continuation in
        b.onReceive = { continuation.resume(returning: (Bytes($0), $1)) }
        #expect(a.send(sent, to: b.address))
      }
      #expect(bytes == sent)
      #expect(sender == a.address)
      a.close()
      b.close()
    }
  }

  @Test func signalsArriveOnTheLoop() async throws {
    try await onLoop {
      let loop = Loop.startShared()
      let onTheLoop = await withCheckedContinuation { continuation in
        var watch: SignalWatch?
        watch = Signals.on(SIGUSR2) {
          watch?.cancel()
          continuation.resume(returning: loop.isCurrent)
        }
        kill(getpid(), SIGUSR2)
      }
      #expect(onTheLoop)
    }
  }

  @Test(arguments: [
    ("10.0.0.7:443", "10.0.0.7", 443), ("[::1]:7", "::1", 7), ("hub.example:65535", "hub.example", 65535),
  ])
  func hostAndPortAreRead(_ text: String, _ host: String, _ port: Int) throws {
    let parsed = try HostPort(text)
    #expect(parsed.host == host && parsed.port == port)
    #expect(parsed.description == text)
  }

  @Test(arguments: ["", "host", "host:", ":1", "::1:7", "[::1]", "host:65536", "host:-1", "[host:1"])
  func malformedHostAndPortIsRefused(_ text: String) {
    #expect(throws: SkerryError.self) { try HostPort(text) }
  }
}
