import Base
import Sync
import Wire

/// The readings lane of a hollow node: column-packed batches by production's encoder, sent one after the other as
/// edgecore forwards devicecore's, and kept until the cloud has acknowledged them.
@LoopActor final class HollowReadings {
  private struct Batch {
    let after: UInt64
    let through: UInt64
    let block: Bytes
    /// When its last reading was due.
    let due: UInt64
  }

  let incarnation: Incarnation
  private let device: String
  private var sensor: HollowSensor
  private var batches: [Batch] = []
  /// How many of `batches` were sent on this stream.
  private var sent = 0
  private var stands = false
  /// Whether the stream was told what the series are of.
  private var isNamed = false
  private var stream: UInt32 = 0
  private weak var link: HollowLink?
  /// Readings that were made, and those that the cloud has applied.
  private var last: UInt64 = 0
  private(set) var applied: UInt64 = 0

  /// `device` is "namespace/name".
  init(device: String, random: any RandomSource) {
    guard let incarnation = Incarnation(random.bytes(16)) else { preconditionFailure("16 bytes are an incarnation") }
    self.incarnation = incarnation
    self.device = device
    sensor = HollowSensor(seed: random.next())
  }

  /// Readings that are not acknowledged.
  var waiting: Int { Int(last - applied) }

  func open(on link: HollowLink) {
    self.link = link
    (sent, stands, isNamed) = (0, false, false)
    stream = link.open(
      "lane",
      CBOR.encode(["lane": .string(Lane.readings.rawValue), "incarnations": [.string(incarnation.description)]]),
      priority: .telemetry, last: false)
  }

  func owns(_ id: UInt32) -> Bool { id == stream && link != nil }

  /// Makes a batch of so many readings, which were due at `due`, and sends it as soon as the stream takes it.
  func make(_ count: Int, wall: Int64, due: UInt64) {
    let block = ReadingBlock.encode(sensor.poll(count, wall))
    batches.append(Batch(after: last, through: last + UInt64(count), block: block, due: due))
    last += UInt64(count)
    pump()
  }

  func pump() {
    guard let link, link.isReady, stands else { return }
    while sent < batches.count, link.canSend(on: stream) {
      let batch = batches[sent]
      let packed = PackedReadings(
        incarnation: incarnation, after: batch.after, names: isNamed ? [] : HollowSensor.names(device),
        block: batch.block)
      link.send(LaneMessage.readings(packed).encode([incarnation]), on: stream)
      isNamed = true
      sent += 1
    }
  }

  /// A message of the cloud. What it acknowledges has to be a batch that was sent, and more than it did before.
  func took(_ message: UnsafeRawBufferPointer, now: UInt64, into tally: inout Tally) {
    switch try? LaneMessage.decode(Bytes(message), [incarnation]) {
    case .cursors(let cursors):
      forget(through: cursors[incarnation] ?? 0, of: batches.count, now, &tally)
      stands = true
    case .applied(incarnation, let number, let refused):
      forget(through: number, of: sent, now, &tally)
      if refused { sent = 0 }
    case .applied, .batch, .readings, nil: tally.damaged += 1
    }
    pump()
  }

  /// `bound` is how many batches may be acknowledged: of others the cloud does not know.
  private func forget(through number: UInt64, of bound: Int, _ now: UInt64, _ tally: inout Tally) {
    if number < applied { tally.disorder += 1 }
    guard number > applied else { return }
    guard let index = batches.prefix(bound).firstIndex(where: { $0.through == number }) else {
      tally.damaged += 1
      return
    }
    for batch in batches[...index] {
      tally.latency.record(now > batch.due ? now - batch.due : 0, times: batch.through - batch.after)
    }
    tally.deliveries += number - applied
    applied = number
    batches.removeFirst(index + 1)
    sent = max(0, sent - index - 1)
  }
}

/// A device with four properties that are polled together: two that drift, with one decimal, one with two, and a counter.
struct HollowSensor {
  private static let properties = [
    ("temperature", "FLOAT"), ("humidity", "FLOAT"), ("pressure", "FLOAT"), ("energy", "INT"),
  ]
  /// As a DeviceModel lists them.
  static let modelled: [Value] = properties.map {
    ["name": .string($0.0), "type": .string($0.1), "accessMode": "ReadOnly"]
  }
  /// What polls before the first batch are spread over, in milliseconds.
  private static let before: Int64 = 1_000

  private let random: SeededRandom
  private var values: [Int64]
  /// The time of the last poll.
  private var time: Int64?

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    values = [215, 450, 101_325, Int64(random.below(1_000_000))]
  }

  /// `device` is "namespace/name".
  static func names(_ device: String) -> [SeriesName] {
    properties.enumerated().map {
      SeriesName(series: UInt64($0.offset + 1), device: device, property: $0.element.0, type: $0.element.1)
    }
  }

  /// So many readings; the last poll is of now, the others lie between the one before and it, at uneven distances.
  mutating func poll(_ count: Int, _ now: Int64) -> [BlockRow] {
    let width = Self.properties.count
    let polls = (count + width - 1) / width
    let start = time ?? (now - Self.before)
    let step = max(1, (now - start) / Int64(polls))
    var rows: [BlockRow] = []
    rows.reserveCapacity(count)
    for poll in 0..<polls {
      let at = start + step * Int64(poll + 1) - draw(max(1, step / 4))
      values[0] += draw(5) - 2
      values[1] += draw(7) - 3
      values[2] += draw(9) - 4
      values[3] += 2 + draw(6)
      let row: [Value] = [
        .double(Double(values[0]) / 10), .double(Double(values[1]) / 10), .double(Double(values[2]) / 100),
        .int(values[3]),
      ]
      for (place, value) in row.enumerated() where rows.count < count {
        rows.append(BlockRow(series: UInt64(place + 1), time: at, value: value))
      }
    }
    time = max(start, now)
    return rows
  }

  private func draw(_ bound: Int64) -> Int64 { Int64(random.below(UInt64(bound))) }
}
