import Base
import Sync
import Testing

/// A sequence that is the same in every run.
private struct Draws: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

@Suite struct ReadingBlockTests {
  private func check(_ rows: [BlockRow]) throws -> Int {
    let bytes = ReadingBlock.encode(rows)
    #expect(try ReadingBlock.decode(bytes) == rows)
    #expect(try ReadingBlock.count(bytes) == rows.count)
    #expect(Set(try ReadingBlock.series(bytes)) == Set(rows.map(\.series)))
    return bytes.count
  }

  @Test func everyKindOfValueComesBackToTheBit() throws {
    let values: [Value] = [
      .null, true, false, 0, -1, .int(.min), .int(.max), 0.0, -0.0, 21.37, -273.15, 1e300,
      .double(.leastNonzeroMagnitude), 1e15, 0.1,
      .double(Double(Float(21.3))), "", "text", "ä", .double(1.0 / 3), 1e22, .double(.greatestFiniteMagnitude),
    ]
    var rows: [BlockRow] = []
    for (index, value) in (values + values.reversed()).enumerated() {
      rows.append(
        BlockRow(
          series: UInt64(index % 3), time: Int64(index * index) - 7, value: value,
          fault: index.isMultiple(of: 5) ? "Bad: no answer" : ""))
    }
    _ = try check(rows)
    let zero = try ReadingBlock.decode(ReadingBlock.encode([BlockRow(series: 1, time: 0, value: -0.0)]))
    #expect(zero.first?.value.double?.sign == .minus)
  }

  /// Found by FuzzReadings: with the places that the second needs, the first came back a little larger.
  @Test func aLargeValueWithFewPlacesBesideASmallOneWithMany() throws {
    let rows = [3_843_071_682_193.412, 0.123456].enumerated().map {
      BlockRow(series: 1, time: Int64($0.offset), value: .double($0.element))
    }
    _ = try check(rows)
  }

  @Test func theEmptyBlockAndTheLongestAreBlocks() throws {
    #expect(try check([]) == 3)
    let same = BlockRow(series: .max, time: .max, value: .int(.min))
    #expect(try check(Array(repeating: same, count: ReadingBlock.maxRows)) < 1200)
    _ = try check((0..<ReadingBlock.maxRows).map { BlockRow(series: UInt64($0) << 50, time: .min, value: .null) })
  }

  @Test func rowsOfAllSortsComeBackInOrder() throws {
    var draws = Draws(state: 7)
    for round in 0..<200 {
      let series = Int.random(in: 1...12, using: &draws)
      let rows = (0..<Int.random(in: 1...60, using: &draws)).map { _ in
        let value: Value =
          switch Int.random(in: 0...(round % 6), using: &draws) {
          case 0: .int(Int64.random(in: -5...5, using: &draws))
          case 1: .double(Double(Int.random(in: -900...900, using: &draws)) / 100)
          case 2: .bool(Bool.random(using: &draws))
          case 3: .double(Double.random(in: -1...1, using: &draws))
          case 4: .string(String(repeating: "x", count: Int.random(in: 0...40, using: &draws)))
          default: .int(Int64(bitPattern: draws.next()))
          }
        return BlockRow(
          series: UInt64(Int.random(in: 0..<series, using: &draws)), time: Int64(bitPattern: draws.next() >> 20),
          value: value, fault: Int.random(in: 0...9, using: &draws) == 0 ? "Bad" : "")
      }
      _ = try check(rows)
    }
  }

