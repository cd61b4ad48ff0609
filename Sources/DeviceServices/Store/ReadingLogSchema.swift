import Base
import DeviceSDK
import Store

/// How much devicecore's store keeps.
package struct ReadingLimits: Sendable {
  /// Readings that the cloud has are kept this long for local readers.
  package var keepExported: Duration = .seconds(24 * 3600)
  /// Readings that the cloud does not have yet are kept this long, then dropped with a loss entry in their place.
  package var maxAge: Duration = .seconds(30 * 24 * 3600)
  /// Bytes of all entries together, packed; beyond it the oldest are dropped.
  package var maxBytes: Int64 = 512 << 20
  /// Rows of the audit table; the oldest finished ones go.
  package var maxAudit: Int64 = 100_000
  /// Readings of a block: each commit packs the last one anew until it has so many. At most `ReadingBlock.maxRows`.
  package var rowsPerBlock = 1024
  package init() {}

  /// Blocks that one retention step deletes, so that appends wait only briefly.
  static let blocksPerStep = 100
  /// Counted for each block beside what it holds: key, row header, page overhead.
  static let bytesPerBlock: Int64 = 32
  /// Readings in one page of a pull.
  package static let maxPage = 2000
}

/// One stretch of the log as a reader gets it: entries in order, all of one incarnation.
package struct ReadingPage: Sendable, Hashable {
  package var incarnation: Bytes
  /// The reader's position before this page; entries start behind it.
  package var after: UInt64
  /// The reader's position behind this page.
  package var through: UInt64
  package var readings: [NumberedReading]
  /// Set on a page without readings: numbers `from` to `to` are gone, which were `count` readings.
  package var lost: Loss?
}

package struct NumberedReading: Sendable, Hashable {
  package var number: UInt64
  /// The store's number of the device, property and type.
  package var series: UInt64
  package var reading: Reading
}

/// What a bound dropped: itself an entry of the log.
package struct Loss: Sendable, Hashable {
  package var from: UInt64
  package var to: UInt64
  package var count: UInt64
  package init(from: UInt64, to: UInt64, count: UInt64) {
    self.from = from
    self.to = to
    self.count = count
  }
}

/// One incarnation that still holds entries.
package struct IncarnationSummary: Sendable, Hashable {
  package var uid: Bytes
  /// Through this number the cloud has everything.
  package var exported: UInt64
  /// The last number that was written.
  package var last: UInt64
}

extension ReadingLog {
  /// A block's `key` is its incarnation's id times 2^40 and the number of its first reading: blocks lie in the order in
  /// which they were committed, and a number is never used twice within its incarnation, which is drawn anew at each
  /// opening. `newest` is the newest acquisition in the block.
  static let schema = Schema(
    name: "device store", applicationID: 0x534b_4456,
    migrations: [
      """
      CREATE TABLE incarnation (
        id INTEGER PRIMARY KEY, uid BLOB NOT NULL UNIQUE, opened INTEGER NOT NULL,
        exported INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0);
      CREATE TABLE series (
        id INTEGER PRIMARY KEY, device TEXT NOT NULL, property TEXT NOT NULL, type TEXT NOT NULL,
        UNIQUE (device, property, type));
      CREATE TABLE block (
        key INTEGER PRIMARY KEY, rows INTEGER NOT NULL, newest INTEGER NOT NULL, data BLOB NOT NULL);
      CREATE TABLE loss (
        incarnation INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (incarnation, low)) WITHOUT ROWID;
      CREATE TABLE driver (name TEXT PRIMARY KEY, run BLOB NOT NULL, sequence INTEGER NOT NULL) WITHOUT ROWID;
      CREATE TABLE total (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL);
      INSERT INTO total VALUES (1, 0);
      CREATE TABLE audit (
        id INTEGER PRIMARY KEY, command TEXT UNIQUE, device TEXT NOT NULL, property TEXT NOT NULL,
        origin TEXT NOT NULL, caller TEXT NOT NULL, verb TEXT NOT NULL, value BLOB, state TEXT NOT NULL,
        before BLOB, after BLOB, message TEXT NOT NULL DEFAULT '', started INTEGER NOT NULL,
        finished INTEGER NOT NULL DEFAULT 0);
      CREATE INDEX audit_running ON audit (state) WHERE state = 'Running';
      """
    ])
}

/// Where a block lies: which incarnation, from which number on.
enum BlockKey {
  private static let shift: Int64 = 40
  /// Readings of one incarnation, and incarnations of one store: 2^40 and 2^23.
  static let maxNumber: UInt64 = 1 << 40 - 1

  static func make(_ incarnation: Int64, _ number: UInt64) -> Int64 {
    incarnation << shift | Int64(min(number, maxNumber))
  }
  static func number(_ key: Int64) -> UInt64 { UInt64(key & (1 << shift - 1)) }
}
