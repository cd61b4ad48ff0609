import Base
import DeviceSDK
import Logging
import Transport
import Wire

/// Serves the readings to edgecore: it pulls pages behind a position, and hands the cloud's cursor back.
///
/// * `readings.pull` `{"incarnation"?, "after", "limit"?}`, a stream: messages
///   `{"i": incarnation, "a": after, "t": through, "r": [[number, device, property, type, value, quality, time], …]}`
///   as readings appear (values as texts, as the readings lane carries them), in order, through the incarnations; `"lost": {"from", "to", "count"}` on a message without
///   rows where entries are gone.
/// * `readings.ack` `{"i", "t"}`: the cloud has everything through `t`.
/// * `readings.incarnations`: `{"incarnations": [{"i", "exported", "last"}]}`, oldest first.
@LoopActor package final class ReadingExport {
  package static let pull = "readings.pull"
  package static let acknowledge = "readings.ack"
  package static let incarnations = "readings.incarnations"
  package static let defaultPage = 500

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
          continue
        }
        try await stream.sendWaiting(page.message)
        (incarnation, after) = (page.incarnation, page.through)
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
      try await store.perform { log throws(SkerryError) in
        try log.acknowledge(incarnation: incarnation, through: UInt64(through))
      }
      stream.finish()
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
  /// The page as it goes to edgecore.
  package var message: Bytes {
    var value: Value = [
      "i": .string(incarnation.hex), "a": .int(Int64(after)), "t": .int(Int64(through)),
      "r": .array(readings.map { .array([.int(Int64($0.number))] + $0.reading.exported) }),
    ]
    if let lost {
      value["lost"] = [
        "from": .int(Int64(lost.from)), "to": .int(Int64(lost.to)), "count": .int(Int64(lost.count)),
      ]
    }
    return CBOR.encode(value)
  }
}

extension Reading {
  /// The row with its value as text, empty where there is none: the form of the readings lane.
  fileprivate var exported: [Value] {
    var row = row
    row[3] = .string(value.deviceText)
    return row
  }
}
