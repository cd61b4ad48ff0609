import API
import Base
import Logging
import ObjectLog
import Sync
import Wire

/// One node's reader of its slice: a cursor that is moved while the node takes messages.
@LoopActor package final class SlicePump {
  /// Changes that are read and sent as one message.
  static let batch = 500

  private enum Phase {
    case awaitingInventory([String: UInt64])
    case snapshot(keys: [String], next: Int, held: [String: UInt64], position: UInt64)
    case following
    case ended
  }

  package let node: String
  private unowned let hub: SliceHub
  private let pipe: any MessagePipe
  private let logger: Logger
  private var phase = Phase.following
  /// Everything through here was handed to the pipe.
  private(set) var cursor: UInt64 = 0
  /// Through here every status is sent, also those that the node told.
  var wholeThrough: UInt64 = 0
  private var pumping = false
  /// The incarnation of the node's status lane whose numbers this session's slice may use; nil: it names keys.
  var statusLane: Incarnation? {
    didSet { if statusLane != oldValue { toldThrough = 0 } }
  }
  /// Through here the slice has said that the status lane is applied.
  private var toldThrough: UInt64 = 0

  init(hub: SliceHub, node: String, pipe: any MessagePipe, logger: Logger) {
    self.hub = hub
    self.node = node
    self.pipe = pipe
    self.logger = logger
  }

  /// The position that the node is known to have once what was sent has arrived; 0 while that is not certain. The
  /// hub's ping carries it. It moves over what does not concern the node, so that one that nothing happens to does not
  /// fall behind what the index remembers.
  package func bookmark() -> UInt64 {
    pump()
    guard case .following = phase, pipe.isFlushed else { return 0 }
    return cursor
  }

  /// The entry for a status that the node told by `word`.
  func named(
    _ key: String, by word: (incarnation: Incarnation, number: UInt64), revision: UInt64, check: UInt32
  ) -> SliceEntry {
    guard word.incarnation == statusLane else { return .told(key: key, statusRevision: revision, check: check) }
    toldThrough = max(toldThrough, word.number)
    return .toldBy(number: word.number, statusRevision: revision, check: check)
  }

  /// Whether the node has heard, or is about to hear, by its slice that the status lane is applied through a number.
  package func hasTold(_ incarnation: Incarnation, _ number: UInt64) -> Bool {
    incarnation == statusLane && number <= toldThrough
  }

  func begin(cursor held: Cursor?, digest: Bytes) {
    // Strong: the stream lets them go when it is over.
    pipe.onWritable = { self.pump() }
    pipe.onMessage = { self.received($0) }
    pipe.onEnd = { _ in self.end() }
    let tail = hub.log.tail
    let position = hub.index.position
    do throws(SkerryError) {
      if let held, held.log == tail.log, held.epoch == tail.epoch, held.position >= hub.index.floor,
        held.position <= position
      {
        follow(from: held.position)
      } else if try hub.digest(of: node, at: position).bytes == digest {
        follow(from: position)
      } else {
        phase = .awaitingInventory([:])
        pipe.send(SliceMessage.inventory.encode())
      }
    } catch {
      fail(error)
    }
  }

  private func follow(from position: UInt64) {
    let tail = hub.log.tail
    cursor = position
    phase = .following
    pipe.send(SliceMessage.resume(log: tail.log.bytes, epoch: tail.epoch, position: position).encode())
    pump()
  }

  private func received(_ message: Bytes) {
    guard case .awaitingInventory(var held) = phase else { return }
    do throws(SkerryError) {
      let piece = try SliceInventory.decode(message)
      for (key, revision) in piece { held[key] = revision }
      guard held.count <= SliceInventory.maxKeys else {
        throw SkerryError(.limitExceeded, "node \(node) names more than \(SliceInventory.maxKeys) keys")
      }
      phase = .awaitingInventory(held)
      if piece.isEmpty { snapshot(held) }
    } catch {
      fail(error)
    }
  }

  private func snapshot(_ held: [String: UInt64]) {
    let tail = hub.log.tail
    let position = hub.index.position
    phase = .snapshot(keys: hub.index.keys(of: node), next: 0, held: held, position: position)
    pipe.send(SliceMessage.begin(log: tail.log.bytes, epoch: tail.epoch, position: position).encode())
    pump()
  }

  /// Sends what is due while the node takes it.
  func pump() {
    guard !pumping else { return }
    pumping = true
    defer { pumping = false }
    do throws(SkerryError) {
      while pipe.canSend {
        guard try step() else { return }
      }
    } catch {
      fail(error)
    }
  }

  /// False when there is nothing to send now.
  private func step() throws(SkerryError) -> Bool {
    switch phase {
    case .awaitingInventory, .ended: return false
    case .snapshot(let keys, let next, let held, let position):
      if next == keys.count {
        pipe.send(SliceMessage.end(position: position).encode())
        cursor = position
        phase = .following
        return true
      }
      phase = .snapshot(keys: keys, next: next + 1, held: held, position: position)
      guard let object = try hub.object(keys[next], at: position) else { return true }
      let message: SliceMessage =
        held[object.key] == object.revision
        ? .keep(key: object.key, revision: object.revision) : .object(object)
      pipe.send(message.encode())
      return true
    case .following:
      guard !hub.isApplying(node) else { return false }
      guard let (changes, through) = hub.index.changes(of: node, after: cursor, limit: Self.batch) else {
        // The node lagged below what the index remembers: compare inventories.
        phase = .awaitingInventory([:])
        pipe.send(SliceMessage.inventory.encode())
        return false
      }
      if changes.isEmpty {
        cursor = through
        return false
      }
      let before = toldThrough
      do throws(SkerryError) { pipe.send(try hub.encode(changes, through: through, for: self)) } catch {
        toldThrough = before  // nothing of it was said
        throw error
      }
      cursor = through
      return true
    }
  }

  private func fail(_ error: SkerryError) {
    if error.code == .tooOld {
      // History went away between two reads: the inventories lead to the present.
      phase = .awaitingInventory([:])
      return pipe.send(SliceMessage.inventory.encode())
    }
    logger.error(HubLog.sliceIndex, "the slice of node \(node) cannot be served: \(error)")
    pipe.fail(CallError(reason: "InternalError", message: "\(error)"))
    end()
  }

  func end() {
    phase = .ended
    pipe.onWritable = nil
    pipe.onMessage = nil
    pipe.onEnd = nil
    hub.detach(self)
  }
}
