import Base
import DeviceSDK
import Logging
import Sync
import Transport
import Wire

/// Serves the readings to edgecore: it pulls pages behind a position, and hands the cloud's cursor back.
///
/// * `readings.pull` `{"incarnation"?, "after", "limit"?, "gather"?}`, a stream: messages of the readings lane
///   (proto-spec/sync.md), as readings appear, in order, through the incarnations: packed batches, and a batch with one
///   `dropped` entry where readings are gone. With `gather` (milliseconds) readings wait so long for others that can
///   travel with them.
/// * `readings.ack` `{"i", "t"}`: the cloud has everything through `t`; the answer's `waiting` is how many it has not.
/// * `readings.incarnations`: `{"incarnations": [{"i", "exported", "last"}]}`, oldest first.
@LoopActor package final class ReadingExport {
  package static let pull = "readings.pull"
  package static let acknowledge = "readings.ack"
  package static let incarnations = "readings.incarnations"
  package static let defaultPage = 500
  /// Milliseconds that readings may wait for others at most.
  package static let maxGather: Int64 = 600_000

  private let store: ReadingStore
  private let logger: Logger

  package init(store: ReadingStore, logger: Logger) {
    self.store = store
    self.logger = logger
  }

  /// Takes a stream of one of the methods; false if it is none of them.
  package func serve(_ stream: SessionStream) -> Bool {
    switch stream.method {
    case Self.pull: spawn { await self.pull(stream) }
    case Self.acknowledge: spawn { await self.acknowledge(stream) }
    case Self.incarnations: spawn { await self.list(stream) }
    default: return false
    }
    return true
  }

  private static func bad(_ message: String) -> CallError { CallError(reason: "BadRequest", message: message) }

  private static func error(_ error: SkerryError) -> CallError {
    let reason =
      switch error.code {
      case .notFound: "NotFound"
      case .invalidArgument: "BadRequest"
      default: "ServiceUnavailable"
      }
    return CallError(reason: reason, message: error.description)
  }

  private func pull(_ stream: SessionStream) async {
    let params = stream.params
    var incarnation: Bytes?
    if let hex = params["incarnation"].string {
      guard let bytes = Bytes(hex: hex) else { return stream.fail(Self.bad("incarnation is no hexadecimal text")) }
      incarnation = bytes
    }
    let limit = Int(min(max(params["limit"].int ?? Int64(Self.defaultPage), 1), Int64(ReadingLimits.maxPage)))
    let gather = Duration.milliseconds(min(max(params["gather"].int ?? 0, 0), Self.maxGather))
    var named: Set<UInt64> = []
    var after = UInt64(clamping: params["after"].int ?? 0)
    let news = News()
    let watcher = store.watch { news.wake() }
    stream.onClose = { news.close() }
    defer { store.unwatch(watcher) }
    do {
      while !news.isClosed {
        news.forget()
        let (from, position) = (incarnation, after)
        let page = try await store.perform { log throws(SkerryError) in
          try log.page(incarnation: from, after: position, limit: limit)
        }
        guard let page else {
          await news.wait()
          if gather > .zero { await store.wait(gather) }
          continue
        }
        try await stream.sendWaiting(try page.message(&named))
        (incarnation, after) = (page.incarnation, page.through)
        if gather > .zero, page.lost == nil, page.readings.count < limit / 2 { await store.wait(gather) }
      }
    } catch {
      if !news.isClosed { stream.fail(Self.error(error)) }
    }
  }

  private func acknowledge(_ stream: SessionStream) async {
    guard let incarnation = stream.params["i"].string.flatMap({ Bytes(hex: $0) }), let through = stream.params["t"].int,
      through >= 0
    else { return stream.fail(Self.bad("i and t are needed")) }
    do throws(SkerryError) {
      let waiting = try await store.perform { log throws(SkerryError) in
        try log.acknowledge(incarnation: incarnation, through: UInt64(through))
        return try log.incarnations().reduce(UInt64(0)) { $0 + ($1.last - min($1.exported, $1.last)) }
      }
      stream.finish(["waiting": .int(Int64(clamping: waiting))])
    } catch {
      stream.fail(Self.error(error))
    }
  }

  private func list(_ stream: SessionStream) async {
    do throws(SkerryError) {
      let found = try await store.perform { log throws(SkerryError) in try log.incarnations() }
      stream.finish([
        "incarnations": .array(
          found.map {
            ["i": .string($0.uid.hex), "exported": .int(Int64($0.exported)), "last": .int(Int64($0.last))]
          })
      ])
    } catch {
      stream.fail(Self.error(error))
    }
  }
}

/// Remembers that something came between a look and the wait that follows it.
@LoopActor private final class News {
  private(set) var isClosed = false
  private var came = false
  private var waiter: CheckedContinuation<Void, Never>?

  func forget() { came = false }

  func wake() {
    came = true
    waiter?.resume()
    waiter = nil
  }

  func close() {
    isClosed = true
    wake()
  }

  func wait() async {
    if !came { await withCheckedContinuation { waiter = $0 } }
  }
}

extension ReadingPage {
  /// The page as it goes to edgecore; `named` are the series that its stream knows.
  package func message(_ named: inout Set<UInt64>) throws(SkerryError) -> Bytes {
    guard let id = Incarnation(incarnation) else { throw SkerryError(.internal, "an incarnation has 16 bytes") }
    if let lost {
      let entry = LaneEntry(
        number: through, payload: LanePayload.dropped(from: lost.from, to: lost.to, count: lost.count).encode())
      return LaneMessage.batch(LaneBatch(incarnation: id, after: after, through: through, entries: [entry])).encode()
    }
    var names: [SeriesName] = []
    for entry in readings where named.insert(entry.series).inserted {
      names.append(
        SeriesName(
          series: entry.series, device: entry.reading.device, property: entry.reading.property,
          type: entry.reading.type.rawValue))
    }
    let block = ReadingBlock.encode(
      readings.map {
        BlockRow(
          series: $0.series, time: $0.reading.time, value: $0.reading.value,
          fault: $0.reading.quality.isGood ? "" : $0.reading.quality.description)
      })
    return LaneMessage.readings(PackedReadings(incarnation: id, after: after, names: names, block: block)).encode()
  }
}
