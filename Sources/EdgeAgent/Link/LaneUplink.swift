import API
import Base
import Logging
import Sync
import Wire

/// Sends one lane of the outbox over one session, several batches at a time, and forgets what the cloud has applied.
@LoopActor package final class LaneUplink {
  private let lane: Lane
  private let outbox: Outbox
  private let pipe: any MessagePipe
  private let logger: Logger
  private var sender: LaneSender?
  private var ended = false
  /// Incarnations as the stream was opened with them: messages name them by their places.
  private let names: [Incarnation]
  private let gather: Duration
  private let scheduler: (any Scheduler)?
  private var gathering: TimerID?
  /// The lane's stream is over while its session may go on: the cloud could not take a batch (its disk was full), or
  /// the outbox could not be read. What was not applied is still in the outbox.
  package var onEnd: (@LoopActor () -> Void)?

  /// `pipe` is a stream that was opened with `parameters`. With a `scheduler`, new entries wait `gather` for others that
  /// can travel with them, and may be superseded meanwhile.
  package init(
    lane: Lane, outbox: Outbox, pipe: any MessagePipe, gather: Duration = .zero, scheduler: (any Scheduler)? = nil,
    logger: Logger
  ) {
    self.gather = gather
    self.scheduler = scheduler
    names = Self.named(lane, outbox)
    self.lane = lane
    self.outbox = outbox
    self.pipe = pipe
    self.logger = logger
    pipe.onMessage = { [weak self] message in self?.received(message) }
    pipe.onWritable = { [weak self] in self?.pump() }
    pipe.onEnd = { [weak self] result in self?.end(result) }
  }

  /// What the stream is opened with: the incarnations that still hold entries, oldest first, and the current one.
  /// With `isTold` the slice may answer for the lane.
  package static func parameters(_ lane: Lane, _ outbox: Outbox, isTold: Bool = false) -> Value {
    var parameters: Value = [
      "lane": .string(lane.rawValue),
      "incarnations": .array(named(lane, outbox).map { .string($0.description) }),
    ]
    if isTold { parameters["told"] = true }
    return parameters
  }

  /// The slice said that the newest of the named incarnations is applied through `number`.
  func told(through number: UInt64) {
    guard let last = names.last, sender?.acknowledged(last, through: number, refused: false) == true else { return }
    outbox.forget(lane, last, through: number)
    pump()
    goOn()
  }

  /// The oldest, as many as one stream may name; when they are applied, the lane is opened again for the next.
  private static func named(_ lane: Lane, _ outbox: Outbox) -> [Incarnation] {
    var ids = outbox.incarnations(lane).map(\.id)
    if !ids.contains(outbox.current) { ids.append(outbox.current) }
    return Array(ids.prefix(LaneMessage.maxIncarnations))
  }

  /// All that this stream named was applied, and there is more.
  package var onNext: (() -> Void)?

  private func goOn() {
    guard !ended, sender?.isDrained == true, let last = outbox.incarnations(lane).last?.id, !names.contains(last) else {
      return
    }
    ended = true
    pipe.finish(.null)
    onNext?()
  }

  private func received(_ message: Bytes) {
    do throws(SkerryError) {
      switch try LaneMessage.decode(message, names) {
      case .cursors(let cursors):
        for incarnation in names { outbox.cloudStands(lane, incarnation, at: cursors[incarnation] ?? 0) }
        for (incarnation, number) in cursors where number > 0 { outbox.forget(lane, incarnation, through: number) }
        sender = LaneSender(
          incarnations: outbox.incarnations(lane).filter { names.contains($0.id) }, cursors: cursors)
      case .applied(let incarnation, let number, let refused):
        if sender?.acknowledged(incarnation, through: number, refused: refused) == true {
          outbox.forget(lane, incarnation, through: number)
        }
      case .batch, .readings:
        throw SkerryError(.protocolViolation, "the hub sent a batch on a lane, which only nodes do")
      }
      pump()
      goOn()
    } catch {
      stop("\(error)")
    }
  }

  /// New entries are durable.
  package func grew() {
    guard let last = outbox.incarnations(lane).last(where: { $0.id == outbox.current })?.last else { return }
    guard names.contains(outbox.current) else { return }
    sender?.grew(outbox.current, last: last)
    guard let scheduler, gather > .zero else { return pump() }
    guard gathering == nil else { return }
    gathering = scheduler.schedule(after: gather) { [weak self] in
      self?.gathering = nil
      self?.pump()
    }
  }

  private func pump() {
    guard !ended, sender != nil, gathering == nil else { return }
    do throws(SkerryError) {
      while pipe.canSend, let range = sender?.next() {
        let entries = try outbox.read(lane, range.incarnation, after: range.after, through: range.through)
        let batch = LaneBatch(
          incarnation: range.incarnation, after: range.after, through: range.through, entries: entries)
        pipe.send(LaneMessage.batch(batch).encode(names))
        sender?.didSend(range.incarnation, through: range.through)
      }
    } catch {
      stop("\(error)")
    }
  }

  private func stop(_ message: String) {
    guard !ended else { return }
    logger.error(EdgeLog.laneRefused, "lane \(lane.rawValue) begins again: \(message)")
    pipe.fail(CallError(reason: "BadRequest", message: message))
    over()
  }

  private func over() {
    guard !ended else { return }
    ended = true
    let callback = onEnd
    onEnd = nil
    callback?()
  }

  private func end(_ result: Result<Value, CallError>) {
    if !ended, case .failure(let error) = result, error.reason != CallError.disconnected {
      logger.error(EdgeLog.laneRefused, "lane \(lane.rawValue) was refused by the cloud: \(error)")
    }
    over()
  }
}
