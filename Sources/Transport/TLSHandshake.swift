import Base
import COpenSSL
import EventLoop
import Identity

extension TLSStream {
  /// Gives up before the handshake began.
  func abandon() {
    state = .closed
    transport.close()
  }

  func advanceHandshake(_ input: inout UnsafeRawBufferPointer) {
    let engine = TLSEngine.shared
    let result = engine.call(&input) { SSL_do_handshake(ssl) }
    guard result == 1 else {
      let status = SSL_get_error(ssl, result)
      if status == SSL_ERROR_WANT_READ { return engine.flush(to: transport) }
      return fail(failure(status, "the TLS handshake with"))
    }
    engine.flush(to: transport)
    finishHandshake()
  }

  private func finishHandshake() {
    var name: UnsafePointer<UInt8>?
    var length: UInt32 = 0
    SSL_get0_alpn_selected(ssl, &name, &length)
    if let name, length > 0 {
      peer.applicationProtocol = String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
    } else if !context.protocols.isEmpty {
      let whose = context.side == .server ? "offered" : "chose"
      return fail(
        SkerryError(
          .unsupportedVersion,
          "\(peer.address) \(whose) no application protocol; \(spoken) is spoken here: is it a Skerry peer?"))
    }
    if context.side == .server { TLSEngine.shared.forgetHandshake(ssl) }
    state = .open
    if !isReading { transport.pauseReading() }
    let handshake = onHandshake
    onHandshake = nil
    handshake?(.success(()))
    pump()
    notifyIfDrained()
  }

  private var spoken: String { context.protocols.map(\.name).joined(separator: ", ") }

  /// Called by OpenSSL within a handshake: may this chain be believed?
  func verify(_ store: OpaquePointer) -> Bool {
    guard let leaf = PeerChain.verify(store, pin: context.pin) else {
      if let early = PeerChain.notYetValid(store) { context.onNotYetValid?(early) }
      return false
    }
    let certificate = PeerCertificate(
      commonName: leaf.commonName, organizations: leaf.organizations, serial: leaf.serial,
      keyFingerprint: leaf.keyFingerprint, notBefore: leaf.notBefore.seconds, notAfter: leaf.notAfter.seconds)
    if let reason = context.refusal?(certificate) {
      refusalReason = reason
      PeerChain.refuse(store)
      return false
    }
    peer.certificate = certificate
    return true
  }

  /// Called by OpenSSL within a server's handshake: the offset of the chosen protocol in the client's list.
  func chooseProtocol(_ offered: Bytes) -> Int? {
    for spoken in context.protocols {
      var offset = 0
      while offset < offered.count {
        let end = offset + 1 + Int(offered[offset])
        guard end <= offered.count else { return nil }
        if offered[(offset + 1)..<end].elementsEqual(spoken.name.utf8) {
          apply(spoken)
          return offset
        }
        offset = end
      }
    }
    return nil
  }

  private func apply(_ spoken: TLSProtocol) {
    if spoken.requiresClientCertificate {
      SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    }
    for certificate in material.intermediates + (spoken.presentsRoot ? material.roots : []) {
      _ = skerry_add_chain(ssl, certificate.pointer)
    }
  }

  /// The error behind a failed call, in words that name the remedy. `doing` is followed by the peer's address.
  func failure(_ status: Int32, _ doing: String) -> SkerryError {
    let number = ERR_peek_last_error()
    defer { ERR_clear_error() }
    let (code, reason) = TLSFailure.explain(
      number: number, verification: SSL_get_verify_result(ssl), refusal: refusalReason, spoken: spoken)
    if TLSFailure.isPlainHTTP(number) { transport.write(Bytes(TLSFailure.plainHTTPAnswer.utf8)) }
    return SkerryError(code, "\(doing) \(peer.address) failed: \(reason)")
  }
}
