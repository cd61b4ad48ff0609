import Base
import COpenSSL
import EventLoop
import Identity

/// One application protocol (ALPN, RFC 7301) that a server speaks, and what it demands of its clients.
package struct TLSProtocol: Sendable, Hashable {
  /// Such as `skerry/1`.
  package var name: String
  /// A client without a certificate from a trusted authority is refused; otherwise none is asked for.
  package var requiresClientCertificate: Bool
  /// The server presents its root too, for clients that know only the root's pin.
  package var presentsRoot: Bool
  package init(_ name: String, requiresClientCertificate: Bool = true, presentsRoot: Bool = false) {
    self.name = name
    self.requiresClientCertificate = requiresClientCertificate
    self.presentsRoot = presentsRoot
  }
}

/// Whom a client believes to be the server.
package enum TLSTrust: Sendable {
  /// A server whose chain ends in one of these authorities (PEM).
  case authority(String)
  /// A server whose presented chain ends in the authority whose key has this SHA-256 (of the SubjectPublicKeyInfo).
  case pin(Bytes)
}

/// A certificate with its chain, leaf first, and its key, as PEM texts.
package struct TLSCredentials: Sendable {
  package var certificatePEM: String
  package var keyPEM: String
  package init(certificatePEM: String, keyPEM: String) {
    self.certificatePEM = certificatePEM
    self.keyPEM = keyPEM
  }
}

/// What TLS sessions are made from: TLS 1.3 alone, X25519 or P-256, no tickets, no compression, nothing resumed.
///
/// `reload` changes what new sessions get; those that live keep what they began with.
@LoopActor package final class TLSContext {
  enum Side { case server, client }

  let side: Side
  /// Server: what it speaks. Client: what it offers, in order of preference.
  let protocols: [TLSProtocol]
  let pin: Bytes?
  /// Refuses a peer whose certificate was verified: answers the reason, which is logged, or nil. The peer is told
  /// "certificate revoked" only.
  package var refusal: ((PeerCertificate) -> String?)?
  /// Hears of a peer's certificate that was refused since it begins later than our clock shows. Nothing else about it
  /// was believed: whoever asks has to look whose it is.
  package var onNotYetValid: ((Certificate) -> Void)?
  private let trust: TrustStore?
  private(set) var current: TLSMaterial

  private init(
    _ side: Side, credentials: TLSCredentials?, trust: TrustStore?, pin: Bytes?, protocols: [TLSProtocol]
  ) throws(SkerryError) {
    for name in protocols.map(\.name) where name.isEmpty || name.utf8.count > 255 {
      throw SkerryError(.invalidArgument, "\"\(name)\" is no ALPN protocol name (1 to 255 bytes)")
    }
    self.side = side
    self.protocols = protocols
    self.pin = pin
    self.trust = trust
    current = try TLSMaterial(side, credentials: credentials, trust: trust, protocols: protocols)
  }

  /// A server. `clientAuthorities` is the PEM of those whose clients are believed.
  package static func server(
    credentials: TLSCredentials, clientAuthorities: String?, protocols: [TLSProtocol]
  ) throws(SkerryError) -> TLSContext {
    if clientAuthorities == nil, let bad = protocols.first(where: \.requiresClientCertificate) {
      throw SkerryError(.invalidArgument, "\(bad.name) requires client certificates, but no authority is trusted")
    }
    let trust: TrustStore? = if let clientAuthorities { try TrustStore(pem: clientAuthorities) } else { nil }
    return try TLSContext(.server, credentials: credentials, trust: trust, pin: nil, protocols: protocols)
  }

  /// A client. `credentials` is nil where the server asks for no certificate; `alpn` is empty only towards servers that
  /// know nothing of it (other products' brokers).
  package static func client(
    credentials: TLSCredentials?, trust: TLSTrust, alpn: [String]
  ) throws(SkerryError) -> TLSContext {
    let protocols = alpn.map { TLSProtocol($0) }
    switch trust {
    case .authority(let pem):
      let store = try TrustStore(pem: pem)
      return try TLSContext(.client, credentials: credentials, trust: store, pin: nil, protocols: protocols)
    case .pin(let pin):
      guard pin.count == 32 else {
        throw SkerryError(.invalidArgument, "the CA pin has \(pin.count) bytes; a SHA-256 has 32 (64 hex digits)")
      }
      return try TLSContext(.client, credentials: credentials, trust: nil, pin: pin, protocols: protocols)
    }
  }

  /// Uses another certificate and key from the next session on; throws, and changes nothing, if they do not fit.
  package func reload(_ credentials: TLSCredentials) throws(SkerryError) {
    current = try TLSMaterial(side, credentials: credentials, trust: trust, protocols: protocols)
  }
}

