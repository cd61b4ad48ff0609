import Base
import COpenSSL

/// The certificates that end a chain of trust, as OpenSSL wants them for a handshake.
package struct TrustStore: Sendable {
  private let handle: Owned
  /// An `X509_STORE`; valid as long as this value.
  package var pointer: OpaquePointer { handle.pointer }

  /// Trusts every certificate of a PEM text.
  package init(pem: String) throws(SkerryError) {
    guard let store = X509_STORE_new() else { throw opensslFailure(.internal, "no memory for a trust store") }
    handle = Owned(store) { X509_STORE_free($0) }
    for certificate in try Certificate.chain(pem: pem) {
      guard X509_STORE_add_cert(store, certificate.handle.pointer) == 1 else {
        throw opensslFailure(.invalidArgument, "the authority \(certificate.commonName) cannot be trusted")
      }
    }
  }
}

extension Certificate {
  /// The `X509` behind it, for `Transport`; valid as long as this value.
  package var pointer: OpaquePointer { handle.pointer }
  package var isSelfSigned: Bool { isIssued(by: self) }
}

extension KeyPair {
  /// The `EVP_PKEY` behind it, for `Transport`; valid as long as this value.
  package var pointer: OpaquePointer { handle.pointer }
}

/// The checking of a chain that a peer presents in a handshake. The pointers are what OpenSSL hands to a
/// verification callback (`X509_STORE_CTX`) and to a connection (`X509_VERIFY_PARAM`).
package enum PeerChain {
  /// What a connection must demand of the chain: its validity now, and the name or address that was dialled.
  package static func demand(_ parameters: OpaquePointer?, at now: WallTime, name: String?) -> Bool {
    X509_VERIFY_PARAM_set_time(parameters, time_t(now.seconds))
    guard let name else { return true }
    if IPAddress.bytes(name) != nil { return X509_VERIFY_PARAM_set1_ip_asc(parameters, name) == 1 }
    X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
    return X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count) == 1
  }

  /// Verifies what was presented, against the connection's trust store or, with a pin, against the one presented
  /// certificate whose key has that SHA-256. Answers the peer's own certificate, or nil, with the reason kept in
  /// the context.
  package static func verify(_ context: OpaquePointer, pin: Bytes?) -> Certificate? {
    let verified: Int32
    if let pin {
      guard let anchor = anchor(context, pin) else {
        X509_STORE_CTX_set_error(context, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN)
        return nil
      }
      verified = skerry_verify_to(context, anchor)
    } else {
      verified = X509_verify_cert(context)
    }
    guard verified == 1, let leaf = X509_STORE_CTX_get0_cert(context) else { return nil }
    X509_up_ref(leaf)
    do {
      return try Certificate(Owned.certificate(leaf))
    } catch {
      X509_STORE_CTX_set_error(context, X509_V_ERR_UNSPECIFIED)
      return nil
    }
  }

  /// The peer's own certificate, if the chain failed for nothing but beginning later than the time it was checked at.
  package static func notYetValid(_ context: OpaquePointer) -> Certificate? {
    guard X509_STORE_CTX_get_error(context) == X509_V_ERR_CERT_NOT_YET_VALID,
      let leaf = X509_STORE_CTX_get0_cert(context)
    else { return nil }
    X509_up_ref(leaf)
    return try? Certificate(Owned.certificate(leaf))
  }

  private static func anchor(_ context: OpaquePointer, _ pin: Bytes) -> OpaquePointer? {
    for index in 0..<max(0, skerry_presented_count(context)) {
      guard let presented = skerry_presented(context, index), let key = X509_get_pubkey(presented) else { continue }
      if PublicKey(.key(key)).fingerprint == pin { return presented }
    }
    return nil
  }

  /// Marks a verified peer as refused, so that it is told "certificate revoked".
  package static func refuse(_ context: OpaquePointer) {
    X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_REVOKED)
  }

  /// The object that was stored with the context under `index`.
  package static func object(_ context: OpaquePointer, index: Int32) -> UnsafeMutableRawPointer? {
    X509_STORE_CTX_get_ex_data(context, index)
  }

  /// A sentence's second half for the result of a verification, as in "the certificate …"; nil if it succeeded.
  package static func flaw(_ result: Int) -> String? {
    switch Int32(result) {
    case X509_V_OK: nil
    case X509_V_ERR_CERT_HAS_EXPIRED: "has expired: renew it, and check both clocks"
    case X509_V_ERR_CERT_NOT_YET_VALID: "is not yet valid: check both clocks"
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      "is for another name than the one that was dialled: add that name to it, or dial by its name"
    case X509_V_ERR_CERT_REVOKED: "was revoked"
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      "is not from an authority that is trusted here: compare the CA or its pin on both sides"
    case X509_V_ERR_INVALID_PURPOSE: "is not for this use (server and client certificates differ)"
    default: "was not accepted: \(String(cString: X509_verify_cert_error_string(result)))"
    }
  }
}
