import Base

/// How a column of integers is predicted and coded: what it says at its head.
struct ColumnShape: Sendable, Hashable {
  /// 0: each number is `step` and a rest; 1: each number is the one before it, `step` and a rest.
  var order: Int
  var step: Int64
  /// Order of the prefix code of the rests.
  var k: Int
  /// Order of the prefix code of the first number (order 1 only).
  var firstK: Int

  static let maxK = 63
}

/// A column of integers: noise around a value, counters, clocks, all by one prediction and one prefix code.
///
/// A column that is like the one before it says so in one bit, so that many short columns cost little.
enum NumberColumn {
  static func encode(_ values: [Int64], previous: inout ColumnShape?, into writer: inout BitWriter) {
    guard let first = values.first else { return }
    var best = shape(values, order: 0)
    if values.count > 1 {
      let other = shape(values, order: 1)
      if other.bits < best.bits { best = other }
    }
    if let previous, bits(values, previous) <= best.bits + headBits(best.shape) {
      writer.flag(true)
      write(values, first, previous, &writer)
      return
    }
    // The first column of a block has nothing before it, and spends no bit to say so.
    if previous != nil { writer.flag(false) }
    previous = best.shape
    writer.bits(UInt64(best.shape.order), 1)
    writer.bits(UInt64(best.shape.k), 6)
    writer.signed(best.shape.step, order: 6)
    if best.shape.order == 1 { writer.bits(UInt64(best.shape.firstK), 6) }
    write(values, first, best.shape, &writer)
  }

  static func decode(
    _ count: Int, previous: inout ColumnShape?, from reader: inout BitReader
  ) throws(SkerryError) -> [Int64] {
    guard count > 0 else { return [] }
    let shape: ColumnShape
    if let previous, try reader.flag() {
      shape = previous
    } else {
      let order = Int(try reader.bits(1))
      let k = Int(try reader.bits(6))
      let step = try reader.signed(order: 6)
      shape = ColumnShape(order: order, step: step, k: k, firstK: order == 1 ? Int(try reader.bits(6)) : 0)
      previous = shape
    }
    var values: [Int64] = []
    // No more than the bytes can hold is set aside: every number takes at least a bit.
    values.reserveCapacity(min(count, reader.bitsLeft))
    if shape.order == 0 {
      for _ in 0..<count { values.append(shape.step &+ (try reader.signed(order: shape.k))) }
      return values
    }
    var last = try reader.signed(order: shape.firstK)
    values.append(last)
    for _ in 1..<count {
      last = last &+ shape.step &+ (try reader.signed(order: shape.k))
      values.append(last)
    }
    return values
  }

  private static func write(_ values: [Int64], _ first: Int64, _ shape: ColumnShape, _ writer: inout BitWriter) {
    if shape.order == 0 {
      for value in values { writer.signed(value &- shape.step, order: shape.k) }
      return
    }
    writer.signed(first, order: shape.firstK)
    var last = first
    for value in values.dropFirst() {
      writer.signed(value &- last &- shape.step, order: shape.k)
      last = value
    }
  }

  private static func bits(_ values: [Int64], _ shape: ColumnShape) -> Int {
    rests(values, shape.order, shape.step).reduce(0) { $0 + BitWriter.cost(ZigZag.encode($1), order: shape.k) }
      + (shape.order == 1 ? BitWriter.cost(ZigZag.encode(values[0]), order: shape.firstK) : 0)
  }

  private static func headBits(_ shape: ColumnShape) -> Int {
    7 + BitWriter.cost(ZigZag.encode(shape.step), order: 6) + (shape.order == 1 ? 6 : 0)
  }

  private static func rests(_ values: [Int64], _ order: Int, _ step: Int64) -> [Int64] {
    if order == 0 { return values.map { $0 &- step } }
    return zip(values, values.dropFirst()).map { $1 &- $0 &- step }
  }

  /// The best shape of an order that this encoder looks for: the median as the step, and the cheapest code.
  private static func shape(_ values: [Int64], order: Int) -> (shape: ColumnShape, bits: Int) {
    let sorted = rests(values, order, 0).sorted()
    let step = sorted[sorted.count / 2]
    var sum = 0
    // Where the mean amount's bits stand the code is near its best; the neighbours are tried.
    for rest in sorted { sum += 64 - ZigZag.encode(rest &- step).leadingZeroBitCount }
    let middle = sum / sorted.count
    let firstK = order == 1 ? min(ColumnShape.maxK, 64 - ZigZag.encode(values[0]).leadingZeroBitCount) : 0
    var best: (shape: ColumnShape, bits: Int)?
    for k in max(0, middle - 2)...min(ColumnShape.maxK, middle + 1) {
      let shape = ColumnShape(order: order, step: step, k: k, firstK: firstK)
      let cost = bits(values, shape)
      if cost < best?.bits ?? .max { best = (shape, cost) }
    }
    return best ?? (ColumnShape(order: order, step: step, k: 0, firstK: firstK), .max)
  }
}
