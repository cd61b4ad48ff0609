import Base
import CLibUV
import Glibc

/// A numeric IPv4 or IPv6 address and a port.
package struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
  /// Without brackets: `10.0.0.7`, `::1`.
  package let host: String
  package let port: Int

  /// Nil unless `host` is a numeric address and `port` is in 0...65535.
  package init?(host: String, port: Int) {
    guard (0...65535).contains(port), Self.isNumeric(host) else { return nil }
    self.host = host
    self.port = port
  }

  /// What the kernel filled in; nil if it is not an internet address.
  init?(_ storage: UnsafePointer<sockaddr>) {
    let port: UInt16
    switch Int32(storage.pointee.sa_family) {
    case AF_INET: port = UnsafeRawPointer(storage).loadUnaligned(as: sockaddr_in.self).sin_port
    case AF_INET6: port = UnsafeRawPointer(storage).loadUnaligned(as: sockaddr_in6.self).sin6_port
    default: return nil
    }
    var text = [CChar](repeating: 0, count: 64)
    guard uv_ip_name(storage, &text, text.count) == 0 else { return nil }
    host = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    self.port = Int(UInt16(bigEndian: port))
  }

  package var isIPv6: Bool { host.utf8.contains(UInt8(ascii: ":")) }

  /// `10.0.0.7:443` or `[::1]:443`.
  package var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

  private static func isNumeric(_ host: String) -> Bool {
    var (v4, v6) = (sockaddr_in(), sockaddr_in6())
    return uv_ip4_addr(host, 0, &v4) == 0 || uv_ip6_addr(host, 0, &v6) == 0
  }

  /// Calls `body` with the address as the kernel wants it.
  func withSockaddr<R>(_ body: (UnsafePointer<sockaddr>) -> R) -> R {
    var storage = sockaddr_storage()
    return withUnsafeMutablePointer(to: &storage) { pointer in
      let raw = UnsafeMutableRawPointer(pointer)
      if isIPv6 {
        uv_ip6_addr(host, Int32(port), raw.assumingMemoryBound(to: sockaddr_in6.self))
      } else {
        uv_ip4_addr(host, Int32(port), raw.assumingMemoryBound(to: sockaddr_in.self))
      }
      return body(UnsafePointer(raw.assumingMemoryBound(to: sockaddr.self)))
    }
  }
}

/// A host, by name or number, and a port, as configuration files write them: `hub.example:7443`, `[::1]:7443`.
package struct HostPort: Sendable, Hashable, CustomStringConvertible {
  /// Without brackets.
  package var host: String
  package var port: Int

  package init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// Throws `invalidArgument` with what a valid one looks like.
  package init(_ text: String) throws(SkerryError) {
    let malformed = SkerryError(.invalidArgument, "\"\(text)\" is not HOST:PORT (or [IPV6]:PORT)")
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
      throw malformed
    }
    var host = text[..<colon]
    if host.first == "[" {
      guard host.last == "]" else { throw malformed }
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw malformed
    }
    guard !host.isEmpty, host.utf8.count <= 253 else { throw malformed }
    self.init(host: String(host), port: Int(port))
  }

  package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
