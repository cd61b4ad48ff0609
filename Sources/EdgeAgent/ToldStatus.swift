import Base
import ObjectModel
import Wire

/// What the node has told of one object's status, and how much of that the cloud is known to have. Pure.
///
/// A word that a later one supersedes before it is sent never reaches the cloud, and the cloud's cursor passes its number
/// all the same: only of the newest word does the cursor say that it was applied. The cloud may have any of the others, or
/// none, until then.
struct ToldStatus: Sendable {
  /// Statuses that the cloud may have; beyond it the whole status is told instead of differences.
  static let maxOpen = 4
  /// Statuses that may yet be shown by the cloud.
  static let maxRecent = 8

  let uid: String
  /// The newest, whole.
  private(set) var status: Value?
  /// The cloud has applied this one, or one of `open`; nil as long as that is not known of any: wholes are told then.
  private var certain: Value?
  /// Told as differences after `certain`, oldest first.
  private var open: [Value] = []
  /// The fields that were told lately, by their numbers, for what the cloud shows of them. The last are of `status`.
  private var recent: [(number: UInt64, fields: Value)] = []

  init(uid: String) { self.uid = uid }

  /// What to tell so that the status becomes this one, whichever of the statuses before the cloud has; nil: nothing.
  func fields(for new: Value) -> Value? {
    if status == new { return nil }
    guard let certain, open.count < Self.maxOpen else { return StatusIntent.whole(new) }
    let fields = StatusIntent.difference(new, from: [certain] + open)
    return fields.object?.isEmpty == true ? nil : fields
  }

  /// It was told by these fields, under a number; nil: it could not be stored, and is told anew with the next change.
  mutating func tell(_ new: Value, _ fields: Value, number: UInt64?) {
    guard let number else {
      self = ToldStatus(uid: uid)
      return
    }
    status = new
    if certain == nil || open.count >= Self.maxOpen {
      // The whole is right whatever the cloud has; what differs from it is not told before it has this.
      certain = nil
      open = []
    } else {
      open.append(new)
    }
    recent = (recent + [(number, fields)]).suffix(Self.maxRecent)
  }

  /// Whether it was told by this entry lately: a cloud whose slice waits for the link may have answered for it already.
  func wasTold(by number: UInt64) -> Bool { recent.contains { $0.number == number } }

  /// The cloud's cursor has reached this number.
  mutating func applied(through number: UInt64) {
    guard let newest = recent.last?.number, newest <= number else { return }
    certain = status
    open = []
  }

  /// Whether what the cloud shows is what was told, now or lately: while statuses are under way it may be behind.
  func isShown(_ shown: Value) -> Bool {
    guard let status else { return true }
    return OwnStatus.isShown(status, in: shown)
  }

  /// The bytes that what was told makes of `shown`, if `isIt` knows them: the cloud took one of the words, or several in
  /// a row.
  func madeOf(_ shown: Value, isIt: (Bytes) -> Bool) -> Bytes? {
    for start in recent.indices.reversed() {
      var status = shown
      for told in recent[start...] {
        status = StatusIntent.merge(told.fields, into: status).withoutNulls()
        let bytes = CBOR.encode(status)
        if isIt(bytes) { return bytes }
      }
    }
    return nil
  }
}
