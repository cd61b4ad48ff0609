import Base

/// Base64 with padding (RFC 4648 section 4): what Secret.data and ConfigMap.binaryData hold.
package enum Base64 {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  package static func encode(_ bytes: Bytes) -> String {
    var out: Bytes = []
    out.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let count = min(3, bytes.count - start)
      var group: UInt32 = 0
      for index in 0..<3 { group = group << 8 | (index < count ? UInt32(bytes[start + index]) : 0) }
      for index in 0..<4 {
        let digit = alphabet[Int(group >> UInt32(18 - 6 * index) & 63)]
        out.append(index <= count ? digit : UInt8(ascii: "="))
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// nil for anything that is not whole, padded base64. Line breaks are skipped, as Go does.
  package static func decode(_ text: String) -> Bytes? {
    var out: Bytes = []
    out.reserveCapacity(text.utf8.count / 4 * 3)
    var (group, digits, padding) = (UInt32(0), 0, 0)
    for byte in text.utf8 where byte != 0x0a && byte != 0x0d {
      if byte == UInt8(ascii: "=") {
        padding += 1
        guard digits >= 2, digits + padding <= 4 else { return nil }
        continue
      }
      guard padding == 0, let digit = value(byte) else { return nil }
      group = group << 6 | UInt32(digit)
      digits += 1
      if digits == 4 {
        out.append(contentsOf: [UInt8(group >> 16 & 255), UInt8(group >> 8 & 255), UInt8(group & 255)])
        (group, digits) = (0, 0)
      }
    }
    switch (digits, padding) {
    case (0, 0): break
    case (2, 2): out.append(UInt8(group >> 4 & 255))
    case (3, 1): out.append(contentsOf: [UInt8(group >> 10 & 255), UInt8(group >> 2 & 255)])
    default: return nil
    }
    return out
  }

  private static func value(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}
