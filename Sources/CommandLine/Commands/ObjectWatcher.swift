import API
import Base
import ObjectModel

/// Lists, then prints every change; lists again when the past was compacted, and connects again when the server went.
@LoopActor final class ObjectWatcher {
  private let kind: Kind
  private let name: String?
  private let listing: ListingOptions
  private let format: OutputFormat
  private let withEvents: Bool
  private let environment: Environment
  private var table: ObjectTable
  private var hasHeader = false
  /// Everything up to here was printed.
  private var position: UInt64 = 0
  private var known: [String: UInt64] = [:]

  /// Waits between two attempts to reach a server that went away.
  static let retryDelays: [Duration] = [.milliseconds(200), .milliseconds(500), .seconds(1), .seconds(2), .seconds(5)]
  /// Attempts in a row without an event in between before the command gives up.
  static let maxAttempts = 60

  init(
    kind: Kind, name: String?, listing: ListingOptions, format: OutputFormat, withEvents: Bool,
    environment: Environment
  ) {
    self.kind = kind
    self.name = name
    self.listing = listing
    self.format = format
    self.withEvents = withEvents
    self.environment = environment
    table = ObjectTable(
      kind: kind, isWide: format == .wide, withNamespace: listing.allNamespaces, withLabels: listing.showLabels)
    if withEvents { table.table.headers.insert("EVENT", at: 0) }
    hasHeader = listing.noHeaders
  }

  private var namespace: String { listing.allNamespaces ? "" : environment.namespace(of: kind) }
  private var fields: String {
    let own = name.map { "metadata.name=\($0)" } ?? ""
    return [own, listing.fieldSelector].filter { !$0.isEmpty }.joined(separator: ",")
  }

  func run(initial: Bool) async throws {
    var attempts = 0
    var needsList = true
    var prints = initial
    while true {
      do {
        if needsList {
          try await list(printing: prints)
          prints = true
          needsList = false
        }
        try await follow { attempts = 0 }
      } catch let error as APIError where error.reason == .expired || error.reason == .gone {
        needsList = true
      } catch let error as APIError where error.reason == .serviceUnavailable && position > 0 {
        attempts += 1
        guard attempts < Self.maxAttempts else { throw error }
        environment.disconnect()
        try await environment.scheduler.sleep(for: Self.retryDelays[min(attempts, Self.retryDelays.count) - 1])
      } catch let error as SkerryError where position > 0 {
        attempts += 1
        guard attempts < Self.maxAttempts else { throw error }
        environment.disconnect()
        try await environment.scheduler.sleep(for: Self.retryDelays[min(attempts, Self.retryDelays.count) - 1])
      }
    }
  }

  private func list(printing: Bool) async throws {
    let (objects, revision) = try await environment.listAll(
      kind, namespace: namespace, labels: listing.selector, fields: fields)
    let isFirst = position == 0
    if let name, objects.isEmpty, isFirst { throw APIError.notFound(kind.resource, name) }
    position = revision
    let present = Set(objects.map(\.uid))
    for uid in known.keys where !present.contains(uid) { known[uid] = nil }
    let news = objects.filter { known[$0.uid] != $0.resourceVersion }
    for object in objects { known[object.uid] = object.resourceVersion }
    if printing { show(news.map { ("ADDED", $0) }) }
  }

  private func follow(_ progress: () -> Void) async throws {
    let cursor = try await environment.api().watch(
      WatchOptions(
        resource: kind.resource, namespace: namespace, labelSelector: listing.selector, fieldSelector: fields,
        after: position), caller: environment.caller)
    let reader = WatchReader(cursor)
    defer { reader.cancel() }
    while true {
      let events = try await reader.next()
      progress()
      var rows: [(String, Object)] = []
      for event in events {
        position = max(position, event.position)
        guard let object = try event.object?.decoded() else { continue }
        known[object.uid] = event.kind == .deleted ? nil : object.resourceVersion
        rows.append((Self.word(event.kind), object))
      }
      show(rows)
    }
  }

  private static func word(_ kind: WatchEvent.Kind) -> String {
    switch kind {
    case .added: "ADDED"
    case .modified: "MODIFIED"
    case .deleted: "DELETED"
    case .bookmark: "BOOKMARK"
    }
  }

  private func show(_ rows: [(String, Object)]) {
    guard !rows.isEmpty else { return }
    switch format {
    case .table, .wide:
      table.table.rows = rows.map { (withEvents ? [$0.0] : []) + table.row($0.1, now: environment.now) }
      environment.console.printText(table.table.text(withHeader: !hasHeader))
      hasHeader = true
    case .name: for (_, object) in rows { environment.console.print("\(kind.displayPrefix)/\(object.name)") }
    case .json, .yaml:
      for (word, object) in rows {
        let value: Value = withEvents ? ["type": .string(word), "object": object.value] : object.value
        environment.console.printText(format == .json ? value.prettyJSON : "---\n" + YAMLPrinter.print(value))
      }
    }
  }
}
