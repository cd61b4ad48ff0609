import Base
import COpenSSL

/// An OpenSSL object that this process owns: freed with its last reference.
///
/// Sendable because the object behind it is never changed after it was wrapped, and OpenSSL's reference counts and
/// lazily decoded caches are atomic or locked (see `man 7 openssl-threads`).
final class Owned: @unchecked Sendable {
  let pointer: OpaquePointer
  private let release: @Sendable (OpaquePointer) -> Void

  init(_ pointer: OpaquePointer, release: @escaping @Sendable (OpaquePointer) -> Void) {
    self.pointer = pointer
    self.release = release
  }
  deinit { release(pointer) }

  static func key(_ pointer: OpaquePointer) -> Owned { Owned(pointer) { EVP_PKEY_free($0) } }
  static func certificate(_ pointer: OpaquePointer) -> Owned { Owned(pointer) { X509_free($0) } }
  static func request(_ pointer: OpaquePointer) -> Owned { Owned(pointer) { X509_REQ_free($0) } }
}

/// What OpenSSL's per-thread error queue says, turned into the project's error. The queue is empty afterwards.
func opensslFailure(_ code: SkerryError.Code, _ message: String) -> SkerryError {
  var reasons: [String] = []
  while reasons.count < 4 {
    let number = ERR_get_error()
    guard number != 0 else { break }
    if let text = ERR_reason_error_string(number) { reasons.append(String(cString: text)) }
  }
  ERR_clear_error()
  return SkerryError(code, reasons.isEmpty ? message : "\(message) (\(reasons.joined(separator: ", ")))")
}

/// Runs `body` over a memory BIO that holds `bytes`.
func withReader<R, E: Error>(_ bytes: Bytes, _ body: (OpaquePointer) throws(E) -> R) throws(E) -> R? {
  ERR_clear_error()
  // The BIO reads the array's storage in place, so it must not outlive this scope.
  let result: Result<R, E>? = bytes.withUnsafeBytes { buffer in
    guard let bio = BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else { return nil }
    defer { BIO_free(bio) }
    do throws(E) { return .success(try body(bio)) } catch { return .failure(error) }
  }
  return try result?.get()
}

/// The bytes that `body` writes to a memory BIO; nil if it reports a failure (anything but 1).
func written(_ body: (OpaquePointer) -> Int32) -> Bytes? {
  ERR_clear_error()
  guard let bio = BIO_new(BIO_s_mem()) else { return nil }
  defer { BIO_free(bio) }
  guard body(bio) == 1 else { return nil }
  let count = BIO_ctrl_pending(bio)
  return Bytes(unsafeUninitializedCapacity: count) { buffer, used in
    used = Int(max(0, BIO_read(bio, buffer.baseAddress, Int32(count))))
  }
}

/// The DER bytes that an `i2d_…` function makes: called once for the length, once to write.
func derBytes(_ encode: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32) -> Bytes {
  let length = Int(encode(nil))
  guard length > 0 else { return [] }
  return Bytes(unsafeUninitializedCapacity: length) { buffer, used in
    var cursor = buffer.baseAddress
    used = Int(max(0, encode(&cursor)))
  }
}

/// The bytes of an ASN.1 string.
func asn1Bytes(_ string: UnsafePointer<ASN1_STRING>?) -> Bytes {
  guard let string, let data = ASN1_STRING_get0_data(string) else { return [] }
  return Bytes(UnsafeBufferPointer(start: data, count: Int(ASN1_STRING_length(string))))
}

/// Every value of one attribute (CN, O) of a distinguished name, in order, as UTF-8.
func nameEntries(_ name: OpaquePointer?, _ nid: Int32) -> [String] {
  guard let name else { return [] }
  var values: [String] = []
  var index: Int32 = -1
  while true {
    index = X509_NAME_get_index_by_NID(name, nid, index)
    guard index >= 0, let entry = X509_NAME_get_entry(name, index) else { return values }
    var utf8: UnsafeMutablePointer<UInt8>?
    let length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry))
    guard length >= 0, let utf8 else { continue }
    values.append(String(decoding: UnsafeBufferPointer(start: utf8, count: Int(length)), as: UTF8.self))
    CRYPTO_free(utf8, "", 0)
  }
}

/// Appends one attribute to a distinguished name.
func addNameEntry(_ name: OpaquePointer?, _ nid: Int32, _ value: String) throws(SkerryError) {
  let utf8 = Bytes(value.utf8)
  guard X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8_TYPE, utf8, Int32(utf8.count), -1, 0) == 1 else {
    throw opensslFailure(.invalidArgument, "the name \"\(value)\" does not fit into a certificate")
  }
}

/// MBSTRING_UTF8 of openssl/asn1.h, which is an expression that Swift does not import.
private let MBSTRING_UTF8_TYPE: Int32 = 0x1000
