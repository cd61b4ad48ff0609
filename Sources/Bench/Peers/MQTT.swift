import Base
import EventLoop

/// MQTT 3.1.1, as far as the bench speaks it: clean sessions, quality of service 0 and 1.
/// Source: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html
enum MQTT {
  enum Kind {
    static let connack: UInt8 = 0x20
    static let publish: UInt8 = 0x30
    static let suback: UInt8 = 0x90
    static let pong: UInt8 = 0xd0
  }

  static func packet(_ head: UInt8, _ body: Bytes) -> Bytes {
    var out: Bytes = [head]
    var length = body.count
    repeat {
      let byte = UInt8(length % 128)
      length /= 128
      out.append(length > 0 ? byte | 0x80 : byte)
    } while length > 0
    return out + body
  }

  private static func text(_ text: String) -> Bytes {
    var out: Bytes = []
    out.append(bigEndian: UInt16(text.utf8.count))
    return out + Bytes(text.utf8)
  }

  static func connect(_ client: String, keepAlive: UInt16 = 600) -> Bytes {
    var body = text("MQTT") + [4, 2]
    body.append(bigEndian: keepAlive)
    return packet(0x10, body + text(client))
  }
  static func subscribe(_ topic: String) -> Bytes { packet(0x82, [0, 1] + text(topic) + [0]) }
  static func publish(_ topic: String, _ payload: Bytes) -> Bytes { packet(Kind.publish, text(topic) + payload) }
  static let ping: Bytes = [0xc0, 0]

  /// The first packet and its length; nil while it is not whole.
  static func next(_ bytes: UnsafeRawBufferPointer) -> (head: UInt8, body: UnsafeRawBufferPointer, length: Int)? {
    var (length, shift, offset) = (0, 0, 1)
    while true {
      guard offset < bytes.count, offset < 5 else { return nil }
      length |= Int(bytes[offset] & 0x7f) << shift
      offset += 1
      if bytes[offset - 1] & 0x80 == 0 { break }
      shift += 7
    }
    guard bytes.count >= offset + length else { return nil }
    return (bytes[0], UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + length)]), offset + length)
  }

  /// What a PUBLISH of quality 0 carries.
  static func payload(_ body: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard body.count >= 2 else { return nil }
    let start = 2 + Int(UInt16(bigEndian: body.loadUnaligned(as: UInt16.self)))
    guard start <= body.count else { return nil }
    return UnsafeRawBufferPointer(rebasing: body[start...])
  }
}

/// One subscription on one connection.
@LoopActor final class MQTTSubscriber: BrokerPeer {
  override func greet(_ stream: any ByteStream) { stream.write(MQTT.connect("bench-\(index)")) }

  override func parse(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while offset < bytes.count, let packet = MQTT.next(UnsafeRawBufferPointer(rebasing: bytes[offset...])) {
      offset += packet.length
      switch packet.head & 0xf0 {
      case MQTT.Kind.connack:
        guard packet.body.count == 2, packet.body[1] == 0 else { return refuse(offset) }
        stream?.write(MQTT.subscribe(fleet.plan.namespace))
      case MQTT.Kind.suback: established()
      case MQTT.Kind.publish: if let payload = MQTT.payload(packet.body) { took(payload) }
      default: break
      }
    }
    return offset
  }

  private func refuse(_ offset: Int) -> Int {
    broke("the broker refuses the connection")
    return offset
  }
}

@LoopActor final class MQTTPublisher: BrokerPublisher {
  override func hello() -> Bytes { MQTT.connect("bench-publisher") + MQTT.ping }
  override func publish(_ payload: Bytes, subject: String) { send(MQTT.publish(subject, payload)) }
  override func mark() { send(MQTT.ping) }

  override func parse(_ bytes: UnsafeRawBufferPointer) -> Int {
    var offset = 0
    while offset < bytes.count, let packet = MQTT.next(UnsafeRawBufferPointer(rebasing: bytes[offset...])) {
      offset += packet.length
      if packet.head & 0xf0 == MQTT.Kind.pong { marked() }
    }
    return offset
  }
}
