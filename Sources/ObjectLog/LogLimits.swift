import Base

/// The bounds of one log. Defaults suit the cloud; an edge replica takes smaller ones.
package struct LogLimits: Sendable {
  /// History is kept this long at most.
  package var retentionTime: Duration = .seconds(600)
  /// History (values that were replaced or deleted) takes at most this many bytes.
  package var retentionBytes: UInt64 = 1 << 30
  /// Entries of the newest history that are kept in memory for tail readers.
  package var tailEntries = 8192
  /// Bytes of the newest history that are kept in memory. What is written again while it is here is not read from the
  /// file before: some thousand objects of the usual size.
  package var tailBytes = 16 << 20
  /// Changes that may wait for the writer; more are answered `limitExceeded`, so that a writer slower than its
  /// callers cannot fill memory.
  package var waitingChanges = 16_384
  /// Bytes of changes that may wait for the writer.
  package var waitingBytes = 64 << 20
  /// Changes that one transaction takes, so that no answer waits for an endless commit.
  package var commitChanges = 2048
  /// Bytes of changes that one transaction takes.
  package var commitBytes = 16 << 20
  /// Bytes of values on one page of a listing or of entries (but at least one object): a read stays short.
  package var pageBytes = 1 << 20
  /// Rows that one read looks at while it searches for a prefix.
  package var scannedEntries = 8192
  /// A body, status or meta may have this many bytes (etcd takes requests of 1.5 MiB, objects of that size pass).
  package var valueBytes = 3 << 20
  /// Rows that one slice of compaction looks at; between two slices waiting changes go first.
  package var compactionSlice = 512
  /// WAL frames (pages) after which an idle writer copies them into the database.
  package var checkpointFrames = 1000
  /// WAL frames after which the writer copies them even when changes wait.
  package var maxWALFrames = 32_768

  /// A key may have this many bytes: resource, namespace (63) and name (253) with room to spare.
  package static let maxKeyBytes = 1024
  /// Entries at one position: what a snapshot of a follower may change at once.
  package static let maxEntriesPerPosition = 1 << 18
  /// The highest position; the place in the table holds both position and index in 63 bits.
  package static let maxPosition: UInt64 = (1 << 45) - 1

  package init() {}
}

extension StoredObject {
  /// Bytes of its values, for bounds.
  var size: Int { body.count + (status?.count ?? 0) + meta.count }
}

extension Change {
  /// About what it takes in memory while it waits.
  var size: Int {
    var size = 128 + key.utf8.count
    if case .put(let body, let status, let meta) = operation { size += body.count + (status?.count ?? 0) + meta.count }
    for item in privates { size += item.key.utf8.count + (item.value?.count ?? 0) }
    return size
  }
}
