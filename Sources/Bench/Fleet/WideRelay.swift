import Base
import EventLoop

/// A TCP relay that makes of loopback a wide area: each connection has its own delay, jitter and line rate, and may be
/// cut. The order of bytes is kept, as TCP keeps it.
@LoopActor final class WideRelay {
  struct Conditions: Sendable {
    var roundTrip: Duration = .milliseconds(80)
    /// Uniform, added to each way.
    var jitter: Duration = .zero
    /// Bits a second each way and connection; 0: as fast as it goes.
    var bitsPerSecond: Int64 = 2_000_000

    init() {}
    init(_ value: Value) {
      roundTrip = .nanoseconds(value["roundTrip"].int ?? 0)
      jitter = .nanoseconds(value["jitter"].int ?? 0)
      bitsPerSecond = value["rate"].int ?? 0
    }
    var value: Value {
      [
        "roundTrip": .int(roundTrip.nanosecondCount), "jitter": .int(jitter.nanosecondCount),
        "rate": .int(bitsPerSecond),
      ]
    }
  }

  /// Bytes held for one way of a connection before its sender is held back.
  static let maxHeld = 128 * 1024

  let conditions: Conditions
  let target: HostPort
  let scheduler: any Scheduler
  let random: any RandomSource
  private(set) var port = 0
  private(set) var up = 0
  private(set) var down = 0
  private(set) var cuts = 0
  private var listener: StreamListener?
  private var connections: [ObjectIdentifier: WideConnection] = [:]
  private var accepted = 0

  init(_ conditions: Conditions, to target: HostPort, _ worker: Worker) throws(SkerryError) {
    self.conditions = conditions
    self.target = target
    scheduler = worker.scheduler
    random = worker.random
    let listener = try TCPListener.listen(host: "127.0.0.1", port: 0)
    port = listener.boundPort
    self.listener = listener
    listener.onAccept = { [weak self] stream in self?.took(stream) }
  }

  private func took(_ stream: any ByteStream) {
    accepted += 1
    let connection = WideConnection(self, stream, slot: accepted)
    connections[ObjectIdentifier(connection)] = connection
  }

  func ended(_ connection: WideConnection) { connections[ObjectIdentifier(connection)] = nil }

  func passed(_ count: Int, isUp: Bool) { if isUp { up += count } else { down += count } }

  /// Breaks a share of the connections; answers how many.
  func cut(share: Double) -> Int {
    let chosen = connections.values.filter { _ in Double(random.below(1_000_000)) < share * 1_000_000 }
    for connection in chosen { connection.end() }
    cuts += chosen.count
    return chosen.count
  }

  var report: Value {
    [
      "connections": .int(Int64(connections.count)), "up": .int(Int64(up)), "down": .int(Int64(down)),
      "cuts": .int(Int64(cuts)),
    ]
  }
}

/// One connection through the relay.
@LoopActor final class WideConnection: ByteStreamDelegate {
  private struct Way {
    var parcels: [(due: Instant, bytes: Bytes)] = []
    var held = 0
    var lineFree = Instant(nanoseconds: 0)
    var lastDue = Instant(nanoseconds: 0)
    var armed = false
  }

  private unowned let relay: WideRelay
  private let client: any ByteStream
  private var server: (any ByteStream)?
  private var up = Way()
  private var down = Way()
  private var over = false

  init(_ relay: WideRelay, _ client: any ByteStream, slot: Int) {
    self.relay = relay
    self.client = client
    client.delegate = self
    spawn { await self.connect(slot) }
  }

  private func connect(_ slot: Int) async {
    var options = TCPOptions()
    options.source = HollowDialer.source(2_000_000 + slot, for: relay.target)
    do throws(SkerryError) {
      let stream = try await TCPStream.connect(to: relay.target, options: options)
      guard !over else { return stream.close() }
      server = stream
      stream.delegate = self
      stream.resumeReading()
      client.resumeReading()
    } catch {
      end()
    }
  }

  func end() {
    guard !over else { return }
    over = true
    client.delegate = nil
    server?.delegate = nil
    client.close()
    server?.close()
    relay.ended(self)
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    let isUp = stream === client
    relay.passed(bytes.count, isUp: isUp)
    let now = relay.scheduler.now
    var way = isUp ? up : down
    let conditions = relay.conditions
    if conditions.bitsPerSecond > 0 {
      let transmission = Double(bytes.count) * 8 / Double(conditions.bitsPerSecond) * 1e9
      way.lineFree = max(now, way.lineFree) + .nanoseconds(Int64(transmission))
    } else {
      way.lineFree = now
    }
    var delay = conditions.roundTrip / 2
    if conditions.jitter > .zero {
      delay += .nanoseconds(Int64(relay.random.below(UInt64(conditions.jitter.nanosecondCount) + 1)))
    }
    way.lastDue = max(way.lastDue, way.lineFree + delay)
    way.parcels.append((way.lastDue, Bytes(bytes)))
    way.held += bytes.count
    if way.held >= WideRelay.maxHeld { stream.pauseReading() }
    if isUp { up = way } else { down = way }
    arm(isUp)
  }

  private func arm(_ isUp: Bool) {
    let way = isUp ? up : down
    guard !way.armed, let first = way.parcels.first, !over else { return }
    if isUp { up.armed = true } else { down.armed = true }
    relay.scheduler.schedule(after: max(first.due - relay.scheduler.now, .zero)) { [weak self] in self?.forward(isUp) }
  }

  private func forward(_ isUp: Bool) {
    guard !over else { return }
    var way = isUp ? up : down
    way.armed = false
    let now = relay.scheduler.now
    let due = way.parcels.prefix { $0.due <= now }.count
    for parcel in way.parcels.prefix(due) {
      (isUp ? server : client)?.write(parcel.bytes)
      way.held -= parcel.bytes.count
    }
    way.parcels.removeFirst(due)
    if isUp { up = way } else { down = way }
    if way.held < WideRelay.maxHeld { (isUp ? client : server)?.resumeReading() }
    arm(isUp)
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { end() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) { end() }
}
