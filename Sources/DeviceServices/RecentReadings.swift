import Base
import DeviceSDK
import Transport
import Wire

/// The newest readings of each device since this start, in memory: what the node's own API shows without asking the
/// store, whose order is that of the export.
///
/// `readings.recent` `{"device", "property"?, "after"?, "limit"?}` answers `{"items": [{number, property, type, value,
/// quality, time}], "next"}`: without `after` the newest, with it the oldest behind it. Numbers are this process's.
@LoopActor package final class RecentReadings {
  package static let method = "readings.recent"
  /// Readings of one device, and devices; of more devices the newest are not kept.
  package nonisolated static let perDevice = 256
  package nonisolated static let maxDevices = 1_000
  package nonisolated static let maxPage: Int64 = 1_000

  private struct Numbered {
    var number: Int64
    var reading: Reading
  }
  private var devices: [String: [Numbered]] = [:]
  private var last: Int64 = 0

  package init() {}

  package func take(_ readings: [Reading]) {
    for reading in readings {
      guard devices[reading.device] != nil || devices.count < Self.maxDevices else { continue }
      last += 1
      devices[reading.device, default: []].append(Numbered(number: last, reading: reading))
      // Twice as many before they are cut, so that one reading does not move all others.
      let count = devices[reading.device]?.count ?? 0
      if count >= 2 * Self.perDevice { devices[reading.device]?.removeFirst(count - Self.perDevice) }
    }
  }

  package func page(device: String, property: String?, after: Int64?, limit: Int64) -> Value {
    let all = (devices[device] ?? []).suffix(Self.perDevice).filter {
      property == nil || $0.reading.property == property
    }
    let count = Int(min(max(limit, 1), Self.maxPage))
    // A number from before this start is above all of ours.
    let start = after.map { $0 > last ? 0 : $0 }
    let page = start.map { start in Array(all.filter { $0.number > start }.prefix(count)) } ?? Array(all.suffix(count))
    let items = page.map { item -> Value in
      [
        "number": .int(item.number), "property": .string(item.reading.property),
        "type": .string(item.reading.type.rawValue), "value": .string(item.reading.value.deviceText),
        "quality": .string(item.reading.quality.description), "time": .int(item.reading.time),
      ]
    }
    return ["items": .array(items), "next": .int(page.last?.number ?? start ?? 0)]
  }

  /// Takes a stream of its method; false if it is of another.
  package func serve(_ stream: SessionStream) -> Bool {
    guard stream.method == Self.method else { return false }
    let params = stream.params
    stream.finish(
      page(
        device: params["device"].string ?? "", property: params["property"].string, after: params["after"].int,
        limit: params["limit"].int ?? 100))
    return true
  }
}
