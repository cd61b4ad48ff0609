import Base
import COpenSSL

/// A PKCS#10 request (RFC 2986): a public key and the proof that the sender holds the private one.
///
/// The name in it is a wish for logs: whoever signs takes every name from what it knows itself.
package struct CertificateSigningRequest: Sendable {
  /// Longest request that is parsed, in bytes; a P-256 request takes about 400. Keeps a stranger's bytes cheap.
  package static let maxBytes = 8_192

  package let publicKey: PublicKey
  /// What the request calls itself; not to be believed.
  package let requestedCommonName: String
  package let der: Bytes

  /// Signs a request for `key` that calls itself `commonName`.
  package static func make(key: KeyPair, commonName: String) throws(SkerryError) -> CertificateSigningRequest {
    ERR_clear_error()
    guard let request = X509_REQ_new() else { throw opensslFailure(.system, "cannot make a request") }
    let owned = Owned.request(request)
    guard X509_REQ_set_version(request, 0) == 1, X509_REQ_set_pubkey(request, key.handle.pointer) == 1 else {
      throw opensslFailure(.system, "cannot make a request")
    }
    try addNameEntry(X509_REQ_get_subject_name(request), NID_commonName, commonName)
    guard X509_REQ_sign(request, key.handle.pointer, EVP_sha256()) > 0 else {
      throw opensslFailure(.system, "cannot sign the request")
    }
    return try CertificateSigningRequest(owned)
  }

  /// Parses DER and verifies the proof of possession; throws `invalidArgument` for anything else than a well signed
  /// request of a P-256 key.
  package init(der bytes: Bytes) throws(SkerryError) {
    guard bytes.count <= Self.maxBytes else {
      throw SkerryError(
        .limitExceeded, "the certificate request has \(bytes.count) bytes; at most \(Self.maxBytes) are read")
    }
    ERR_clear_error()
    let parsed: OpaquePointer? = bytes.withUnsafeBufferPointer { buffer in
      var cursor = buffer.baseAddress
      let request = d2i_X509_REQ(nil, &cursor, buffer.count)
      guard let request, let start = buffer.baseAddress, let end = cursor, end - start == buffer.count else {
        X509_REQ_free(request)
        return nil
      }
      return request
    }
    guard let parsed else { throw opensslFailure(.invalidArgument, "this is no PKCS#10 certificate request") }
    try self.init(Owned.request(parsed))
  }

  package init(pem: String) throws(SkerryError) {
    let bytes = Bytes(pem.utf8)
    guard bytes.count <= Self.maxBytes * 2 else {
      throw SkerryError(.limitExceeded, "the certificate request has \(bytes.count) bytes of PEM; that is too much")
    }
    let parsed: OpaquePointer?? = withReader(bytes) { PEM_read_bio_X509_REQ($0, nil, nil, nil) }
    guard let parsed, let parsed else {
      throw opensslFailure(.invalidArgument, "this is no certificate request in PEM form")
    }
    try self.init(Owned.request(parsed))
  }

  private init(_ owned: Owned) throws(SkerryError) {
    guard let key = X509_REQ_get_pubkey(owned.pointer) else {
      throw opensslFailure(.invalidArgument, "the certificate request has no public key that can be read")
    }
    publicKey = PublicKey(.key(key))
    // Before the signature is looked at: an enormous RSA key would make the check itself dear.
    guard publicKey.isP256 else {
      throw SkerryError(.invalidArgument, "the certificate request is for another kind of key than ECDSA P-256")
    }
    guard X509_REQ_verify(owned.pointer, key) == 1 else {
      throw opensslFailure(
        .invalidArgument, "the certificate request is not signed by its own key: possession is not proven")
    }
    requestedCommonName = nameEntries(X509_REQ_get_subject_name(owned.pointer), NID_commonName).first ?? ""
    der = derBytes { i2d_X509_REQ(owned.pointer, $0) }
  }

  package var pem: String {
    let bytes = der.withUnsafeBufferPointer { buffer -> Bytes? in
      var cursor = buffer.baseAddress
      guard let request = d2i_X509_REQ(nil, &cursor, buffer.count) else { return nil }
      defer { X509_REQ_free(request) }
      return written { PEM_write_bio_X509_REQ($0, request) }
    }
    guard let bytes else { preconditionFailure("a request that was parsed can always be written") }
    return String(decoding: bytes, as: UTF8.self)
  }
}
