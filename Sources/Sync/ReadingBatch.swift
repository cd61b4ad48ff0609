import Base

/// Readings that came together: the block as it was packed, what its series are of, and its columns.
package struct ReadingBatch: Sendable, Hashable {
  /// A `ReadingBlock`.
  package let block: Bytes
  package let columns: BlockColumns
  /// What the series are of, in the order of `columns.series`.
  package let names: [SeriesName]

  init(block: Bytes, columns: BlockColumns, names: [SeriesName]) {
    self.block = block
    self.columns = columns
    self.names = names
  }

  /// Packs readings, at most `ReadingBlock.maxRows` of them, with their values as texts. Throws where their texts are
  /// too long for a block.
  package init(_ readings: [Reading]) throws(SkerryError) {
    var numbers: [[String]: UInt64] = [:]
    var names: [SeriesName] = []
    let rows = readings.map { reading in
      let key = [reading.device, reading.property, reading.type]
      let series = numbers[key] ?? UInt64(numbers.count + 1)
      if numbers.updateValue(series, forKey: key) == nil {
        names.append(
          SeriesName(series: series, device: reading.device, property: reading.property, type: reading.type))
      }
      return BlockRow(
        series: series, time: reading.time, value: .string(reading.value),
        fault: reading.quality == Reading.good ? "" : reading.quality)
    }
    try self.init(rows, names)
  }

  /// Packs rows; `names` are of their series in the order in which these first appear.
  private init(_ rows: [BlockRow], _ names: [SeriesName]) throws(SkerryError) {
    let block = ReadingBlock.encode(rows)
    self.init(block: block, columns: try ReadingBlock.columns(block), names: names)
  }

  package var count: Int { columns.count }

  /// One by one; the first has the number after `after`.
  package func list(after: UInt64) -> [Reading] {
    columns.rows.enumerated().map { index, row in
      Reading(number: after + 1 + UInt64(index), names[columns.places[index]], row)
    }
  }

  /// The newest good reading of each series; none has a number.
  package func newest() -> [Reading] {
    columns.newest().map { place, time, value in
      Reading(number: 0, names[place], BlockRow(series: 0, time: time, value: value))
    }
  }

  /// Without the series at some places; nil if nothing is left.
  package func without(_ dropped: Set<Int>) throws(SkerryError) -> ReadingBatch? {
    let rows = zip(columns.places, columns.rows).filter { !dropped.contains($0.0) }.map(\.1)
    guard !rows.isEmpty else { return nil }
    return try ReadingBatch(rows, names.enumerated().filter { !dropped.contains($0.offset) }.map(\.element))
  }
}

extension Reading {
  /// The quality of a good reading.
  package static let good = "Good"

  /// A row of a block as a reading of what `name` says.
  package init(number: UInt64, _ name: SeriesName, _ row: BlockRow) {
    self.init(
      number: number, device: name.device, property: name.property, type: name.type, value: row.value.readingText,
      quality: row.fault.isEmpty ? Self.good : row.fault, time: row.time)
  }
}
