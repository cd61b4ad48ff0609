import Base

/// One reading of a block: which series, when, what, and how good.
package struct BlockRow: Sendable, Hashable {
  /// The series' number in the store that packed it; what it names is told beside the block.
  package var series: UInt64
  /// Milliseconds since 1970.
  package var time: Int64
  /// Null, a bool, a number or a text.
  package var value: Value
  /// Empty for a good reading; else what is wrong.
  package var fault: String
  package init(series: UInt64, time: Int64, value: Value, fault: String = "") {
    self.series = series
    self.time = time
    self.value = value
    self.fault = fault
  }
}

/// Readings packed by column: what travels on the readings lane and what lies in the device store.
///
/// Rows keep their order. proto-spec/readings.md has the bits. A block holds at most `maxRows` rows and texts of at most
/// `maxText` bytes, whatever it claims, so that a small block cannot become a large one in memory.
package enum ReadingBlock {
  /// Rows of one block.
  package static let maxRows = 4096
  /// Bytes of one text: a value, or what is wrong.
  package static let maxText = 4096
  /// Bytes of all texts of a block, a repeated one counted once.
  package static let maxTexts = 1 << 20
  /// Bytes of a block.
  package static let maxBytes = 2 << 20
  static let version: UInt64 = 1

  /// What a value is; one run of these a series is the rule.
  enum Kind: UInt64 {
    case null, bool, int, double, text

    init(_ value: Value) {
      switch value {
      case .null: self = .null
      case .bool: self = .bool
      case .int: self = .int
      // What JSON does not have is no value.
      case .double(let value): self = value.isFinite ? .double : .null
      case .string: self = .text
      // No reading has them.
      case .array, .object: self = .null
      }
    }
  }

  /// Packs rows, at most `maxRows` of them, with texts of at most `maxText` bytes.
  package static func encode(_ rows: [BlockRow]) -> Bytes {
    precondition(rows.count <= maxRows, "a block holds \(maxRows) rows")
    var writer = BitWriter()
    writer.bits(version, 8)
    writer.number(UInt64(rows.count), order: 8)
    guard !rows.isEmpty else { return writer.bytes }
    let order = RowOrder(rows.map(\.series))
    order.encode(into: &writer)
    var columns = [[BlockRow]](repeating: [], count: order.ids.count)
    for (row, local) in zip(rows, order.locals) { columns[local].append(row) }
    encodeTimes(rows, columns, &writer)
    encodeFaults(rows, &writer)
    var state = ValueState()
    for column in columns { ValueColumn.encode(column.map(\.value), &state, into: &writer) }
    return writer.bytes
  }

  /// Unpacks a block; throws on everything that is none.
  package static func decode(_ bytes: Bytes) throws(SkerryError) -> [BlockRow] { try columns(bytes).rows }

  /// Unpacks a block by column; throws on everything that is none.
  package static func columns(_ bytes: Bytes) throws(SkerryError) -> BlockColumns {
    guard bytes.count <= maxBytes else {
      throw BitReader.corrupt("\(bytes.count) bytes; at most \(maxBytes) are taken")
    }
    var reader = BitReader(bytes)
    guard try reader.bits(8) == version else { throw BitReader.corrupt("another version than \(version)") }
    let count = try reader.count(order: 8, limit: maxRows, "rows")
    guard count > 0 else {
      try reader.finish()
      return BlockColumns()
    }
    let order = try RowOrder(decoding: &reader, count: count)
    var counts = [Int](repeating: 0, count: order.ids.count)
    for local in order.locals { counts[local] += 1 }
    let times = try decodeTimes(order, counts, &reader)
    let faults = try decodeFaults(count, &reader)
    var state = ValueState()
    var values: [ValueRuns] = []
    values.reserveCapacity(counts.count)
    for count in counts { values.append(try ValueColumn.decode(count, &state, from: &reader)) }
    try reader.finish()
    return BlockColumns(
      series: order.ids, places: order.locals, counts: counts, times: times, faults: faults, values: values)
  }

  /// How many rows a block has, without looking at them.
  package static func count(_ bytes: Bytes) throws(SkerryError) -> Int {
    var reader = BitReader(Bytes(bytes.prefix(16)))
    guard try reader.bits(8) == version else { throw BitReader.corrupt("another version than \(version)") }
    return try reader.count(order: 8, limit: maxRows, "rows")
  }

  /// The numbers of the series in a block, without its readings.
  package static func series(_ bytes: Bytes) throws(SkerryError) -> [UInt64] {
    guard bytes.count <= maxBytes else {
      throw BitReader.corrupt("\(bytes.count) bytes; at most \(maxBytes) are taken")
    }
    var reader = BitReader(bytes)
    guard try reader.bits(8) == version else { throw BitReader.corrupt("another version than \(version)") }
    let count = try reader.count(order: 8, limit: maxRows, "rows")
    return count == 0 ? [] : try RowOrder.ids(&reader, rows: count)
  }

  // MARK: Times

  private static func encodeTimes(_ rows: [BlockRow], _ columns: [[BlockRow]], _ writer: inout BitWriter) {
    var (byRow, bySeries) = (BitWriter(), BitWriter())
    var shape: ColumnShape?
    NumberColumn.encode(rows.map(\.time), previous: &shape, into: &byRow)
    shape = nil
    var first = [columns.count == 1 ? Int64(0) : rows[0].time]
    for column in columns {
      // Series that begin together have first times that are near each other.
      NumberColumn.encode(column.map { $0.time &- first[0] }, previous: &shape, into: &bySeries)
    }
    let useSeries = columns.count > 1 && bySeries.bitCount + 42 < byRow.bitCount
    writer.flag(useSeries)
    if !useSeries { first = [] }
    shape = nil
    if let base = first.first {
      writer.signed(base, order: 41)
      for column in columns {
        NumberColumn.encode(column.map { $0.time &- base }, previous: &shape, into: &writer)
      }
    } else {
      NumberColumn.encode(rows.map(\.time), previous: &shape, into: &writer)
    }
  }

  private static func decodeTimes(
    _ order: RowOrder, _ counts: [Int], _ reader: inout BitReader
  ) throws(SkerryError) -> [Int64] {
    var shape: ColumnShape?
    guard try reader.flag() else {
      return try NumberColumn.decode(order.locals.count, previous: &shape, from: &reader)
    }
    let base = try reader.signed(order: 41)
    var columns: [[Int64]] = []
    for count in counts { columns.append(try NumberColumn.decode(count, previous: &shape, from: &reader)) }
    var next = [Int](repeating: 0, count: counts.count)
    return order.locals.map { local in
      defer { next[local] += 1 }
      return base &+ columns[local][next[local]]
    }
  }

  // MARK: What is wrong

  private static func encodeFaults(_ rows: [BlockRow], _ writer: inout BitWriter) {
    let any = rows.contains { !$0.fault.isEmpty }
    writer.flag(any)
    guard any else { return }
    let runs = Runs(rows.map(\.fault))
    var words: [String: Int] = [:]
    for (word, length) in runs.items {
      writer.number(UInt64(length - 1), order: 3)
      let index = words[word] ?? words.count
      writer.number(UInt64(index), order: 1)
      if index == words.count {
        words[word] = index
        writer.text(word)
      }
    }
  }

  /// Empty where nothing is wrong with any row.
  private static func decodeFaults(_ count: Int, _ reader: inout BitReader) throws(SkerryError) -> [String] {
    guard try reader.flag() else { return [] }
    var faults: [String] = []
    var words: [String] = []
    var texts = 0
    while faults.count < count {
      let length = try reader.count(order: 3, limit: count - faults.count - 1, "rows of a run") + 1
      let index = try reader.count(order: 1, limit: words.count, "words")
      if index == words.count {
        words.append(try reader.text(limit: maxText))
        texts += words[index].utf8.count
        guard texts <= maxTexts else { throw BitReader.corrupt("more than \(maxTexts) bytes of texts") }
      }
      faults += [String](repeating: words[index], count: length)
    }
    return faults
  }
}

/// A list as runs of equal elements.
struct Runs<Element: Hashable> {
  private(set) var items: [(element: Element, length: Int)] = []
  init(_ list: [Element]) {
    for element in list {
      if items.last?.element == element { items[items.count - 1].length += 1 } else { items.append((element, 1)) }
    }
  }
}
