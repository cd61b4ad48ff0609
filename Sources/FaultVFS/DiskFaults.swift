/// What a simulated disk does wrong besides losing power. Changed at any time; counts from then on.
package struct DiskFaults: Sendable, Hashable {
  package enum Operation: Sendable, Hashable, CaseIterable { case read, write, sync }

  /// Bytes of all files together; what would make them more is answered as a full disk. Nil: no limit.
  package var capacity: Int?
  /// Operations that fail with an I/O error. A failed sync loses a random part of what it should have brought to the
  /// disk, and the next one does not bring it either.
  package var failing: Set<Operation> = []
  /// One in so many operations of these kinds fails; 1 is all of them.
  package var failsOneIn: UInt64 = 1
  /// A disk that lies: answers syncs of files and does nothing. For tests of the tests.
  package var ignoresSyncs = false
  /// A system that lies: answers syncs of directories and does nothing. For tests of the tests.
  package var ignoresDirectorySyncs = false
  package init() {}
}
