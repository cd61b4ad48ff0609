import Base
import EventLoop
import EventLoopConformance
import Identity
import Synchronization
import Testing
import Transport

/// An authority and certificates from it, for one test.
@LoopActor struct TLSFixture {
  static let main = TLSProtocol("skerry/1")
  static let join = TLSProtocol("skerry-join/1", requiresClientCertificate: false, presentsRoot: true)

  let loop = Loop.startShared()
  let authority: CertificateAuthority
  let random: any RandomSource = SystemRandom()
  private let serverCredentials: TLSCredentials

  init(serverNames: [String] = ["localhost"], addresses: [String] = ["127.0.0.1"]) throws {
    authority = try CertificateAuthority.create(
      commonName: "test", lifetime: .seconds(3600), now: loop.wall, random: random)
    let key = try KeyPair.generate()
    let leaf = try authority.issue(
      publicKey: key.publicKey, subject: CertificateSubject(commonName: "cloudcore"), dnsNames: serverNames,
      ipAddresses: addresses, usage: .server, lifetime: .seconds(1800), now: loop.wall, random: random)
    serverCredentials = TLSCredentials(certificatePEM: leaf.pem + authority.certificate.pem, keyPEM: key.pem)
  }

  /// Looks at each turn of the loop whether `condition` holds, at most for 20 s.
  func until(_ what: String, _ condition: @LoopActor () -> Bool) async throws {
    let end = loop.now + .seconds(20)
    while !condition() {
      if loop.now > end { throw SkerryError(.timeout, "waited in vain until \(what)") }
      try await loop.sleep(for: .zero)
    }
  }

  var authorityPEM: String { authority.certificate.pem }

  func credentials(node: String) throws -> TLSCredentials {
    let key = try KeyPair.generate()
    let leaf = try authority.issue(
      publicKey: key.publicKey, subject: .node(node), usage: .client, lifetime: .seconds(600), now: loop.wall,
      random: random)
    return TLSCredentials(certificatePEM: leaf.pem, keyPEM: key.pem)
  }

  func server(_ protocols: [TLSProtocol] = [main, join]) throws -> TLSContext {
    try .server(credentials: serverCredentials, clientAuthorities: authorityPEM, protocols: protocols)
  }

  func client(_ node: String = "n1", alpn: [String] = ["skerry/1"]) throws -> TLSContext {
    try .client(credentials: credentials(node: node), trust: .authority(authorityPEM), alpn: alpn)
  }

  /// Both ends of a handshake over memory; each as it went.
  func shake(
    _ server: TLSContext, _ client: TLSContext, name: String? = "localhost", capacity: Int = 64 * 1024,
    clientClock: (any Scheduler)? = nil
  ) async -> (server: Result<TLSStream, SkerryError>, client: Result<TLSStream, SkerryError>) {
    let pair = MemoryStream.pair(on: loop, capacity: capacity)
    let loop = loop
    let accepting = spawn { await Self.result(pair.first, server, nil, loop) }
    let dialling = await Self.result(pair.second, client, name, clientClock ?? loop)
    return (await accepting.value, dialling)
  }

  private static func result(
    _ transport: MemoryStream, _ context: TLSContext, _ name: String?, _ clock: any Scheduler
  ) async -> Result<TLSStream, SkerryError> {
    do throws(SkerryError) {
      return .success(
        try await TLSStream.handshake(over: transport, context: context, serverName: name, scheduler: clock))
    } catch {
      return .failure(error)
    }
  }

  /// Two joined TLS streams.
  func pair(capacity: Int = 64 * 1024) async throws -> (first: TLSStream, second: TLSStream) {
    let (server, client) = try await shake(server(), client(), capacity: capacity)
    return (try client.get(), try server.get())
  }
}

/// The loop's timers with another wall clock, which may be set.
@LoopActor final class ShiftedClock: Scheduler {
  private let loop: Loop
  private let offset: Mutex<Duration>
  var shift: Duration {
    get { offset.withLock { $0 } }
    set { offset.withLock { $0 = newValue } }
  }
  init(_ loop: Loop, by shift: Duration) {
    self.loop = loop
    offset = Mutex(shift)
  }
  nonisolated var now: Instant { loop.now }
  nonisolated var wall: WallTime { loop.wall + offset.withLock { $0 } }
  func schedule(after delay: Duration, _ action: @escaping @LoopActor () -> Void) -> TimerID {
    loop.schedule(after: delay, action)
  }
  func cancel(_ timer: TimerID) { loop.cancel(timer) }
}

extension Result {
  var failure: Failure? { if case .failure(let error) = self { error } else { nil } }
}
