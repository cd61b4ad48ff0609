import Synchronization

/// Where randomness comes from: the kernel in daemons, a seed in a simulation. Handed down, never asked for.
package protocol RandomSource: AnyObject, Sendable {
  /// 64 uniform bits.
  func next() -> UInt64
}

extension RandomSource {
  package func bytes(_ count: Int) -> Bytes {
    var out: Bytes = []
    out.reserveCapacity(count + 8)
    while out.count < count { out.append(bigEndian: next()) }
    out.removeLast(out.count - count)
    return out
  }

  /// Uniform in `0..<bound`; `bound` is positive.
  package func below(_ bound: UInt64) -> UInt64 {
    precondition(bound > 0)
    return next().multipliedFullWidth(by: bound).high
  }

  /// A version 4 UUID (RFC 9562) in lower case: what every `metadata.uid` is.
  package func uuid() -> String {
    var raw = bytes(16)
    raw[6] = raw[6] & 0x0f | 0x40
    raw[8] = raw[8] & 0x3f | 0x80
    let text = raw.hex
    var out = ""
    for (index, character) in text.enumerated() {
      if [8, 12, 16, 20].contains(index) { out.append("-") }
      out.append(character)
    }
    return out
  }
}

/// The kernel's randomness.
package final class SystemRandom: RandomSource {
  package init() {}
  package func next() -> UInt64 {
    var generator = SystemRandomNumberGenerator()
    return generator.next()
  }
}

/// SplitMix64 over a seed: the simulator's and the tests' randomness. Not for secrets.
package final class SeededRandom: RandomSource {
  private let state: Mutex<UInt64>
  package init(seed: UInt64) { state = Mutex(seed) }
  package func next() -> UInt64 {
    var z = state.withLock { state in
      state &+= 0x9e37_79b9_7f4a_7c15
      return state
    }
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
