import Base
import COpenSSL

/// SHA-256, HMAC-SHA-256 and comparison without a timing channel.
package enum Digest {
  package static let sha256Length = 32

  /// SHA-256 (FIPS 180-4) of the bytes: 32 bytes.
  package static func sha256(_ bytes: Bytes) -> Bytes {
    Bytes(unsafeUninitializedCapacity: sha256Length) { out, used in
      var length: UInt32 = 0
      let ok = EVP_Digest(bytes, bytes.count, out.baseAddress, &length, EVP_sha256(), nil)
      precondition(ok == 1 && length == sha256Length, "SHA-256 is always available")
      used = sha256Length
    }
  }

  package static func sha256(_ text: String) -> Bytes { sha256(Bytes(text.utf8)) }

  /// HMAC-SHA-256 (RFC 2104): 32 bytes.
  package static func hmacSHA256(key: Bytes, _ message: Bytes) -> Bytes {
    Bytes(unsafeUninitializedCapacity: sha256Length) { out, used in
      var length: UInt32 = 0
      let made = HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, out.baseAddress, &length)
      precondition(made != nil && length == sha256Length, "HMAC-SHA-256 is always available")
      used = sha256Length
    }
  }

  /// True if both are equal; takes the same time wherever they differ. Lengths are not secret.
  package static func constantTimeEqual(_ a: Bytes, _ b: Bytes) -> Bool {
    a.count == b.count && CRYPTO_memcmp(a, b, a.count) == 0
  }
}

/// SHA-256 over input that comes in pieces (an image layer, a backup).
package final class SHA256Stream {
  private let context: OpaquePointer
  package init() {
    guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
      preconditionFailure("SHA-256 is always available")
    }
    self.context = context
  }
  deinit { EVP_MD_CTX_free(context) }

  package func update(_ bytes: UnsafeRawBufferPointer) {
    precondition(EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1)
  }

  /// The digest of everything so far; the stream is used up.
  package func finish() -> Bytes {
    Bytes(unsafeUninitializedCapacity: Digest.sha256Length) { out, used in
      var length: UInt32 = 0
      precondition(EVP_DigestFinal_ex(context, out.baseAddress, &length) == 1)
      used = Int(length)
    }
  }
}
