import Base

/// An IPv4 network.
struct Subnet: Sendable, Hashable, CustomStringConvertible {
  /// In host order, with the host's bits zero.
  let address: UInt32
  let length: Int

  init(address: UInt32, length: Int) {
    self.length = length
    self.address = address & Self.mask(length)
  }

  /// `10.1.2.0/24`, or nil.
  init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let length = Int(parts[1]), (8...30).contains(length) else { return nil }
    let bytes = parts[0].split(separator: ".", omittingEmptySubsequences: false).compactMap { UInt8($0) }
    guard bytes.count == 4, parts[0].split(separator: ".", omittingEmptySubsequences: false).count == 4 else {
      return nil
    }
    self.init(address: bytes.bigEndian(at: 0), length: length)
  }

  static func mask(_ length: Int) -> UInt32 { length == 0 ? 0 : ~UInt32(0) << UInt32(32 - length) }

  func overlaps(_ other: Subnet) -> Bool {
    let mask = Self.mask(min(length, other.length))
    return address & mask == other.address & mask
  }

  var description: String {
    "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)/\(length)"
  }
}

/// Which subnet the pods of a data directory get.
enum SubnetPlan {
  /// How many candidates are tried; the range 10.0.0.0/8 has 65,536.
  static let maxTries = 4096

  /// The first /24 of 10.0.0.0/8, from a start that the seed gives, that no route of this machine overlaps.
  static func choose(seed: UInt64, routes: [Subnet]) throws(SkerryError) -> Subnet {
    for step in 0..<UInt64(maxTries) {
      // An odd stride visits every candidate once; 10.0.x and 10.255.x are left out, as many sites use them.
      let pick = UInt32((seed &+ step &* 40_503) & 0xffff)
      guard (1...254).contains(pick >> 8) else { continue }
      let candidate = Subnet(address: 10 << 24 | pick << 8, length: 24)
      if !routes.contains(where: { $0.overlaps(candidate) }) { return candidate }
    }
    throw SkerryError(.limitExceeded, "no free /24 was found in 10.0.0.0/8 for pods; set podSubnet")
  }

  /// The networks of /proc/net/route (proc(5)), without the default route.
  static func routes(_ text: String) -> [Subnet] {
    text.split(separator: "\n").dropFirst().compactMap { line in
      let fields = line.split(separator: "\t").map { $0.filter { $0 != " " } }
      guard fields.count > 7, let destination = UInt32(fields[1], radix: 16), let mask = UInt32(fields[7], radix: 16)
      else { return nil }
      // The kernel prints them in the machine's order of a value that is in network order.
      let length = mask.byteSwapped.nonzeroBitCount
      return length == 0 ? nil : Subnet(address: destination.byteSwapped, length: length)
    }
  }
}
