import Base
import EventLoop
import Identity
import Transport
import Wire

/// Where hollow peers connect, and as whom.
struct BenchTarget: Sendable {
  var address: HostPort
  var caPEM: String
  /// The client that watches and writes: role admin or edit.
  var client: TLSCredentials
  /// A directory with the CA's key, of a server that the bench started; nil for a given server.
  var pki: String?
  /// The join token of a given server.
  var token: String?
  /// Another server than ours, and what is spoken with it.
  enum Speech: String, Sendable {
    case skerry
    /// The floor's: frames without a handshake of the protocol.
    case frames
    case nats
    case mqtt
    case http
  }
  var speech = Speech.skerry
  var raw: Bool { speech == .frames }

  var value: Value {
    var value: Value = [
      "address": .string(address.description), "ca": .string(caPEM), "cert": .string(client.certificatePEM),
      "key": .string(client.keyPEM), "speech": .string(speech.rawValue),
    ]
    if let pki { value["pki"] = .string(pki) }
    if let token { value["token"] = .string(token) }
    return value
  }

  init(
    address: HostPort, caPEM: String, client: TLSCredentials, pki: String? = nil, token: String? = nil,
    speech: Speech = .skerry
  ) {
    self.address = address
    self.caPEM = caPEM
    self.client = client
    self.pki = pki
    self.token = token
    self.speech = speech
  }

  init(_ value: Value) throws(SkerryError) {
    self.init(
      address: try HostPort(value["address"].string ?? ""), caPEM: value["ca"].string ?? "",
      client: TLSCredentials(certificatePEM: value["cert"].string ?? "", keyPEM: value["key"].string ?? ""),
      pki: value["pki"].string, token: value["token"].string,
      speech: Speech(rawValue: value["speech"].string ?? "") ?? .skerry)
  }
}

/// Opens TLS connections for hollow peers, from addresses that are spread over 127.0.0.0/8 so that ports do not run out.
@LoopActor final class HollowDialer {
  /// Connections that share a source address.
  static let perAddress = 1_000
  static let timeout = Duration.seconds(60)

  let target: BenchTarget
  let wire: WireCount
  private let scheduler: any Scheduler
  private let clientContext: TLSContext

  init(_ target: BenchTarget, wire: WireCount, scheduler: any Scheduler) throws(SkerryError) {
    self.target = target
    self.wire = wire
    self.scheduler = scheduler
    clientContext = try Self.context(target, target.client)
  }

  /// ALPN of the sessions; the floor's server and other products' servers know none.
  static func context(_ target: BenchTarget, _ credentials: TLSCredentials) throws(SkerryError) -> TLSContext {
    let alpn: [String] =
      switch target.speech {
      case .skerry: ["skerry/1"]
      // etcd's gateway answers HTTP/1.1 to whoever names no protocol, and chooses none of those that speak it.
      case .frames, .nats, .mqtt, .http: []
      }
    return try TLSContext.client(credentials: credentials, trust: .authority(target.caPEM), alpn: alpn)
  }

  /// The address that connection `slot` comes from; nil where the target is not on this machine.
  static func source(_ slot: Int, for target: HostPort) -> SocketAddress? {
    guard target.host.hasPrefix("127.") || target.host == "localhost" else { return nil }
    let group = slot / perAddress
    return SocketAddress(host: "127.\(group / 62_500 % 200 + 1).\(group / 250 % 250).\(group % 250 + 2)", port: 0)
  }

  /// A connection whose handshake is done; without `context` as the client.
  func dial(slot: Int, context: TLSContext? = nil) async throws(SkerryError) -> TLSStream {
    var options = TCPOptions()
    options.source = Self.source(slot, for: target.address)
    let tcp = try await TCPStream.connect(to: target.address, timeout: Self.timeout, options: options)
    if target.speech == .nats { try await NATSGreeting.read(from: tcp, scheduler: scheduler) }
    return try await TLSStream.handshake(
      over: CountingStream(tcp, wire), context: context ?? clientContext, serverName: target.address.host,
      timeout: Self.timeout, scheduler: scheduler)
  }
}

/// Makes the identities of hollow nodes: signed at once where the CA's key is at hand, asked for with a join token else.
@LoopActor final class HollowMint {
  let target: BenchTarget
  let scheduler: any Scheduler
  let random: any RandomSource
  private let authority: CertificateAuthority?
  /// All nodes of one worker share a key: what is measured is the server, to which each node has a certificate of its own.
  private let key: KeyPair
  /// Join tokens that may still have uses; the first is taken until it has none.
  private var tokens: [JoinToken]

  init(_ target: BenchTarget, scheduler: any Scheduler, random: any RandomSource) throws(SkerryError) {
    tokens = try Self.tokens(target.token ?? "")
    self.target = target
    self.scheduler = scheduler
    self.random = random
    authority = try target.pki.map { (path) throws(SkerryError) in try ClusterPKI.load(directory: path).authority }
    key = try KeyPair.generate()
  }

  func credentials(node: String) async throws(SkerryError) -> TLSCredentials {
    if let authority {
      let certificate = try authority.issue(
        publicKey: key.publicKey, subject: .node(node), usage: .client, lifetime: .seconds(86_400),
        now: scheduler.wall, random: random)
      return TLSCredentials(certificatePEM: certificate.pem, keyPEM: key.pem)
    }
    return try await join(node)
  }

  private func join(_ node: String) async throws(SkerryError) -> TLSCredentials {
    while true {
      guard let token = tokens.first else {
        throw SkerryError(.invalidArgument, "no join token of the server is left: give more (--enrol A,B)")
      }
      do throws(SkerryError) { return try await join(node, token) } catch {
        guard tokens.count > 1 else { throw error }
        tokens.removeFirst()
      }
    }
  }

  /// The tokens of `--enrol`; throws if one is none.
  static func tokens(_ text: String) throws(SkerryError) -> [JoinToken] {
    var tokens: [JoinToken] = []
    for part in text.split(separator: ",") { tokens.append(try JoinToken(String(part))) }
    return tokens
  }

  private func join(_ node: String, _ token: JoinToken) async throws(SkerryError) -> TLSCredentials {
    guard let pin = Bytes(hex: token.pin) else { throw SkerryError(.invalidArgument, "the join token holds no pin") }
    let context = try TLSContext.client(credentials: nil, trust: .pin(pin), alpn: ["skerry-join/1"])
    let stream = try await Dialer(targets: [target.address], context: context, scheduler: scheduler).connect()
    let session = Session(
      stream: stream, role: .client, hello: ["role": "node"], scheduler: scheduler, random: random)
    session.start()
    try await session.ready()
    defer { session.close() }
    let request = try CertificateSigningRequest.make(key: key, commonName: CertificateSubject.node(node).commonName)
    do throws(CallError) {
      let answer = try await session.call(
        method: "join",
        params: ["token": .string(token.credential), "csr": .string(request.pem), "node": .string(node)],
        deadline: .seconds(30))
      guard let certificate = answer["certificate"].string else {
        throw CallError(reason: "Forbidden", message: "an administrator would have to approve \(node)")
      }
      return TLSCredentials(certificatePEM: certificate, keyPEM: key.pem)
    } catch {
      throw SkerryError(.forbidden, "the server does not let \"\(node)\" join: \(error.message)")
    }
  }
}
