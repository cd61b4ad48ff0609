import Base
import Sync

/// The sizes that clusters come in: a seed pays for many nodes or for much time. More than half have ten nodes or more,
/// more than half run for an hour or more.
private enum Shape {
  case large, usual, crowded, long, short

  /// Every ninth seed has a large cluster, so that any range of seeds has its tenth of them.
  static let largeEvery: UInt64 = 9

  init(seed: UInt64, random: any RandomSource) {
    let draw = random.below(100)
    self =
      switch draw {
      case _ where seed % Self.largeEvery == 0: .large
      case 0..<38: .usual
      case 38..<55: .crowded
      case 55..<77: .long
      default: .short
      }
  }

  func edges(_ random: any RandomSource) -> Int {
    switch self {
    case .large: random.between(100, 110)
    case .usual: random.between(10, 11)
    case .crowded: random.between(10, 20)
    case .long: random.between(1, 5)
    case .short: random.between(2, 9)
    }
  }

  func duration(_ random: any RandomSource) -> Duration {
    switch self {
    case .large: random.duration(.seconds(240), .seconds(360))
    case .usual: random.duration(.seconds(3600), .seconds(3700))
    case .crowded: random.duration(.seconds(600), .seconds(1200))
    case .long: random.duration(.seconds(3600), .seconds(5400))
    case .short: random.duration(.seconds(500), .seconds(1200))
    }
  }
}

/// What a seed draws before it begins: how large the cluster is, how long it runs, how much goes wrong.
package struct Knobs: Sendable {
  package var edges: Int
  /// Virtual time in which there is work and faults; settling comes after it.
  package var duration: Duration
  /// How many faults there are; the time is divided between them evenly, each falls anywhere in its part.
  package var faults: Int
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
  /// Changes of slices that the hub remembers.
  package var sliceJournal: Int
  /// It remembers more than a run changes.
  package var remembersSlices: Bool { sliceJournal == SliceIndex.defaultJournalLimit }

  /// `isSmall` bounds size and time, for tests in a build that is not optimised.
  package init(seed: UInt64, random: any RandomSource, isSmall: Bool = false) {
    let shape = Shape(seed: seed, random: random)
    let isLarge = shape == .large
    edges = shape.edges(random)
    duration = shape.duration(random)
    faults = isLarge ? random.between(12, 16) : random.between(14, 28)
    writeEvery = duration / (isLarge ? random.between(80, 160) : random.between(80, 180))
    readingEvery = random.duration(.seconds(20), .seconds(120))
    latency = random.duration(.milliseconds(1), .milliseconds(300))
    jitter = random.duration(.zero, latency)
    bytesPerSecond =
      random.chance(30) ? UInt64(random.between(8_000, 60_000)) : UInt64(random.between(100_000, 5_000_000))
    watches = random.between(2, 4)
    podsPerEdge = isLarge ? random.between(1, 2) : random.between(2, 4)
    devices = isLarge ? random.between(2, 6) : random.between(1, min(edges, 5))
    retention = random.chance(40) ? random.duration(.seconds(60), .seconds(300)) : .seconds(600)
    certificateLife = random.chance(40) ? random.duration(.seconds(900), .seconds(3000)) : .seconds(365 * 86_400)
    sliceJournal = random.chance(50) ? random.between(edges, edges * 4) : SliceIndex.defaultJournalLimit
    guard isSmall else { return }
    edges = random.between(2, 4)
    duration = .seconds(500)
    faults = 20
    writeEvery = .seconds(5)
    readingEvery = .seconds(20)
    devices = 2
    watches = 2
  }

  package var description: String {
    "\(edges) edges, \(Int(duration.seconds)) s, \(faults) faults, a write every "
      + "\(Int(writeEvery.seconds)) s, latency \(latency.milliseconds) ms, \(bytesPerSecond) B/s, retention "
      + "\(Int(retention.seconds)) s"
  }
}
