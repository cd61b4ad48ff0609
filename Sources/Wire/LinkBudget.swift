import Base

/// Bytes of frames by class.
package struct TrafficCount: Sendable, Hashable {
  // No array: each session counts both directions, and each event that leaves.
  private var control: UInt64 = 0
  private var status: UInt64 = 0
  private var telemetry: UInt64 = 0
  private var bulk: UInt64 = 0

  package init() {}

  package subscript(_ priority: Priority) -> UInt64 {
    get {
      switch priority {
      case .control: control
      case .status: status
      case .telemetry: telemetry
      case .bulk: bulk
      }
    }
    set {
      switch priority {
      case .control: control = newValue
      case .status: status = newValue
      case .telemetry: telemetry = newValue
      case .bulk: bulk = newValue
      }
    }
  }

  package var total: UInt64 { control + status + telemetry + bulk }

  /// What was added since an earlier count.
  package func difference(from earlier: TrafficCount) -> TrafficCount {
    var difference = TrafficCount()
    for priority in Priority.allCases { difference[priority] = self[priority] &- earlier[priority] }
    return difference
  }

  package static func += (left: inout TrafficCount, right: TrafficCount) {
    for priority in Priority.allCases { left[priority] += right[priority] }
  }
}

/// What one direction of a link may carry, as an operator set it: bytes a second for all of it, and for single classes.
///
/// A token bucket that holds `burst` seconds' worth. The lower the class, the fuller the common bucket has to be before
/// it may send: bulk waits first, then telemetry, then status. Control is counted and never held back, so that pings
/// and answers pass whatever else there is.
package struct LinkBudget: Sendable, Hashable {
  /// Bytes a second.
  package struct Rates: Sendable, Hashable {
    /// Of all classes together; nil: as much as the link takes.
    package var total: Int?
    /// Of single classes beside that.
    package var classes: [Priority: Int] = [:]
    package init(total: Int? = nil, classes: [Priority: Int] = [:]) {
      self.total = total
      self.classes = classes
    }
    package var isUnlimited: Bool { total == nil && classes.isEmpty }
  }

  /// No rate is below it: a frame of 16 KiB would be waited for too long.
  package static let minRate = 256
  /// Seconds' worth that a bucket holds, and the least of it: a whole frame.
  package static let burst = 2.0
  /// How full the common bucket has to be, as a share, before a class may take from it.
  package static let reserves: [Priority: Double] = [.control: -.infinity, .status: 0, .telemetry: 0.25, .bulk: 0.5]

  private struct Bucket: Sendable, Hashable {
    let rate: Double
    let size: Double
    var level: Double

    init(_ rate: Int) {
      self.rate = Double(max(rate, LinkBudget.minRate))
      size = max(self.rate * LinkBudget.burst, Double(WireLimits.frameBytes))
      level = size
    }

    /// Seconds until the level is above `share` of the size.
    func wait(_ share: Double) -> Double { max(0, (share * size - level) / rate) }
  }

  private var common: Bucket?
  private var own: [Bucket?] = [nil, nil, nil, nil]
  private var at: Instant

  package init(_ rates: Rates, now: Instant) {
    common = rates.total.map { Bucket($0) }
    for (priority, rate) in rates.classes where priority != .control { own[Int(priority.rawValue)] = Bucket(rate) }
    at = now
  }

  /// Lets time pass.
  package mutating func refill(_ now: Instant) {
    let seconds = max(0, (now - at).seconds)
    at = now
    func fill(_ bucket: Bucket) -> Bucket {
      var bucket = bucket
      bucket.level = min(bucket.size, bucket.level + bucket.rate * seconds)
      return bucket
    }
    common = common.map(fill)
    own = own.map { $0.map(fill) }
  }

  /// Whether a frame of the class may leave now; it may then be as long as it is, and is paid for afterwards.
  package func allows(_ priority: Priority) -> Bool { wait(priority) <= 0 }

  package mutating func spend(_ bytes: Int, _ priority: Priority) {
    common?.level -= Double(bytes)
    own[Int(priority.rawValue)]?.level -= Double(bytes)
  }

  /// When a frame of the class may leave if nothing else does.
  package func next(_ priority: Priority) -> Instant {
    at + .milliseconds(Int64((wait(priority) * 1000).rounded(.up)) + 1)
  }

  private func wait(_ priority: Priority) -> Double {
    guard priority != .control else { return 0 }
    let reserve = Self.reserves[priority] ?? 0
    return max(common?.wait(reserve) ?? 0, own[Int(priority.rawValue)]?.wait(0) ?? 0)
  }
}
