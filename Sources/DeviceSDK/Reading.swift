import Base

/// Whether a reading's value can be trusted. A failed poll is a bad reading, never silence.
package enum Quality: Sendable, Hashable, CustomStringConvertible {
  case good
  /// Why there is no value, in words for a person.
  case bad(String)

  /// `Good` or `Bad: reason`: the form on the wire.
  package var description: String {
    switch self {
    case .good: "Good"
    case .bad(let reason): "Bad: \(reason)"
    }
  }

  package init?(_ text: String) {
    if text == "Good" {
      self = .good
    } else if text.hasPrefix("Bad") {
      self = .bad(String(text.dropFirst(text.hasPrefix("Bad: ") ? 5 : 3)))
    } else {
      return nil
    }
  }

  package var isGood: Bool { self == .good }
}

/// One value of one property, as it was acquired.
package struct Reading: Sendable, Hashable {
  /// `namespace/name` of the Device.
  package var device: String
  package var property: String
  package var type: ValueType
  /// Null when the quality is bad.
  package var value: Value
  package var quality: Quality
  /// When the driver had the answer: milliseconds since 1970 on the edge node's wall clock.
  package var time: Int64

  /// Reasons and string values are cut to this many bytes, so that a device cannot fill the store with one reading.
  package static let maxText = 1024

  package init(device: String, property: String, type: ValueType, value: Value, quality: Quality, time: Int64) {
    self.device = device
    self.property = property
    self.type = type
    self.value = value
    self.quality = quality
    self.time = time
    if case .bad(let reason) = quality, reason.utf8.count > Self.maxText {
      self.quality = .bad(reason.cut(Self.maxText))
    }
    if case .string(let text) = value, text.utf8.count > Self.maxText { self.value = .string(text.cut(Self.maxText)) }
  }

  /// A row without its number: `[device, property, type, value, quality, time]`.
  package var row: [Value] {
    [
      .string(device), .string(property), .string(type.rawValue), value, .string(quality.description), .int(time),
    ]
  }

  /// From a row; nil when it is malformed.
  package init?(row: some RandomAccessCollection<Value>) {
    let row = Array(row)
    guard row.count == 6, let device = row[0].string, let property = row[1].string,
      let type = row[2].string.flatMap(ValueType.init(rawValue:)), let quality = row[4].string.flatMap(Quality.init),
      let time = row[5].int
    else { return nil }
    switch row[3] {
    case .null, .bool, .int, .double, .string: break
    case .array, .object: return nil
    }
    self.init(device: device, property: property, type: type, value: row[3], quality: quality, time: time)
  }
}

extension String {
  /// At most `limit` bytes of UTF-8, never half a character.
  fileprivate func cut(_ limit: Int) -> String {
    var text = self
    while text.utf8.count > limit { text.removeLast() }
    return text
  }
}