/// An `SSL_CTX` with what its callbacks need; freed with the last session that began with it.
final class TLSMaterial {
  let pointer: OpaquePointer
  /// What the server may present behind its leaf: intermediates always, roots where a protocol says so.
  let intermediates: [Certificate]
  let roots: [Certificate]

  init(
    _ side: TLSContext.Side, credentials: TLSCredentials?, trust: TrustStore?, protocols: [TLSProtocol]
  ) throws(SkerryError) {
    var chain: [Certificate] = []
    var key: KeyPair?
    if let credentials {
      chain = try Certificate.chain(pem: credentials.certificatePEM)
      key = try KeyPair(pem: credentials.keyPEM)
    }
    guard let context = skerry_context_new(side == .server ? 1 : 0) else {
      throw SkerryError(.internal, "this OpenSSL cannot do TLS 1.3 with X25519 and AES-128-GCM")
    }
    pointer = context
    intermediates = chain.dropFirst().filter { !$0.isSelfSigned }
    roots = chain.dropFirst().filter(\.isSelfSigned)
    if let leaf = chain.first, let key {
      guard leaf.publicKey == key.publicKey else {
        throw SkerryError(.invalidArgument, "the key does not belong to the certificate \"\(leaf.commonName)\"")
      }
      guard SSL_CTX_use_certificate(context, leaf.pointer) == 1, SSL_CTX_use_PrivateKey(context, key.pointer) == 1
      else {
        throw SkerryError(.invalidArgument, "OpenSSL does not take the certificate \"\(leaf.commonName)\"")
      }
    }
    if let trust { _ = skerry_set_store(context, trust.pointer) }
    SSL_CTX_set_cert_verify_callback(context, verifyPeer, nil)
    switch side {
    case .server: SSL_CTX_set_alpn_select_cb(context, selectProtocol, nil)
    case .client:
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
      let list = protocols.flatMap { [UInt8($0.name.utf8.count)] + Array($0.name.utf8) }
      if !list.isEmpty { SSL_CTX_set_alpn_protos(context, list, UInt32(list.count)) }
    }
  }

  deinit { SSL_CTX_free(pointer) }
}

/// OpenSSL's question whether the peer's chain will do.
private func verifyPeer(_ store: OpaquePointer?, _ argument: UnsafeMutableRawPointer?) -> Int32 {
  guard let store,
    let connection = PeerChain.object(store, index: SSL_get_ex_data_X509_STORE_CTX_idx()),
    let data = SSL_get_ex_data(OpaquePointer(connection), 0)
  else { return 0 }
  let stream = Unmanaged<TLSStream>.fromOpaque(data).takeUnretainedValue()
  nonisolated(unsafe) let context = store  // used within the call, which was made on the loop
  return LoopActor.entered { stream.verify(context) ? 1 : 0 }
}

/// OpenSSL's question which of the client's protocols is to be spoken; the wire form is a list of length and name.
private func selectProtocol(
  _ ssl: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ length: UnsafeMutablePointer<UInt8>?,
  _ offered: UnsafePointer<UInt8>?, _ count: UInt32, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
  guard let ssl, let data = SSL_get_ex_data(ssl, 0), let offered else { return SSL_TLSEXT_ERR_ALERT_FATAL }
  let stream = Unmanaged<TLSStream>.fromOpaque(data).takeUnretainedValue()
  let list = Bytes(UnsafeBufferPointer(start: offered, count: Int(count)))
  guard let offset = LoopActor.entered({ stream.chooseProtocol(list) }) else { return SSL_TLSEXT_ERR_ALERT_FATAL }
  chosen?.pointee = offered + offset + 1
  length?.pointee = list[offset]
  return SSL_TLSEXT_ERR_OK
}
