import API
import Base
import ObjectModel
import Sync

/// Turns what the node has to say into lane entries: statuses that changed, pods that went, events.
@LoopActor package final class NodeReporter: PodReporter {
  private let outbox: Outbox
  private let nodeName: String
  private let scheduler: any Scheduler
  private let random: any RandomSource
  /// What was told last, by log key: a status is only told when it differs, and of it what differs.
  private var told: [String: ToldStatus] = [:]
  /// Events of the same subject, reason and message are one event with a count.
  private var events: [String: RepeatedEvent] = [:]

  /// Hears what goes into the lanes.
  package weak var listener: (any NodeWordListener)?

  /// Different events remembered for counting; beyond it the memory starts anew.
  static let maxRememberedEvents = 2000

  package init(outbox: Outbox, nodeName: String, scheduler: any Scheduler, random: any RandomSource) {
    self.outbox = outbox
    self.nodeName = nodeName
    self.scheduler = scheduler
    self.random = random
    outbox.onApplied = { [weak self] lane, incarnation, number in
      guard let self, lane == .status, incarnation == self.outbox.current else { return }
      for key in self.told.keys { self.told[key]?.applied(through: number) }
    }
  }

  package func podStatus(key: String, uid: String, status: Value) { tell(key: key, uid: uid, status: status) }

  /// Tells the status of any object that the node owns, if it changed since it was last told.
  package func tell(key: String, uid: String, status: Value) {
    var state = told[key].flatMap { $0.uid == uid ? $0 : nil } ?? ToldStatus(uid: uid)
    guard let fields = state.fields(for: status) else { return }
    let number = outbox.append(.status, subject: "\(key) \(uid)", .status(key: key, uid: uid, fields: fields))
    state.tell(status, fields, number: number)
    told[key] = state
    listener?.said(key: key, uid: uid, status: StatusIntent.whole(status))
  }

  /// The status of an object that the cloud shows in place of `shown` and whose bytes `isIt` knows, if it is one that
  /// this node told: so the cloud need not send back what it got.
  package func madeOf(key: String, shown: Value, isIt: (Bytes) -> Bool) -> Bytes? {
    told[key]?.madeOf(shown, isIt: isIt)
  }

  /// The log key of what an entry of the status lane told lately.
  package func key(toldBy number: UInt64) -> String? { told.first { $0.value.wasTold(by: number) }?.key }

  /// The cloud shows something else than the node last told: somebody changed what the node owns. Tell it again.
  package func assertAgain(key: String) { told[key] = nil }

  package func podShown(key: String, uid: String, status: Value) {
    guard let last = told[key], last.uid == uid, !last.isShown(status) else { return }
    // Also so when the cloud is only behind; telling it once more than needed has no effect.
    told[key] = nil
  }

  package func podGone(key: String, uid: String) {
    if told[key]?.uid == uid { told[key] = nil }
    outbox.append(.status, subject: "\(key) \(uid)", .gone(key: key, uid: uid))
    listener?.saidGone(key: key, uid: uid)
  }

  package func event(
    regarding object: Object, apiVersion: String, kind: String, type: String, reason: String, message: String
  ) {
    let now = Timestamp.format(scheduler.wall)
    let identity = "\(object.uid) \(reason) \(message)"
    if events.count > Self.maxRememberedEvents { events = [:] }
    let suffix = { () -> String in
      var bytes: Bytes = []
      bytes.append(bigEndian: self.random.next())
      return bytes.hex
    }
    var known = events[identity] ?? RepeatedEvent(name: "\(object.name).\(suffix())", first: now)
    let isTold = known.came(at: scheduler.now)
    events[identity] = known
    guard isTold else { return }
    let namespace = object.namespace.isEmpty ? "default" : object.namespace
    let value: Value = [
      "apiVersion": "v1", "kind": "Event",
      "metadata": ["name": .string(known.name), "namespace": .string(namespace)],
      "involvedObject": [
        "apiVersion": .string(apiVersion), "kind": .string(kind), "name": .string(object.name),
        "namespace": .string(object.namespace), "uid": .string(object.uid),
      ],
      "type": .string(type), "reason": .string(reason), "message": .string(String(message.prefix(1024))),
      "source": ["component": "edgecore", "host": .string(nodeName)], "reportingComponent": "edgecore",
      "reportingInstance": .string(nodeName), "count": .int(known.count), "firstTimestamp": .string(known.first),
      "lastTimestamp": .string(now),
    ]
    outbox.append(.events, subject: "", .event(namespace: namespace, object: value))
    listener?.saidEvent(namespace: namespace, object: value)
  }
}
