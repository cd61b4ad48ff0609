import Base

/// The bounds of the API server.
package struct APIServerLimits: Sendable {
  /// Body and status of one object together; Kubernetes' own limit (etcd's request).
  package var objectBytes = 3 << 19
  /// Nesting of one object; it stays below what the decoder takes.
  package var objectDepth = 56
  /// Objects of one list page when the caller names no number, and at most.
  package var pageObjects = 500
  package var maxPageObjects = 5_000
  /// Bytes of one list page: it ends early and says where to go on.
  package var pageBytes = 4 << 20
  /// Objects that one list call looks at; with a selector that matches little the page ends early.
  package var scannedObjects = 50_000
  /// Entries of one resource that are kept decoded for watches; a watch further behind reads the log.
  package var tailEntries = 2_048
  /// Bytes of the newest entries of one resource that are kept decoded for watches.
  package var tailBytes = 8 << 20
  /// Entries that one `next` looks at before it lets others run.
  package var scannedEntries = 8_192
  /// Watches open at a time.
  package var maxWatches = 50_000
  /// Bookmarks come at least this often.
  package var bookmarkInterval: Duration = .seconds(60)
  /// Times that a write is tried again when somebody else wrote in between and the caller did not name a revision.
  package var conflictRetries = 5
  /// Names that are drawn for one `generateName` before the call fails.
  package var nameRetries = 8
  /// Items of one batch.
  package var batchItems = 1_000
  /// Events live this long.
  package var eventLifetime: Duration = .seconds(3600)
  /// Events kept; beyond it the oldest go.
  package var maxEvents = 50_000
  /// How often events are looked through.
  package var eventSweepInterval: Duration = .seconds(60)
  package init() {}
}
