import Base

extension SeededRandom {
  /// A stream of its own for a purpose, so that drawing more for one thing does not change another.
  package static func stream(_ seed: UInt64, _ purpose: String) -> SeededRandom {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in purpose.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return SeededRandom(seed: hash ^ (seed &* 0x9e37_79b9_7f4a_7c15))
  }
}

extension RandomSource {
  /// True `percent` times in a hundred.
  package func chance(_ percent: UInt64) -> Bool { below(100) < percent }

  /// Uniform, both ends included.
  package func between(_ low: Int, _ high: Int) -> Int { low + Int(below(UInt64(max(high - low, 0)) + 1)) }

  package func duration(_ low: Duration, _ high: Duration) -> Duration {
    let (a, b) = (low.nanosecondCount, max(low.nanosecondCount, high.nanosecondCount))
    return .nanoseconds(a + Int64(below(UInt64(b - a) + 1)))
  }

  package func pick<T>(_ items: [T]) -> T? { items.isEmpty ? nil : items[Int(below(UInt64(items.count)))] }
}
