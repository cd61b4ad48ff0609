import Base
import COpenSSL

/// A public key, known by its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
package struct PublicKey: Sendable, Hashable {
  let handle: Owned
  /// DER of the SubjectPublicKeyInfo.
  package let der: Bytes

  init(_ handle: Owned) {
    self.init(handle, der: derBytes { i2d_PUBKEY(handle.pointer, $0) })
  }

  /// The same where the encoding is at hand.
  init(_ handle: Owned, der: Bytes) {
    self.handle = handle
    self.der = der
  }

  /// SHA-256 of the SubjectPublicKeyInfo: the identity of the key itself, whatever certificates name it.
  package var fingerprint: Bytes { Digest.sha256(der) }

  /// True for the one kind of key that Skerry makes and signs: ECDSA over P-256.
  package var isP256: Bool {
    guard EVP_PKEY_is_a(handle.pointer, "EC") == 1 else { return false }
    var name = [CChar](repeating: 0, count: 64)
    var length = 0
    guard EVP_PKEY_get_group_name(handle.pointer, &name, name.count, &length) == 1 else { return false }
    return String(decoding: name[0..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) == "prime256v1"
  }

  /// True if `signature` (DER, ECDSA with SHA-256) is this key's over `message`.
  package func verifies(_ signature: Bytes, over message: Bytes) -> Bool {
    guard let context = EVP_MD_CTX_new() else { return false }
    defer {
      EVP_MD_CTX_free(context)
      ERR_clear_error()
    }
    return EVP_DigestVerifyInit(context, nil, EVP_sha256(), nil, handle.pointer) == 1
      && EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
  }

  package static func == (a: PublicKey, b: PublicKey) -> Bool { a.der == b.der }
  package func hash(into hasher: inout Hasher) { hasher.combine(der) }
}

/// A private key: ECDSA over P-256.
package struct KeyPair: Sendable {
  /// Longest PEM text that is parsed; a P-256 key takes about 250 bytes.
  package static let maxPEMBytes = 16_384

  let handle: Owned
  package let publicKey: PublicKey

  private init(_ handle: Owned) {
    self.handle = handle
    publicKey = PublicKey(handle)
  }

  /// Draws a new key from OpenSSL's generator: private keys never come from an injected randomness.
  package static func generate() throws(SkerryError) -> KeyPair {
    ERR_clear_error()
    guard let key = skerry_generate_p256() else { throw opensslFailure(.system, "cannot generate a key") }
    return KeyPair(.key(key))
  }

  /// Reads an unencrypted PEM key (PKCS#8, or SEC 1 as `openssl ecparam` writes it).
  package init(pem: String) throws(SkerryError) {
    let bytes = Bytes(pem.utf8)
    guard bytes.count <= Self.maxPEMBytes else {
      throw SkerryError(
        .limitExceeded, "the private key has \(bytes.count) bytes; at most \(Self.maxPEMBytes) are read")
    }
    let key: OpaquePointer?? = withReader(bytes) { bio in
      // The callback answers "no passphrase", where the default would ask on the terminal.
      PEM_read_bio_PrivateKey(bio, nil, { _, _, _, _ in 0 }, nil)
    }
    guard let key, let key else {
      throw opensslFailure(.invalidArgument, "this is no unencrypted private key in PEM form")
    }
    self.init(.key(key))
    guard publicKey.isP256 else {
      throw SkerryError(.invalidArgument, "the private key is not ECDSA P-256; make one with certs/make.sh")
    }
  }

  /// PKCS#8 in PEM form, not encrypted: write it with mode 0600 only.
  package var pem: String {
    let bytes = written { PEM_write_bio_PKCS8PrivateKey($0, handle.pointer, nil, nil, 0, nil, nil) }
    guard let bytes else { preconditionFailure("a key in memory can always be written") }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// A DER signature, ECDSA with SHA-256, over `message`.
  package func sign(_ message: Bytes) throws(SkerryError) -> Bytes {
    ERR_clear_error()
    guard let context = EVP_MD_CTX_new() else { throw opensslFailure(.system, "cannot sign") }
    defer { EVP_MD_CTX_free(context) }
    var length = 0
    guard EVP_DigestSignInit(context, nil, EVP_sha256(), nil, handle.pointer) == 1,
      EVP_DigestSign(context, nil, &length, message, message.count) == 1
    else { throw opensslFailure(.system, "cannot sign") }
    var signature = Bytes(repeating: 0, count: length)
    guard EVP_DigestSign(context, &signature, &length, message, message.count) == 1 else {
      throw opensslFailure(.system, "cannot sign")
    }
    return Bytes(signature[0..<length])
  }
}
