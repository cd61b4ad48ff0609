import Base

/// Which row is of which series. Series have local numbers in the order in which they first appear; after each row the
/// series that followed the same one last time is expected, and at first the next new one. Devices are polled in turn,
/// so that this is nearly always right, and only the exceptions cost bits.
struct RowOrder {
  /// Series' numbers, by local number.
  private(set) var ids: [UInt64] = []
  /// Each row's local number.
  private(set) var locals: [Int] = []

  init(_ series: [UInt64]) {
    var known: [UInt64: Int] = [:]
    for id in series {
      let local = known[id] ?? ids.count
      if local == ids.count {
        known[id] = local
        ids.append(id)
      }
      locals.append(local)
    }
  }

  func encode(into writer: inout BitWriter) {
    writer.number(UInt64(ids.count - 1), order: 3)
    var last: UInt64 = 0
    for id in ids {
      writer.signed(Int64(truncatingIfNeeded: id &- last &- 1), order: 0)
      last = id
    }
    guard ids.count > 1 else { return }
    var expected = Expectation(count: ids.count)
    var hits = 0
    for local in locals {
      if expected.next == local {
        hits += 1
      } else {
        writer.number(UInt64(hits), order: 4)
        writer.number(UInt64(local), order: 2)
        hits = 0
      }
      expected.was(local)
    }
    if hits > 0 { writer.number(UInt64(hits), order: 4) }
  }

  static func ids(_ reader: inout BitReader, rows: Int) throws(SkerryError) -> [UInt64] {
    let count = try reader.count(order: 3, limit: rows - 1, "series more than rows") + 1
    var ids: [UInt64] = []
    var last: UInt64 = 0
    for _ in 0..<count {
      last = last &+ 1 &+ UInt64(bitPattern: try reader.signed(order: 0))
      ids.append(last)
    }
    return ids
  }

  init(decoding reader: inout BitReader, count: Int) throws(SkerryError) {
    ids = try Self.ids(&reader, rows: count)
    guard ids.count > 1 else {
      locals = [Int](repeating: 0, count: count)
      return
    }
    var expected = Expectation(count: ids.count)
    locals.reserveCapacity(count)
    while locals.count < count {
      let hits = try reader.count(order: 4, limit: count - locals.count, "rows in order")
      for _ in 0..<hits {
        guard let next = expected.next else { throw BitReader.corrupt("a row of a series that is not named") }
        locals.append(next)
        expected.was(next)
      }
      guard locals.count < count else { break }
      let local = try reader.count(order: 2, limit: ids.count - 1, "series")
      locals.append(local)
      expected.was(local)
    }
  }

  /// What is expected next.
  private struct Expectation {
    /// What came behind each series the last time; below 0: nothing yet.
    private var after: [Int]
    private var fresh = 0
    private var last = -1
    private let count: Int

    init(count: Int) {
      self.count = count
      after = [Int](repeating: -1, count: count)
    }

    var next: Int? {
      if last >= 0, after[last] >= 0 { return after[last] }
      if fresh < count { return fresh }
      return last >= 0 ? 0 : nil
    }

    mutating func was(_ local: Int) {
      if last >= 0 { after[last] = local }
      last = local
      fresh = max(fresh, local + 1)
    }
  }
}

/// What later columns of a block take from earlier ones.
struct ValueState {
  var ints: ColumnShape?
  var floats: ColumnShape?
  var form: FloatColumn.Form?
  /// The kind that all values of the column before had.
  var kind: ReadingBlock.Kind?
  /// Bytes of texts so far.
  var texts = 0
}

