import Base
import COpenSSL

/// Seals stored values with AES-256-GCM (NIST SP 800-38D).
///
/// ```
///  0        1                5                          17                         n-16       n
///  +--------+----------------+--------------------------+--------------------------+----------+
///  | 1      | key id, BE u32 | nonce, 12 random bytes   | ciphertext               | tag      |
///  +--------+----------------+--------------------------+--------------------------+----------+
/// ```
/// The authenticated data is the first 5 bytes and then the caller's context, so a value that was moved to another
/// key of the store, or under another key id, does not open.
package final class Sealer: Sealing {
  package static let formatVersion: UInt8 = 1
  package static let nonceLength = 12
  package static let tagLength = 16
  /// What sealing adds to a value.
  package static let overhead = 1 + 4 + nonceLength + tagLength
  /// Longest value that is sealed, in bytes: far below GCM's own bound, so that a length fits OpenSSL's int.
  package static let maxPlainBytes = 64 << 20

  private let ring: KeyRing
  private let random: any RandomSource

  /// Nonces come from `random`. With 96 random bits a key should seal at most 2^32 values (SP 800-38D, 8.3): rotate
  /// the ring long before.
  package init(ring: KeyRing, random: any RandomSource) {
    self.ring = ring
    self.random = random
  }

  package func seal(_ plain: Bytes, context: Bytes) throws(SkerryError) -> Bytes {
    guard plain.count <= Self.maxPlainBytes else {
      throw SkerryError(.limitExceeded, "a value of \(plain.count) bytes is too large to be sealed")
    }
    let key = ring.newest
    var out: Bytes = [Self.formatVersion]
    out.reserveCapacity(plain.count + Self.overhead)
    out.append(bigEndian: key.id)
    let head = out
    let nonce = random.bytes(Self.nonceLength)
    out += nonce
    out += try AESGCM.encrypt(plain, key: key.bytes, nonce: nonce, authenticated: head + context)
    return out
  }

  /// Throws `corrupt` if the bytes are not what was sealed under this context, `notFound` if the ring lacks the key.
  package func open(_ sealed: Bytes, context: Bytes) throws(SkerryError) -> Bytes {
    guard sealed.count >= Self.overhead else {
      throw SkerryError(.corrupt, "a sealed value has only \(sealed.count) bytes")
    }
    guard sealed[0] == Self.formatVersion else {
      throw SkerryError(.unsupportedVersion, "a sealed value has format \(sealed[0]); this program knows format 1")
    }
    let id: UInt32 = sealed.bigEndian(at: 1)
    guard let key = ring[id] else {
      throw SkerryError(.notFound, "a value is sealed with key \(id), which is not in the key file; put the key back")
    }
    let nonce = Bytes(sealed[5..<(5 + Self.nonceLength)])
    let rest = Bytes(sealed[(5 + Self.nonceLength)...])
    return try AESGCM.decrypt(rest, key: key.bytes, nonce: nonce, authenticated: Bytes(sealed[0..<5]) + context)
  }

  /// The id of the key under which a value was sealed; nil if this is no sealed value.
  package static func keyID(of sealed: Bytes) -> UInt32? {
    guard sealed.count >= overhead, sealed[0] == formatVersion else { return nil }
    return sealed.bigEndian(at: 1)
  }
}

/// AES-256-GCM over OpenSSL's EVP interface; the tag follows the ciphertext.
enum AESGCM {
  static func encrypt(_ plain: Bytes, key: Bytes, nonce: Bytes, authenticated: Bytes) throws(SkerryError) -> Bytes {
    guard let context = EVP_CIPHER_CTX_new() else { throw opensslFailure(.system, "cannot seal") }
    defer { EVP_CIPHER_CTX_free(context) }
    var (count, tail): (Int32, Int32) = (0, 0)
    var out = Bytes(repeating: 0, count: plain.count + Sealer.tagLength)
    let ok = out.withUnsafeMutableBufferPointer { buffer -> Bool in
      guard let base = buffer.baseAddress else { return false }
      return EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1
        && EVP_EncryptUpdate(context, nil, &count, authenticated, Int32(authenticated.count)) == 1
        && EVP_EncryptUpdate(context, base, &count, plain, Int32(plain.count)) == 1
        && EVP_EncryptFinal_ex(context, base + Int(count), &tail) == 1
        && EVP_CIPHER_CTX_ctrl(
          context, EVP_CTRL_AEAD_GET_TAG, Int32(Sealer.tagLength), base + plain.count) == 1
    }
    guard ok, Int(count + tail) == plain.count else { throw opensslFailure(.system, "cannot seal") }
    return out
  }

  static func decrypt(_ sealed: Bytes, key: Bytes, nonce: Bytes, authenticated: Bytes) throws(SkerryError) -> Bytes {
    guard let context = EVP_CIPHER_CTX_new() else { throw opensslFailure(.system, "cannot open a sealed value") }
    defer { EVP_CIPHER_CTX_free(context) }
    let length = sealed.count - Sealer.tagLength
    var tag = Bytes(sealed[length...])
    var (count, tail): (Int32, Int32) = (0, 0)
    var out = Bytes(repeating: 0, count: length + Sealer.tagLength)  // never empty, so that it has an address
    let ok = out.withUnsafeMutableBufferPointer { buffer -> Bool in
      guard let base = buffer.baseAddress else { return false }
      return EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nonce) == 1
        && EVP_DecryptUpdate(context, nil, &count, authenticated, Int32(authenticated.count)) == 1
        && EVP_DecryptUpdate(context, base, &count, sealed, Int32(length)) == 1
        && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(Sealer.tagLength), &tag) == 1
        && EVP_DecryptFinal_ex(context, base + Int(count), &tail) == 1
    }
    guard ok else {
      throw opensslFailure(.corrupt, "a sealed value does not open: it was changed, moved, or sealed with another key")
    }
    out.removeLast(Sealer.tagLength)
    return out
  }
}
