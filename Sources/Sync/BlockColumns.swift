import Base

/// A block by column: each row's series and time, and the values of each series. No row has an object of its own, so
/// that looking through a block costs some nanoseconds a reading.
package struct BlockColumns: Sendable, Hashable {
  /// The series' numbers, in the order in which they first appear.
  package let series: [UInt64]
  /// Each row's series, as its place in `series`.
  package let places: [Int]
  /// How many rows each series has.
  let counts: [Int]
  /// Each row's time, milliseconds since 1970.
  package let times: [Int64]
  /// What is wrong with each row; empty where nothing is with any.
  let faults: [String]
  /// The values of each series.
  let values: [ValueRuns]

  init(
    series: [UInt64] = [], places: [Int] = [], counts: [Int] = [], times: [Int64] = [], faults: [String] = [],
    values: [ValueRuns] = []
  ) {
    self.series = series
    self.places = places
    self.counts = counts
    self.times = times
    self.faults = faults
    self.values = values
  }

  /// Rows.
  package var count: Int { places.count }

  /// The rows one by one.
  package var rows: [BlockRow] {
    var rows: [BlockRow] = []
    rows.reserveCapacity(count)
    let lists = values.map(\.list)
    var next = [Int](repeating: 0, count: series.count)
    for (index, place) in places.enumerated() {
      rows.append(
        BlockRow(
          series: series[place], time: times[index], value: lists[place][next[place]],
          fault: faults.isEmpty ? "" : faults[index]))
      next[place] += 1
    }
    return rows
  }

  /// The last good row of each series that has one, in the order of the rows; `place` is the series' in `series`.
  package func newest() -> [(place: Int, time: Int64, value: Value)] {
    var found: [(place: Int, time: Int64, value: Value)] = []
    var left = counts
    var isFound = [Bool](repeating: false, count: series.count)
    var missing = counts.count { $0 > 0 }
    for index in places.indices.reversed() where missing > 0 {
      let place = places[index]
      left[place] -= 1
      guard !isFound[place], faults.isEmpty || faults[index].isEmpty else { continue }
      isFound[place] = true
      missing -= 1
      found.append((place, times[index], values[place][left[place]]))
    }
    return found.reversed()
  }
}

/// The values of one series: runs of one kind, and the values of each kind in a list of their own.
struct ValueRuns: Sendable, Hashable {
  struct Run: Sendable, Hashable {
    var kind: ReadingBlock.Kind
    var length: Int
  }

  var runs: [Run]
  var bools: [Bool]
  var ints: [Int64]
  var floats: [Double]
  var texts: [String]

  /// Value number `position`, which is below their count.
  subscript(position: Int) -> Value {
    var (left, before) = (position, Offsets())
    for run in runs {
      if left < run.length { return value(run.kind, before[run.kind] + left) }
      left -= run.length
      before.add(run)
    }
    preconditionFailure("a series has no value \(position)")
  }

  var list: [Value] {
    var values: [Value] = []
    values.reserveCapacity(runs.reduce(0) { $0 + $1.length })
    var before = Offsets()
    for run in runs {
      let start = before[run.kind]
      for index in start..<start + run.length { values.append(value(run.kind, index)) }
      before.add(run)
    }
    return values
  }

  private func value(_ kind: ReadingBlock.Kind, _ index: Int) -> Value {
    switch kind {
    case .null: .null
    case .bool: .bool(bools[index])
    case .int: .int(ints[index])
    case .double: .double(floats[index])
    case .text: .string(texts[index])
    }
  }

  /// How many values of each kind came.
  private struct Offsets {
    private var counts = (null: 0, bool: 0, int: 0, double: 0, text: 0)
    subscript(kind: ReadingBlock.Kind) -> Int {
      switch kind {
      case .null: counts.null
      case .bool: counts.bool
      case .int: counts.int
      case .double: counts.double
      case .text: counts.text
      }
    }
    mutating func add(_ run: Run) {
      switch run.kind {
      case .null: counts.null += run.length
      case .bool: counts.bool += run.length
      case .int: counts.int += run.length
      case .double: counts.double += run.length
      case .text: counts.text += run.length
      }
    }
  }
}
