import API
import Base
import Transport
import Wire

/// Sends a list's items as fast as the caller takes them, then its END.
@LoopActor final class ListPump {
  private let list: ObjectList
  private let stream: SessionStream
  private var sent = 0

  init(_ list: ObjectList, _ stream: SessionStream) {
    self.list = list
    self.stream = stream
  }

  func start() {
    stream.onWritable = { self.pump() }
    pump()
  }

  private func pump() {
    while sent < list.items.count {
      guard stream.canSend else { return }
      let (head, body, tail) = ItemMessage.pieces(list.items[sent])
      stream.send(head: head, shared: body, tail: tail)
      sent += 1
    }
    stream.onWritable = nil
    stream.finish(raw: ListAnswer.encode(list))
  }
}

/// Pulls events from a cursor while the watcher has credit, and sends them. It holds no queue: a slow watcher is a
/// cursor that lags.
@LoopActor final class WatchPump {
  /// Events a pull; one at a time once they are large, so that little waits here past the watcher's credit.
  private static let batch = 16
  private static let largeEvent = 4_096

  private let stream: SessionStream
  private let service: APIService
  private var cursor: (any WatchCursor)?
  private var stopped = false
  private var pumping = false
  private var batch = 1
  private var timer: TimerID?
  /// Something was sent since the timer was set.
  private var spoke = false
  private var told: UInt64 = 0

  init(_ stream: SessionStream, _ service: APIService) {
    self.stream = stream
    self.service = service
  }

  func start(_ cursor: any WatchCursor, after: UInt64) {
    guard !stopped else { return cursor.cancel() }
    self.cursor = cursor
    // Strong until `stop`, which the stream's end calls: weak references cost each use, thousands of times an event.
    cursor.onAvailable = { self.pump() }
    stream.onWritable = { self.pump() }
    // The first word tells that the watch stands, before anything happens in it.
    told = after
    send(WatchEvent(kind: .bookmark, position: after, object: nil))
    if !cursor.hasBookmarks { setTimer() }
    pump()
    if !stopped { expect(cursor) }
  }

  /// Tells the cursor what an event will touch here and on its way to the socket.
  private func expect(_ cursor: any WatchCursor) {
    var touched = WorkingSet()
    touched.add(self)
    stream.note(&touched)
    cursor.expect(touched)
  }

  func stop() {
    stopped = true
    stream.onWritable = nil
    cursor?.onAvailable = nil
    cursor?.cancel()
    cursor = nil
    if let timer { service.scheduler.cancel(timer) }
    timer = nil
  }

  private func send(_ event: WatchEvent) {
    let (head, body, tail) = ItemMessage.pieces(event)
    stream.send(head: head, shared: body, tail: tail)
    told = max(told, event.position)
    spoke = true
    batch = head.count + body.count + tail.count > Self.largeEvent ? 1 : Self.batch
  }

  private enum Passed { case allSent, moreToCome, waits, refused }

  /// What other watches are sent as well leaves at once, in the frames that were made for them.
  private func pass(_ cursor: any WatchCursor) -> Passed {
    guard let run = cursor.sharedRun(), let framed = run.framed(for: stream.id) else { return .refused }
    switch stream.pass(framed) {
    case .waits: return .waits
    case .refused: return .refused
    case .sent:
      told = run.events.last?.position ?? told
      spoke = true
      service.events.add(UInt64(run.events.count))
      return cursor.pass(run) ? .moreToCome : .allSent
    }
  }

  private func pump() {
    // A cursor may call `onAvailable` from within `next`.
    guard !pumping, let cursor else { return }
    pumping = true
    defer { pumping = false }
    do throws(APIError) {
      while true {
        switch pass(cursor) {
        case .allSent, .waits: return
        case .moreToCome: continue
        case .refused: break
        }
        guard stream.canSend else { return }
        let limit = batch
        let count = try cursor.deliver(limit: limit) { self.send($0) }
        service.events.add(UInt64(count))
        if count < limit { return }
      }
    } catch {
      service.failures.add()
      stream.fail(error.call)
      stop()
    }
  }

  /// Every interval in which nothing was said ends with the position that the cursor has reached meanwhile.
  private func setTimer() {
    timer = service.scheduler.schedule(after: service.limits.bookmarkInterval) { [weak self] in
      guard let self, let cursor = self.cursor else { return }
      if !self.spoke, cursor.position > self.told, self.stream.canSend {
        self.send(WatchEvent(kind: .bookmark, position: cursor.position, object: nil))
      }
      self.spoke = false
      self.setTimer()
    }
  }
}