/// The values of one series.
enum ValueColumn {
  static func encode(_ values: [Value], _ state: inout ValueState, into writer: inout BitWriter) {
    let runs = Runs(values.map { ReadingBlock.Kind($0) })
    // One kind, the same as before: one bit.
    let same = runs.items.count == 1 && runs.items.first?.element == state.kind
    writer.flag(same)
    if !same {
      for (kind, length) in runs.items {
        writer.bits(kind.rawValue, 3)
        writer.number(UInt64(length - 1), order: 4)
      }
    }
    state.kind = runs.items.count == 1 ? runs.items.first?.element : nil
    var (bools, ints, floats, texts): ([Bool], [Int64], [Double], [String]) = ([], [], [], [])
    for value in values {
      switch value {
      case .null, .array, .object: break
      case .bool(let value): bools.append(value)
      case .int(let value): ints.append(value)
      case .double(let value): if value.isFinite { floats.append(value) }
      case .string(let value): texts.append(value)
      }
    }
    for run in Runs(bools).items.map(\.length) { writer.number(UInt64(run - 1), order: 2) }
    if let first = bools.first { writer.flag(first) }
    NumberColumn.encode(ints, previous: &state.ints, into: &writer)
    FloatColumn.encode(floats, form: &state.form, shape: &state.floats, into: &writer)
    encode(texts, into: &writer)
  }

  private static func encode(_ texts: [String], into writer: inout BitWriter) {
    var words: [String: Int] = [:]
    for text in texts {
      let index = words[text] ?? words.count
      // Counted from the newest, so that a new one and a repeated one are both small.
      writer.number(UInt64(words.count - index), order: 1)
      if index == words.count {
        words[text] = index
        writer.text(text)
      }
    }
  }

  static func decode(
    _ count: Int, _ state: inout ValueState, from reader: inout BitReader
  ) throws(SkerryError) -> ValueRuns {
    var kinds: [ValueRuns.Run] = []
    if try reader.flag() {
      guard let kind = state.kind else { throw BitReader.corrupt("the first column has no column before it") }
      kinds = [ValueRuns.Run(kind: kind, length: count)]
    } else {
      var left = count
      while left > 0 {
        guard let kind = ReadingBlock.Kind(rawValue: try reader.bits(3)) else {
          throw BitReader.corrupt("an unknown kind of value")
        }
        let length = try reader.count(order: 4, limit: left - 1, "values of a run") + 1
        kinds.append(ValueRuns.Run(kind: kind, length: length))
        left -= length
      }
    }
    state.kind = kinds.count == 1 ? kinds[0].kind : nil
    func total(_ kind: ReadingBlock.Kind) -> Int { kinds.reduce(0) { $1.kind == kind ? $0 + $1.length : $0 } }
    let bools = try bools(total(.bool), &reader)
    let ints = try NumberColumn.decode(total(.int), previous: &state.ints, from: &reader)
    let floats = try FloatColumn.decode(total(.double), form: &state.form, shape: &state.floats, from: &reader)
    let texts = try texts(total(.text), &state, &reader)
    return ValueRuns(runs: kinds, bools: bools, ints: ints, floats: floats, texts: texts)
  }

  private static func bools(_ count: Int, _ reader: inout BitReader) throws(SkerryError) -> [Bool] {
    guard count > 0 else { return [] }
    var lengths: [Int] = []
    var left = count
    while left > 0 {
      let length = try reader.count(order: 2, limit: left - 1, "values of a run") + 1
      lengths.append(length)
      left -= length
    }
    var value = try reader.flag()
    var bools: [Bool] = []
    for length in lengths {
      bools += [Bool](repeating: value, count: length)
      value.toggle()
    }
    return bools
  }

  private static func texts(
    _ count: Int, _ state: inout ValueState, _ reader: inout BitReader
  ) throws(SkerryError) -> [String] {
    var words: [String] = []
    var texts: [String] = []
    for _ in 0..<count {
      let back = try reader.count(order: 1, limit: words.count, "texts")
      if back == 0 {
        words.append(try reader.text(limit: ReadingBlock.maxText))
        state.texts += words[words.count - 1].utf8.count
        guard state.texts <= ReadingBlock.maxTexts else {
          throw BitReader.corrupt("more than \(ReadingBlock.maxTexts) bytes of texts")
        }
        texts.append(words[words.count - 1])
      } else {
        texts.append(words[words.count - back])
      }
    }
    return texts
  }
}
