import API
import Base
import Glibc
import Wire

/// The params of a write of one ConfigMap, encoded once: each write only puts another name and payload into place, so that
/// the generator spends its time on the connection.
struct WriteTemplate {
  /// Digits of a key's number.
  private static let digits = 8
  private static let mark = "k" + String(repeating: "@", count: digits)

  private(set) var bytes: Bytes
  private var names: [Int] = []
  private var payload: Range<Int> = 0..<0

  /// `method` is create or update; `prefix` begins the objects' names.
  init(method: String, resource: String, namespace: String, prefix: String, payloadBytes: Int) {
    let text = String(decoding: Payload(writer: 0, sequence: 0, time: 0).bytes(payloadBytes), as: UTF8.self)
    let name = prefix + Self.mark
    let object: Value = [
      "apiVersion": "v1", "kind": "ConfigMap", "metadata": ["name": .string(name), "namespace": .string(namespace)],
      "data": ["payload": .string(text)],
    ]
    let item: BatchItem =
      method == CallMethod.create
      ? .create(resource: resource, namespace: namespace, object: object)
      : .update(
        ObjectReference(resource: resource, namespace: namespace, name: name), object: object, subresource: "")
    bytes = CBOR.encode(item.params)
    let mark = Bytes(Self.mark.utf8)
    for offset in 0..<max(0, bytes.count - mark.count) where bytes[offset] == mark[0] {
      if bytes[offset..<(offset + mark.count)].elementsEqual(mark) { names.append(offset + 1) }
    }
    bytes.withUnsafeBytes { raw in
      guard let found = Payload.find(in: raw, length: max(payloadBytes, Payload.headerBytes)),
        let base = raw.baseAddress, let start = found.baseAddress
      else { return }
      payload = (start - base)..<(start - base + found.count)
    }
  }

  static func name(_ prefix: String, _ key: Int) -> String {
    let text = String(key)
    return prefix + "k" + String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  /// The params of the write of `key` with this payload.
  mutating func fill(key: Int, _ content: Payload) -> Bytes {
    var rest = key
    var digits: [UInt8] = []
    for _ in 0..<Self.digits {
      digits.append(UInt8(ascii: "0") + UInt8(rest % 10))
      rest /= 10
    }
    for start in names {
      for (index, digit) in digits.reversed().enumerated() { bytes[start + index] = digit }
    }
    let range = payload
    bytes.withUnsafeMutableBytes { content.write(to: UnsafeMutableRawBufferPointer(rebasing: $0[range])) }
    return bytes
  }
}
