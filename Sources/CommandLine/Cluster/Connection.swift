import API
import APIClient
import Base
import EventLoop
import Identity
import Transport
import Wire

/// Opens the API of a cluster, by TLS with a client certificate or by a node's Unix socket.
@LoopActor enum Connection {
  /// The protocol that clients and nodes speak (ALPN).
  static let apiProtocol = "skerry/1"
  static let joinProtocol = "skerry-join/1"

  static func open(_ endpoint: ClusterEndpoint, scheduler: any Scheduler, random: any RandomSource)
    async throws(SkerryError) -> any API
  {
    let stream: any ByteStream
    if endpoint.server.hasPrefix("unix:") {
      stream = try await reachable(endpoint.server) { () async throws(SkerryError) in
        try await UnixStream.connect(path: String(endpoint.server.dropFirst("unix:".count)))
      }
    } else {
      stream = try await tls(endpoint, scheduler)
    }
    return APIClient(session: try await session(over: stream, endpoint.server, endpoint.token, scheduler, random))
  }

  private static func tls(_ endpoint: ClusterEndpoint, _ scheduler: any Scheduler) async throws(SkerryError)
    -> any ByteStream
  {
    var credentials: TLSCredentials?
    if let certificate = endpoint.certificatePEM, let key = endpoint.keyPEM {
      credentials = TLSCredentials(certificatePEM: certificate, keyPEM: key)
    }
    guard let ca = endpoint.caPEM, credentials != nil || endpoint.token != nil else {
      throw SkerryError(.invalidArgument, "the context needs ca, cert and key to reach \(endpoint.server)")
    }
    let context = try TLSContext.client(credentials: credentials, trust: .authority(ca), alpn: [apiProtocol])
    let dialer = try Dialer(targets: [try HostPort(endpoint.server)], context: context, scheduler: scheduler)
    return try await reachable(endpoint.server) { () async throws(SkerryError) in try await dialer.connect() }
  }

  private static func session(
    over stream: any ByteStream, _ server: String, _ token: String?, _ scheduler: any Scheduler,
    _ random: any RandomSource
  ) async throws(SkerryError) -> Session {
    var hello: Value = ["role": "client", "agent": .string("skerry/\(SkerryCommand.version)")]
    if let token { hello["token"] = .string(token) }
    let session = Session(stream: stream, role: .client, hello: hello, scheduler: scheduler, random: random)
    session.start()
    try await reachable(server) { () async throws(SkerryError) in try await session.ready() }
    return session
  }

  /// Adds the address and the remedy to what went wrong.
  private static func reachable<R>(_ server: String, _ body: @LoopActor () async throws(SkerryError) -> R)
    async throws(SkerryError) -> R
  {
    do { return try await body() } catch {
      let daemon = server.hasPrefix("unix:") ? "edgecore" : "cloudcore"
      throw SkerryError(
        error.code,
        "the server \(server) cannot be reached: check that \(daemon) runs there, and the address, certificates and "
          + "clock of this context (skerry config view)", cause: error)
    }
  }

  /// One call of the join protocol: the server is known by the pin of its CA, this side has no certificate yet.
  static func join(
    _ server: HostPort, pin: Bytes, method: String, parameters: Value, scheduler: any Scheduler,
    random: any RandomSource
  ) async throws -> Value {
    let context = try TLSContext.client(credentials: nil, trust: .pin(pin), alpn: [joinProtocol])
    let dialer = try Dialer(targets: [server], context: context, scheduler: scheduler)
    let stream = try await reachable(server.description) { () async throws(SkerryError) in
      try await dialer.connect()
    }
    let session = try await session(over: stream, server.description, nil, scheduler, random)
    defer { session.close() }
    return try await session.call(method: method, params: parameters, deadline: .seconds(30))
  }
}
