import API
import Base
import ObjectModel
import Sync
import Wire

/// An edge node without containers: it follows its slice by the production messages, tells that it is ready and that its
/// pods run, and sends readings. It resumes by its cursor as an edgecore does.
@LoopActor final class HollowNode: HollowPeer {
  private var check: EventCheck
  private var log: Bytes = []
  private var epoch: UInt64 = 0
  private(set) var reached: UInt64 = 0
  private var slice: UInt32 = 0
  /// What the node holds, by key: enough for an inventory.
  private var held: [String: UInt64] = [:]
  private var snapshot: [String: UInt64]?
  let status: HollowLane
  let readings: HollowReadings
  private var opensReadings = false
  private(set) var uid = ""

  override init(_ fleet: HollowFleet, index: Int) {
    check = EventCheck(latestWins: true)
    status = HollowLane(random: fleet.random)
    readings = HollowReadings(
      device: "\(fleet.plan.namespace)/\(fleet.plan.nodeName(index))", random: fleet.random)
    super.init(fleet, index: index)
  }

  override var hello: Value {
    [
      "role": "node", "node": .string(name), "version": .string(Version.current),
      "labels": ["kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "skerry.io/bench": "hollow"],
    ]
  }
  override var position: UInt64 { reached }

  override func begin(_ link: HollowLink) {
    var params: Value = [
      "log": .string(log.isEmpty ? String(repeating: "0", count: 32) : log.hex), "epoch": .int(Int64(epoch)),
      "position": .int(Int64(clamping: reached)),
    ]
    var digest = SliceDigest()
    for (key, revision) in held { digest.add(key: key, revision: revision) }
    params["digest"] = .string(digest.bytes.hex)
    link.together {
      slice = link.open("slice", CBOR.encode(params), last: false)
      status.open(on: link)
      if opensReadings { readings.open(on: link) }
      if fleet.plan.kind == .watchingNode { watch(link) }
    }
  }

  private func watch(_ link: HollowLink) {
    let options = WatchOptions(resource: Pod.resource, fieldSelector: "spec.nodeName=\(name)", after: nil)
    link.open(CallMethod.watch, CBOR.encode(options.params))
  }

  /// Opens the readings lane; what goes up comes by `readings.make`.
  func openReadings() {
    guard !opensReadings, let link else { return }
    opensReadings = true
    if isReady { readings.open(on: link) }
  }

  override func link(_ link: HollowLink, maySendOn stream: UInt32) {
    if status.owns(stream) { status.pump() }
    if readings.owns(stream) { readings.pump() }
  }

  override func link(_ link: HollowLink, stream: UInt32, message: UnsafeRawBufferPointer) {
    if stream == slice { return took(slice: Bytes(message)) }
    if status.owns(stream) {
      status.took(message, now: fleet.now, into: &fleet.tally)
      return fleet.delivered()
    }
    if readings.owns(stream) {
      readings.took(message, now: fleet.now, into: &fleet.tally)
      return fleet.delivered()
    }
    fleet.tally.bookmarks += 1  // the node's own watch
  }

  override func link(_ link: HollowLink, stream: UInt32, ended: UnsafeRawBufferPointer) {
    fleet.tally.gaps += 1
    fleet.delivered()
  }

  override func restart() { check = EventCheck(latestWins: true) }

  // MARK: the slice

  private func took(slice message: Bytes) {
    let decoded: SliceMessage
    do throws(SkerryError) { decoded = try SliceMessage.decode(message) } catch {
      fleet.tally.damaged += 1
      return
    }
    switch decoded {
    case .resume(let log, let epoch, let position):
      (self.log, self.epoch) = (log, epoch)
      arrived(at: position)
      nowStands()
    case .begin(let log, let epoch, _):
      (self.log, self.epoch) = (log, epoch)
      snapshot = [:]
      if reached > 0 { fleet.tally.relists += 1 }
    case .object(let object):
      snapshot?[object.key] = object.revision
      put(object)
    case .keep(let key, let revision): snapshot?[key] = revision
    case .end(let position):
      held = snapshot ?? [:]
      snapshot = nil
      arrived(at: position)
      nowStands()
    case .position(let position, let entries):
      arrived(at: position)
      var told: UInt64 = 0
      for entry in entries {
        apply(entry)
        if case .toldBy(let number, _, _) = entry { told = max(told, number) }
      }
      if told > 0 {
        status.told(through: told, now: fleet.now, into: &fleet.tally)
        fleet.delivered()
      }
    case .inventory: sendInventory()
    }
    status.push()
  }

  private func arrived(at position: UInt64) {
    if position < reached { fleet.tally.disorder += 1 }
    reached = position
  }

  private func apply(_ entry: SliceEntry) {
    switch entry {
    case .drop(let key): held[key] = nil
    case .told(let key, let revision, _): held[key] = max(held[key] ?? 0, revision)
    case .toldBy(let number, let revision, _):
      guard let key = status.key(toldBy: number) else {
        fleet.tally.damaged += 1
        return
      }
      held[key] = max(held[key] ?? 0, revision)
    case .put(let object):
      held[object.key] = object.revision
      put(object)
    }
  }

  private func sendInventory() {
    guard let link else { return }
    if reached > 0 { fleet.tally.relists += 1 }
    let pairs = held.sorted { $0.key < $1.key }.map { (key: $0.key, revision: $0.value) }
    for start in stride(from: 0, to: pairs.count, by: SliceInventory.piece) {
      link.send(SliceInventory.encode(pairs[start..<min(start + SliceInventory.piece, pairs.count)]), on: slice)
    }
    link.send(SliceInventory.encode([]), on: slice)
  }

  private func put(_ object: SliceObject) {
    if object.key == "nodes//\(name)" { return tellNode(object) }
    if object.key.hasPrefix("pods/") { return tellPod(object) }
    object.body.withUnsafeBytes { body in
      guard Payload.find(in: body, length: fleet.plan.payloadBytes) != nil else { return }
      _ = check.take(
        body, revision: object.bodyRevision, payloadBytes: fleet.plan.payloadBytes, now: fleet.now,
        into: &fleet.tally)
      fleet.delivered()
    }
  }

  // MARK: statuses

  private func uid(of object: SliceObject) -> String {
    (try? CBOR.decode(object.body)).map { Object($0).uid } ?? ""
  }

  private func tellNode(_ object: SliceObject) {
    guard uid.isEmpty else { return }
    uid = uid(of: object)
    tell(object.key, uid, HollowStatus.node(name, at: fleet.scheduler.wall))
  }

  private func tellPod(_ object: SliceObject) {
    guard fleet.plan.runsPods, let body = try? CBOR.decode(object.body) else { return }
    let pod = Object(body)
    if pod.isBeingDeleted {
      return status.add(
        LanePayload.gone(key: object.key, uid: pod.uid).encode(), about: object.key, due: fleet.now)
    }
    if let told = object.status, let status = try? CBOR.decode(told), status["phase"].string == "Running" { return }
    tell(object.key, pod.uid, HollowStatus.pod(pod, at: fleet.scheduler.wall))
  }

  /// Queues a status; it leaves with `status.push`.
  func tell(_ key: String, _ uid: String, _ fields: Value) {
    status.add(LanePayload.status(key: key, uid: uid, fields: fields).encode(), about: key, due: fleet.now)
  }
}
