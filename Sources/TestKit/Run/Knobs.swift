import Base

/// What a seed draws before it begins: how large the cluster is, how long it runs, how much goes wrong.
package struct Knobs: Sendable {
  package var edges: Int
  /// Virtual time in which there is work and faults; settling comes after it.
  package var duration: Duration
  /// Mean time between two faults.
  package var faultEvery: Duration
  /// Mean time between two writes of the operators.
  package var writeEvery: Duration
  /// Mean time between two readings of a device.
  package var readingEvery: Duration
  package var latency: Duration
  package var jitter: Duration
  package var bytesPerSecond: UInt64
  package var watches: Int
  package var podsPerEdge: Int
  package var devices: Int
  package var retention: Duration
  package var certificateLife: Duration

  /// `isSmall` bounds size and time, for tests in a build that is not optimised.
  package init(random: any RandomSource, isSmall: Bool = false) {
    let size = random.below(100)
    let isLarge = size >= 89
    edges =
      switch size {
      case 0..<8: random.between(1, 4)
      case 8..<38: random.between(5, 9)
      case 38..<82: random.between(10, 13)
      case 82..<89: random.between(14, 30)
      default: random.between(100, 104)
      }
    duration = isLarge ? random.duration(.seconds(420), .seconds(600)) : random.duration(.seconds(3600), .seconds(4200))
    let faults = isLarge ? random.between(12, 20) : random.between(16, 60)
    faultEvery = duration / faults
    writeEvery = duration / (isLarge ? random.between(120, 240) : random.between(120, 320))
    readingEvery = random.duration(.seconds(20), .seconds(120))
    latency = random.duration(.milliseconds(1), .milliseconds(300))
    jitter = random.duration(.zero, latency)
    bytesPerSecond =
      random.chance(30) ? UInt64(random.between(8_000, 60_000)) : UInt64(random.between(100_000, 5_000_000))
    watches = random.between(2, 4)
    podsPerEdge = isLarge ? 2 : random.between(2, 4)
    devices = isLarge ? random.between(2, 6) : random.between(1, min(edges, 5))
    retention = random.chance(40) ? random.duration(.seconds(60), .seconds(300)) : .seconds(600)
    certificateLife = random.chance(40) ? random.duration(.seconds(900), .seconds(3000)) : .seconds(365 * 86_400)
    guard isSmall else { return }
    edges = random.between(2, 4)
    duration = .seconds(500)
    faultEvery = .seconds(25)
    writeEvery = .seconds(5)
    readingEvery = .seconds(20)
    devices = 2
    watches = 2
  }

  package var description: String {
    "\(edges) edges, \(Int(duration.seconds)) s, a fault every \(Int(faultEvery.seconds)) s, a write every "
      + "\(Int(writeEvery.seconds)) s, latency \(latency.milliseconds) ms, \(bytesPerSecond) B/s, retention "
      + "\(Int(retention.seconds)) s"
  }
}
