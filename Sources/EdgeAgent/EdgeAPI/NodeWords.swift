import API
import APIServer
import Base
import ObjectLog
import ObjectModel
import Sync
import Wire

/// Hears what the node says of itself, at the moment in which it goes into a lane.
@LoopActor package protocol NodeWordListener: AnyObject {
  /// The node's status of an object that it owns.
  func said(key: String, uid: String, status: Value)
  /// The node has finished with a pod.
  func saidGone(key: String, uid: String)
  func saidEvent(namespace: String, object: Value)
}

/// What the node has said and the cloud may not show yet, by log key: what the edge API lays over the replica.
///
/// The node's own word stands for as long as the object lives, since it is the node that owns those fields; what a
/// client of the edge API wrote stands until the cloud shows it.
struct NodeWords {
  private struct Word {
    var uid: String
    /// What the node says itself, and what clients on the node wrote.
    var own: Value = .null
    var written: Value = .null
    var isGone = false
  }
  private var words: [String: Word] = [:]

  private mutating func word(_ key: String, _ uid: String) -> Word {
    if let found = words[key], found.uid == uid { return found }
    return Word(uid: uid)
  }

  mutating func say(_ key: String, uid: String, status: Value) {
    var word = word(key, uid)
    word.own = status
    words[key] = word
  }

  /// What waited in the lane when this process began: parts of a status, the older first.
  mutating func recall(_ key: String, uid: String, fields: Value) {
    var word = word(key, uid)
    word.own = NodeWords.combine(word.own, fields)
    words[key] = word
  }

  /// Answers all that clients wrote to the object and the cloud does not show yet, with this.
  mutating func write(_ key: String, uid: String, fields: Value) -> Value {
    var word = word(key, uid)
    word.written = NodeWords.combine(word.written, fields)
    words[key] = word
    return word.written
  }

  mutating func finish(_ key: String, uid: String) {
    var word = word(key, uid)
    word.isGone = true
    words[key] = word
  }

  mutating func forget(_ key: String) { words[key] = nil }

  /// Fields of two writes as one: those of the later win, conditions and twins by their names, null stays null.
  static func combine(_ earlier: Value, _ later: Value) -> Value {
    guard case .object(var fields) = earlier else { return later }
    for (key, value) in later.object ?? [:] {
      switch (key, fields[key], value) {
      case ("conditions", .some(.array(let old)), .array(let new)):
        fields[key] = .array(old.filter { mine in !new.contains { $0["type"] == mine["type"] } } + new)
      case ("twins", .some(.array(let old)), .array(let new)):
        fields[key] = .array(
          old.filter { mine in !new.contains { $0["propertyName"] == mine["propertyName"] } } + new)
      default: fields[key] = value
      }
    }
    return .object(fields)
  }

  /// The object as this node knows it, from what the replica has; nil if the node is done with it.
  mutating func overlay(_ stored: StoredObject, key: String, kind: Kind) throws(SkerryError) -> StoredObject? {
    guard let word = words[key] else { return stored }
    let meta = try ObjectMeta(decoding: stored.meta)
    guard word.uid == meta.uid else {
      words[key] = nil
      return stored
    }
    if word.isGone { return meta.isBeingDeleted ? nil : stored }
    let shown = try stored.status.map { bytes throws(SkerryError) in try CBOR.decode(bytes) } ?? .null
    var status = StatusIntent.merge(word.own, into: shown)
    if !word.written.isNull {
      if OwnStatus.isShown(word.written, in: shown) { words[key]?.written = .null }
      status = StatusIntent.merge(word.written, into: status)
    }
    guard status != shown else { return stored }
    var laid = stored
    laid.status = CBOR.encode(status)
    var value = try CBOR.decode(stored.body)
    value["status"] = status
    laid.meta = ObjectMeta(Object(value), kind: kind).encoded
    return laid
  }
}
