import Base
import DeviceSDK
import ObjectModel

/// What the devices of the scenario are and say.
extension HourCut {
  nonisolated static func device(_ number: Int) -> String { "device-\(number)" }

  nonisolated static func property(_ number: Int) -> Value {
    ["name": .string("p\(number)"), "type": number % 2 == 0 ? "INT" : "DOUBLE", "accessMode": "ReadOnly"]
  }

  nonisolated static func object(of device: Int, _ node: String) -> Value {
    [
      "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": ["name": .string(Self.device(device))],
      "spec": [
        "nodeName": .string(node), "deviceModelRef": ["name": "meter"], "protocol": ["protocolName": "sim"],
        "properties": .array((0..<properties).map { ["name": .string("p\($0)")] }),
      ],
    ]
  }

  nonisolated static func pod(_ name: String, _ node: String) -> Value {
    [
      "apiVersion": "v1", "kind": "Pod", "metadata": ["name": .string(name)],
      "spec": ["nodeName": .string(node), "containers": [["name": "c", "image": "registry.test/app:1"]]],
    ]
  }

  nonisolated static func readings(_ tick: Int, at time: Int64) -> [DeviceSDK.Reading] {
    var readings: [DeviceSDK.Reading] = []
    readings.reserveCapacity(readingsPerTick)
    for device in 0..<devices {
      let name = "default/\(Self.device(device))"
      for property in 0..<properties {
        let isCounter = property % 2 == 0
        readings.append(
          DeviceSDK.Reading(
            device: name, property: "p\(property)", type: isCounter ? .int64 : .float64,
            value: isCounter
              ? .int(counter(tick, device, property)) : .double(measurement(tick, device, property)),
            quality: .good, time: time))
      }
    }
    return readings
  }

  nonisolated static func isValue(_ text: String, tick: Int, device: Int, property: Int) -> Bool {
    property % 2 == 0
      ? Int64(text) == counter(tick, device, property) : Double(text) == measurement(tick, device, property)
  }

  /// Rises by about ten a round, never evenly.
  private nonisolated static func counter(_ tick: Int, _ device: Int, _ property: Int) -> Int64 {
    Int64(tick * 10 + device) + Int64(noise(tick, device, property) % 10)
  }

  /// Around 22, with two decimals, a slow swing and noise.
  private nonisolated static func measurement(_ tick: Int, _ device: Int, _ property: Int) -> Double {
    let swing = abs(tick / 20 % 200 - 100)
    return Double(2000 + 2 * swing + Int(noise(tick, device, property) % 100)) / 100
  }

  private nonisolated static func noise(_ tick: Int, _ device: Int, _ property: Int) -> UInt64 {
    var mixed = UInt64(tick * 100 + device * 10 + property) &* 0x9e37_79b9_7f4a_7c15
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

/// Whether rounds lie one after the other, whatever is inside a round.
struct TickOrder {
  private var low: [UInt64]
  private var high: [UInt64]
  init(_ ticks: Int) {
    low = [UInt64](repeating: .max, count: ticks)
    high = [UInt64](repeating: 0, count: ticks)
  }
  mutating func note(_ tick: Int, _ number: UInt64) {
    guard tick < low.count else { return }
    low[tick] = min(low[tick], number)
    high[tick] = max(high[tick], number)
  }
  var isKept: Bool { zip(high, low.dropFirst()).allSatisfy { $0 < $1 } }
}

/// What a run of the scenario came to.
struct HourCutFigures: Sendable {
  var readingsBefore = 0
  var toldBefore = 0
  /// When the link was back: readings that the cloud did not have, statuses that were told since it was cut, and those
  /// of them that newer ones had not superseded.
  var waiting = 0
  var statusesTold = 0
  var statusesWaiting = 0
  /// From then until everything that waited had arrived: seconds, bytes that went up, readings that they held.
  var catchUp = 0.0
  var bytes: UInt64 = 0
  var arrived: UInt64 = 0
  /// At the end.
  var readings = 0
  var inCloud = 0
  var storeBytes = 0
  var rate: UInt64 = 1

  /// The time that it took over the time that its bytes take at the link's rate.
  var ratio: Double { bytes == 0 ? .infinity : catchUp / (Double(bytes) / Double(rate)) }
}