  /// Ten devices with five properties, as benchmarks/wan feeds them: noise, counters, a flag.
  @Test func noiseAndCountersTakeLittle() throws {
    var draws = Draws(state: 1)
    var rows: [BlockRow] = []
    var energy: Int64 = 1_000_000
    for poll in 0..<20 {
      for device in 0..<10 {
        let time = 1_700_000_000_000 + Int64(poll) * 500 + Int64(device) * 37 + Int64.random(in: -4...4, using: &draws)
        energy += Int64.random(in: 2...7, using: &draws)
        let values: [Value] = [
          .double(Double(2100 + Int.random(in: -15...15, using: &draws)) / 100),
          .double(Double(Float(101_325 + Double.random(in: -30...30, using: &draws)))), .int(energy),
          .int(2048 + Int64.random(in: -12...12, using: &draws)), .bool(poll > 12),
        ]
        for (property, value) in values.enumerated() {
          rows.append(BlockRow(series: UInt64(device * 5 + property + 1), time: time, value: value))
        }
      }
    }
    #expect(try check(rows) < rows.count * 2)
  }

  @Test func whatIsNoBlockIsRefused() throws {
    let rows = (0..<40).map { BlockRow(series: UInt64($0 % 4), time: Int64($0), value: .string("v\($0 % 7)")) }
    let block = ReadingBlock.encode(rows)
    #expect(throws: SkerryError.self) { try ReadingBlock.decode([]) }
    #expect(throws: SkerryError.self) { try ReadingBlock.decode([2] + block.dropFirst()) }
    #expect(throws: SkerryError.self) { try ReadingBlock.decode(block + [0]) }
    for length in 1..<block.count {
      #expect(throws: SkerryError.self) { try ReadingBlock.decode(Bytes(block.prefix(length))) }
    }
    // Bytes that were changed are refused or are another block, and never a trap.
    for at in block.indices {
      for bit in 0..<8 {
        var changed = block
        changed[at] ^= 1 << UInt8(bit)
        if let other = try? ReadingBlock.decode(changed) { #expect(other.count <= ReadingBlock.maxRows) }
      }
    }
  }

  /// Few bytes that claim much: a run of nulls is a block's bound and no more; texts count against theirs.
  @Test func aSmallBlockCannotBecomeALargeOne() throws {
    var writer = BitWriter()
    writer.bits(1, 8)
    writer.number(1 << 40, order: 8)
    #expect(throws: SkerryError.self) { try ReadingBlock.decode(writer.bytes) }
    let text = String(repeating: "x", count: ReadingBlock.maxText)
    let rows = (0..<600).map { BlockRow(series: 1, time: 0, value: .string("\($0)\(text.dropFirst(3))")) }
    #expect(throws: SkerryError.self) { try ReadingBlock.decode(ReadingBlock.encode(rows)) }
    let long = BlockRow(series: 1, time: 0, value: .string(text + "x"))
    #expect(throws: SkerryError.self) { try ReadingBlock.decode(ReadingBlock.encode([long])) }
  }

  @Test func namesAreToldBeforeTheyAreUsed() throws {
    let incarnation = try #require(Incarnation(Bytes(repeating: 7, count: 16)))
    let block = ReadingBlock.encode([
      BlockRow(series: 4, time: 5, value: 21.5), BlockRow(series: 4, time: 6, value: .null, fault: "Bad: gone"),
    ])
    var table = SeriesTable()
    let unnamed = PackedReadings(incarnation: incarnation, after: 9, names: [], block: block)
    #expect(throws: SkerryError.self) { try table.unpack(unnamed) }
    let name = SeriesName(series: 4, device: "default/d", property: "p", type: "float64")
    let named = PackedReadings(incarnation: incarnation, after: 9, names: [name], block: block)
    let message = LaneMessage.readings(named)
    #expect(try LaneMessage.decode(message.encode()) == message)
    #expect(try LaneMessage.decode(message.encode([incarnation]), [incarnation]) == message)
    let batch = try table.unpack(named)
    #expect(batch.after == 9 && batch.through == 11)
    #expect(batch.readings.map(\.number) == [10, 11])
    #expect(batch.readings.map(\.value) == ["21.5", ""])
    #expect(batch.readings.map(\.quality) == ["Good", "Bad: gone"])
    #expect(try table.unpack(unnamed).readings == batch.readings)
  }
}
