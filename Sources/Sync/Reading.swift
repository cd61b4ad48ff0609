import Base

/// One device reading on its way up: `[number, device "namespace/name", property, type, value, quality, time ms]`.
package struct Reading: Sendable, Hashable {
  package var number: UInt64
  package var device: String
  package var property: String
  /// `INT`, `FLOAT`, `BOOLEAN`, `STRING` …: the DeviceModel's type.
  package var type: String
  /// The value as text, as KubeEdge's twins carry it.
  package var value: String
  /// `Good`, or the reason why it is not.
  package var quality: String
  /// Acquisition, milliseconds since 1970 by the node's clock.
  package var time: Int64
  package init(
    number: UInt64, device: String, property: String, type: String, value: String, quality: String, time: Int64
  ) {
    self.number = number
    self.device = device
    self.property = property
    self.type = type
    self.value = value
    self.quality = quality
    self.time = time
  }

  package var encoded: Value {
    [
      .int(Int64(clamping: number)), .string(device), .string(property), .string(type), .string(value),
      .string(quality), .int(time),
    ]
  }

  package init?(_ value: Value) {
    guard let fields = value.array, fields.count == 7, let number = fields[0].int, number >= 0,
      let device = fields[1].string, let property = fields[2].string, let type = fields[3].string,
      let text = fields[4].string, let quality = fields[5].string, let time = fields[6].int
    else { return nil }
    self.init(
      number: UInt64(number), device: device, property: property, type: type, value: text, quality: quality, time: time)
  }
}

/// What a series of readings is of; its number is the store's that packed them.
package struct SeriesName: Sendable, Hashable {
  package var series: UInt64
  /// `namespace/name`.
  package var device: String
  package var property: String
  package var type: String
  package init(series: UInt64, device: String, property: String, type: String) {
    self.series = series
    self.device = device
    self.property = property
    self.type = type
  }
}

/// A batch of the readings lane: the entries after `after`, one a row of the block.
package struct PackedReadings: Sendable, Hashable {
  package var incarnation: Incarnation
  package var after: UInt64
  /// Names of series that the block is the first on its stream to use.
  package var names: [SeriesName]
  /// A `ReadingBlock`.
  package var block: Bytes
  package init(incarnation: Incarnation, after: UInt64, names: [SeriesName], block: Bytes) {
    self.incarnation = incarnation
    self.after = after
    self.names = names
    self.block = block
  }
}

/// The series that were named on one lane stream, and the readings that its blocks make.
package struct SeriesTable: Sendable {
  /// Series that one stream may name; stops a node that never ends naming.
  package static let maxSeries = 100_000

  private var names: [UInt64: SeriesName] = [:]

  package init() {}

  /// The batch with its readings, by column: none has an object of its own.
  package mutating func unpack(_ packed: PackedReadings) throws(SkerryError) -> LaneBatch {
    for name in packed.names { names[name.series] = name }
    guard names.count <= Self.maxSeries else {
      throw SkerryError(.limitExceeded, "more than \(Self.maxSeries) series on one stream")
    }
    guard packed.after <= UInt64.max - UInt64(ReadingBlock.maxRows) else {
      throw SkerryError(.protocolViolation, "readings after \(packed.after)")
    }
    let columns = try ReadingBlock.columns(packed.block)
    var used: [SeriesName] = []
    used.reserveCapacity(columns.series.count)
    for series in columns.series {
      guard let name = names[series] else {
        throw SkerryError(.protocolViolation, "readings of series \(series), which was not named")
      }
      used.append(name)
    }
    return LaneBatch(
      incarnation: packed.incarnation, after: packed.after, through: packed.after + UInt64(columns.count),
      packed: ReadingBatch(block: packed.block, columns: columns, names: used))
  }
}

extension Value {
  /// A reading's value as text, as KubeEdge's twins carry it.
  package var readingText: String {
    switch self {
    case .null: ""
    case .bool(let bool): bool ? "true" : "false"
    case .int(let int): "\(int)"
    case .double(let double): "\(double)"
    case .string(let text): text
    case .array, .object: "\(self)"
    }
  }
}
